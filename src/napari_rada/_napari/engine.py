"""The engine as the viewer calls it: pieces of work for a `Job`, made from snapshots of layers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from napari_rada import io
from napari_rada.durable import reason_of
from napari_rada.errors import MissingDependencyError, RadaError, Stopped
from napari_rada.events import Stage, StageProgress, tell

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_rada._napari.job import Work
    from napari_rada._napari.layers import Snapshot
    from napari_rada._napari.run_files import LoadedRun
    from napari_rada.config import RunConfig
    from napari_rada.control import RunControl
    from napari_rada.data.case import Case, NonFinite
    from napari_rada.data.slices import AnnotatedSlice
    from napari_rada.events import Listener
    from napari_rada.inference.cleanup import CleanUp
    from napari_rada.inference.suggest import Suggestion
    from napari_rada.pipeline import TrainingResult
    from napari_rada.prediction import Explanation, Prediction
    from napari_rada.training.preflight import Preflight


class Engine(Protocol):
    """What `napari_rada.pipeline` offers; tests bring their own."""

    def propagate(
        self, case: Case, config: RunConfig | None = None, *, control: RunControl | None, listener: Listener
    ) -> Prediction:
        """Complete the annotated slices without training."""
        ...

    def train(
        self,
        cases: Sequence[Case],
        run_dir: Path | str,
        config: RunConfig | None = None,
        *,
        control: RunControl | None,
        listener: Listener,
    ) -> TrainingResult:
        """Train into a new run folder."""
        ...

    def continue_training(
        self,
        run_dir: Path | str,
        cases: Sequence[Case],
        new_run_dir: Path | str,
        config: RunConfig | None = None,
        *,
        control: RunControl | None,
        listener: Listener,
    ) -> TrainingResult:
        """Train on from a run's weights into a run folder of its own."""
        ...

    def predict(
        self,
        run_dir: Path | str,
        case: Case,
        *,
        device: str,
        weights: Literal["best", "last"] = "best",
        tidy: CleanUp | None = None,
        control: RunControl | None,
        listener: Listener,
    ) -> Prediction:
        """Predict a case with a trained run."""
        ...

    def preview(
        self, run_dir: Path | str, case: Case, *, device: str, control: RunControl | None, listener: Listener
    ) -> Prediction:
        """Predict the annotated slices alone, as if they had not been seen."""
        ...

    def explain(
        self,
        run_dir: Path | str,
        case: Case,
        class_name: str,
        *,
        device: str,
        control: RunControl | None,
        listener: Listener,
    ) -> Explanation:
        """Show where the networks of a run look for a class."""
        ...

    def suggest(self, prediction: Prediction, annotated: Sequence[AnnotatedSlice]) -> Suggestion:
        """Name the slice to annotate next."""
        ...


LoadEngine: TypeAlias = Callable[[], Engine]
"""Called in the worker, because the engine imports torch."""


def load_pipeline() -> Engine:
    """Import the real engine.

    Raises
    ------
    MissingDependencyError
        If PyTorch is there but cannot be loaded.
    """
    with torch_beside_a_window():
        from napari_rada import pipeline

    return pipeline


@contextmanager
def torch_beside_a_window() -> Iterator[None]:
    """Import what needs PyTorch: without what would crash, and saying in one sentence why it cannot be loaded.

    Raises
    ------
    MissingDependencyError
        Instead of the system's own error. On Windows Qt's wheels bring a runtime of Microsoft's, and the one that is
        loaded first serves all (pytorch#169429).
    """
    keep_out_triton()
    try:
        yield
    except OSError as error:
        raise MissingDependencyError(
            f"PyTorch cannot be loaded ({reason_of(error)}); on Windows an old Qt can be the reason: run "
            "pip install --upgrade pyqt6 pyqt6-qt6 (or pyside6), and start napari again."
        ) from error


def keep_out_triton(maps: Path = Path("/proc/self/maps")) -> None:
    """Make `import triton` fail where it would crash: beside the LLVM that Mesa's OpenGL drivers bring.

    torch imports triton, which has an LLVM of its own, together with the first optimiser; two of them in one process
    end in a segmentation fault. The engine does not need it, and torch goes on without.
    """
    if "triton" not in sys.modules and maps.exists() and "libLLVM" in maps.read_text(encoding="utf-8"):
        sys.modules["triton"] = None  # type: ignore[assignment]


def propagation(load: LoadEngine, snapshot: Snapshot, config: RunConfig) -> Work:
    """Work that propagates the annotated slices of a snapshot and returns a `Prediction`."""

    def work(control: RunControl, listener: Listener) -> Prediction:
        case = snapshot.to_case(config.data.non_finite)
        return load().propagate(case, config, control=control, listener=listener)

    return work


def training(
    load: LoadEngine, snapshots: Sequence[Snapshot], run_dir: Path, config: RunConfig, folder: Path | None = None
) -> Work:
    """Work that trains on snapshots and a folder of cases and returns a `TrainingResult`."""

    def work(control: RunControl, listener: Listener) -> TrainingResult:
        cases = _cases(snapshots, folder, config, control, listener)
        return load().train(cases, run_dir, config, control=control, listener=listener)

    return work


def continuing(
    load: LoadEngine,
    old: Path,
    snapshots: Sequence[Snapshot],
    run_dir: Path,
    config: RunConfig,
    folder: Path | None = None,
) -> Work:
    """Work that trains on from run `old` into `run_dir` and returns a `TrainingResult`."""

    def work(control: RunControl, listener: Listener) -> TrainingResult:
        cases = _cases(snapshots, folder, config, control, listener)
        return load().continue_training(old, cases, run_dir, config, control=control, listener=listener)

    return work


def checking(snapshots: Sequence[Snapshot], config: RunConfig, folder: Path | None = None) -> Work:
    """Work that checks whether a run can start and returns a `Preflight`."""

    def work(control: RunControl, listener: Listener) -> Preflight:
        with torch_beside_a_window():
            from napari_rada.training.preflight import preflight

        listener(StageProgress(Stage.PREPARE, 0, 1))
        return preflight(_cases(snapshots, folder, config, control, listener), config)

    return work


def loading(run_dir: Path) -> Work:
    """Work that reads a run folder and returns a `LoadedRun`."""

    def work(control: RunControl, listener: Listener) -> LoadedRun:
        del control
        with torch_beside_a_window():
            from napari_rada._napari.run_files import load_run
            from napari_rada.training.run_folder import RunFolder

        listener(StageProgress(Stage.PREPARE, 0, 1))
        return load_run(RunFolder.open(run_dir))

    return work


def previewing(load: LoadEngine, run_dir: Path, snapshot: Snapshot, device: str, *, whole: bool) -> Work:
    """Work that predicts with the latest weights of a run: the annotated slices, or the whole volume."""

    def work(control: RunControl, listener: Listener) -> Prediction:
        engine, case = load(), _as_in_run(run_dir, snapshot)
        if whole:
            return engine.predict(run_dir, case, device=device, weights="last", control=control, listener=listener)
        return engine.preview(run_dir, case, device=device, control=control, listener=listener)

    return work


def predicting(
    load: LoadEngine,
    run_dir: Path,
    snapshots: Sequence[Snapshot],
    device: str,
    tidy: CleanUp | None = None,
    non_finite: NonFinite = "refuse",
) -> Work:
    """Work that predicts snapshots with a run, one after the other, and returns a `Prediction` for each.

    None stands for one of several that could not be predicted, or was not before a stop; a notice says so. Where
    nothing was predicted the first problem is raised.

    Parameters
    ----------
    non_finite
        What to do with NaN and infinity beside what the run does: they are replaced if either says so.
    """

    def work(control: RunControl, listener: Listener) -> list[Prediction | None]:
        engine = load()

        def predict(snapshot: Snapshot) -> Prediction:
            case = _as_in_run(run_dir, snapshot, non_finite)
            return engine.predict(run_dir, case, device=device, tidy=tidy, control=control, listener=listener)

        return _each(predict, snapshots, listener)

    return work


def _each(
    predict: Callable[[Snapshot], Prediction], snapshots: Sequence[Snapshot], listener: Listener
) -> list[Prediction | None]:
    """Predict all that can be, tell what was not, and raise the first problem if nothing was."""
    found: list[Prediction | None] = []
    problems: list[Exception] = []
    told: list[str] = []
    for position, snapshot in enumerate(snapshots):
        try:
            found.append(predict(snapshot))
        except (RadaError, MemoryError, OSError) as problem:
            problems.append(_bare(problem))
            told.append(f"'{snapshot.name}' was not predicted: {problem}")
            found.append(None)
        except Stopped as problem:
            problems.append(problem)
            left = [f"'{snapshot.name}'" for snapshot in snapshots[position:]]
            told.append(f"Stopped before {', '.join(left)} {'was' if len(left) == 1 else 'were'} predicted.")
            found += [None] * len(left)
            break
    if problems and all(prediction is None for prediction in found):
        raise problems[0]
    tell(listener, *told)
    return found


def _bare(problem: Exception) -> Exception:
    """Return a problem without the frames that hold the arrays of its scan."""
    problem.__context__ = problem.__cause__ = None
    return problem.with_traceback(None)


def explaining(
    load: LoadEngine, run_dir: Path, snapshot: Snapshot, value: int, device: str, non_finite: NonFinite = "refuse"
) -> Work:
    """Work that returns the `Explanation` of where a run's networks look for the class with a label value.

    `non_finite` is as for `predicting`.
    """

    def work(control: RunControl, listener: Listener) -> Explanation:
        engine, case = load(), _as_in_run(run_dir, snapshot, non_finite)
        return engine.explain(run_dir, case, str(value), device=device, control=control, listener=listener)

    return work


def reporting(run_dir: Path, device: str) -> Work:
    """Work that writes the report of a run and returns its path."""

    def work(control: RunControl, listener: Listener) -> Path:
        with torch_beside_a_window():
            from napari_rada.report.page import write_report

        return write_report(run_dir, device=device, control=control, listener=listener)

    return work


def exporting_nnunet(run_dir: Path, folder: Path) -> Work:
    """Work that writes the cases of a run as a dataset for nnU-Net v2 and returns its folder."""

    def work(control: RunControl, listener: Listener) -> Path:
        with torch_beside_a_window():
            from napari_rada.io.export import export_nnunet
            from napari_rada.training.run_folder import RunFolder
            from napari_rada.training.snapshot import load_cases, load_classes

        run = RunFolder.open(run_dir)
        return export_nnunet(load_cases(run, run.config(), control, listener), load_classes(run), folder)

    return work


def suggesting(load: LoadEngine, prediction: Prediction, annotated: Sequence[AnnotatedSlice]) -> Work:
    """Work that returns the `Suggestion` of the slice to annotate next."""

    def work(control: RunControl, listener: Listener) -> Suggestion:
        del control, listener
        return load().suggest(prediction, annotated)

    return work


def _cases(
    snapshots: Sequence[Snapshot], folder: Path | None, config: RunConfig, control: RunControl, listener: Listener
) -> list[Case]:
    """Load everything that a run learns from."""
    cases = [snapshot.to_case(config.data.non_finite) for snapshot in snapshots]
    if folder is not None:
        cases += io.load_cases([str(folder)], non_finite=config.data.non_finite, control=control, listener=listener)
    return cases


def _as_in_run(run_dir: Path, snapshot: Snapshot, non_finite: NonFinite = "refuse") -> Case:
    """Make the case with NaN and infinity replaced if the run or `non_finite` says so; without a run the engine tells.

    A run on scans without any says nothing of one that holds some.
    """
    from napari_rada.training.run_folder import RunFolder

    folder = RunFolder(run_dir)
    replaced = folder.is_run and folder.config().data.non_finite == "replace"
    return snapshot.to_case("replace" if replaced else non_finite)
