"""Going through cases one after the other, with progress that is told and a stop that is heeded."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from napari_rada.events import Listener, Stage, StageProgress, ignore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_rada.control import RunControl

T = TypeVar("T")


def told(
    items: Sequence[T], names: Sequence[str], control: RunControl | None = None, listener: Listener = ignore
) -> Iterator[tuple[int, T]]:
    """Yield every item with its position; before each its name is told as part of the preparation.

    A single one is over soon: nothing is told of it, and a stop is left to what comes next.

    Raises
    ------
    Stopped
        If a stop was requested and there are several.
    """
    if len(items) == 1:
        yield 0, items[0]
        return
    for position, (item, name) in enumerate(zip(items, names, strict=True)):
        if control is not None:
            control.check()
        listener(StageProgress(Stage.PREPARE, position, len(items), name))
        yield position, item
    listener(StageProgress(Stage.PREPARE, len(items), len(items)))
