"""Looking at a run before it is finished."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.engine import CENTRE, ball, ball_case, ball_image, tiny_config

from napari_rada import pipeline
from napari_rada.control import RunControl
from napari_rada.data.case import Case
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.data.working import make_working_case
from napari_rada.errors import InputError, Stopped
from napari_rada.training.checkpoint import load_checkpoint, save_weights
from napari_rada.training.preview import _coarse


@pytest.fixture(scope="module", params=[None, 3000], ids=["full grid", "coarse grid"])
def run(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run"
    size = 4096 if request.param else None
    pipeline.train([ball_case()], path, tiny_config(data__max_voxels=size))
    return path


def test_the_annotated_slices_are_drawn_without_having_been_seen(run):
    case, truth = ball_case(), ball()
    prediction = pipeline.preview(run, case, device="cpu")
    assert not prediction.mask[~case.known].any()
    assert prediction.disagreement is None
    assert prediction.provenance["iteration"] == 4
    for plane in case.annotated:
        found, wanted = prediction.mask[plane.selector()] > 0, truth[plane.selector()] > 0
        dice = 2 * (found & wanted).sum() / (found.sum() + wanted.sum())
        assert 0.7 < dice, plane


def test_it_is_no_copy_of_what_was_painted(run):
    wrong, slices = ball(), list(enumerate(CENTRE))
    wrong[CENTRE[0]] = 0
    wrong[CENTRE[0], :2, :2] = 1
    prediction = pipeline.preview(run, Case.create(ball_image(ball()), wrong, slices=slices), device="cpu")
    assert (prediction.mask[CENTRE[0]] > 0).sum() > 0.4 * (ball()[CENTRE[0]] > 0).sum()


def test_slices_of_different_views_in_one_plane_of_the_grid_are_neither_judged_nor_shown(tmp_path):
    """Of three neighbours on a grid of half the slices two share a plane; what one shows says what the other does."""
    case = Case.create(ball_image(ball()), ball(), slices=[(0, 9), (0, 10), (0, 11)])
    config = tiny_config(data__spacing=[2.0, 2.0, 2.0], data__aligned=False, inference__keep_size=True)
    result = pipeline.train([case], tmp_path / "run", config)
    assert result.dice is not None
    shown = pipeline.preview(tmp_path / "run", case, device="cpu").mask
    assert [bool(shown[index].any()) for index in (9, 10, 11)] in ([True, False, False], [False, False, True])


def test_a_slice_beside_the_box_lies_in_no_plane_of_the_grid():
    """Not even where copies of the border, put before the box, fill up its first plane."""
    case = ball_case()
    box = ((4, 0, 0), (16, 26, 24))
    working = replace(make_working_case(case, case.classes), box=box, factors=(2, 1, 1), padding=(1, 0, 0))
    assert [_coarse(AnnotatedSlice(0, index), working) for index in (3, 4, 5, 15, 16)] == [-1, 0, 1, 6, -1]


def test_neighbours_alone_train_without_a_held_out_figure(tmp_path):
    case = Case.create(ball_image(ball()), ball(), slices=[(0, 10), (0, 11)])
    config = tiny_config(data__spacing=[2.0, 2.0, 2.0], data__aligned=False, inference__keep_size=True)
    assert pipeline.train([case], tmp_path / "run", config).dice is None


def test_the_image_is_enough_for_a_case_of_the_run(run):
    np.testing.assert_array_equal(
        pipeline.preview(run, ball_case(labelled=False), device="cpu").mask,
        pipeline.preview(run, ball_case(), device="cpu").mask,
    )


def test_only_one_view_cannot_be_held_out(run):
    labels = ball()
    one = Case.create(ball_image(labels), labels, slices=[AnnotatedSlice(0, CENTRE[0])])
    with pytest.raises(InputError, match="at least two views"):
        pipeline.preview(run, one)
    with pytest.raises(InputError, match="at least two views"):
        pipeline.preview(run, ball_case(seed=9, labelled=False))


def test_a_stop_interrupts_it(run):
    control = RunControl()
    control.stop()
    with pytest.raises(Stopped):
        pipeline.preview(run, ball_case(), control=control)


def test_the_last_weights_can_be_asked_for(run):
    best, last = run / "checkpoints/best.pt", run / "checkpoints/last.pt"
    kept = best.read_bytes()
    checkpoint = load_checkpoint(last)
    save_weights(best, checkpoint.state, {name: 0 * values for name, values in checkpoint.model.items()})
    try:
        by_last = pipeline.predict(run, ball_case(), weights="last", device="cpu")
        by_best = pipeline.predict(run, ball_case(), device="cpu")
    finally:
        best.write_bytes(kept)
    assert not np.array_equal(by_last.probability, by_best.probability)
