import math

import numpy as np
import pytest
import torch

from napari_rada.data.classes import UNKNOWN
from napari_rada.data.working import EMPTY
from napari_rada.training.losses import supervised_loss
from napari_rada.training.objective import Knobs, clean_uncertainty, network_losses, supervision
from napari_rada.training.patches import Batch

PAIRS = ((2, 1), (0, 2), (1, 0))
SHAPE = (4, 4, 4)
KNOBS = Knobs(alpha=0.9, beta=0.05, threshold=10.0, pseudo_weight=1.0)


def make_batch(seed=0):
    """One labelled and one unlabelled patch; each view annotates one plane of the labelled one."""
    rng = np.random.default_rng(seed)
    truth = torch.full((2, *SHAPE), -1)
    views = torch.zeros((2, *SHAPE), dtype=torch.uint8)
    labels = torch.from_numpy(rng.integers(0, 2, SHAPE))
    for view, index in enumerate((1, 2, 3)):
        plane = [slice(None)] * 3
        plane[view] = index
        truth[(0, *plane)] = labels[tuple(plane)]
        views[(0, *plane)] |= 1 << view
    return Batch(
        image_BDHW=torch.from_numpy(rng.random((2, *SHAPE), dtype=np.float32)),
        truth_BDHW=truth,
        views_BDHW=views,
        pseudo_BNDHW=torch.from_numpy(rng.integers(0, 2, (2, 3, *SHAPE))),
        distance_BNDHW=torch.from_numpy(rng.uniform(1, 5, (2, 3, *SHAPE)).astype(np.float32)),
        prior_BCDHW=torch.full((2, 2, *SHAPE), 0.5),
        cues_BJDHW=torch.zeros((2, 1, *SHAPE)),
    )


def make_logits(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 2, 2, *SHAPE, generator=generator, requires_grad=True)


def test_truth_counts_one_in_the_own_pair_and_pseudo_labels_elsewhere():
    batch = make_batch()
    target, weight = supervision(batch, 1, 0, PAIRS[0], KNOBS)
    own = (batch.views_BDHW[:1] & 0b110) != 0
    assert torch.equal(target[own], batch.truth_BDHW[:1][own])
    assert (weight[own] == 1).all()
    assert torch.equal(target[~own], batch.pseudo_BNDHW[:1, 0][~own])
    torch.testing.assert_close(weight[~own], 0.9 ** batch.distance_BNDHW[:1, 0][~own])


def test_slices_that_show_nothing_are_truth_for_every_network():
    batch = make_batch()
    batch.views_BDHW[0, 0] |= 1 << EMPTY
    batch.truth_BDHW[0, 0] = 0
    for network, pair in enumerate(PAIRS):
        target, weight = supervision(batch, 1, network, pair, KNOBS)
        assert not target[0, 0].any()
        assert (weight[0, 0] == 1).all()


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_pseudo_labels_that_do_not_exist_weigh_nothing(alpha):
    batch = make_batch()
    batch = batch._replace(distance_BNDHW=torch.full_like(batch.distance_BNDHW, torch.inf))
    _, weight = supervision(batch, 1, 0, PAIRS[0], KNOBS._replace(alpha=alpha))
    own = (batch.views_BDHW[:1] & 0b110) != 0
    assert not weight[~own].any()


def test_the_truth_of_the_view_a_network_is_not_taught_moves_nothing():
    batch, logits = make_batch(), make_logits()
    unseen = batch.views_BDHW == 0b001
    changed = batch._replace(truth_BDHW=torch.where(unseen, 1 - batch.truth_BDHW, batch.truth_BDHW))
    before = network_losses(logits, batch, 1, PAIRS, KNOBS, None)
    after = network_losses(logits, changed, 1, PAIRS, KNOBS, None)
    assert torch.equal(before[0].supervised, after[0].supervised)
    assert not torch.equal(before[1].supervised, after[1].supervised)


def test_labels_in_unannotated_voxels_change_no_loss_and_no_gradient():
    batch, logits = make_batch(), make_logits()
    silent = KNOBS._replace(pseudo_weight=0.0)
    unknown = batch.truth_BDHW[:1] < 0
    pseudo = batch.pseudo_BNDHW.clone()
    pseudo[0, :, unknown[0]] = 1 - pseudo[0, :, unknown[0]]
    results = []
    for variant in (batch, batch._replace(pseudo_BNDHW=pseudo)):
        losses = network_losses(logits, variant, 1, PAIRS, silent, clean_uncertainty(logits, 1))
        total = sum(loss.total(silent.beta) for loss in losses)
        results.append((total, *torch.autograd.grad(total, logits)))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    # Unknown voxels of the labelled patch get no gradient at all.
    assert not results[0][1][:, 0].movedim(1, -1)[:, unknown[0]].any()


def test_without_cross_terms_the_step_is_three_supervised_steps():
    batch, logits = make_batch(), make_logits()
    losses = network_losses(logits, batch, 1, PAIRS, KNOBS._replace(beta=0.0), None)
    total = sum(loss.total(0.0) for loss in losses)
    (joint,) = torch.autograd.grad(total, logits)
    for network, pair in enumerate(PAIRS):
        alone = logits.detach()[network].clone().requires_grad_()
        target, weight = supervision(batch, 1, network, pair, KNOBS)
        loss = supervised_loss(alone[:1], target, weight)
        assert torch.equal(loss, losses[network].supervised)
        (gradient,) = torch.autograd.grad(loss, alone)
        assert torch.equal(gradient, joint[network])


def test_every_network_is_taught_by_the_other_two():
    batch, logits = make_batch(), make_logits()
    losses = network_losses(logits, batch, 1, PAIRS, KNOBS, clean_uncertainty(logits, 1))
    assert [len(loss.cross) for loss in losses] == [2, 2, 2]
    expected = torch.nn.functional.cross_entropy(logits[0, 1:], logits[1, 1:].argmax(1))
    torch.testing.assert_close(losses[0].cross[0], expected)


def test_uncertain_teachers_teach_nothing():
    batch, logits = make_batch(), make_logits()
    uncertain = torch.full((3, 1, *SHAPE), math.log(2))
    losses = network_losses(logits, batch, 1, PAIRS, KNOBS._replace(threshold=0.6), uncertain)
    assert all(term.item() == 0 for loss in losses for term in loss.cross)


def test_who_is_unsure_teaches_nothing_and_learns_all_the_same():
    batch, logits = make_batch(), make_logits()
    uncertainty = torch.zeros((3, 1, *SHAPE))
    uncertainty[0] = math.log(2)
    losses = network_losses(logits, batch, 1, PAIRS, KNOBS._replace(threshold=0.6), uncertainty)
    taught = [[term.item() > 0 for term in loss.cross] for loss in losses]
    assert taught == [[True, True], [False, True], [False, True]]


def test_annotated_voxels_take_no_part_in_cross_supervision():
    batch, logits = make_batch(), make_logits()
    annotated = batch._replace(truth_BDHW=torch.zeros_like(batch.truth_BDHW))
    losses = network_losses(logits, annotated, 1, PAIRS, KNOBS, clean_uncertainty(logits, 1))
    assert all(term.item() == 0 for loss in losses for term in loss.cross)


def labelled_alone():
    """A batch of labelled patches alone, its logits, and where nobody annotated."""
    batch = make_batch()
    batch = Batch(*(part[:1] for part in batch))
    return batch, make_logits()[:, :1].detach().requires_grad_(), batch.truth_BDHW == UNKNOWN


def test_on_labelled_patches_networks_teach_each_other_where_nobody_annotated():
    batch, logits, unknown = labelled_alone()
    losses = network_losses(logits, batch, 1, PAIRS, KNOBS, clean_uncertainty(logits, 0), first_taught=0)
    assert [len(loss.cross) for loss in losses] == [2, 2, 2]
    voxels = logits.movedim(2, -1)[:, unknown]
    for student, teachers in enumerate(((1, 2), (0, 2), (0, 1))):
        for found, teacher in zip(losses[student].cross, teachers, strict=True):
            expected = torch.nn.functional.cross_entropy(voxels[student], voxels[teacher].argmax(1))
            torch.testing.assert_close(found, expected)


def test_on_labelled_patches_annotated_voxels_take_no_part_in_cross_supervision():
    batch, logits, unknown = labelled_alone()
    losses = network_losses(logits, batch, 1, PAIRS, KNOBS, clean_uncertainty(logits, 0), first_taught=0)
    cross = torch.stack([term for loss in losses for term in loss.cross])
    (gradient,) = torch.autograd.grad(cross.sum(), logits)
    by_voxel = gradient.movedim(2, -1)
    assert not by_voxel[:, ~unknown].any()
    assert by_voxel[:, unknown].any(dim=-1).all()
    elsewhere = torch.where(unknown[:, None], logits.detach(), -logits.detach())
    losses = network_losses(elsewhere, batch, 1, PAIRS, KNOBS, clean_uncertainty(elsewhere, 0), first_taught=0)
    assert torch.equal(cross, torch.stack([term for loss in losses for term in loss.cross]))


def test_without_voxels_to_teach_the_cross_loss_is_nothing():
    batch, logits, _ = labelled_alone()
    annotated = batch._replace(truth_BDHW=torch.zeros_like(batch.truth_BDHW))
    losses = network_losses(logits, annotated, 1, PAIRS, KNOBS, clean_uncertainty(logits, 0), first_taught=0)
    assert all(term.item() == 0 for loss in losses for term in loss.cross)


def test_unlabelled_patches_are_taught_beside_the_labelled_ones():
    batch, logits = make_batch(), make_logits()
    unknown = batch.truth_BDHW == UNKNOWN
    losses = network_losses(logits, batch, 1, PAIRS, KNOBS, clean_uncertainty(logits, 0), first_taught=0)
    voxels = logits.movedim(2, -1)[:, unknown]
    expected = torch.nn.functional.cross_entropy(voxels[0], voxels[1].argmax(1))
    torch.testing.assert_close(losses[0].cross[0], expected)
    before = network_losses(logits, batch, 1, PAIRS, KNOBS, clean_uncertainty(logits, 1))
    for with_labelled, without in zip(losses, before, strict=True):
        assert torch.equal(with_labelled.supervised, without.supervised)


def test_fewer_networks_have_fewer_teachers():
    batch, logits = make_batch(), make_logits()
    whole = network_losses(logits, batch, 1, PAIRS, KNOBS, clean_uncertainty(logits, 1))
    two = network_losses(logits[:2], batch, 1, PAIRS, KNOBS, clean_uncertainty(logits[:2], 1))
    (one,) = network_losses(logits[:1], batch, 1, PAIRS, KNOBS, clean_uncertainty(logits[:1], 1))
    assert torch.equal(two[0].cross[0], whole[0].cross[0])
    torch.testing.assert_close(two[0].total(0.1), 0.9 * two[0].supervised + 0.1 * two[0].cross[0])
    torch.testing.assert_close(whole[0].total(0.1), 0.8 * whole[0].supervised + 0.1 * sum(whole[0].cross))
    assert torch.equal(one.total(0.1), whole[0].supervised)
