"""Which plane and slice the viewer shows, and the buttons that turn it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psygnal import Signal
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_rada._napari.layers import grid_of
from napari_rada._napari.planes import describe, go_to, is_tilted, show_plane, viewed_axis, viewed_slice
from napari_rada._qt.plane_buttons import PlaneButtons
from napari_rada.errors import InputError

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_rada.data.grid import Grid
    from napari_rada.data.slices import AnnotatedSlice

WHERE_TIP = (
    "Slices count from 0 in the order in which the scan stores them. "
    "napari's slider counts from head to feet, front to back and right to left."
)


class SliceNavigator(QWidget):
    """Turns the viewer and says where one is in the volume of one Image layer."""

    valueChanged = Signal(object)
    """The viewer shows another slice, or None in 3D or off the volume."""

    def __init__(self, viewer: ViewerModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._layer: Image | None = None
        self._grid: Grid | None = None
        self._value: AnnotatedSlice | None = None
        self._units: object = None
        self.planes = PlaneButtons()
        self.where = QLabel()
        self.where.setWordWrap(True)
        self.where.setToolTip(WHERE_TIP)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self.planes)
        layout.addWidget(self.where)
        self.planes.valueChanged.connect(self.show_plane)
        dims = viewer.dims.events
        views = (dims.point, dims.order, dims.ndisplay, dims.ndim)
        self._watched = [(emitter, self._on_view_changed) for emitter in views]
        if hasattr(dims, "units"):  # since napari 0.9
            self._watched.append((dims.units, self._on_geometry_changed))
        for emitter, handler in self._watched:
            emitter.connect(handler)

    @property
    def grid(self) -> Grid | None:
        """The grid of the layer, None if there is no usable one."""
        return self._grid

    def set_layer(self, layer: Image | None) -> None:
        """Follow another layer; one that is no 3D volume is as good as none."""
        if self._layer is not None:
            self._geometry_events(self._layer, connect=False)
        self._layer = layer
        if layer is not None:
            self._geometry_events(layer, connect=True)
        self._on_geometry_changed()

    def value(self) -> AnnotatedSlice | None:
        """Return the slice shown; None in 3D, without a volume, or off it."""
        return self._value

    def setValue(self, plane: AnnotatedSlice) -> None:
        """Show a slice; raises `InputError` without a volume or outside it."""
        go_to(self._viewer, self._checked_layer(), plane)

    def show_plane(self, axis: int) -> None:
        """Turn the viewer to slices perpendicular to array `axis`; raises `InputError` without a volume."""
        show_plane(self._viewer, self._checked_layer(), axis)

    def shut(self) -> None:
        """Let go of the viewer and the layer; what is shown stays, as widgets that are being deleted bear no change."""
        if self._layer is not None:
            self._geometry_events(self._layer, connect=False)
        self._layer = None
        for emitter, handler in self._watched:
            emitter.disconnect(handler)

    def _checked_layer(self) -> Image:
        if self._layer is None:
            raise InputError("There is no Image layer; open a scan first.")
        grid_of(self._layer)
        return self._layer

    def _geometry_events(self, layer: Image, *, connect: bool) -> None:
        for name in ("data", "scale", "translate", "rotate", "shear", "affine", "units"):
            emitter = getattr(layer.events, name)
            (emitter.connect if connect else emitter.disconnect)(self._on_geometry_changed)

    def _on_geometry_changed(self, event: object = None) -> None:
        del event
        try:
            self._grid = None if self._layer is None else grid_of(self._layer)
        except InputError:
            self._grid = None
        self.planes.set_data(self._grid)
        self._on_view_changed()

    def _on_view_changed(self, event: object = None) -> None:
        del event
        self._stay_in_other_units()
        plane, axis = None, None
        if self._grid is not None and self._layer is not None:
            plane, axis = viewed_slice(self._viewer, self._layer), viewed_axis(self._viewer, self._layer)
        self.planes.setValue(axis)
        self.where.setText(self._sentence(plane, axis))
        if plane != self._value:
            self._value = plane
            self.valueChanged.emit(plane)

    def _stay_in_other_units(self) -> None:
        """Go to the slice shown before if napari counts in other units now, since it keeps the slider's number."""
        before, self._units = self._units, getattr(self._viewer.dims, "units", None)
        if before != self._units and self._value is not None and self._grid is not None:
            self.setValue(self._value)

    def _sentence(self, plane: AnnotatedSlice | None, axis: int | None) -> str:
        if self._grid is None or self._layer is None:
            return "Open a 3D scan to begin."
        if axis is not None and is_tilted(self._layer, axis):
            return "This layer is rotated: napari shows no whole slice of it in this direction"
        if plane is not None:
            return f"You are in {describe(self._grid, plane)}"
        return "You are in 3D" if self._viewer.dims.ndisplay == 3 else "You are beside the volume"
