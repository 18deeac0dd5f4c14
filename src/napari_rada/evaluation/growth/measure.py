"""How time and memory grow with the voxels, the classes and the scans: each point is measured in a fresh process.

A point that was measured with the same settings is not measured again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from napari_rada.errors import RadaError
from napari_rada.evaluation.benchmark.results import fingerprint
from napari_rada.evaluation.growth.point import Spec, Term
from napari_rada.evaluation.growth.task import GrowthTask, Point
from napari_rada.events import Listener, Notice, Stage, StageProgress, ignore
from napari_rada.temporary import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_rada.control import RunControl
    from napari_rada.evaluation.finished_lines import FinishedLog

LOOK_S = 0.05
"""Between two looks at whether a stop was requested."""
MODULE = "napari_rada.evaluation.growth.point"


@dataclass(frozen=True)
class GrowthRow:
    """A point that was measured.

    Parameters
    ----------
    task
        Fingerprint of the point and its settings.
    terms
        What was found; empty if it failed.
    error
        Why it failed; empty if it did not.
    """

    task: str
    point: Point
    terms: tuple[Term, ...] = ()
    error: str = ""

    @property
    def key(self) -> str:
        """The task."""
        return self.task

    def to_json(self) -> str:
        """Return one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> GrowthRow:
        """Read a line that `to_json` made; raises what a wrong line raises."""
        entry = json.loads(line)
        point = entry["point"]
        terms = tuple(Term(**term) for term in entry["terms"])
        return cls(entry["task"], Point(**{**point, "shape": tuple(point["shape"])}), terms, entry["error"])


def in_a_process(spec: Spec, control: RunControl) -> list[Term]:
    """Measure a point in a process of its own, which ends if a stop is requested or this one is killed.

    Raises
    ------
    Stopped
        If a stop was requested.
    RadaError
        If the process fails.
    """
    with temporary_folder() as folder:
        (folder / "spec.json").write_text(spec.to_json(), encoding="utf-8")
        files = [str(folder / "spec.json"), str(folder / "result.json")]
        command = [sys.executable, "-m", MODULE, *files, str(os.getpid())]
        with (
            (folder / "errors").open("wb") as errors,
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors) as child,  # noqa: S603 - our module
        ):
            _wait(child, control)
        control.check()
        if child.returncode != 0:
            said = (folder / "errors").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise RadaError(f"The process ended with status {child.returncode}. {said[-1] if said else ''}".strip())
        result: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    if "error" in result:
        raise RadaError(result["error"])
    return [Term(**term) for term in result["terms"]]


def _wait(child: subprocess.Popen[bytes], control: RunControl) -> None:
    while not control.stop_requested:
        try:
            child.wait(LOOK_S)
        except subprocess.TimeoutExpired:
            continue
        return
    child.kill()


Measure: TypeAlias = "Callable[[Spec, RunControl], list[Term]]"


def run_growth(
    task: GrowthTask,
    folder: Path,
    log: FinishedLog[GrowthRow],
    *,
    control: RunControl,
    listener: Listener = ignore,
    measure: Measure = in_a_process,
) -> dict[Point, GrowthRow]:
    """Measure every point that `log` does not hold yet, and return all of them.

    A point that fails with a clear error is recorded as failed.

    Parameters
    ----------
    folder
        For the runs that points need of each other, which are deleted when they were used.

    Raises
    ------
    InputError, ConfigError
        If the task or a setting is wrong, before anything is measured.
    Stopped
        If a stop was requested; finished points are kept.
    """
    task.check()
    specs = _specs(task, folder)
    rows = {}
    for number, (point, spec) in enumerate(specs.items()):
        name = identity(spec)
        if not log.has(name):
            control.check()
            listener(StageProgress(Stage.BENCHMARK, number, len(specs), str(point)))
            needed = None if point.needs is None or spec.run.exists() else specs[point.needs]
            log.add(_row(spec, needed, control, measure))
            if error := log.row(name).error:
                listener(Notice(f"{point}: {error}"))
        rows[point] = log.row(name)
    shutil.rmtree(folder, ignore_errors=True)
    listener(StageProgress(Stage.BENCHMARK, len(specs), len(specs)))
    return rows


def identity(spec: Spec) -> str:
    """Return the fingerprint of all that decides what a row holds."""
    config = spec.config.model_dump(mode="json")
    return fingerprint({"point": asdict(spec.point), "config": config, "repeats": spec.repeats})


def _specs(task: GrowthTask, folder: Path) -> dict[Point, Spec]:
    """Return what is to be measured, in order; work that predicts has the folder of the run that it needs."""
    found = {point: Spec(point, task.config(point), task.repeats, folder) for point in task.all_points()}
    names = {point: identity(spec) for point, spec in found.items()}
    return {point: replace(spec, run=folder / names[point.needs or point]) for point, spec in found.items()}


def _row(spec: Spec, needed: Spec | None, control: RunControl, measure: Measure) -> GrowthRow:
    """Measure a point, after the one whose run it needs where an interruption took that run away."""
    try:
        if needed is not None:
            _measured(needed, control, measure)
        terms = _measured(spec, control, measure)
    except RadaError as error:
        return GrowthRow(identity(spec), spec.point, error=str(error))
    return GrowthRow(identity(spec), spec.point, terms)


def _measured(spec: Spec, control: RunControl, measure: Measure) -> tuple[Term, ...]:
    """Measure a point; the run that it leaves gets its name when it is whole, the one that it used is deleted."""
    if spec.point.needs is not None:
        terms = tuple(measure(spec, control))
        shutil.rmtree(spec.run, ignore_errors=True)
        return terms
    half = spec.run.with_name(f"{spec.run.name}-half")
    for left in (half, spec.run):  # by one that was ended
        shutil.rmtree(left, ignore_errors=True)
    try:
        terms = tuple(measure(replace(spec, run=half), control))
        if spec.point.leaves_run:
            half.rename(spec.run)
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return terms
