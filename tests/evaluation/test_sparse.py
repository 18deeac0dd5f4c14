from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest

from napari_rada import io
from napari_rada.data.slices import AnnotatedSlice, annotated_mask
from napari_rada.errors import InputError
from napari_rada.evaluation.sparse import choose_slices, largest_slices, main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def dense() -> Any:
    """Label 1 is largest at (z, y, x) = (3, 2, 5); label 2, smaller, at (7, 8, 1)."""
    labels = np.zeros((10, 11, 12), np.uint8)
    labels[3, 1:6, 3:8] = 1
    labels[2:6, 2, 3:8] = 1
    labels[2:6, 1:6, 5] = 1
    labels[7, 8:10, 0:2] = 2
    labels[6:8, 8, 1] = 2
    return labels


@pytest.fixture
def files(tmp_path: Path, dense: Any) -> tuple[str, str]:
    affine = np.diag([-1.0, 2.0, 3.0, 1.0])
    image = np.random.default_rng(0).random(dense.T.shape, dtype=np.float32)
    nib.save(nib.Nifti1Image(image, affine), tmp_path / "image.nii.gz")
    nib.save(nib.Nifti1Image(dense.T, affine), tmp_path / "dense.nii.gz")
    return str(tmp_path / "image.nii.gz"), str(tmp_path / "dense.nii.gz")


def test_slices_of_largest_area(dense: Any) -> None:
    assert largest_slices(dense) == (AnnotatedSlice(0, 3), AnnotatedSlice(1, 2), AnnotatedSlice(2, 5))
    assert largest_slices(dense, 2) == (AnnotatedSlice(0, 7), AnnotatedSlice(1, 8), AnnotatedSlice(2, 1))


def test_some_slices_per_axis(dense: Any) -> None:
    assert choose_slices(dense == 1) == largest_slices(dense, 1)
    line = np.zeros((12, 3, 1), bool)
    line[2:10, 1, 0] = True
    line[3, :, 0] = line[8, :, 0] = True
    along_z = [plane.index for plane in choose_slices(line, 2) if plane.axis == 0]
    assert along_z == [3, 8]
    assert [plane.index for plane in choose_slices(line, 2, centre=True) if plane.axis == 0] == [3, 7]
    assert [plane for plane in choose_slices(line, 5) if plane.axis == 2] == [AnnotatedSlice(2, 0)]
    with pytest.raises(InputError, match="do not hold the structure"):
        choose_slices(np.zeros_like(line))


def test_structure_that_is_not_there(dense: Any) -> None:
    with pytest.raises(InputError, match="hold no label 9"):
        largest_slices(dense, 9)
    with pytest.raises(InputError, match="hold no labels"):
        largest_slices(np.zeros_like(dense))


def test_command(tmp_path: Path, files: tuple[str, str], dense: Any, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sparse.nii.gz"
    assert main([*files, "-o", str(out)]) == 0
    assert capsys.readouterr().out == "0:5;1:2;2:3\n"
    case = io.load_case(files[0], out)
    assert case.annotated == largest_slices(dense)
    kept = annotated_mask(dense.shape, case.annotated)
    np.testing.assert_array_equal(case.labels, np.where(kept, dense, 0))
    np.testing.assert_array_equal(io.read_volume(out).array, case.labels)
    sidecar = json.loads((tmp_path / "sparse.slices.json").read_text())
    assert sidecar["annotated_slices"][0] == {"axis": 0, "index": 5}
    np.testing.assert_array_equal(nib.load(out).affine, nib.load(files[0]).affine)


def test_command_for_one_structure(tmp_path: Path, files: tuple[str, str], dense: Any) -> None:
    out = tmp_path / "sparse.nii.gz"
    assert main([*files, "-o", str(out), "--value", "2"]) == 0
    assert set(np.unique(io.read_volume(out).array)) == {0, 2}
    assert io.load_case(files[0], out).annotated == largest_slices(dense, 2)


def test_command_refuses_bad_input_in_one_line(
    tmp_path: Path, files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in ([*files, "-o", files[1]], [*files, "-o", str(tmp_path / "s.nii"), "--value", "9"]):
        assert main(arguments) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_module_runs(tmp_path: Path, files: tuple[str, str]) -> None:
    command = [sys.executable, "-m", "napari_rada.evaluation.sparse", *files, "-o", str(tmp_path / "sparse.nii.gz")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own interpreter
    assert (done.returncode, done.stdout, done.stderr) == (0, "0:5;1:2;2:3\n", "")


def test_real_scan(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "la2018" / "labeled"
    arguments = [str(folder / f"la001_{kind}.nii.gz") for kind in ("image", "label")]
    assert main([*arguments, "-o", str(tmp_path / "sparse.nii.gz")]) == 0
    case = io.load_case(arguments[0], tmp_path / "sparse.nii.gz")
    assert [plane.axis for plane in case.annotated] == [0, 1, 2]
    dense = io.read_volume(arguments[1]).array
    for plane in case.annotated:
        assert case.labels is not None
        np.testing.assert_array_equal(case.labels[plane.selector()], dense[plane.selector()])


def test_slices_are_chosen_along_one_axis_alone_if_asked_for() -> None:
    structure = np.zeros((20, 20, 20), dtype=bool)
    structure[4:16, 5:15, 6:14] = True
    chosen = choose_slices(structure, 3, centre=True, axis=1)
    assert [(plane.axis, plane.index) for plane in chosen] == [(1, 6), (1, 10), (1, 13)]
