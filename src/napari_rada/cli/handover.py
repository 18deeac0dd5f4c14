"""export, report: results for other programs and for people. Each returns False if it was stopped before its end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_rada import io
from napari_rada.cli.commands import check_overwritten, output, output_folder, taken_back
from napari_rada.errors import InputError
from napari_rada.io.files import check_readable

if TYPE_CHECKING:
    import argparse

    from napari_rada.cli.console import Console
    from napari_rada.control import RunControl

SUFFIX = {"nifti": ".nii.gz", "tiff": ".tif"}


def export(args: argparse.Namespace, console: Console, control: RunControl) -> bool:
    """Export masks, or the annotation of a run."""
    folders = [source for source in args.sources if Path(source).is_dir()]
    if folders and len(args.sources) > 1:
        raise InputError(f"{folders[0]} is a folder; export one run at a time, or mask files only.")
    if not folders and args.to == "nnunet":
        raise InputError("An nnU-Net dataset is made of images and annotated slices; name a run folder, not masks.")
    with taken_back(args.out):
        if folders:
            written = _export_run(Path(folders[0]), args.to, args.out, control, console)
        else:
            written = _export_masks(args, console)
    console.result({"written": written}, "\n".join(str(path) for path in written))
    return True


def report(args: argparse.Namespace, console: Console, control: RunControl) -> bool:
    """Write the report of a run."""
    from napari_rada.report.page import write_report

    if args.out is not None:
        check_overwritten(Path(args.out), args)
    page = write_report(args.run_dir, args.out, device=args.device or "auto", control=control, listener=console)
    console.result({"report": page}, str(page))
    return True


def _export_run(run_dir: Path, to: str, out: str, control: RunControl, console: Console) -> list[Path]:
    from napari_rada.io.export import export_nnunet
    from napari_rada.training.run_folder import RunFolder
    from napari_rada.training.snapshot import load_cases, load_classes

    folder = RunFolder.open(run_dir)
    cases = load_cases(folder, folder.config(), control, console)
    target = _folder(out, "A run is")
    if to == "nnunet":
        return [export_nnunet(cases, load_classes(folder), target)]
    labelled = [case for case in cases if case.is_labelled]
    names = _distinct([target / f"{io.file_name(case.name)}_labels{SUFFIX[to]}" for case in labelled], "cases")
    paths = [io.check_new(path) for path in names]  # annotations are never replaced
    for case, path in zip(labelled, paths, strict=True):
        io.save_labels(case, path)
    return paths


def _export_masks(args: argparse.Namespace, console: Console) -> list[Path]:
    from napari_rada.io.export import export_volume

    masks, to, out = [Path(source) for source in args.sources], args.to, Path(args.out)
    for mask in masks:
        check_readable(mask)
    if len(masks) == 1 and io.suffix_of(out):
        if io.format_of(out) is not io.format_of(Path(SUFFIX[to])):
            raise InputError(f"{out} is no {to.upper()} file; name one that ends in {SUFFIX[to]}, or a folder.")
        return [export_volume(masks[0], output(out, masks, args), listener=console)]
    folder = _folder(out, "Several masks are")
    names = _distinct([folder / f"{io.stem_of(mask)}{SUFFIX[to]}" for mask in masks], "masks")
    targets = [output(path, masks, args) for path in names]
    return [export_volume(mask, path, listener=console) for mask, path in zip(masks, targets, strict=True)]


def _folder(out: Path | str, what: str) -> Path:
    """Make the folder to export into; raises `InputError` if it has the name of a file."""
    if io.suffix_of(Path(out)) and not Path(out).is_dir():
        raise InputError(f"{what} exported into a folder, and {out} is the name of a file.")
    return output_folder(out)


def _distinct(paths: list[Path], what: str) -> list[Path]:
    """Return the paths; raises `InputError` if two of the `what` have the same."""
    if twice := [path for path in paths if paths.count(path) > 1]:
        raise InputError(f"Two {what} would both be written to {twice[0]}; rename one of them.")
    return paths
