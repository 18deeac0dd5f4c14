"""Ablations: one method with one factor at each of its levels, as methods of a benchmark."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_rada.errors import InputError
from napari_rada.evaluation.benchmark.factors import FACTORS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_rada.evaluation.benchmark.ours import OwnTraining
    from napari_rada.evaluation.benchmark.results import Row

RANDOM = "with random weights"
RANDOM_NOTE = "The guidance weights are random: these figures show that the program works, not what guidance does."


def variants(
    base: OwnTraining, factor: str, levels: Sequence[str] = (), settings: Mapping[str, Any] | None = None
) -> list[OwnTraining]:
    """Return the base method at each level of a factor, named after the level.

    Parameters
    ----------
    levels
        Only these; all by default.
    settings
        Changed in every variant in which guidance takes part, for example the weight files.

    Raises
    ------
    InputError
        If there is no such factor or level.
    ConfigError
        If a setting is wrong.
    """
    if factor not in FACTORS:
        raise InputError(f"There is no factor {factor}; choose among {', '.join(FACTORS)}.")
    known = FACTORS[factor]
    if missing := [level for level in levels if level not in known]:
        raise InputError(f"{factor} has no level {missing[0]}; choose among {', '.join(known)}.")
    found = []
    for level in levels or known:
        changes = {**(settings or {}), **known[level]}
        found.append(replace(base, name=f"{factor} {level}", config=base.config.with_settings(changes)))
    return found


def guidance_notes(rows: Sequence[Row]) -> list[str]:
    """Say what whoever reads guided results must know."""
    return [RANDOM_NOTE] if any(RANDOM in row.note for row in rows) else []
