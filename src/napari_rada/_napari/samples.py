"""Sample data for napari's File menu."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_rada._napari.layers import case_to_layer_data
from napari_rada.data.sample import make_sample

if TYPE_CHECKING:
    from napari_rada._napari.layers import LayerData


def open_sample() -> list[LayerData]:
    """Return the synthetic organ as an Image layer and a Labels layer with three annotated slices."""
    return case_to_layer_data(make_sample().case)
