"""The arguments of predict for volumes larger than memory. Imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

FLAGS = ("scheduler", "chunk", "memory", "factors")


def add_volume_flags(parser: argparse.ArgumentParser) -> None:
    """Add what only applies to a prediction chunk by chunk."""
    group = parser.add_argument_group(
        "volumes larger than memory",
        "Where IMAGE or OUT is a zarr folder (.zarr), one scan is predicted chunk by chunk into an OME-Zarr; the same "
        "command again goes on where it was stopped.",
    )
    group.add_argument("--scheduler", metavar="ADDRESS", help="compute on the workers of a dask.distributed scheduler")
    group.add_argument("--chunk", metavar="N", type=int, help="voxels per side of the stored chunks (128, if they fit)")
    group.add_argument(
        "--memory",
        metavar="GIB",
        type=float,
        help="for what is summed up at once (1); the process takes up to twice that",
    )
    group.add_argument(
        "--factors", metavar="Z,Y,X", help="voxels that the networks see as one; as in memory by default"
    )
