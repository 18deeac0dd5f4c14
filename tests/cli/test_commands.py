"""Every command does its job on a tiny scan, as it will on a large one."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
import tifffile
from tests.cli.conftest import SHAPE_IJK
from tests.engine import dice

import napari_rada as rada
from napari_rada.cli import main
from napari_rada.config import RunConfig
from napari_rada.errors import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable

SLICES = "0:12,1:11,2:10"


def mask_of(path: Path | str, scan: Any) -> Any:
    """Read a mask, checking that it lies where the scan lies."""
    mask, image = nib.load(path), nib.load(scan.image)
    assert mask.get_data_dtype() == np.uint8
    assert mask.shape == image.shape
    np.testing.assert_array_equal(mask.affine, image.affine)
    for code in ("qform_code", "sform_code", "xyzt_units"):
        assert mask.header[code] == image.header[code]
    return np.asanyarray(mask.dataobj)


def test_propagate(run_cli: Callable[..., Any], scan: Any, tmp_path: Path) -> None:
    out = tmp_path / "mask.nii.gz"
    ran = run_cli("propagate", scan.image, scan.labels, "-o", out)
    assert ran.status == 0
    assert ran.out.startswith(f"{out}: label 1 ")
    assert "\nNext slice worth annotating: axis " in ran.out
    assert "propagating ball" in ran.err
    mask = mask_of(out, scan)
    assert dice(mask, scan.truth_ijk) > 0.9
    np.testing.assert_array_equal(mask[12], scan.truth_ijk[12])


def test_a_mask_whose_probability_cannot_be_written_is_kept_and_told(
    run_cli: Callable[..., Any], scan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise rada.InputError("p.nii.gz cannot be written (No space left on device); choose another place.")

    monkeypatch.setattr("napari_rada.io.save_probability", refuse)
    out = tmp_path / "mask.nii.gz"
    ran = run_cli("propagate", scan.image, scan.labels, "-o", out, "--probability", tmp_path / "p.nii.gz")
    assert ran.status == 2
    assert f"choose another place; the mask {out} is written and whole, to replace it with another try" in ran.err
    assert dice(mask_of(out, scan), scan.truth_ijk) > 0.9


def test_propagate_tells_how_sure_it_is(run_cli: Callable[..., Any], scan: Any, tmp_path: Path) -> None:
    out, probability, disagreement = (tmp_path / f"{name}.nii.gz" for name in ("mask", "p", "d"))
    asked = ("--probability", probability, "--disagreement", disagreement)
    ran = run_cli("propagate", scan.image, scan.labels, "-o", out, *asked)
    assert ran.status == 0
    mask = mask_of(out, scan)
    assert (mask == (nib.load(probability).get_fdata() > 0.5)).mean() > 0.999
    found = json.loads(run_cli("propagate", scan.image, scan.labels, "-o", out, "--json", "--overwrite").out)["next"]
    assert set(found) == {"axis", "index", "plane", "score"}
    assert f"{found['axis']}:{found['index']}" not in SLICES.replace(";", ",").split(",")
    assert 0 < found["score"] <= 1
    doubt = nib.load(disagreement).get_fdata()
    assert doubt.shape == mask.shape
    assert 0 <= doubt.min() < doubt.max() <= 1
    alone = run_cli(
        "propagate",
        scan.image,
        scan.labels,
        "-o",
        tmp_path / "m.nii.gz",
        *asked,
        "--method",
        "diffusion",
        "--overwrite",
    )
    assert alone.status == 2
    assert "has a single opinion" in alone.err
    assert not (tmp_path / "m.nii.gz").exists()


def test_a_file_that_is_there_is_replaced_only_if_that_is_asked_for(
    run_cli: Callable[..., Any], scan: Any, run_dir: Path, tmp_path: Path
) -> None:
    precious = tmp_path / "corrected.nii.gz"
    precious.write_bytes(b"by hand")
    commands = (
        ("propagate", scan.image, scan.labels, "-o", precious),
        ("predict", run_dir, scan.image, "-o", precious),
        ("explain", run_dir, scan.image, "--class", "1", "-o", precious),
        ("export", scan.labels, "--to", "nifti", "-o", precious),
        ("report", run_dir, "-o", precious),
    )
    for command in commands:
        ran = run_cli(*command)
        assert ran.status == 2
        assert f"{precious} exists; choose another name, or add --overwrite to replace it" in ran.err
        assert precious.read_bytes() == b"by hand"
    assert run_cli(*commands[0], "--overwrite").status == 0
    assert mask_of(precious, scan).any()


def test_an_export_of_nothing_leaves_no_folder(run_cli: Callable[..., Any], tmp_path: Path) -> None:
    ran = run_cli("export", tmp_path / "missing.nii.gz", "--to", "tiff", "-o", tmp_path / "new" / "dir")
    assert (ran.status, "missing.nii.gz does not exist" in ran.err) == (2, True)
    assert not any(tmp_path.iterdir())


def test_damaged_files_leave_no_empty_folder(
    run_cli: Callable[..., Any], scan: Any, run_dir: Path, tmp_path: Path
) -> None:
    damaged = [tmp_path / f"{name}.nii.gz" for name in "ab"]
    for file in damaged:
        file.write_bytes(Path(scan.image).read_bytes()[:100])
    out = tmp_path / "new" / "dir"
    for command in (("export", *damaged, "--to", "tiff"), ("predict", run_dir, *damaged)):
        ran = run_cli(*command, "-o", out)
        assert (ran.status, "damaged" in ran.err) == (2, True), ran.err
        assert {path.name for path in tmp_path.iterdir()} == {file.name for file in damaged}
    out.mkdir(parents=True)  # somebody else's
    run_cli("export", *damaged, "--to", "tiff", "-o", out)
    assert out.is_dir()
    ran = run_cli("export", scan.labels, *damaged, "--to", "tiff", "-o", out / "labels")
    assert ran.status == 2
    assert len(list((out / "labels").glob("*.tif"))) == 1  # what was whole is there


def test_help_tells_that_annotations_are_never_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["export", "--help"])
    assert "annotations never are" in " ".join(capsys.readouterr().out.split())


def test_the_slices_that_were_learned_from_are_named(run_cli: Callable[..., Any], scan: Any, tmp_path: Path) -> None:
    ran = run_cli("propagate", scan.image, scan.labels, "-o", tmp_path / "mask.nii.gz")
    named = next(
        line for line in ran.out.splitlines() if line.startswith("Annotated slices (axis:index in the file): ")
    )
    assert all(plane in named for plane in SLICES.split(","))


def test_propagate_with_named_slices_and_json(run_cli: Callable[..., Any], scan: Any, tmp_path: Path) -> None:
    out = tmp_path / "mask.nii.gz"
    arguments = ("--slices", SLICES, "--method", "diffusion", "--json")
    ran = run_cli("propagate", scan.image, scan.dense, "-o", out, *arguments)
    assert ran.status == 0
    found = json.loads(ran.out)
    assert found["mask"] == str(out)
    assert found["volumes_ml"]["label 1"] == pytest.approx(mask_of(out, scan).sum() * 3.0 / 1000)
    assert "diffusion" in found["provenance"]["method"]
    assert found["next"]["score"] > 0, "one opinion alone can be in doubt, too"
    assert sorted(found["annotated"]) == sorted(SLICES.split(","))


def test_train_writes_a_run(run_dir: Path) -> None:
    for name in ("config.yaml", "losses.csv", "cases.json", "checkpoints/last.pt", "annotations"):
        assert (run_dir / name).exists()


def test_train_reports(run_cli: Callable[..., Any], scan: Any, tmp_path: Path, tiny: list[str]) -> None:
    case = f"{scan.image},{scan.dense},{SLICES.replace(',', ';')}"
    ran = run_cli("train", case, "-o", tmp_path / "run", *tiny, "--preset", "quick", "--device", "cpu", "--json")
    assert ran.status == 0
    found = json.loads(ran.out)
    assert (found["run_dir"], found["reason"], found["iteration"]) == (str(tmp_path / "run"), "completed", 2)
    assert 0 <= found["dice"] <= 1
    assert [sorted(planes) for planes in found["annotated"].values()] == [sorted(SLICES.split(","))]
    assert "training on cpu, iterations 1 to 2" in ran.err
    assert "iteration 1/2, loss" in ran.err
    assert "training completed after 2 iterations" in ran.err


def test_train_takes_settings_from_a_file(
    run_cli: Callable[..., Any], scan: Any, tmp_path: Path, run_dir: Path
) -> None:
    case = f"{scan.image},{scan.labels}"
    ran = run_cli("train", case, "-o", tmp_path / "run", "--config", run_dir / "config.yaml", "--set", "seed=3")
    assert ran.status == 0
    written = (tmp_path / "run" / "config.yaml").read_text()
    assert written == (run_dir / "config.yaml").read_text().replace("seed: 0", "seed: 3")


def test_train_a_cohort_and_predict_it(
    run_cli: Callable[..., Any], scan: Any, tmp_path: Path, tiny: list[str], save_nifti: Callable[..., str]
) -> None:
    other = np.asanyarray(nib.load(scan.image).dataobj)[::-1].copy()
    save_nifti("mirrored.nii.gz", other)
    (tmp_path / "cases.csv").write_text(f"name,image,labels\none,{scan.image},{scan.labels}\ntwo?,mirrored.nii.gz,\n")
    assert run_cli("train", tmp_path, "-o", tmp_path / "run", *tiny).status == 0
    out = tmp_path / "masks"
    ran = run_cli("predict", tmp_path / "run", tmp_path, "-o", out, "--disagreement", tmp_path / "doubt", "--json")
    assert ran.status == 0
    assert sorted(path.name for path in out.iterdir()) == ["one_mask.nii.gz", "two__mask.nii.gz"]
    assert sorted(path.name for path in (tmp_path / "doubt").iterdir()) == [
        "one_disagreement.nii.gz",
        "two__disagreement.nii.gz",
    ]
    found = json.loads(ran.out)["predictions"]
    assert [entry["name"] for entry in found] == ["one", "two?"]
    assert found[0]["mask"] == str(out / "one_mask.nii.gz")
    assert found[0]["probability"] is None
    table = tmp_path / "cases.csv"
    ran = run_cli("predict", tmp_path / "run", table, "-o", tmp_path / "m.nii.gz")
    assert ran.status == 2
    assert f"2 scans are predicted into a folder, and {tmp_path / 'm.nii.gz'} is the name of a file." in ran.err
    assert not (tmp_path / "m.nii.gz").exists()


def test_a_scan_that_cannot_be_predicted_does_not_hold_up_the_others(
    run_cli: Callable[..., Any],
    scan: Any,
    run_dir: Path,
    tmp_path: Path,
    save_nifti: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = np.asanyarray(nib.load(scan.image).dataobj)
    save_nifti("bad.nii.gz", np.where(image == image.max(), np.nan, image))
    save_nifti("again.nii.gz", image)
    scans = [tmp_path / "bad.nii.gz", f"{scan.image},{scan.labels}", tmp_path / "again.nii.gz"]
    ran = run_cli("predict", run_dir, *scans, "-o", tmp_path / "masks", "--json")
    assert ran.status == 2
    found = json.loads(ran.out)
    assert [entry["name"] for entry in found["predictions"]] == ["ball", "again"]
    assert "is NaN or infinite in 1 of" in found["failed"]["bad"]
    assert "note: bad is left out: the image is NaN or infinite in 1 of" in ran.err
    assert "error: 1 of 3 scans could not be predicted: bad; mend what is said of each above, and predict" in ran.err
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["again_mask.nii.gz", "ball_mask.nii.gz"]

    def stopped(*_: Any, **__: Any) -> None:
        raise Stopped

    predict = rada.predict
    kept = [predict, stopped]
    monkeypatch.setattr("napari_rada.predict", lambda *given, **more: kept.pop(0)(*given, **more))
    ran = run_cli("predict", run_dir, *scans[1:], "-o", tmp_path / "masks", "--json", "--overwrite")
    assert ran.status == 3
    assert [entry["name"] for entry in json.loads(ran.out)["predictions"]] == ["ball"]


def test_a_scan_whose_annotated_slices_are_missing_is_left_out(
    run_cli: Callable[..., Any],
    scan: Any,
    tmp_path: Path,
    tiny: list[str],
    save_nifti: Callable[..., str],
) -> None:
    run, case = tmp_path / "run", f"{scan.image},{scan.labels}"
    assert run_cli("train", case, "-o", run, *tiny, "--set", "model.completion=true").status == 0
    other = save_nifti("other.nii.gz", np.asanyarray(nib.load(scan.image).dataobj)[::-1])
    ran = run_cli("predict", run, other, scan.image, "-o", tmp_path / "masks")
    assert ran.status == 2
    assert "note: other is left out: this run completes annotated slices and was given none of this scan" in ran.err
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["ball_mask.nii.gz"]


def test_predict_one_image(run_cli: Callable[..., Any], scan: Any, run_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "mask.nii.gz"
    maps = {"--probability": tmp_path / "p.nii.gz", "--disagreement": tmp_path / "d.nii.gz"}
    flags = [text for pair in maps.items() for text in pair]
    ran = run_cli("predict", run_dir, scan.image, "-o", out, *flags, "--device", "cpu")
    assert ran.status == 0
    assert ran.out.startswith(f"{out}: label 1 ")
    assert "predicting" in ran.err
    mask = mask_of(out, scan)
    np.testing.assert_array_equal(mask[12], scan.truth_ijk[12])
    for path in maps.values():
        values = np.asanyarray(nib.load(path).dataobj)
        assert values.dtype == np.float32
        assert values.shape == mask.shape
        assert 0 <= values.min() <= values.max() <= 1


def test_predict_into_a_folder(run_cli: Callable[..., Any], scan: Any, run_dir: Path, tmp_path: Path) -> None:
    assert run_cli("predict", run_dir, scan.image, "-o", tmp_path).status == 0
    mask_of(tmp_path / "ball_mask.nii.gz", scan)


def test_what_a_tiff_cannot_hold_is_told(run_cli: Callable[..., Any], scan: Any, run_dir: Path, tmp_path: Path) -> None:
    lost = "note: mask.tif keeps the size of the voxels but, as TIFF, not where and how they lie."
    assert lost in run_cli("predict", run_dir, scan.image, "-o", tmp_path / "mask.tif").err
    assert lost not in run_cli("predict", run_dir, scan.image, "-o", tmp_path / "mask.nii.gz").err


def test_a_run_whose_best_weights_are_damaged_predicts_without_them(
    run_cli: Callable[..., Any], scan: Any, run_dir: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(run_dir, run)
    best = run / "checkpoints" / "best.pt"
    best.write_bytes(b"damaged")
    arguments = ("predict", run, scan.image, "-o", tmp_path / "mask.nii.gz")
    ran = run_cli(*arguments)
    assert ran.status == 2
    assert "best.pt is damaged or not ours" in ran.err
    assert "restore it from a copy, or delete it: last.pt is used then." in ran.err
    best.unlink()
    assert run_cli(*arguments).status == 0


@pytest.mark.parametrize(("axis", "size"), [(0, 3), (0, SHAPE_IJK[0]), (2, SHAPE_IJK[2])])
def test_evaluate_tells_of_masks_that_are_annotated_in_slices(
    run_cli: Callable[..., Any], scan: Any, save_nifti: Callable[..., str], axis: int, size: int
) -> None:
    labels = Path(save_nifti("sparse.nii.gz", scan.truth_ijk))
    listed = [{"axis": axis, "index": index} for index in range(size)]
    labels.with_name("sparse.slices.json").write_text(json.dumps({"annotated_slices": listed}))
    ran = run_cli("evaluate", scan.dense, labels)
    assert ran.status == 0
    told = "is annotated in 3 slices alone, as sparse.slices.json beside it says; elsewhere it counts as background"
    assert (told in ran.err) == (size == 3)


def test_evaluate(run_cli: Callable[..., Any], scan: Any, save_nifti: Callable[..., str]) -> None:
    ran = run_cli("evaluate", scan.dense, scan.dense)
    assert ran.status == 0
    assert ran.out.splitlines()[1].split() == ["label", "1", "1.0000", "1.0000", "0", "0"]
    shifted = save_nifti("shifted.nii.gz", np.roll(scan.truth_ijk, 1, axis=2).astype(np.float32))
    found = json.loads(run_cli("evaluate", shifted, scan.dense, "--json").out)["classes"]
    assert len(found) == 1
    assert found[0]["dice"] == pytest.approx(dice(np.roll(scan.truth_ijk, 1, axis=2), scan.truth_ijk))
    assert found[0]["hd95_mm"] == pytest.approx(2.0)


def test_a_shortage_of_memory_is_one_sentence(
    run_cli: Callable[..., Any], scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*args: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr("napari_rada.evaluation.metrics.evaluate_masks", short)
    ran = run_cli("evaluate", scan.dense, scan.dense)
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert ran.err.startswith("napari-rada: error: Memory ran out (")


def test_evaluate_takes_values_that_a_header_scales(
    run_cli: Callable[..., Any], scan: Any, save_nifti: Callable[..., str]
) -> None:
    scaled = save_nifti("scaled.nii.gz", scan.truth_ijk * np.float32(1 + 6e-8 * 4))
    assert json.loads(run_cli("evaluate", scaled, scan.dense, "--json").out)["classes"][0]["dice"] == 1.0


def test_evaluate_a_missing_class(run_cli: Callable[..., Any], scan: Any, save_nifti: Callable[..., str]) -> None:
    other = save_nifti("two.nii.gz", scan.truth_ijk * np.uint8(2))
    found = json.loads(run_cli("evaluate", other, scan.dense, "--json").out)["classes"]
    assert [(entry["value"], entry["dice"], entry["hd95_mm"]) for entry in found] == [(1, 0.0, None), (2, 0.0, None)]


def test_suggest(run_cli: Callable[..., Any], scan: Any, run_dir: Path) -> None:
    ran = run_cli("suggest", run_dir, scan.image, "--json")
    assert ran.status == 0
    found = json.loads(ran.out)
    assert found["plane"] == ["sagittal", "coronal", "axial"][found["axis"]]
    assert 0 <= found["index"] < scan.truth_ijk.shape[found["axis"]]
    assert f"{found['axis']}:{found['index']}" not in SLICES.split(",")
    assert 0 <= found["score"] <= 1
    text = run_cli("suggest", run_dir, scan.image, "--labels", scan.dense, "--slices", SLICES).out
    assert text == f"axis {found['axis']}, index {found['index']} ({found['plane']}), score {found['score']:.3f}\n"


def test_info(run_cli: Callable[..., Any]) -> None:
    ran = run_cli("info")
    assert ran.status == 0
    for word in ("python: 3", "torch: ", "monai: ", "napari-rada: ", "cpu: usable", "Qt binding: ", "CPU threads: "):
        assert word in ran.out
    found = json.loads(run_cli("info", "--json").out)
    assert set(found) == {"environment", "window", "devices", "computing", "folders"}
    assert all(text == "usable" or text.startswith(("usable, ", "not usable: ")) for text in found["devices"].values())


def test_demo(run_cli: Callable[..., Any], tmp_path: Path, tiny: list[str]) -> None:
    out = tmp_path / "demo"
    ran = run_cli("demo", "--out", out, *tiny, "--json")
    assert ran.status == 0
    found = json.loads(ran.out)
    assert found["propagation"]["dice"] > 0.5
    assert 0 < found["trained"]["dice"] <= 1
    names = ["image", "labels", "truth", "propagated", "mask", "probability", "disagreement"]
    for name in [*(f"sample_{name}.nii.gz" for name in names), "sample_labels.slices.json", "run1/config.yaml"]:
        assert (out / name).is_file(), name
    assert (out / "sample.png").read_bytes().startswith(b"\x89PNG")
    again = run_cli("demo", "--out", out, *tiny)
    assert again.status == 0
    assert "trained: Dice 0." in again.out
    assert (out / "run2" / "config.yaml").is_file()


def test_tiff_in_tiff_out(run_cli: Callable[..., Any], scan: Any, tmp_path: Path) -> None:
    metadata = {"axes": "ZYX", "unit": "mm", "spacing": 2.0}
    truth_zyx = np.ascontiguousarray(scan.truth_ijk.T)
    image_zyx = np.ascontiguousarray(np.asanyarray(nib.load(scan.image).dataobj).T)
    for name, data in (("scan", image_zyx), ("labels", truth_zyx)):
        tifffile.imwrite(tmp_path / f"{name}.tif", data, imagej=True, resolution=(1.0, 2 / 3), metadata=metadata)
    out = tmp_path / "mask.tif"
    files = (tmp_path / "scan.tif", tmp_path / "labels.tif", "-o", out)
    assert run_cli("propagate", *files, "--slices", "0:10,1:11,2:12").status == 0
    with tifffile.TiffFile(tmp_path / "scan.tif") as source, tifffile.TiffFile(out) as mask:
        written, read = mask.pages.first.tags, source.pages.first.tags
        assert written["ResolutionUnit"].value == read["ResolutionUnit"].value
        for tag in ("XResolution", "YResolution"):
            ratios = [Fraction(*tags[tag].value) for tags in (written, read)]
            assert float(ratios[0]) == pytest.approx(float(ratios[1]), rel=1e-6)  # tifffile rounds in its own way
        assert mask.imagej_metadata is not None
        assert (mask.imagej_metadata["unit"], mask.imagej_metadata["spacing"]) == ("mm", 2.0)
    assert dice(tifffile.imread(out), truth_zyx) > 0.9


def test_evaluate_measures_with_the_voxels_that_are_known(run_cli: Callable[..., Any], tmp_path: Path) -> None:
    ball = np.zeros((6, 12, 12), dtype=np.uint8)
    ball[2:4, 4:8, 4:8] = 1
    calibrated = {"imagej": True, "resolution": (2.0, 2.0), "metadata": {"axes": "ZYX", "unit": "mm", "spacing": 3.0}}
    tifffile.imwrite(tmp_path / "measured.tif", np.roll(ball, 1, axis=2), **calibrated)
    tifffile.imwrite(tmp_path / "bare.tif", ball)
    tifffile.imwrite(tmp_path / "bare2.tif", np.roll(ball, 1, axis=2))
    for pair in (("measured.tif", "bare.tif"), ("bare.tif", "measured.tif")):
        ran = run_cli("evaluate", *(tmp_path / name for name in pair), "--json")
        assert json.loads(ran.out)["classes"][0]["hd95_mm"] == pytest.approx(0.5)
        assert "no voxel size" not in ran.err
    told = run_cli("evaluate", tmp_path / "bare2.tif", tmp_path / "bare.tif").err
    assert "gives no voxel size; 1 mm was taken" in told


def test_outputs_that_cannot_be_are_refused_before_anything_is_computed(
    run_cli: Callable[..., Any], scan: Any, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    same = ("-o", "x.nii.gz", "--probability", tmp_path / "x.nii.gz")
    lonely = tmp_path / "run"
    shutil.copytree(run_dir, lonely)
    config = RunConfig.from_preset("quick").with_settings({"model.networks": 1})
    (lonely / "config.yaml").write_text(config.to_yaml())
    doubt = ("--disagreement", tmp_path / "d.nii.gz")
    for words, told in [
        (("propagate", scan.image, scan.labels, *same), "Two outputs have the same name"),
        (("propagate", scan.image, scan.labels, "-o", "x.nii.gz", "--method", "diffusion", *doubt), "no disagreement"),
        (("predict", lonely, scan.image, "-o", "x.nii.gz", *doubt), "contradicts nobody"),
    ]:
        ran = run_cli(*words)
        assert ran.status == 2
        assert told in ran.err
    assert not list(tmp_path.glob("*.nii.gz"))
