"""Run folders, checkpoints, settings and archives of strangers: nothing in them runs, nothing leaves its folder."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.engine import ball_case, tiny_config

from napari_rada import pipeline
from napari_rada.config import RunConfig, load_config
from napari_rada.errors import ConfigError, RadaError, RunFolderError
from napari_rada.io.lazy import open_lazy
from napari_rada.text import parse_yaml, read_json
from napari_rada.training.checkpoint import load_checkpoint
from napari_rada.training.run_folder import RunFolder

SOURCE = Path(__file__).resolve().parents[1] / "src"


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.path),))


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """Return the folder that exists once code of a stranger has run; it works where it is not refused."""
    path = tmp_path / "sprung"
    pickle.loads(pickle.dumps(Trap(path)))  # noqa: S301 - to know that the trap is one
    assert path.is_dir()
    path.rmdir()
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trained") / "run"
    pipeline.train([ball_case()], path, tiny_config(training__iterations=1))
    return path


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def link(path: Path, target: Path) -> None:
    try:
        path.symlink_to(target)
    except OSError:  # Windows, without the right to do so
        pytest.skip("this system makes no symbolic links")


@pytest.mark.parametrize("kind", ["archive", "old format", "bare pickle", "among the weights"])
def test_a_checkpoint_runs_nothing(run: Path, trap: Path, kind: str) -> None:
    for path in (run / "checkpoints").iterdir():
        if kind == "bare pickle":
            path.write_bytes(pickle.dumps(Trap(trap)))
        elif kind == "among the weights":
            content = torch.load(path, weights_only=True)
            content["model"]["networks.0.vnet.head.bias"] = Trap(trap)
            torch.save(content, path)
        else:
            torch.save({"format": 1, "state": Trap(trap)}, path, _use_new_zipfile_serialization=kind == "archive")
        with pytest.raises(RunFolderError, match="is damaged or not ours"):
            load_checkpoint(path)
    with pytest.raises(RunFolderError, match="is damaged or not ours"):
        pipeline.predict(run, ball_case(), device="cpu")
    with pytest.raises(RunFolderError, match="is damaged or not ours"):
        pipeline.resume(run)
    assert not trap.exists()


def test_entries_of_an_archive_stay_where_they_are(run: Path, tmp_path: Path) -> None:
    path = run / "checkpoints" / "last.pt"
    before = sorted(found for found in tmp_path.rglob("*"))
    with zipfile.ZipFile(path, "a") as archive:
        for name in ("../../escaped", str(tmp_path / "absolute"), "..\\escaped"):
            archive.writestr(name, "x")
    with pytest.raises(RunFolderError):
        load_checkpoint(path)
    assert sorted(found for found in tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.mkdir ['{}']",
        "!!python/object/new:os.mkdir ['{}']",
        "!!python/name:os.mkdir",
        "!!python/module:os",
        "!<tag:yaml.org,2002:python/object/apply:os.mkdir> ['{}']",
    ],
)
def test_yaml_makes_no_objects(run: Path, trap: Path, tmp_path: Path, text: str) -> None:
    text = text.format(trap)
    with pytest.raises(ValueError, match="could not determine a constructor"):
        parse_yaml(text)
    with pytest.raises(ConfigError, match="is not a value"):
        RunConfig().with_settings({"seed": text})
    (tmp_path / "settings.yaml").write_text(f"seed: {text}\n")
    with pytest.raises(ConfigError, match="not a readable YAML file"):
        load_config(tmp_path / "settings.yaml")
    (run / "config.yaml").write_text(f"seed: {text}\n")
    with pytest.raises(ConfigError, match="not a readable YAML file"):
        pipeline.resume(run)
    assert not trap.exists()


def test_text_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_text("[" + "1," * 60 + "1]")
    assert len(read_json(tmp_path / "a.json")) == 61
    monkeypatch.setattr("napari_rada.text.MAX_BYTES", 100)
    with pytest.raises(ValueError, match="it has 123 bytes, far more than such a file needs"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("name", ["../secret.nii.gz", "annotations/../../secret.nii.gz", "link/secret.nii.gz"])
def test_a_run_folder_names_no_file_outside_itself(run: Path, tmp_path: Path, name: str) -> None:
    labels = next((run / "annotations").glob("*_labels.nii.gz"))
    shutil.copy(labels, tmp_path / "secret.nii.gz")
    if name.startswith("link"):
        link(run / "link", tmp_path)
    cases = run / "cases.json"
    good = cases.read_text()
    assert labels.name in good
    cases.write_text(good.replace(f"annotations/{labels.name}", name))
    for use in (lambda: pipeline.predict(run, ball_case(labelled=False), device="cpu"), lambda: pipeline.resume(run)):
        with pytest.raises(RunFolderError, match="which lies outside the run folder"):
            use()


def test_what_continues_another_run_is_checked(run: Path) -> None:
    for content in ("[]", "{}", '{"run": 1, "iteration": 2}', '{"run": "a", "iteration": "x"}', "no json"):
        RunFolder(run).parent_file.write_text(content)
        with pytest.raises(RadaError, match="is damaged; delete it"):
            RunFolder(run).parent()


@pytest.mark.parametrize("word", ["pickle.load", "np.load(", "yaml.unsafe", "eval(", "exec(", "weights_only=False"])
def test_the_source_has_no_way_to_run_what_it_reads(word: str) -> None:
    for path in SOURCE.rglob("*.py"):
        text = path.read_text(encoding="utf-8").replace(".eval(", "").replace(".exec(", "")
        if word == "np.load(":
            assert word not in text or "allow_pickle=False" in text, path
        else:
            assert word not in text, path


def test_a_zarr_that_names_pickle_runs_nothing(tmp_path: Path, trap: Path) -> None:
    array = tmp_path / "scan.zarr"
    array.mkdir()
    description = {
        "zarr_format": 2,
        "shape": [4, 4, 4],
        "chunks": [4, 4, 4],
        "dtype": "|u1",
        "compressor": None,
        "fill_value": 0,
        "order": "C",
        "filters": [{"id": "pickle", "protocol": 4}],
    }
    (array / ".zarray").write_text(json.dumps(description))
    (array / "0.0.0").write_bytes(pickle.dumps(Trap(trap)))
    with pytest.raises(RadaError, match="is packed by pickle"):
        open_lazy(array).read(((0, 0, 0), (4, 4, 4)))
    assert not trap.exists()
