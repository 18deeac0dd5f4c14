"""A case: one volume, what is known of its labels, and where it lies in the world."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from napari_rada.data.classes import MAX_LABEL, ClassTable, merged_classes, whole_numbers
from napari_rada.data.grid import Grid, Shape, Spacing
from napari_rada.data.slices import AnnotatedSlice, annotated_mask, detect_slices, named_slices
from napari_rada.errors import InputError, check_choice

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

NonFinite: TypeAlias = Literal["refuse", "replace"]


FEW_VALUES = 20
"""Labels with no more values than these are taken as they are."""
ALIKE = 0.5
"""Of painted voxels fewer than this share are like their neighbour in an image; of labels many more."""


@dataclass(frozen=True, eq=False)
class Case:
    """One validated volume, ready for the pipeline. Make it with `Case.create`.

    Parameters
    ----------
    name
        How messages and files call it.
    image
        (z, y, x) float32, finite, not constant.
    grid
        Shape and affine of `image`.
    labels
        (z, y, x) label values, 0 outside the annotated slices; None for an unlabelled case.
    annotated
        The planes in which `labels` is complete, sorted; empty for an unlabelled case.
    classes
        The classes; None for an unlabelled case.
    source
        The image file, if it came from one.
    labels_name
        What the Labels layer of the annotation is called, if it came from one.
    """

    name: str
    image: NDArray[np.float32]
    grid: Grid
    labels: NDArray[np.uint16] | None
    annotated: tuple[AnnotatedSlice, ...]
    classes: ClassTable | None
    source: Path | None = None
    labels_name: str | None = None

    @classmethod
    def create(
        cls,
        image: ArrayLike,
        labels: ArrayLike | None = None,
        *,
        slices: Iterable[AnnotatedSlice | tuple[int, int]] | tuple[int, int] | None = None,
        spacing: Spacing | None = None,
        grid: Grid | None = None,
        classes: ClassTable | None = None,
        name: str = "case",
        non_finite: NonFinite = "refuse",
        source: Path | None = None,
        labels_name: str | None = None,
    ) -> Case:
        """Check everything once and build the case.

        Parameters
        ----------
        image
            3D, any real dtype, axes (z, y, x).
        labels
            Same shape; whole numbers from 0 to 65535 (floats that hold whole numbers are fine). What lies outside
            slices that are named is ignored.
        slices
            The annotated planes as `AnnotatedSlice` or (axis, index), one or several; None detects them
            (`detect_slices`).
        spacing
            mm along (z, y, x); ignored if `grid` is given; 1 mm if neither is.
        classes
            The class table; by default made of the values found in the annotated slices.
        non_finite
            What to do with NaN and infinity in the image: `refuse`, or `replace` them by the smallest finite value.

        Raises
        ------
        InputError
            With one sentence that says what is wrong and how to mend it.
        """
        check_choice("non_finite", non_finite, get_args(NonFinite))
        if not isinstance(classes, ClassTable | None):
            raise InputError(
                f"{name}: the classes are given as a {type(classes).__name__}; give a ClassTable, as of "
                "ClassTable.from_values([1], {1: 'organ'})."
            )
        volume = _checked_image(_array(image, "image", name), name, non_finite)
        shape = (volume.shape[0], volume.shape[1], volume.shape[2])
        if grid is None:
            grid = Grid.from_spacing(shape, (1.0, 1.0, 1.0) if spacing is None else spacing)
        if grid.shape != shape:
            raise InputError(f"{name}: the image has shape {shape} but its geometry is for {grid.shape}.")
        if labels is None:
            if slices is not None:
                raise InputError(f"{name}: slices are named but there are no labels; give those too.")
            return cls(name, volume, grid, None, (), None, source)
        painted = _checked_labels(_array(labels, "labels", name), shape, name)
        annotated = _detected(_values(painted, name), name) if slices is None else _checked_slices(slices, shape, name)
        where = annotated_mask(shape, annotated)
        known = _values(painted[where], name)
        sparse = np.zeros(shape, dtype=np.uint16)
        sparse[where] = known
        if classes is None:
            classes = _classes_of(sparse, known, name, labels_name)
        classes.encode(known)
        return cls(name, volume, grid, sparse, annotated, classes, source, labels_name)

    @property
    def is_labelled(self) -> bool:
        """True if at least one slice is annotated."""
        return self.labels is not None

    @property
    def known(self) -> NDArray[np.bool_]:
        """(z, y, x), True where a person annotated."""
        return annotated_mask(self.grid.shape, self.annotated)


def as_cases(cases: Iterable[Case] | Case) -> list[Case]:
    """Return one case, or several in any kind of collection, as a list.

    Raises
    ------
    InputError
        If there is anything else among them.
    """
    found = list(cases) if isinstance(cases, Iterable) and not isinstance(cases, str) else [cases]
    for case in found:
        if not isinstance(case, Case):
            raise InputError(f"{shorten(repr(case), 60)} is no case; make one with load_case or Case.create.")
    return found


def one_case(case: Case) -> Case:
    """Return the one case that there is.

    Raises
    ------
    InputError
        If there are several, or none, or it is something else.
    """
    found = as_cases(case)
    if len(found) != 1:
        raise InputError(f"One case is needed, found {len(found)}; give them one after the other.")
    return found[0]


def check_trainable(cases: Sequence[Case]) -> ClassTable:
    """Check that the cases together can teach something and return their common class table (`merged_classes`).

    Raises
    ------
    InputError
        If no case is labelled, two call one label value differently, or fewer than two classes were annotated.
    """
    tables = [(case.name, case.classes) for case in cases if case.classes is not None]
    if not tables:
        raise InputError("No case has annotated slices; paint at least one slice, better three orthogonal ones.")
    seen: set[int] = set()
    for case in cases:
        if case.labels is not None:
            seen |= {int(value) for value in np.unique(case.labels[case.known])}
    if len(seen) < 2:
        only = "background (0)" if seen == {0} else f"label {seen.pop()}"
        raise InputError(
            f"The annotated slices hold only {only}; paint both the structure and, around it, leave background "
            "(0) inside the same slices."
        )
    return merged_classes(tables)


def _array(values: ArrayLike, what: str, name: str) -> NDArray[Any]:
    """Return values as an array; what is none, cannot be made one, or would lose its mask, is refused."""
    if isinstance(values, str | PathLike):
        raise InputError(f"{name}: a path was given as the {what}, {str(values)!r}; read files with load_case.")
    if np.ma.is_masked(values):
        raise InputError(f"{name}: some voxels of the {what} are masked; fill them first, as with filled(0).")
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # the last of torch
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"{name}: the {what} cannot be read as an array ({reason}); give one of NumPy.") from None


def _checked_image(image: NDArray[Any], name: str, non_finite: NonFinite) -> NDArray[np.float32]:
    if image.ndim != 3:
        raise InputError(
            f"{name}: the image has {image.ndim} dimensions {image.shape}; a single 3D volume is needed. "
            "Choose one channel or time point first."
        )
    if image.dtype.kind not in "buif":
        raise InputError(f"{name}: the image holds values of type {image.dtype}; real numbers are needed.")
    if min(image.shape) < 2:
        raise InputError(f"{name}: the image has shape {image.shape}; at least 2 voxels along every axis are needed.")
    with np.errstate(over="ignore"):  # a value too large for float32 becomes infinite and is reported below
        volume = np.ascontiguousarray(image, dtype=np.float32)
    finite = np.isfinite(volume)
    if not finite.all():
        if not finite.any():
            raise InputError(f"{name}: every voxel of the image is NaN or infinite; there is nothing to see in it.")
        if non_finite == "refuse":
            raise InputError(told_non_finite(name, int((~finite).sum()), finite.size))
        volume = np.where(finite, volume, volume[finite].min())
    if volume.min() == volume.max():
        lowest, highest = image[finite].min(), image[finite].max()
        if lowest != highest:
            raise InputError(
                f"{name}: the values of the image, from {lowest} to {highest}, lie too close together to be told apart "
                "in 32-bit floating point; subtract the smallest value first."
            )
        raise InputError(f"{name}: every voxel of the image is {volume.min():g}; a constant image cannot be segmented.")
    return volume


def told_non_finite(name: str, bad: int, voxels: int) -> str:
    """Tell that an image is NaN or infinite in some of its voxels, and what can be done."""
    return (
        f"{name}: the image is NaN or infinite in {bad} of {voxels} voxels; set data.non_finite to replace (in napari "
        "under Train > Advanced), so that the smallest finite value stands there."
    )


def _checked_labels(labels: NDArray[Any], shape: tuple[int, int, int], name: str) -> NDArray[Any]:
    if labels.shape != shape:
        raise InputError(f"{name}: the labels have shape {labels.shape} but the image has {shape}; they must be equal.")
    if labels.dtype.kind not in "buif":
        raise InputError(f"{name}: the labels hold values of type {labels.dtype}; whole numbers are needed.")
    return labels


def _values(labels: NDArray[Any], name: str) -> NDArray[np.int64]:
    """Return label values, of the whole volume or of some voxels, as numbers that are whole and in range."""
    whole = whole_numbers(labels)
    if whole is None:
        raise InputError(f"{name}: the labels hold fractions or NaN; label values must be whole numbers.")
    if whole.min() < 0 or whole.max() > MAX_LABEL:
        raise InputError(
            f"{name}: the labels hold values from {whole.min():.12g} to {whole.max():.12g}; they must lie in "
            f"0..{MAX_LABEL}: give every structure a number of its own there."
        )
    return whole.astype(np.int64)


def _classes_of(labels: NDArray[np.uint16], known: NDArray[np.int64], name: str, labels_name: str | None) -> ClassTable:
    """Return the classes of labels (Z, Y, X), of which `known` are the annotated voxels."""
    found = np.unique(known)
    if len(found) > FEW_VALUES and looks_like_image(labels):
        raise InputError(f"{name}: {_told_image(len(found), labels_name)}")
    return ClassTable.from_values(found)


def _told_image(values: int, labels_name: str | None) -> str:
    if labels_name is None:
        return (
            f"the labels hold {values} different values and look like an image; name the image first and its labels "
            "after it, which have one value per class."
        )
    return (
        f"Labels layer '{labels_name}' holds {values} different values and looks like an image; choose one with one "
        "value per class, or press New labels in the dock Label slices."
    )


def looks_like_image(labels: NDArray[np.integer]) -> bool:
    """Tell whether whole numbers (Z, Y, X) are hardly ever like their neighbours, as those of an image are."""
    return max(_alike(labels, axis) for axis in range(3)) < ALIKE


def _alike(labels: NDArray[np.integer], axis: int) -> float:
    """Share of the painted voxels that have the value of the one before them along an axis."""
    before, after = (np.moveaxis(labels, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
    painted = after > 0
    return float((before == after)[painted].mean()) if painted.any() else 1.0


def _detected(labels: NDArray[np.int64], name: str) -> tuple[AnnotatedSlice, ...]:
    if not labels.any():
        raise InputError(f"{name}: the labels are empty; paint three slices, or name the annotated slices.")
    annotated = detect_slices(labels)
    if not annotated:
        raise InputError(
            f"{name}: no annotated slice was found, the painted structures are one voxel thin; "
            "name the annotated slices yourself."
        )
    return annotated


def _checked_slices(slices: object, shape: Shape, name: str) -> tuple[AnnotatedSlice, ...]:
    planes = set(named_slices(slices))
    for plane in planes:
        plane.check(shape)
    if not planes:
        raise InputError(f"{name}: the list of annotated slices is empty; name at least one slice.")
    return tuple(sorted(planes))
