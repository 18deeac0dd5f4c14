"""The arguments of ``napari-rada benchmark``. Imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_rada.evaluation.arguments import at_least
from napari_rada.evaluation.benchmark.factors import FACTORS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    Command = Callable[[Any, str, str, str], argparse.ArgumentParser]

TEXT = "Measure methods on scans with dense labels; interrupted benchmarks go on where they ended."


def add_benchmark(commands: Any, command: Command, epilog: str) -> None:
    """Add ``benchmark`` and its actions; `command` makes the parser of one (see `napari_rada.cli.parser`)."""
    group = commands.add_parser("benchmark", help=TEXT, description=TEXT, epilog=epilog)
    actions = group.add_subparsers(title="benchmarks", metavar="NAME", required=True)
    _add_single(actions, command)
    _add_cohort(actions, command)
    _add_ablation(actions, command)
    for name, title in (("la2018", "LA2018 left atrium"), ("kits19", "KiTS19 kidney"), ("lits", "LiTS liver")):
        _add_protocol(actions, command, name, title)
    _add_growth(actions, command)
    _add_report(actions, command)
    command(actions, "methods", "benchmark:list_methods", "Name the methods and their stages.")


def _add_single(actions: Any, command: Command) -> None:
    text = "One scan at a time: a few slices in, the whole structure out."
    parser = command(actions, "single", "benchmark:single", text)
    _add_datasets(parser)
    parser.add_argument(
        "--split", choices=("reported", "settings"), default="reported", help="which scans (%(default)s)"
    )
    _add_methods(parser, "auto")
    _add_slices(parser)
    parser.add_argument(
        "--axis", type=int, choices=(0, 1, 2), help="annotate slices along this array axis (z, y, x) alone"
    )
    _add_out(parser)


def _add_cohort(actions: Any, command: Command) -> None:
    text = "Train on some scans of a set and test on others that were never seen."
    parser = command(actions, "cohort", "benchmark:cohort", text)
    _add_datasets(parser)
    parser.add_argument(
        "--test",
        choices=("unseen", "annotated", "taught"),
        default="unseen",
        help="predict scans never seen, the same with slices annotated, or those that taught (%(default)s)",
    )
    _add_methods(parser, "quick")
    _add_slices(parser)
    _add_out(parser)


def _add_ablation(actions: Any, command: Command) -> None:
    text = "One method with one part of it switched: a table and a plot of what the part does."
    parser = command(actions, "ablation", "benchmark:ablation", text)
    _add_datasets(parser)
    parser.add_argument("--factor", choices=tuple(FACTORS), required=True, help="what is switched")
    parser.add_argument("--level", metavar="L", action="append", default=[], help="only this level; may be repeated")
    parser.add_argument(
        "--setting",
        choices=("single", "cohort"),
        default="single",
        help="one scan at a time, or a cohort (%(default)s)",
    )
    parser.add_argument(
        "--random-weights",
        action="store_true",
        help="guide by made-up weights, to try the command without the published ones; the output says so",
    )
    parser.add_argument(
        "--split", choices=("reported", "settings"), default="settings", help="which single scans (%(default)s)"
    )
    _add_methods(parser, "quick")
    _add_slices(parser)
    _add_out(parser)


def _add_protocol(actions: Any, command: Command, name: str, title: str) -> None:
    text = f"The paper's protocol on {title}: prepare, train, test, and a table beside the paper's."
    parser = command(actions, name, "protocol:protocol", text)
    parser.set_defaults(protocol=name)
    parser.add_argument("data", metavar="DATA", help="folder that the data set was unpacked into")
    parser.add_argument(
        "--method", metavar="M", action="append", help="preset, with /STAGE as for cohort; may be repeated (paper)"
    )
    parser.set_defaults(default_method="paper")
    parser.add_argument("--limit", metavar="N", type=int, help="take the first N labelled, unlabelled and test scans")
    parser.add_argument("--lists", metavar="DIR", help="folder with train.list and test.list (DATA)")
    parser.add_argument(
        "--crop",
        choices=("label", "none"),
        default="label",
        help="crop scans to their structure, as the lineage does, or not (%(default)s)",
    )
    parser.add_argument(
        "--voxel", metavar="MM", type=float, help="voxel size of files that do not tell it (the data set's)"
    )
    _add_training(parser)
    _add_slices(parser)
    _add_out(parser)


def _add_growth(actions: Any, command: Command) -> None:
    text = "How time and memory grow with the voxels, the classes and the scans, on synthetic scans."
    parser = command(actions, "growth", "benchmark:growth", text)
    for name, default, shown in (
        ("--sides", (64, 96, 128, 160, 192, 256), "sides of cubes, for growth with the voxels"),
        ("--classes", (1, 2, 4, 8), "numbers of foreground classes"),
        ("--scans", (1, 2, 4, 8, 16), "numbers of scans of a cohort"),
    ):
        known = " ".join(str(number) for number in default)
        parser.add_argument(name, metavar="N", type=int, nargs="+", default=default, help=f"{shown} ({known})")
    for name, number, shown in (
        ("--uncapped", 128, "largest side at which propagation without a coarse grid is measured"),
        ("--classes-side", 96, "side of the cube with more classes"),
        ("--scans-side", 48, "side of the cubes of a cohort"),
        ("--repeats", 2, "times that everything is done; the fastest counts"),
    ):
        parser.add_argument(name, metavar="N", type=int, default=number, help=f"{shown} (%(default)s)")
    for name, shape, shown in (
        ("--whole", (183, 140, 88), "shape of the scan that a finished run predicts"),
        ("--patch", (32, 48, 48), "patch of the V-Net"),
    ):
        known = " ".join(str(side) for side in shape)
        axes = ("Z", "Y", "X")
        parser.add_argument(name, metavar=axes, type=int, nargs=3, default=shape, help=f"{shown} ({known})")
    parser.add_argument(
        "--set", metavar="K=V", action="append", default=[], dest="settings", help="change a setting of all work"
    )
    _add_out(parser)


def _add_report(actions: Any, command: Command) -> None:
    text = "Put the table of a finished benchmark into a page, between <!-- begin NAME --> and <!-- end NAME -->."
    parser = command(actions, "report", "benchmark:report", text)
    parser.add_argument("folder", metavar="DIR", help="folder of a benchmark")
    parser.add_argument("--into", metavar="PAGE", required=True, help="Markdown page to change")
    parser.add_argument("--name", metavar="NAME", help="name of the place in the page (name of the folder)")


def _add_datasets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--datasets", metavar="FILE", required=True, help="YAML file of data sets and their splits")
    parser.add_argument("--root", metavar="DIR", help="folder that its paths start from (that of the file)")
    parser.add_argument(
        "--dataset", metavar="NAME", action="append", default=[], help="take this data set alone; may be repeated"
    )
    parser.add_argument("--limit", metavar="N", type=int, help="take the first N scans of each set only")


def _add_methods(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--method",
        metavar="M",
        action="append",
        help=f"method, as `benchmark methods` lists it; may be repeated ({default})",
    )
    parser.set_defaults(default_method=default)
    _add_training(parser)


def _add_training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seeds", metavar="S", type=at_least(0), nargs="+", default=[0], help="for methods that are random (0)"
    )
    parser.add_argument("--device", metavar="D", default="auto", help="auto, cpu, cuda, cuda:N or mps (%(default)s)")
    parser.add_argument(
        "--set", metavar="K=V", action="append", default=[], dest="settings", help="change a setting of our methods"
    )


def _add_slices(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-k", "--per-axis", metavar="K", type=int, default=1, help="annotated slices per axis (%(default)s)"
    )
    parser.add_argument("--centre", action="store_true", help="take middle slices instead of those of largest area")


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--out", metavar="DIR", required=True, help="folder for the results; an interrupted one is continued"
    )
