"""Methods of other packages, each with one setting for all data sets. Most are optional to install."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from skimage.segmentation import random_walker

from napari_rada.data.case import Case, check_trainable
from napari_rada.data.classes import UNKNOWN
from napari_rada.data.working import make_working_case
from napari_rada.errors import InputError
from napari_rada.evaluation.benchmark.biomedisa import Biomedisa
from napari_rada.evaluation.benchmark.contours import ContourInterpolation
from napari_rada.evaluation.benchmark.methods import Conditions, Method, Segmentation
from napari_rada.evaluation.benchmark.nnunet import NnUNet, make_nnunet
from napari_rada.events import Listener, ignore
from napari_rada.inference.ensemble import Part, assemble, averaged

if TYPE_CHECKING:
    from napari_rada.control import RunControl


class RandomWalker:
    """scikit-image's random walker, seeded by the annotated slices.

    Intensities are brought to 0..1 as for every method here, the grid to at most 600,000 voxels by halving the finest
    axis; edges weigh exp(-beta g²), whatever the spacing.
    """

    name = "random-walker"
    seeded = False
    max_voxels = 600_000
    beta = 300.0
    mode = "cg_j"

    def describe(self) -> dict[str, Any]:
        """Return the settings."""
        return {"method": self.name, "max_voxels": self.max_voxels, "beta": self.beta, "mode": self.mode}

    def check(self) -> None:
        """Need nothing that is not installed with this package."""

    def segment(
        self, case: Case, conditions: Conditions, *, control: RunControl, listener: Listener = ignore
    ) -> Segmentation:
        """Solve for the probability of every class; it cannot be stopped half-way."""
        control.check()
        classes = check_trainable([case])
        working = make_working_case(
            case,
            classes,
            max_voxels=self.max_voxels,
            whole=True,
            percentiles=(1.0, 99.0),
            window=conditions.window,
        )
        seeds = np.where(working.truth == UNKNOWN, 0, working.truth.astype(np.int32) + 1)
        present = np.unique(seeds[seeds > 0]) - 1
        found = random_walker(
            working.image, seeds, beta=self.beta, mode=self.mode, tol=1e-3, prob_tol=1.0, return_full_prob=True
        )
        probability = np.zeros((len(classes), *working.shape), dtype=np.float32)
        probability[present] = found
        done = assemble(case, classes, averaged([Part(working, probability)]), keep_annotated=True, provenance={})
        return Segmentation(done.mask)


_ALL: tuple[Method, ...] = (RandomWalker(), ContourInterpolation(), NnUNet(), Biomedisa())
PEERS: dict[str, Method] = {method.name: method for method in _ALL}
PEER_STAGES = ("Nmin",)
"""Of nnU-Net alone: minutes of training."""


def make_peer(name: str) -> Method | None:
    """Return a peer by its name, nnU-Net also with minutes (``nnunet/10min``); None if there is none.

    Raises
    ------
    InputError
        If the peer has no such stage.
    """
    base, *stages = name.split("/")
    if base == "nnunet":
        return make_nnunet(name)
    if base in PEERS and stages:
        raise InputError(f"{base} has no stage {', '.join(stages)}; name it alone.")
    return PEERS.get(base)
