"""What the parts of the docks are to those who use the keyboard alone, or a screen reader."""

from __future__ import annotations

import pytest
from napari._qt.qt_event_loop import get_qapp
from napari._qt.qt_resources import get_current_stylesheet
from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QFocusEvent, QImage
from qtpy.QtWidgets import (
    QAbstractScrollArea,
    QApplication,
    QCheckBox,
    QLabel,
    QLineEdit,
    QPushButton,
    QTableWidgetItem,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_rada._napari.annotation import SliceRow
from napari_rada._napari.classes import ClassRow
from napari_rada._napari.history import History
from napari_rada._qt.class_table import ClassTable
from napari_rada._qt.folder_edit import FolderEdit
from napari_rada._qt.keyboard_frame import MARK, KeyboardFrame, focus_frame
from napari_rada._qt.keys import QuietCombo, QuietTable
from napari_rada._qt.loss_plot import LossPlot
from napari_rada._qt.message import Message
from napari_rada._qt.number_box import NumberBox
from napari_rada._qt.run_settings import RunSettings
from napari_rada._qt.slice_table import REMOVE, SHOW, SliceTable
from napari_rada._qt.theme import colours_of
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
    for network, sign in enumerate("●▲■", start=1):
        assert f"{sign}</span> {network}" in plot.legend.text(), "colours of curves are too light for figures"


@pytest.fixture
def framed(qtbot):
    """Return one of each kind of field in a column with napari's style and the frames of a dark dock."""
    get_qapp()  # brings the arrow of lists
    combo, number, table = QuietCombo(), NumberBox(0), QuietTable(("Name",), 2)
    combo.addItem("organ")
    table.insertRow(0)
    table.setItem(0, 0, QTableWidgetItem("organ"))
    fields = [QPushButton("Go"), QToolButton(), QCheckBox("Follow"), combo, number, QLineEdit("organ"), table]
    fields[1].setText("Advanced")
    column = QWidget()
    qtbot.addWidget(column)
    layout = QVBoxLayout(column)
    for field in fields:
        layout.addWidget(field)
    column.setStyleSheet(get_current_stylesheet() + focus_frame(colours_of("dark")))
    KeyboardFrame(column).watch(column)
    column.show()
    column.activateWindow()
    qtbot.waitUntil(column.isActiveWindow)
    return column, fields


def shown(widget: QWidget) -> QImage:
    """Return what is inside of the edge and the round corners of a widget."""
    return widget.grab(widget.rect().adjusted(3, 3, -3, -3)).toImage()


def test_what_the_keyboard_comes_to_by_a_key_is_framed_and_nothing_moves(framed):
    _column, fields = framed
    line = colours_of("dark").text
    for field in fields:
        fields[fields.index(field) - 1].setFocus(Qt.FocusReason.TabFocusReason)
        plain, inside, size = field.grab().toImage(), shown(field), field.sizeHint()
        field.setFocus(Qt.FocusReason.MouseFocusReason)
        assert field.hasFocus()
        assert field.grab().toImage().pixelColor(8, 0) == plain.pixelColor(8, 0), "it was clicked"
        field.clearFocus()
        field.setFocus(Qt.FocusReason.TabFocusReason)
        assert field.grab().toImage().pixelColor(8, 0).name() == line
        assert field.sizeHint() == size
        if isinstance(field, (QPushButton, QToolButton, QCheckBox, QuietCombo)):
            assert shown(field) == inside, "text fields have a caret, tables a current cell"


def test_what_gets_the_keyboard_from_a_button_that_was_clicked_is_not_framed(framed, qtbot):
    _column, (button, after, last, *_others) = framed
    button.clicked.connect(lambda: button.setEnabled(False))
    button.setFocus(Qt.FocusReason.MouseFocusReason)
    button.click()
    assert after.hasFocus()
    assert not after.property(MARK)
    qtbot.keyClick(after, Qt.Key.Key_Tab)
    assert last.property(MARK)


def test_fields_that_are_made_late_are_framed_too(qtbot):
    settings, classes = RunSettings(), ClassTable()
    for widget in (settings, classes):
        qtbot.addWidget(widget)
    settings.section.setValue(True)
    classes.set_data([ClassRow(ClassInfo(1, "organ"), "#ff0000", painted=False)])
    for late in (*settings.advanced.fields.values(), classes.table.cellWidget(0, 0)):
        QApplication.sendEvent(late, QFocusEvent(QEvent.Type.FocusIn, Qt.FocusReason.TabFocusReason))
        assert late.property(MARK)
