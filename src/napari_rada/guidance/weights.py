"""Which weights are at hand: the one question that training asks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_rada.errors import WeightsError
from napari_rada.events import Listener, ignore
from napari_rada.guidance.registry import entries_of
from napari_rada.guidance.store import WeightStore

if TYPE_CHECKING:
    from napari_rada.guidance.registry import WeightEntry

HUB_NAMES = {
    "ViT-B-16-quickgelu": "timm/vit_base_patch16_clip_224.openai",
    "ViT-L-14-quickgelu": "timm/vit_large_patch14_clip_224.openai",
    "ViT-L-14-336-quickgelu": "timm/vit_large_patch14_clip_336.openai",
}
"""Where open_clip takes OpenAI's weights from by default; they are used if it has fetched them already."""
HUB_FILE = "open_clip_model.safetensors"


@dataclass(frozen=True)
class GuidanceWeights:
    """The two files that guidance needs.

    Parameters
    ----------
    model
        open_clip's name of the CLIP model.
    clip
        The whole CLIP model: OpenAI's TorchScript archive (``.pt``), or open_clip's ``.safetensors``.
    alpha
        The vision encoder of Alpha-CLIP: a plain state dict.
    """

    model: str
    clip: Path
    alpha: Path


def find(
    model: str, *, alpha: str | None = None, cache: Path | str | None = None, listener: Listener = ignore
) -> GuidanceWeights | None:
    """Return the weights of a CLIP model if both files are on this machine; downloads nothing.

    A CLIP base that open_clip has fetched into its own caches is used where it lies.

    Parameters
    ----------
    model
        One of `napari_rada.guidance.registry.CLIP_MODELS`.
    alpha
        Name of the Alpha-CLIP file; by default the preferred one of those that are there.
    cache
        The cache folder, if it is not the usual one (see `napari_rada.guidance.store.cache_folder`).
    listener
        Told when a checksum is recorded because none is published.

    Raises
    ------
    WeightsError
        If the model or the file is unknown, or a file is not the one that was published or used before.
    """
    store = WeightStore(cache)
    (clip,) = entries_of(model, "clip")
    choices = [entry for entry in entries_of(model, "alpha") if alpha in (None, entry.name)]
    if not choices:
        raise WeightsError(f"{model} has no Alpha-CLIP weights called {alpha}.")
    base = find_clip(clip, store)
    region = next((entry for entry in choices if store.path(entry).is_file()), None)
    if base is None or region is None:
        return None
    return GuidanceWeights(model, store.trust(clip, base, listener=listener), store.trust(region, listener=listener))


def find_clip(entry: WeightEntry, store: WeightStore) -> Path | None:
    """Return where the CLIP base lies: in the store, or in one of open_clip's caches."""
    for path in (store.path(entry), Path("~/.cache/clip").expanduser() / entry.name):
        if path.is_file():
            return path
    return _in_hub_cache(HUB_NAMES[entry.model])


def _in_hub_cache(repository: str) -> Path | None:
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    found = try_to_load_from_cache(repository, HUB_FILE)
    return Path(found) if isinstance(found, str) else None
