"""predict with zarr in and out, from the command line."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.engine import ball_case, ball_image, tiny_config
from tests.zarrs import write_ome

from napari_rada import cli, io, pipeline
from napari_rada.io.chunked import ChunkedArray

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_config(model__completion=False, model__filters=2, training__iterations=1)
    return pipeline.train([ball_case()], tmp_path_factory.mktemp("volumes") / "run", config).run_dir


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_ome(tmp_path / "scan.ome.zarr", ball_image(ball_case().labels), scale=(1, 1, 1))


def test_a_zarr_is_predicted_and_the_same_command_again_goes_on(
    run: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.ome.zarr"
    command = ["predict", str(run), str(scan), "-o", str(out), "--chunk", "16", "--memory", "0.0001"]
    assert cli.main([*command, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["out"] == str(out)
    assert result["shape"] == [20, 26, 24]
    assert result["computed"] == result["units"] > 1
    array = ChunkedArray.open(out / "0")
    assert array.read((0, 0, 0), array.shape).shape == (20, 26, 24)
    assert cli.main(command) == 0
    assert f"{out}: 20 x 26 x 24 voxels in 2 levels, 0 of {result['units']} pieces computed" in capsys.readouterr().out


def test_a_comma_in_the_name_and_a_slash_at_its_end_do_not_matter(run: Path, scan: Path, tmp_path: Path) -> None:
    scan.rename(tmp_path / "z,1.zarr")
    assert cli.main(["predict", str(run), f"{tmp_path}/z,1.zarr/", "-o", f"{tmp_path}/o.zarr/"]) == 0
    assert (tmp_path / "o.zarr" / ".zattrs").is_file()


def test_a_file_is_predicted_into_a_zarr_on_the_grid_that_is_asked_for(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = ball_case()
    io.write_volume(tmp_path / "scan.nii", case.image, case.grid)
    out, kept = tmp_path / "out.zarr", tmp_path / "p.zarr"
    files = [str(run), str(tmp_path / "scan.nii"), "-o", str(out), "--probability", str(kept)]
    assert cli.main(["predict", *files, "--factors", "1,2,2"]) == 0
    assert ChunkedArray.open(kept / "0").shape == (2, 20, 13, 12)
    assert "the networks see blocks of 1 x 2 x 2 voxels as one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "answer"),
    [
        (["SCAN", "-o", "out.nii.gz"], "into an OME-Zarr; let out.nii.gz end in .ome.zarr"),
        (["SCAN", "SCAN", "-o", "o.zarr"], "one at a time; name one image"),
        (["SCAN,labels.nii", "-o", "o.zarr"], "Annotated slices are not used chunk by chunk"),
        (["SCAN", "-o", "o.zarr", "--disagreement", "d.zarr"], "--disagreement needs the whole volume in memory"),
        (["SCAN", "-o", "o.zarr", "--fill-holes", "--min-part", "1"], "--min-part, --fill-holes needs the whole"),
        (["SCAN", "-o", "o.zarr", "--chunk", "0"], "Chunks of 0 voxels a side"),
        (["SCAN", "-o", "o.zarr", "--factors", "2,2"], "'2,2' is no Z,Y,X"),
        (["SCAN", "-o", "o.zarr", "--set", "training.iterations=3"], "only data.non_finite can be set"),
        (["SCAN", "-o", "o.zarr", "--set", "data.non_finite=maybe"], "to refuse or replace"),
        (["missing.zarr", "-o", "o.zarr"], "missing.zarr does not exist"),
        (["SCAN", "-o", "o.nii", "--chunk", "64"], "let o.nii end in .ome.zarr"),
        (["SCAN", "-o", "o.zarr", "--scheduler", "nonsense://a:1"], "No scheduler answers at nonsense://a:1"),
    ],
)
def test_mistakes_get_one_line(
    run: Path,
    scan: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    answer: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["predict", str(run), *[flag.replace("SCAN", str(scan)) for flag in flags]]) == 2
    err = capsys.readouterr().err
    assert answer in err
    assert "Traceback" not in err
    assert not (tmp_path / "o.zarr").exists()


def test_a_missing_package_is_named(
    run: Path, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    out = tmp_path / "o.zarr"
    assert cli.main(["predict", str(run), str(scan), "-o", str(out), "--scheduler", "tcp://127.0.0.1:1"]) == 2
    told = "needs the package distributed; install it with: pip install zarr dask distributed"
    assert told in capsys.readouterr().err


def test_nan_is_replaced_on_request(run: Path, tmp_path: Path) -> None:
    values = ball_image(ball_case().labels)
    values[3, 3, 3] = np.nan
    scan = write_ome(tmp_path / "nan.zarr", values)
    command = ["predict", str(run), str(scan), "-o", str(tmp_path / "o.zarr")]
    assert cli.main(command) == 2
    assert cli.main([*command, "--set", "data.non_finite=replace"]) == 0
