"""The parts that the docks are made of: each shows, and tells what the user wants."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels
from qtpy.QtCore import QEvent, QPoint, Qt
from qtpy.QtGui import QContextMenuEvent, QGuiApplication, QHelpEvent, QStandardItemModel
from qtpy.QtWidgets import QApplication, QLineEdit, QMenu

from napari_rada._napari.annotation import SliceRow
from napari_rada._napari.devices import AUTOMATIC, DeviceChoice
from napari_rada._napari.history import History
from napari_rada._napari.job import RunState
from napari_rada._napari.preferences import Preferences
from napari_rada._qt import keys, run_settings
from napari_rada._qt.clean_up_panel import CleanUpPanel
from napari_rada._qt.curve_plot import log_ticks
from napari_rada._qt.device_combo import DeviceCombo
from napari_rada._qt.dock import WIDTH
from napari_rada._qt.folder_edit import FolderEdit, fresh_run_folder
from napari_rada._qt.keys import QuietCombo
from napari_rada._qt.layer_combo import LayerCombo
from napari_rada._qt.loss_plot import SIGNS_SHOWN, LossPlot
from napari_rada._qt.message import Message, Notices, breakable
from napari_rada._qt.progress import ProgressLine, duration
from napari_rada._qt.run_settings import PresetCombo, RunLength, RunSettings, viewer_config
from napari_rada._qt.slice_table import PLANE, SliceTable
from napari_rada._qt.theme import READABLE, colours_of, contrast
from napari_rada.config import RunConfig
from napari_rada.data.grid import Grid
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import ConfigError
from napari_rada.events import Stage, StageProgress, StepLogged, TrainingStarted, Validated
from napari_rada.inference.cleanup import CleanUp


@pytest.fixture
def model() -> ViewerModel:
    return ViewerModel()


@pytest.fixture
def volume() -> np.ndarray:
    return np.zeros((4, 5, 6), dtype=np.uint8)


@pytest.mark.parametrize("make", [DeviceCombo, PresetCombo, QuietCombo])
def test_a_letter_chooses_nothing_in_a_list_and_reaches_the_window(qtbot, make):
    around = QLineEdit()
    qtbot.addWidget(around)
    combo = make()
    combo.setParent(around)
    combo.blockSignals(True)
    combo.addItem("m: an entry that begins with what is typed")
    around.show()
    qtbot.keyClick(combo, Qt.Key.Key_M)
    assert combo.currentIndex() == 0
    assert around.text() == "m", "what a list leaves goes to the widget around it"


def names(combo: LayerCombo) -> list[str]:
    return [combo.itemText(row) for row in range(combo.count())]


def test_a_layer_choice_stays_in_step_with_the_list(qtbot, model, volume):
    combo = LayerCombo(model, Image, empty="none open")
    qtbot.addWidget(combo)
    seen: list[object] = []
    combo.valueChanged.connect(seen.append)
    assert (combo.value(), names(combo)) == (None, ["none open"])
    first = model.add_image(volume, name="first")
    model.add_labels(volume, name="labels")
    second = model.add_image(volume, name="second")
    assert combo.value() is first, "a layer that is chosen stays chosen"
    assert names(combo) == ["second", "first"]
    second.name = "renamed"
    assert names(combo) == ["renamed", "first"]
    combo.setValue(second)
    model.layers.move(2, 0)
    assert combo.value() is second
    model.layers.remove(second)
    assert combo.value() is first
    model.layers.clear()
    assert seen == [first, second, first, None]
    with pytest.raises(ValueError, match="not a Image layer"):
        combo.setValue(second)
    combo.shut()


def test_outputs_are_never_chosen_by_themselves(qtbot, model, volume):
    combo = LayerCombo(model, Labels)
    qtbot.addWidget(combo)
    own = model.add_labels(volume, name="mine")
    output = model.add_labels(volume, name="mask", metadata={"provenance": {}})
    model.layers.remove(own)
    assert combo.value() is output, "nothing else is there"
    again = model.add_labels(volume, name="mine again")
    model.layers.remove(output)
    assert combo.value() is again
    combo.shut()


def test_a_layer_that_does_not_fit_is_not_chosen_by_itself(qtbot, model, volume):
    combo = LayerCombo(model, Labels, fits=lambda layer: layer.name.startswith("fitting"))
    qtbot.addWidget(combo)
    other = model.add_labels(volume, name="other")
    model.add_labels(volume, name="fitting mask", metadata={"provenance": {}})
    assert (combo.value(), combo.currentIndex()) == (None, -1)
    fitting = model.add_labels(volume, name="fitting")
    model.add_image(volume)
    assert combo.value() is fitting
    combo.setValue(other)
    fitting.name = "fitting still"
    assert combo.value() is other, "what is chosen stays chosen"
    model.layers.remove(fitting)
    model.layers.remove(other)
    assert (combo.value(), names(combo)) == (None, ["fitting mask"])
    combo.shut()


def test_an_optional_layer_choice_begins_with_none(qtbot, model, volume):
    combo = LayerCombo(model, Labels, empty="as in the run", optional=True)
    qtbot.addWidget(combo)
    layer = model.add_labels(volume, name="labels")
    assert combo.value() is None
    combo.setValue(layer)
    assert combo.value() is layer
    combo.setValue(None)
    assert combo.value() is None
    combo.shut()


def test_after_shutting_a_layer_choice_ignores_the_viewer(qtbot, model, volume):
    combo = LayerCombo(model, Image, empty="none open")
    qtbot.addWidget(combo)
    combo.shut()
    model.add_image(volume, name="later")
    assert names(combo) == ["none open"]


def test_a_device_that_cannot_be_used_is_grey_and_says_why(qtbot):
    combo = DeviceCombo()
    qtbot.addWidget(combo)
    assert combo.value() == "auto"
    gpu = DeviceChoice("cuda", "NVIDIA GPU", "no NVIDIA GPU or driver was found")
    combo.set_data([AUTOMATIC, DeviceChoice("cpu", "CPU"), gpu])
    combo.setValue("cpu")
    combo.set_data([AUTOMATIC, gpu, DeviceChoice("cpu", "CPU")])
    assert combo.value() == "cpu"
    rows = combo.model()
    assert isinstance(rows, QStandardItemModel)
    assert [rows.item(row).isEnabled() for row in range(3)] == [True, False, True]
    assert combo.itemData(1, Qt.ItemDataRole.ToolTipRole) == ("Cannot be used: no NVIDIA GPU or driver was found.")


def test_a_text_that_does_not_fit_shows_beginning_and_end_and_all_where_one_points(qtbot, monkeypatch):
    combo, told = QuietCombo(), []
    qtbot.addWidget(combo)
    text = "a patient with a name too long for a list, corrected"
    combo.addItems(["short", text])
    combo.setToolTip("what it is")
    combo.resize(150, 24)
    combo.grab()
    monkeypatch.setattr(keys.QToolTip, "showText", lambda _where, tip, _widget: told.append(tip))
    help_event = QHelpEvent(QEvent.Type.ToolTip, QPoint(5, 5), QPoint(5, 5))
    assert combo.shown_text() == "short"
    QApplication.sendEvent(combo, help_event)
    combo.setCurrentText(text)
    assert combo.shown_text().startswith("a pa")
    assert combo.shown_text().endswith("ted")
    assert "…" in combo.shown_text()
    QApplication.sendEvent(combo, help_event)
    assert told[-1] == f"{text}\nwhat it is"
    assert combo.view().textElideMode() is Qt.TextElideMode.ElideMiddle


def test_a_length_is_iterations_or_minutes(qtbot):
    length = RunLength()
    qtbot.addWidget(length)
    seen: list[dict[str, object]] = []
    length.valueChanged.connect(seen.append)
    length.setValue(iterations=250)
    assert length.value() == {"training.minutes": None, "training.iterations": 250}
    length.setValue(minutes=1.5)
    assert length.value() == seen[-1] == {"training.minutes": 1.5}
    length.unit.setCurrentText("iterations")
    assert length.value()["training.iterations"] == 250
    length.set_data(RunConfig.from_preset("standard"))
    assert length.value()["training.iterations"] == RunConfig.from_preset("standard").training.iterations


def test_numbers_keep_their_digits_and_show_no_further_ones(qtbot):
    length, tidy = RunLength(), CleanUpPanel()
    for widget in (length, tidy):
        qtbot.addWidget(widget)
    for minutes, text in ((2.75, "2.75"), (0.005, "0.005"), (5.0, "5"), (43200.0, "43200")):
        length.set_data(RunConfig.from_preset("quick").with_settings({"training.minutes": minutes}))
        assert length.value() == {"training.minutes": minutes}
        assert length.amount.text() == text
    length.setValue(iterations=1000)
    assert length.amount.text() == "1000"
    for part, text in ((0.004, "0.004 ml"), (10.0, "10 ml"), (25000.0, "25000 ml"), (0.0, "off")):
        tidy.setValue(CleanUp(part))
        assert tidy.value() == CleanUp(part)
        assert tidy.min_part.text() == text


def test_the_arrows_of_a_length_end_at_one_step(qtbot):
    length = RunLength()
    qtbot.addWidget(length)
    for minutes, steps, reached in ((2.5, -1, 1.5), (2.5, -9, 1.0), (0.25, -1, 0.25), (0.25, 1, 1.25)):
        length.setValue(minutes=minutes)
        length.amount.stepBy(steps)
        assert length.value() == {"training.minutes": reached}
    length.setValue(iterations=150)
    length.amount.stepBy(-2)
    assert length.value()["training.iterations"] == 1


def test_a_preset_keeps_its_own_length_unless_changed(qtbot):
    combo = PresetCombo()
    qtbot.addWidget(combo)
    assert [combo.itemData(row) for row in range(combo.count())] == ["quick", "standard", "paper"]
    assert max(len(combo.itemText(row)) for row in range(combo.count())) <= 26, "a narrow dock shows no more"
    combo.setValue("paper")
    assert combo.value() == "paper"
    config = viewer_config("paper")
    assert config.training == RunConfig.from_preset("paper").training
    with pytest.raises(ConfigError):
        viewer_config("quick", {"training.iterations": 0})


def test_what_was_chosen_by_hand_stays_for_several_scans(qtbot):
    settings = RunSettings()
    qtbot.addWidget(settings)
    alone = settings.value()
    settings.set_cohort(True)
    assert settings.value().training.iterations != alone.training.iterations
    settings.set_cohort(False)
    assert settings.value() == alone
    settings.length.amount.setValue(5000)
    settings.guidance.setCurrentIndex(settings.guidance.findData("none"))
    settings.set_cohort(True)
    assert (settings.value().training.iterations, settings.value().guidance.source) == (5000, "none")
    settings.length.setValue(minutes=3)
    settings.set_cohort(False)
    assert settings.value().training.minutes == 3
    settings.preset.setValue("standard")
    assert settings.value().guidance.source != "none", "another preset brings its own"


def test_the_folder_of_weights_in_the_preferences_reaches_the_run(monkeypatch, tmp_path):
    monkeypatch.setattr(run_settings, "preferences", lambda: Preferences(cache=tmp_path))
    assert viewer_config("quick").guidance.cache == tmp_path
    assert viewer_config("quick", {"guidance.cache": None}).guidance.cache is None


def test_the_threads_in_the_preferences_reach_the_run(monkeypatch):
    monkeypatch.setattr(run_settings, "preferences", lambda: Preferences(threads=3))
    assert viewer_config("quick").threads == 3
    assert viewer_config("quick", {"threads": 2}).threads == 2


def test_run_folders_are_fresh_and_safe(qtbot, tmp_path, monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda _format: "now")
    folder = fresh_run_folder("scan: a/b [1]", tmp_path)
    assert folder == tmp_path / "scan--a-b--1-now"
    folder.mkdir()
    assert fresh_run_folder("scan: a/b [1]", tmp_path) == tmp_path / "scan--a-b--1-now-2"
    assert fresh_run_folder("...", tmp_path).name == "run-now"
    edit = FolderEdit("Choose")
    qtbot.addWidget(edit)
    edit.setValue(Path("~/runs"))
    assert edit.value() == Path.home() / "runs"


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_warnings_and_errors_can_be_read(theme):
    colours = colours_of(theme)
    background, text, warning, error = (
        tuple(bytes.fromhex(colour[1:]))
        for colour in (colours.background, colours.text, colours.warning, colours.error)
    )
    assert min(contrast(each, background) for each in (text, warning, error)) >= READABLE - 0.05
    assert len({text, warning, error}) == 3


def test_contrast_is_that_of_the_guidelines():
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((119, 119, 119), (255, 255, 255)) == pytest.approx(4.48, abs=0.01)


def test_a_message_of_layers_goes_with_the_last_of_them_and_another_one_stays(qtbot):
    message, first, second = Message(), Labels(np.zeros((2, 2), int)), Labels(np.zeros((2, 2), int))
    qtbot.addWidget(message)
    message.tellOf([first, second], "Added both.")
    message.keepOf([second])
    assert message.value() == "Added both."
    message.keepOf([])
    assert message.value() == ""
    message.tellOf([first], "Added one.")
    message.setValue("Something else.")
    message.keepOf([])
    assert message.value() == "Something else."


def test_a_message_is_hidden_when_empty_and_shows_markup_as_text(qtbot):
    message = Message()
    qtbot.addWidget(message)
    message.setColours(colours_of("dark"))
    message.setValue("<b>bold</b> & plain", "error")
    assert message.value() == "<b>bold</b> & plain"
    assert "&lt;b&gt;bold" in message.text()
    assert colours_of("dark").error in message.text()
    message.setValue("")
    assert not message.isVisibleTo(message.parentWidget())


def test_the_last_two_notices_are_shown_and_all_of_them_kept(qtbot):
    notices = Notices()
    qtbot.addWidget(notices)
    notices.add("The card is busy; the CPU is used instead.")
    assert (notices.value(), notices.toolTip()) == ("The card is busy; the CPU is used instead.", "")
    notices.add("No weights are here. Download them.")
    assert notices.value() == "The card is busy; the CPU is used instead. No weights are here."
    notices.add("Heart is a closed outline.")
    assert notices.value() == "No weights are here. Heart is a closed outline."
    assert notices.toolTip().splitlines() == [
        "The card is busy; the CPU is used instead.",
        "No weights are here. Download them.",
        "Heart is a closed outline.",
    ]
    notices.forget()
    assert (notices.value(), notices.toolTip()) == ("", "")
    notices.add("One.")
    assert notices.value() == "One."


def test_a_long_word_is_broken_and_copied_whole(qtbot, qapp):
    message = Message()
    qtbot.addWidget(message)
    sentence = f"Saved /home/anna/{'a_long_name.of-a-scan' * 4}/{'0f' * 32}."
    message.setValue(sentence)
    assert message.minimumSizeHint().width() < WIDTH / 2
    for start, length in ((0, 0), (0, len(breakable(sentence)))):
        message.setSelection(start, length)
        QGuiApplication.clipboard().setText("")
        qtbot.keyClick(message, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
        assert QGuiApplication.clipboard().text() == sentence
    qapp.sendEvent(message, QContextMenuEvent(QContextMenuEvent.Reason.Mouse, QPoint(5, 5), QPoint(5, 5)))
    (menu,) = message.findChildren(QMenu)
    assert [action.text() for action in menu.actions()] == ["Copy"]
    menu.close()
    assert breakable("Wrote scan_1.nii.gz.") == "Wrote scan_1.nii.gz."


def test_progress_may_be_unknown(qtbot):
    line = ProgressLine()
    qtbot.addWidget(line)
    line.set_data("Preparing…")
    assert line.bar.maximum() == 0
    line.set_data("Predicting…", 3, 8)
    assert (line.bar.value(), line.bar.maximum()) == (3, 8)


def test_the_last_iteration_of_a_run_that_is_continued_is_not_told_as_that_of_the_new_one(qtbot):
    line, training = ProgressLine(), RunState.TRAINING
    qtbot.addWidget(line)
    before = [StepLogged(12, 12, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.0, 0.01, 1.0, 0.0)]
    line.take_in(before[-1], training, before)
    assert line.label.text() == "Training · iteration 12 of 12 · 0 s left"
    line.take_in(before[-1], training, [replace(before[-1], estimated=True)])
    assert line.label.text() == "Training · iteration 12 of about 12 · 0 s left"
    line.take_in(TrainingStarted(13, 20, "cpu"), training, before)
    assert (line.label.text(), line.bar.maximum()) == ("Training…", 0)
    line.take_in(StageProgress(Stage.LABEL, 1, 4), RunState.LABELLING, before)
    assert (line.label.text(), line.bar.maximum()) == ("Labelling scans that nobody annotated…", 4)


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (0.4, "0 s"), (59.4, "59 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations_are_short(seconds, text):
    assert duration(seconds) == text


def test_a_plot_of_nothing_positive_draws_without_a_warning(qtbot):
    plot = LossPlot()
    qtbot.addWidget(plot)
    plot.setColours(colours_of("dark"))
    history = History()
    plot.set_data(history)
    assert not plot.isVisibleTo(plot.parentWidget())
    history.add(StepLogged(1, 10, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.0, 0.01, 1.0, 9.0))
    plot.set_data(history)
    qtbot.waitExposed(plot)
    plot.show()
    qtbot.wait(50)


def test_curves_are_told_apart_by_signs_too(qtbot):
    plot = LossPlot()
    qtbot.addWidget(plot)
    plot.setColours(colours_of("light"))
    history = History()
    for iteration in range(1, 101):
        history.add(StepLogged(iteration, 100, (0.5, 0.4, 0.3), (0.0, 0.2, 0.1), 0.0, 0.01, 1.0, 9.0))
    plot.set_data(history)
    assert len({signs.opts["symbol"] for signs in plot.signs}) == len(plot.signs) == 3
    places = [set(signs.getOriginalDataset()[0]) for signs in plot.signs]
    assert all(SIGNS_SHOWN <= len(one) <= SIGNS_SHOWN + 2 for one in places)
    assert not places[0] & places[1] | places[1] & places[2] | places[0] & places[2], "they do not cover each other"
    assert set(plot.signs[2].getOriginalDataset()[1]) == {0.3, 0.1}


def test_the_axis_of_dice_ends_where_dice_does(qtbot):
    plot = LossPlot()
    qtbot.addWidget(plot)
    plot.setColours(colours_of("dark"))
    history = History()
    for iteration in (1, 2):
        history.add(StepLogged(iteration, 2, (0.5, 0.5, 0.5), (0.0, 0.0, 0.0), 0.0, 0.01, 1.0, 9.0))
        history.add(Validated(iteration, 0.924, 0.924, best=True))
    plot.set_data(history)
    plot.show()
    qtbot.waitExposed(plot)
    qtbot.wait(50)
    low, high = plot.dice.box.viewRange()[1]
    assert low < 0.924 < high <= 1.02


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (-1.5, 0.1, ["0.05", "0.1", "0.2", "0.5", "1"]),
        (-3.0, 1.0, ["0.001", "0.01", "0.1", "1", "10"]),
        (-0.2, -0.1, []),
    ],
)
def test_ticks_of_a_logarithmic_axis_do_not_crowd(low, high, texts):
    assert [text for _, text in log_ticks(low, high)] == texts


def test_drawing_a_long_run_is_quick(qtbot):
    plot = LossPlot()
    qtbot.addWidget(plot)
    history = History()
    for iteration in range(1, 6001):
        losses = (1.0 / iteration,) * 3
        history.add(StepLogged(iteration, 6000, losses, losses, 0.1, 0.01, 1.0, 9.0))
    plot.set_data(history)
    assert all(len(curve.getOriginalDataset()[0]) <= 400 for curve in plot.curves.values())
    started = time.perf_counter()
    plot.set_data(history)
    assert time.perf_counter() - started < 0.5


def test_the_table_is_never_too_narrow_for_the_names_of_planes(qtbot):
    table = SliceTable()
    qtbot.addWidget(table)
    grid = Grid((40, 40, 40), np.eye(4))
    table.set_data([SliceRow(AnnotatedSlice(axis, index), 12345, True) for axis in range(3) for index in (8, 9)], grid)
    table.show()
    table.resize(table.minimumSizeHint())
    QApplication.processEvents()
    bar = table.verticalScrollBar()
    assert bar.isVisible(), "the rows are more than the table has room for"
    qtbot.waitUntil(lambda: table.columnWidth(PLANE) >= table.sizeHintForColumn(PLANE))
    assert sum(table.columnWidth(column) for column in range(table.columnCount())) <= table.viewport().width()
