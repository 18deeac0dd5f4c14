"""Keys of the docks: bound to the viewer, left alone where napari or the user has them for something else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.settings import get_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari.components import ViewerModel

PLANES = ("Shift-Z", "Shift-Y", "Shift-X")
"""Turn to slices perpendicular to array axis 0, 1, 2."""
MARK = "Shift-M"
PROPAGATE = "Shift-G"
COPY = "Shift-C"
COPY_PREVIEW = "Shift-D"
NEXT = "Shift-B"
SUGGEST = "Shift-S"
ACCEPT = "Shift-E"


def with_key(tip: str, key: str) -> str:
    """Add a key to a tool tip."""
    return f"{tip} ({key.replace('-', '+')})"


def bind_keys(viewer: ViewerModel, actions: Mapping[str, Callable[[], None]]) -> Callable[[], None]:
    """Bind keys that are free; returns a function that lets them go."""
    taken = {str(key).replace("+", "-") for keys in get_settings().shortcuts.shortcuts.values() for key in keys}
    bound = [key for key in actions if key not in taken]
    for key in bound:
        viewer.bind_key(key, _press(actions[key]), overwrite=True)

    def release() -> None:
        for key in bound:
            viewer.bind_key(key, None)

    return release


def _press(action: Callable[[], None]) -> Callable[[object], None]:
    def pressed(viewer: object) -> None:
        del viewer
        action()

    return pressed
