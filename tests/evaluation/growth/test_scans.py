from __future__ import annotations

import numpy as np
import pytest

from napari_rada.evaluation.growth.scans import MOST_CLASSES, make_scan
from napari_rada.evaluation.reliability.scene import inside_balls


def test_scans_show_every_class_in_an_annotated_slice() -> None:
    for classes in range(1, MOST_CLASSES + 1):
        case = make_scan((24, 20, 16), classes)
        assert case.classes is not None
        assert list(case.classes.values) == list(range(classes + 1))
        assert [plane.axis for plane in case.annotated] == [0, 1, 2]
    share = [inside_balls(((0, 0, 0), (side,) * 3), (side / 4,) * 3).mean() for side in (32, 64)]
    assert share[1] == pytest.approx(np.pi / 48, rel=0.05)
    assert share[0] == pytest.approx(share[1], rel=0.1)
