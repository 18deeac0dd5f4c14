"""Whatever is wrong: exit status 2, one line on stderr that says so, nothing on stdout, nothing written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

SLICES = "0:12,1:11,2:10"


@pytest.fixture
def refused(run_cli: Callable[..., Any]) -> Callable[..., str]:
    """Run a command that must be refused and return its one line."""

    def run(*arguments: Any) -> str:
        ran = run_cli(*arguments)
        assert ran.status == 2
        assert ran.out == ""
        assert ran.err.startswith("napari-rada: error: ")
        assert ran.err.count("\n") == 1
        assert "Traceback" not in ran.err
        return str(ran.err)

    return run


def test_an_empty_argument_is_told_as_one(refused: Callable[..., str], scan: Any) -> None:
    assert "An argument is empty" in refused("evaluate", "", scan.dense)
    assert "An argument is empty" in refused("train", f"{scan.image},{scan.labels}", "--out=")


def image_of(scan: Any) -> Any:
    return np.asanyarray(nib.load(scan.image).dataobj).copy()


def with_value(array: Any, value: float) -> Any:
    changed = array.astype(np.float32)
    changed[0, 0, 0] = value
    return changed


IMAGES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "2D": (lambda a: a[..., 0], "has 2 dimensions (24, 22); a single 3D volume is needed"),
    "4D": (lambda a: np.stack([a, a], -1), "has 4 dimensions (24, 22, 20, 2); a single 3D volume is needed"),
    "NaN": (lambda a: with_value(a, np.nan), "NaN or infinite in 1 of 10560 voxels; set data.non_finite"),
    "infinite": (lambda a: with_value(a, np.inf), "NaN or infinite in 1 of 10560 voxels; set data.non_finite"),
    "constant": (np.zeros_like, "a constant image cannot be segmented"),
    "shape": (lambda a: a[:-1], "has shape (24, 22, 20) but"),
}
LABELS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "shape": (lambda a: a[:, :-1], "has shape (24, 21, 20) but"),
    "empty": (np.zeros_like, "the labels are empty; paint three slices"),
    "fractions": (lambda a: a * 0.5, "the labels hold fractions or NaN"),
    "negative": (lambda a: a.astype(np.int16) * -1, "the labels hold values from -1 to 0"),
    "one class": (np.ones_like, "The annotated slices hold only label 1"),
}


@pytest.mark.parametrize("command", ["propagate", "train"])
@pytest.mark.parametrize("kind", IMAGES)
def test_bad_image(
    refused: Callable[..., str], scan: Any, save_nifti: Callable[..., str], tmp_path: Path, command: str, kind: str
) -> None:
    change, gist = IMAGES[kind]
    image = save_nifti("bad.nii.gz", change(image_of(scan)))
    assert gist in refused(*call(command, image, scan.labels, tmp_path / "out.nii.gz"))
    assert not (tmp_path / "out.nii.gz").exists()


@pytest.mark.parametrize("command", ["propagate", "train"])
@pytest.mark.parametrize("kind", LABELS)
def test_bad_labels(
    refused: Callable[..., str], scan: Any, save_nifti: Callable[..., str], tmp_path: Path, command: str, kind: str
) -> None:
    change, gist = LABELS[kind]
    labels = save_nifti("bad.nii.gz", change(scan.truth_ijk))
    assert gist in refused(*call(command, scan.image, labels, tmp_path / "out.nii.gz"))
    assert not (tmp_path / "out.nii.gz").exists()


def call(command: str, image: str, labels: str, out: Path) -> list[Any]:
    return [command, image, labels, "-o", out] if command == "propagate" else [command, f"{image},{labels}", "-o", out]


@pytest.mark.parametrize("command", ["propagate", "train"])
def test_missing_and_damaged_files(refused: Callable[..., str], scan: Any, tmp_path: Path, command: str) -> None:
    out = tmp_path / "out.nii.gz"
    content = Path(scan.image).read_bytes()
    for name, length in (("cut.nii.gz", len(content) // 2), ("empty.nii.gz", 0)):
        (tmp_path / name).write_bytes(content[:length])
        line = refused(*call(command, str(tmp_path / name), scan.labels, out))
        assert f"{name} cannot be read as NIfTI, it is damaged or truncated" in line
    (tmp_path / "text.nii.gz").write_text("no image")
    assert "Not a gzipped file" in refused(*call(command, str(tmp_path / "text.nii.gz"), scan.labels, out))
    (tmp_path / "image.png").write_text("")
    assert "neither NIfTI" in refused(*call(command, str(tmp_path / "image.png"), scan.labels, out))
    assert "does not exist" in refused(*call(command, str(tmp_path / "no.nii.gz"), scan.labels, out))
    assert "does not exist" in refused(*call(command, scan.image, str(tmp_path / "no.nii.gz"), out))


def test_different_affines(
    refused: Callable[..., str], scan: Any, save_nifti: Callable[..., str], tmp_path: Path
) -> None:
    labels = save_nifti("moved.nii.gz", scan.truth_ijk, np.diag([-1.0, 1.5, 3.0, 1.0]))
    for command in ("propagate", "train"):
        line = refused(*call(command, scan.image, labels, tmp_path / "out.nii.gz"))
        assert "voxel size (x, y, z) (1, 1.5, 3) mm against (1, 1.5, 2) mm" in line
    assert "voxel size" in refused("evaluate", labels, scan.dense)


@pytest.mark.parametrize(
    ("slices", "gist"),
    [
        ("0:24,1:11", "Slice 0:24 lies outside"),
        ("2:20", "its axis 2 has the slices 0 to 19"),
        ("3:1", "names axis 3"),
        ("axial", "'axial' is not a slice; write axis:index"),
    ],
)
def test_bad_slices(refused: Callable[..., str], scan: Any, tmp_path: Path, slices: str, gist: str) -> None:
    out = tmp_path / "out.nii.gz"
    assert gist in refused("propagate", scan.image, scan.labels, "-o", out, "--slices", slices)
    case = f"{scan.image},{scan.labels},{slices.replace(',', ';')}"
    assert gist in refused("train", case, "-o", tmp_path / "run")


def test_bad_sidecar(refused: Callable[..., str], scan: Any, save_nifti: Callable[..., str], tmp_path: Path) -> None:
    labels = save_nifti("labels.nii.gz", scan.truth_ijk)
    (tmp_path / "labels.slices.json").write_text("{}")
    assert "no list 'annotated_slices'" in refused(*call("propagate", scan.image, labels, tmp_path / "out.nii.gz"))


def test_outputs_are_checked_first(refused: Callable[..., str], scan: Any, run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out, gist in (
        (tmp_path / "no" / "mask.nii.gz", "does not exist; make it"),
        (tmp_path / "file" / "mask.nii.gz", "is not a folder"),
        (tmp_path / "mask.png", "neither NIfTI"),
        (scan.image, "is one of the inputs and would be overwritten"),
        (scan.labels, "is one of the inputs and would be overwritten"),
    ):
        assert gist in refused("propagate", scan.image, scan.labels, "-o", out)
    predict = ("predict", run_dir, f"{scan.image},{scan.labels}", "-o")
    assert "is one of the inputs" in refused(*predict, scan.labels)
    assert "does not exist" in refused(*predict, tmp_path / "no" / "mask.nii.gz")
    same = tmp_path / "same.nii.gz"
    assert "Two outputs have the same name" in refused(*predict, same, "--probability", same)
    assert "cannot be written" in refused("train", f"{scan.image},{scan.labels}", "-o", tmp_path / "file" / "run")
    assert "is not a folder" in refused("demo", "--out", tmp_path / "file")
    assert "cannot be made" in refused("demo", "--out", tmp_path / "file" / "demo")


def test_folder_that_may_not_be_written(
    refused: Callable[..., str], scan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = "napari_rada.io.files.os.access"
    monkeypatch.setattr(access, lambda path, *_: Path(path) != tmp_path)
    assert "is not writable" in refused("propagate", scan.image, scan.labels, "-o", tmp_path / "mask.nii.gz")
    assert "is not writable" in refused("demo", "--out", tmp_path)


@pytest.mark.parametrize(
    ("flags", "gist"),
    [
        (["--set", "training.iterations"], "'training.iterations' is not a setting; write key=value"),
        (["--set", "training.iterations=0"], "training.iterations"),
        (["--set", "training.speed=1"], "There is no setting training.speed"),
        (["--minutes", "-1"], "training.minutes"),
        (["--minutes", "soon"], "argument --minutes: invalid float value: 'soon'"),
        (["--preset", "fast"], "invalid choice: 'fast'"),
        (["--device", "tpu"], "Device 'tpu'"),
        (["--config", "no.yaml"], "no.yaml: not a readable YAML file"),
        (["--config", "no.yaml", "--preset", "quick"], "not allowed with argument"),
    ],
)
def test_bad_settings(refused: Callable[..., str], scan: Any, tmp_path: Path, flags: list[str], gist: str) -> None:
    assert gist in refused("train", f"{scan.image},{scan.labels}", "-o", tmp_path / "run", *flags)
    assert not (tmp_path / "run").exists()


def test_bad_commands(refused: Callable[..., str], scan: Any, tmp_path: Path) -> None:
    assert "COMMAND" in refused()
    assert "invalid choice: 'trian'" in refused("trian")
    assert "required: LABELS, -o/--out; see napari-rada propagate --help" in refused("propagate", scan.image)
    assert "No case is named" in refused("train", "-o", tmp_path / "run")
    assert "invalid choice: 'magic'" in refused(
        "propagate", scan.image, scan.labels, "-o", tmp_path / "m.nii.gz", "--method", "magic"
    )


def test_bad_run_folders(refused: Callable[..., str], scan: Any, run_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "mask.nii.gz"
    assert "is not a run folder" in refused("predict", tmp_path, scan.image, "-o", out)
    assert "is not a run folder" in refused("suggest", tmp_path, scan.image)
    assert "is not a run folder" in refused("train", "--resume", "-o", tmp_path)
    assert "already holds a run" in refused("train", f"{scan.image},{scan.labels}", "-o", run_dir)
    line = refused("predict", run_dir, scan.image, "-o", out, "--set", "seed=3")
    assert "only data.non_finite can be set" in line


def test_a_scan_that_this_run_cannot_predict(
    refused: Callable[..., str], scan: Any, run_dir: Path, save_nifti: Callable[..., str], tmp_path: Path
) -> None:
    other = save_nifti("other.nii.gz", image_of(scan)[::-1].copy())
    assert "annotate three slices in it" in refused("predict", run_dir, other, "-o", tmp_path / "mask.nii.gz")


def test_evaluate_needs_masks(
    refused: Callable[..., str], run_cli: Callable[..., Any], scan: Any, save_nifti: Callable[..., str]
) -> None:
    assert "holds fractions or NaN" in refused("evaluate", scan.image, scan.dense)
    image = image_of(scan)
    ct = save_nifti("ct.nii.gz", (image * 1000).astype(np.int16))
    assert "ct.nii.gz looks like an image, not a mask: it holds values from -" in refused("evaluate", ct, scan.dense)
    grey = save_nifti("grey.nii.gz", (np.arange(image.size).reshape(image.shape) % 500).astype(np.int16))
    assert "looks like an image, not a mask: it holds 500 different values" in refused("evaluate", scan.dense, grey)
    parcels = np.indices(image.shape)
    many = save_nifti("many.nii.gz", (parcels[0] // 3 * 100 + parcels[1] // 3 * 10 + parcels[2] // 3).astype(np.int16))
    assert run_cli("evaluate", many, many).status == 0, "300 structures are no image"
    empty = save_nifti("empty.nii.gz", np.zeros_like(scan.truth_ijk))
    assert "Both masks are empty" in refused("evaluate", empty, empty)


def test_the_remedy_for_nan_works(
    run_cli: Callable[..., Any], scan: Any, save_nifti: Callable[..., str], run_dir: Path, tmp_path: Path
) -> None:
    image = save_nifti("nan.nii.gz", with_value(image_of(scan), np.nan))
    remedy = ("--set", "data.non_finite=replace")
    assert run_cli("propagate", image, scan.labels, "-o", tmp_path / "m.nii.gz", *remedy).status == 0
    case = f"{image},{scan.labels}"
    assert run_cli("predict", run_dir, case, "-o", tmp_path / "p.nii.gz", *remedy).status == 0


def test_two_paintings_that_contradict_each_other_are_told(
    run_cli: Callable[..., Any], scan: Any, save_nifti: Callable[..., str], tmp_path: Path
) -> None:
    paths = []
    for value, axis in ((1, 0), (2, 2)):
        painted = np.zeros_like(scan.truth_ijk)
        where = (12, slice(None), slice(None)) if axis == 0 else (slice(None), slice(None), 10)
        painted[where] = scan.truth_ijk[where] * value
        paths.append(save_nifti(f"painted{value}.nii.gz", painted))
    ran = run_cli("propagate", scan.image, ";".join(paths), "-o", tmp_path / "mask.nii.gz")
    assert ran.status == 0
    assert "note: ball: slice 2:10 and slice 0:12 disagree" in ran.err
    assert "2:10 was kept" in ran.err
