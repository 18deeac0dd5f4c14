"""Paths: what kind of file a name promises, and whether it can be read or written."""

from __future__ import annotations

import logging
import os
import re
import threading
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from napari_rada.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Format(str, Enum):
    """The file formats that hold a volume."""

    NIFTI = "NIfTI"
    TIFF = "TIFF"


SUFFIXES = {".nii.gz": Format.NIFTI, ".nii": Format.NIFTI, ".tiff": Format.TIFF, ".tif": Format.TIFF}
"""Longest first, so that .nii.gz is not taken for .gz."""


def suffix_of(path: Path) -> str:
    """Return the suffix of a volume file as it is spelled, for example ``.nii.gz``; empty if it is none of ours."""
    lower = path.name.lower()
    found = next((suffix for suffix in SUFFIXES if lower.endswith(suffix)), "")
    return path.name[len(path.name) - len(found) :]


def stem_of(path: Path) -> str:
    """Return the file name without the suffix of a volume file: ``scan`` for ``scan.nii.gz``."""
    return path.name[: len(path.name) - len(suffix_of(path))]


def file_name(name: str) -> str:
    """Return a name as one that every system takes for a file: what means folders, drives or patterns becomes ``_``."""
    return re.sub(r'[/\\:*?"<>|]', "_", name)


def format_of(path: Path) -> Format:
    """Return the format that a file name promises.

    Raises
    ------
    InputError
        If the suffix is none of .nii, .nii.gz, .tif and .tiff.
    """
    suffix = suffix_of(path).lower()
    if not suffix:
        raise InputError(f"{path} is neither NIfTI (.nii, .nii.gz) nor TIFF (.tif, .tiff); convert it to one of them.")
    return SUFFIXES[suffix]


def check_readable(path: Path) -> None:
    """Check that there is a file at `path` and that it may be read.

    Raises
    ------
    InputError
        If it is missing, a folder, or not ours to read.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; name an image file (.nii, .nii.gz, .tif, .tiff).")
    if not path.exists():
        raise InputError(f"{path} does not exist; check the spelling of the path.")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path} may not be read; change the permissions of the file.")


def check_folder(folder: Path) -> None:
    """Check that `folder` exists and that files can be made in it.

    Raises
    ------
    InputError
        If not.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise InputError(f"The output folder {folder} {what}; make it, or choose another one.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"The output folder {folder} is not writable; choose another one.")


def check_output(path: Path | str, inputs: Sequence[Path | str] = ()) -> Path:
    """Check, before anything long is computed, that a result can be written to `path`.

    Parameters
    ----------
    path
        A volume file, new or to be replaced.
    inputs
        Files that must not be overwritten.

    Raises
    ------
    InputError
        If the format is unknown, the folder is missing or not writable, or the file is one of the inputs.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; name the output file, for example {path / 'mask.nii.gz'}.")
    if not suffix_of(path):
        raise InputError(
            f"The output {path} is neither NIfTI (.nii, .nii.gz) nor TIFF (.tif, .tiff); end its name so, for example "
            f"{path.stem}.nii.gz."
        )
    check_folder(path.parent)
    for other in map(Path, inputs):
        if path.exists() and other.exists() and path.samefile(other):
            raise InputError(f"The output {path} is one of the inputs and would be overwritten; choose another name.")
    return path


def check_new(path: Path | str) -> Path:
    """Check that a file can be written to `path` and replaces none.

    Raises
    ------
    InputError
        If it cannot, or there is one.
    """
    path = check_output(path)
    if path.exists():
        raise InputError(f"{path} exists already and is kept; choose another folder, or move it.")
    return path


@contextmanager
def log_caught(name: str) -> Iterator[list[str]]:
    """Collect what a library logs in this thread instead of showing it: what is wrong with a file our own error tells.

    Other threads may read files at the same time, and each hears of its own.
    """
    logger, here = logging.getLogger(name), threading.get_ident()
    messages: list[str] = []

    def is_for_others(record: logging.LogRecord) -> bool:
        if record.thread == here:
            messages.append(record.getMessage())
        return record.thread != here

    logger.addFilter(is_for_others)
    try:
        yield messages
    finally:
        logger.removeFilter(is_for_others)
