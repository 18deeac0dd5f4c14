from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from napari_rada.control import RunControl
from napari_rada.data.classes import ClassInfo, ClassTable
from napari_rada.errors import InputError, Stopped
from napari_rada.evaluation import metrics
from napari_rada.evaluation.metrics import ClassMetrics, evaluate_masks

SHAPE = (6, 7, 8)
UNIT = (1.0, 1.0, 1.0)


def voxels(*where: tuple[int, int, int], value: int = 1) -> Any:
    volume = np.zeros(SHAPE, np.uint8)
    for place in where:
        volume[place] = value
    return volume


def box(z: slice, y: slice, x: slice) -> Any:
    volume = np.zeros(SHAPE, np.uint8)
    volume[z, y, x] = 1
    return volume


def only(found: tuple[ClassMetrics, ...]) -> ClassMetrics:
    assert len(found) == 1
    return found[0]


def test_equal_masks() -> None:
    mask = box(slice(1, 4), slice(2, 5), slice(2, 6))
    found = only(evaluate_masks(mask, mask, UNIT))
    assert (found.value, found.name) == (1, "label 1")
    assert (found.dice, found.jaccard, found.hd95_mm, found.asd_mm) == (1.0, 1.0, 0.0, 0.0)


def test_one_voxel_against_one_voxel_with_anisotropic_spacing() -> None:
    found = only(evaluate_masks(voxels((1, 1, 1)), voxels((3, 2, 4)), (2.5, 1.5, 0.5)))
    distance = math.hypot(2 * 2.5, 1 * 1.5, 3 * 0.5)
    assert (found.dice, found.jaccard) == (0.0, 0.0)
    assert found.hd95_mm == pytest.approx(distance)
    assert found.asd_mm == pytest.approx(distance)


def test_one_voxel_against_two() -> None:
    found = only(evaluate_masks(voxels((2, 2, 2)), voxels((2, 2, 2), (4, 2, 2)), (3.0, 1.0, 1.0)))
    assert found.dice == pytest.approx(2 / 3)
    assert found.jaccard == pytest.approx(1 / 2)
    # prediction to reference: [0]; reference to prediction: [0, 6], 95th percentile 0.95 * 6
    assert found.hd95_mm == pytest.approx(5.7)
    assert found.asd_mm == pytest.approx((0 + 0 + 6) / 3)


def test_shifted_slab_at_the_border_of_the_volume() -> None:
    prediction = box(slice(0, 1), slice(None), slice(None))
    reference = box(slice(1, 2), slice(None), slice(None))
    found = only(evaluate_masks(prediction, reference, (4.0, 1.0, 1.0)))
    assert (found.dice, found.hd95_mm, found.asd_mm) == (0.0, 4.0, 4.0)


def test_block_that_grew_by_one_layer() -> None:
    reference = box(slice(1, 4), slice(1, 4), slice(1, 4))
    prediction = box(slice(1, 4), slice(1, 4), slice(1, 5))
    found = only(evaluate_masks(prediction, reference, (1.0, 1.0, 2.0)))
    assert found.dice == pytest.approx(2 * 27 / (27 + 36))
    assert found.jaccard == pytest.approx(27 / 36)
    assert found.hd95_mm == pytest.approx(2.0)
    # surfaces: 26 voxels of the small block, 34 of the large one; distances by hand: the far layer of the large one
    # (9 voxels) is 2 mm away, the centre of the small one's far face 1 mm from the large one's inner shell's sides
    assert found.asd_mm == pytest.approx((9 * 2.0 + 1 * 1.0) / (26 + 34))


EMPTY = np.zeros(SHAPE, np.uint8)


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        (EMPTY, EMPTY, (1.0, 1.0, 0.0, 0.0)),
        (EMPTY, voxels((1, 1, 1)), (0.0, 0.0, math.inf, math.inf)),
        (voxels((1, 1, 1)), EMPTY, (0.0, 0.0, math.inf, math.inf)),
    ],
)
def test_empty_masks(prediction: Any, reference: Any, expected: tuple[float, ...]) -> None:
    classes = ClassTable.from_values([1])
    found = only(evaluate_masks(prediction, reference, UNIT, classes))
    assert (found.dice, found.jaccard, found.hd95_mm, found.asd_mm) == expected


def test_nothing_to_compare() -> None:
    with pytest.raises(InputError, match="Both masks are empty"):
        evaluate_masks(EMPTY, EMPTY, UNIT)


def test_shapes_must_be_equal() -> None:
    with pytest.raises(InputError, match=r"\(6, 7, 8\) but the reference has \(6, 7, 7\)"):
        evaluate_masks(EMPTY, EMPTY[..., 1:], UNIT)


def test_classes_are_compared_one_by_one() -> None:
    prediction = voxels((1, 1, 1)) + voxels((3, 3, 3), value=200)
    reference = voxels((1, 1, 1)) + voxels((3, 3, 4), value=7)
    found = {m.value: m for m in evaluate_masks(prediction, reference.astype(np.uint16), UNIT)}
    assert sorted(found) == [1, 7, 200]
    assert (found[1].dice, found[7].dice, found[200].dice) == (1.0, 0.0, 0.0)
    table = ClassTable((ClassInfo(0, "background"), ClassInfo(1, "liver")))
    assert [m.name for m in evaluate_masks(prediction, reference, UNIT, table)] == ["liver"]


def test_cropping_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(11)
    for _ in range(5):
        corner = rng.integers(0, 9, 3)
        volume = np.zeros((16, 18, 20), np.uint8)
        region = volume[corner[0] : corner[0] + 7, corner[1] : corner[1] + 8, corner[2] : corner[2] + 9]
        region[...] = rng.random(region.shape) < 0.4
        other = np.roll(volume, 1, axis=1)
        cropped = evaluate_masks(volume, other, (3.0, 1.25, 0.75))
        with monkeypatch.context() as patched:
            patched.setattr(metrics, "_joint_box", lambda *_: (slice(None),) * 3)
            whole = evaluate_masks(volume, other, (3.0, 1.25, 0.75))
        assert cropped == whole


def test_a_stop_ends_the_comparison() -> None:
    control = RunControl()
    control.stop()
    mask = np.ones((4, 4, 4), dtype=np.uint8)
    with pytest.raises(Stopped):
        evaluate_masks(mask, mask, (1.0, 1.0, 1.0), control=control)
