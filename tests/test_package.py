"""The package itself: light to import, complete when built, described truthfully."""

from __future__ import annotations

import ast
import inspect
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

import napari_rada

ROOT = Path(__file__).resolve().parents[1]


def python(code: str) -> str:
    """Run code in a fresh interpreter and return what it wrote."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    return done.stdout


def test_import_loads_neither_torch_nor_qt_nor_napari() -> None:
    loaded = set(python("import napari_rada, sys; print(*(name.partition('.')[0] for name in sys.modules))").split())
    heavy = {"torch", "monai", "napari", "qtpy", "PyQt5", "PyQt6", "PySide2", "PySide6", "numpy", "scipy", "pydantic"}
    assert "napari_rada" in loaded
    assert not loaded & heavy


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere torch has another OpenMP than GNU's")
@pytest.mark.parametrize(("given", "turns"), [({}, "10000"), ({"GOMP_SPINCOUNT": "77"}, "77")])
def test_threads_of_torch_that_wait_soon_sleep_unless_someone_says_otherwise(given: dict[str, str], turns: str) -> None:
    clean = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    code = "import napari_rada, torch"
    told = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code],
        env={**clean, "OMP_DISPLAY_ENV": "verbose", **given},
        capture_output=True,
        text=True,
    ).stderr
    assert f"GOMP_SPINCOUNT = '{turns}'" in told


def test_a_policy_for_waiting_threads_is_left_alone() -> None:
    clean = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    code = "import napari_rada, os; print(os.environ.get('GOMP_SPINCOUNT'))"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], env={**clean, "OMP_WAIT_POLICY": "active"}, capture_output=True, text=True
    )
    assert done.stdout.strip() == "None"


def test_the_whole_engine_loads_without_qt_and_napari() -> None:
    code = "import napari_rada.cli, napari_rada.pipeline, sys; print(*(n.partition('.')[0] for n in sys.modules))"
    assert not set(python(code).split()) & {"napari", "qtpy", "PyQt5", "PyQt6", "PySide2", "PySide6", "pyqtgraph"}


@pytest.mark.parametrize("name", napari_rada.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(napari_rada, name) is not None
    assert name in dir(napari_rada)


@pytest.mark.parametrize("name", napari_rada.__all__)
def test_what_a_public_function_returns_and_raises_is_public_too(name: str) -> None:
    function = getattr(napari_rada, name)
    if not inspect.isfunction(function):
        return
    returned = set(re.findall(r"\b[A-Z]\w+", str(inspect.signature(function).return_annotation))) - {"None"}
    told = re.search(r"\nRaises\n------\n(.*?)(\n\n|$)", inspect.getdoc(function) or "", re.DOTALL)
    raised = set(re.findall(r"^\w+|(?<=, )\w+(?=,|$)", told[1], re.MULTILINE)) if told else set()
    assert returned | raised <= set(napari_rada.__all__)


def test_unknown_names_are_refused_as_python_does() -> None:
    with pytest.raises(AttributeError, match="module 'napari_rada' has no attribute 'trian'"):
        napari_rada.trian  # noqa: B018


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build sdist and wheel from a copy of the sources that has no git metadata."""
    folder = tmp_path_factory.mktemp("build")
    copy = folder / "source"
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder / "dist")]
    subprocess.run(command, cwd=copy, check=True, capture_output=True)  # noqa: S603
    return folder / "dist"


def test_the_wheel_is_complete(built: Path) -> None:
    wheel = next(built.glob("napari_rada-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        texts = {name: archive.read(name).decode() for name in names if ".dist-info/" in name}
    sources = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*.py")}
    assert sources <= names
    data = {"py.typed", "napari.yaml", "models/completer.safetensors"}
    assert {f"napari_rada/{name}" for name in data} <= names
    entry_points = next(text for name, text in texts.items() if name.endswith("entry_points.txt"))
    assert "napari-rada = napari_rada:napari.yaml" in entry_points
    assert "napari-rada = napari_rada.cli:main" in entry_points


def test_the_version_falls_back_without_git(built: Path) -> None:
    assert (built / "napari_rada-0.1.0-py3-none-any.whl").is_file()
    with tarfile.open(built / "napari_rada-0.1.0.tar.gz") as archive:
        assert "napari_rada-0.1.0/src/napari_rada/napari.yaml" in archive.getnames()


def test_base_dependencies_hold_no_qt_binding(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        metadata = archive.read("napari_rada-0.1.0.dist-info/METADATA").decode()
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert any("napari>=" in line for line in required)
    assert not any(word in line.lower() for line in required for word in ("pyqt5", "pyqt6", "pyside", "napari["))


LONGEST_MODULE, LONGEST_FUNCTION = 499, 80


def test_modules_and_functions_are_short() -> None:
    long = []
    for path in (ROOT / "src").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if (lines := len(text.splitlines())) > LONGEST_MODULE:
            long.append(f"{path.name}: {lines}")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (node.end_lineno or 0) - node.lineno + 1
                long += [f"{path.name}, {node.name}: {lines}"] if lines > LONGEST_FUNCTION else []
    assert not long


def test_links_of_the_description_lead_somewhere_outside_the_repository(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        description = archive.read("napari_rada-0.1.0.dist-info/METADATA").decode().partition("\n\n")[2]
    targets = re.findall(r"\]\(([^)]+)\)", description)
    assert len(targets) == len(re.findall(r"\]\([^)]+\)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert all(target.startswith(("https://", "#")) for target in targets)
    (image,) = re.findall(r"!\[[^]]*\]\(([^)]+)\)", description)
    assert image == "https://raw.githubusercontent.com/napari-rada/napari-rada/main/docs/images/suggested.png"


def test_the_citation_names_software_and_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["title"] == "napari-rada"
    assert citation["license"] == "BSD-3-Clause"
    assert citation["references"][0]["identifiers"][0]["value"] == "arXiv:2604.11164"
