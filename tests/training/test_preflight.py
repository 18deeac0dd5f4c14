"""Checks before a run."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.engine import CENTRE, ball, ball_case, ball_image, tiny_config
from torch.nn.modules.module import register_module_forward_pre_hook

from napari_rada.data.case import Case
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import ConfigError, InputError
from napari_rada.models.triple_view import TripleViewModel
from napari_rada.training import preflight as preflights
from napari_rada.training.preflight import preflight, seconds_per_iteration


def test_a_good_case_has_no_hints():
    found = preflight([ball_case()], tiny_config())
    assert found.hints == ()
    assert found.memory.fits
    assert found.seconds > 0


def test_an_outline_that_was_not_filled_is_told():
    case = ball_case()
    labels = case.labels.copy()
    labels[CENTRE[0]] &= ball(radius=5.0)[CENTRE[0]] ^ 1
    found = preflight([replace(case, labels=labels)], tiny_config())
    assert [hint.split(";")[0] for hint in found.hints] == ["ball: label 1 is a closed outline in axial slice 10"]


def test_structures_that_are_many_are_told(monkeypatch):
    monkeypatch.setattr("napari_rada.data.slips.USUAL", 0)
    (hint,) = preflight([ball_case()], tiny_config()).hints
    assert hint.startswith("ball: 1 structures are annotated")


def test_a_time_budget_is_the_time():
    assert preflight([ball_case()], tiny_config(training__minutes=3)).seconds == 180


def test_more_work_takes_longer():
    small = seconds_per_iteration(2, tiny_config())
    large = seconds_per_iteration(2, tiny_config(training__patch=[32, 32, 32], model__filters=16))
    assert large > 3 * small


def test_both_halves_of_self_training_count(monkeypatch):
    def patches(_classes, config):
        return config.training.labelled_patches + config.training.unlabelled_patches

    monkeypatch.setattr("napari_rada.training.preflight.seconds_per_iteration", patches)
    config = tiny_config(training__labelled_patches=2)
    scans = [ball_case(), ball_case("bare", labelled=False)]
    assert preflight(scans, config).seconds == 4 * 2 + 4 * 3
    assert preflight(scans, config.for_cohort().with_settings({"training.self_training": False})).seconds == 4 * 3
    assert preflight([ball_case(), ball_case("other")], config).seconds == 4 * 3


def test_noisy_passes_on_labelled_patches_take_longer():
    taught = {"training__unlabelled_patches": 0, "training__cross__noisy_passes": 16}
    without, on_labelled = (
        seconds_per_iteration(2, tiny_config(**taught, training__cross__on_labelled=asked)) for asked in (False, True)
    )
    assert on_labelled > 1.5 * without


def test_it_is_timed_on_the_threads_of_the_run(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    before, seen = torch.get_num_threads(), set()
    hook = register_module_forward_pre_hook(lambda *_: seen.add(torch.get_num_threads()))
    try:
        seconds_per_iteration(2, tiny_config(threads=before + 1))
    finally:
        hook.remove()
    assert seen == {before + 1}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("classes", [2, 4])
def test_completers_are_timed_with_their_cues(classes):
    assert seconds_per_iteration(classes, tiny_config(model__architecture="completer")) > 0


def test_missing_directions_and_empty_slices_are_told():
    labels = ball()
    slices = [AnnotatedSlice(0, CENTRE[0]), AnnotatedSlice(0, 0)]
    found = preflight([Case.create(ball_image(labels), labels, slices=slices, name="scan")], tiny_config())
    assert found.hints == (
        "scan has no annotated coronal and no sagittal slice; one in every direction is best.",
        "scan has 1 empty annotated slice: nothing is there.",
    )


@pytest.mark.parametrize("patches", [0, 1])
def test_scans_that_are_left_out_are_told_and_need_no_memory(patches):
    config = tiny_config(training__unlabelled_patches=patches)
    other = Case.create(np.random.default_rng(0).random((64, 64, 64), np.float32), name="other")
    found, alone = preflight([ball_case(), other], config), preflight([ball_case()], config)
    if patches:
        assert found.hints == ()
        assert found.memory.volumes > alone.memory.volumes
    else:
        assert found.hints[0].startswith("1 scan without annotated slices is left out of training; ")


def test_what_cannot_start_is_refused():
    with pytest.raises(InputError, match="No case has annotated slices"):
        preflight([ball_case(labelled=False)], tiny_config())
    with pytest.raises(ConfigError):
        preflight([ball_case()], tiny_config(device="cuda:99"))


@pytest.mark.parametrize(("kind", "waited"), [("cpu", []), ("cuda", ["cuda"]), ("mps", ["mps"])])
def test_a_graphics_card_is_waited_for_before_the_clock_is_read(monkeypatch, kind, waited):
    found = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: found.append("cuda"))
    monkeypatch.setattr(torch.mps, "synchronize", lambda: found.append("mps"))
    preflights._now(torch.device(kind))
    assert found == waited


class Tape:
    """Records by keeping what there is to compute, without a card."""

    def __init__(self, device, networks):
        self.recorded = []

    def side_by_side(self, model):
        return model

    def __call__(self, compute):
        assert compute not in self.recorded
        self.recorded.append(compute)
        return None, compute


@pytest.mark.parametrize("recorded", [False, True])
def test_on_a_card_a_whole_step_is_timed_with_its_noisy_passes(monkeypatch, recorded):
    monkeypatch.setattr(preflights, "CudaGraphs", Tape)
    clock = iter(range(100))
    monkeypatch.setattr(preflights, "_now", lambda device: float(next(clock)))
    config = tiny_config()
    model, asked = TripleViewModel(2, config.model), []
    model.register_forward_hook(lambda module, inputs, output: asked.append(len(inputs[0].image_BDHW)))
    passes = preflights._Passes(preflights._blank(model, config, 3, (16, 16, 16), torch.device("cpu")), mixed=False)
    assert preflights._seconds_on_card(model, passes, 1.5, recorded=recorded) == 1.0 + 1.5
    assert set(asked) == {3}
