"""Handing masks and annotations to other programs."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from tests.engine import CENTRE, ball, ball_case, ball_image, tiny_config

from napari_rada import io, pipeline
from napari_rada.cli import main
from napari_rada.data.case import Case
from napari_rada.data.classes import ClassInfo, ClassTable
from napari_rada.data.grid import Grid
from napari_rada.errors import InputError
from napari_rada.io import read_sidecar, read_volume, write_volume
from napari_rada.io.annotations import read_classes, to_array, write_annotation, write_sidecar
from napari_rada.io.export import export_nnunet, export_volume, with_ignore

CLASSES = ClassTable((ClassInfo(0, "nothing"), ClassInfo(3, "liver"), ClassInfo(7, "tumour")))


def two_labels(name="scan") -> Case:
    labels = ball() * 3
    labels[CENTRE[0], CENTRE[1], CENTRE[2]] = 7
    return Case.create(ball_image(ball()), labels, slices=list(enumerate(CENTRE)), classes=CLASSES, name=name)


def test_unknown_voxels_carry_the_ignore_label():
    case = two_labels()
    labels = with_ignore(case, CLASSES)
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    assert (labels[~case.known] == 3).all()
    assert (labels[case.known] < 3).all()
    assert labels[CENTRE] == 2


def test_a_dataset_for_nnunet(tmp_path):
    plain = ball_case("plain", seed=1, labelled=False)
    folder = export_nnunet([two_labels("scan 1.nii.gz"), plain], CLASSES, tmp_path / "Dataset501_Liver")
    description = json.loads((folder / "dataset.json").read_text())
    assert description["labels"] == {"background": 0, "liver": 1, "tumour": 2, "ignore": 3}
    assert description["numTraining"] == 1
    image = read_volume(folder / "imagesTr" / "scan_1_0000.nii.gz")
    labels = read_volume(folder / "labelsTr" / "scan_1.nii.gz")
    assert labels.grid.matches(image.grid)
    assert labels.array.dtype == np.uint8
    np.testing.assert_array_equal(labels.array, with_ignore(two_labels(), CLASSES))
    assert [path.name for path in (folder / "imagesTs").iterdir()] == ["plain_0000.nii.gz"]


def test_what_makes_no_dataset_is_told(tmp_path):
    with pytest.raises(InputError, match="the same name"):
        export_nnunet([two_labels("a"), two_labels("a")], CLASSES, tmp_path / "d")
    with pytest.raises(InputError, match="at least one to learn from"):
        export_nnunet([ball_case(labelled=False)], CLASSES, tmp_path / "d")
    assert not (tmp_path / "d").exists()
    export_nnunet([two_labels()], CLASSES, tmp_path / "d")
    with pytest.raises(InputError, match="holds a dataset already"):
        export_nnunet([two_labels()], CLASSES, tmp_path / "d")


def test_a_mask_changes_its_format_and_keeps_its_place(tmp_path):
    case = two_labels()
    write_volume(tmp_path / "mask.nii.gz", ball().astype(np.uint8), case.grid)
    out = export_volume(tmp_path / "mask.nii.gz", tmp_path / "mask.tif")
    np.testing.assert_array_equal(read_volume(out).array, ball())
    assert read_volume(out).grid.spacing == pytest.approx(case.grid.spacing)
    with pytest.raises(InputError, match="one of the inputs"):
        export_volume(tmp_path / "mask.nii.gz", tmp_path / "mask.nii.gz")


def test_the_command_line_exports_runs_and_masks(tmp_path, capsys):
    run = tmp_path / "run"
    pipeline.train([ball_case()], run, tiny_config(training__iterations=1))
    assert main(["export", str(run), "--to", "nifti", "-o", str(tmp_path / "out")]) == 0
    labels = tmp_path / "out" / "ball_labels.nii.gz"
    assert len(read_sidecar(labels)) == 3
    assert main(["export", str(run), "--to", "nnunet", "-o", str(tmp_path / "Dataset500_Ball")]) == 0
    assert (tmp_path / "Dataset500_Ball" / "labelsTr" / "ball.nii.gz").exists()
    assert main(["export", str(labels), "--to", "tiff", "-o", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "ball_labels.tif").exists()
    capsys.readouterr()
    assert main(["export", str(labels), "--to", "nnunet", "-o", str(tmp_path / "x")]) == 2
    assert "name a run folder, not masks" in capsys.readouterr().err
    assert main(["export", str(run), str(labels), "--to", "tiff", "-o", str(tmp_path / "x")]) == 2
    assert "one run at a time" in capsys.readouterr().err


def test_two_formats_beside_each_other_keep_their_own_slices(tmp_path):
    case = ball_case()
    io.save_labels(case, tmp_path / "labels.nii.gz")
    export_volume(tmp_path / "labels.nii.gz", tmp_path / "labels.tif")
    write_volume(tmp_path / "scan.nii.gz", case.image, case.grid)
    write_volume(tmp_path / "scan.tif", case.image, case.grid)
    for suffix in (".nii.gz", ".tif"):
        found = io.load_case(tmp_path / f"scan{suffix}", tmp_path / f"labels{suffix}")
        assert set(found.annotated) == set(case.annotated)
    assert (tmp_path / "labels.slices.json").exists()
    assert (tmp_path / "labels.tif.slices.json").exists()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    export_volume(tmp_path / "labels.nii.gz", elsewhere / "labels.tif")
    assert read_sidecar(elsewhere / "labels.tif") == read_sidecar(tmp_path / "labels.tif")


def test_names_of_classes_go_along_where_no_slice_is_named(tmp_path):
    io.save_labels(ball_case(), tmp_path / "labels.nii.gz")
    write_sidecar(tmp_path / "labels.nii.gz", None, [ClassInfo(1, "kidney")])
    export_volume(tmp_path / "labels.nii.gz", tmp_path / "labels.tif")
    assert [info.name for info in read_classes(tmp_path / "labels.tif")] == ["kidney"]
    assert read_sidecar(tmp_path / "labels.tif") is None


def test_a_copy_has_its_slices_where_the_program_ended_before_the_sidecar(tmp_path, ending_before_the_sidecar):
    """A dense mask of which three slices count would be one that a person painted all over."""
    case = ball_case()
    write_annotation(tmp_path / "mask.nii.gz", ball(), case.grid, slices=case.annotated)
    with ending_before_the_sidecar():
        export_volume(tmp_path / "mask.nii.gz", tmp_path / "copy.nii.gz")
    assert read_sidecar(tmp_path / "copy.nii.gz") == read_sidecar(tmp_path / "mask.nii.gz")


def test_a_sidecar_of_the_other_format_is_not_taken_for_ones_own(tmp_path):
    io.save_labels(ball_case(), tmp_path / "labels.nii.gz")
    volume = read_volume(tmp_path / "labels.nii.gz")
    write_volume(tmp_path / "labels.tif", volume.array, volume.grid)
    assert read_sidecar(tmp_path / "labels.tif") is None


def test_exporting_replaces_no_annotation_and_no_result_of_its_own(tmp_path, capsys):
    pipeline.train([ball_case()], tmp_path / "run", tiny_config(training__iterations=1))
    assert main(["export", str(tmp_path / "run"), "--to", "nifti", "-o", str(tmp_path)]) == 0
    newer = next(tmp_path.glob("*_labels.nii.gz"))
    before = newer.read_bytes()
    assert main(["export", str(tmp_path / "run"), "--to", "nifti", "-o", str(tmp_path)]) == 2
    assert f"{newer} exists already and is kept" in capsys.readouterr().err
    assert newer.read_bytes() == before
    write_volume(tmp_path / "mask.tif", ball(), ball_case().grid)
    with pytest.raises(InputError, match="holds annotations"):
        export_volume(tmp_path / "mask.tif", newer)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_volume(tmp_path / folder / "mask.nii.gz", ball(), ball_case().grid)
    masks = [str(tmp_path / folder / "mask.nii.gz") for folder in ("a", "b")]
    assert main(["export", *masks, "--to", "tiff", "-o", str(tmp_path / "out")]) == 2
    assert "Two masks would both be written to" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.tif"))


def test_exporting_into_a_folder_replaces_masks_only_if_asked(tmp_path, capsys):
    for name in ("a", "b"):
        write_volume(tmp_path / f"{name}.nii.gz", ball(), ball_case().grid)
    command = ["export", str(tmp_path / "a.nii.gz"), str(tmp_path / "b.nii.gz"), "--to", "tiff", "-o"]
    assert main([*command, str(tmp_path / "out")]) == 0
    (tmp_path / "out" / "b.tif").write_bytes(b"old")
    assert main([*command, str(tmp_path / "out")]) == 2
    assert "a.tif exists; choose another name, or add --overwrite to replace it" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "out"), "--overwrite"]) == 0
    assert read_volume(tmp_path / "out" / "b.tif").array.any()
    assert main([*command[:3], "--to", "nifti", "-o", str(tmp_path), "--overwrite"]) == 2
    assert "is one of the inputs" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "both.tif")]) == 2
    assert "Several masks are exported into a folder" in capsys.readouterr().err
    assert not (tmp_path / "both.tif").exists()


@pytest.mark.parametrize(
    ("dtype", "stored"), [("int64", "uint8"), ("uint64", "uint8"), ("bool", "uint8"), ("float16", "float32")]
)
def test_types_that_nifti_does_not_know_are_written_as_ones_that_hold_them(tmp_path, dtype, stored):
    tifffile.imwrite(tmp_path / "mask.tif", ball().astype(dtype))
    found = read_volume(export_volume(tmp_path / "mask.tif", tmp_path / "mask.nii.gz"))
    assert found.array.dtype == stored
    np.testing.assert_array_equal(found.array, ball())


def test_a_sidecar_that_names_no_format_stays_that_of_the_nifti_file(tmp_path):
    case = ball_case()
    io.save_labels(case, tmp_path / "labels.nii.gz")
    sidecar = tmp_path / "labels.slices.json"
    written = json.loads(sidecar.read_text())
    del written["format"]
    sidecar.write_text(json.dumps(written))
    export_volume(tmp_path / "labels.nii.gz", tmp_path / "labels.tif")
    assert json.loads(sidecar.read_text()) == written
    for name in ("labels.nii.gz", "labels.tif"):
        volume = read_volume(tmp_path / name)
        assert set(to_array(read_sidecar(tmp_path / name), volume)) == set(case.annotated)


def test_exporting_masks_replaces_no_file_that_was_not_named(tmp_path, capsys):
    write_volume(tmp_path / "mask.tif", ball(), ball_case().grid)
    (tmp_path / "mask.nii.gz").write_bytes(b"kept")
    assert main(["export", str(tmp_path / "mask.tif"), "--to", "nifti", "-o", str(tmp_path)]) == 2
    assert "exists; choose another name, or add --overwrite" in capsys.readouterr().err
    assert (tmp_path / "mask.nii.gz").read_bytes() == b"kept"


def test_a_file_of_another_format_than_asked_for_is_refused(tmp_path, capsys):
    write_volume(tmp_path / "mask.nii.gz", ball(), ball_case().grid)
    assert main(["export", str(tmp_path / "mask.nii.gz"), "--to", "tiff", "-o", str(tmp_path / "out.nii.gz")]) == 2
    assert "name one that ends in .tif" in capsys.readouterr().err
    assert not (tmp_path / "out.nii.gz").exists()


def test_what_is_assumed_of_an_exported_mask_is_told(tmp_path, capsys):
    tifffile.imwrite(tmp_path / "mask.tif", ball().astype(np.uint8))
    assert main(["export", str(tmp_path / "mask.tif"), "--to", "nifti", "-o", str(tmp_path / "mask.nii.gz")]) == 0
    assert "mask.tif gives no voxel size; 1 mm was taken" in capsys.readouterr().err


def test_the_place_that_a_tiff_cannot_hold_is_told(tmp_path, capsys):
    turned = Grid(ball().shape, np.diag([2.0, -2.0, 2.0, 1.0])[:, [2, 1, 0, 3]])
    write_volume(tmp_path / "mask.nii.gz", ball(), turned)
    assert main(["export", str(tmp_path / "mask.nii.gz"), "--to", "tiff", "-o", str(tmp_path / "mask.tif")]) == 0
    assert "mask.tif keeps the size of the voxels but, as TIFF, not where" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "mask.tif"), "--to", "nifti", "-o", str(tmp_path / "back.nii.gz")]) == 0
    assert "keeps the size" not in capsys.readouterr().err


def test_names_that_are_nnunets_own_are_told_apart(tmp_path):
    labels = ball() * 3
    labels[CENTRE] = 7
    classes = ClassTable((ClassInfo(0, "nothing"), ClassInfo(3, "ignore"), ClassInfo(7, "Background")))
    case = Case.create(ball_image(ball()), labels, slices=list(enumerate(CENTRE)), classes=classes)
    described = json.loads((export_nnunet([case], classes, tmp_path / "d") / "dataset.json").read_text())
    assert described["labels"] == {"background": 0, "ignore (3)": 1, "Background (7)": 2, "ignore": 3}


def test_cases_whose_names_hold_slashes_are_exported_under_names_of_their_own(tmp_path, capsys):
    folder = export_nnunet([two_labels("left/ct"), two_labels("right/ct")], CLASSES, tmp_path / "Dataset501_Liver")
    assert {path.name for path in (folder / "labelsTr").iterdir()} == {"left_ct.nii.gz", "right_ct.nii.gz"}
    for run, names, status in (("run", ("left/ct", "a:b"), 0), ("twice", ("left/ct", "left:ct"), 2)):
        cases = [replace(ball_case(seed=seed), name=name) for seed, name in enumerate(names)]
        pipeline.train(cases, tmp_path / run, tiny_config(training__iterations=1))
        assert main(["export", str(tmp_path / run), "--to", "nifti", "-o", str(tmp_path / f"{run} out")]) == status
    assert (tmp_path / "run out" / "left_ct_labels.nii.gz").is_file()
    assert (tmp_path / "run out" / "a_b_labels.nii.gz").is_file()
    assert "Two cases would both be written to" in capsys.readouterr().err
