from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from napari_rada.errors import InputError
from napari_rada.evaluation.finished_lines import FinishedLog, append_line, read_lines


def test_what_was_added_is_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    assert read_lines(path, int) == []
    for number in (3, 1, 2):
        append_line(path, str(number))
    assert read_lines(path, int) == [3, 1, 2]


def test_a_last_line_that_was_cut_off_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text("1\n2\nthr", encoding="utf-8")
    assert read_lines(path, int) == [1, 2]
    append_line(path, "3")
    assert read_lines(path, int) == [1, 2, 3]


def test_a_last_line_that_lacks_its_end_is_kept_apart_from_the_next(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text("1\n2", encoding="utf-8")
    assert read_lines(path, int) == [1, 2]
    append_line(path, "3")
    assert read_lines(path, int) == [1, 2, 3]


def test_a_file_that_cannot_be_mended_keeps_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "lines"
    path.write_text("1\n2\nthr", encoding="utf-8")
    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(InputError, match="cannot be written"):
        read_lines(path, int)
    assert path.read_text(encoding="utf-8") == "1\n2\nthr"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no such device here")
def test_a_line_that_a_full_disk_refuses_is_told_with_its_file() -> None:
    with pytest.raises(InputError, match=r"/dev/full cannot be written \(No space left on device\); free some space"):
        append_line(Path("/dev/full"), "1")


@pytest.mark.parametrize("content", [b"name\n2\n", b"name\n", b"\xff\xfe\n", b"name\r\n"])
def test_another_file_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "lines"
    path.write_bytes(content)
    with pytest.raises(InputError, match="line 1 is no result of this benchmark; name another folder"):
        read_lines(path, int)
    assert path.read_bytes() == content


@dataclass(frozen=True)
class Note:
    key: str
    error: str

    def to_json(self) -> str:
        return f"{self.key} {self.error}"

    @classmethod
    def from_json(cls, line: str) -> Note:
        key, error = line.split(" ")
        return cls(key, error)


def test_what_failed_is_known_and_not_done(tmp_path: Path) -> None:
    log = FinishedLog(tmp_path / "lines", Note.from_json)
    for note in (Note("a", ""), Note("b", "dark")):
        log.add(note)
    for known in (log, FinishedLog(log.path, Note.from_json)):
        assert [known.has(key) for key in "abc"] == [True, False, False]
        assert known.row("b") == Note("b", "dark")
    log.add(Note("b", ""))
    assert FinishedLog(log.path, Note.from_json).has("b"), "the later one counts"
