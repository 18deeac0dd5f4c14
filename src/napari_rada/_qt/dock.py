"""What the three dock widgets have in common."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from napari.qt.threading import create_worker
from napari.settings import get_settings
from napari.utils.notifications import show_error
from psygnal import Signal
from qtpy.QtCore import QEvent, QObject, QSize, Qt, QTimer
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QDockWidget,
    QFormLayout,
    QFrame,
    QLabel,
    QMainWindow,
    QScrollArea,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_rada._napari.devices import list_devices
from napari_rada._napari.job import Job
from napari_rada._napari.session import session_of
from napari_rada._qt.keyboard_frame import KeyboardFrame, focus_frame
from napari_rada._qt.message import Message
from napari_rada._qt.theme import colours_of, text_size
from napari_rada._qt.worker import JobPump, prepare_threads, spawn
from napari_rada.errors import RadaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari.components import ViewerModel

    from napari_rada._napari.devices import DeviceChoice
    from napari_rada._qt.device_combo import DeviceCombo
    from napari_rada._qt.theme import Colours

_closing: dict[int, QWidget] = {}
"""Docks that were closed and wait for Qt to delete them."""
WIDTH, HEIGHT = 330, 560
STROKE_MS = 50
"""How often it is looked whether a stroke has ended."""
TITLE_SUFFIX = " (napari-rada)"
"""What napari adds to a dock's name; left out on tabs, which are narrow."""


class Dock(QWidget):
    """A dock widget's content: a scrolling column, a message line, and a clean end.

    The first of the plugin's docks to open gets a column of the window; the others join it as tabs.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self.viewer = viewer
        self.session = session_of(viewer)
        self.message = Message()
        self._cleanup: list[Callable[[], None]] = []
        self._docked = False
        self._wheel = WheelGuard(self)
        self._frame = KeyboardFrame(self)
        self.copier = Copier(self)
        self.copier.copied.connect(self.message.setValue)
        self.copier.failed.connect(self.show_error)
        self.on_shut(self.copier.job.stop)
        content = QWidget()
        self.column = QVBoxLayout(content)
        self.column.setContentsMargins(8, 8, 8, 8)
        self.column.setSpacing(8)
        area = ColumnArea(content)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(area)
        self.follow(viewer.events.theme, self._on_theme_changed)
        self.follow(get_settings().appearance.events.font_size, self._on_theme_changed)
        self.follow(viewer.layers.events.removed, self._on_layer_gone)

    @property
    def colours(self) -> Colours:
        """The colours of the viewer's theme."""
        return colours_of(self.viewer.theme)

    def sizeHint(self) -> QSize:
        """Ask for a column wide enough for the table, and leave the rest to the scroll bar."""
        return QSize(WIDTH, HEIGHT)

    def on_shut(self, action: Callable[[], None]) -> None:
        """Have something done when the dock is closed."""
        self._cleanup.append(action)

    def follow(self, signal: Any, slot: Callable[..., None]) -> None:
        """Have a signal that outlives the dock heard until the dock is closed."""
        signal.connect(slot)
        self.on_shut(lambda: signal.disconnect(slot))

    def shut(self) -> None:
        """Let go of the viewer; called when the dock is closed, harmless if called again.

        What was added last is done first, and all of it is done, also where a part fails.
        """
        actions, self._cleanup = self._cleanup, []
        with ExitStack() as stack:
            for action in actions:
                stack.callback(action)

    def apply_colours(self, colours: Colours) -> None:
        """Take the colours of a theme; widgets with more to colour extend this."""
        self.message.setColours(colours)
        self.setStyleSheet(focus_frame(colours) + text_size(get_settings().appearance.font_size))

    @contextmanager
    def telling_errors(self, *, keep_message: bool = False) -> Iterator[None]:
        """Clear the message line, then show an error of the user's as one sentence instead of raising it."""
        if not keep_message:
            self.message.setValue("")
        try:
            yield
        except RadaError as error:
            self.show_error(str(error))

    def show_error(self, sentence: str) -> None:
        """Tell what went wrong, in the dock and as a napari notification."""
        self.message.setValue(sentence, "error")
        show_error(sentence)

    def forget_error(self) -> None:
        """Take back what was told about a choice, now that another one was made."""
        if self.message.is_error:
            self.message.setValue("")

    def after_stroke(self, action: Callable[[], None]) -> None:
        """Do something that turns the viewer once no button of the mouse is down, so that no stroke is torn apart."""
        if QApplication.mouseButtons() == Qt.MouseButton.NoButton:
            action()
            return
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.timeout.connect(lambda: self.after_stroke(action))
        timer.timeout.connect(timer.deleteLater)
        timer.start(STROKE_MS)

    def event(self, event: QEvent | None) -> bool:
        """Notice being shown for the first time, being docked and, when the dock is closed, being taken out of it."""
        if event is not None and event.type() == QEvent.Type.Polish:
            self._wheel.watch(self)
            self._frame.watch(self)
        if event is not None and event.type() == QEvent.Type.ParentChange:
            self._on_parent_changed()
        return bool(super().event(event))

    def _on_parent_changed(self) -> None:
        if isinstance(self.parent(), QDockWidget):
            self._docked = True
            QTimer.singleShot(0, self._join_tabs)
        elif self._docked and self.parent() is None:
            self._docked = False
            self.shut()
            self._delete_by_qt()

    def _delete_by_qt(self) -> None:
        """Let Qt delete the widgets, in its order: Python's garbage collector, if it comes first, crashes on plots."""
        key = id(self)
        _closing[key] = self
        self.destroyed.connect(partial(_closing.pop, key, None))
        self.deleteLater()

    def _join_tabs(self) -> None:
        """Put this dock behind the plugin's other docks instead of squeezing it under them."""
        dock = self.parent()
        if not isinstance(dock, QDockWidget) or not isinstance(window := dock.parent(), QMainWindow):
            return
        dock.setWindowTitle(dock.windowTitle().removesuffix(TITLE_SUFFIX))
        siblings = [other for other in window.findChildren(QDockWidget) if isinstance(other.widget(), Dock)]
        for other in siblings:
            if other is not dock and other.isVisible() and not other.isFloating() and not dock.isFloating():
                window.tabifyDockWidget(other, dock)
                dock.show()
                dock.raise_()
                return

    def _on_layer_gone(self, event: object) -> None:
        del event
        for message in self.findChildren(Message):
            message.keepOf(self.viewer.layers)

    def _on_theme_changed(self) -> None:
        self.apply_colours(self.colours)


class ColumnArea(QScrollArea):
    """Scrolls a column up and down, and is never narrower than the column: its right edge would be out of reach."""

    def __init__(self, column: QWidget) -> None:
        super().__init__()
        self.setWidget(column)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def minimumSizeHint(self) -> QSize:
        """Ask for the width of the column and of the bar beside it."""
        column, bar = self.widget(), self.verticalScrollBar()
        assert column is not None
        assert bar is not None
        width = column.minimumSizeHint().width() + bar.sizeHint().width()
        return QSize(width, super().minimumSizeHint().height())

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Follow the column where it is laid out anew."""
        if event is not None and event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return bool(super().eventFilter(watched, event))


class WheelGuard(QObject):
    """Leaves the mouse wheel to the scroll area: a field takes it only after it was clicked or tabbed into."""

    def watch(self, root: QWidget) -> None:
        """Guard every field that is in `root` now."""
        for kind in (QComboBox, QAbstractSpinBox, QSlider):
            for field in root.findChildren(kind):
                field.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
                field.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Pass the wheel on to the widget around a field without focus."""
        if isinstance(watched, QWidget) and event is not None and event.type() == QEvent.Type.Wheel:
            if not watched.hasFocus():
                event.ignore()
                return True
        return super().eventFilter(watched, event)


class Copier(QObject):
    """Puts on the clipboard what takes a moment to write, as files are read for it."""

    copied = Signal(str)
    """A text is on the clipboard; the sentence says which."""
    failed = Signal(str)
    """It could not be written; the sentence says why."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.job = Job("copying", spawn)
        self._pump = JobPump(self.job, self)
        self._told = ""
        self.job.succeeded.connect(self._on_written)
        self.job.failed.connect(self.failed.emit)

    def copy(self, write: Callable[[], str], told: str) -> None:
        """Call `write` in a worker, and copy what it returns; raises `RadaError` while another text is written."""
        self.job.start(lambda _control, _listener: write())
        self._told = told

    def _on_written(self, text: str) -> None:
        copy_text(text)
        self.copied.emit(self._told)


def copy_text(text: str) -> None:
    """Put text on the clipboard."""
    clipboard = QGuiApplication.clipboard()
    assert clipboard is not None
    clipboard.setText(text)


def form(**fields: QWidget) -> QFormLayout:
    """Lay out labelled fields; each keyword is the label, with `_` for a space."""
    layout = QFormLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(6)
    layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    for name, field in fields.items():
        label = QLabel(name.replace("_", " "))
        label.setBuddy(field)
        layout.addRow(label, field)
    return layout


def fill_devices(combo: DeviceCombo) -> None:
    """Offer the devices; the first time they are looked for in a worker, because that imports torch."""
    if known_devices.cache_info().currsize:
        combo.set_data(known_devices())
        return
    prepare_threads()
    worker = create_worker(known_devices)
    worker.returned.connect(combo.set_data)
    worker.start()


@cache
def known_devices() -> tuple[DeviceChoice, ...]:
    """Return the devices, looked for once."""
    return list_devices()
