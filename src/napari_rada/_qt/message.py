"""A line of text that says what happened or what is missing."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Literal, TypeAlias

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

    from napari_rada._qt.theme import Colours

Kind: TypeAlias = Literal["info", "warning", "error"]

LONG = 40
"""Characters of a word that may not fit into one line; the sentence is then a tool tip, too."""
CLASSES_TOLD = 4
"""Of so many classes a message says how large they are."""


class Message(QLabel):
    """One wrapped sentence, hidden when empty, coloured by its kind."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWordWrap(True)
        self.setMinimumWidth(1)  # else that of the longest word, and a long name widens the dock beyond what is seen
        self.setTextFormat(Qt.TextFormat.RichText)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._sentence = ""
        self._kind: Kind = "info"
        self._colours: Colours | None = None
        self.hide()

    def value(self) -> str:
        """Return the sentence shown; empty if there is none."""
        return self._sentence

    def setValue(self, sentence: str, kind: Kind = "info") -> None:
        """Show a sentence; an empty one hides the line."""
        self._sentence, self._kind = sentence, kind
        self._draw()

    def setColours(self, colours: Colours) -> None:
        """Take the colours of another theme."""
        self._colours = colours
        self._draw()

    def _draw(self) -> None:
        colour = getattr(self._colours, {"info": "text", "warning": "warning", "error": "error"}[self._kind], None)
        style = f' style="color: {colour}"' if colour else ""
        self.setText(f"<span{style}>{escape(self._sentence)}</span>" if self._sentence else "")
        self.setToolTip(self._sentence if max(map(len, self._sentence.split()), default=0) > LONG else "")
        self.setVisible(bool(self._sentence))
