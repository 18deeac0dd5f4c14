from __future__ import annotations

import numpy as np
import pytest

from napari_rada.data.intensity import intensity_range, normalise
from napari_rada.errors import InputError


def test_percentiles_and_window_map_to_the_unit_interval() -> None:
    image = np.arange(1000, dtype=np.float32).reshape(10, 10, 10)
    normal = normalise(image, (10, 90), None, "scan")
    assert (normal.min(), normal.max()) == (0.0, 1.0)
    assert normal.reshape(-1)[500] == pytest.approx(0.5, abs=1e-2)
    np.testing.assert_allclose(normalise(image, (1, 99), (0, 500), "scan").reshape(-1)[:501], np.arange(501) / 500)


def test_percentiles_that_coincide_fall_back_to_the_full_range() -> None:
    image = np.zeros((10, 10, 10), dtype=np.float32)
    image[5, 5, 5] = 4.0
    assert normalise(image, (1, 99), None, "scan")[5, 5, 5] == 1.0


@pytest.mark.parametrize("width", [2, 8, 40])
@pytest.mark.parametrize("below", [0.0, 3000.0])
def test_a_scan_is_seen_alike_whatever_fills_the_room_around_it(width: int, below: float) -> None:
    image = np.random.default_rng(0).normal(500, 100, (12, 14, 16)).astype(np.float32)
    own = intensity_range(image, (1, 99), None)
    found = intensity_range(np.pad(image, width, constant_values=image.min() - below), (1, 99), None)
    reach = own[1] - own[0]
    lowest = own[0] if below else image.min()  # from the darkest value on where that is not told from filling
    assert found == pytest.approx((lowest, own[1]), abs=0.06 * reach)


def test_air_that_is_less_than_half_of_a_scan_counts() -> None:
    image = np.random.default_rng(0).uniform(-0.8, 1.0, (10, 10, 10)).clip(0.0, None).astype(np.float32)
    assert intensity_range(image, (1, 99), None) == tuple(np.percentile(image, (1, 99)))


def test_a_window_beside_the_image_is_refused() -> None:
    with pytest.raises(InputError, match=r"scan: the intensity window 500 to 600 leaves one value only; .* 0 to 26"):
        normalise(np.arange(27, dtype=np.float32).reshape(3, 3, 3), (1, 99), (500, 600), "scan")
