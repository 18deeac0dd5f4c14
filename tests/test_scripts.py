"""Scripts that prepare a machine for the tests."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
INSTALLED = "install ok installed"

pytestmark = pytest.mark.skipif(not shutil.which("dpkg-query"), reason="they ask Debian's packages")


@pytest.mark.parametrize(("name", "missing"), [("libglib2.0-0", False), ("libglib2.0-0t64", False), ("other", True)])
def test_a_library_counts_by_its_older_and_by_its_newer_name(tmp_path, name, missing):
    """A system that has all libraries, GLib under this name."""
    lines = ["#!/bin/sh", 'case "$*" in', f'*" {name}"*) echo {INSTALLED};;', "*glib*) exit 1;;"]
    for command, text in {
        "dpkg-query": "\n".join([*lines, f"*) echo {INSTALLED};;", "esac"]),
        "id": "#!/bin/sh\necho 1000",  # nobody who may install them
    }.items():
        (tmp_path / command).write_text(text)
        (tmp_path / command).chmod(0o755)
    told = subprocess.run(  # noqa: S603
        [str(shutil.which("sh")), SCRIPTS / "install_qt_libs.sh"],
        env={"PATH": os.pathsep.join([str(tmp_path), os.environ["PATH"]])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ("libglib2.0-0" in told.stderr) == missing
