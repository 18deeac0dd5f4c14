"""Train on some scans, a few slices of each annotated, and test on scans never seen, or on annotated ones."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from napari_rada.errors import InputError
from napari_rada.evaluation.benchmark.measure import measured
from napari_rada.evaluation.benchmark.methods import Conditions
from napari_rada.evaluation.benchmark.ours import training_seconds
from napari_rada.evaluation.benchmark.results import Row, fingerprint, measured_before
from napari_rada.evaluation.benchmark.single import score_row
from napari_rada.evaluation.sparse import choose_slices, told_fewer
from napari_rada.events import Listener, Notice, Stage, StageProgress, ignore, tell
from napari_rada.training.run_folder import RunFolder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_rada.control import RunControl
    from napari_rada.data.case import Case
    from napari_rada.evaluation.benchmark.datasets import CohortSplit, Collection, Dataset, DenseScan
    from napari_rada.evaluation.benchmark.ours import OwnTraining
    from napari_rada.evaluation.finished_lines import FinishedLog

Tested: TypeAlias = Literal["unseen", "annotated", "taught"]
"""The test scans as they are; the same with slices of theirs annotated; the annotated scans that taught."""


@dataclass(frozen=True)
class CohortTask:
    """What is asked of every method.

    Parameters
    ----------
    limit
        At most so many scans of each kind: labelled, unlabelled, test.
    per_axis, centre
        Which slices of the labelled scans are annotated.
    seeds
        Each trains anew.
    tested
        Which scans are predicted; networks that were trained for some are not trained again for others.
    """

    limit: int | None = None
    per_axis: int = 1
    centre: bool = False
    seeds: tuple[int, ...] = (0,)
    tested: Tested = "unseen"


def run_cohort(
    collection: Collection,
    methods: Sequence[OwnTraining],
    task: CohortTask,
    log: FinishedLog[Row],
    folder: Path,
    *,
    control: RunControl,
    listener: Listener = ignore,
) -> list[Row]:
    """Train every method on every data set that has a cohort, and measure it on the scans that `task` asks for.

    Run folders are kept in `folder`, so that an interrupted training goes on where it ended.

    Raises
    ------
    InputError
        If no data set has a cohort.
    RadaError
        If a training fails.
    Stopped
        If a stop was requested.
    """
    datasets = [dataset for dataset in collection.datasets if dataset.cohort is not None]
    if not datasets:
        raise InputError("None of the data sets has a cohort (train, unlabelled, test) in its datasets file.")
    methods = [replace(method, config=method.config.for_cohort()) for method in methods]
    for method in methods:
        method.check()
    rows: list[Row] = []
    for dataset in datasets:
        assert dataset.cohort is not None
        split = limited(dataset.cohort, task.limit)
        for method in methods:
            for seed in task.seeds:
                experiment = _Experiment(collection, dataset, split, method, seed, task, folder)
                rows += experiment.run(log, control, listener)
    return rows


@dataclass(frozen=True)
class _Experiment:
    """One training and its test."""

    collection: Collection
    dataset: Dataset
    split: CohortSplit
    method: OwnTraining
    seed: int
    task: CohortTask
    folder: Path

    @property
    def identity(self) -> str:
        """Fingerprint of the training: all that decides the result, apart from what is predicted."""
        return fingerprint(
            {
                "setting": "cohort",
                **self.collection.describe(self.dataset),
                "train": self.split.train,
                "unlabelled": self.split.unlabelled,
                "method": self.method.describe(),
                "seed": self.seed,
                "per_axis": self.task.per_axis,
                "centre": self.task.centre,
            }
        )

    def run(self, log: FinishedLog[Row], control: RunControl, listener: Listener) -> list[Row]:
        run_dir = self.folder / f"{self.method.name.replace('/', '-')}-seed{self.seed}-{self.identity}"
        tested = self.task.tested
        identity = self.identity if tested == "unseen" else fingerprint({"training": self.identity, "tested": tested})
        tests = self.split.train if tested == "taught" else self.split.test
        contents = {scan: self.collection.content(self.dataset, scan) for scan in tests}
        left = [scan for scan in tests if not measured_before(log, (identity, scan), contents[scan])]
        if left:
            listener(Notice(f"{self.dataset.name}, {self.method.name}, seed {self.seed}: training in {run_dir}"))
            conditions, cases = Conditions(self.seed, self.dataset.window, run_dir), self._cases(run_dir)
            for case in cases:
                if case.is_labelled:
                    tell(listener, told_fewer(case, 3 * self.task.per_axis))
            self.method.train(cases, run_dir, conditions, control=control, listener=listener)
        for number, scan in enumerate(tests):
            if scan in left:
                control.check()
                told = f"{self.dataset.name}, {scan}, {self.method.name}"
                listener(StageProgress(Stage.BENCHMARK, number, len(tests), told))
                log.add(replace(self._test(scan, run_dir, identity, control), content=contents[scan] or ""))
        listener(StageProgress(Stage.BENCHMARK, len(tests), len(tests)))
        return [log.row((identity, scan)) for scan in tests]

    def _cases(self, run_dir: Path) -> list[Case]:
        """Read the scans to train on; none if the run has its own already."""
        if RunFolder(run_dir).is_run:
            return []
        cases = [self._annotated(self.collection.load(self.dataset, scan)) for scan in self.split.train]
        for scan in self.split.unlabelled:
            cases.append(self.collection.load(self.dataset, scan, labelled=False).case())
        return cases

    def _annotated(self, loaded: DenseScan) -> Case:
        assert loaded.labels is not None
        return loaded.case(choose_slices(loaded.labels > 0, self.task.per_axis, centre=self.task.centre))

    def _test(self, scan: str, run_dir: Path, identity: str, control: RunControl) -> Row:
        loaded = self.collection.load(self.dataset, scan)
        case = loaded.case() if self.task.tested == "unseen" else self._annotated(loaded)
        with measured() as usage:
            found = self.method.predict(case, run_dir, control=control)
        found = replace(found, parts=self.method.halfway(case, run_dir, control=control))
        row = Row(identity, self.dataset.name, scan, self.method.name, self.seed, **asdict(usage))
        return score_row(replace(row, train_s=training_seconds(run_dir)), loaded, found, case)


def limited(split: CohortSplit, limit: int | None) -> CohortSplit:
    """Return a split with at most `limit` scans of each kind."""
    kept = {name: getattr(split, name)[:limit] for name in ("train", "unlabelled", "test")}
    return split.model_copy(update=kept)
