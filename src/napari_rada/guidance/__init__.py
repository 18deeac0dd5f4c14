"""Region and text guidance: weight files, encoders, prompts.

The names below are loaded when they are first used: looking for weights loads neither torch nor open_clip.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_rada.guidance.alpha_clip import AlphaClip, load_alpha_clip

__all__ = ["AlphaClip", "load_alpha_clip"]


def __getattr__(name: str) -> object:
    """Load a public name when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.alpha_clip"), name)
