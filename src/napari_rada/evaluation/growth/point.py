"""Measures one point of `napari-rada benchmark growth`; runs in a process of its own, whose memory is then its own.

``python -m napari_rada.evaluation.growth.point SPEC.json RESULT.json``
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from napari_rada import pipeline
from napari_rada.config import RunConfig, parse
from napari_rada.control import RunControl
from napari_rada.data.case import check_trainable
from napari_rada.data.working import coarsen, coarsening_factors
from napari_rada.durable import write_text
from napari_rada.errors import NotEnoughMemoryError, RadaError
from napari_rada.evaluation.benchmark.measure import measured, peak_gib, reset_peak
from napari_rada.evaluation.family import end_with
from napari_rada.evaluation.growth.scans import make_scan
from napari_rada.evaluation.growth.task import Point
from napari_rada.events import StepLogged, TrainingStarted, ignore
from napari_rada.models.device import computing
from napari_rada.preparation import Work, working_grids
from napari_rada.propagation import make_propagator
from napari_rada.settings import CombinedConfig
from napari_rada.temporary import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_rada.data.case import Case
    from napari_rada.data.working import WorkingCase
    from napari_rada.events import Event

MIB_PER_GIB = 1024
WARM = (24, 24, 24)
"""Shape of the scan on which everything is done once before: what loads libraries is not measured."""


@dataclass(frozen=True)
class Spec:
    """What a process shall measure.

    Parameters
    ----------
    run
        Folder of the run: to be made by work that trains, to predict with by work that predicts.
    """

    point: Point
    config: RunConfig
    repeats: int
    run: Path

    def to_json(self) -> str:
        """Return it as text."""
        entry = {"point": asdict(self.point), "repeats": self.repeats, "run": str(self.run)}
        return json.dumps({**entry, "config": self.config.model_dump(mode="json")})

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """Read what `to_json` made."""
        entry = json.loads(text)
        point = entry["point"]
        return cls(
            Point(**{**point, "shape": tuple(point["shape"])}),
            parse(entry["config"]),
            entry["repeats"],
            Path(entry["run"]),
        )


@dataclass(frozen=True)
class Term:
    """Time and memory of one part of the work.

    Parameters
    ----------
    name
        What was done.
    seconds, cpu_s
        Of the fastest time; by the clock, and of computing.
    peak_mib
        Largest resident memory of the process meanwhile; None where the system does not tell.
    libraries_mib
        Resident memory after all this was done once on a tiny scan: interpreter, libraries, networks.
    before_mib
        Resident memory when this began: the libraries and the loaded scans.
    grid_voxels
        Voxels of the coarse grid that the propagation works on; 0 where it does not matter.
    """

    name: str
    seconds: float
    cpu_s: float
    peak_mib: float | None
    libraries_mib: float
    before_mib: float
    grid_voxels: int = 0

    @property
    def own_mib(self) -> float | None:
        """Memory without the libraries' share."""
        return None if self.peak_mib is None else self.peak_mib - self.libraries_mib

    @property
    def extra_mib(self) -> float | None:
        """Memory beyond what was there before: libraries and loaded scans."""
        return None if self.peak_mib is None else self.peak_mib - self.before_mib


def measure(spec: Spec) -> list[Term]:
    """Measure a point in this process."""
    warm_up(spec)
    libraries = resident_mib()
    point = spec.point
    cases = [make_scan(point.shape, point.classes, number, name=f"balls{number}") for number in range(point.scans)]
    if point.work in ("propagation", "uncapped"):
        return _propagation(spec, cases[0], libraries)
    if point.needs is not None:
        return [_timed(point.work, lambda: pipeline.predict(spec.run, cases[0], device="cpu"), spec, libraries)]
    return _training(spec, cases, libraries)


def warm_up(spec: Spec) -> None:
    """Do the same on a tiny scan."""
    tiny = make_scan(WARM, spec.point.classes)
    if spec.point.work in ("propagation", "uncapped"):
        pipeline.propagate(tiny, spec.config)
    elif spec.point.needs is not None:
        pipeline.predict(spec.run, tiny, device="cpu")
    else:
        with temporary_folder() as folder:
            config = spec.config.with_settings({"training.iterations": 2})
            pipeline.train([tiny], folder / "run", config)


def _propagation(spec: Spec, case: Case, libraries: float) -> list[Term]:
    """Measure the whole propagation and, with the settings of the default, what happens on its coarse grid alone."""
    found: list[Term] = []
    voxels = 0
    if spec.point.work == "propagation":
        coarse = _coarse(case, spec.config)
        voxels = prod(coarse.shape)
        combined = spec.config.propagation
        assert isinstance(combined, CombinedConfig)
        walk = spec.config.model_copy(update={"propagation": combined.diffusion})
        found.append(_timed("walk", lambda: _propagate(coarse, walk), spec, libraries))
        found.append(_timed("all three opinions", lambda: _propagate(coarse, spec.config), spec, libraries))
    found.append(_timed(spec.point.work, lambda: pipeline.propagate(case, spec.config), spec, libraries))
    return [replace(term, grid_voxels=voxels) for term in found]


def _coarse(case: Case, config: RunConfig) -> WorkingCase:
    """Return the first of the grids that the walk is solved on."""
    way = config.propagation
    assert isinstance(way, CombinedConfig)
    working = working_grids(Work(case, check_trainable([case]), config, RunControl(), ignore))[0]
    return coarsen(working, coarsening_factors(working.shape, working.spacing, way.diffusion.max_voxels))


def _propagate(case: WorkingCase, config: RunConfig) -> object:
    with computing(config.threads):
        propagator = make_propagator(config.propagation)
        return propagator.propagate(case, held_out=False, control=RunControl(), on_progress=lambda done, total: None)


def _timed(name: str, work: Callable[[], object], spec: Spec, libraries: float) -> Term:
    """Do something a few times; the fastest counts, and the largest memory."""
    usages, before = [], []
    for _ in range(spec.repeats):
        before.append(resident_mib())
        with measured() as usage:
            work()
        usages.append(usage)
    peaks = [usage.peak_gib for usage in usages]
    return Term(
        name,
        min(usage.seconds for usage in usages),
        min(usage.cpu_s for usage in usages),
        None if peaks[0] is None else peaks[0] * MIB_PER_GIB,
        libraries,
        before[0],
    )


class _Watch:
    """Listens to a training, and notes time and memory of preparation and iterations."""

    def __init__(self) -> None:
        self.started = 0
        self.preparation = (0.0, 0.0)
        self.preparation_peak: float | None = None
        self.peak: float | None = None
        self.steps: list[tuple[float, float]] = []
        self._before = (time.perf_counter(), time.process_time())

    def __call__(self, event: Event) -> None:
        if isinstance(event, TrainingStarted):
            self.started += 1
            self.preparation, self.preparation_peak = self._since(), peak_gib()
            reset_peak()
        elif isinstance(event, StepLogged):
            self.steps.append(self._since())
            self.peak = peak_gib()

    def _since(self) -> tuple[float, float]:
        """Seconds by the clock and of computing since the last call."""
        now = (time.perf_counter(), time.process_time())
        passed = (now[0] - self._before[0], now[1] - self._before[1])
        self._before = now
        return passed


def _training(spec: Spec, cases: Sequence[Case], libraries: float) -> list[Term]:
    """Measure the preparation per scan, and an iteration; the first warms up."""
    before = resident_mib()
    reset_peak()
    watch = _Watch()
    pipeline.train(cases, spec.run, spec.config, listener=watch)
    if watch.started != 1:
        raise NotEnoughMemoryError("Memory ran out in training, which went on with less; close other programs.")
    steps = watch.steps[1:] or watch.steps
    seconds, cpu_s = (min(step[part] for step in steps) for part in range(2))
    prepared, computed = (value / len(cases) for value in watch.preparation)
    return [
        Term(f"{spec.point.work} preparation", prepared, computed, _mib(watch.preparation_peak), libraries, before),
        Term(f"{spec.point.work} step", seconds, cpu_s, _mib(watch.peak), libraries, before),
    ]


def _mib(gib: float | None) -> float | None:
    return None if gib is None else gib * MIB_PER_GIB


def resident_mib() -> float:
    """Resident memory of this process, after what is free was given back to the system."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
        if trim is not None:
            trim(0)
    return float(psutil.Process().memory_info().rss) / 2**20


def main(argv: Sequence[str]) -> int:
    """Read a specification, measure, and write the result or what went wrong."""
    spec_file, result_file = map(Path, argv)
    result: dict[str, Any]
    try:
        terms = measure(Spec.from_json(spec_file.read_text(encoding="utf-8")))
        result = {"terms": [asdict(term) for term in terms]}
    except RadaError as error:
        result = {"error": str(error)}
    write_text(result_file, json.dumps(result))
    return 0


if __name__ == "__main__":
    end_with(int(sys.argv[3]))
    sys.exit(main(sys.argv[1:3]))
