"""Tiny CLIP models under the published names, so that the real encoders run in milliseconds."""

from __future__ import annotations

import copy
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "ViT-B-16-quickgelu"
TINY = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2},
}


@contextmanager
def architecture(config: dict[str, Any] = TINY, model: str = MODEL) -> Iterator[None]:
    """Let a published name stand for another architecture."""
    from open_clip import factory

    before = factory._MODEL_CONFIGS[model]
    factory._MODEL_CONFIGS[model] = copy.deepcopy(config)
    try:
        yield
    finally:
        factory._MODEL_CONFIGS[model] = before
