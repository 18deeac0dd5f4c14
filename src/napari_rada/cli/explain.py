"""explain: where the networks of a run look for a class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_rada.cli.outputs import add_overwrite

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from napari_rada.cli.console import Console
    from napari_rada.control import RunControl


def add_explain(commands: Any, command: Callable[[Any, str, str, str], argparse.ArgumentParser]) -> None:
    """Add the command's arguments."""
    text = "Write where the networks of a run, and their guidance, look for a class (Grad-CAM)."
    parser = command(commands, "explain", "explain:explain", text)
    parser.add_argument("run_dir", metavar="RUN_DIR", help="folder of a trained run")
    parser.add_argument("image", metavar="IMAGE", help="the scan, NIfTI or TIFF")
    parser.add_argument("--class", metavar="NAME", required=True, dest="class_name", help="name or label value")
    parser.add_argument("-o", "--out", metavar="OUT", required=True, help="volume to write, 0 to 1")
    add_overwrite(parser)
    parser.add_argument("--device", metavar="D", help="auto, cpu, cuda, cuda:N or mps (auto)")


def explain(args: argparse.Namespace, console: Console, control: RunControl) -> bool:
    """Compute and write the heat of a class in the image's geometry."""
    from pathlib import Path

    from napari_rada import io, pipeline
    from napari_rada.cli.commands import output
    from napari_rada.training.run_folder import RunFolder

    out = output(args.out, [args.image], args)
    config = RunFolder.open(Path(args.run_dir)).config()
    case = io.load_case(args.image, non_finite=config.data.non_finite, listener=console)
    explanation = pipeline.explain(
        args.run_dir, case, args.class_name, device=args.device or "auto", control=control, listener=console
    )
    io.save_heat(explanation, out)
    guidance = explanation.provenance.get("guidance", "none")
    data = {"class": explanation.class_name, "heat": out, "provenance": dict(explanation.provenance)}
    console.result(data, f"{out}: where the networks look for {explanation.class_name} (guidance: {guidance})")
    return True
