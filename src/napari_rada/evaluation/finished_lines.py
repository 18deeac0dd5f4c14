"""Files of finished measurements, one a line, so that a benchmark that was interrupted can go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from napari_rada.durable import reason_of, write_text
from napari_rada.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from pathlib import Path


class Finished(Protocol):
    """What was measured."""

    @property
    def key(self) -> Hashable:
        """What tells it from all others."""

    @property
    def error(self) -> str:
        """Why it failed; empty if it did not."""

    def to_json(self) -> str:
        """Return one line."""


LineT = TypeVar("LineT")
RowT = TypeVar("RowT", bound=Finished)


class FinishedLog(Generic[RowT]):
    """The rows of a results file; of two with one key the later counts.

    Parameters
    ----------
    path
        Made when the first row is added.
    parse
        Reads a row, as for `read_lines`.

    Raises
    ------
    InputError
        If the file holds something else.
    """

    def __init__(self, path: Path, parse: Callable[[str], RowT]) -> None:
        self.path = path
        self._rows = {row.key: row for row in read_lines(path, parse)}

    def has(self, key: Hashable) -> bool:
        """Tell whether something is done; what failed is tried again."""
        row = self._rows.get(key)
        return row is not None and not row.error

    def row(self, key: Hashable) -> RowT:
        """Return what was measured, or why it failed."""
        return self._rows[key]

    def add(self, row: RowT) -> None:
        """Append a row."""
        append_line(self.path, row.to_json())
        self._rows[row.key] = row


def read_lines(path: Path, parse: Callable[[str], LineT]) -> list[LineT]:
    """Read every line of a file, none if it is not there.

    A last line that was cut off is removed from the file; one that lacks nothing but its end gets it.

    Parameters
    ----------
    parse
        Reads one line; raises ValueError, TypeError, KeyError or AttributeError for a wrong one.

    Raises
    ------
    InputError
        If the file holds something else, or cannot be mended.
    """
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    lines = text.splitlines()
    rows: list[LineT] = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(parse(line))
        except (ValueError, TypeError, KeyError, AttributeError):
            if number < len(lines) or text.endswith("\n"):
                raise InputError(
                    f"{path}: line {number} is no result of this benchmark; name another folder."
                ) from None
    if text and not (text.endswith("\n") and len(rows) == len(lines)):
        write_text(path, "".join(f"{line}\n" for line in lines[: len(rows)]))
    return rows


def append_line(path: Path, line: str) -> None:
    """Add a line to a file, which is made if it is not there.

    Raises
    ------
    InputError
        If the disk refuses.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as problem:
        raise InputError(
            f"{path} cannot be written ({reason_of(problem)}); free some space, then run the same command again: what "
            "was finished before is kept."
        ) from None
