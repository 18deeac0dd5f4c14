"""Ablations: one method with one factor at each of its levels, as methods of a benchmark."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_rada.errors import InputError
from napari_rada.evaluation.benchmark.factors import FACTORS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_rada.evaluation.benchmark.ours import OwnTraining


def variants(base: OwnTraining, factor: str, levels: Sequence[str] = ()) -> list[OwnTraining]:
    """Return the base method at each level of a factor, named after the level.

    Parameters
    ----------
    levels
        Only these; all by default.

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
        config = base.config.with_settings(dict(known[level]))
        found.append(replace(base, name=f"{factor} {level}", config=config))
    return found
