"""What one batch costs each network: the supervised and the cross-supervision loss (METHOD section 3).

Shape legend: N networks (3), B batch (first L labelled, then U unlabelled patches), C classes, S sums, D H W patch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from napari_rada.data.classes import UNKNOWN
from napari_rada.data.working import EMPTY
from napari_rada.training.losses import cross_sums, entropy, supervised, supervised_sums, weighted_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor

    from napari_rada.training.patches import Batch


class Knobs(NamedTuple):
    """The scheduled values of one iteration: trust α, teacher weight β, entropy threshold (nat), pseudo weight.

    In an iteration that is recorded they lie on the card, so that it can be repeated with others; `crossing` is not one
    of them: whether the networks teach each other decides what is computed.
    """

    alpha: float | Tensor
    beta: float | Tensor
    threshold: float | Tensor
    pseudo_weight: float | Tensor
    crossing: bool = True


class NetworkLoss(NamedTuple):
    """The losses of one network; `cross` has one entry per teacher, none when cross supervision is off."""

    supervised: Tensor
    cross: tuple[Tensor, ...]

    @property
    def taught(self) -> Tensor:
        """Sum over the teachers; 0 without any."""
        return sum(self.cross, torch.zeros_like(self.supervised))

    def total(self, beta: float | Tensor) -> Tensor:
        """(1 - 2β) supervised + β (cross 1 + cross 2); of fewer networks there are fewer teachers."""
        return (1.0 - len(self.cross) * beta) * self.supervised + beta * self.taught


class Summary(NamedTuple):
    """An iteration in numbers.

    Parameters
    ----------
    objective
        What is minimised.
    gradient
        Largest absolute value in any gradient; NaN or infinite if one of them is.
    supervised, cross
        Losses of each network; `cross` is the sum over its teachers.
    """

    objective: float
    gradient: float
    supervised: tuple[float, ...]
    cross: tuple[float, ...]

    @classmethod
    def read(cls, values: Tensor) -> Summary:
        """Read what `summarised` has put together; waits for a graphics card."""
        whole, gradient, *losses = values.tolist()
        return cls(whole, gradient, tuple(losses[::2]), tuple(losses[1::2]))


def objective(losses: Sequence[NetworkLoss], beta: float | Tensor) -> Tensor:
    """Return what is minimised: the sum of the networks' total losses."""
    return torch.stack([loss.total(beta) for loss in losses]).sum()


def summarised(losses: Sequence[NetworkLoss], beta: float | Tensor, parameters: Iterable[Tensor]) -> Tensor:
    """Put together what a `Summary` reads, in one tensor, from the losses and the gradients of the parameters."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    largest = torch.nn.utils.get_total_norm(gradients, torch.inf)
    each = [value for loss in losses for value in (loss.supervised, loss.taught)]
    return torch.stack([objective(losses, beta), largest.to(each[0].dtype), *each]).detach()


def itself(sums: Tensor) -> Tensor:
    """Return the sums of a batch that one process computes."""
    return sums


def network_losses(
    logits_NBCDHW: Tensor,
    batch: Batch,
    labelled: int,
    view_pairs: Sequence[tuple[int, int]],
    knobs: Knobs,
    uncertainty_NUDHW: Tensor | None,
    total: Callable[[Tensor], Tensor] = itself,
    first_taught: int | None = None,
) -> list[NetworkLoss]:
    """Return the losses of all networks; every output serves as student and as teacher of the other two.

    Parameters
    ----------
    labelled
        How many patches at the start of the batch are labelled.
    uncertainty_NUDHW
        Each network's entropy (nat) on the patches from `first_taught` on; None switches cross supervision off.
    total
        Adds the sums (N, S) of this batch to those of other processes, where they compute parts of the same batch.
    first_taught
        First patch in whose unannotated part the networks teach each other; None: the first unlabelled one.
    """
    taught, rows = labelled if first_taught is None else first_taught, []
    for network, logits_BCDHW in enumerate(logits_NBCDHW):
        target, weight = supervision(batch, labelled, network, view_pairs[network], knobs)
        sums = [supervised_sums(logits_BCDHW[:labelled], target, weight)]
        if uncertainty_NUDHW is not None:
            unknown_UDHW = batch.truth_BDHW[taught:] == UNKNOWN
            sums += [
                cross_sums(
                    logits_BCDHW[taught:],
                    logits_NBCDHW[teacher, taught:],
                    unknown_UDHW & (uncertainty_NUDHW[teacher] < knobs.threshold),
                )
                for teacher in range(len(logits_NBCDHW))
                if teacher != network
            ]
        rows.append(torch.cat(sums))
    own = 2 + 2 * logits_NBCDHW.shape[2]
    return [
        NetworkLoss(supervised(sums_S[:own]), tuple(weighted_mean(pair) for pair in sums_S[own:].view(-1, 2)))
        for sums_S in total(torch.stack(rows))
    ]


def supervision(
    batch: Batch, labelled: int, network: int, pair: tuple[int, int], knobs: Knobs
) -> tuple[Tensor, Tensor]:
    """Target class and weight of every voxel of the labelled patches, for one network.

    In the network's own pair of views, and in slices that show nothing, the truth counts 1. Everywhere else, the view
    that it is not taught included, its pseudo-label counts α^distance.
    """
    taught = (batch.views_BDHW[:labelled] & sum(1 << view for view in (*pair, EMPTY))) != 0
    distance = batch.distance_BNDHW[:labelled, network]
    trust = torch.where(torch.isfinite(distance), knobs.alpha**distance, 0.0) * knobs.pseudo_weight
    target = torch.where(taught, batch.truth_BDHW[:labelled], batch.pseudo_BNDHW[:labelled, network])
    return target, torch.where(taught, 1.0, trust)


def clean_uncertainty(logits_NBCDHW: Tensor, first: int) -> Tensor:
    """Entropy of each network's own output on the patches from `first` on, (N, U, D, H, W), without gradient."""
    taught = torch.softmax(logits_NBCDHW[:, first:].detach(), dim=2)
    return torch.stack([entropy(probability) for probability in taught])
