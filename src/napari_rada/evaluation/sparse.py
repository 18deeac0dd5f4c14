"""Sparse labels from dense ones: what a person would have annotated who paints one slice per axis.

``python -m napari_rada.evaluation.sparse IMAGE LABELS -o OUT [--value V]`` writes them with their sidecar.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

import numpy as np

from napari_rada.data.case import Case
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import InputError, RadaError
from napari_rada.evaluation.ending import status_of
from napari_rada.io import check_result, check_same_grid, read_volume, save_labels, stem_of, to_file, write_slices

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray


def largest_slices(labels: NDArray[np.integer], value: int | None = None) -> tuple[AnnotatedSlice, ...]:
    """Return, per array axis, the slice in which the structure has its largest area; the first of equals.

    Parameters
    ----------
    labels
        (z, y, x) dense label values.
    value
        The structure; None takes all labels together.

    Raises
    ------
    InputError
        If the structure does not occur.
    """
    structure = labels != 0 if value is None else labels == value
    if not structure.any():
        what = "no labels" if value is None else f"no label {value}"
        raise InputError(f"The labels hold {what}; name a file, or a value, that has the structure.")
    areas = (structure.sum(axis=tuple(other for other in range(3) if other != axis)) for axis in range(3))
    return tuple(AnnotatedSlice(axis, int(area.argmax())) for axis, area in enumerate(areas))


def choose_slices(
    structure: NDArray[np.bool_], per_axis: int = 1, *, centre: bool = False, axis: int | None = None
) -> tuple[AnnotatedSlice, ...]:
    """Return the slices that a person annotates who is asked for some per axis.

    Along every axis the extent of the structure is cut into `per_axis` equal parts (fewer where it is thinner), and one
    slice is taken from each.

    Parameters
    ----------
    structure
        (z, y, x), True inside.
    centre
        Take the middle slice of each part instead of the one with the largest area.
    axis
        Take slices along this array axis alone; None takes all three.

    Raises
    ------
    InputError
        If the structure does not occur.
    """
    if not structure.any():
        raise InputError("The labels do not hold the structure; name a file, or values, that have it.")
    chosen = []
    for along in range(3) if axis is None else (axis,):
        area = structure.sum(axis=tuple(other for other in range(3) if other != along))
        first, last = np.flatnonzero(area)[[0, -1]]
        for part in np.array_split(np.arange(first, last + 1), min(per_axis, last + 1 - first)):
            index = part[(len(part) - 1) // 2] if centre else part[area[part].argmax()]
            chosen.append(AnnotatedSlice(along, int(index)))
    return tuple(chosen)


def told_fewer(case: Case, wanted: int) -> str | None:
    """Tell that fewer slices than were wanted cross the structure of a case; None if there are as many."""
    if len(case.annotated) >= wanted:
        return None
    return f"{case.name}: no more than {len(case.annotated)} slices of the {wanted} that were asked for cross it."


def write_sparse(image: Path | str, labels: Path | str, out: Path | str, value: int | None = None) -> Case:
    """Read dense labels, keep the slice of largest area per axis, and write them with their sidecar.

    Parameters
    ----------
    image, labels
        Files on one grid.
    out
        Gets the geometry of `image`.
    value
        Keep this structure alone; None keeps all labels, and chooses the slices by all of them together.

    Raises
    ------
    InputError
        If a file cannot be used, or the structure does not occur.
    """
    out = check_result(out, [image, labels])
    scan, dense = read_volume(image), read_volume(labels)
    check_same_grid(dense, scan)
    wanted = dense.array if value is None else np.where(dense.array == value, dense.array, 0)
    case = Case.create(
        scan.array,
        wanted,
        slices=largest_slices(wanted, value),
        grid=scan.grid,
        name=stem_of(scan.path),
        non_finite="replace",  # the image is not used
        source=scan.path,
    )
    save_labels(case, out)
    return case


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, or 2 after bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m napari_rada.evaluation.sparse",
        description="Make sparse labels from dense ones: per axis the slice in which the structure is largest.",
    )
    parser.add_argument("image", metavar="IMAGE", help="the scan, for its geometry")
    parser.add_argument("labels", metavar="LABELS", help="dense labels on the scan's grid")
    parser.add_argument("-o", "--out", metavar="OUT", required=True, help="sparse labels to write, with a sidecar")
    parser.add_argument("--value", metavar="V", type=int, help="keep this label value alone")
    args = parser.parse_args(argv)
    try:
        case = write_sparse(args.image, args.labels, args.out, args.value)
    except RadaError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(";".join(write_slices(to_file(case.annotated, case.source))) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(status_of(main))
