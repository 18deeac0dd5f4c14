"""The arguments of export and report. Imports nothing heavy."""

from __future__ import annotations

from typing import Any

from napari_rada.cli.outputs import add_overwrite


def add_handover(commands: Any, command: Any) -> None:
    """Add the arguments of both commands."""
    text = "Hand over masks, or the annotated slices of a run: as NIfTI, as TIFF, or as a dataset for nnU-Net v2."
    parser = command(commands, "export", "handover:export", text)
    parser.add_argument("sources", metavar="RUN_DIR|MASK", nargs="+", help="one run folder, or mask files")
    parser.add_argument("--to", choices=("nifti", "tiff", "nnunet"), required=True, help="format")
    parser.add_argument("-o", "--out", metavar="OUT", required=True, help="folder; of one mask also a file")
    add_overwrite(parser, "masks that are there; annotations never are")
    text = "Write a run as one HTML page: settings, annotated slices, curves, volumes, the slice to annotate next."
    parser = command(commands, "report", "handover:report", text)
    parser.add_argument("run_dir", metavar="RUN_DIR", help="folder of a trained run")
    parser.add_argument("-o", "--out", metavar="FILE.html", help="page to write (RUN_DIR/report.html)")
    add_overwrite(parser)
    parser.add_argument("--device", metavar="D", help="auto, cpu, cuda, cuda:N or mps (auto)")
