"""What a completing network sees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.propagation.scenes import CENTRE, THREE, ellipsoids, redrawn, scan, working

from napari_rada.models.completer import CUES, LOGIT_LIMIT
from napari_rada.propagation.base import truth_without
from napari_rada.propagation.cues import CueMaker, likelihood_ratio, propagation_logit


def cue(cues: np.ndarray, name: str) -> np.ndarray:
    return cues[CUES.index(name)]


@pytest.fixture
def two_classes():
    labels = ellipsoids()
    return working(scan(labels), labels), labels


def test_there_is_one_channel_per_name_and_all_stay_within_one(two_classes):
    case, labels = two_classes
    cues = CueMaker(case, case.truth, case.slices).of_class(1, (labels == 1).astype(np.float32))
    assert cues.shape == (len(CUES), *case.shape)
    assert cues.dtype == np.float32
    assert np.abs(cues).max() <= 1.0


def test_truth_is_plus_and_minus_one_in_the_slices_and_zero_elsewhere(two_classes):
    case, labels = two_classes
    truth = cue(CueMaker(case, case.truth, case.slices).of_class(2, np.zeros(case.shape, np.float32)), "truth")
    assert (truth[CENTRE[0]] == np.where(labels[CENTRE[0]] == 2, 1, -1)).all()
    assert truth[0, 0, 0] == 0


def test_inside_the_hull_every_outline_agrees(two_classes):
    case, labels = two_classes
    hull = cue(CueMaker(case, case.truth, case.slices).of_class(1, np.zeros(case.shape, np.float32)), "hull")
    silhouettes = [(labels == 1).take(index, axis=axis) for axis, index in THREE]
    inside = silhouettes[0][None] & silhouettes[1][:, None] & silhouettes[2][:, :, None]
    assert ((hull > 0) == inside).all()


def test_between_two_parallel_slices_the_outline_is_interpolated():
    labels = np.zeros((20, 24, 24), np.uint16)
    labels[4, 8:16, 8:16] = 1
    labels[16, 4:20, 4:20] = 1
    case = working(scan(labels), labels, slices=[(0, 4), (0, 16)])
    slices = (tuple(plane for group in case.slices for plane in group), (), ())  # one view holds both
    mean = cue(CueMaker(case, case.truth, slices).of_class(1, np.zeros(case.shape, np.float32)), "mean outline")
    widths = [(mean[z, 12] > 0).sum() for z in (0, 4, 10, 16, 19)]
    assert widths[0] == widths[1] == 8
    assert widths[3] == widths[4] == 16
    assert widths[1] < widths[2] < widths[3]


def test_what_is_held_out_leaves_no_trace(two_classes):
    case, labels = two_classes
    changed = working(scan(labels), redrawn(labels, 0))  # another annotation in the view that is held out
    probability = np.zeros(case.shape, np.float32)
    seen = [CueMaker(c, truth_without(c, 0), ((), *c.slices[1:])).of_class(1, probability) for c in (case, changed)]
    assert np.array_equal(*seen)


def test_an_image_is_smoothed_by_millimetres():
    labels = ellipsoids()
    z, y, x = (side // 2 for side in labels.shape)
    spike = np.zeros(labels.shape, np.float32)
    spike[z, y, x] = 1.0
    case = replace(working(scan(labels), labels, THREE, (4.0, 1.0, 1.0)), image=spike)
    smooth = CueMaker(case, case.truth, case.slices)._smooth
    assert smooth[z + 1, y, x] < 0.1 * smooth[z, y + 1, x]


def test_likelihood_tells_the_classes_intensities_apart():
    image = np.concatenate([np.full(500, 0.2), np.full(500, 0.8)]).astype(np.float32)
    inside = image > 0.5
    ratio = likelihood_ratio(image, inside, ~inside)
    assert ratio[inside].min() > 0.5
    assert ratio[~inside].max() < -0.5


def test_log_odds_are_finite_and_limited():
    logit = propagation_logit(np.array([0.0, 0.5, 1.0], np.float32))
    assert logit == pytest.approx([-LOGIT_LIMIT, 0.0, LOGIT_LIMIT], abs=1e-4)
