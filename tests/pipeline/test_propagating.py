"""Propagation as the API, the command line and the viewer call it."""

from functools import partial

import numpy as np
import pytest
from scipy import ndimage
from tests.engine import CENTRE, ball, ball_case, ball_image, dice, tiny_config

from napari_rada import pipeline
from napari_rada.control import RunControl
from napari_rada.data.box import box_selector
from napari_rada.data.case import Case, check_trainable
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import InputError
from napari_rada.events import Stage, StageProgress
from napari_rada.inference import ensemble
from napari_rada.inference.edges import follow_edges
from napari_rada.inference.ensemble import Part, assemble, averaged
from napari_rada.preparation import Work, image_in_box, propagated, working_grids


def test_propagation_needs_no_training():
    prediction = pipeline.propagate(ball_case(), tiny_config(propagation__method="combined"))
    assert dice(prediction.mask, ball()) > 0.85
    assert prediction.disagreement is not None  # of random walker and completer: where it guesses
    assert 0 <= prediction.disagreement.min() <= prediction.disagreement.max() <= 1
    np.testing.assert_allclose(prediction.probability.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("count", [0, 2])
def test_what_takes_one_case_refuses_others(run, count):
    cases = [ball_case()] * count
    for call in (pipeline.propagate, partial(pipeline.predict, run), partial(pipeline.preview, run)):
        with pytest.raises(InputError, match=f"One case is needed, found {count}"):
            call(cases)


def test_what_was_found_coarsely_follows_the_edges_of_the_scan(tmp_path, monkeypatch):
    case = ball_case()
    plain, edge_aware = (
        tiny_config(
            data__max_voxels=4096, model__completion=False, training__iterations=1, inference__edge_aware=wanted
        )
        for wanted in (False, True)
    )
    coarse, fine = (pipeline.propagate(case, config) for config in (plain, edge_aware))
    assert not np.allclose(fine.probability, coarse.probability, atol=0.1)
    np.testing.assert_array_equal(fine.mask[case.known], case.labels[case.known])
    work = Work(case, check_trainable([case]), edge_aware, RunControl(), lambda event: None)
    box = working_grids(work)[0].box
    inside = box_selector(box)
    unknown = ~case.known[inside]
    expected = coarse.probability[(slice(None), *inside)].copy()
    follow_edges(expected, image_in_box(work, box), case.grid.spacing, RunControl())
    deep = ndimage.minimum_filter(unknown, 5)  # away from what was painted, which is put in before
    assert np.abs(fine.probability[(slice(None), *inside)] - expected)[:, deep].max() < 0.1
    pipeline.train([case], tmp_path / "run", edge_aware)
    seen = []
    monkeypatch.setattr(ensemble, "follow_edges", lambda *given: seen.append(given[1]) or follow_edges(*given))
    pipeline.predict(tmp_path / "run", case, device="cpu")
    np.testing.assert_array_equal(seen.pop(), image_in_box(work, box))
    pipeline.predict(tmp_path / "run", ball_case("another", 1, labelled=False), device="cpu")
    assert not seen  # nobody annotated it


def test_both_alignments_count_in_propagation_and_prediction(tmp_path):
    case = ball_case()
    config = tiny_config(data__max_voxels=4096, training__iterations=1, inference__edge_aware=False)
    told = []
    found = pipeline.propagate(case, config, listener=told.append)
    classes = check_trainable([case])
    work = Work(case, classes, config, RunControl(), lambda event: None)
    made = propagated(work, working_grids(work), held_out=False)
    parts = [Part(working, pseudo.probability) for pseudo, working in made]
    each = [assemble(case, classes, averaged([part]), keep_annotated=True, provenance={}).probability for part in parts]
    assert not np.allclose(*each, atol=0.05)
    np.testing.assert_allclose(found.probability, np.mean(each, axis=0), atol=1e-6)
    done = [event.done / event.total for event in told if isinstance(event, StageProgress)]
    assert (done[-1], done) == (1.0, sorted(done))
    pipeline.train([case], tmp_path / "run", config)
    seen = []
    predicted = pipeline.predict(tmp_path / "run", case, device="cpu", listener=seen.append)
    tiles = [
        (event.done, event.total) for event in seen if isinstance(event, StageProgress) and event.stage is Stage.PREDICT
    ]
    assert tiles[-1] == (2 * tiles[0][0], 2 * tiles[0][0])
    assert dice(predicted.mask, ball()) > 0.85
    np.testing.assert_allclose(predicted.probability.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize("method", ["combined", "diffusion"])
def test_a_propagation_suggests_a_slice_without_training(method):
    prediction = pipeline.propagate(ball_case(), tiny_config(propagation__method=method))
    annotated = [AnnotatedSlice(axis, index) for axis, index in enumerate(CENTRE)]
    assert pipeline.suggest(prediction, annotated).plane not in annotated


def test_the_largest_part_alone_stays_of_a_propagation_too():
    truth = ball()
    truth[1:4, 1:4, 1:4] = 1
    case = Case.create(ball_image(truth), truth, slices=[*enumerate(CENTRE), (0, 2)])
    for wanted, parts in ((False, 2), (True, 1)):
        config = tiny_config(inference__largest_part=wanted, inference__keep_annotated=False)
        assert ndimage.label(pipeline.propagate(case, config).mask)[1] == parts
