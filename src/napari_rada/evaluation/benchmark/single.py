"""One scan at a time: a few slices in, the whole structure out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from napari_rada.data.case import check_trainable
from napari_rada.errors import InputError, RadaError
from napari_rada.evaluation.benchmark.measure import measured
from napari_rada.evaluation.benchmark.methods import Conditions, Method
from napari_rada.evaluation.benchmark.ours import make_own
from napari_rada.evaluation.benchmark.peers import make_peer
from napari_rada.evaluation.benchmark.results import Row, fingerprint, measured_before
from napari_rada.evaluation.metrics import evaluate_masks
from napari_rada.evaluation.scans import scores
from napari_rada.evaluation.sparse import choose_slices, told_fewer
from napari_rada.events import Listener, Notice, Stage, StageProgress, ignore, tell

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from napari_rada.control import RunControl
    from napari_rada.data.case import Case
    from napari_rada.evaluation.benchmark.datasets import Collection, Dataset, DenseScan, Split
    from napari_rada.evaluation.benchmark.methods import Segmentation
    from napari_rada.evaluation.finished_lines import FinishedLog
    from napari_rada.events import Event


@dataclass(frozen=True)
class SingleTask:
    """What is asked of every method.

    Parameters
    ----------
    split
        Which scans.
    limit
        At most so many of each data set.
    per_axis, centre, axis
        Which slices are annotated; see `napari_rada.evaluation.sparse.choose_slices`.
    seeds
        Methods that are random are measured with each.
    """

    split: Split = "reported"
    limit: int | None = None
    per_axis: int = 1
    centre: bool = False
    seeds: tuple[int, ...] = (0,)
    axis: int | None = None


def make_method(name: str, settings: Mapping[str, object], device: str = "auto", *, cohort: bool = False) -> Method:
    """Return the method of a name, ours or a peer's; `cohort` as for `make_own`.

    Raises
    ------
    InputError
        If there is none, or it has no such stage.
    ConfigError
        If a setting is wrong.
    """
    method = make_own(name, settings, device, cohort=cohort) or make_peer(name)
    if method is None:
        raise InputError(f"There is no method {name}; see: napari-rada benchmark methods")
    return method


def run_single(
    collection: Collection,
    methods: Sequence[Method],
    task: SingleTask,
    log: FinishedLog[Row],
    *,
    control: RunControl,
    listener: Listener = ignore,
) -> list[Row]:
    """Measure every method on every scan that `log` does not hold yet, and return all rows.

    A method that fails on a scan with a clear error is told and recorded as failed.

    Raises
    ------
    InputError
        If the data sets list no scans of the split.
    ConfigError, MissingDependencyError
        Before anything is measured, if a method needs a device or a package that is not here.
    Stopped
        If a stop was requested; finished rows are kept.
    """
    for method in methods:
        method.check()
    jobs = [(d, scan) for d in collection.datasets for scan in d.scans(task.split, task.limit)]
    if not jobs:
        raise InputError(f"The data sets list no scans under {task.split!r}; choose others, or the other split.")
    rows: list[Row] = []
    for number, (dataset, scan) in enumerate(jobs):
        loaded: DenseScan | None = None
        content = collection.content(dataset, scan)
        for method, seed in _runs(methods, task.seeds):
            identity = fingerprint(_identity(collection, dataset, method, seed, task))
            if not measured_before(log, (identity, scan), content):
                control.check()
                loaded = loaded or collection.load(dataset, scan)
                told = f"{dataset.name}, {scan}, {method.name}"
                listener(StageProgress(Stage.BENCHMARK, number, len(jobs), told))
                row = _measure(loaded, dataset, method, seed, task, identity, control, _notices(listener))
                if row.error:
                    listener(Notice(f"{told} failed: {row.error}"))
                log.add(replace(row, content=content or ""))
            rows.append(log.row((identity, scan)))
    listener(StageProgress(Stage.BENCHMARK, len(jobs), len(jobs)))
    return rows


def score_row(row: Row, scan: DenseScan, found: Segmentation, case: Case) -> Row:
    """Return the row with the agreement of a segmentation with the dense labels."""
    assert scan.labels is not None
    spacing, classes = case.grid.spacing, scan.classes
    metrics = evaluate_masks(found.mask, scan.labels, spacing, classes)
    parts = {name: scores(mask, scan.labels, spacing, classes)[0] for name, mask in found.parts.items()}
    return replace(row, classes=metrics, parts=parts, note=found.note)


def _measure(
    scan: DenseScan,
    dataset: Dataset,
    method: Method,
    seed: int,
    task: SingleTask,
    identity: str,
    control: RunControl,
    listener: Listener,
) -> Row:
    row = Row(identity, dataset.name, scan.name, method.name, seed)
    try:
        assert scan.labels is not None
        case = scan.case(choose_slices(scan.labels > 0, task.per_axis, centre=task.centre, axis=task.axis))
        tell(listener, told_fewer(case, task.per_axis * (3 if task.axis is None else 1)))
        check_trainable([case])
        with measured() as usage:
            found = method.segment(case, Conditions(seed, dataset.window), control=control, listener=listener)
    except RadaError as error:
        return replace(row, error=str(error))
    return score_row(replace(row, **asdict(usage)), scan, found, case)


def _runs(methods: Sequence[Method], seeds: Sequence[int]) -> Iterator[tuple[Method, int]]:
    for method in methods:
        for seed in seeds if method.seeded else seeds[:1]:
            yield method, seed


def _identity(
    collection: Collection, dataset: Dataset, method: Method, seed: int, task: SingleTask
) -> dict[str, object]:
    """Describe all that decides what a row holds, apart from the scan."""
    return {
        "setting": "single",
        **collection.describe(dataset),
        "method": method.describe(),
        "seed": seed if method.seeded else None,
        "per_axis": task.per_axis,
        "centre": task.centre,
        **({} if task.axis is None else {"axis": task.axis}),
    }


def _notices(listener: Listener) -> Listener:
    """Let only what should be read once through: a benchmark runs a method hundreds of times."""

    def told(event: Event) -> None:
        if isinstance(event, Notice):
            listener(event)

    return told
