"""Motion from slice to slice: dense optical flow by least squares in small windows, many slices at a time.

Lucas and Kanade's method, from coarse to fine: a slice is warped by the motion found so far, and compared again, as by
Le Besnerais and Champagnat (Dense optical flow by iterative local window registration, ICIP 2005). Other than theirs,
for accuracy (docs/tries.md): each warp adds a step to the motion, damped where the image shows little (Levenberg),
instead of finding all of it anew; the gradient is the mean of both slices that are compared; windows are Gaussian, and
reach into the pairs of slices before and after, where a structure moves on much as it does here. All slices of a batch
go together, and the systems of two unknowns are solved in closed form, which takes less time than scikit-image's
`optical_flow_ilk` with smaller windows: a third of it for slices of 90 x 100 pixels.

Shape legend: N slices of a stack and P = N - 1 pairs of neighbours, C channels or classes (1: one channel), Y X pixels,
2 along (y, x).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

COARSEST = 16
"""The shorter side of a slice is halved until it has at most twice as many pixels as this."""
NEIGHBOURS = 0.5
"""How much the same window of the pair before, and of the pair after, counts."""
DAMPING = 0.03
"""What is added to the squared gradient of each window, as a share of the mean over its pair of slices."""
LEAST = 1e-9
"""And so much in any case, of intensities from 0 to 1: a flat slice moves nowhere."""
REACH = 5
"""Standard deviations after which a window ends."""


def motion(slices_NYX: NDArray[np.float32], *, window: float, warps: int) -> NDArray[np.float32]:
    """Return the motion (N - 1, 2, Y, X), in pixels, from every slice but the first to the one before it.

    What is at a pixel of a slice is there, plus the motion, in the slice before. The first pair stands in for the one
    before it, and the last for the one after.

    Parameters
    ----------
    window
        Standard deviation, in pixels, of the Gaussian window that moves as one.
    warps
        How often a slice is warped and compared on each level of resolution.
    """
    if min(slices_NYX.shape[1:]) < 2:  # a line of pixels shows none
        return np.zeros((len(slices_NYX) - 1, 2, *slices_NYX.shape[1:]), dtype=np.float32)
    levels = [torch.from_numpy(np.ascontiguousarray(slices_NYX))[:, None]]
    while min(levels[-1].shape[-2:]) > 2 * COARSEST:
        levels.append(_halved(levels[-1]))
    flow_P2YX = torch.zeros(len(slices_NYX) - 1, 2, *levels[-1].shape[-2:])
    for slices_N1YX in reversed(levels):
        flow_P2YX = _resized(flow_P2YX, slices_N1YX)
        for _ in range(warps):
            flow_P2YX = flow_P2YX + _step(flow_P2YX, slices_N1YX, window)
    return flow_P2YX.numpy()


def warped(values_CYX: NDArray[np.float32], flow_2YX: NDArray[np.float32]) -> NDArray[np.float32]:
    """Take values (C, Y, X) from where the motion points, interpolated; beyond the border they are those at it."""
    values, flow = (torch.from_numpy(np.ascontiguousarray(one))[None] for one in (values_CYX, flow_2YX))
    return _warped(values, flow)[0].numpy()


def _halved(slices_N1YX: Tensor) -> Tensor:
    half = [-(-size // 2) for size in slices_N1YX.shape[-2:]]
    return F.interpolate(slices_N1YX, size=half, mode="bilinear", antialias=True, align_corners=False)


def _resized(flow_P2YX: Tensor, slices_N1YX: Tensor) -> Tensor:
    """Bring a motion to the pixels of another level, in their units."""
    old, new = flow_P2YX.shape[-2:], slices_N1YX.shape[-2:]
    if old == new:
        return flow_P2YX
    scale = torch.tensor([now / before for now, before in zip(new, old, strict=True)])[:, None, None]
    return scale * F.interpolate(flow_P2YX, size=new, mode="bilinear", align_corners=False)


def _step(flow_P2YX: Tensor, slices_N1YX: Tensor, window: float) -> Tensor:
    """Find what must be added to the motion so that each slice is like the one before it, warped."""
    before_P1YX = _warped(slices_N1YX[:-1], flow_P2YX)
    rest = (slices_N1YX[1:] - before_P1YX)[:, 0]
    by_y, by_x = torch.gradient((0.5 * (slices_N1YX[1:] + before_P1YX))[:, 0], dim=(1, 2))
    products = torch.stack([by_y * by_y, by_y * by_x, by_x * by_x, by_y * rest, by_x * rest], dim=1)
    yy, yx, xx, y, x = _windowed(products, window).unbind(1)
    damping = DAMPING * 0.5 * (yy + xx).mean(dim=(1, 2), keepdim=True) + LEAST
    yy, xx = yy + damping, xx + damping
    return torch.stack([xx * y - yx * x, yy * x - yx * y], dim=1) / (yy * xx - yx * yx)[:, None]


def _warped(values_PCYX: Tensor, flow_P2YX: Tensor) -> Tensor:
    shape = flow_P2YX.shape[-2:]
    lines = [torch.arange(size, dtype=flow_P2YX.dtype) for size in shape]
    at_y, at_x = flow_P2YX[:, 0] + lines[0][:, None], flow_P2YX[:, 1] + lines[1]
    unit = [2.0 * at / max(size - 1, 1) - 1.0 for at, size in zip((at_y, at_x), shape, strict=True)]
    where_PYX2 = torch.stack(unit[::-1], dim=-1)
    return F.grid_sample(values_PCYX, where_PYX2, mode="bilinear", padding_mode="border", align_corners=True)


def _windowed(values_PCYX: Tensor, window: float) -> Tensor:
    """Weighted sum over the windows, as far as they lie within the slices."""
    channels, reach = values_PCYX.shape[1], round(REACH * window)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=values_PCYX.dtype) / window) ** 2)
    along_y = weights.reshape(1, 1, -1, 1).expand(channels, -1, -1, -1)
    for kernel, padding in ((along_y, (reach, 0)), (along_y.transpose(2, 3), (0, reach))):
        values_PCYX = F.conv2d(values_PCYX, kernel, padding=padding, groups=channels)
    around = torch.cat([values_PCYX[:1], values_PCYX[:-1]]) + torch.cat([values_PCYX[1:], values_PCYX[-1:]])
    return values_PCYX + NEIGHBOURS * around
