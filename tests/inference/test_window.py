"""The sliding window: MONAI's tiles, weights and result."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from napari_rada.inference.window import TileGrid, boxes, slide, tile_weights, widened

TILE = (16, 24, 24)


def smoothed(tiles_BIDHW: torch.Tensor) -> torch.Tensor:
    """Give two channels that depend on where the tile ends."""
    mean = F.avg_pool3d(tiles_BIDHW, 5, stride=1, padding=2)
    return torch.cat([mean, mean.square()], dim=1)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("shape", [(33, 50, 47), (10, 30, 24), (16, 24, 24), (5, 7, 100)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
def test_the_result_is_that_of_monai(shape: tuple[int, int, int], overlap: float, batch: int) -> None:
    from monai.inferers.utils import sliding_window_inference

    whole = torch.rand((1, *shape), generator=torch.Generator().manual_seed(0))
    grid, sizes = TileGrid(shape, TILE, overlap), []

    def counted(tiles_BIDHW: torch.Tensor) -> torch.Tensor:
        sizes.append(len(tiles_BIDHW))
        return smoothed(tiles_BIDHW)

    found = slide(widened(whole, grid), grid, grid.whole, batch, counted)
    wanted = sliding_window_inference(
        whole[None], TILE, batch, smoothed, overlap=overlap, mode="gaussian", padding_mode="replicate"
    )
    torch.testing.assert_close(found, wanted[0])
    assert sum(sizes) == len(grid.touching(grid.whole))
    assert max(sizes) <= batch


@pytest.mark.parametrize("tile", [(1, 1, 1), (3, 16, 5), TILE, (80, 112, 96)])
def test_weights_are_those_of_monai(tile: tuple[int, int, int]) -> None:
    from monai.data.utils import compute_importance_map

    torch.testing.assert_close(tile_weights(tile), compute_importance_map(tile, mode="gaussian", sigma_scale=0.125))


def test_tiles_lie_where_monai_puts_them() -> None:
    from monai.data.utils import dense_patch_slices
    from monai.inferers.utils import _get_scan_interval

    for shape, overlap in itertools.product([(33, 50, 47), (16, 24, 100)], (0.0, 0.25, 0.5, 0.9)):
        wanted = dense_patch_slices(shape, TILE, _get_scan_interval(shape, TILE, 3, (overlap,) * 3))
        found = TileGrid(shape, TILE, overlap).touching(((0, 0, 0), shape))
        assert found == [tuple(int(part.start) for part in place) for place in wanted]


def test_a_volume_is_cut_without_gap_or_overlap() -> None:
    covered = np.zeros((7, 5, 9), dtype=int)
    for box in boxes((7, 5, 9), (3, 5, 4)):
        covered[tuple(slice(a, b) for a, b in zip(*box, strict=True))] += 1
    assert (covered == 1).all()
