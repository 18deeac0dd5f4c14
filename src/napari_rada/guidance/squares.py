"""Slices as the square images that a vision encoder takes, without distortion.

Shape legend: N images, H W pixels, S side of the square.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor


def to_square(
    images_NHW: Tensor, masks_NHW: Tensor, side: int, pixel: tuple[float, float] = (1.0, 1.0)
) -> tuple[Tensor, Tensor]:
    """Resample images and masks on one grid so that the longer side fills a square, and pad the rest with 0.

    Parameters
    ----------
    images_NHW
        float in 0..1; resampled bicubically, smoothed before it is made smaller.
    masks_NHW
        bool. A resampled pixel is inside where the mask covers at least half as much of it as it does
        anywhere, so that a thin region does not vanish.
    pixel
        Height and width of a pixel, in any common unit; the square has square pixels.

    Returns
    -------
    images, masks
        (N, S, S) float in 0..1, and bool.
    """
    height, width = images_NHW.shape[1:]
    longest = max(height * pixel[0], width * pixel[1])
    rows, columns = (max(1, round(side * n * p / longest)) for n, p in zip((height, width), pixel, strict=True))
    if (rows, columns) != (height, width):
        images_NHW = _resized(images_NHW, rows, columns, "bicubic").clamp(0.0, 1.0)
        cover = _resized(masks_NHW.float(), rows, columns, "bilinear")
        masks_NHW = (cover > 0) & (cover >= 0.5 * cover.amax(dim=(1, 2), keepdim=True))
    top, left = (side - rows) // 2, (side - columns) // 2
    pad = (left, side - columns - left, top, side - rows - top)
    return F.pad(images_NHW, pad), F.pad(masks_NHW, pad)


def _resized(values_NHW: Tensor, rows: int, columns: int, mode: str) -> Tensor:
    resized = F.interpolate(values_NHW[:, None], (rows, columns), mode=mode, align_corners=False, antialias=True)
    return torch.as_tensor(resized[:, 0])
