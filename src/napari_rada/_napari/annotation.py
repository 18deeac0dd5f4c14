"""Which slices of a Labels layer are annotated: what the person ticked, and what looks painted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

import numpy as np
from psygnal import Signal

from napari_rada._napari.layers import (
    annotated_slices,
    class_infos,
    full_resolution,
    is_lazy,
    lies_on,
    set_annotated_slices,
    shape_of,
)
from napari_rada.data.classes import MAX_LABEL, listed
from napari_rada.data.slices import AnnotatedSlice, crossings, detect_slices
from napari_rada.data.slips import find_slips, tell_slips
from napari_rada.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from napari.components import ViewerModel
    from napari.layers import Labels

    from napari_rada.data.grid import Grid

EDIT_EVENTS = ("paint", "set_data", "data", "labels_update")
"""What a Labels layer emits when painted, filled, undone or replaced; the payloads are private."""


@dataclass(frozen=True)
class SliceRow:
    """One plane of the table: `voxels` are labelled in it; `complete` if the person says it is annotated."""

    plane: AnnotatedSlice
    voxels: int
    complete: bool


class Found(NamedTuple):
    """The planes that look painted, and which look at the labels found them."""

    number: int
    planes: frozenset[AnnotatedSlice]


class AnnotationModel:
    """The annotated slices of one Labels layer.

    What is ticked as complete lives in the layer's metadata and travels with it. Detection only proposes: a plane that
    looks painted is listed, unticked, until the person ticks or removes it.
    """

    changed = Signal()
    """The rows changed: a plane was ticked, unticked, removed, found, or painted in. The first look changes nothing."""

    def __init__(self, layer: Labels) -> None:
        self._layer = ref(layer)
        self._proposed: frozenset[AnnotatedSlice] = frozenset()
        self._dismissed: frozenset[AnnotatedSlice] = frozenset()
        self._rows: tuple[SliceRow, ...] | None = None
        self._looks = 0

    @property
    def layer(self) -> Labels:
        """The layer; whoever uses the model keeps it alive."""
        layer = self._layer()
        assert layer is not None
        return layer

    @property
    def rows(self) -> tuple[SliceRow, ...]:
        """All planes, annotated or proposed, sorted by axis and index; asked first, it looks at the labels."""
        if self._rows is None:
            self.rescan()
        assert self._rows is not None
        return self._rows

    @property
    def complete(self) -> tuple[AnnotatedSlice, ...]:
        """The planes ticked as complete, sorted."""
        return annotated_slices(self.layer)

    @property
    def proposed(self) -> tuple[AnnotatedSlice, ...]:
        """The planes that look painted but are not ticked, sorted."""
        return tuple(row.plane for row in self.rows if not row.complete)

    @property
    def can_be_scanned(self) -> bool:
        """True if the layer is one 3D volume in memory; others, which nobody can paint in, would take too long."""
        try:
            shape_of(self.layer)
        except InputError:
            return False
        return not is_lazy(self.layer)

    def rescan(self) -> None:
        """Look at the labels again; `changed` fires if the rows are not the same as before."""
        self.take_in(self.look()())

    def look(self) -> Callable[[], Found]:
        """Return what looks at the labels as they are now, in any thread: of dense ones it takes a moment."""
        self._looks += 1
        number = self._looks
        if not self.can_be_scanned:
            return lambda: Found(number, frozenset())
        labels = np.asarray(full_resolution(self.layer))
        return lambda: Found(number, frozenset(detect_slices(labels)))

    def take_in(self, found: Found) -> None:
        """List what a look has found, unless there was a later one; `changed` fires as for `rescan`."""
        if found.number != self._looks:
            return
        self._dismissed &= found.planes
        self._proposed = found.planes - self._dismissed - set(self.complete)
        self._update_rows()

    def set_complete(self, plane: AnnotatedSlice, complete: bool = True) -> None:
        """Tick or untick a plane.

        Raises
        ------
        InputError
            If it lies outside the volume, or is to be ticked while a polygon is drawn.
        """
        plane.check(shape_of(self.layer))
        if complete:
            _check_no_polygon(self.layer)
        self._write({*self.complete, plane} if complete else set(self.complete) - {plane})
        self._dismissed -= {plane}
        self.rescan()

    def accept_proposals(self) -> tuple[AnnotatedSlice, ...]:
        """Tick every proposed plane and return those planes; raises `InputError` while a polygon is drawn."""
        _check_no_polygon(self.layer)
        accepted = self.proposed
        self._write({*self.complete, *accepted})
        self.rescan()
        return accepted

    def remove(self, plane: AnnotatedSlice) -> None:
        """Take a plane off the list; it is not proposed again while it stays painted. No voxel changes."""
        self._write(set(self.complete) - {plane})
        self._dismissed |= {plane}
        self.rescan()

    def shows_only_crossings(self, plane: AnnotatedSlice) -> bool:
        """Tell whether a plane is painted nowhere but where others of the list cross it."""
        others = [row.plane for row in self.rows if row.plane != plane]
        painted = np.asarray(full_resolution(self.layer)[plane.selector()]) != 0
        return bool(painted.any() and not painted[~crossings(shape_of(self.layer), plane, others)].any())

    def told_slips(self, planes: Iterable[AnnotatedSlice], grid: Grid) -> list[str]:
        """Say what no run can use and what looks like slips in some annotated planes, which `grid` names."""
        labels = full_resolution(self.layer)
        complete, wanted = (
            [plane for plane in some if 0 <= plane.index < labels.shape[plane.axis]] for some in (self.complete, planes)
        )
        told = tell_slips(find_slips(labels, complete, wanted), class_infos(self.layer), grid)
        return [*_told_values(labels, wanted), *told]

    def _write(self, planes: Iterable[AnnotatedSlice]) -> None:
        if self._rows is None:
            self.rescan()  # what is ticked now is a change
        set_annotated_slices(self.layer, sorted(planes))

    def _update_rows(self) -> None:
        complete = set(self.complete)
        planes = sorted(complete | self._proposed)
        rows = tuple(SliceRow(plane, self._voxels(plane), plane in complete) for plane in planes)
        before, self._rows = self._rows, rows
        if before is not None and before != rows:
            self.changed.emit()

    def _voxels(self, plane: AnnotatedSlice) -> int:
        labels = full_resolution(self.layer)
        if not 0 <= plane.index < labels.shape[plane.axis]:
            return 0
        return int(np.count_nonzero(np.asarray(labels[plane.selector()])))


def _told_values(labels: Any, planes: Iterable[AnnotatedSlice]) -> list[str]:
    """Say which values in some planes cannot be those of classes."""
    found: set[int] = set()
    for plane in planes:
        values = np.asarray(labels[plane.selector()])
        if values.min() < 0 or values.max() > MAX_LABEL:
            found |= {value for value in np.unique(values).tolist() if not 0 <= value <= MAX_LABEL}
    if not found:
        return []
    named = f"label {found.pop()} is" if len(found) == 1 else f"the labels {listed(sorted(found))} are"
    return [f"{named} outside of 0..{MAX_LABEL} and cannot be used; fill what is painted so with another label."]


def _check_no_polygon(layer: Labels) -> None:
    """Raise `InputError` while a polygon is drawn: it looks like paint, with every tool and in every slice."""
    polygon = getattr(layer, "_overlays", {}).get("polygon")  # napari tells of it nowhere else
    if getattr(polygon, "points", ()):
        raise InputError(
            f"The polygon in '{layer.name}' is not finished, so nothing of it is painted; press Enter to finish it or "
            "Escape to drop it, and mark then."
        )


def check_painted(labels: Labels, brush: Labels, plane: AnnotatedSlice) -> None:
    """Raise `InputError` if a plane is empty in some labels, and painted in those that the brush is in."""
    if not lies_on(labels, brush) or np.any(full_resolution(labels)[plane.selector()]):
        return
    if np.any(full_resolution(brush)[plane.selector()]):
        raise InputError(
            f"This slice is painted in '{brush.name}', where the brush is, and empty in '{labels.name}'; choose "
            f"'{brush.name}' under Labels, or select '{labels.name}' in the layer list, and mark it then."
        )


def watch_strokes(viewer: ViewerModel, layer: Labels, callback: Callable[[], None]) -> Callable[[], None]:
    """Call `callback` after edits, not after turns of the viewer; returns a function that ends it.

    napari emits `set_data` when edits are undone, and once for every slice that it turns to: if another part of the
    layer is shown than at the event before, it is a turn.
    """
    shown = _view(viewer)

    def on_event(event: Any) -> None:
        nonlocal shown
        before, shown = shown, _view(viewer)
        if event.type != "set_data" or shown == before:
            callback()

    return watch_edits(layer, on_event)


def watch_edits(layer: Labels, callback: Callable[..., None]) -> Callable[[], None]:
    """Call `callback` after anything that may have changed the labels; returns a function that ends it."""
    emitters = [getattr(layer.events, name) for name in EDIT_EVENTS if hasattr(layer.events, name)]
    for emitter in emitters:
        emitter.connect(callback)

    def unwatch() -> None:
        for emitter in emitters:
            emitter.disconnect(callback)

    return unwatch


def _view(viewer: ViewerModel) -> tuple[object, ...]:
    return viewer.dims.point, viewer.dims.order, viewer.dims.ndisplay
