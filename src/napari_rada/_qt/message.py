"""A line of text that says what happened or what is missing."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING, Literal, TypeAlias

from qtpy.QtCore import Qt
from qtpy.QtGui import QGuiApplication, QKeySequence
from qtpy.QtWidgets import QLabel, QMenu

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from napari.layers import Layer
    from qtpy.QtGui import QContextMenuEvent, QKeyEvent
    from qtpy.QtWidgets import QWidget

    from napari_rada._qt.theme import Colours

Kind: TypeAlias = Literal["info", "warning", "error"]

CLASSES_TOLD = 4
"""Of so many classes a message says how large they are."""
SHOWN = 2
"""So many notices are shown at a time."""
BREAK = "\u200b"
"""Takes no room, and a line may end there."""
ONLY_CROSSINGS = (
    "Marked, but only lines of other slices are painted here, and all around them counts as background; if the "
    "structure reaches this slice, untick it and paint there."
)


class Message(QLabel):
    """One wrapped sentence, hidden when empty, coloured by its kind."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWordWrap(True)
        self.setTextFormat(Qt.TextFormat.RichText)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._sentence = ""
        self._kind: Kind = "info"
        self._layers: list[Layer] = []
        self._colours: Colours | None = None
        self.hide()

    def value(self) -> str:
        """Return the sentence shown; empty if there is none."""
        return self._sentence

    @property
    def is_error(self) -> bool:
        """True while it says what went wrong."""
        return bool(self._sentence) and self._kind == "error"

    def setValue(self, sentence: str, kind: Kind = "info") -> None:
        """Show a sentence; an empty one hides the line."""
        self._sentence, self._kind, self._layers = sentence, kind, []
        self._draw()

    def tellOf(self, layers: Iterable[Layer], sentence: str, kind: Kind = "info") -> None:
        """Show a sentence about layers; it goes with the last of them."""
        self.setValue(sentence, kind)
        self._layers = list(layers)

    def keepOf(self, layers: Container[Layer]) -> None:
        """Hide the line if none of the layers that it tells of is among those that are left."""
        before, self._layers = self._layers, [layer for layer in self._layers if layer in layers]
        if before and not self._layers:
            self.setValue("")

    def takeBack(self, sentence: str) -> None:
        """Hide the line if it still shows this sentence, which is so no longer."""
        if sentence == self._sentence:
            self.setValue("")

    def setColours(self, colours: Colours) -> None:
        """Take the colours of another theme."""
        self._colours = colours
        self._draw()

    def copy(self) -> None:
        """Put what is selected, else the sentence, on the clipboard, as it was before lines were broken."""
        clipboard = QGuiApplication.clipboard()
        assert clipboard is not None
        clipboard.setText(self.selectedText().replace(BREAK, "") or self._sentence)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Copy, or do what a label does."""
        if event is not None and event.matches(QKeySequence.StandardKey.Copy):
            self.copy()
        else:
            super().keyPressEvent(event)

    def contextMenuEvent(self, event: QContextMenuEvent | None) -> None:
        """Offer to copy."""
        if event is not None:
            menu = QMenu(self)
            menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
            menu.addAction("Copy", self.copy)
            menu.popup(event.globalPos())

    def _draw(self) -> None:
        colour = getattr(self._colours, {"info": "text", "warning": "warning", "error": "error"}[self._kind], None)
        style = f' style="color: {colour}"' if colour else ""
        self.setText(f"<span{style}>{escape(breakable(self._sentence))}</span>" if self._sentence else "")
        self.setAccessibleName(self._sentence)
        self.setVisible(bool(self._sentence))


def breakable(text: str) -> str:
    """Let paths and other long words be broken: the longest word of a label is the least width of its dock."""
    return re.sub(r"\S{20,}", lambda word: re.sub(r"[/\\_.-]+|[^/\\_.-]{16}", rf"\g<0>{BREAK}", word[0]), text)


class Notices(Message):
    """What is told one after the other: how the last two begin, and everything when one points there."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._told: list[str] = []

    def add(self, text: str) -> None:
        """Show one more, the first of whose sentences says what happened."""
        self._told.append(text)
        begin = " ".join(told.partition(". ")[0].removesuffix(".") + "." for told in self._told[-SHOWN:])
        self.setValue(begin, "warning")
        self.setToolTip("" if begin == text else "\n".join(self._told))

    def forget(self) -> None:
        """Show nothing of what was told so far."""
        self._told = []
        self.setValue("")
        self.setToolTip("")
