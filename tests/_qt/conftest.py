"""What the dock tests share: a viewer that reports leaked widgets, and an engine that needs no torch."""

from __future__ import annotations

import gc
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_rada._qt.dock import known_devices
from napari_rada.config import RunConfig
from napari_rada.data.classes import ClassTable
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import InputError, Stopped
from napari_rada.events import (
    CheckpointSaved,
    FinishReason,
    Notice,
    Paused,
    Resumed,
    RunFinished,
    Stage,
    StageProgress,
    StepLogged,
    TrainingStarted,
    Validated,
)
from napari_rada.prediction import Explanation, Prediction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_rada.control import RunControl
    from napari_rada.data.case import Case
    from napari_rada.events import Listener

# The OpenGL driver of a software display brings an LLVM that does not bear triton's beside it; see load_pipeline.
sys.modules.setdefault("triton", None)  # type: ignore[arg-type]

SHAPE = (12, 14, 16)


@dataclass(frozen=True)
class FakeResult:
    """As `napari_rada.pipeline.TrainingResult`."""

    run_dir: Path
    reason: FinishReason
    iteration: int
    dice: float | None = 0.9
    propagation_dice: float | None = 0.8


@dataclass(frozen=True)
class FakeSuggestion:
    """As `napari_rada.inference.suggest.Suggestion`."""

    plane: AnnotatedSlice
    score: float


@dataclass
class FakeEngine:
    """An engine that obeys and reports like the real one, and can be held, slowed down and broken."""

    iterations: int = 30
    seconds: float = 0.01
    error: BaseException | None = None
    breaks_at: int | None = None
    notice: str = ""
    go: threading.Event = field(default_factory=threading.Event)
    prepared: threading.Event = field(default_factory=threading.Event)
    cases: list[Case] = field(default_factory=list)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    cohorts: list[list[Case]] = field(default_factory=list)
    options: list[tuple[str, Any]] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.go.set()
        self.prepared.set()

    def load(self) -> FakeEngine:
        self.threads.add(threading.get_ident())
        return self

    def propagate(self, case: Case, config: Any = None, *, control: RunControl, listener: Listener) -> Prediction:
        self._begin("propagate", case, config)
        if self.notice:
            listener(Notice(self.notice))
        self._tiles(Stage.PROPAGATE, control, listener)
        return predicted(case)

    def train(self, cases: Any, run_dir: Any, config: Any = None, *, control: RunControl, listener: Listener) -> Any:
        self._begin("train", cases[0], config)
        self.cohorts.append(list(cases))
        return self._train(run_dir, 0, control, listener)

    def continue_training(
        self, old: Any, cases: Any, run_dir: Any, config: Any = None, *, control: RunControl, listener: Listener
    ) -> Any:
        self._begin("continue", cases[0], (Path(old), config))
        return self._train(run_dir, self.iterations, control, listener)

    def _train(self, run_dir: Any, first: int, control: RunControl, listener: Listener) -> Any:
        Path(run_dir).mkdir(parents=True)
        (Path(run_dir) / "config.yaml").write_text(RunConfig.from_preset("quick").to_yaml())
        (Path(run_dir) / "cases.json").write_text("{}")
        listener(StageProgress(Stage.PREPARE, 1, 1))
        while not self.prepared.wait(0.01):
            if control.stop_requested:
                return FakeResult(Path(run_dir), FinishReason.STOPPED, first)
        listener(Notice("The graphics card is busy; the CPU is used instead."))
        total = first + self.iterations
        listener(TrainingStarted(first + 1, total, "cpu"))
        while not (self.go.wait(0.01) or control.stop_requested):
            pass
        done = first
        while done < total:
            if control.pause_requested:
                listener(Paused(done))
                control.wait_while_paused()
                listener(Resumed(done))
            if control.stop_requested:
                break
            if done == self.breaks_at:
                listener(CheckpointSaved(done, Path(run_dir) / "last.pt"))
                raise InputError("The disk is full.")
            if control.take_checkpoint_request():
                listener(CheckpointSaved(done, Path(run_dir) / "last.pt"))
            time.sleep(self.seconds)
            done += 1
            loss = 1.0 / done
            cross = 0.0 if done < 3 else loss / 2
            listener(StepLogged(done, total, (loss, loss / 2, loss / 3), (cross,) * 3, 0.1, 0.01, float(done), 60.0))
            if done % 10 == 0:
                listener(Validated(done, 0.8 + done / 1000, 0.8, best=True))
        reason = FinishReason.COMPLETED if done == total else FinishReason.STOPPED
        listener(CheckpointSaved(done, Path(run_dir) / "last.pt"))
        listener(RunFinished(reason, done))
        return FakeResult(Path(run_dir), reason, done)

    def predict(
        self,
        run_dir: Any,
        case: Case,
        *,
        device: str = "auto",
        weights: str = "best",
        tidy: Any = None,
        control: RunControl,
        listener: Listener,
    ) -> Prediction:
        self._begin("predict", case, (Path(run_dir), device))
        self.options.append((weights, tidy))
        self._tiles(Stage.PREDICT, control, listener)
        return predicted(case)

    def preview(
        self, run_dir: Any, case: Case, *, device: str = "auto", control: RunControl, listener: Listener
    ) -> Prediction:
        self._begin("preview", case, (Path(run_dir), device))
        self._tiles(Stage.PREDICT, control, listener)
        return predicted(case)

    def explain(
        self,
        run_dir: Any,
        case: Case,
        class_name: str,
        *,
        device: str = "auto",
        control: RunControl,
        listener: Listener,
    ) -> Explanation:
        self._begin("explain", case, (Path(run_dir), class_name, device))
        self._tiles(Stage.PREDICT, control, listener)
        heat = (case.image / case.image.max()).clip(0, 1).astype(np.float32)
        return Explanation(case.name, "organ", heat, case.grid, case.source, {"run": "fake", "iteration": 30})

    def suggest(self, prediction: Prediction, annotated: Any = ()) -> FakeSuggestion:
        self.calls.append(("suggest", tuple(annotated)))
        assert prediction.doubt.shape == prediction.mask.shape  # what the real one goes by
        return FakeSuggestion(AnnotatedSlice(1, 3), 0.75)

    def _begin(self, name: str, case: Case, argument: Any) -> None:
        self.cases.append(case)
        self.calls.append((name, argument))
        if self.error is not None:
            raise self.error

    def _tiles(self, stage: Stage, control: RunControl, listener: Listener) -> None:
        for tile in range(5):
            listener(StageProgress(stage, tile, 5))
            while not self.go.wait(0.01):
                if control.stop_requested:
                    raise Stopped
            control.check()
        listener(StageProgress(stage, 5, 5))


def predicted(case: Case) -> Prediction:
    """The brighter half of the scan."""
    mask = (case.image > np.median(case.image)).astype(np.uint8)
    probability = np.stack([1.0 - mask, mask]).astype(np.float32)
    return Prediction(
        name=case.name,
        mask=mask,
        probability=probability,
        disagreement=np.abs(0.5 - probability[0]),
        grid=case.grid,
        classes=ClassTable.from_values([1]),
        source=case.source,
        provenance={"run": "fake", "iteration": 30},
    )


@pytest.fixture(autouse=True, scope="session")
def _devices_are_known() -> None:
    """Look for devices before any window is open, so that no test waits for torch."""
    known_devices()


@pytest.fixture(autouse=True, scope="module")
def _what_is_there_is_not_collected(_devices_are_known: None) -> None:
    """Let the collections at the end of a viewer look at what came since alone, not at all modules of torch."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _no_labels_among_the_data_of_this_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let labels that docks save by themselves, also as they are torn down, go to a folder of the tests."""
    folder = tmp_path_factory.mktemp("data") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_rada._qt.autosave.data_folder", lambda: folder)
        yield


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def viewer(make_napari_viewer):
    """A real viewer with an anisotropic, mirrored scan and three painted slices; leaked widgets fail the test."""
    viewer = make_napari_viewer(strict_qt="raise")
    volume = np.random.default_rng(0).normal(100.0, 20.0, SHAPE).astype(np.float32)
    place = {"scale": (3.0, 1.5, 1.0), "affine": np.diag([-1.0, -1.0, 1.0, 1.0]), "units": ("mm",) * 3}
    viewer.add_image(volume, name="scan", **place)
    painted = np.zeros(SHAPE, dtype=np.uint8)
    painted[6, 4:10, 5:11] = 1
    painted[3:9, 7, 5:11] = 1
    painted[3:9, 4:10, 8] = 1
    viewer.add_labels(painted, name="labels", **place)
    return viewer


@pytest.fixture
def dock(viewer, qtbot) -> Callable[..., Any]:
    """Put a widget into the viewer's window; it is closed like a user closes it."""
    opened: list[Any] = []

    def open_dock(kind: type, **settings: Any) -> Any:
        widget = kind(viewer, **settings)
        viewer.window.add_dock_widget(widget, name=kind.__name__)
        opened.append(widget)
        return widget

    yield open_dock
    while opened:
        widget = opened.pop()
        if is_open(widget):
            viewer.window.remove_dock_widget(widget)
            widget.deleteLater()
        del widget
    qtbot.wait(10)


def is_open(widget: Any) -> bool:
    """False once the dock or the whole window was closed."""
    try:
        return widget.parent() is not None
    except RuntimeError:
        return False


@pytest.fixture
def wait(qtbot) -> Callable[..., None]:
    """Wait for a condition with the event loop running."""

    def wait_until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
        qtbot.waitUntil(condition, timeout=int(1000 * timeout_s))

    return wait_until


@pytest.fixture
def notified(monkeypatch) -> list[str]:
    """Errors shown as napari notifications."""
    shown: list[str] = []
    monkeypatch.setattr("napari_rada._qt.dock.show_error", shown.append)
    return shown
