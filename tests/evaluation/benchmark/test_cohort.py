from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from napari_rada import pipeline
from napari_rada.control import RunControl
from napari_rada.errors import InputError, Stopped
from napari_rada.evaluation.benchmark.cohort import CohortTask, run_cohort
from napari_rada.evaluation.benchmark.datasets import load_datasets
from napari_rada.evaluation.benchmark.ours import HALFWAY, OwnTraining, make_own
from napari_rada.evaluation.benchmark.results import Row
from napari_rada.evaluation.finished_lines import FinishedLog
from napari_rada.events import Event, Notice, StepLogged

if TYPE_CHECKING:
    from pathlib import Path

    from napari_rada.data.case import Case


def trained(name: str, tiny: dict[str, object]) -> OwnTraining:
    method = make_own(name, tiny, "cpu")
    assert isinstance(method, OwnTraining)
    return method


def run(file: Path, method: OwnTraining, out: Path, **kwargs: Any) -> list[Row]:
    runs = out / "runs"
    runs.mkdir(exist_ok=True)
    log = FinishedLog(out / "r.jsonl", Row.from_json)
    task = kwargs.pop("task", CohortTask())
    control = kwargs.pop("control", RunControl())
    return run_cohort(load_datasets(file), [method], task, log, runs, control=control, **kwargs)


def test_test_scans_are_predicted_by_one_training(
    datasets_file: Path, tmp_path: Path, tiny: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, bool]] = []
    train = pipeline.train

    def watched(cases: Any, *args: Any, **kwargs: Any) -> Any:
        seen.extend((case.name, case.is_labelled) for case in cases)
        return train(cases, *args, **kwargs)

    monkeypatch.setattr(pipeline, "train", watched)
    method = trained("quick", tiny)
    rows = run(datasets_file, method, tmp_path)
    assert [row.scan for row in rows] == ["c", "d"]
    assert seen == [("a", True), ("b", False)]
    assert all(row.train_s is not None and row.train_s > 0 for row in rows)
    assert run(datasets_file, method, tmp_path) == rows
    assert len(seen) == 2
    told: list[object] = []
    task = CohortTask(limit=1, per_axis=99)
    run(datasets_file, trained("quick/labelled-only", tiny), tmp_path, task=task, listener=told.append)
    assert seen[2:] == [("a", True)]
    assert any(isinstance(event, Notice) and "of the 297 that were asked for" in event.message for event in told)


def test_both_halves_of_self_training_are_measured(
    datasets_file: Path, tmp_path: Path, tiny: dict[str, object]
) -> None:
    (row,) = run(datasets_file, trained("quick/unlabelled", tiny), tmp_path, task=CohortTask(limit=1))
    (alone,) = run(datasets_file, trained("quick/labelled-only", tiny), tmp_path, task=CohortTask(limit=1))
    assert row.parts == {HALFWAY: alone.classes[0].dice}
    assert not alone.parts


def test_annotated_scans_are_predicted_by_the_same_training(
    datasets_file: Path, tmp_path: Path, tiny: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    method, predicted = trained("quick", tiny), []
    run(datasets_file, method, tmp_path, task=CohortTask(limit=1))
    monkeypatch.setattr(pipeline, "train", lambda *args, **kwargs: pytest.fail("it was trained"))
    predict = pipeline.predict

    def watched(run_dir: Path, case: Case, **kwargs: Any) -> Any:
        predicted.append((case.name, len(case.annotated)))
        return predict(run_dir, case, **kwargs)

    monkeypatch.setattr(pipeline, "predict", watched)
    rows = [
        run(datasets_file, method, tmp_path, task=CohortTask(limit=1, tested=tested))[0]
        for tested in ("unseen", "annotated", "taught")
    ]
    assert predicted == [("c", 3), ("a", 3)]
    assert len({row.task for row in rows}) == 3


def test_an_interrupted_training_goes_on(datasets_file: Path, tmp_path: Path, tiny: dict[str, object]) -> None:
    control = RunControl()
    steps: list[int] = []

    def stop_at_first(event: Event) -> None:
        if isinstance(event, StepLogged):
            steps.append(event.iteration)
            control.stop()

    method = trained("quick", tiny | {"training.iterations": 3})
    with pytest.raises(Stopped):
        run(datasets_file, method, tmp_path, control=control, listener=stop_at_first)

    def note(event: Event) -> None:
        if isinstance(event, StepLogged):
            steps.append(event.iteration)

    assert len(run(datasets_file, method, tmp_path, listener=note)) == 2
    assert steps == [1, 2, 3]


def test_a_set_without_a_cohort_is_told(datasets_file: Path, tmp_path: Path, tiny: dict[str, object]) -> None:
    only = load_datasets(datasets_file).chosen(["halves"])
    with pytest.raises(InputError, match="None of the data sets has a cohort"):
        run_cohort(
            only,
            [trained("quick", tiny)],
            CohortTask(),
            FinishedLog(tmp_path / "r", Row.from_json),
            tmp_path,
            control=RunControl(),
        )


def test_one_that_was_cut_off_while_its_cases_were_written_begins_again(
    datasets_file: Path, tmp_path: Path, tiny: dict[str, object]
) -> None:
    control = RunControl()

    def stop_at_once(event: Event) -> None:
        control.stop()

    method = trained("quick", tiny)
    with pytest.raises(Stopped):
        run(datasets_file, method, tmp_path, control=control, listener=stop_at_once)
    assert len(run(datasets_file, method, tmp_path)) == 2
