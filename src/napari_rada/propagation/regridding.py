"""Bringing what was propagated on other working grids of a case to one that is wanted, often coarser.

On the grid that several scans share, one annotated structure has few voxels; propagated on a grid of its own it comes
out better, and what is averaged from there is not too large, as labels by majority on a coarse grid are. What was
found on grids in two alignments with the annotated slices comes together on the scan's own voxels.

Shape legend: C classes or other channels, V views, Z Y X a working grid, z y x the full grid, along (z, y, x).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_rada.data.box import box_selector, box_shape, overlap
from napari_rada.data.resampling import block_mean, mean_of, slabs
from napari_rada.propagation.base import PseudoLabels, distance_to_slices, stamped, truth_without
from napari_rada.propagation.stacking import pooled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_rada.control import RunControl
    from napari_rada.data.box import Box
    from napari_rada.data.working import WorkingCase
    from napari_rada.propagation.base import Probability

Planes: TypeAlias = Callable[[slice], NDArray[np.float32]]
"""Makes some planes along z of a map (C, z, y, x) on the scan's own voxels inside a box."""


class Made(NamedTuple):
    """Pseudo-labels, and the case on the grid that they were made on; beyond its box everything is background."""

    pseudo: PseudoLabels
    case: WorkingCase


def in_box(parts: Sequence[Made], control: RunControl) -> Probability:
    """Return the probability (C, z, y, x) of a case on its own voxels inside the box of the grids it was made on.

    The mean over the grids; where several opinions were pooled, the mean of each opinion, pooled anew: what is coarse
    in one does not blur what is fine in another. A part of the box is done at a time, so that no opinion exists whole.

    Parameters
    ----------
    parts
        One or more, made in the same way on grids of one box.

    Raises
    ------
    Stopped
        If a stop was requested.
    """
    shape, planes_of = box_shape(parts[0].case.box), _together(parts)
    found = np.empty((len(parts[0].pseudo.probability), *shape), dtype=np.float32)
    for planes in slabs(shape):
        control.check()
        found[:, planes] = planes_of(planes)
    return found


def placed(inside: Probability, made_on: WorkingCase, wanted: WorkingCase) -> Probability:
    """Bring a probability (C, z, y, x) from the box of one grid to that of another; beyond it all is background."""
    if made_on.box == wanted.box:
        return inside
    return made_on.box_to_full(inside)[(slice(None), *box_selector(wanted.box))]


def regridded(parts: Sequence[Made], wanted: WorkingCase, control: RunControl) -> PseudoLabels:
    """Return the pseudo-labels of a case, made on other grids of it, on the grid that is wanted.

    Probabilities are those of `in_box`, those held out the mean over the grids; both are averaged over the voxels of
    the wanted one, a part of the scan at a time. Annotated voxels are as they are annotated there.

    Parameters
    ----------
    parts
        One or more, made in the same way. Of a view that could be held out on some of the grids only, those count.
    wanted
        The case on the grid that is wanted.

    Raises
    ------
    Stopped
        If a stop was requested.
    """

    def brought(planes_of: Planes, outside: Sequence[float]) -> Probability:
        return _averaged(planes_of, parts[0].case.box, wanted, outside, control)

    first = parts[0].pseudo
    background = [1.0] + [0.0] * (len(first.probability) - 1)
    probability = stamped(brought(_together(parts), background), wanted.truth)
    held_out: list[Probability | None] = []
    for view in range(len(first.held_out)):
        known = [(fold, case) for pseudo, case in parts if (fold := pseudo.held_out[view]) is not None]
        without = stamped(brought(_mean(known), background), truth_without(wanted, view)) if known else None
        held_out.append(without)
    labels = probability.argmax(axis=0)[None]
    if len(first.labels) > 1:
        views = range(len(first.labels))
        opinions = ([(_opinion(pseudo, view), case) for pseudo, case in parts] for view in views)
        labels = np.stack([brought(_mean(opinion), background).argmax(axis=0) for opinion in opinions])
    doubts = [(doubt[None], case) for pseudo, case in parts if (doubt := pseudo.disagreement) is not None]
    return PseudoLabels(
        first.method,
        probability,
        labels.astype(np.int16),
        distance_to_slices(wanted),
        tuple(held_out),
        brought(_mean(doubts), [0.0])[0] if doubts else None,
    )


def _opinion(pseudo: PseudoLabels, view: int) -> Probability:
    """Labels of one view as probabilities (C, Z, Y, X)."""
    classes = np.arange(len(pseudo.probability))[:, None, None, None]
    return np.asarray(pseudo.labels[view] == classes, dtype=np.float32)


def _together(parts: Sequence[Made]) -> Planes:
    """Return what makes some planes of what `in_box` returns."""
    shared = parts[0].pseudo.shared
    if shared is None:
        return _mean([(pseudo.probability, case) for pseudo, case in parts])
    pool = shared.pools[None]
    same = [dict.fromkeys(opinions) for opinions in zip(*(pseudo.opinions for pseudo, _ in parts), strict=True)]
    kinds = [_mean([(one.probability, one.case) for one in opinions]) for opinions in same]
    return lambda planes: pooled((planes_of(planes) for planes_of in kinds), pool)


def _mean(found: Sequence[tuple[NDArray[np.float32], WorkingCase]]) -> Planes:
    """Return what makes some planes of the mean of maps (C, Z, Y, X) on grids of one box."""
    return lambda planes: mean_of(case.planes_in_box(values, planes) for values, case in found)


def _averaged(
    planes_of: Planes, made_on: Box, wanted: WorkingCase, outside: Sequence[float], control: RunControl
) -> NDArray[np.float32]:
    """Average a map in one box over the voxels of the wanted grid (C, Z, Y, X), a part along z at a time.

    Parameters
    ----------
    outside
        What the map is beyond its box, by channel.
    """
    found = np.empty((len(outside), *wanted.shape), dtype=np.float32)
    length, rows, columns = box_shape(wanted.box)
    factor = wanted.factors[0]
    for part in slabs((wanted.shape[0], factor * rows, columns)):
        control.check()
        wide = np.arange(part.start * factor, part.stop * factor) - wanted.padding[0]
        inside = np.clip(wide, 0, length - 1)  # copies of the border fill up the first and the last blocks
        there = _across(planes_of, made_on, wanted.box, slice(int(inside[0]), int(inside[-1]) + 1), outside)
        for one, values in zip(found, there, strict=True):
            one[part] = block_mean(values[inside - inside[0]], wanted.factors, (0, *wanted.padding[1:]))
    return found


def _across(
    planes_of: Planes, made_on: Box, wanted: Box, planes: slice, outside: Sequence[float]
) -> NDArray[np.float32]:
    """Return some planes of another box (C, z, y, x) of a map in one box."""
    (start, *low), (_, *high) = wanted
    part = (start + planes.start, low[0], low[1]), (start + planes.stop, high[0], high[1])
    there = np.empty((len(outside), *box_shape(part)), dtype=np.float32)
    there[:] = np.asarray(outside, dtype=np.float32)[:, None, None, None]
    inside, here = overlap(made_on, part)
    if inside[0].start < inside[0].stop:
        there[(slice(None), *here)] = planes_of(inside[0])[(slice(None), slice(None), *inside[1:])]
    return there
