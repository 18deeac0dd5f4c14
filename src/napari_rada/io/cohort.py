"""How cases are named: ``IMAGE[,LABELS[,SLICES]]``, or a folder with a table of cases."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from napari_rada.errors import InputError
from napari_rada.events import Listener, ignore
from napari_rada.io.annotations import FileSlice, parse_slices
from napari_rada.io.cases import load_case
from napari_rada.io.files import check_readable, format_of, stem_of
from napari_rada.progress import told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_rada.control import RunControl
    from napari_rada.data.case import Case, NonFinite
    from napari_rada.data.slices import Winner

TABLE = "cases.csv"
COLUMNS = ("name", "image", "labels", "slices")
LIKE = 0.7
"""How alike a column's name is to that of a missing one for which it is taken to be meant, at most 1."""


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case, not read yet.

    Parameters
    ----------
    name
        How messages and files call it.
    image, labels
        Image, and label files; none for an unlabelled case.
    slices
        Annotated slices in the label file's own axes; None to look them up or detect them.
    origin
        Where the case was named, for messages: ``cases.csv, line 3``; empty on the command line.
    """

    name: str
    image: Path
    labels: tuple[Path, ...] = ()
    slices: tuple[FileSlice, ...] | None = None
    origin: str = ""

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that are read."""
        return (self.image, *self.labels)

    def load(
        self, *, non_finite: NonFinite = "refuse", conflicts: Winner = "later", listener: Listener = ignore
    ) -> Case:
        """Read the case; an error names the line of the table that it comes from."""
        try:
            return load_case(
                self.image,
                self.labels,
                self.slices,
                name=self.name,
                non_finite=non_finite,
                conflicts=conflicts,
                listener=listener,
            )
        except InputError as error:
            raise InputError(f"{self.origin}: {error}" if self.origin else str(error)) from None


def load_cases(
    specs: Iterable[str | Path] | str | Path,
    *,
    non_finite: NonFinite = "refuse",
    conflicts: Winner = "later",
    control: RunControl | None = None,
    listener: Listener = ignore,
) -> list[Case]:
    """Read all cases that `specs` name (see `find_cases`); the other keywords are those of `load_case`.

    Raises
    ------
    Stopped
        If a stop was requested.
    InputError
        If a case is named wrongly or cannot be used; a line of a table is named by its number.
    """
    found = find_cases(specs)
    steps = told(found, [files.name for files in found], control, listener)
    return [files.load(non_finite=non_finite, conflicts=conflicts, listener=listener) for _, files in steps]


def find_cases(specs: Iterable[str | Path] | str | Path) -> list[CaseFiles]:
    """Find the files of all cases, without reading the images.

    Parameters
    ----------
    specs
        One, or several. Each is ``IMAGE``, ``IMAGE,LABELS`` or ``IMAGE,LABELS,a:i;a:i;a:i`` with several label files
        joined by ``;``, or a folder with a ``cases.csv``, or that file: columns ``name``, ``image``, ``labels``,
        ``slices``, of which only ``image`` must be filled; paths relative to the folder.

    Raises
    ------
    InputError
        If a case is named wrongly, a file is missing, or two cases have the same name.
    """
    found: list[CaseFiles] = []
    if not isinstance(specs, Iterable | Path):
        raise InputError(f"{specs!r} names no case; give the path of one, or a list of several.")
    for named in [specs] if isinstance(specs, str | Path) else specs:
        spec = str(named)  # asked with os.path, since pathlib raises where a text is too long to be a path
        table = os.path.basename(spec) == TABLE and os.path.isfile(spec)
        folder = os.path.dirname(spec) if table else spec
        found += _cohort(Path(folder)) if table or os.path.isdir(spec) else [_single(spec)]
    for case in found:
        _check_files(case)
    names = [case.name for case in found]
    twice = next((case for position, case in enumerate(found) if case.name in names[:position]), None)
    if twice is not None:
        raise InputError(f"Two cases are called {twice.name!r}; rename a file, or give names in a {TABLE}.")
    return found


def _single(spec: str) -> CaseFiles:
    parts = [spec] if os.path.isfile(spec) else [part.strip() for part in spec.split(",")]
    if len(parts) > 3 or not parts[0]:
        raise InputError(
            f"{spec!r} is not a case; write IMAGE, or IMAGE,LABELS, or IMAGE,LABELS,axis:index;axis:index. "
            f"For paths with commas use a folder with a {TABLE}."
        )
    image, labels, slices = (*parts, "", "")[:3]
    path = Path(os.path.expanduser(image))  # a shell does so at the beginning of a word alone
    return CaseFiles(stem_of(path), path, split_labels(labels), parse_slices(slices) if slices else None)


def _cohort(folder: Path) -> list[CaseFiles]:
    path = folder / TABLE
    if not path.is_file():
        raise InputError(
            f"The folder {folder} holds no {TABLE}; name image files, or write one with the columns "
            f"{', '.join(COLUMNS)}."
        )
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            header = [(column or "").strip() for column in reader.fieldnames or ()]
            reader.fieldnames = header
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}); save it as CSV with commas, in UTF-8.") from None
    if "image" not in header:
        raise InputError(f"{path} has the columns {header}; needed are {', '.join(COLUMNS)}, separated by commas.")
    _check_header(header, path)
    cases = [_row(folder, f"{path}, line {line}", row) for line, row in rows if any(_cell(row, c) for c in COLUMNS)]
    if not cases:
        raise InputError(f"{path} names no case; add a line with at least an image.")
    return cases


def _check_header(header: Sequence[str], path: Path) -> None:
    """Raise `InputError` where a column comes twice, or seems to be one of ours that is spelled wrongly."""
    twice = next((column for column in header if column and header.count(column) > 1), None)
    if twice is not None:
        raise InputError(f"{path} has more than one column {twice!r}; join them, or rename one.")
    missing = [column for column in COLUMNS if column not in header]
    for column in header:
        meant = get_close_matches(column.casefold(), missing, n=1, cutoff=LIKE)
        if meant and column not in COLUMNS:
            raise InputError(f"{path} has an unknown column {column!r}; call it {meant[0]!r} if that is meant.")


def _row(folder: Path, origin: str, row: dict[str, str | None]) -> CaseFiles:
    image, labels, slices = (_cell(row, column) for column in ("image", "labels", "slices"))
    if None in row:
        raise InputError(f"{origin}: there are more cells than columns; join several labels or slices by semicolons.")
    if not image:
        raise InputError(f"{origin}: the image is missing; every case needs one.")
    if re.search(r"[/\\:\0]", _cell(row, "name")):
        raise InputError(f"{origin}: the name {_cell(row, 'name')!r} holds a path; results are named after it.")
    try:
        planes = parse_slices(slices) if slices else None
    except InputError as error:
        raise InputError(f"{origin}: {error}") from None
    paths = split_labels(labels, folder)
    return CaseFiles(_cell(row, "name") or stem_of(Path(image)), folder / image, paths, planes, origin)


def _cell(row: dict[str, str | None], column: str) -> str:
    return (row.get(column) or "").strip()


def split_labels(text: str, folder: Path = Path()) -> tuple[Path, ...]:
    """Take the names of label files apart, which semicolons join; a file that has one in its name is one file."""
    names = [text] if os.path.isfile(folder / text) else [part.strip() for part in text.split(";")]
    return tuple(folder / os.path.expanduser(name) for name in names if name)


def _check_files(case: CaseFiles) -> None:
    try:
        for path in case.files:
            check_readable(path)
            format_of(path)
    except InputError as error:
        raise InputError(f"{case.origin}: {error}" if case.origin else str(error)) from None
