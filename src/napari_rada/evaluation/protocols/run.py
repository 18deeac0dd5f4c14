"""Running a protocol from the unpacked archive to the table beside the paper's figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_rada.evaluation.benchmark.cohort import CohortTask, limited, run_cohort
from napari_rada.evaluation.benchmark.datasets import Collection, Dataset
from napari_rada.evaluation.benchmark.report import NOT_KNOWN, spread
from napari_rada.evaluation.benchmark.summary import summarise
from napari_rada.evaluation.protocols.prepare import Preparation, prepare
from napari_rada.evaluation.protocols.sources import find_sources
from napari_rada.evaluation.protocols.splits import choose_split
from napari_rada.events import Listener, Notice, ignore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_rada.control import RunControl
    from napari_rada.evaluation.benchmark.datasets import CohortSplit
    from napari_rada.evaluation.benchmark.ours import OwnTraining
    from napari_rada.evaluation.benchmark.results import Row
    from napari_rada.evaluation.finished_lines import FinishedLog
    from napari_rada.evaluation.protocols.definitions import ProtocolDefinition


@dataclass(frozen=True)
class ProtocolRun:
    """What was measured, and where the split came from."""

    rows: list[Row]
    notes: tuple[str, ...]


def run_protocol(
    data: Path,
    out: Path,
    preparation: Preparation,
    methods: Sequence[OwnTraining],
    task: CohortTask,
    log: FinishedLog[Row],
    *,
    lists: Path | None = None,
    control: RunControl,
    listener: Listener = ignore,
) -> ProtocolRun:
    """Prepare, split, train, test; each part goes on where it was interrupted.

    Parameters
    ----------
    data
        The unpacked data set.
    out
        Gets ``prepared/`` and ``runs/``.
    lists
        Folder with lists of the training and test scans; `data` by default.

    Raises
    ------
    InputError
        If the data cannot be used.
    Stopped
        If a stop was requested.
    """
    definition = preparation.definition
    sources = find_sources(data, definition)
    split, origin = choose_split(sources, definition, lists or data)
    listener(Notice(origin))
    split = limited(split, task.limit)
    wanted = {*split.train, *split.unlabelled, *split.test}
    folder = out / "prepared"
    folder.mkdir(exist_ok=True)
    used = [source for source in sources if source.name in wanted]
    prepare(used, folder, preparation, control=control, listener=listener)
    collection = Collection((_dataset(definition, split),), folder, root_name=folder.name)
    runs = out / "runs"
    runs.mkdir(exist_ok=True)
    rows = run_cohort(collection, methods, task, log, runs, control=control, listener=listener)
    notes = [origin] if task.limit is None else [origin, f"Limited to {task.limit} scans of each kind."]
    return ProtocolRun(rows, tuple(notes))


def protocol_settings(definition: ProtocolDefinition) -> dict[str, object]:
    """Return what a protocol changes in the settings of a preset; the window comes with the data set."""
    return {"training.patch": list(definition.patch)}


def comparison_table(definition: ProtocolDefinition, rows: Sequence[Row]) -> str:
    """Write a Markdown table: what was measured here, then the figures of the papers."""
    lines = ["| method | scans | Dice | Jaccard | HD95, mm | ASD, mm |", "|---" * 6 + "|"]
    for found in summarise(rows):
        metrics = (
            spread(value, digits)
            for value, digits in ((found.dice, 4), (found.jaccard, 4), (found.hd95_mm, 2), (found.asd_mm, 2))
        )
        scans = f"{found.scans}" + (f", {found.seeds} seeds" if found.seeds > 1 else "")
        lines.append(f"| {found.method}, here | {scans} | {' | '.join(metrics)} |")
    for paper in definition.published:
        jaccard = NOT_KNOWN if paper.jaccard is None else f"{paper.jaccard:.4f}"
        lines.append(
            f"| {paper.method} | {definition.test} | {paper.dice:.4f} | {jaccard} | {NOT_KNOWN} | {NOT_KNOWN} |"
        )
    return "\n".join(lines) + "\n"


def _dataset(definition: ProtocolDefinition, split: CohortSplit) -> Dataset:
    return Dataset(
        name=definition.title,
        image="{scan}_image.nii.gz",
        labels="{scan}_label.nii.gz",
        structures={name: (value,) for value, name in enumerate(definition.structures, start=1)},
        window=definition.window,
        cohort=split,
    )
