"""The weight files that guidance can use: where they are published, under which terms, and how to know them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from napari_rada.errors import WeightsError

Kind: TypeAlias = Literal["clip", "alpha"]

CLIP_MODELS = ("ViT-B-16-quickgelu", "ViT-L-14-quickgelu", "ViT-L-14-336-quickgelu")
"""The CLIP models by open_clip's names, smallest first."""

CLIP_LICENCE = "MIT (OpenAI CLIP; its model card asks for research use)"
ALPHA_LICENCE = "research use only (Alpha-CLIP; trained on GRIT, CC BY-NC 4.0)"
_CLIP_HOST = "https://openaipublic.azureedge.net/clip/models"
_ALPHA_HOST = "https://download.openxlab.org.cn/models/SunzeY/AlphaCLIP/weight"


@dataclass(frozen=True)
class WeightEntry:
    """One published file.

    Parameters
    ----------
    name
        File name, unique in the registry.
    kind
        ``clip``: a whole CLIP model; ``alpha``: the vision encoder of Alpha-CLIP, which goes on top of one.
    model
        open_clip's name of the CLIP model that the file belongs to.
    url
        Where it is published.
    licence, used_for
        One line each, shown before anything is downloaded.
    about_bytes
        Roughly how large the file is, for that same question.
    size_bytes, sha256
        Exactly, as the publisher states it; None if he does not.
    """

    name: str
    kind: Kind
    model: str
    url: str
    licence: str
    used_for: str
    about_bytes: int
    size_bytes: int | None = None
    sha256: str | None = None

    @property
    def host(self) -> str:
        """The server that is asked."""
        return urlsplit(self.url).netloc

    @property
    def size_text(self) -> str:
        """The size in MB, with "about" if it is not known exactly."""
        size, exact = (self.about_bytes, False) if self.size_bytes is None else (self.size_bytes, True)
        return f"{'' if exact else 'about '}{size / 1e6:,.0f} MB"


def _clip(model: str, name: str, sha256: str, megabytes: int) -> WeightEntry:
    """Describe a file of OpenAI's, the one that open_clip takes for its tag ``openai``: the URL holds the checksum."""
    url, used_for = f"{_CLIP_HOST}/{sha256}/{name}", "text prompts, and the base of the region encoder"
    return WeightEntry(name, "clip", model, url, CLIP_LICENCE, used_for, megabytes * 10**6, sha256=sha256)


def _alpha(model: str, name: str, trained_on: str, megabytes: int) -> WeightEntry:
    used_for = f"region prompts; trained on {trained_on}"
    return WeightEntry(name, "alpha", model, f"{_ALPHA_HOST}/{name}", ALPHA_LICENCE, used_for, megabytes * 10**6)


_B16, _L14, _L14_336 = CLIP_MODELS
REGISTRY: tuple[WeightEntry, ...] = (
    _clip(_B16, "ViT-B-16.pt", "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f", 351),
    _alpha(_B16, "clip_b16_grit20m_fultune_2xe.pth", "GRIT-20M", 346),
    _alpha(_B16, "clip_b16_grit+mim_fultune_4xe.pth", "GRIT-1M and ImageNet crops", 346),
    _alpha(_B16, "clip_b16_grit1m_fultune_8xe.pth", "GRIT-1M", 346),
    _clip(_L14, "ViT-L-14.pt", "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836", 933),
    _alpha(_L14, "clip_l14_grit20m_fultune_2xe.pth", "GRIT-20M", 1217),
    _alpha(_L14, "clip_l14_grit+mim_fultune_6xe.pth", "GRIT-1M and ImageNet crops", 1217),
    _alpha(_L14, "clip_l14_grit1m_fultune_8xe.pth", "GRIT-1M", 1217),
    _clip(_L14_336, "ViT-L-14-336px.pt", "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02", 934),
    _alpha(_L14_336, "clip_l14_336_grit_20m_4xe.pth", "GRIT-20M", 1219),
    _alpha(_L14_336, "clip_l14_336_grit1m_fultune_8xe.pth", "GRIT-1M", 1219),
)
"""Every file. Among those of one model and kind the first is preferred. The sizes of Alpha-CLIP's are estimated: four
bytes for each weight of the vision encoder."""


def entry_named(name: str) -> WeightEntry:
    """Return the file of that name.

    Raises
    ------
    WeightsError
        If the registry has none.
    """
    for entry in REGISTRY:
        if entry.name == name:
            return entry
    known = ", ".join(entry.name for entry in REGISTRY)
    raise WeightsError(f"There are no weights called {name}; choose one of {known}.")


def entries_of(model: str, kind: Kind) -> tuple[WeightEntry, ...]:
    """Return the files of a CLIP model, the preferred one first.

    Raises
    ------
    WeightsError
        If the model is not one of `CLIP_MODELS`.
    """
    if model not in CLIP_MODELS:
        raise WeightsError(f"There is no CLIP model {model!r} for guidance; choose one of {', '.join(CLIP_MODELS)}.")
    return tuple(entry for entry in REGISTRY if entry.model == model and entry.kind == kind)
