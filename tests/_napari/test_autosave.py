"""Labels kept in files while they are painted: what is written, where, and what is left alone."""

from __future__ import annotations

import errno
import importlib
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from napari.layers import Image, Labels, Layer
from tests.engine import ball, ball_case

from napari_rada._napari.autosave import Annotation, LabelsKeeper, autosave_path, latest_autosave
from napari_rada._napari.files import read_layers
from napari_rada._napari.layers import (
    PROVENANCE_KEY,
    annotated_slices,
    check_aligned,
    grid_of,
    new_labels_data,
    placement_of_grid,
    set_annotated_slices,
    take_snapshot,
)
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import InputError
from napari_rada.io import load_case, read_sidecar, read_volume, write_volume

MORE = AnnotatedSlice(0, 2)


@pytest.fixture
def keeper(tmp_path, image, labels) -> LabelsKeeper:
    keeper = LabelsKeeper(lambda: tmp_path)
    keeper.set_layers(image, labels)
    return keeper


def paint(labels: Labels, value: int = 1) -> None:
    labels.data_setitem(tuple(np.array([index]) for index in (0, 0, 0)), value)


def scan_in(folder, volume) -> Image:
    """Return an image layer that lies in a file called imaging.nii.gz."""
    folder.mkdir()
    grid = grid_of(Image(volume))
    write_volume(folder / "imaging.nii.gz", volume, grid)
    return Image(volume, name="imaging", **placement_of_grid(grid, folder / "imaging.nii.gz"))


@pytest.mark.parametrize(
    "writes", ["napari_rada.io.formats.write_nifti", "napari_rada._napari.autosave._keep", "pathlib.Path.write_text"]
)
def test_where_there_is_no_room_saving_by_hand_is_advised(keeper, labels, monkeypatch, writes):
    """The folder is the program's own: nobody can choose another one."""

    def refuse(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    paint(labels)
    monkeypatch.setattr(writes, refuse)
    with pytest.raises(InputError, match=r"No space left on device\); make room .* by hand with File > Save Sel"):
        keeper.flush()


def test_only_what_has_changed_is_written(keeper, tmp_path, image, labels):
    assert keeper.flush() is None, "nothing was painted since the labels were chosen"
    paint(labels)
    path = keeper.flush()
    assert path == autosave_path(tmp_path, image, labels)
    np.testing.assert_array_equal(read_volume(path).array, labels.data)
    assert keeper.flush() is None
    set_annotated_slices(labels, [MORE])
    assert keeper.flush() == path
    assert len(read_sidecar(path)) == 1


def test_strokes_that_could_not_be_written_stay_due(keeper, tmp_path, image, labels):
    (tmp_path / "autosave").write_text("a file where the folder should be")
    paint(labels)
    with pytest.raises(InputError, match=r"cannot be written \(File exists\)"):
        keeper.flush()
    (tmp_path / "autosave").unlink()
    keeper.set_layers(None, None)
    keeper.set_layers(image, labels)
    assert keeper.flush() is not None


def test_labels_that_lie_on_no_image_or_are_an_output_are_not_kept(keeper, image, labels, volume):
    moved = Image(volume, name="moved", scale=image.scale, translate=(50, 0, 0), units=image.units)
    output = Labels(labels.data.copy(), scale=image.scale, units=image.units, metadata={PROVENANCE_KEY: {}})
    flat, flat_image = Labels(np.zeros((5, 6), dtype=np.uint8)), Image(volume[0])
    for pair in ((moved, labels), (image, output), (flat_image, flat), (image, None), (None, labels)):
        keeper.set_layers(*pair)
        for layer in (labels, output):
            paint(layer, 3)
        assert keeper.take() is None
        assert keeper.flush() is None


def test_each_image_and_each_labels_layer_has_a_file(tmp_path, volume, labels):
    first, second = scan_in(tmp_path / "a", volume), scan_in(tmp_path / "b", volume)
    folder = tmp_path / "run"
    paths = {autosave_path(folder, image, labels) for image in (first, second)}
    labels.name = "labels?"
    paths |= {autosave_path(folder, first, labels)}
    labels.name = "labels!"
    paths |= {autosave_path(folder, first, labels)}
    assert len(paths) == 4
    assert {path.parent for path in paths} == {folder / "autosave"}


def test_names_are_safe_for_files(tmp_path, image, labels):
    image.name, labels.name = "..scan: a/b [1]", "x" * 300
    name = autosave_path(tmp_path, image, labels).name
    assert name.startswith("scan_a_b_1_-xxx")
    assert len(name) < 150


def test_the_latest_labels_of_a_case_are_found_by_its_image_and_the_name_of_their_layer(tmp_path, volume, labels):
    first, second = scan_in(tmp_path / "a", volume), scan_in(tmp_path / "b", volume)
    annotation, run = Annotation.of(labels), tmp_path / "run"
    case = replace(take_snapshot(first).to_case(), labels_name="my-heart")
    for image, name in ((first, "my-heart"), (second, "my-heart"), (first, "heart"), (first, "not my-heart")):
        labels.name = name
        annotation.write(autosave_path(run, image, labels))
    labels.name = "my-heart"
    assert latest_autosave(run, case) == autosave_path(run, first, labels)
    assert latest_autosave(tmp_path / "other run", case) is None
    labels.name = "my-heart [1]"
    annotation.write(autosave_path(run, first, labels))
    labels.name = "my-heart"
    assert latest_autosave(run, case) == autosave_path(run, first, labels), "another layer, which the viewer numbered"


@pytest.mark.parametrize("names", [("左", "右"), ("x" * 50 + "1", "x" * 50 + "2"), ("liver", "liver [1]")])
def test_labels_whose_names_look_alike_in_files_are_not_mixed_up(tmp_path, image, labels, names):
    mine, other = names
    case = replace(take_snapshot(image).to_case(), labels_name=mine)
    for name in (mine, other):
        labels.name = name
        Annotation.of(labels).write(autosave_path(tmp_path, image, labels))
    labels.name = mine
    assert latest_autosave(tmp_path, case) == autosave_path(tmp_path, image, labels)


def test_labels_stay_in_their_file_when_they_are_renamed(keeper, labels):
    paint(labels)
    path = keeper.flush()
    labels.name = "liver"
    paint(labels, 2)
    assert keeper.flush() == path


def test_labels_on_an_image_without_a_file_are_found_by_the_copy_in_the_run(tmp_path, volume, labels):
    image = Image(
        volume, name="scan", scale=(3.1, 1 / 3, 0.7), rotate=20.0, translate=(1 / 7, 0, -5), units=("mm",) * 3
    )
    path = autosave_path(tmp_path, image, labels)
    Annotation.of(labels).write(path)
    copy = tmp_path / "000_scan_image.nii"
    write_volume(copy, volume, grid_of(image))
    case = replace(load_case(copy, name="scan"), labels_name=str(labels.name))
    assert latest_autosave(tmp_path, case) == path


def test_paint_is_not_lost_to_an_empty_layer(keeper, labels):
    paint(labels)
    path = keeper.flush()
    painted, sidecar = path.read_bytes(), path.with_name(path.name.replace(".nii.gz", ".slices.json"))
    labels.data = np.zeros_like(labels.data)
    assert keeper.flush() == path
    assert not read_volume(path).array.any()
    assert path.with_name(path.name + ".1").read_bytes() == painted
    assert sidecar.with_name(sidecar.name + ".1").exists()


def test_paint_is_not_lost_to_another_layer_of_the_same_name(keeper, image, labels):
    paint(labels)
    path = keeper.flush()
    painted = path.read_bytes()
    other = Labels(np.zeros_like(labels.data), name=labels.name, scale=image.scale, units=image.units)
    keeper.set_layers(image, other)
    assert keeper.flush() is None
    for value in (1, 2):
        paint(other, value)
        assert keeper.flush() == path
    assert path.with_name(path.name + ".1").read_bytes() == painted, "later strokes leave the older file alone"


def test_paint_is_not_lost_to_another_window(keeper, tmp_path, image, labels):
    theirs = Labels(labels.data.copy(), name=labels.name, scale=image.scale, units=image.units)
    other = LabelsKeeper(lambda: tmp_path)
    other.set_layers(image, theirs)
    for value in (1, 2):
        paint(labels, value)
        path = keeper.flush()
        paint(theirs, value + 2)
        assert other.flush() == path
    shutil.copyfile(path.with_name(path.name + ".3"), tmp_path / "kept.nii.gz")
    assert [read_volume(file).array[0, 0, 0] for file in (path, tmp_path / "kept.nii.gz")] == [4, 2]


def window(folder, image, labels) -> tuple[LabelsKeeper, Labels]:
    """Return another window on the same scan, with labels of its own of the same name."""
    own = Labels(labels.data.copy(), name=labels.name, scale=image.scale, units=image.units)
    keeper = LabelsKeeper(lambda: folder)
    keeper.set_layers(image, own)
    return keeper, own


def value_in(file, folder) -> int:
    """Return what is painted in a file of labels, or in one that was kept."""
    copied = shutil.copyfile(file, folder / "copied.nii.gz")
    return int(read_volume(copied).array[0, 0, 0])


@pytest.mark.parametrize("moment", ["napari_rada.io.formats.write_nifti", "napari_rada.io.annotations.write_sidecar"])
def test_paint_that_another_window_saves_meanwhile_is_kept(keeper, tmp_path, image, labels, monkeypatch, moment):
    """While the labels are written, and between them and their sidecar."""
    paint(labels, 1)
    path = keeper.flush()
    other, theirs = window(tmp_path, image, labels)
    module, name = moment.rsplit(".", 1)
    write = getattr(importlib.import_module(module), name)

    def slowly(*arguments, **settings):
        monkeypatch.setattr(moment, write)
        if name == "write_sidecar":
            write(*arguments, **settings)
        paint(theirs, 2)
        other.flush()
        if name == "write_nifti":
            write(*arguments, **settings)

    monkeypatch.setattr(moment, slowly)
    for value in (3, 4):
        paint(labels, value)
        keeper.flush()
    kept = {value_in(file, tmp_path) for file in path.parent.glob(f"{path.name}.*")}
    assert (value_in(path, tmp_path), 2 in kept) == (4, True)


@pytest.mark.parametrize("refused", ["napari_rada.io.formats.write_nifti", "shutil.copyfile"])
def test_tries_that_fail_pile_up_no_copies_of_the_older_file(keeper, tmp_path, image, labels, monkeypatch, refused):
    paint(labels, 1)
    path = keeper.flush()
    later, again = window(tmp_path, image, labels)
    paint(again, 2)

    def refuse(source, target, *_arguments, **_settings):
        (target if refused == "shutil.copyfile" else source).write_bytes(b"cut off")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(refused, refuse)
        for _ in range(3):
            with pytest.raises(InputError, match="No space left"):
                later.flush()
        assert not list(path.parent.glob(f"{path.name}.*"))
    later.flush()
    assert [value_in(file, tmp_path) for file in sorted(path.parent.glob(f"{path.name}*"))] == [2, 1]


def test_a_slice_that_was_erased_is_not_annotated_where_the_program_ended_before_the_sidecar(
    keeper, labels, ending_before_the_sidecar
):
    first, second, third = AnnotatedSlice(0, 6), AnnotatedSlice(1, 7), AnnotatedSlice(2, 8)
    set_annotated_slices(labels, [first, second])
    path = keeper.flush()
    labels.data[:, 7, :] = 0
    set_annotated_slices(labels, [first, third])
    with ending_before_the_sidecar():
        keeper.flush()
    (kept,) = read_layers(str(path))
    np.testing.assert_array_equal(kept[0], labels.data)
    assert annotated_slices(Layer.create(*kept)) == (first,)
    keeper.flush()
    assert annotated_slices(Layer.create(*read_layers(str(path))[0])) == (first, third)


def test_the_first_labels_that_are_saved_have_their_slices_at_once(
    keeper, tmp_path, image, labels, ending_before_the_sidecar
):
    set_annotated_slices(labels, [AnnotatedSlice(0, 6)])
    with ending_before_the_sidecar():
        keeper.flush()
    assert annotated_slices(Layer.create(*read_layers(str(autosave_path(tmp_path, image, labels)))[0])) == (
        AnnotatedSlice(0, 6),
    )


@pytest.mark.parametrize("values", [(-1, 300), (3_000_000, 1), (-3_000_000, 3_000_000)])
@pytest.mark.parametrize("suffix", [".nii.gz", ".tif"])
def test_no_label_becomes_another_one(tmp_path, labels, values, suffix):
    labels.data = labels.data.astype(np.int64)
    for value in values:
        labels.data[0, 0, value % 7] = value
    path = tmp_path / f"kept{suffix}"
    Annotation.of(labels).write(path)
    np.testing.assert_array_equal(read_volume(path).array, labels.data)


def test_what_was_taken_last_stays(keeper, labels):
    paint(labels, 1)
    early = keeper.take()
    paint(labels, 2)
    path = keeper.flush()
    assert early() is None
    assert read_volume(path).array[0, 0, 0] == 2


def test_paint_of_every_earlier_session_is_kept(tmp_path, image, labels):
    for session in range(11):
        labels.data[0, 0, :] = 0
        keeper = LabelsKeeper(lambda: tmp_path)
        keeper.set_layers(image, labels)
        paint(labels, session + 1)
        path = keeper.flush()
        labels = Labels(labels.data.copy(), name=labels.name, scale=image.scale, units=image.units)
    kept = []
    for number in range(1, 10):
        shutil.copyfile(path.with_name(f"{path.name}.{number}"), tmp_path / "kept.nii.gz")
        kept.append(int(read_volume(tmp_path / "kept.nii.gz").array[0, 0, 0]))
    assert kept == [1, 2, 3, 4, 5, 6, 7, 8, 10], "the last gives way where all names are taken"


def test_new_labels_replace_no_file_of_earlier_ones(keeper, tmp_path, image, labels):
    paint(labels, 1)
    first = keeper.flush()
    again = Labels(labels.data.copy(), name=labels.name, scale=image.scale, units=image.units)
    later = LabelsKeeper(lambda: tmp_path, [image, again])
    later.keep_apart(image, again)
    later.set_layers(image, again)
    paint(again, 2)
    assert later.flush() != first
    assert read_volume(first).array[0, 0, 0] == 1
    assert not first.with_name(f"{first.name}.1").exists()


@pytest.mark.parametrize("name", ["...", "左"])
def test_a_scan_of_any_name_is_found_again(tmp_path, image, labels, name):
    image.name = name
    keeper = LabelsKeeper(lambda: tmp_path)
    keeper.set_layers(image, labels)
    paint(labels)
    path = keeper.flush()
    assert LabelsKeeper(lambda: tmp_path).earlier(image) == path


def test_what_was_painted_before_on_a_scan_is_found(keeper, tmp_path, image, labels):
    assert keeper.earlier(image) is None
    paint(labels)
    path = keeper.flush()
    assert LabelsKeeper(lambda: tmp_path).earlier(image) == path
    assert LabelsKeeper(lambda: tmp_path, [image, labels]).earlier(image) is None, "it is open"
    assert LabelsKeeper(lambda: tmp_path / "run").earlier(image) is None
    assert LabelsKeeper(lambda: tmp_path / "run").earlier(image, [tmp_path]) == path, "before there was a run"
    assert LabelsKeeper(lambda: tmp_path).earlier(Image(image.data[1:], name="scan")) is None
    assert LabelsKeeper(lambda: tmp_path).earlier(Image(image.data[0], name="flat")) is None


def test_labels_of_a_stack_lie_on_it_when_they_are_opened(tmp_path):
    write_volume(tmp_path / "stack.tif", ball_case().image, ball_case().grid)
    image = Layer.create(*read_layers(str(tmp_path / "stack.tif"))[0])
    labels = Labels(ball(), **new_labels_data(image)[1])
    keeper = LabelsKeeper(lambda: tmp_path)
    keeper.set_layers(image, labels)
    set_annotated_slices(labels, [MORE])
    path = keeper.flush()
    again = Layer.create(*read_layers(str(path))[0])
    check_aligned(image, again)
    np.testing.assert_array_equal(again.data, labels.data)
    assert annotated_slices(again) == (MORE,)
    case = take_snapshot(image, labels).to_case()
    assert latest_autosave(tmp_path, case) == path
