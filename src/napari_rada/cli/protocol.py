"""benchmark la2018, kits19, lits: the paper's protocols."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_rada.cli.benchmark import check_trains, finish, finished_in, methods_from, positive
from napari_rada.errors import InputError
from napari_rada.evaluation.benchmark.cohort import CohortTask
from napari_rada.evaluation.benchmark.results import Row
from napari_rada.evaluation.protocols import definitions
from napari_rada.evaluation.protocols.prepare import Preparation
from napari_rada.evaluation.protocols.run import comparison_table, protocol_settings, run_protocol

if TYPE_CHECKING:
    import argparse

    from napari_rada.cli.console import Console
    from napari_rada.control import RunControl


def protocol(args: argparse.Namespace, console: Console, control: RunControl) -> bool:
    """Prepare a published data set, train, test, and print the table beside the paper's figures."""
    definition = definitions.protocol(args.protocol)
    if args.voxel is not None and not args.voxel > 0:
        raise InputError(f"A voxel size of {args.voxel:g} mm is not possible; give a positive number.")
    voxel = (args.voxel,) * 3 if args.voxel is not None else None
    methods = check_trains(methods_from(args, protocol_settings(definition), cohort=True))
    task = CohortTask(positive(args.limit), positive(args.per_axis) or 1, args.centre, tuple(args.seeds))
    with finished_in(args.out, Row.from_json) as (folder, log):
        done = run_protocol(
            Path(args.data),
            folder,
            Preparation(definition, args.crop, voxel),
            methods,
            task,
            log,
            lists=Path(args.lists) if args.lists else None,
            control=control,
            listener=console,
        )
        notes = [*done.notes, *_changes(args)]
        guided = any(method.config.guidance.source != "none" for method in methods)
        if guided and not any(row.note for row in done.rows):
            notes.append("Trained without guidance, because its weights are not here; the paper's method is guided.")
        return finish(folder, done.rows, args, console, table=comparison_table(definition, done.rows), notes=notes)


def _changes(args: argparse.Namespace) -> list[str]:
    """Say where a run departs from the paper's settings."""
    methods = [method for method in args.method or [] if method != args.default_method]
    found = [f"method {method}" for method in methods] + list(args.settings)
    return [f"Not the paper's settings: {', '.join(found)}."] if found else []
