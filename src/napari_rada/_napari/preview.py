"""Putting results into the viewer: always as new layers, except a preview that nobody has touched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from napari.layers import Labels, Layer

from napari_rada._napari.layers import MASK, annotated_slices, lies_on, prediction_to_layer_data

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_rada._napari.layers import LayerData
    from napari_rada.prediction import Prediction

PROPAGATED, RUN_PREVIEW = "preview", "training"
"""Kinds of previews: what geometry makes of the slices, and what the networks that are still learning make of them."""

_untouched: WeakKeyDictionary[Labels, tuple[str, str]] = WeakKeyDictionary()
"""Previews that nobody has edited: what each of them shows, and the name it was given."""


def add_layers(viewer: ViewerModel, layers: Sequence[LayerData]) -> list[Layer]:
    """Add layers on top, without taking the selection away from the layer that is worked on.

    Returned are the layers themselves: a viewer that napari hands to a dock returns wrappers of them.
    """
    selected = list(viewer.layers.selection)
    active = viewer.layers.selection.active
    added = [Layer.create(*layer) for layer in layers]
    for layer in added:
        viewer.add_layer(layer)
    if selected:
        viewer.layers.selection = selected
        viewer.layers.selection.active = active
    return added


def show_preview(
    viewer: ViewerModel,
    prediction: Prediction,
    image_layer: Image,
    labels_layer: Labels,
    *,
    kind: str = PROPAGATED,
) -> Labels:
    """Show a mask that is not final in a layer of its own under the labels it came from.

    The preview of the same kind of the same Labels layer is updated in place, or replaced if it no longer lies on the
    image layer. If somebody painted in it, marked a slice of it as annotated or renamed it, it is theirs, and a new one
    is made; so is every copy of it.
    """
    ((mask, settings, _),) = prediction_to_layer_data(prediction, image_layer, (MASK,))
    tag = f"{labels_layer.name} {kind}"
    present = _untouched_preview(viewer, tag)
    if present is not None and lies_on(image_layer, present):
        present.data = mask
        present.metadata.update(settings["metadata"])
        _untouched[present] = (tag, present.name)
        return present
    if present is not None:
        viewer.layers.remove(present)
    settings = {**settings, "name": tag, "opacity": 0.4}
    preview = Labels(mask, **settings)
    position = viewer.layers.index(labels_layer) if labels_layer in viewer.layers else len(viewer.layers)
    selection = list(viewer.layers.selection)
    viewer.layers.insert(position, preview)
    viewer.layers.selection = selection
    preview.events.paint.connect(_on_preview_edited)
    preview.events.data.connect(_on_preview_edited)
    _untouched[preview] = (tag, preview.name)
    return preview


def _untouched_preview(viewer: ViewerModel, tag: str) -> Labels | None:
    found = [layer for layer in viewer.layers if _untouched.get(layer) == (tag, layer.name)]
    return next((layer for layer in reversed(found) if not annotated_slices(layer)), None)


def _on_preview_edited(event: Any) -> None:
    _untouched.pop(event.source, None)
