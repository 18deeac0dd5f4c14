"""From flags to a `RunConfig`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_rada.config import RunConfig, load_config, parse_settings

if TYPE_CHECKING:
    import argparse


def config_from(args: argparse.Namespace, base: RunConfig | None = None, *, cohort: bool = False) -> RunConfig:
    """Make the settings: `base`, a file or a preset, then the flags of their own, then every ``--set`` in order.

    Parameters
    ----------
    cohort
        Begin with what the preset or the file comes to for several cases.

    Raises
    ------
    ConfigError
        If one is unknown or out of range.
    """
    file = getattr(args, "config", None)
    if base is None:
        base = load_config(Path(file)) if file else RunConfig.from_preset(getattr(args, "preset", None) or "quick")
    if cohort:
        base = base.for_cohort()
    settings: dict[str, Any] = {}
    if getattr(args, "minutes", None) is not None:
        settings["training.minutes"] = args.minutes
    if getattr(args, "device", None) is not None:
        settings["device"] = args.device
    if getattr(args, "method", "auto") != "auto":
        settings["propagation.method"] = args.method
    return base.with_settings(settings | parse_settings(args.settings))
