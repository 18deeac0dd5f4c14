"""What the docks would do, as text that does it."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Labels
from tests.engine import ball_case, tiny_config

from napari_rada._napari import recipes
from napari_rada._napari.files import read_layers, write_image, write_labels
from napari_rada._napari.layers import new_labels_data, set_annotated_slices, set_class_infos
from napari_rada._napari.recipes import PredictionChoice, Scan, predict_command, train_command, train_script
from napari_rada.cli.chosen_config import config_from
from napari_rada.cli.parser import make_parser
from napari_rada.config import RunConfig
from napari_rada.data.classes import ClassInfo
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import InputError
from napari_rada.inference.cleanup import CleanUp
from napari_rada.io import find_cases, read_volume
from napari_rada.training.run_folder import RunFolder

PLANES = [AnnotatedSlice(0, 10), AnnotatedSlice(2, 12)]


@pytest.fixture
def layers(tmp_path):
    """Image and labels as they are read from files."""
    from napari.layers import Layer

    from napari_rada.io import write_volume

    case = ball_case()
    write_volume(tmp_path / "scan 1.nii.gz", case.image, case.grid)
    write_volume(tmp_path / "labels.nii.gz", case.labels.astype(np.uint8), case.grid)
    return [Layer.create(*read_layers(str(tmp_path / name))[0]) for name in ("scan 1.nii.gz", "labels.nii.gz")]


def test_the_command_has_the_same_cases_and_settings(layers, tmp_path):
    config = tiny_config(seed=5, data__window=[0.0, 1.0])
    command = train_command([Scan(*layers, PLANES)], None, tmp_path / "my run", config, None)()
    args = make_parser().parse_args(shlex.split(command)[1:])
    assert config_from(args) == config
    assert args.out == str(tmp_path / "my run")
    (files,) = find_cases(args.cases)
    assert files.load().annotated == tuple(PLANES)
    continued = train_command([Scan(*layers, PLANES)], None, tmp_path / "new", config, tmp_path / "old")()
    assert make_parser().parse_args(shlex.split(continued)[1:]).old_run == str(tmp_path / "old")


def test_a_cohort_is_named_whole(layers, tmp_path, viewer):
    image, labels = layers
    shutil.copy(tmp_path / "scan 1.nii.gz", tmp_path / "scan 2.nii.gz")
    other = type(image).create(*read_layers(str(tmp_path / "scan 2.nii.gz"))[0])
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "cases.csv").write_text("name,image,labels,slices\nthird,../scan 1.nii.gz,,\n")
    scans = [Scan(image, labels, PLANES), Scan(other, None, ())]
    config = RunConfig.from_preset("quick").for_cohort().with_settings({"training.iterations": 7})
    command = train_command(scans, folder, tmp_path / "run", config, None)()
    args = make_parser().parse_args(shlex.split(command)[1:])
    assert config_from(args, cohort=True) == config
    cases = [files.load() for files in find_cases(args.cases)]
    assert [case.annotated for case in cases] == [tuple(PLANES), (), ()]
    assert cases[2].name == "third"
    set_annotated_slices(labels, PLANES)
    for layer in (image, labels, other):
        viewer.add_layer(layer)
    prepared = train_script(scans, folder, tmp_path / "run", config, None).rpartition("\n")[0]
    made: dict[str, object] = {"viewer": viewer}
    exec(prepared, made)  # noqa: S102 - our own text
    assert [case.annotated for case in made["cases"]] == [tuple(PLANES), (), ()]
    assert made["config"] == config


def test_the_script_runs_in_the_console(layers, tmp_path, viewer):
    image, labels = layers
    set_annotated_slices(labels, PLANES)
    viewer.add_layer(image)
    viewer.add_layer(labels)
    config = tiny_config(training__iterations=1)
    scans = [Scan(image, labels, PLANES)]
    exec(train_script(scans, None, tmp_path / "run", config, None), {"viewer": viewer})  # noqa: S102 - our own text
    found = RunFolder.open(tmp_path / "run").config()
    assert found == config.with_settings({"data.orientation": found.data.orientation})  # which is planned
    script = train_script(scans, None, tmp_path / "new", config, tmp_path / "run")
    exec(script, {"viewer": viewer})  # noqa: S102
    assert len(RunFolder.open(tmp_path / "new").steps()) == 2


def test_a_prediction_as_a_command(layers):
    scan = Scan(layers[0], None, ())
    command = predict_command([scan], Path("run"), PredictionChoice("cpu", CleanUp(2.5, fill_holes=True)))()
    args = make_parser().parse_args(shlex.split(command)[1:])
    assert (args.run_dir, args.device, args.min_part, args.fill_holes) == ("run", "cpu", 2.5, True)
    assert (args.out, args.probability, args.disagreement, args.settings) == ("scan 1 mask.nii.gz", None, None, [])


def test_a_prediction_as_a_command_is_the_whole_of_it(layers, tmp_path):
    image, labels = layers
    image.name = "study/stack"
    choice = PredictionChoice("cpu", CleanUp(), ("probability", "disagreement"), "replace")
    args = make_parser().parse_args(
        shlex.split(predict_command([Scan(image, labels, PLANES)], tmp_path / "run", choice)())[1:]
    )
    (case,) = find_cases(args.cases)
    assert case.load().annotated == tuple(PLANES)
    assert args.out == "study_stack mask.nii.gz"
    assert (args.probability, args.disagreement) == (
        "study_stack probability.nii.gz",
        "study_stack disagreement.nii.gz",
    )
    assert args.settings == ["data.non_finite=replace"]
    shutil.copy(tmp_path / "scan 1.nii.gz", tmp_path / "scan 2.nii.gz")
    other = type(image).create(*read_layers(str(tmp_path / "scan 2.nii.gz"))[0])
    scans = [Scan(image, labels, PLANES), Scan(other, None, ())]
    args = make_parser().parse_args(shlex.split(predict_command(scans, tmp_path / "run", choice)())[1:])
    assert [case.load().annotated for case in find_cases(args.cases)] == [tuple(PLANES), ()]
    assert {args.out, args.probability, args.disagreement} == {"predictions"}


def test_files_that_a_command_cannot_tell_apart_are_refused(layers, tmp_path):
    image, labels = layers
    for place in ("p1", "p2", "a,b"):
        (tmp_path / place).mkdir()
        shutil.copy(tmp_path / "scan 1.nii.gz", tmp_path / place / "ct.nii.gz")
    first, second, odd = (
        type(image).create(*read_layers(str(tmp_path / place / "ct.nii.gz"))[0]) for place in ("p1", "p2", "a,b")
    )
    with pytest.raises(InputError, match=r"Two cases are called 'ct'; .*; or use Copy as script, which names layers"):
        train_command([Scan(first, labels, PLANES), Scan(second, None, ())], None, tmp_path, tiny_config(), None)()
    with pytest.raises(InputError, match=r"with commas use a folder with a cases\.csv; or use Copy as script"):
        train_command([Scan(odd, labels, PLANES)], None, tmp_path, tiny_config(), None)()
    with pytest.raises(InputError, match="Two cases are called 'ct'"):
        predict_command([Scan(first, None, ()), Scan(second, None, ())], tmp_path, PredictionChoice("cpu", CleanUp()))()


def test_the_script_replaces_nan_where_the_run_does(layers, tmp_path, viewer):
    image, labels = layers
    set_annotated_slices(labels, PLANES)
    viewer.add_layer(image)
    viewer.add_layer(labels)
    image.data[0, 0, 0] = np.nan
    (tmp_path / "more").mkdir()
    write_image(str(tmp_path / "more" / "nan.nii"), *image.as_layer_data_tuple()[:2])
    (tmp_path / "more" / "cases.csv").write_text("image\nnan.nii\n")
    script = train_script(
        [Scan(image, labels, PLANES)],
        tmp_path / "more",
        tmp_path / "run",
        tiny_config(data__non_finite="replace"),
        None,
    )
    made: dict[str, object] = {"viewer": viewer}
    exec(script.rpartition("\n")[0], made)  # noqa: S102 - our own text
    assert [np.isfinite(case.image).all() for case in made["cases"]] == [True, True]


def test_layers_without_files_make_no_command(image, labels, tmp_path):
    with pytest.raises(InputError, match="lies in no file; save it first"):
        train_command([Scan(image, labels, PLANES)], None, tmp_path, tiny_config(), None)()


def test_an_image_whose_voxels_were_replaced_is_not_named_by_its_file(layers, tmp_path):
    image, labels = layers
    copy = type(image).create(*image.as_layer_data_tuple())
    copy.data = copy.data.copy()
    scan = Scan(copy, labels, PLANES)
    assert "scan 1.nii.gz" in train_command([scan], None, tmp_path, tiny_config(), None)(), "the same voxels"
    image.data = image.data * 2
    with pytest.raises(InputError, match=r"'scan 1' was changed since it was read from .*scan 1\.nii\.gz; save it"):
        train_command([Scan(image, labels, PLANES)], None, tmp_path, tiny_config(), None)()
    with pytest.raises(InputError, match="'scan 1' was changed"):
        predict_command([Scan(image, None, ())], tmp_path, PredictionChoice("cpu", CleanUp()))()


def test_labels_made_on_an_image_do_not_lie_in_its_file(layers, tmp_path):
    labels = Labels(np.ones(layers[0].data.shape, np.uint8), **new_labels_data(layers[0])[1])
    with pytest.raises(InputError, match="'scan 1 labels' lies in no file; save it first"):
        train_command([Scan(layers[0], labels, PLANES)], None, tmp_path, tiny_config(), None)()


def paint(labels) -> None:
    labels.data[10, 0, 0] = 1


def name(labels) -> None:
    set_class_infos(labels, [ClassInfo(1, "liver", "the liver in a CT scan")])


@pytest.mark.parametrize("change", [paint, name])
def test_labels_changed_since_they_were_read_are_not_named_by_their_file(layers, tmp_path, change):
    scan = Scan(*layers, PLANES)
    set_class_infos(scan.labels, [ClassInfo(1, "label 1")])
    before = train_command([scan], None, tmp_path, tiny_config(), None)()
    change(scan.labels)
    with pytest.raises(InputError, match=r"'labels' was changed since it was read from .*labels\.nii\.gz; save it"):
        train_command([scan], None, tmp_path, tiny_config(), None)()
    set_annotated_slices(scan.labels, PLANES)
    file = tmp_path / "corrected.nii.gz"
    write_labels(str(file), *scan.labels.as_layer_data_tuple()[:2])
    saved = Scan(scan.image, Labels.create(*read_layers(str(file))[0]), PLANES)
    after = train_command([saved], None, tmp_path, tiny_config(), None)()
    assert after == before.replace("labels.nii", "corrected.nii")


def test_files_are_read_once_the_command_is_written_and_not_before(layers, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(recipes, "read_volume", lambda file: read.append(file) or read_volume(file))
    write = train_command([Scan(*layers, PLANES)], None, tmp_path / "run", tiny_config(), None)
    assert not read
    assert "labels.nii.gz" in write()
    assert read == [tmp_path / "labels.nii.gz"]
