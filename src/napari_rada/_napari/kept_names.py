"""The name under which a Labels layer is kept in files: it lasts, while layers are renamed, and numbered by viewers."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from napari.layers import Labels

from napari_rada._napari.layers import lies_on

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari.layers import Layer

KEPT_KEY = "kept_as"
"""Metadata of a Labels layer: the name under which it is kept, and its unique id, which a copy of it does not have."""


def kept_name(layer: Labels) -> str | None:
    """Return the name under which a layer is kept, None if it has none yet."""
    name, owner = layer.metadata.get(KEPT_KEY, ("", ""))
    return str(name) if owner == str(layer.unique_id) else None


def keep_as(layer: Labels, name: str, layers: Iterable[Layer]) -> None:
    """Keep a layer under this name from now on; another one of `layers` that had it gets a number."""
    others = _others(layer, layers)
    _note(layer, name)
    for other in others:
        if kept_name(other) == name:
            _note(other, _free(name, [layer, *others]))


def name_once(layer: Labels, layers: Iterable[Layer]) -> None:
    """Keep a layer that has no such name yet under its present one, with a number where that is another's."""
    if kept_name(layer) is None:
        _note(layer, _free(str(layer.name), _others(layer, layers)))


def _others(layer: Labels, layers: Iterable[Layer]) -> list[Labels]:
    """Return the other Labels layers on the same voxels: on others a name is no other layer's."""
    labels = [other for other in layers if isinstance(other, Labels)]
    return [other for other in labels if other.unique_id != layer.unique_id and lies_on(layer, other)]


def _free(name: str, layers: Iterable[Labels]) -> str:
    taken = {kept_name(layer) for layer in layers}
    numbered = (f"{name} ({number})" for number in count(2))
    return name if name not in taken else next(other for other in numbered if other not in taken)


def _note(layer: Labels, name: str) -> None:
    layer.metadata[KEPT_KEY] = (name, str(layer.unique_id))
