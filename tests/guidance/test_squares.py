import numpy as np
import pytest
import torch

from napari_rada.guidance.squares import to_square


def disc(height, width, radius, pixel=(1.0, 1.0)):
    y, x = np.indices((height, width))
    inside = ((y - height / 2 + 0.5) * pixel[0]) ** 2 + ((x - width / 2 + 0.5) * pixel[1]) ** 2 <= radius**2
    mask = torch.from_numpy(inside)[None]
    return mask.float(), mask


def extent(mask):
    rows, columns = torch.nonzero(mask[0], as_tuple=True)
    return int(rows.max() - rows.min() + 1), int(columns.max() - columns.min() + 1)


def test_an_image_of_the_right_size_is_not_touched():
    image, mask = torch.rand(2, 24, 24), torch.rand(2, 24, 24) > 0.5
    found, inside = to_square(image, mask, 24)
    assert torch.equal(found, image)
    assert torch.equal(inside, mask)


@pytest.mark.parametrize(("height", "width"), [(40, 80), (80, 40), (13, 50)])
def test_the_aspect_ratio_is_kept_by_padding(height, width):
    image, mask = disc(height, width, 5.0)
    found, inside = to_square(image + 0.1 - 0.1 * image, mask, 64)
    assert found.shape == inside.shape == (1, 64, 64)
    rows, columns = extent(inside)
    assert abs(rows - columns) <= 1
    filled = extent(found > 0)
    assert filled == tuple(round(64 * n / max(height, width)) for n in (height, width))


def test_pixels_that_are_not_square_become_square():
    image, mask = disc(20, 80, 8.0, pixel=(4.0, 1.0))
    rows, columns = extent(to_square(image, mask, 80, (4.0, 1.0))[1])
    assert abs(rows - columns) <= 4


def test_thin_regions_do_not_vanish_and_empty_ones_stay_empty():
    mask = torch.zeros(1, 512, 512, dtype=torch.bool)
    assert not to_square(torch.zeros(1, 512, 512), mask, 32)[1].any()
    mask[0, 100, 50:400] = True
    assert to_square(torch.zeros(1, 512, 512), mask, 32)[1].any()


def test_intensities_stay_in_range():
    image = (torch.rand(1, 30, 50) > 0.5).float()  # bicubic interpolation overshoots at edges
    found, _ = to_square(image, image > 0, 64)
    assert 0 <= found.min() <= found.max() <= 1
