"""What killed processes leave in their temporary folders does not stay."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

from napari_rada.temporary import PREFIX, temporary_folder

if TYPE_CHECKING:
    from pathlib import Path

HOLDS = """
import sys, tempfile, time
tempfile.tempdir = sys.argv[1]
from napari_rada.temporary import temporary_folder
with temporary_folder() as folder:
    (folder / "scan").write_text("a large one")
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep temporary files apart from those of others."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_goes_with_its_block(place: Path) -> None:
    with temporary_folder() as folder:
        (folder / "scan").write_text("a large one")
        assert list(place.iterdir()) == [folder]
    assert not list(place.iterdir())


def test_the_folder_of_a_process_stays_while_it_runs_and_goes_once_it_was_killed(place: Path) -> None:
    foreign = [place / "napari-rada-00000000-1-a", place / f"{PREFIX}-of-a-person"]
    for folder in foreign:
        folder.mkdir()
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(place)], stdout=subprocess.PIPE, text=True) as other:  # noqa: S603
        assert other.stdout is not None
        held = other.stdout.readline().strip()
        with temporary_folder() as own:
            assert {str(path) for path in place.iterdir()} == {held, str(own), *map(str, foreign)}
        other.kill()
    with temporary_folder() as own:
        assert set(place.iterdir()) == {own, *foreign}
