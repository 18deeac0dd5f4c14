"""Which image a Labels layer belongs to, where it lies on the voxels of several."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from napari.layers import Labels

from napari_rada._napari.layers import (
    IMAGE_KEY,
    SOURCE_KEY,
    annotated_slices,
    is_output,
    lies_on,
    open_images,
    source_of,
)
from napari_rada._napari.recipes import Scan
from napari_rada.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel
    from napari.layers import Image


def note_image(labels: Labels, image: Image) -> None:
    """Write into the labels' metadata that they are of this image."""
    labels.metadata[IMAGE_KEY] = str(image.unique_id)


def made_for(labels: Labels, images: Sequence[Image]) -> Image | None:
    """Return which of these images the labels are known to be of: made for its layer, or on the voxels of its file."""
    noted, source = labels.metadata.get(IMAGE_KEY), labels.metadata.get(SOURCE_KEY)
    for image in images:
        if str(image.unique_id) == noted:
            return image
    of_file = [image for image in images if source and image.metadata.get(SOURCE_KEY) == source]
    return next((image for image in of_file if source_of(image) == source_of(labels) is not None), None)


def image_of(labels: Labels, images: Sequence[Image]) -> Image | None:
    """Return the one of these images that the labels belong to; None if they may be of several, or fit none.

    Where nothing is known and several fit, it is the one whose file lies in the same folder or, if that does not tell,
    whose name shares most words with theirs.
    """
    known = made_for(labels, images)
    if known is not None:
        return known
    likeness = [_likeness(labels, image) for image in images]
    for degree in sorted(set(likeness), reverse=True):
        alike = [image for image, its in zip(images, likeness, strict=True) if its == degree]
        fitting = [image for image in alike if lies_on(image, labels)]
        if fitting:
            return fitting[0] if len(fitting) == 1 else None
    return None


def may_label(labels: Labels, image: Image, images: Sequence[Image]) -> bool:
    """Tell whether labels lie on an image and belong to no other of these images."""
    return lies_on(image, labels) and image_of(labels, images) in (image, None)


def check_owner(labels: Labels, image: Image, images: Sequence[Image]) -> None:
    """Raise `InputError` if labels are known to be of another one of these images."""
    owner = made_for(labels, images)
    if owner not in (image, None):
        raise InputError(
            f"'{labels.name}' belongs to '{owner.name}', not to '{image.name}'; choose the labels of that, press New "
            f"labels in the dock Label slices, or close '{owner.name}' if they are of both."
        )


def own_labels(viewer: ViewerModel, *, besides: Labels | None = None) -> dict[Image, Labels]:
    """Return the annotation of each image that has one: no Labels layer is that of two.

    Of several that belong to an image it is the one with most annotated slices.
    """
    images = open_images(viewer)
    own: dict[Image, Labels] = {}
    for layer in paintable(viewer):
        image = None if layer is besides else image_of(layer, images)
        if image is not None and lies_on(image, layer):
            own[image] = max(own.get(image, layer), layer, key=lambda one: len(annotated_slices(one)))
    return own


def scans_of(viewer: ViewerModel, images: Sequence[Image], *, besides: Labels | None = None) -> list[Scan]:
    """Return images as a cohort, each with its own labels; labels without annotated slices are as good as none."""
    own = own_labels(viewer, besides=besides)
    return [_scan(image, own.get(image)) for image in images]


def paintable(viewer: ViewerModel) -> list[Labels]:
    """Return the Labels layers that can be painted in, outputs of this plugin left out, bottom first."""
    layers = [layer for layer in viewer.layers if isinstance(layer, Labels) and not is_output(layer)]
    return [layer for layer in layers if layer.editable]


def brush_layer(viewer: ViewerModel) -> Labels | None:
    """Return the layer that is painted in, if it is one that `paintable` names."""
    active = viewer.layers.selection.active  # equal to the layer, of which the viewer of a dock returns a wrapper
    return next((layer for layer in paintable(viewer) if layer == active), None)


def brushed_image(viewer: ViewerModel) -> Image | None:
    """Return the image whose labels are painted in, None if there is none."""
    brush = brush_layer(viewer)
    return None if brush is None else image_of(brush, open_images(viewer))


def _scan(image: Image, labels: Labels | None) -> Scan:
    planes = annotated_slices(labels) if labels is not None else ()
    return Scan(image, labels if planes else None, planes)


def _likeness(labels: Labels, image: Image) -> tuple[bool, float]:
    """Tell whether the files lie in one folder, and the part of the words of both names that is in both."""
    files = [layer.metadata.get(SOURCE_KEY) for layer in (labels, image)]
    neighbours = None not in files and len({Path(str(file)).parent for file in files}) == 1
    theirs, its = _words(str(labels.name)), _words(str(image.name))
    return neighbours, len(theirs & its) / max(1, len(theirs | its))


def _words(name: str) -> set[str]:
    return set(re.findall(r"[^\W_]+", name.lower()))
