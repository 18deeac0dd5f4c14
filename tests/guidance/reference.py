"""CLIP in plain float64 numpy, written from the papers: what the encoders are compared with.

Vision: Dosovitskiy et al. 2021 and Radford et al. 2021; the second patch embedding: Sun et al. 2023 (Alpha-CLIP).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

HEAD = 64
"""Channels per attention head in every CLIP ViT."""


def normalised(x: Array, weight: Array, bias: Array) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * weight + bias


def attention(x: Array, w: Mapping[str, Array], causal: bool) -> Array:
    tokens, width = x.shape
    q, k, v = np.split(x @ w["attn.in_proj_weight"].T + w["attn.in_proj_bias"], 3, axis=-1)
    out = np.empty_like(x)
    for first in range(0, width, HEAD):
        head = slice(first, first + HEAD)
        scores = q[:, head] @ k[:, head].T / np.sqrt(HEAD)
        if causal:
            scores = np.where(np.tri(tokens, dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        out[:, head] = weights / weights.sum(-1, keepdims=True) @ v[:, head]
    return out @ w["attn.out_proj.weight"].T + w["attn.out_proj.bias"]


def block(x: Array, w: Mapping[str, Array], causal: bool) -> Array:
    x = x + attention(normalised(x, w["ln_1.weight"], w["ln_1.bias"]), w, causal)
    hidden = normalised(x, w["ln_2.weight"], w["ln_2.bias"]) @ w["mlp.c_fc.weight"].T + w["mlp.c_fc.bias"]
    hidden = hidden / (1 + np.exp(-1.702 * hidden))  # QuickGELU
    return x + hidden @ w["mlp.c_proj.weight"].T + w["mlp.c_proj.bias"]


def below(weights: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def blocks(x: Array, weights: Mapping[str, Array], prefix: str, causal: bool) -> Array:
    number = 0
    while inner := below(weights, f"{prefix}resblocks.{number}."):
        x, number = block(x, inner, causal), number + 1
    assert number
    return x


def patches(image: Array, kernel: Array) -> Array:
    """Embed the patches of (channels, S, S) by (width, channels, p, p), to (patches, width)."""
    channels, side, _ = image.shape
    p = kernel.shape[-1]
    rows = side // p
    cut = image.reshape(channels, rows, p, rows, p).transpose(1, 3, 0, 2, 4).reshape(rows * rows, -1)
    return cut @ kernel.reshape(len(kernel), -1).T


def region_features(image: Array, mask: Array, visual: Mapping[str, Array]) -> Array:
    """Features (D,) of an image (S, S) in 0..1 with a mask (S, S), by weights in float64 under open_clip's names."""
    mean = np.array([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = np.array([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    tokens = patches((image[None] - mean) / std, visual["conv1.weight"])
    tokens = tokens + patches((mask[None] - 0.5) / 0.26, visual["conv1_alpha.weight"])
    x = np.concatenate([visual["class_embedding"][None], tokens]) + visual["positional_embedding"]
    x = normalised(x, visual["ln_pre.weight"], visual["ln_pre.bias"])
    x = blocks(x, visual, "transformer.", causal=False)
    return normalised(x[0], visual["ln_post.weight"], visual["ln_post.bias"]) @ visual["proj"]


def text_features(tokens: NDArray[np.int64], clip: Mapping[str, Array]) -> Array:
    """Features (D,) of a token sequence (77,); the last token of the text has the largest number."""
    x = clip["token_embedding.weight"][tokens] + clip["positional_embedding"]
    x = blocks(x, clip, "transformer.", causal=True)
    x = normalised(x, clip["ln_final.weight"], clip["ln_final.bias"])
    return x[int(tokens.argmax())] @ clip["text_projection"]
