"""The arguments of every command. Imports nothing heavy, so that ``--help`` is quick."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from napari_rada.cli.benchmark_parser import add_benchmark
from napari_rada.cli.explain import add_explain
from napari_rada.cli.handover_parser import add_handover
from napari_rada.cli.hyperparameters import add_hyperparameters
from napari_rada.cli.outputs import add_overwrite
from napari_rada.cli.volume_parser import add_volume_flags
from napari_rada.errors import InputError
from napari_rada.presets import PRESETS

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_rada.cli.console import Console
    from napari_rada.control import RunControl

METHODS = ("auto", "combined", "diffusion", "flow", "registration")
CASE_HELP = (
    "IMAGE, or IMAGE,LABELS, or IMAGE,LABELS,a:i;a:i;a:i with the annotated slices as axis:index in the file's own "
    "voxel axes (NIfTI: i=0, j=1, k=2; TIFF: z=0, y=1, x=2), or a folder with a cases.csv"
)
EPILOG = "Exit status: 0 done, 2 bad input, 3 stopped early, 141 if the reader of a pipe went away."
GOES_ON = f"{EPILOG} What was stopped goes on with --resume."


class _Parser(argparse.ArgumentParser):
    """Reports a wrong command line as everything else is reported: one line, exit status 2."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help.")


class _Version(argparse.Action):
    """Print the version, looked up only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        sys.stdout.write(f"napari-rada {version('napari-rada')}\n")
        parser.exit()


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; ``args.run(args, console, control)`` runs the chosen command."""
    parser = _Parser(
        prog="napari-rada", description="Label three slices, get the volume.", epilog=EPILOG, allow_abbrev=False
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (
        _add_demo,
        _add_propagate,
        _add_train,
        _add_predict,
        _add_evaluate,
        _add_suggest,
        _add_weights,
        _add_pretrain,
        _add_info,
    ):
        add(commands)
    add_explain(commands, _command)
    add_hyperparameters(commands, _command)
    add_handover(commands, _command)
    add_benchmark(commands, _command, EPILOG)
    return parser


def _command(commands: Any, name: str, target: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text, epilog=EPILOG)
    parser.set_defaults(run=_loaded(target))
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _loaded(target: str) -> Callable[[argparse.Namespace, Console, RunControl], bool]:
    """Return a function that imports ``module:function`` when it is called; it returns False if it was stopped."""

    def run(args: argparse.Namespace, console: Console, control: RunControl) -> bool:
        module, function = target.split(":")
        return bool(getattr(import_module(f"napari_rada.cli.{module}"), function)(args, console, control))

    return run


def _add_demo(commands: Any) -> None:
    parser = _command(
        commands, "demo", "demo:demo", "Do the main job on the built-in synthetic scan and print the Dice."
    )
    parser.add_argument(
        "-o", "--out", metavar="DIR", default="napari-rada-demo", help="folder to write to (%(default)s)"
    )
    _add_preset(parser)
    _add_device(parser)
    _add_settings(parser)


def _add_propagate(commands: Any) -> None:
    text = "Complete three annotated slices to a mask, without training: seconds."
    parser = _command(commands, "propagate", "commands:propagate", text)
    parser.add_argument("image", metavar="IMAGE", help="the scan, NIfTI or TIFF")
    parser.add_argument("labels", metavar="LABELS", help="sparse labels; several files joined by ; (in quotes)")
    parser.add_argument("-o", "--out", metavar="OUT", required=True, help="mask to write")
    parser.add_argument("--probability", metavar="P", help="also write the probability")
    parser.add_argument("--disagreement", metavar="D", help="also write where the opinions of method combined disagree")
    add_overwrite(parser)
    _add_slices(parser)
    parser.add_argument("--method", choices=METHODS, default="auto", help="how to propagate (%(default)s)")
    _add_settings(parser)


def _add_train(commands: Any) -> None:
    parser = _command(commands, "train", "commands:train", "Train the three networks on one scan or a cohort.")
    parser.add_argument("cases", metavar="CASE", nargs="*", help=CASE_HELP)
    parser.add_argument(
        "-o", "--out", metavar="RUN_DIR", required=True, help="new run folder; with --resume, the old one"
    )
    start = parser.add_mutually_exclusive_group()
    _add_preset(start)
    start.add_argument("--config", metavar="FILE", help="settings as YAML, as in a run folder's config.yaml")
    parser.add_argument("--minutes", metavar="M", type=float, help="train for about this long")
    _add_device(parser)
    _add_settings(parser)
    parser.add_argument(
        "--continue", metavar="OLD_RUN", dest="old_run", help="begin with the networks and curves of a finished run"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in RUN_DIR, its cases and settings")
    parser.set_defaults(in_a_team=True)
    parser.epilog = GOES_ON


def _add_predict(commands: Any) -> None:
    parser = _command(commands, "predict", "commands:predict", "Predict scans with a trained run.")
    parser.add_argument("run_dir", metavar="RUN_DIR", help="folder of a trained run")
    parser.add_argument("cases", metavar="IMAGE", nargs="+", help=CASE_HELP)
    parser.add_argument("-o", "--out", metavar="OUT", required=True, help="mask to write; for several images a folder")
    parser.add_argument("--probability", metavar="P", help="also write the probability; for several images a folder")
    parser.add_argument("--disagreement", metavar="D", help="also write where the networks disagree; likewise")
    add_overwrite(parser)
    parser.add_argument("--min-part", metavar="ML", type=float, default=0.0, help="remove parts under ML millilitres")
    parser.add_argument("--fill-holes", action="store_true", help="fill background that a class encloses")
    _add_device(parser)
    parser.add_argument(
        "--set", metavar="K=V", action="append", default=[], dest="settings", help="data.non_finite alone can be set"
    )
    add_volume_flags(parser)


def _add_evaluate(commands: Any) -> None:
    text = "Compare a mask with a reference: Dice, Jaccard, HD95 and ASD in mm, per class."
    parser = _command(commands, "evaluate", "commands:evaluate", text)
    parser.add_argument("prediction", metavar="PRED", help="mask to judge")
    parser.add_argument("reference", metavar="REF", help="true mask of the same scan")


def _add_suggest(commands: Any) -> None:
    text = "Name the slice to annotate next: axis, index in the file's own axes, score."
    parser = _command(commands, "suggest", "commands:suggest", text)
    parser.add_argument("run_dir", metavar="RUN_DIR", help="folder of a trained run")
    parser.add_argument("image", metavar="IMAGE", help="the scan, NIfTI or TIFF")
    parser.add_argument("--labels", metavar="L", help="sparse labels of the image, if it is not one of the run's")
    _add_slices(parser)
    _add_device(parser)


def _add_weights(commands: Any) -> None:
    text = "Weight files of CLIP and Alpha-CLIP for guidance: list, download, import, verify."
    group = commands.add_parser("weights", help=text, description=text, epilog=EPILOG)
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = _command(actions, "list", "weights:list_weights", "Show every file, its size, and whether it is here.")
    fetching = _command(actions, "download", "weights:download_weights", "Fetch files, after asking.")
    taking = _command(actions, "import", "weights:import_weights", "Take a file that you brought into the cache.")
    checking = _command(
        actions, "verify", "weights:verify_weights", "Compare the checksums of the files that are here."
    )
    for parser in (listing, fetching, taking, checking):
        parser.add_argument(
            "--cache", metavar="DIR", help="cache folder (NAPARI_RADA_CACHE, else that of the platform)"
        )
    fetching.add_argument("names", metavar="NAME", nargs="*", help="files, or CLIP models (ViT-B-16-quickgelu)")
    fetching.add_argument("-y", "--yes", action="store_true", help="agree to size, licence and host without a question")
    taking.add_argument("file", metavar="FILE", help="the file to take")
    taking.add_argument("--name", metavar="NAME", help="which file of the list it is, if it is called otherwise")
    checking.add_argument("names", metavar="NAME", nargs="*", help="files; by default all that are here")


def _add_pretrain(commands: Any) -> None:
    text = "Train the network that completes annotated slices, on synthetic scans: half an hour."
    parser = _command(commands, "pretrain", "pretrain:run", text)
    parser.add_argument("-o", "--out", metavar="FILE", required=True, help="weights to write (safetensors)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--hours", metavar="H", type=float, help="train for about this long")
    length.add_argument("--steps", metavar="N", type=int, help="steps of two scans each (1000)")
    parser.add_argument("--seed", metavar="S", type=int, help="of the synthetic scans (0)")
    parser.add_argument("--resume", action="store_true", help="go on from FILE.state")
    parser.epilog = GOES_ON


def _add_info(commands: Any) -> None:
    _command(commands, "info", "info:info", "Print versions, devices and folders: what a bug report needs.")


def _add_preset(parser: Any) -> None:
    parser.add_argument("--preset", choices=tuple(PRESETS), help="settings to start from (quick)")


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", metavar="D", help="auto, cpu, cuda, cuda:N or mps (auto)")


def _add_slices(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--slices",
        metavar="A:I,A:I,A:I",
        help="annotated slices as axis:index in the file's own voxel axes; by default from the sidecar, else detected",
    )


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        metavar="K=V",
        action="append",
        default=[],
        dest="settings",
        help="change a setting, as napari-rada hyperparameters lists them; may be repeated",
    )
