"""Preparation: from a case to what propagation, networks and patches work on.

The steps that training, prediction and everything else in `napari_rada.pipeline` share: the working grid, the
pseudo-labels, the volume that patches are cut from, the input of networks.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from napari_rada.data.box import box_selector, counted_part, showing
from napari_rada.data.intensity import intensity_range, to_unit_range
from napari_rada.data.working import WorkingCase, make_working_cases
from napari_rada.events import Listener, Stage, StageProgress
from napari_rada.inference.sliding import VolumeInput, blank_prior
from napari_rada.propagation import make_propagator
from napari_rada.propagation.regridding import Made, regridded
from napari_rada.settings import CombinedConfig
from napari_rada.training.volumes import Volume, cues_without, make_volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from napari_rada.config import RunConfig
    from napari_rada.control import RunControl
    from napari_rada.data.box import Box
    from napari_rada.data.case import Case
    from napari_rada.data.classes import ClassTable
    from napari_rada.propagation.base import PseudoLabels

PROPAGATION_MARGIN = 0.25
"""What a grid that is made for the propagation alone leaves around the annotated box, as a share of its sides."""
CLOSE_MARGIN = 0.35
"""The same around a single structure among several: few of the slices may go through its middle."""


class Work(NamedTuple):
    """A case, and what all steps that are done with it need."""

    case: Case
    classes: ClassTable
    config: RunConfig
    control: RunControl
    listener: Listener


def working_grids(work: Work, around: int | None = None) -> list[WorkingCase]:
    """Bring the case to the working grid; where that is asked for, in both alignments with its annotated slices.

    `around` is the label value of the only structure that the grid is cropped to.
    """
    data, way = work.config.data, work.config.propagation
    propagated_here = work.case.is_labelled and data.propagation_voxels is None
    return make_working_cases(
        work.case,
        work.classes,
        aligned=data.working_aligned and work.case.is_labelled,
        finer_voxels=way.flow.max_voxels if propagated_here and isinstance(way, CombinedConfig) else None,
        max_voxels=data.voxels_with(showing(work.case, around)),
        spacing=data.spacing,
        crop_margin=data.crop_margin,
        around=around,
        percentiles=data.percentiles,
        window=data.window,
    )


def image_in_box(work: Work, box: Box) -> NDArray[np.float32]:
    """Return a part of the scan on its own grid (z, y, x), its intensities mapped to 0..1 as on the working grid."""
    data = work.config.data
    counted = counted_part(work.case, data.crop_margin)
    low, high = intensity_range(work.case.image, data.percentiles, data.window, counted)
    return to_unit_range(work.case.image[box_selector(box)], low, high)


def own_grids(work: Work, around: int | None = None) -> list[WorkingCase]:
    """Bring the case to the grid on which it is propagated: the working grid, unless the settings ask for its own.

    With `around`, the label value of a structure, it is a grid in the box around that one, with a wider margin.
    """
    return working_grids(work._replace(config=own_config(work.config, close=around is not None)), around)


def own_config(config: RunConfig, *, close: bool = False) -> RunConfig:
    """Return the settings of the grid on which a case is propagated, or of one that is `close` around a structure."""
    voxels = config.data.propagation_voxels
    own: dict[str, object] = {}
    if voxels is not None:
        own = {"data.max_voxels": voxels, "data.crop_margin": PROPAGATION_MARGIN}
    if close:
        own["data.crop_margin"] = CLOSE_MARGIN
    if not own:
        return config
    return config.with_settings(own | {"data.spacing": None, "data.propagation_voxels": None})


def propagated(work: Work, grids: Sequence[WorkingCase], *, held_out: bool, focus: int | None = None) -> list[Made]:
    """Propagate the annotated slices on each of these grids of one box; opinions weigh what they do on the first.

    `focus` is the index of the only class that is wanted, so that less has to be computed; None for all.
    """
    found: list[Made] = []
    for number, working in enumerate(grids):
        on_progress = partial(tell_part, work.listener, Stage.PROPAGATE, number, len(grids), case=working.name)
        shared = found[0].pseudo.shared if found else None
        propagator = make_propagator(work.config.propagation, shared=shared, focus=focus)
        pseudo = propagator.propagate(working, held_out=held_out, control=work.control, on_progress=on_progress)
        found.append(Made(pseudo, working))
    return found


def tell_part(listener: Listener, stage: Stage, number: int, parts: int, done: int, total: int, case: str = "") -> None:
    """Tell the progress of one of several equal parts as that of the whole."""
    listener(StageProgress(stage, number * total + done, parts * total, case))


def _pseudo_labels(
    work: Work, grids: Sequence[WorkingCase], *, held_out: bool
) -> tuple[list[PseudoLabels], list[Made]]:
    """Propagate for networks that work on these grids; also what was made for that, on grids of the case's own."""
    if work.config.data.propagation_voxels is None:
        own = propagated(work, grids, held_out=held_out)
        return [made.pseudo for made in own], own
    own = propagated(work, own_grids(work), held_out=held_out)
    return [regridded(own, working, work.control) for working in grids], own


def training_volume(work: Work) -> tuple[WorkingCase, Volume]:
    """Prepare a case for training: on the working grid, and arranged for the sampler."""
    config = work.config
    work.control.check()
    work.listener(StageProgress(Stage.PREPARE, 0, 1, work.case.name))
    working = working_grids(work)[0]
    work.listener(StageProgress(Stage.PREPARE, 1, 1, work.case.name))
    pseudo = _pseudo_labels(work, [working], held_out=True)[0][0] if working.is_labelled else None
    return working, make_volume(working, pseudo, config.training.view_pairs, model=config.model)


def network_inputs(work: Work, grids: Sequence[WorkingCase]) -> tuple[list[VolumeInput], list[Made]]:
    """Input of the networks on each grid and, where needed, what the case's own annotated slices were propagated to."""
    model = work.config.model
    needed = model.completion or work.config.inference.blend < 1.0
    if not (needed and work.case.is_labelled):
        return [blank_prior(working.image, working.num_classes) for working in grids], []
    found, made = _pseudo_labels(work, grids, held_out=False)
    return [
        VolumeInput(working.image, pseudo.probability, cues_without(working, pseudo, None, model.architecture))
        for working, pseudo in zip(grids, found, strict=True)
    ], made
