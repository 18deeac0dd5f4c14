from __future__ import annotations

import xml.etree.ElementTree as ET

from napari_rada.evaluation.growth.plot import log_plot


def test_panels_hold_what_can_be_drawn() -> None:
    drawn = log_plot([("voxels", "s", "a", (1, 10), (1.0, None)), ("voxels", "s", "b", (1, 1000), (None, None))])
    ET.fromstring(drawn)  # noqa: S314 - our own
    assert drawn.count('r="3"') == 1
    ET.fromstring(log_plot([]))  # noqa: S314 - our own
