"""Every setting of a run, drawn from the configuration's types and checked as one types."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psygnal import Signal
from qtpy.QtWidgets import QComboBox, QFormLayout, QLabel, QLineEdit, QVBoxLayout, QWidget

from napari_rada._napari.setting_fields import UNION_KEYS, as_yaml, check_settings, setting_fields
from napari_rada._qt.dock import WheelGuard
from napari_rada._qt.keyboard_frame import KeyboardFrame
from napari_rada._qt.keys import QuietCombo
from napari_rada._qt.message import Message

if TYPE_CHECKING:
    from napari_rada._napari.setting_fields import SettingField
    from napari_rada._qt.theme import Colours
    from napari_rada.config import RunConfig


class ConfigForm(QWidget):
    """Holds what was changed against a base configuration, by dotted name; draws its fields when first shown."""

    valueChanged = Signal(dict)
    """Another set of changes, all valid."""

    def __init__(self, without: frozenset[str], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._without = without
        self._base: RunConfig | None = None
        self._texts: dict[str, str] = {}
        self._colours: Colours | None = None
        self._drawn = False
        self.fields: dict[str, QLineEdit | QComboBox] = {}
        self.problem = Message()
        self._wheel = WheelGuard(self)
        self._frame = KeyboardFrame(self)
        self._body = QWidget()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.problem)
        layout.addWidget(self._body)

    def value(self) -> dict[str, str]:
        """Return the changed settings as text, those that cannot be used included: making a config of them tells."""
        return dict(self._texts)

    def setValue(self, texts: dict[str, str]) -> None:
        """Show these changes and no others."""
        self._texts = {name: as_yaml(text) for name, text in texts.items()}
        self._redraw()
        self._check()

    def set_base(self, base: RunConfig) -> None:
        """Take the configuration that is changed; changes that mean nothing in it any more are dropped."""
        self._base = base
        self._redraw()
        self._check()

    def draw(self) -> None:
        """Make the fields, once: there are many."""
        self._drawn = True
        self._redraw()

    def setColours(self, colours: Colours) -> None:
        """Take the colours of another theme."""
        self._colours = colours
        self.problem.setColours(colours)

    def _config(self) -> RunConfig | None:
        """Return the base with the changes that can be used."""
        if self._base is None:
            return None
        texts = dict(self._texts)
        while True:
            config, wrong, _problem = check_settings(self._base, texts)
            if config is not None or wrong not in texts:
                return config or self._base
            del texts[wrong]

    def _redraw(self) -> None:
        config = self._config()
        if config is None or not self._drawn:
            return
        fields = setting_fields(config, self._without)
        window = self.window()
        assert window is not None
        keyboard = window.focusWidget()  # also where another window is in front
        focused = next((name for name, widget in self.fields.items() if widget is keyboard), "")
        body = QWidget()
        column = QVBoxLayout(body)
        column.setContentsMargins(0, 0, 0, 0)
        self.fields = {}
        form, group = None, None
        for field in fields:
            if form is None or field.group != group:
                group = field.group
                column.addWidget(QLabel(f"<b>{group or 'run'}</b>"))
                form = QFormLayout()
                form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
                column.addLayout(form)
            label, widget = self._label(field), self._field(field)
            label.setBuddy(widget)
            form.addRow(label, widget)
        layout = self.layout()
        assert layout is not None
        layout.replaceWidget(self._body, body)
        self._wheel.watch(body)
        self._frame.watch(body)
        self._body.deleteLater()
        self._body = body
        self._keep_keyboard(focused)

    def _keep_keyboard(self, focused: str) -> None:
        """Let Tab come to the new fields where the old ones were, and go on in the one of this name."""
        before: QWidget = self.problem
        for widget in self.fields.values():
            self.setTabOrder(before, widget)
            before = widget
        if focused in self.fields:
            self._body.show()
            self.fields[focused].setFocus()

    def _label(self, field: SettingField) -> QLabel:
        label = QLabel(field.label)
        label.setToolTip(f"{field.tip}\n{field.name}".strip())
        return label

    def _field(self, field: SettingField) -> QLineEdit | QComboBox:
        widget: QLineEdit | QComboBox
        if field.choices:
            widget = QuietCombo()
            widget.addItems(field.choices)
            widget.setCurrentText(field.text)
            widget.setMinimumContentsLength(6)
            widget.currentTextChanged.connect(lambda text, name=field.name: self._on_edited(name, text))
        else:
            widget = QLineEdit(field.text)
            widget.textEdited.connect(lambda text, name=field.name: self._on_edited(name, text))
        widget.setToolTip(f"{field.tip}\n{field.name}".strip())
        self.fields[field.name] = widget
        return widget

    def _on_edited(self, name: str, text: str) -> None:
        self._texts[name] = as_yaml(text)
        if name.rpartition(".")[2] in UNION_KEYS:
            group = name.rpartition(".")[0] + "."
            self._texts = {n: t for n, t in self._texts.items() if n == name or not n.startswith(group)}
            self._redraw()
        self._check()

    def _check(self) -> None:
        if self._base is None:
            return
        config, wrong, problem = check_settings(self._base, self._texts)
        self.problem.setValue(problem, "error")
        for name, widget in self.fields.items():
            bad = bool(problem) and name == wrong and self._colours is not None
            widget.setStyleSheet(f"border: 1px solid {self._colours.error}" if bad and self._colours else "")
        if config is not None:
            changed = config.changes()
            base = self._base.changes()
            self._texts = {n: t for n, t in self._texts.items() if n in changed or n in base}
            self.valueChanged.emit(self.value())
