"""Complete annotated slices without training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_rada.assembly import assembled, tidied
from napari_rada.closeups import propagated_closely
from napari_rada.config import as_config
from napari_rada.control import RunControl
from napari_rada.data.box import told_cut_short
from napari_rada.data.case import Case, check_trainable, one_case
from napari_rada.data.slips import told_many, told_slips
from napari_rada.events import Listener, ignore, tell
from napari_rada.inference.cleanup import CleanUp
from napari_rada.inference.ensemble import Inside, mean_disagreement
from napari_rada.memory import shortage_explained
from napari_rada.models.device import computing, undisturbed
from napari_rada.preparation import Work, own_grids, propagated

if TYPE_CHECKING:
    from napari_rada.config import RunConfig
    from napari_rada.prediction import Prediction


@shortage_explained
@undisturbed()
def propagate(
    case: Case, config: RunConfig | str | None = None, *, control: RunControl | None = None, listener: Listener = ignore
) -> Prediction:
    """Complete the annotated slices of a case to a volume, without training: seconds.

    Parameters
    ----------
    config
        As for `train`. The groups `data`, `propagation` and `inference` count; nothing is trained.

    Raises
    ------
    InputError
        If the case has no annotated slices, or they hold one class only.
    Stopped
        If a stop was requested.
    """
    config = as_config(config)
    control = control or RunControl()
    case = one_case(case)
    classes = check_trainable([case])
    tell(listener, told_many(case))
    tell(listener, told_cut_short(case, config.data.crop_margin), *told_slips(case))
    work = Work(case, classes, config, control, listener)
    with computing(config.threads):
        found = propagated(work, own_grids(work), held_out=False)
        doubt = mean_disagreement([(working, pseudo.disagreement) for pseudo, working in found])
        inside = Inside(found[0].case, propagated_closely(work, found), doubt)
        prediction = assembled(work, inside, {"method": f"propagation: {found[0].pseudo.method}"})
    return tidied(prediction, CleanUp(), case, config)
