"""What every dock does with the mouse wheel, and how it ends."""

from __future__ import annotations

from functools import partial

import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication, QComboBox, QDoubleSpinBox, QSlider, QWidget

from napari_rada._qt.config_form import ConfigForm
from napari_rada._qt.dock import Dock
from napari_rada._qt.run_settings import IN_SIGHT
from napari_rada.config import RunConfig


class TallDock(Dock):
    """A dock that is longer than the window, with a field of every kind."""

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__(viewer)
        self.combo, self.spin, self.slider = QComboBox(), QDoubleSpinBox(), QSlider()
        self.combo.addItems(["first", "second", "third"])
        self.combo.setCurrentIndex(1)
        self.spin.setValue(5.0)
        self.slider.setValue(50)
        self.advanced = ConfigForm(IN_SIGHT)
        self.advanced.set_base(RunConfig.from_preset("quick"))
        for field in (self.combo, self.spin, self.slider, self.advanced):
            self.column.addWidget(field)


@pytest.fixture
def tall(qtbot) -> TallDock:
    widget = TallDock(ViewerModel())
    qtbot.addWidget(widget, before_close_func=lambda closing: closing.shut())
    widget.resize(300, 200)
    widget.show()
    qtbot.waitExposed(widget)
    widget.advanced.draw()
    qtbot.wait(50)
    return widget


def turn_wheel(field: QWidget) -> bool:
    """Turn the wheel over a field; false if the field leaves it to the widget around it."""
    centre = QPointF(field.rect().center())
    pixels, degrees = QPoint(0, 0), QPoint(0, -120)
    buttons, modifiers, phase = Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase
    event = QWheelEvent(centre, field.mapToGlobal(centre), pixels, degrees, buttons, modifiers, phase, False)
    QApplication.sendEvent(field, event)
    return event.isAccepted()


def test_the_wheel_over_a_field_is_left_to_the_scroll_area_and_changes_nothing(tall):
    late = next(field for field in tall.advanced.fields.values() if isinstance(field, QComboBox))
    values = (tall.combo.currentIndex, tall.spin.value, tall.slider.value, late.currentIndex)
    before = [value() for value in values]
    for field in (tall.combo, tall.spin, tall.slider, late):
        assert not turn_wheel(field)
        assert field.focusPolicy() == Qt.FocusPolicy.StrongFocus
    assert [value() for value in values] == before


def test_a_field_that_was_clicked_takes_the_wheel(tall, monkeypatch):
    monkeypatch.setattr(tall.combo, "hasFocus", lambda: True)
    assert turn_wheel(tall.combo)
    assert tall.combo.currentText() == "third"


def test_a_dock_is_never_narrower_than_what_stands_in_it(tall, qtbot):
    tall.resize(50, 200)
    assert tall.combo.mapTo(tall, tall.combo.rect().topRight()).x() < tall.width()
    wide = QWidget()
    wide.setMinimumWidth(400)
    tall.column.addWidget(wide)
    qtbot.waitUntil(lambda: tall.width() > 400)
    tall.column.removeWidget(wide)
    wide.deleteLater()


def test_a_dock_lets_go_of_everything_also_where_a_part_fails(qtbot):
    dock = Dock(ViewerModel())
    qtbot.addWidget(dock)
    done: list[str] = []

    def fail() -> None:
        raise OSError("the disk is full")

    for action in (partial(done.append, "first"), fail, partial(done.append, "last")):
        dock.on_shut(action)
    with pytest.raises(OSError, match="the disk is full"):
        dock.shut()
    assert done == ["last", "first"]
    dock.shut()
    assert done == ["last", "first"]
