"""What is done when Qt deletes an object."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtCore import QObject

_actions: set[Callable[[], None]] = set()
"""What waits for a deletion. Python's garbage collector would take it together with the Python side of an object that
Qt has yet to delete, and Qt would then call what is no longer there."""


def when_deleted(owner: QObject, action: Callable[[], None]) -> None:
    """Have something done when Qt deletes an object, however it comes to that.

    Parameters
    ----------
    action
        Must not hold the object, which would never be collected otherwise.
    """

    def act() -> None:
        _actions.discard(act)
        action()

    _actions.add(act)
    owner.destroyed.connect(act)
