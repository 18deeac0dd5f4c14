"""The dock Predict: new layers on the image, and the slice to annotate next."""

from __future__ import annotations

import shlex
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from superqt.utils import WorkerBase
from tests._qt.driving import click
from tests.engine import ball_case, tiny_config

from napari_rada import pipeline
from napari_rada._napari.files import read_layers
from napari_rada._napari.job import RunState
from napari_rada._napari.layers import grid_of, lies_on, new_labels_data, set_annotated_slices
from napari_rada._napari.planes import go_to, viewed_slice
from napari_rada._napari.preview import add_layers
from napari_rada._napari.session import session_of
from napari_rada._qt.predict import PredictWidget
from napari_rada.cli.parser import make_parser
from napari_rada.data.classes import ClassInfo, ClassTable
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import RunFolderError
from napari_rada.events import Notice
from napari_rada.inference.cleanup import CleanUp
from napari_rada.io import find_cases, read_volume, write_volume
from napari_rada.training.run_folder import RunFolder
from napari_rada.training.snapshot import save_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def widget(viewer, dock, engine) -> PredictWidget:
    session_of(viewer).add_run(Path("runs/first"), "first")
    return dock(PredictWidget, load_engine=engine.load)


def test_outputs_are_new_layers_with_the_images_geometry(widget, viewer, qtbot, wait, engine):
    widget.outputs.setValue(("mask", "probability", "disagreement"))
    click(qtbot, widget.row.button)
    wait(lambda: not widget.job.is_running)
    names = [layer.name for layer in viewer.layers]
    assert names == ["scan", "labels", "scan mask", "scan probability", "scan disagreement"]
    image = viewer.layers["scan"]
    for name in names[2:]:
        layer = viewer.layers[name]
        np.testing.assert_array_equal(layer.scale, image.scale)
        np.testing.assert_array_equal(layer.affine.affine_matrix, image.affine.affine_matrix)
        assert layer.units == image.units
        assert layer.metadata["provenance"] == {"run": "fake", "iteration": 30}
    assert engine.calls == [("predict", (Path("runs/first"), "auto"))]
    assert "Added 'scan mask' and 'scan probability' and 'scan disagreement' (label 1" in widget.message.value()
    widget.predict()
    wait(lambda: not widget.job.is_running)
    assert len(viewer.layers) == 8, "nothing is overwritten"
    assert widget.image.value() is image


def test_progress_and_cancel(widget, viewer, qtbot, wait, engine):
    engine.go.clear()
    widget.predict()
    wait(lambda: widget.job.state is RunState.PREDICTING)
    assert widget.row.progress.bar.maximum() == 5
    assert not widget.row.button.isEnabled()
    click(qtbot, widget.row.cancel)
    wait(lambda: not widget.job.is_running)
    assert len(viewer.layers) == 2
    assert widget.row.button.isEnabled()
    assert not widget.row.cancel.isVisibleTo(widget)


def test_the_suggested_slice_is_shown(widget, viewer, qtbot, wait, engine):
    assert not widget.suggest_button.isEnabled()
    session_of(viewer).annotation(viewer.layers["labels"]).set_complete(AnnotatedSlice(0, 6))
    widget.predict()
    wait(lambda: widget.suggest_button.isEnabled())
    click(qtbot, widget.suggest_button)
    told = "Annotate coronal slice 3 of 14 next: 75% of the doubt lies around it."
    wait(lambda: widget.message.value() == told)
    assert viewed_slice(viewer, viewer.layers["scan"]) == AnnotatedSlice(1, 3)
    assert engine.calls[-1] == ("suggest", (AnnotatedSlice(0, 6),))


def test_labels_can_be_given_along(widget, viewer, wait, engine):
    viewer.layers["labels"].metadata["annotated_slices"] = [{"axis": 0, "index": 6}]
    widget.predict()
    wait(lambda: not widget.job.is_running)
    widget.labels.setValue(viewer.layers["labels"])
    widget.predict()
    wait(lambda: not widget.job.is_running)
    assert [case.annotated for case in engine.cases] == [(), (AnnotatedSlice(0, 6),)]


def test_labels_of_another_image_are_neither_kept_nor_completed(widget, viewer, engine, notified):
    scan = viewer.layers["scan"]
    (theirs,) = add_layers(viewer, [new_labels_data(scan)])
    set_annotated_slices(theirs, [AnnotatedSlice(0, 6)])
    place = {"scale": scan.scale, "affine": scan.affine, "units": scan.units}
    other = viewer.add_image(scan.data[::-1], name="other", **place)
    widget.labels.setValue(theirs)
    widget.image.setValue(other)
    assert widget.labels.value() is None
    widget.labels.setValue(theirs)
    widget.predict()
    assert "'scan labels' belongs to 'scan', not to 'other'" in widget.message.value()
    assert notified == [widget.message.value()]
    assert engine.calls == []


def test_further_images_bring_their_own_annotation(widget, viewer, wait, engine):
    scan = viewer.layers["scan"]
    other = viewer.add_image(scan.data[::-1], name="other", scale=scan.scale, affine=scan.affine, units=scan.units)
    (own,) = add_layers(viewer, [new_labels_data(other)])
    set_annotated_slices(own, [AnnotatedSlice(0, 6)])
    widget.image.setValue(scan)
    viewer.layers.selection = {scan, other}
    widget.several.setChecked(True)
    widget.predict()
    wait(lambda: not widget.job.is_running)
    assert [(case.name, case.annotated) for case in engine.cases] == [("scan", ()), ("other", (AnnotatedSlice(0, 6),))]


def test_a_bad_scan_costs_the_others_nothing(widget, viewer, wait, engine, qtbot):
    scan = viewer.layers["scan"]
    bad, good = (viewer.add_image(scan.data.copy(), name=name, scale=scan.scale) for name in ("bad", "good"))
    bad.data[0, 0, 0] = np.nan
    widget.image.setValue(bad)
    viewer.layers.selection = {bad, good}
    widget.several.setChecked(True)
    widget.predict()
    wait(lambda: not widget.job.is_running)
    assert widget.mask_layer is viewer.layers["good mask"]
    assert "'bad' was not predicted: bad: the image is NaN or infinite in" in widget.message.value()
    assert widget.message.value().startswith("Added 'good mask'")
    session_of(viewer).set_config(tiny_config(data__non_finite="replace"))
    widget.predict()
    wait(lambda: not widget.job.is_running)
    assert widget.mask_layer is viewer.layers["bad mask"], "the dock Train says what is done about NaN"


def test_the_newest_run_of_the_session_is_chosen(widget, viewer):
    assert widget.run.value() == Path("runs/first")
    session_of(viewer).add_run(Path("runs/second"), "second")
    assert widget.run.value() == Path("runs/second")


def test_a_run_folder_can_be_opened(widget, tmp_path, monkeypatch, notified):
    (tmp_path / "config.yaml").write_text("preset: quick\n")
    widget.run.setValue(tmp_path)
    assert widget.run.value() == tmp_path
    with pytest.raises(RunFolderError, match="is not a run folder"):
        widget.run.setValue(tmp_path / "elsewhere")
    monkeypatch.setattr(
        "qtpy.QtWidgets.QFileDialog.getExistingDirectory", lambda *arguments: str(tmp_path / "elsewhere")
    )
    widget.run.open_button.click()
    assert "is not a run folder" in widget.message.value()
    assert notified == [widget.message.value()]


def test_mistakes_are_told_in_one_sentence(widget, viewer, notified):
    widget.outputs.setValue(())
    widget.predict()
    assert "Nothing is asked for" in widget.message.value()
    widget.outputs.setValue(("mask",))
    widget.labels.setValue(viewer.layers["labels"])
    widget.predict()
    assert "No slice of 'labels' is marked as annotated" in widget.message.value()
    viewer.layers.clear()
    widget.predict()
    assert "There is no Image layer" in widget.message.value()
    session_of(viewer).runs = ()
    widget.predict()
    assert "There is no run to predict with" in widget.message.value()
    widget.suggest()
    assert "predict first" in widget.message.value()
    assert len(notified) == 5


def test_an_error_of_the_engine_is_told(widget, wait, engine, notified):
    engine.error = RunFolderError("The run has no checkpoint yet; train it first.")
    widget.predict()
    wait(lambda: not widget.job.is_running)
    assert widget.message.value() == "The run has no checkpoint yet; train it first."
    assert widget.row.button.isEnabled()


def test_an_image_that_changed_under_way_is_told(widget, viewer, wait, engine, notified):
    engine.go.clear()
    widget.predict()
    wait(lambda: widget.job.state is RunState.PREDICTING)
    viewer.layers["scan"].data = np.zeros((5, 6, 7), dtype=np.float32)
    engine.go.set()
    wait(lambda: not widget.job.is_running)
    assert "predict again" in widget.message.value()
    assert len(viewer.layers) == 2


def test_closing_the_dock_stops_the_prediction(widget, viewer, wait, engine):
    engine.go.clear()
    widget.predict()
    wait(lambda: widget.job.state is RunState.PREDICTING)
    viewer.window.remove_dock_widget(widget)
    assert widget.job.state is RunState.STOPPING
    viewer.layers.clear()


@pytest.fixture
def ready(widget, viewer, wait, engine):
    """A prediction of `scan`, and its labels with three annotated slices."""
    for axis, index in ((0, 6), (1, 7), (2, 8)):
        session_of(viewer).annotation(viewer.layers["labels"]).set_complete(AnnotatedSlice(axis, index))
    widget.predict()
    wait(lambda: not widget.job.is_running)
    return widget


def test_a_predicted_slice_is_accepted_corrected_and_undone(ready, viewer, qtbot):
    labels = viewer.layers["labels"]
    before = labels.data.copy()
    go_to(viewer, viewer.layers["scan"], AnnotatedSlice(0, 2))
    click(qtbot, ready.accept_button)
    assert "Wrote axial slice 2 of 12 into 'labels'" in ready.message.value()
    assert viewer.layers.selection.active is labels
    changed = labels.data != before
    assert changed[2].any()
    assert not np.delete(changed, 2, axis=0).any()
    assert AnnotatedSlice(0, 2) not in session_of(viewer).annotation(labels).complete, "a person has to look first"
    ready.accept()
    assert "shows the prediction in axial slice 2 of 12 already" in ready.message.value()
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)


def test_what_cannot_be_accepted_is_told(ready, viewer, notified):
    go_to(viewer, viewer.layers["scan"], AnnotatedSlice(0, 6))
    ready.accept()
    assert "marked as annotated already" in ready.message.value()
    viewer.dims.ndisplay = 3
    ready.accept()
    assert "turn to a plane first" in ready.message.value()
    viewer.dims.ndisplay = 2
    viewer.layers.remove("labels")
    ready.accept()
    assert "press New labels" in ready.message.value()
    assert len(notified) == 3


def test_a_slice_is_accepted_only_where_the_image_lies(ready, viewer, notified):
    scan, labels = viewer.layers["scan"], viewer.layers["labels"]
    go_to(viewer, scan, AnnotatedSlice(0, 2))
    astray = viewer.add_labels(
        np.zeros_like(labels.data), name="astray", scale=scan.scale, translate=(500, 0, 0), units=scan.units
    )
    ready.labels.setValue(astray)
    ready.accept()
    assert "'astray' does not fit image 'scan'" in ready.message.value()
    assert notified == [ready.message.value()]
    assert not astray.data.any()


def test_a_slice_is_accepted_into_the_labels_that_are_worked_on(ready, viewer):
    scan, labels = viewer.layers["scan"], viewer.layers["labels"]
    mine, further = add_layers(viewer, [new_labels_data(scan), new_labels_data(scan)])
    set_annotated_slices(further, [AnnotatedSlice(0, index) for index in range(4, 9)])
    go_to(viewer, scan, AnnotatedSlice(0, 2))
    viewer.layers.selection.active = mine
    ready.accept()
    assert "into 'scan labels'" in ready.message.value()
    assert mine.data.any()
    assert not further.data.any()
    assert not labels.data[2].all()


def test_a_slice_is_accepted_into_the_labels_that_the_run_learned_from(ready, viewer, tmp_path):
    scan, labels = viewer.layers["scan"], viewer.layers["labels"]
    (further,) = add_layers(viewer, [new_labels_data(scan)])
    set_annotated_slices(further, [AnnotatedSlice(0, index) for index in range(4, 9)])
    folder = RunFolder.create(tmp_path / "run", tiny_config())
    save_snapshot(folder, [replace(ball_case("scan"), labels_name="labels")], ClassTable.from_values([1]))
    go_to(viewer, scan, AnnotatedSlice(0, 2))
    viewer.layers.selection.active = scan
    ready.prediction = replace(ready.prediction, provenance={"run": str(tmp_path / "run")})
    ready.accept()
    assert "into 'labels'" in ready.message.value()
    assert labels.data[2].any()
    assert not further.data.any()
    labels.data[2] = 0
    scan.name = "renamed"
    ready.accept()
    assert labels.data[2].any()
    assert not further.data.any()


def test_nothing_is_accepted_into_the_labels_of_another_image(ready, viewer, wait, notified):
    scan = viewer.layers["scan"]
    (theirs,) = add_layers(viewer, [new_labels_data(scan)])
    place = {"scale": scan.scale, "affine": scan.affine, "units": scan.units}
    other = viewer.add_image(scan.data[::-1], name="other", **place)
    viewer.layers.remove("labels")
    ready.image.setValue(other)
    ready.predict()
    wait(lambda: not ready.job.is_running)
    go_to(viewer, other, AnnotatedSlice(0, 2))
    viewer.layers.selection.active = theirs
    ready.accept()
    assert "No Labels layer belongs to 'other'; press New labels" in ready.message.value(), "also where their brush is"
    ready.labels.setValue(theirs)
    ready.accept()
    assert "'scan labels' belongs to 'scan', not to 'other'" in ready.message.value()
    assert len(notified) == 2
    assert not theirs.data.any()


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")  # napari's own, said of what is tilted
def test_no_slice_of_a_rotated_image_is_accepted(ready, viewer, notified):
    for name in ("scan", "labels"):
        viewer.layers[name].rotate = (0, 25, 0)
    viewer.dims.order = (0, 1, 2)
    ready.accept()
    assert "'scan' is rotated, and napari paints beside its slices" in ready.message.value()
    assert notified == [ready.message.value()]


def test_what_the_engine_had_to_say_is_told_with_the_result(widget, viewer, wait, engine, monkeypatch):
    plain = engine.predict

    def with_notices(*arguments, listener, **settings):
        for sentence in ("The largest part is left out.", "Memory ran out.", "Memory ran out."):
            listener(Notice(sentence))
        return plain(*arguments, listener=listener, **settings)

    monkeypatch.setattr(engine, "predict", with_notices)
    widget.predict()
    wait(lambda: not widget.job.is_running)
    assert widget.message.value().startswith("Added 'scan mask' (label 1")
    assert widget.message.value().endswith(". The largest part is left out. Memory ran out.")
    monkeypatch.setattr(engine, "predict", plain)
    widget.predict()
    wait(lambda: not widget.job.is_running)
    assert "Memory" not in widget.message.value(), "that was said of another prediction"


def test_the_known_slices_are_read_without_looking_through_the_labels(ready, viewer, wait, engine, monkeypatch):
    scan = viewer.layers["scan"]
    viewer.add_labels(np.zeros(scan.data.shape, np.uint8), metadata={"annotated_slices": [{"axis": 0, "index": 3}]})
    monkeypatch.setattr("napari_rada._napari.annotation.detect_slices", lambda labels: pytest.fail("looked through"))
    ready.suggest()
    wait(lambda: engine.calls[-1][0] == "suggest")
    assert AnnotatedSlice(0, 3) in engine.calls[-1][1]


def test_slices_of_another_image_on_the_same_voxels_are_not_known(ready, viewer, wait, engine):
    scan = viewer.layers["scan"]
    place = {"scale": scan.scale, "affine": scan.affine, "units": scan.units}
    other = viewer.add_image(scan.data, name="other", **place)
    for image, index in ((scan, 3), (other, 9)):
        (labels,) = add_layers(viewer, [new_labels_data(image)])
        labels.metadata["annotated_slices"] = [{"axis": 0, "index": index}]
    ready.suggest()
    wait(lambda: engine.calls[-1][0] == "suggest")
    assert [plane.index for plane in engine.calls[-1][1] if plane.axis == 0] == [3, 6]


def test_a_mask_is_saved_in_the_geometry_of_its_image(ready, viewer, wait, tmp_path, monkeypatch, qtbot, notified):
    out = tmp_path / "mask.nii.gz"
    monkeypatch.setattr("qtpy.QtWidgets.QFileDialog.getSaveFileName", lambda *arguments: (str(out), ""))
    click(qtbot, ready.save_button)
    wait(lambda: ready.message.value() == f"Saved {out}.")
    saved = read_volume(out)
    np.testing.assert_array_equal(saved.array, viewer.layers["scan mask"].data)
    assert saved.grid.matches(grid_of(viewer.layers["scan"]))
    assert saved.labels
    for name, reason in ((Path("nowhere", "mask.nii.gz"), "does not exist"), (Path("mask.png"), "mask.png")):
        ready.save_mask(tmp_path / name)
        wait(lambda: not ready.saver.job.is_running)
        assert reason in ready.message.value()
        assert notified[-1] == ready.message.value()
    assert ready.save_button.isEnabled()


@pytest.fixture
def slow_disk(monkeypatch) -> Iterator[threading.Event]:
    """A disk on which a mask is written once the event is set."""
    go = threading.Event()

    def write_slowly(*arguments, **settings):
        go.wait(20)
        write_volume(*arguments, **settings)

    monkeypatch.setattr("napari_rada._napari.files.write_volume", write_slowly)
    yield go
    go.set()


def test_the_window_is_free_while_a_mask_is_saved_as_it_was(ready, viewer, wait, tmp_path, slow_disk):
    out, layer = tmp_path / "mask.nii.gz", viewer.layers["scan mask"]
    before = layer.data.copy()
    ready.save_mask(out)
    assert ready.message.value() == "Saving…"
    assert not ready.save_button.isEnabled()
    assert ready.row.button.isEnabled()
    layer.data[:] = 0
    ready.save_mask(tmp_path / "other.nii.gz")
    assert ready.message.value().startswith("The saving of a mask is still")
    viewer.layers.remove(layer)
    slow_disk.set()
    wait(lambda: ready.message.value() == f"Saved {out}.")
    np.testing.assert_array_equal(read_volume(out).array, before)
    assert sorted(tmp_path.iterdir()) == [out]
    assert not ready.save_button.isEnabled(), "its layer is gone"


def test_a_mask_that_is_being_saved_is_written_when_the_dock_or_the_window_closes(
    ready, viewer, wait, tmp_path, slow_disk
):
    mask = viewer.layers["scan mask"].data.copy()
    ready.save_mask(tmp_path / "mask.nii.gz")
    viewer.window.remove_dock_widget(ready)
    viewer.close()
    slow_disk.set()
    WorkerBase.await_workers()
    np.testing.assert_array_equal(read_volume(tmp_path / "mask.nii.gz").array, mask)


def test_a_name_without_ending_gets_that_of_the_chosen_kind_and_writes_over_nothing(
    ready, wait, tmp_path, monkeypatch, qtbot, notified
):
    kinds = iter(["TIFF (*.tif *.tiff)", "", "NIfTI (*.nii.gz *.nii)"])
    monkeypatch.setattr(
        "qtpy.QtWidgets.QFileDialog.getSaveFileName", lambda *arguments: (str(tmp_path / "mask"), next(kinds))
    )
    for name in ("mask.tif", "mask.nii.gz"):
        click(qtbot, ready.save_button)
        wait(lambda: not ready.saver.job.is_running)
        assert ready.message.value() == f"Saved {tmp_path / name}."
    (tmp_path / "mask.nii.gz").write_bytes(b"corrected by hand")
    click(qtbot, ready.save_button)
    assert ready.message.value().startswith(f"{tmp_path / 'mask.nii.gz'} exists; choose it with its ending")
    assert notified == [ready.message.value()]
    assert (tmp_path / "mask.nii.gz").read_bytes() == b"corrected by hand"


def test_a_mask_of_a_stack_is_proposed_as_a_stack(widget, viewer, wait, tmp_path, monkeypatch, qtbot):
    case = ball_case()
    write_volume(tmp_path / "stack.tif", case.image, case.grid)
    (image,) = add_layers(viewer, read_layers(str(tmp_path / "stack.tif")))
    image.name = "a/b"
    widget.image.setValue(image)
    widget.predict()
    wait(lambda: not widget.job.is_running)
    proposed: list[str] = []

    def choose(_parent, _title, name, _filters, chosen):
        proposed.append(name)
        return str(tmp_path / name), chosen

    monkeypatch.setattr("qtpy.QtWidgets.QFileDialog.getSaveFileName", choose)
    click(qtbot, widget.save_button)
    assert proposed == ["a_b mask.tif"]
    wait(lambda: not widget.saver.job.is_running)
    (mask,) = add_layers(viewer, read_layers(str(tmp_path / proposed[0])))
    assert lies_on(image, mask)


def test_a_mask_that_was_removed_is_not_saved(ready, viewer, tmp_path):
    assert ready.save_button.isEnabled()
    viewer.layers.remove("scan mask")
    assert not ready.save_button.isEnabled()
    ready.save_mask(tmp_path / "mask.nii.gz")
    assert ready.message.value() == "There is no mask in the layer list; predict first."


def test_what_was_told_of_layers_goes_with_the_last_of_them(widget, viewer, wait):
    widget.outputs.setValue(("mask", "probability"))
    widget.predict()
    wait(lambda: not widget.job.is_running)
    viewer.layers.remove("scan mask")
    assert widget.message.value().startswith("Added 'scan mask' and 'scan probability'")
    viewer.layers.remove("scan probability")
    assert widget.message.value() == ""
    widget.predict()
    wait(lambda: not widget.job.is_running)
    widget.message.setValue("Something else.")
    viewer.layers.clear()
    assert widget.message.value() == "Something else."


def test_clean_up_is_off_until_it_is_asked_for(ready, wait, engine):
    ready.clean_up.setValue(CleanUp(2.5, fill_holes=True))
    ready.predict()
    wait(lambda: not ready.job.is_running)
    assert engine.options == [("best", CleanUp()), ("best", CleanUp(2.5, fill_holes=True))]


def test_several_images_are_predicted_together(widget, viewer, wait, engine):
    viewer.add_image(viewer.layers["scan"].data[::-1], name="second")
    viewer.add_image(viewer.layers["scan"].data, name="third")
    viewer.layers.selection = {viewer.layers["second"], viewer.layers["scan"]}
    widget.image.setValue(viewer.layers["scan"])
    widget.several.setChecked(True)
    widget.predict()
    wait(lambda: not widget.job.is_running)
    assert [case.name for case in engine.cases] == ["scan", "second"]
    assert [layer.name for layer in viewer.layers][-2:] == ["scan mask", "second mask"]
    assert widget.mask_layer is viewer.layers["scan mask"]


def test_a_report_is_written_and_opened_and_a_dataset_exported(widget, viewer, wait, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("qtpy.QtGui.QDesktopServices.openUrl", lambda url: opened.append(url.toLocalFile()))
    pipeline.train([ball_case()], tmp_path / "run", tiny_config(training__iterations=1))
    widget.run.setValue(tmp_path / "run")
    widget.more_button.entries["Report of the run"].trigger()
    wait(lambda: opened == [str(tmp_path / "run" / "report.html")], 60)
    assert "Wrote" in widget.message.value()
    target = tmp_path / "Dataset500_Ball"
    monkeypatch.setattr("qtpy.QtWidgets.QFileDialog.getExistingDirectory", lambda *arguments: str(target))
    widget.more_button.entries["Export the run for nnU-Net…"].trigger()
    wait(lambda: (target / "dataset.json").exists() and not widget.handover_job.is_running)
    widget.export_nnunet(target)
    wait(lambda: "holds a dataset already" in widget.message.value())
    widget.more_button.entries["Copy as command"].trigger()
    assert "lies in no file" in widget.message.value()


def test_the_command_names_everything_that_is_chosen(widget, viewer, tmp_path):
    case = ball_case()
    for name in ("first", "second"):
        write_volume(tmp_path / f"{name}.nii.gz", case.image, case.grid)
    write_volume(tmp_path / "first_labels.nii.gz", case.labels.astype(np.uint8), case.grid)
    files = [str(tmp_path / f"{name}.nii.gz") for name in ("first", "second", "first_labels")]
    first, second, labels = add_layers(viewer, read_layers(files))
    set_annotated_slices(labels, case.annotated)
    widget.image.setValue(first)
    widget.labels.setValue(labels)
    widget.outputs.setValue(("mask", "disagreement"))
    viewer.layers.selection = {first, second}
    widget.several.setChecked(True)
    words = shlex.split(widget.as_command())
    args = make_parser().parse_args(words[1:])
    assert [case.files for case in find_cases(args.cases)] == [
        (tmp_path / "first.nii.gz", tmp_path / "first_labels.nii.gz"),
        (tmp_path / "second.nii.gz",),
    ]
    assert (args.out, args.probability, args.disagreement) == ("predictions", None, "predictions")


@pytest.fixture
def two_classes(tmp_path) -> Path:
    """A run folder with two classes, as it is before its first iteration."""
    table = ClassTable((ClassInfo(0, "background"), ClassInfo(1, "organ"), ClassInfo(4, "tumour")))
    save_snapshot(RunFolder.create(tmp_path / "two", tiny_config()), [ball_case()], table)
    return tmp_path / "two"


def test_where_the_networks_look_is_a_new_layer_on_the_image(widget, viewer, qtbot, wait, engine, two_classes):
    widget.run.setValue(two_classes)
    panel = widget.explain_panel
    assert [panel.classes.itemText(index) for index in range(panel.classes.count())] == ["organ (1)", "tumour (4)"]
    panel.setValue(4)
    widget.explain_section.setValue(True)
    click(qtbot, panel.row.button)
    wait(lambda: not widget.explain_job.is_running)
    assert engine.calls == [("explain", (two_classes, "4", "auto"))]
    assert panel.value() == 4
    layer, image = viewer.layers[-1], viewer.layers["scan"]
    assert layer.name == "scan looked at for organ"
    assert widget.message.value() == "Added 'scan looked at for organ' (guidance: none)."
    assert layer.blending == "additive"
    assert layer.metadata["provenance"] == {"run": "fake", "iteration": 30, "class": "organ"}
    np.testing.assert_array_equal(layer.affine.affine_matrix, image.affine.affine_matrix)
    np.testing.assert_array_equal(layer.scale, image.scale)
    assert widget.image.value() is image, "an output is not taken for a scan"


def test_looking_can_be_stopped(widget, viewer, qtbot, wait, engine, two_classes):
    widget.run.setValue(two_classes)
    engine.go.clear()
    widget.explain()
    wait(lambda: widget.explain_job.state is RunState.PREDICTING)
    assert widget.explain_section.value(), "progress is in sight"
    assert widget.explain_panel.row.progress.bar.maximum() == 5
    click(qtbot, widget.explain_panel.row.cancel)
    wait(lambda: not widget.explain_job.is_running)
    assert len(viewer.layers) == 2
    assert widget.explain_panel.row.button.isEnabled()


def test_why_nothing_can_be_looked_at_is_told(widget, viewer, wait, engine, two_classes, notified):
    assert widget.explain_panel.value() is None
    widget.explain()
    assert "is not a run folder" in widget.message.value()
    widget.run.setValue(two_classes)
    widget.labels.setValue(viewer.layers["labels"])
    widget.explain()
    assert "No slice of 'labels' is marked as annotated" in widget.message.value()
    widget.labels.setValue(None)
    engine.go.clear()
    widget.explain()
    wait(lambda: widget.explain_job.state is RunState.PREDICTING)
    viewer.layers["scan"].data = np.zeros((5, 6, 7), dtype=np.float32)
    engine.go.set()
    wait(lambda: not widget.explain_job.is_running)
    assert "'scan' has (5, 6, 7) now; ask for it again" in widget.message.value()
    (two_classes / "cases.json").write_text("{}")
    widget.explain()
    assert "its class table cannot be read" in widget.message.value()
    viewer.layers.clear()
    session_of(viewer).runs = ()
    widget.explain()
    assert "There is no run yet" in widget.message.value()
    assert len(notified) == 5


def test_a_real_run_shows_where_it_looks(viewer, dock, wait, tmp_path):
    case = ball_case()
    pipeline.train([case], tmp_path / "run", tiny_config(training__iterations=6))
    image = viewer.add_image(case.image, name="ball", scale=(2.0, 1.0, 1.0), translate=(5.0, 0.0, 0.0))
    widget = dock(PredictWidget)
    widget.run.setValue(tmp_path / "run")
    widget.image.setValue(image)
    widget.explain()
    wait(lambda: not widget.explain_job.is_running, 60)
    layer = viewer.layers["ball looked at for label 1"]
    assert layer.data.shape == image.data.shape
    assert 0 == layer.data.min() < layer.data.max() <= 1
    np.testing.assert_array_equal(layer.translate, image.translate)
    assert layer.metadata["provenance"]["iteration"] > 0
    assert layer.metadata["provenance"]["annotation"], "the run knows the scan and its annotated slices"
