import math

import torch

from napari_rada.training.losses import (
    cross_entropy_sums,
    cross_loss,
    entropy,
    soft_dice,
    soft_dice_sums,
    supervised,
    supervised_loss,
    supervised_sums,
    weighted_mean,
)


def random_inputs(classes=3):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, classes, 3, 4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.randint(classes, (2, 3, 4, 5), generator=generator)
    weight = torch.rand(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    weight[:, 0] = 0.0
    return logits, target, weight


def test_cross_entropy_of_even_odds_is_ln_c():
    logits = torch.zeros(1, 4, 2, 2, 2)
    target = torch.zeros(1, 2, 2, 2, dtype=torch.long)
    loss = weighted_mean(cross_entropy_sums(logits, target, torch.ones(1, 2, 2, 2)))
    assert math.isclose(loss.item(), math.log(4), rel_tol=1e-5)


def test_soft_dice_by_hand():
    # Two voxels, certain: one right, one wrong. Per class: overlap 1 or 0 of 1 + 1 or 1 + 1 voxels.
    logits = torch.tensor([[[[[50.0, 50.0]]], [[[-50.0, -50.0]]]]])
    target = torch.tensor([[[[0, 1]]]])
    loss = soft_dice(soft_dice_sums(logits, target, torch.ones(1, 1, 1, 2)), torch.tensor(2.0))
    assert math.isclose(loss.item(), 1 - (2 / 3 + 0) / 2, rel_tol=1e-4)


def test_a_perfect_prediction_costs_nothing():
    target = torch.tensor([[[[0, 1, 1]]]])
    logits = 60.0 * torch.nn.functional.one_hot(target, 2).movedim(-1, 1).float()
    assert supervised_loss(logits, target, torch.ones(1, 1, 1, 3)).item() < 1e-5


def test_ignored_voxels_add_exactly_nothing():
    logits, target, weight = random_inputs()
    value = supervised_loss(logits, target, weight)
    (gradient,) = torch.autograd.grad(value, logits)
    changed_logits = logits.detach().clone()
    changed_logits[:, :, 0] += 100.0 * torch.randn_like(changed_logits[:, :, 0])
    changed_logits.requires_grad_()
    changed_target = target.clone()
    changed_target[:, 0] = 2 - changed_target[:, 0]
    changed = supervised_loss(changed_logits, changed_target, weight)
    (changed_gradient,) = torch.autograd.grad(changed, changed_logits)
    assert torch.equal(value, changed)
    assert torch.equal(gradient[:, :, 1:], changed_gradient[:, :, 1:])
    assert not gradient[:, :, 0].any()
    assert not changed_gradient[:, :, 0].any()


def test_the_sums_of_parts_make_the_loss_of_the_whole():
    logits, target, weight = random_inputs()
    parts = [supervised_sums(logits[rows], target[rows], weight[rows]) for rows in ([0], [], [1])]
    torch.testing.assert_close(supervised(sum(parts)), supervised_loss(logits, target, weight))


def test_all_weights_zero_is_zero_loss():
    logits, target, weight = random_inputs()
    value = supervised_loss(logits, target, torch.zeros_like(weight))
    assert value.item() == 0.0
    (gradient,) = torch.autograd.grad(value, logits)
    assert not gradient.any()


def test_gradients_are_right():
    logits, target, weight = random_inputs()
    assert torch.autograd.gradcheck(lambda x: supervised_loss(x, target, weight), logits)


def test_no_gradient_reaches_the_teacher():
    student = torch.randn(1, 2, 2, 2, 2, requires_grad=True)
    teacher = torch.randn(1, 2, 2, 2, 2, requires_grad=True)
    cross_loss(student, teacher, torch.ones(1, 2, 2, 2, dtype=torch.bool)).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.any()


def test_entropy_runs_from_zero_to_ln_c():
    certain = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1, 1)
    even = torch.full((1, 3, 1, 1, 1), 1 / 3)
    assert abs(entropy(certain).item()) < 1e-4
    assert math.isclose(entropy(even).item(), math.log(3), rel_tol=1e-5)
