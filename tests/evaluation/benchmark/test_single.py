from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.engine import ball_case

from napari_rada.control import RunControl
from napari_rada.data.case import Case
from napari_rada.errors import ConfigError, InputError, MissingDependencyError, RadaError, Stopped
from napari_rada.evaluation.benchmark import peers
from napari_rada.evaluation.benchmark.datasets import load_datasets
from napari_rada.evaluation.benchmark.methods import Conditions, Segmentation
from napari_rada.evaluation.benchmark.ours import OwnPropagation, OwnTraining, make_own, under
from napari_rada.evaluation.benchmark.results import Row, fingerprint
from napari_rada.evaluation.benchmark.single import SingleTask, make_method, run_single
from napari_rada.evaluation.finished_lines import FinishedLog
from napari_rada.events import Notice
from napari_rada.guidance.weights import GuidanceWeights


@dataclass
class Painter:
    """Returns what was annotated and nothing else; remembers what it was asked."""

    name: str = "painter"
    seeded: bool = True
    fails_on: str = ""
    seen: list[tuple[str, Conditions]] = field(default_factory=list)

    def describe(self) -> dict[str, Any]:
        return {"method": self.name}

    def check(self) -> None:
        pass

    def segment(self, case: Case, conditions: Conditions, **_: Any) -> Segmentation:
        self.seen.append((case.name, conditions))
        if case.name == self.fails_on:
            raise RadaError("too dark")
        assert case.labels is not None
        return Segmentation(case.labels, {"nothing": np.zeros_like(case.labels)})


def run(file: Path, method: Any, task: SingleTask, out: Path, control: RunControl | None = None) -> list[Row]:
    log = FinishedLog(out / "r.jsonl", Row.from_json)
    return run_single(load_datasets(file), [method], task, log, control=control or RunControl())


def test_every_scan_and_seed_is_measured_once(datasets_file: Path, tmp_path: Path) -> None:
    painter, task = Painter(), SingleTask(seeds=(0, 7))
    rows = run(datasets_file, painter, task, tmp_path)
    assert [(row.dataset, row.scan, row.seed) for row in rows] == [
        (name, scan, seed) for name, scan in (("balls", "b"), ("balls", "c"), ("halves", "q")) for seed in (0, 7)
    ]
    assert all(0.2 < row.mean("dice") < 0.9 and row.parts == {"nothing": 0.0} for row in rows)
    assert painter.seen[-1] == ("q", Conditions(7, (-0.5, 1.5)))
    assert run(datasets_file, painter, task, tmp_path) == rows
    assert len(painter.seen) == 6


def test_a_scan_that_has_changed_since_is_measured_again_and_one_that_has_gone_is_not(
    datasets_file: Path, tmp_path: Path
) -> None:
    painter, task = Painter(seeded=False), SingleTask()
    rows = run(datasets_file, painter, task, tmp_path)
    balls = datasets_file.parent / "balls"
    shutil.copyfile(balls / "a_image.nii.gz", balls / "b_image.nii.gz")
    again = run(datasets_file, painter, task, tmp_path)
    assert [case for case, _ in painter.seen] == ["b", "c", "q", "b"]
    assert [one == other for one, other in zip(rows, again, strict=True)] == [False, True, True]
    shutil.rmtree(balls)
    assert run(datasets_file, painter, task, tmp_path) == again


def test_rows_of_scans_whose_content_was_not_noted_count(datasets_file: Path, tmp_path: Path) -> None:
    painter, task = Painter(seeded=False), SingleTask(limit=1)
    rows = run(datasets_file, painter, task, tmp_path)
    bare = [replace(row, content="") for row in rows]
    (tmp_path / "r.jsonl").write_text("".join(f"{row.to_json()}\n" for row in bare))
    assert run(datasets_file, painter, task, tmp_path) == bare


def test_other_slices_are_another_task(datasets_file: Path, tmp_path: Path) -> None:
    painter = Painter(seeded=False)
    one = run(datasets_file, painter, SingleTask(limit=1), tmp_path)
    more = run(datasets_file, painter, SingleTask(limit=1, per_axis=3), tmp_path)
    assert len(painter.seen) == 4
    assert more[0].mean("dice") > one[0].mean("dice") + 0.2
    run(datasets_file, painter, SingleTask(limit=1, centre=True), tmp_path)
    assert len(painter.seen) == 6


def test_fewer_slices_than_were_asked_for_are_told(datasets_file: Path, tmp_path: Path) -> None:
    told: list[object] = []
    log, sets = FinishedLog(tmp_path / "r.jsonl", Row.from_json), load_datasets(datasets_file).chosen(["balls"])
    for per_axis, axis in ((2, None), (99, None), (99, 0)):
        task = SingleTask(limit=1, per_axis=per_axis, axis=axis)
        run_single(sets, [Painter()], task, log, control=RunControl(), listener=told.append)
    notices = [event.message for event in told if isinstance(event, Notice)]
    assert [text.split(" slices ")[1][:10] for text in notices] == ["of the 297", "of the 99 "]


def test_scans_in_another_folder_are_another_task(datasets_file: Path, tmp_path: Path) -> None:
    painter, log = Painter(), FinishedLog(tmp_path / "r.jsonl", Row.from_json)
    other = Path(shutil.copytree(datasets_file.parent, tmp_path / "other"))
    for root in (datasets_file.parent, other, datasets_file.parent / ".." / "other"):
        run_single(load_datasets(datasets_file, root), [painter], SingleTask(limit=1), log, control=RunControl())
    assert len(painter.seen) == 2 * 2


def test_guidance_weights_that_are_here_are_another_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = GuidanceWeights("ViT-B-16-quickgelu", tmp_path / "clip.pt", tmp_path / "alpha.pth")

    def described(found: GuidanceWeights | None, size: int = 1) -> str:
        monkeypatch.setattr("napari_rada.guidance.files.find", lambda *_, **__: found)
        files.clip.write_bytes(b"c" * size)
        files.alpha.write_bytes(b"a")
        return fingerprint(make_method("quick", {}).describe())

    assert len({described(None), described(files), described(files, 2)}) == 3
    assert described(files) == described(files)
    unguided = make_method("quick", {"guidance.source": "none"})
    assert unguided.describe()["guidance"] is None


def test_the_scans_for_settings_are_others(datasets_file: Path, tmp_path: Path) -> None:
    rows = run(datasets_file, Painter(), SingleTask("settings"), tmp_path)
    assert [row.scan for row in rows] == ["a", "p"]


def test_no_scans_and_a_device_that_is_not_here_are_told_before(tmp_path: Path, datasets_file: Path) -> None:
    datasets = load_datasets(datasets_file)
    bare = replace(datasets, datasets=tuple(d.model_copy(update={"reported": ()}) for d in datasets.datasets))
    log = FinishedLog(tmp_path / "r.jsonl", Row.from_json)
    with pytest.raises(InputError, match="list no scans under 'reported'"):
        run_single(bare, [Painter()], SingleTask(), log, control=RunControl())
    with pytest.raises(ConfigError, match="tpu"):
        run_single(datasets, [make_method("quick", {}, "tpu")], SingleTask(), log, control=RunControl())
    assert not log.path.exists()


def test_a_failure_is_recorded_and_the_rest_goes_on(datasets_file: Path, tmp_path: Path) -> None:
    told: list[object] = []
    log = FinishedLog(tmp_path / "r.jsonl", Row.from_json)
    painters, control = [Painter(fails_on="b")], RunControl()
    rows = run_single(load_datasets(datasets_file), painters, SingleTask(), log, control=control, listener=told.append)
    assert [event for event in told if isinstance(event, Notice)] == [Notice("balls, b, painter failed: too dark")]
    assert [row.error for row in rows] == ["too dark", "", ""]
    painter = Painter()
    assert not any(row.error for row in run(datasets_file, painter, SingleTask(), tmp_path))
    assert [name for name, _ in painter.seen] == ["b"]


def test_a_stop_keeps_what_is_done(datasets_file: Path, tmp_path: Path) -> None:
    control = RunControl()

    class Stopper(Painter):
        def segment(self, case: Case, conditions: Conditions, **_: Any) -> Segmentation:
            control.stop()
            return super().segment(case, conditions)

    with pytest.raises(Stopped):
        run(datasets_file, Stopper(), SingleTask(), tmp_path, control)
    painter = Painter()
    run(datasets_file, painter, SingleTask(), tmp_path)
    assert [name for name, _ in painter.seen] == ["c", "q"]


def test_propagation_of_the_product(datasets_file: Path, tmp_path: Path) -> None:
    for name in ("auto", "diffusion", "diffusion/held-out"):
        rows = run(datasets_file, make_method(name, {}), SingleTask(limit=1), tmp_path)
        assert all(row.mean("dice") > 0.9 and row.parts == {} for row in rows)
        assert {row.method for row in rows} == {name}


def test_registration_is_measured_per_view(datasets_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("ants", reason="antspyx is not installed: pip install antspyx")
    method = make_method("registration/views", {"data.max_voxels": 5000})
    (row, _) = run(datasets_file, method, SingleTask(limit=1), tmp_path)
    assert list(row.parts) == ["axis 0 alone", "axis 1 alone", "axis 2 alone"]
    assert row.mean("dice") >= max(row.parts.values()) - 0.1


def test_training_on_each_scan(datasets_file: Path, tmp_path: Path, tiny: dict[str, object]) -> None:
    rows = run(datasets_file, make_method("quick/no-cross", tiny, "cpu"), SingleTask(limit=1, seeds=(0, 1)), tmp_path)
    assert [(row.method, row.seed) for row in rows[:2]] == [("quick/no-cross", 0), ("quick/no-cross", 1)]
    assert all(row.mean("dice") > 0.8 for row in rows)


def test_names_become_settings() -> None:
    method = make_own("quick/no-cross/networks-only/labelled-only", {"training.iterations": 7})
    assert isinstance(method, OwnTraining)
    assert method.config.training.cross.beta_max == 0
    assert (method.config.inference.blend, method.config.inference.corrections) == (1, False)
    assert method.config.training.iterations == 7
    assert method.labelled_only
    propagation = make_own("registration/views", {})
    assert isinstance(propagation, OwnPropagation)
    assert propagation.config.propagation.method == "registration"
    assert make_own("walker", {}) is None


@pytest.mark.parametrize("name", ["walker", "quick/views", "diffusion/no-cross"])
def test_unknown_methods_and_stages(name: str) -> None:
    with pytest.raises(InputError, match=r"no method walker|has no stage .*; choose among"):
        make_method(name, {})


def test_a_window_of_the_data_set_gives_way_to_one_that_was_set() -> None:
    own = make_own("quick", {})
    windowed = make_own("quick", {"data.window": [0, 100]})
    assert isinstance(own, OwnTraining)
    assert isinstance(windowed, OwnTraining)
    conditions = Conditions(3, (-5.0, 5.0))
    assert under(own.config, conditions).data.window == (-5.0, 5.0)
    assert under(own.config, conditions).seed == 3
    assert under(windowed.config, conditions).data.window == (0, 100)


def segmented(method: Any, case: Case) -> Any:
    return method.segment(case, Conditions(), control=RunControl()).mask


def test_the_random_walker_fills_the_ball() -> None:
    from tests.engine import ball

    mask = segmented(peers.RandomWalker(), ball_case())
    assert (mask == ball()).mean() > 0.97
    assert mask.dtype == np.uint8


def test_a_class_that_vanishes_on_the_coarse_grid_is_no_trouble() -> None:
    case = ball_case()
    labels = np.array(case.labels)
    labels[10, 0, 0] = 2
    walker = peers.RandomWalker()
    walker.max_voxels = 500
    found = segmented(walker, Case.create(case.image, labels, slices=case.annotated))
    assert set(np.unique(found)) <= {0, 1, 2}


def test_contours_are_interpolated_between_parallel_slices() -> None:
    # slow because ITK takes ten seconds to import
    if importlib.util.find_spec("itk") is None:  # importing it here would crash: ANTs has its own copy
        pytest.skip("itk-morphologicalcontourinterpolation is not installed")
    from tests.engine import ball, ball_image

    case = Case.create(ball_image(ball()), ball(), slices=[(0, 6), (0, 10), (0, 14)])
    method = peers.ContourInterpolation()
    method.check()
    mask = segmented(method, case)
    between = slice(6, 15)
    inside = 2 * (mask[between].astype(bool) & (ball()[between] > 0)).sum()
    assert inside / (mask[between].astype(bool).sum() + ball()[between].sum()) > 0.8
    assert not mask[:6].any()


def test_a_package_that_is_missing_is_told_first(datasets_file: Path, tmp_path: Path) -> None:
    class Absent(peers.RandomWalker):
        def check(self) -> None:
            raise MissingDependencyError("absent needs a package")

        def segment(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("a scan was measured before the check")

    with pytest.raises(MissingDependencyError, match="absent needs a package"):
        run(datasets_file, Absent(), SingleTask(), tmp_path)
