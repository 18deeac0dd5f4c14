"""What the parts of the docks are to those who use the keyboard alone, or a screen reader."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractScrollArea, QApplication

from napari_rada._napari.history import History
from napari_rada._qt.loss_plot import LossPlot
from napari_rada._qt.run_settings import RunSettings
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


def test_a_plot_takes_no_keys_from_the_viewer(qtbot):
    plot = LossPlot()
    qtbot.addWidget(plot)
    plot.set_data(History.of([StepLogged(1, 2, (1.0,) * 3, (0.5,) * 3, 0.1, 0.01, 1.0, 1.0)], []))
    plot.show()
    plot.save_button.setFocus()
    qtbot.mouseClick(plot.losses.findChild(QAbstractScrollArea).viewport(), Qt.MouseButton.LeftButton)
    assert plot.focusWidget() is plot.save_button
