"""What the parts of the docks are to those who use the keyboard alone, or a screen reader."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractScrollArea, QApplication, QLabel, QPushButton

from napari_rada._napari.annotation import SliceRow
from napari_rada._napari.classes import ClassRow
from napari_rada._napari.history import History
from napari_rada._qt.class_table import ClassTable
from napari_rada._qt.folder_edit import FolderEdit
from napari_rada._qt.loss_plot import LossPlot
from napari_rada._qt.message import Message
from napari_rada._qt.run_settings import RunSettings
from napari_rada._qt.slice_table import REMOVE, SHOW, SliceTable
from napari_rada._qt.theme import colours_of
from napari_rada._qt.weights import WeightsWidget
from napari_rada.data.classes import ClassInfo
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.events import StepLogged


def test_tab_goes_from_the_title_into_the_settings_and_the_keyboard_stays_in_them(qtbot):
    settings = RunSettings()
    qtbot.addWidget(settings)
    settings.show()
    settings.section.setValue(True)
    QApplication.processEvents()  # now the fields are there to be seen
    settings.section.button.setFocus()
    qtbot.keyClick(settings.section.button, Qt.Key.Key_Tab)
    fields = settings.advanced.fields
    assert settings.focusWidget() is next(iter(fields.values()))
    fields["propagation.method"].setFocus()
    qtbot.keyClick(fields["propagation.method"], Qt.Key.Key_Down)
    assert settings.advanced.fields is not fields, "another method has other settings"
    assert settings.focusWidget() is settings.advanced.fields["propagation.method"]


def test_a_screen_reader_hears_what_fields_are_for(qtbot):
    settings, folder, message = RunSettings(), FolderEdit("Choose the folder of the run"), Message()
    for widget in (settings, folder, message):
        qtbot.addWidget(widget)
    settings.advanced.draw()
    named = {label.buddy() for label in settings.findChildren(QLabel)}
    assert named >= set(settings.advanced.fields.values())
    assert settings.length.amount.accessibleName() == "Length"
    assert folder.line.accessibleName() == folder.browse.accessibleName() == "Choose the folder of the run"
    message.setValue(f"Saved in /a/{'long-' * 9}path.")
    assert message.accessibleName() == message.value(), "without the places where a line may be broken"


def test_a_screen_reader_hears_what_the_cells_with_signs_and_colours_do(qtbot):
    slices, classes = SliceTable(), ClassTable()
    for table in (slices, classes):
        qtbot.addWidget(table)
    slices.set_data([SliceRow(AnnotatedSlice(0, 3), 12, complete=True)], None)
    spoken = Qt.ItemDataRole.AccessibleTextRole
    across = Qt.Orientation.Horizontal
    for column, told in ((SHOW, "Show"), (REMOVE, "Remove")):
        assert slices.item(0, column).data(spoken) == told
        assert slices.model().headerData(column, across, spoken) == told
    classes.set_data([ClassRow(ClassInfo(value, name), "#ff0000", False) for value, name in enumerate("ab", 1)])
    classes.show()
    classes.table.setFocus()
    heard = []
    for _row in range(2):
        qtbot.keyClick(classes.focusWidget(), Qt.Key.Key_Tab)
        heard.append(classes.focusWidget().accessibleName())
    assert heard == ["Colour of a", "Colour of b"]
    assert slices.accessibleName() == "Annotated slices"
    assert classes.table.accessibleName() == "Classes"


def test_a_plot_takes_no_keys_from_the_viewer(qtbot):
    plot = LossPlot()
    qtbot.addWidget(plot)
    plot.set_data(History.of([StepLogged(1, 2, (1.0,) * 3, (0.5,) * 3, 0.1, 0.01, 1.0, 1.0)], []))
    plot.show()
    plot.save_button.setFocus()
    qtbot.mouseClick(plot.losses.findChild(QAbstractScrollArea).viewport(), Qt.MouseButton.LeftButton)
    assert plot.focusWidget() is plot.save_button


def test_the_keyboard_stays_on_the_colour_that_is_changed(qtbot):
    table = ClassTable()
    qtbot.addWidget(table)
    table.set_data([ClassRow(ClassInfo(1, "organ"), "#ff0000", painted=False)])
    table.show()
    button = table.table.cellWidget(0, 0)
    button.setFocus()
    table.set_data([ClassRow(ClassInfo(1, "organ"), "#00ff00", painted=False)])
    assert table.focusWidget() is table.table.cellWidget(0, 0) is button
    assert "#00ff00" in button.styleSheet()


def test_a_plot_is_told_in_words_and_its_legend_in_the_colour_of_text(qtbot):
    plot = LossPlot()
    qtbot.addWidget(plot)
    plot.set_data(History.of([StepLogged(7, 9, (0.5, 0.25, 0.125), (0.5,) * 3, 0.1, 0.01, 1.0, 1.0)], []))
    plot.setColours(colours_of("light"))
    assert plot.losses.accessibleName() == "Supervised losses of the networks, iteration 7: 0.5, 0.25, 0.125"
    for network in (1, 2, 3):
        assert f"■</span> {network}" in plot.legend.text(), "colours of curves are too light for figures"


def test_what_has_the_keyboard_is_framed(viewer, dock):
    weights = dock(WeightsWidget)
    viewer.window._qt_window.activateWindow()
    button = weights.findChild(QPushButton)
    button.setEnabled(True)
    plain = button.grab().toImage()
    button.setFocus()
    assert button.hasFocus() == (button.grab().toImage() != plain)
    assert f"QPushButton:focus {{ border: 1px solid {weights.colours.text} }}" in weights.styleSheet()
