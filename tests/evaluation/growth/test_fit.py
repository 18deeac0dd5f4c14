from __future__ import annotations

import pytest

from napari_rada.evaluation.growth.fit import Exponent, fit_exponent


def test_exponents_of_known_powers() -> None:
    x = [10, 20, 40, 80]
    for power in (0, 0.5, 1, 2):
        found = fit_exponent(x, [3 * value**power for value in x])
        assert found is not None
        assert found.slope == pytest.approx(power)
        assert found.error == pytest.approx(0, abs=1e-6)
        assert found.is_above_one is (power == 2)
    noisy = fit_exponent(x, [10, 35, 30, 110])
    assert noisy is not None
    assert noisy.error > 0.1
    assert not noisy.is_above_one
    assert fit_exponent(x, [None, -1.0, 0.0, 5.0]) is None
    assert fit_exponent([4, 4], [1.0, 2.0]) is None
    assert str(Exponent(1.234, 0.05)) == "1.23 ± 0.05"
