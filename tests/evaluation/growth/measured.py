"""A small task, and what stands in for its measurements."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_rada.control import RunControl
from napari_rada.evaluation.finished_lines import FinishedLog
from napari_rada.evaluation.growth.measure import GrowthRow, run_growth
from napari_rada.evaluation.growth.point import Spec, Term
from napari_rada.evaluation.growth.task import GrowthTask, Point

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

TINY = GrowthTask(
    sides=(16, 24),
    uncapped=16,
    classes=(1, 2),
    classes_side=16,
    scans=(1, 2),
    scans_side=16,
    whole=(24, 16, 16),
    patch=(16, 16, 16),
    repeats=1,
    settings={"training.iterations": 1, "model.filters": 2, "model.blocks": [1, 1]},
)
SIZES = 2 * 4 + 1
POINTS = SIZES + 2 + 4 + 2
"""Those with the voxels, the whole scan and its run, those with more classes, and the cohorts."""


class Measured:
    """Stands in for the process of a point: time and memory grow with the voxels of all scans, linearly."""

    def __init__(self, stop_at: int = 0) -> None:
        self.specs: list[Spec] = []
        self.stop_at = stop_at

    def __call__(self, spec: Spec, control: RunControl) -> list[Term]:
        self.specs.append(spec)
        if len(self.specs) == self.stop_at:
            control.stop()
            control.check()
        point = spec.point
        if point.needs is None:
            spec.run.mkdir(parents=True)
        else:
            assert spec.run.is_dir()
        size = point.size("voxels") * point.scans
        names = {"quick", "vnet", "cohort", "finished"}
        kinds = ("preparation", "step") if point.work in names else ("",)
        terms = [self._term(f"{point.work} {kind}".strip(), size) for kind in kinds]
        if point.work == "propagation":
            coarse = replace(terms[0], peak_mib=terms[0].before_mib + 3 * 512 * 4 / 2**20, grid_voxels=512)
            terms = [replace(coarse, name="walk"), replace(coarse, name="all three opinions"), *terms]
        return terms

    @staticmethod
    def _term(name: str, size: int) -> Term:
        return Term(name, size / 1e3, size / 2e3, 600.0 + size / 1e4, 600.0, 600.0)


def run(folder: Path, measure: Callable[..., Any], task: GrowthTask = TINY, **more: Any) -> dict[Point, GrowthRow]:
    log = FinishedLog(folder / "results.jsonl", GrowthRow.from_json)
    more.setdefault("control", RunControl())
    return run_growth(task, folder / "runs", log, measure=measure, **more)
