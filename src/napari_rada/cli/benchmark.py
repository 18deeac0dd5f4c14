"""benchmark single, cohort, growth, report, methods. Each returns False if it was stopped before its end."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from napari_rada.cli.commands import output_folder
from napari_rada.config import parse_settings
from napari_rada.durable import write_text
from napari_rada.errors import InputError
from napari_rada.evaluation.benchmark.ablation import guidance_notes, variants
from napari_rada.evaluation.benchmark.cohort import CohortTask, run_cohort
from napari_rada.evaluation.benchmark.datasets import load_datasets
from napari_rada.evaluation.benchmark.ours import HELD_OUT, LABELLED_ONLY, PROPAGATIONS, STAGES, VIEWS, OwnTraining
from napari_rada.evaluation.benchmark.peers import PEER_STAGES, PEERS
from napari_rada.evaluation.benchmark.report import insert_table, write_report
from napari_rada.evaluation.benchmark.results import Row
from napari_rada.evaluation.benchmark.single import SingleTask, make_method, run_single
from napari_rada.evaluation.finished_lines import FinishedLog
from napari_rada.evaluation.growth.measure import GrowthRow, run_growth
from napari_rada.evaluation.growth.report import write_growth
from napari_rada.evaluation.growth.task import GrowthTask
from napari_rada.events import Notice
from napari_rada.lock import kept_to_one
from napari_rada.presets import PRESETS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from napari_rada.cli.console import Console
    from napari_rada.control import RunControl
    from napari_rada.evaluation.benchmark.datasets import Collection
    from napari_rada.evaluation.benchmark.methods import Method
    from napari_rada.evaluation.finished_lines import Finished

RESULTS = "results.jsonl"
LOCK = "benchmark.lock"
RowT = TypeVar("RowT", bound="Finished")
REPORTS = ("report.json", "growth.json")


def single(args: argparse.Namespace, console: Console, control: RunControl) -> bool:
    """Measure methods on one scan at a time."""
    collection, methods = _collection(args), methods_from(args)
    per_axis, seeds = positive(args.per_axis) or 1, tuple(args.seeds)
    task = SingleTask(args.split, positive(args.limit), per_axis, args.centre, seeds, args.axis)
    with finished_in(args.out, Row.from_json) as (folder, log):
        rows = run_single(collection, methods, task, log, control=control, listener=console)
        return finish(folder, rows, args, console)


def cohort(args: argparse.Namespace, console: Console, control: RunControl) -> bool:
    """Train on some scans and test on others."""
    collection = _collection(args)
    methods = check_trains(methods_from(args, cohort=True))
    per_axis = positive(args.per_axis) or 1
    task = CohortTask(positive(args.limit), per_axis, args.centre, tuple(args.seeds), args.test)
    with finished_in(args.out, Row.from_json) as (folder, log):
        runs = output_folder(folder / "runs")
        rows = run_cohort(collection, methods, task, log, runs, control=control, listener=console)
        return finish(folder, rows, args, console)


def ablation(args: argparse.Namespace, console: Console, control: RunControl) -> bool:
    """Measure one method at each level of a factor."""
    collection, of_cohort = _collection(args), args.setting == "cohort"
    bases = check_trains(methods_from(args, cohort=of_cohort))
    if len(bases) > 1:
        raise InputError("An ablation is of one method; name a single one.")
    with finished_in(args.out, Row.from_json) as (folder, log):
        settings = _random_weights(bases[0], folder, console) if args.random_weights else {}
        methods = variants(bases[0], args.factor, args.level, settings)
        limit, per_axis = positive(args.limit), positive(args.per_axis) or 1
        if of_cohort:
            whole = CohortTask(limit, per_axis, args.centre, tuple(args.seeds))
            runs = output_folder(folder / "runs")
            rows = run_cohort(collection, methods, whole, log, runs, control=control, listener=console)
        else:
            task = SingleTask(args.split, limit, per_axis, args.centre, tuple(args.seeds))
            rows = run_single(collection, methods, task, log, control=control, listener=console)
        return finish(folder, rows, args, console)


def growth(args: argparse.Namespace, console: Console, control: RunControl) -> bool:
    """Measure how time and memory grow.

    Raises
    ------
    InputError
        At the end, if a point could not be measured.
    """
    task = GrowthTask(
        sides=tuple(args.sides),
        uncapped=args.uncapped,
        classes=tuple(args.classes),
        classes_side=args.classes_side,
        scans=tuple(args.scans),
        scans_side=args.scans_side,
        whole=tuple(args.whole),
        patch=tuple(args.patch),
        repeats=args.repeats,
        settings=parse_settings(args.settings),
    )
    task.check()
    with finished_in(args.out, GrowthRow.from_json) as (folder, log):
        rows = run_growth(task, folder / "runs", log, control=control, listener=console)
        text = write_growth(folder, task, rows, _about(args))
    data = json.loads((folder / "growth.json").read_text(encoding="utf-8"))
    files = f"Files in {folder}: growth.md, growth.json, growth.csv, growth.svg"
    console.result({**data, "folder": folder}, f"{text}\n{files}")
    if failed := sum(bool(row.error) for row in rows.values()):
        raise InputError(
            f"{failed} of {len(rows)} points failed; mend what {folder / 'growth.csv'} says, then run the same command "
            "again: it measures those alone."
        )
    return True


def report(args: argparse.Namespace, console: Console, control: RunControl) -> bool:
    """Put the summary of a finished benchmark into a page."""
    folder, page = Path(args.folder), Path(args.into)
    file = next((path for name in REPORTS if (path := folder / name).exists()), folder / REPORTS[0])
    try:
        table = json.loads(file.read_text(encoding="utf-8"))["table"]
    except (OSError, ValueError, KeyError):
        raise InputError(f"{file} is no report of a benchmark; name the folder of a finished one.") from None
    name = args.name or folder.name
    insert_table(page, name, table)
    console.result({"page": page, "name": name}, f"{page}: table {name} replaced")
    return True


def list_methods(args: argparse.Namespace, console: Console, control: RunControl) -> bool:
    """Name the methods."""
    propagations = ["auto", *PROPAGATIONS]
    found = {
        "propagation": {"names": propagations, "stages": [VIEWS, HELD_OUT]},
        "training": {"names": list(PRESETS), "stages": [*STAGES, LABELLED_ONLY]},
        "peers": {"names": list(PEERS), "stages": list(PEER_STAGES)},
    }
    lines = [
        f"{kind}: {', '.join(entry['names'])}" + (f"; stages: {', '.join(entry['stages'])}" if entry["stages"] else "")
        for kind, entry in found.items()
    ]
    console.result(found, "\n".join([*lines, "A method is NAME or NAME/STAGE/…, for example quick/no-cross."]))
    return True


def _random_weights(base: OwnTraining, folder: Path, console: Console) -> dict[str, object]:
    """Return the settings that guide by made-up weights, which are made if the folder does not hold them."""
    statement = output_folder(folder / "random-weights") / "settings.json"
    if not statement.exists():
        from napari_rada.guidance.random_weights import save_random_weights

        model = base.config.guidance.model
        console(Notice(f"Making random weights of {model}."))
        files = save_random_weights(model, statement.parent)
        settings = {"clip_weights": files.clip.resolve(), "alpha_weights": files.alpha.resolve()}
        write_text(statement, json.dumps({f"guidance.{name}": str(path) for name, path in settings.items()}))
    found: dict[str, object] = json.loads(statement.read_text(encoding="utf-8"))
    return found


def _about(args: argparse.Namespace) -> dict[str, object]:
    """Return what was asked for, for the report."""
    return {name: value for name, value in vars(args).items() if name not in ("run", "json", "out", "team")}


def check_trains(methods: Sequence[Method]) -> list[OwnTraining]:
    """Return the methods if all of them train.

    Raises
    ------
    InputError
        If one does not.
    """
    training = [method for method in methods if isinstance(method, OwnTraining)]
    if len(training) < len(methods):
        raise InputError("Only methods that train can be tested on a cohort; name a preset.")
    return training


def _collection(args: argparse.Namespace) -> Collection:
    return load_datasets(args.datasets, args.root).chosen(args.dataset)


def methods_from(
    args: argparse.Namespace, base: Mapping[str, object] | None = None, *, cohort: bool = False
) -> list[Method]:
    """Make the methods that were named, with the settings of `base`, then those that were given."""
    settings = {**(base or {}), **parse_settings(args.settings)}
    names: Sequence[str] = args.method or [args.default_method]
    return [make_method(name, settings, args.device, cohort=cohort) for name in dict.fromkeys(names)]


@contextmanager
def finished_in(out: Path | str, parse: Callable[[str], RowT]) -> Iterator[tuple[Path, FinishedLog[RowT]]]:
    """Make the folder of a benchmark, keep it to this process and open its finished measurements.

    Raises
    ------
    InputError
        If it cannot be written, another benchmark runs in it, or it holds results of something else.
    """
    folder = output_folder(out)
    with kept_to_one(folder / LOCK, f"The folder {folder}", "another folder", InputError):
        yield folder, FinishedLog(folder / RESULTS, parse)


def positive(number: int | None) -> int | None:
    """Return a number if it is one that can be counted with; raises `InputError` if not."""
    if number is not None and number < 1:
        raise InputError(f"{number} is not possible here; give a number from 1 on.")
    return number


def finish(
    folder: Path,
    rows: Sequence[Row],
    args: argparse.Namespace,
    console: Console,
    *,
    table: str = "",
    notes: Sequence[str] = (),
) -> bool:
    """Write the report and print it; returns True.

    Raises
    ------
    InputError
        At the end, if a method has failed wherever it was measured.
    """
    about = _about(args)
    text = write_report(folder, rows, about, table=table, notes=[*notes, *guidance_notes(rows)])
    data = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    files = f"Files in {folder}: report.md, report.json, scans.csv, plot.svg"
    console.result({**data, "folder": folder}, f"{text}\n{files}")
    failed = {row.method for row in rows if row.error} - {row.method for row in rows if not row.error}
    if failed:
        raise InputError(
            f"{', '.join(sorted(failed))} failed on every scan; mend what {folder / 'scans.csv'} says, then run "
            "the same command again."
        )
    return True
