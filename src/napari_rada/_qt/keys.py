"""Keys that belong to the viewer although the focus is in a list of a dock."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qtpy.QtGui import QKeyEvent


def is_typed(event: QKeyEvent) -> bool:
    """Tell whether a key writes a character, such as napari's keys for its tools and those of the docks.

    Qt looks for such characters in lists and tables, and would choose what begins with them.
    """
    return event.text().isprintable() and bool(event.text().strip())
