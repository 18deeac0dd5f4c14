"""The classes of a Labels layer: their names and text prompts beside the layer's own colours."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

import numpy as np
from napari.utils.colormaps import DirectLabelColormap, label_colormap
from psygnal import Signal

from napari_rada._napari.layers import class_infos, full_resolution, set_class_infos, shape_of
from napari_rada.data.classes import MAX_LABEL, ClassInfo
from napari_rada.errors import InputError

if TYPE_CHECKING:
    from napari.layers import Labels
    from numpy.typing import NDArray

    from napari_rada._napari.annotation import AnnotationModel
    from napari_rada.data.slices import AnnotatedSlice

UNNAMED_COLOUR = "#808080"
"""Colour of values above `OWN_COLOURS` that are in no row, once a colour was chosen by hand."""
OWN_COLOURS = 255
"""Up to this value every label keeps a colour of its own then, also one that is added or painted later."""


@dataclass(frozen=True)
class ClassRow:
    """One class: its description, its colour as `#rrggbb`, and whether it is painted in a listed slice."""

    info: ClassInfo
    colour: str
    painted: bool


class _Values(NamedTuple):
    """The values in a listed slice: they are sorted only where the slice was painted in, which takes long."""

    checksum: int
    found: frozenset[int]

    @classmethod
    def of(cls, values: NDArray[Any], known: _Values | None) -> _Values:
        """Return the values of a slice, those that are known already if it is as it was."""
        checksum = zlib.crc32(values.data)
        if known is not None and known.checksum == checksum:
            return known
        flat = values.ravel()
        ends = np.append(flat[1:] != flat[:-1], True)  # of runs of one value: few are left to be sorted
        return cls(checksum, frozenset(int(value) for value in np.unique(flat[ends])) - {0})


class ClassModel:
    """The classes of one Labels layer: those named by the person, and those found in the listed slices."""

    changed = Signal()
    """The rows changed."""

    def __init__(self, layer: Labels, annotation: AnnotationModel) -> None:
        self._layer = ref(layer)
        self._annotation = annotation
        self._rows: tuple[ClassRow, ...] = ()
        self._values: dict[AnnotatedSlice, _Values] = {}
        annotation.changed.connect(self.refresh)
        layer.events.colormap.connect(self._on_colours_changed)
        self.refresh()

    @property
    def layer(self) -> Labels:
        """The layer; whoever uses the model keeps it alive."""
        layer = self._layer()
        assert layer is not None
        return layer

    @property
    def rows(self) -> tuple[ClassRow, ...]:
        """All foreground classes, sorted by value; at least label 1."""
        return self._rows

    def refresh(self) -> None:
        """Look again at names, colours and paint; `changed` fires if a row is not the same as before."""
        if self._layer() is None:
            return
        named = {info.value: info for info in class_infos(self.layer)}
        painted = self._painted()
        values = sorted({*named, *painted} - {0}) or [1]
        rows = tuple(
            ClassRow(named.get(value, ClassInfo(value, f"label {value}")), self._colour(value), value in painted)
            for value in values
        )
        if rows != self._rows:
            self._rows = rows
            self.changed.emit()

    def describe(self, value: int, *, name: str | None = None, prompt: str | None = None) -> None:
        """Name a class or give it a text prompt; raises `InputError` for an empty name or one that is taken."""
        infos = {row.info.value: row.info for row in self._rows}
        present = infos[value]
        name = present.name if name is None else name.strip()
        if not name or any(info.name == name for other, info in infos.items() if other != value):
            raise InputError(f"A class needs a name of its own; {name!r} is empty or taken.")
        infos[value] = ClassInfo(value, name, present.prompt if prompt is None else prompt.strip())
        self._write(infos)

    def add(self) -> int:
        """Add a class with the next free value, and return the value."""
        value = max(row.info.value for row in self._rows) + 1
        if value > min(MAX_LABEL, self._highest):
            raise InputError(
                f"Layer '{self.layer.name}' holds no label above {value - 1}; convert its data type first."
            )
        infos = {row.info.value: row.info for row in self._rows}
        if isinstance(self.layer.colormap, DirectLabelColormap) and value not in self.layer.colormap.color_dict:
            self.set_colour(value, _default_colours(value, value)[value])
        self._write(infos | {value: ClassInfo(value, f"label {value}")})
        return value

    def select(self, value: int) -> None:
        """Paint with a class from now on; raises `InputError` if the layer cannot hold its value."""
        if value > self._highest:
            raise InputError(
                f"Layer '{self.layer.name}' holds no label above {self._highest}; right-click it and convert its data "
                f"type to paint with {value}."
            )
        self.layer.selected_label = value

    def remove(self, value: int) -> None:
        """Take a class off the list, and the brush off its label; raises `InputError` while it is painted."""
        self.refresh()
        if any(row.painted for row in self._rows if row.info.value == value):
            raise InputError(f"Label {value} is painted; erase it first, or fill it with another label.")
        self._write({row.info.value: row.info for row in self._rows if row.info.value != value})
        if self.layer.selected_label == value:
            left = [row.info.value for row in self._rows]
            self.select(max((label for label in left if label < value), default=left[0]))

    def set_colour(self, value: int, colour: str) -> None:
        """Show a class in a colour (`#rrggbb`); the others keep theirs."""
        if isinstance(self.layer.colormap, DirectLabelColormap):
            colours: dict[int | None, Any] = dict(self.layer.colormap.color_dict)
        else:
            colours = {None: UNNAMED_COLOUR, 0: "transparent"}
            colours |= _default_colours(1, min(OWN_COLOURS, self._highest))
            colours |= {row.info.value: row.colour for row in self._rows}
        self.layer.colormap = DirectLabelColormap(color_dict=colours | {value: colour})

    @property
    def _highest(self) -> int:
        """The highest value that the layer can hold."""
        return int(np.iinfo(self.layer.dtype).max)

    def _write(self, infos: dict[int, ClassInfo]) -> None:
        set_class_infos(self.layer, [infos[value] for value in sorted(infos)])
        self.refresh()

    def _painted(self) -> set[int]:
        try:
            shape = shape_of(self.layer)
        except InputError:
            return set()
        known, self._values = self._values, {}
        labels = full_resolution(self.layer)
        for row in self._annotation.rows:
            if row.voxels and row.plane.index < shape[row.plane.axis]:
                values = np.ascontiguousarray(labels[row.plane.selector()])
                self._values[row.plane] = _Values.of(values, known.get(row.plane))
        return {value for plane in self._values.values() for value in plane.found}

    def _colour(self, value: int) -> str:
        """Return the colour of a class, also while the layer shows the selected label alone."""
        colours = self.layer.colormap.model_copy(update={"use_selection": False})
        return _as_text(colours.map(value))

    def _on_colours_changed(self, event: object = None) -> None:
        del event
        self.refresh()


def _default_colours(first: int, last: int) -> dict[int | None, str]:
    """Return the colours that a new Labels layer gives to the values from `first` to `last`."""
    colormap = label_colormap(49)
    return {value: _as_text(colormap.map(value)) for value in range(first, last + 1)}


def _as_text(rgba: Any) -> str:
    return "#" + "".join(f"{round(255 * float(channel)):02x}" for channel in rgba[:3])
