"""A button that opens a short menu."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QMenu, QPushButton

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtWidgets import QWidget


class MenuButton(QPushButton):
    """Calls what belongs to the entry that is chosen."""

    def __init__(self, text: str, tip: str, entries: dict[str, Callable[[], object]], parent: QWidget | None = None):
        super().__init__(text, parent)
        self.setToolTip(tip)
        menu = QMenu(self)
        self.entries: dict[str, Any] = {}
        for label, action in entries.items():
            entry = menu.addAction(label)
            assert entry is not None
            entry.triggered.connect(lambda _on=False, action=action: action())
            self.entries[label] = entry
        self.setMenu(menu)
