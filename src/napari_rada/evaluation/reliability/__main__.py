"""The commands of this package."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from napari_rada.errors import RadaError
from napari_rada.evaluation.arguments import at_least
from napari_rada.evaluation.ending import status_of
from napari_rada.temporary import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_rada.evaluation.reliability.endurance import Trend
    from napari_rada.evaluation.reliability.kills import Kill


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status: 0, 1 if something did not survive, 2 after bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m napari_rada.evaluation.reliability", description="Break the engine and count what survives."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    kills = commands.add_parser("kills", help="kill training and prediction at random moments")
    kills.add_argument("--count", type=at_least(1), default=30, metavar="N", help="kills to make (%(default)s)")
    kills.add_argument(
        "--iterations", type=at_least(1), default=200, metavar="N", help="of the killed run (%(default)s)"
    )
    kills.set_defaults(run=_kills)
    endurance = commands.add_parser("endurance", help="train long and watch memory, file handles and threads")
    endurance.add_argument("--iterations", type=at_least(2), default=2000, metavar="N", help="(%(default)s)")
    endurance.set_defaults(run=_endurance)
    rounds = commands.add_parser("rounds", help="train and predict again and again, and watch the same")
    rounds.add_argument("--count", type=at_least(2), default=20, metavar="N", help="rounds (%(default)s)")
    rounds.set_defaults(run=_rounds)
    fuzz = commands.add_parser("fuzz", help="read files that were damaged at random")
    fuzz.add_argument(
        "--count", type=at_least(1), metavar="N", help="files to read; by default as many as the time allows"
    )
    fuzz.add_argument("--seconds", type=float, default=120.0, metavar="S", help="(%(default)s)")
    fuzz.set_defaults(run=_fuzz)
    scale = commands.add_parser("scale", help="predict volumes of growing size chunk by chunk")
    scale.add_argument("--sides", type=int, nargs="+", default=[128, 256, 512], metavar="N", help="(%(default)s)")
    scale.add_argument(
        "--compared", type=int, nargs="+", default=[128, 192], metavar="N", help="predicted in memory too (%(default)s)"
    )
    scale.add_argument("--chunk", type=int, default=64, metavar="N", help="side of stored chunks (%(default)s)")
    scale.add_argument("--memory", type=float, default=0.1, metavar="GIB", help="for sums (%(default)s)")
    scale.set_defaults(run=_scale)
    distributed = commands.add_parser("distributed", help="train in two processes and compare with one")
    distributed.add_argument(
        "--iterations", type=at_least(1), default=40, metavar="N", help="of each run (%(default)s)"
    )
    distributed.set_defaults(run=_distributed)
    for command in (kills, endurance, rounds, fuzz, scale, distributed):
        command.add_argument("--seed", type=at_least(0), default=0, metavar="S", help="(%(default)s)")
        command.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    try:
        with temporary_folder() as folder:
            return 0 if args.run(args, folder) else 1
    except RadaError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


def _kills(args: argparse.Namespace, folder: Path) -> bool:
    from napari_rada.evaluation.reliability.kills import kill_often

    def tell(kill: Kill) -> None:
        sys.stderr.write(f"{kill.kind}: saved iteration {kill.iteration}, lost {kill.lost_s:.2f} s {kill.complaint}\n")

    report = kill_often(args.count, folder, iterations=args.iterations, seed=args.seed, tell=tell)
    lines = ["| killed during | kills | survived |", "|---|---|---|"]
    for kind in ("start", "step", "checkpoint", "predict"):
        ours = [kill for kill in report.kills if kill.kind == kind]
        lines.append(f"| {kind} | {len(ours)} | {sum(not kill.complaint for kill in ours)} |")
    lost = max(kill.lost_s for kill in report.kills)
    equal = sum(not complaint for complaint in report.runs)
    lines += [
        "",
        f"Survived {report.survived} of {len(report.kills)} kills; {equal} of {len(report.runs)} killed runs ended "
        f"with the weights of the undisturbed run; most work lost {lost:.2f} s with a checkpoint every "
        f"{report.interval_s:g} s.",
        *filter(None, [*(kill.complaint for kill in report.kills), *report.runs]),
    ]
    _print(args, {**asdict(report), "survived": report.survived}, lines)
    return report.survived == len(report.kills)


def _endurance(args: argparse.Namespace, folder: Path) -> bool:
    from napari_rada.evaluation.reliability.endurance import train_long

    return _print_trend(args, train_long(folder, args.iterations), "iterations", 1000)


def _rounds(args: argparse.Namespace, folder: Path) -> bool:
    from napari_rada.evaluation.reliability.endurance import train_and_predict

    return _print_trend(args, train_and_predict(folder, args.count), "rounds of training and prediction", 1)


def _print_trend(args: argparse.Namespace, found: Trend, what: str, per: int) -> bool:
    lines = [
        f"{found.steps} {what}: resident memory {found.first / 2**20:.1f} to {found.last / 2**20:.1f} MiB after the "
        f"warm-up, slope {found.slope * per / 2**10:+.0f} KiB per {per if per > 1 else 'round'}; file handles "
        f"{found.handles[0]} to {found.handles[1]}, threads {found.threads[0]} to {found.threads[1]}."
    ]
    _print(args, asdict(found), lines)
    return not found.leaks


def _fuzz(args: argparse.Namespace, folder: Path) -> bool:
    from napari_rada.evaluation.reliability.fuzz import fuzz

    seconds = None if args.count else args.seconds
    report = fuzz(folder, count=args.count, seconds=seconds, seed=args.seed)
    lines = ["| file | tried | refused | read |", "|---|---|---|---|"]
    for name, tried in report.tried.items():
        refused = report.refused.get(name, 0)
        lines.append(f"| {name} | {tried} | {refused} | {tried - refused} |")
    lines += [
        "",
        f"{sum(report.tried.values())} damaged files, {len(report.failures)} answered with anything but one sentence; "
        f"slowest {report.slowest_s:.2f} s ({report.slowest}); resident memory grew by {report.grown / 2**20:.0f} MiB.",
        *report.failures,
    ]
    _print(args, asdict(report), lines)
    return not report.failures


def _scale(args: argparse.Namespace, folder: Path) -> bool:
    from napari_rada.evaluation.reliability.scale import Settings, measure_scale

    def tell(text: str) -> None:
        sys.stderr.write(f"{text}\n")

    settings = Settings(args.chunk, args.memory)
    report = measure_scale(folder, args.sides, args.compared, settings, tell)
    lines = ["| volume | bytes | peak of resident memory | time |", "|---|---|---|---|"]
    for peak in report.peaks:
        sizes = f"{peak.volume / 2**20:.0f} MiB | {peak.peak / 2**20:.0f} MiB"
        lines.append(f"| {peak.side} x {peak.side} x {peak.side} | {sizes} | {peak.seconds:.0f} s |")
    lines.append("")
    for seam in report.seams:
        lines.append(
            f"{seam.side} voxels a side, cut into {seam.units} units: probability differs by {seam.probability:.2g} at "
            f"most from the prediction in memory, {seam.voxels} voxels have another label."
        )
    for found in report.interruptions:
        lines.append(
            f"{found.kind}: {found.there} pieces were there then; the call that came to its end computed "
            f"{found.computed} of {found.units}; "
            f"{found.complaint or 'all files are those of the undisturbed prediction'}."
        )
    _print(args, {**asdict(report), "is_sound": report.is_sound}, lines)
    return report.is_sound


def _distributed(args: argparse.Namespace, folder: Path) -> bool:
    from napari_rada.evaluation.reliability.distributed import compare

    def tell(run: str) -> None:
        sys.stderr.write(f"{run}\n")

    report = compare(folder, iterations=args.iterations, seed=args.seed, tell=tell)
    lines = ["| run | largest difference of a supervised loss | of a cross loss | of a weight |", "|---|---|---|---|"]
    lines += [f"| {d.run} | {d.supervised:.1e} | {d.cross:.1e} | {d.weight:.1e} |" for d in report.differences]
    lines += [
        "",
        f"{report.iterations} iterations each. The other process ended {report.ended_s:.1f} s after the kill:",
    ]
    _print(args, asdict(report), [*lines, report.said])
    return report.holds


def _print(args: argparse.Namespace, data: dict[str, object], lines: Sequence[str]) -> None:
    sys.stdout.write((json.dumps(data, indent=2) if args.json else "\n".join(lines)) + "\n")


if __name__ == "__main__":
    sys.exit(status_of(main))
