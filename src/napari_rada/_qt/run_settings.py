"""The settings of a run in the Train dock: the few that matter in sight, all others folded away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from psygnal import Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_rada._napari.preferences import preferences
from napari_rada._napari.setting_fields import as_text
from napari_rada._napari.weights import states_of
from napari_rada._qt.config_form import ConfigForm
from napari_rada._qt.device_combo import DeviceCombo
from napari_rada._qt.dock import form
from napari_rada._qt.keys import QuietCombo
from napari_rada._qt.number_box import NumberBox
from napari_rada._qt.section import Section
from napari_rada.config import PresetName, RunConfig
from napari_rada.errors import ConfigError
from napari_rada.guidance.store import WeightStore

if TYPE_CHECKING:
    from napari_rada._qt.theme import Colours
    from napari_rada.settings import GuidanceConfig

PRESET_LABELS = {
    "quick": "Quick (minutes on a CPU)",
    "standard": "Standard (all scans teach)",
    "paper": "Paper (as published, GPU)",
}
ITERATIONS, MINUTES = "iterations", "minutes"
DIGITS = 9
"""So many are kept behind the point of minutes."""
MOST_MINUTES = 1e6
GUIDANCE_LABELS = {
    "none": "None",
    "text": "Text prompts",
    "region": "Annotated regions",
    "region+text": "Regions and text",
}
IN_SIGHT = frozenset({"preset", "cohort", "device", "guidance.source", "training.iterations", "training.minutes"})
"""Settings that have a place of their own."""


def viewer_config(preset: str, settings: dict[str, Any] | None = None, *, cohort: bool = False) -> RunConfig:
    """Return a preset as the Preferences have it, with settings replaced; raises `ConfigError`.

    Parameters
    ----------
    cohort
        Begin with the settings that the preset has for several scans.
    """
    base, chosen = RunConfig.from_preset(preset).base(cohort=cohort), preferences()
    own: dict[str, Any] = {} if chosen.threads is None else {"threads": chosen.threads}
    if chosen.cache is not None:
        own["guidance.cache"] = str(chosen.cache)
    return base.with_settings({**own, **(settings or {})})


class RunSettings(QWidget):
    """Preset, length and device, and under *Advanced* every other setting."""

    valueChanged = Signal()
    """Something was changed; `value` says what it comes to, or raises."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._cohort = False
        self.preset = PresetCombo()
        self.length = RunLength()
        self.length.setToolTip(
            "Where scans without labels teach, too, a run has two halves, each with so many iterations; minutes are "
            "for both together"
        )
        self.device = DeviceCombo(preferences().device)
        self.guidance = QuietCombo()
        for source, label in GUIDANCE_LABELS.items():
            self.guidance.addItem(label, source)
        self.guidance.setMinimumContentsLength(8)
        self.guidance.setToolTip(
            "What guides the networks beside the labels. It needs weight files: see the dock Guidance weights. Without "
            "them the networks are trained without guidance, and the run says so"
        )
        self.weights = QLabel()
        self.weights.setToolTip("Fetch or import them in the dock Guidance weights")
        self.advanced = ConfigForm(IN_SIGHT)
        self.section = Section("Advanced", self.advanced, tip="Every other setting of the run")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        fields = form(Preset=self.preset, Length=self.length, Device=self.device, Guidance=self.guidance)
        layout.addLayout(fields)
        layout.addWidget(self.weights)
        layout.addWidget(self.section)
        self.section.opened.connect(self._on_opened)
        self.preset.valueChanged.connect(self._on_preset_changed)
        self.guidance.currentIndexChanged.connect(self._on_changed)
        for part in (self.length, self.device, self.advanced):
            part.valueChanged.connect(self._on_changed)
        self._on_preset_changed(self.preset.value())
        self._on_changed()

    def value(self, *, cohort: bool | None = None) -> RunConfig:
        """Return the configuration, by default for as many scans as are chosen.

        Raises
        ------
        ConfigError
            If a setting under Advanced cannot be used.
        """
        cohort = self._cohort if cohort is None else cohort
        source = {"guidance.source": self.guidance.currentData()}
        settings = {"device": self.device.value(), **source, **self.length.value(), **self.advanced.value()}
        return viewer_config(self.preset.value(), settings, cohort=cohort)

    def setValue(self, config: RunConfig) -> None:
        """Show a configuration."""
        self.set_cohort(config.cohort)
        self.preset.setValue(config.preset)
        self.length.set_data(config)
        self.device.choose(config.device)
        self.guidance.setCurrentIndex(self.guidance.findData(config.guidance.source))
        changes = {name: as_text(value) for name, value in config.changes().items() if name not in IN_SIGHT}
        self.advanced.setValue(changes)

    def set_cohort(self, several: bool) -> None:
        """Show what the preset has for one scan or for several; what was chosen by hand stays."""
        if several == self._cohort:
            return
        chosen = self._chosen_by_hand()
        self._cohort = several
        self._show_preset(self.preset.value(), chosen)

    def setColours(self, colours: Colours) -> None:
        """Take the colours of another theme."""
        self.advanced.setColours(colours)

    def _on_opened(self) -> None:
        if not self.advanced.fields:
            self.advanced.draw()

    def _on_preset_changed(self, name: str) -> None:
        self.advanced.setValue({})
        self._show_preset(name)

    def _chosen_by_hand(self) -> dict[str, Any]:
        """Return length and guidance where they are not what the preset has."""
        name = self.preset.value()
        base = viewer_config(name, cohort=self._cohort)
        shown = {"guidance.source": self.guidance.currentData(), **self.length.value()}
        return {
            key: value for key, value in shown.items() if viewer_config(name, {key: value}, cohort=self._cohort) != base
        }

    def _show_preset(self, name: str, chosen: dict[str, Any] | None = None) -> None:
        shown = viewer_config(name, chosen or {}, cohort=self._cohort)
        self.length.set_data(shown)
        self.guidance.setCurrentIndex(self.guidance.findData(shown.guidance.source))
        self.advanced.set_base(viewer_config(name, cohort=self._cohort))
        self.valueChanged.emit()

    def _on_changed(self, value: object = None) -> None:
        del value
        self.weights.setText(self._weights_state())
        self.weights.setVisible(bool(self.weights.text()))
        self.valueChanged.emit()

    def _weights_state(self) -> str:
        """Say whether the files are there that the chosen guidance needs; nothing if they are, or none is chosen."""
        try:
            config = self.value().guidance
        except ConfigError:
            return ""
        if config.source == "none":
            return ""
        here = _weights_here(config)
        if all(here):
            return ""
        told = "One of the two weight files is missing" if any(here) else "No weight files here"
        return f"{told}, so no guidance yet."


def _weights_here(config: GuidanceConfig) -> tuple[bool, bool]:
    """Tell whether the CLIP base and a file of Alpha-CLIP are there; beside a named base, texts need no second one."""
    named = (config.clip_weights, config.alpha_weights)
    if any(named):
        clip, alpha = (path is not None and path.is_file() for path in named)
        return clip, alpha or (config.alpha_weights is None and config.source == "text")
    base, *others = states_of(config.model, WeightStore(config.cache))
    return base.path is not None, any(state.path for state in others)


class PresetCombo(QuietCombo):
    """Choose a preset."""

    valueChanged = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        for name in get_args(PresetName):
            self.addItem(PRESET_LABELS.get(name, name), name)
        self.setToolTip(
            "Quick and Standard are the same for one scan. Of several, Quick leaves out those that nobody annotated; "
            "in Standard they teach, too, which is more accurate and takes more than twice as long"
        )
        self.currentIndexChanged.connect(lambda _index: self.valueChanged.emit(self.value()))

    def value(self) -> str:
        """Return the preset's name."""
        return str(self.currentData())

    def setValue(self, name: str) -> None:
        """Choose a preset by name."""
        self.setCurrentIndex(self.findData(name))


class RunLength(QWidget):
    """How long to train: a number of iterations, or of minutes."""

    valueChanged = Signal(dict)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.amount = NumberBox(0)
        self.amount.setMinimumWidth(70)
        self.amount.setAccessibleName("Length")
        self.unit = QuietCombo()
        self.unit.addItems([ITERATIONS, MINUTES])
        self.unit.setAccessibleName("Unit of the length")
        self._amounts = {ITERATIONS: 1000.0, MINUTES: 5.0}
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.amount, 1)
        layout.addWidget(self.unit, 1)
        self.unit.currentTextChanged.connect(self._on_unit_changed)
        self.amount.valueChanged.connect(self._on_amount_changed)
        self._on_unit_changed(ITERATIONS)

    def value(self) -> dict[str, Any]:
        """Return the settings that this length stands for."""
        if self.unit.currentText() == MINUTES:
            return {"training.minutes": self.amount.value()}
        return {"training.minutes": None, "training.iterations": int(self.amount.value())}

    def setValue(self, *, iterations: int | None = None, minutes: float | None = None) -> None:
        """Set the number of iterations, or the minutes, and switch to that unit."""
        unit = MINUTES if minutes is not None else ITERATIONS
        amount = minutes if minutes is not None else iterations
        assert amount is not None
        self._amounts[unit] = float(amount)
        self.unit.setCurrentText(unit)
        self.amount.setValue(float(amount))

    def set_data(self, config: RunConfig) -> None:
        """Take over the length of a preset."""
        self.setValue(iterations=config.training.iterations)
        if config.training.minutes is not None:
            self.setValue(minutes=config.training.minutes)

    def _on_unit_changed(self, unit: str) -> None:
        amount = self._amounts[unit]
        self.amount.blockSignals(True)
        self.amount.setDecimals(DIGITS if unit == MINUTES else 0)
        self.amount.setRange(*((10.0**-DIGITS, MOST_MINUTES) if unit == MINUTES else (1.0, 1_000_000.0)))
        self.amount.setSingleStep(1.0 if unit == MINUTES else 100.0)
        self.amount.setValue(amount)
        self.amount.blockSignals(False)
        self.valueChanged.emit(self.value())

    def _on_amount_changed(self, amount: float) -> None:
        self._amounts[self.unit.currentText()] = amount
        self.valueChanged.emit(self.value())
