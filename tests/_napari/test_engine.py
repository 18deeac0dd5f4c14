"""What the docks ask of the engine, and keeping out what would crash beside a window."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tests.engine import ball_case, tiny_config

from napari_rada import pipeline
from napari_rada._napari import engine
from napari_rada._napari.devices import list_devices
from napari_rada._napari.layers import take_snapshot
from napari_rada.config import RunConfig
from napari_rada.control import RunControl
from napari_rada.data.classes import ClassTable
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import InputError, MissingDependencyError, Stopped
from napari_rada.events import Notice, ignore
from napari_rada.training.run_folder import RunFolder
from napari_rada.training.snapshot import save_snapshot

PLANES = [AnnotatedSlice(0, 6)]


class Recorder:
    """Remembers how it was called."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple, dict]] = []

    def __getattr__(self, name: str):
        def call(*positional, **named):
            self.calls.append((name, positional, named))
            return f"result of {name}"

        return call


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def test_each_piece_of_work_calls_the_engine_with_a_case(image, labels, recorder):
    snapshot, config, control = take_snapshot(image, labels, PLANES), RunConfig(), RunControl()
    works = [
        engine.propagation(lambda: recorder, snapshot, config),
        engine.training(lambda: recorder, [snapshot], Path("run"), config),
        engine.continuing(lambda: recorder, Path("old"), [snapshot], Path("run"), config),
        engine.previewing(lambda: recorder, Path("run"), snapshot, "cpu", whole=False),
        engine.previewing(lambda: recorder, Path("run"), snapshot, "cpu", whole=True),
        engine.explaining(lambda: recorder, Path("run"), snapshot, 4, "cpu"),
        engine.suggesting(lambda: recorder, "prediction", PLANES),
    ]
    names = ("propagate", "train", "continue_training", "preview", "predict", "explain", "suggest")
    assert [work(control, ignore) for work in works] == [f"result of {name}" for name in names]
    propagated, trained, continued, previewed, latest, explained, suggested = recorder.calls
    (case, given), told = propagated[1:]
    assert given is config
    assert told == {"control": control, "listener": ignore}
    assert trained[1][1] == continued[1][2] == previewed[1][0] == Path("run")
    assert continued[1][0] == Path("old")
    cases = (case, trained[1][0][0], continued[1][1][0], previewed[1][1], latest[1][1], explained[1][1])
    assert [one.annotated for one in cases] == [tuple(PLANES)] * 6
    assert latest[2]["weights"] == "last"
    assert previewed[2]["device"] == "cpu"
    assert (explained[1][0], explained[1][2], explained[2]["device"]) == (Path("run"), "4", "cpu")
    assert suggested[1] == ("prediction", PLANES)


def test_several_images_are_predicted_one_after_the_other(image, labels, recorder):
    snapshots = [take_snapshot(image, labels, PLANES), take_snapshot(image)]
    work = engine.predicting(lambda: recorder, Path("run"), snapshots, "cpu")
    assert work(RunControl(), ignore) == ["result of predict"] * 2
    assert [call[1][1].annotated for call in recorder.calls] == [tuple(PLANES), ()]


class Predicting(Recorder):
    """Stops, or fails, at scans of these names."""

    def __init__(self, **problems: Exception) -> None:
        super().__init__()
        self.problems = problems

    def predict(self, _run_dir, case, **_named):
        self.calls.append((case.name, (), {}))
        if case.name in self.problems:
            raise self.problems[case.name]
        return f"mask of {case.name}"


def test_what_can_be_predicted_is_not_lost_to_what_cannot(image):
    snapshots = [take_snapshot(image, name=name) for name in "abcde"]
    told: list[Notice] = []
    recorder = Predicting(a=InputError("a: too small."), d=Stopped())
    found = engine.predicting(lambda: recorder, Path("run"), snapshots, "cpu")(RunControl(), told.append)
    assert found == [None, "mask of b", "mask of c", None, None]
    assert [notice.message for notice in told] == [
        "'a' was not predicted: a: too small.",
        "Stopped before 'd', 'e' were predicted.",
    ]
    assert [name for name, *_rest in recorder.calls] == list("abcd")


@pytest.mark.parametrize("problem", [InputError("too small"), MemoryError("no room"), OSError("no disk")])
def test_a_problem_with_one_image_keeps_none_of_its_arrays(image, problem):
    snapshots = [take_snapshot(image, name="a"), take_snapshot(image, name="b")]
    recorder = Predicting(a=problem)
    found = engine.predicting(lambda: recorder, Path("run"), snapshots, "cpu")(RunControl(), ignore)
    assert found == [None, "mask of b"]
    assert problem.__traceback__ is None


@pytest.mark.parametrize("problem", [InputError("too small"), Stopped()])
def test_where_nothing_is_predicted_the_first_problem_is_raised(image, problem):
    snapshots = [take_snapshot(image, name="a"), take_snapshot(image, name="b")]
    recorder = Predicting(a=problem, b=InputError("another"))
    with pytest.raises(type(problem)) as raised:
        engine.predicting(lambda: recorder, Path("run"), snapshots, "cpu")(
            RunControl(), lambda _event: pytest.fail("told")
        )
    assert raised.value is problem


def test_a_bad_layer_is_refused_in_the_worker_before_the_engine_is_loaded(image):
    image.data[:] = 1
    work = engine.propagation(lambda: pytest.fail("the engine was loaded"), take_snapshot(image), RunConfig())
    with pytest.raises(InputError, match="a constant image cannot be segmented"):
        work(RunControl(), ignore)


def test_the_real_engine_is_the_pipeline():
    assert engine.load_pipeline() is pipeline


@pytest.mark.parametrize(
    ("maps", "present", "kept_out"),
    [
        ("7f00 r-xp libLLVM-15.so.1", False, True),
        ("7f00 r-xp libLLVM-15.so.1", True, False),
        ("7f00 r-xp libGL.so.1", False, False),
        (None, False, False),
    ],
    ids=["beside Mesa's LLVM", "loaded already", "without LLVM", "not on Linux"],
)
def test_triton_is_kept_out_only_where_it_would_crash(tmp_path, monkeypatch, maps, present, kept_out):
    monkeypatch.setitem(sys.modules, "triton", SimpleNamespace())
    if not present:
        del sys.modules["triton"]
    if maps is not None:
        (tmp_path / "maps").write_text(maps)
    engine.keep_out_triton(tmp_path / "maps")
    assert ("triton" in sys.modules and sys.modules["triton"] is None) == kept_out


def test_nan_is_treated_as_the_run_treats_it(image, labels, recorder, tmp_path):
    image.data[0, 0, 0] = np.nan
    snapshot = take_snapshot(image, labels, PLANES)
    folder = RunFolder.create(tmp_path / "run", tiny_config(data__non_finite="replace"))
    save_snapshot(folder, [ball_case()], ClassTable.from_values([1]))
    for work in (
        engine.previewing(lambda: recorder, folder.path, snapshot, "cpu", whole=True),
        engine.predicting(lambda: recorder, folder.path, [snapshot], "cpu"),
        engine.explaining(lambda: recorder, folder.path, snapshot, 1, "cpu"),
    ):
        work(RunControl(), ignore)
    assert all(np.isfinite(call[1][1].image).all() for call in recorder.calls)
    strict = RunFolder.create(tmp_path / "strict", tiny_config())
    save_snapshot(strict, [ball_case()], ClassTable.from_values([1]))
    with pytest.raises(InputError, match=r"set data\.non_finite to replace \(in napari under Train > Advanced\)"):
        engine.predicting(lambda: recorder, strict.path, [snapshot], "cpu")(RunControl(), ignore)
    recorder.calls.clear()
    for work in (
        engine.predicting(lambda: recorder, strict.path, [snapshot], "cpu", None, "replace"),
        engine.explaining(lambda: recorder, strict.path, snapshot, 1, "cpu", "replace"),
    ):
        work(RunControl(), ignore)
    assert all(np.isfinite(call[1][1].image).all() for call in recorder.calls)
    assert len(recorder.calls) == 2


def test_a_torch_that_cannot_be_loaded_is_one_sentence_and_no_bug():
    def broken():
        raise OSError("[WinError 1114] A dynamic link library (DLL) initialization routine failed")

    with pytest.raises(MissingDependencyError, match=r"PyTorch cannot be loaded \(\[WinError 1114\].*old Qt"):
        with engine.torch_beside_a_window():
            broken()


def test_devices_are_listed_where_torch_cannot_be_loaded(monkeypatch):
    class Broken:
        def find_spec(self, name, *_):
            if name == "napari_rada.models.device":
                raise OSError("[WinError 1114] DLL")

    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "napari_rada.models.device", raising=False)
    found = {device.name: device.unusable for device in list_devices()}
    assert found["auto"] is None
    assert found["cpu"].startswith("PyTorch cannot be loaded ([WinError 1114] DLL)")
