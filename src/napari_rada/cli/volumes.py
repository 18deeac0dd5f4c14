"""predict, for volumes larger than memory: zarr and whatever else is read in parts, into an OME-Zarr folder."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_rada.cli.volume_parser import FLAGS
from napari_rada.config import parse_settings
from napari_rada.errors import ConfigError, InputError
from napari_rada.io.ngff import is_zarr

if TYPE_CHECKING:
    import argparse

    from napari_rada.cli.console import Console
    from napari_rada.control import RunControl
    from napari_rada.outofcore import VolumeResult


def is_volume(args: argparse.Namespace) -> bool:
    """Tell whether a prediction is one chunk by chunk."""
    return any(map(is_zarr, [*args.cases, args.out])) or any(getattr(args, flag) is not None for flag in FLAGS)


def predict_volume(args: argparse.Namespace, console: Console, control: RunControl) -> bool:
    """Predict one volume chunk by chunk."""
    _check(args)
    settings = parse_settings(args.settings)
    factors = None if args.factors is None else _triple(args.factors)

    from napari_rada import outofcore

    result = outofcore.predict_volume(
        args.run_dir,
        args.cases[0],
        args.out,
        probability=args.probability,
        factors=factors,
        chunk=args.chunk,
        memory=outofcore.MEMORY if args.memory is None else args.memory,
        scheduler=args.scheduler,
        device=args.device or "auto",
        non_finite=_non_finite(settings),
        control=control,
        listener=console,
    )
    console.result(asdict(result), _sentence(result))
    return True


def _check(args: argparse.Namespace) -> None:
    """Refuse what only a prediction in memory can do."""
    if len(args.cases) > 1:
        raise InputError("Volumes are predicted chunk by chunk one at a time; name one image.")
    if not Path(args.out).name.lower().endswith(".zarr"):
        raise InputError(f"A volume is predicted chunk by chunk into an OME-Zarr; let {args.out} end in .ome.zarr.")
    unable = {"--disagreement": args.disagreement, "--min-part": args.min_part, "--fill-holes": args.fill_holes}
    asked = [flag for flag, value in unable.items() if value]
    if asked:
        raise InputError(
            f"{', '.join(asked)} needs the whole volume in memory; leave it out, or predict a NIfTI or TIFF file."
        )
    if "," in args.cases[0] and not os.path.exists(args.cases[0]):
        raise InputError("Annotated slices are not used chunk by chunk; name the image alone.")


def _non_finite(settings: dict[str, str]) -> Any:
    unknown = set(settings) - {"data.non_finite"}
    if unknown or settings.get("data.non_finite", "refuse") not in ("refuse", "replace"):
        raise ConfigError(
            "A prediction takes its settings from the run; only data.non_finite can be set, to refuse or replace."
        )
    return settings.get("data.non_finite")


def _triple(text: str) -> tuple[int, int, int]:
    try:
        z, y, x = map(int, text.split(","))
    except ValueError:
        raise InputError(f"{text!r} is no Z,Y,X; write three whole numbers, for example 2,4,4.") from None
    return (z, y, x)


def _sentence(result: VolumeResult) -> str:
    size = " x ".join(map(str, result.shape))
    return f"{result.out}: {size} voxels in {result.levels} levels, {result.computed} of {result.units} pieces computed"
