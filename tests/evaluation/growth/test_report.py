from __future__ import annotations

from napari_rada.evaluation.growth.report import Curve


def test_a_curve_that_bends_up_at_its_end_grows_too_fast() -> None:
    x = (1, 2, 4, 8, 16, 32)
    assert not Curve("voxels", "a", "cpu_s", x, (5.0, 5.0, 5.0, 10.0, 20.0, 40.0)).grows_too_fast
    assert Curve("voxels", "a", "cpu_s", x, (5.0, 5.0, 5.0, 5.0, 15.0, 45.0)).grows_too_fast
    assert not Curve("voxels", "a", "cpu_s", x, (None,) * 6).grows_too_fast
