"""The features that guide a run: every prompt encoded once, averaged per network, class and source.

Shape legend: N networks (3), K foreground classes, S sources (region, then text), D length of a feature vector.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from napari_rada.events import Notice, Stage, StageProgress
from napari_rada.guidance.alpha_clip import REGIONS_PER_BATCH
from napari_rada.guidance.regions import region_prompts
from napari_rada.guidance.text import text_prompts

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_rada.config import RunConfig
    from napari_rada.control import RunControl
    from napari_rada.data.case import Case
    from napari_rada.data.classes import ClassTable
    from napari_rada.events import Listener
    from napari_rada.guidance.alpha_clip import AlphaClip
    from napari_rada.guidance.regions import EmptyRegion, RegionPrompt

NETWORKS = 3
SHOWN = 5
"""How many skipped regions a notice names."""


@dataclass(frozen=True, eq=False)
class GuidanceFeatures:
    """What guides the three networks, and where it comes from.

    Parameters
    ----------
    vectors
        (N, K, S, D) float32 of root mean square 1; 0 where a network has no prompt of a class.
    record
        Plain values: source, model, prompts, slices, whether the weights are random.
    """

    vectors: NDArray[np.float32]
    record: dict[str, Any]


def compute_features(
    cases: Sequence[Case],
    classes: ClassTable,
    config: RunConfig,
    encoder: AlphaClip,
    control: RunControl,
    listener: Listener,
) -> GuidanceFeatures:
    """Encode the prompts of all labelled cases together.

    The region feature of a class is, per network, the mean over the slices of the two views that the network is shown;
    the text feature, the mean over the class's prompts, is the same for all three.

    Raises
    ------
    Stopped
        If a stop was requested; looked at before every batch of regions.
    """
    guidance = config.guidance
    parts: list[Tensor] = []
    record: dict[str, Any] = {"source": guidance.source, "model": guidance.model, "random": encoder.random}
    if "region" in guidance.source:
        pairs = guidance.plane_pairs or config.training.view_pairs
        prompts, empty = region_prompts(cases, classes, encoder.size, config.data, guidance)
        encoded_PD = _encode_regions(prompts, encoder, control, listener)
        parts.append(_per_network(prompts, encoded_PD, pairs, len(classes) - 1))
        record |= {"plane_pairs": [list(pair) for pair in pairs], "regions": _listed(prompts, classes)}
        _tell_empty(empty, parts[-1], classes, listener)
    if "text" in guidance.source:
        texts = [text_prompts(info, guidance) for info in classes.classes[1:]]
        parts.append(_encode_texts(texts, encoder).expand(NETWORKS, -1, -1))
        record["text"] = {info.name: list(text) for info, text in zip(classes.classes[1:], texts, strict=True)}
        _tell_untold([info.name for info, text in zip(classes.classes[1:], texts, strict=True) if not text], listener)
    return GuidanceFeatures(torch.stack(parts, dim=2).numpy(), record)


def _encode_regions(
    prompts: Sequence[RegionPrompt], encoder: AlphaClip, control: RunControl, listener: Listener
) -> Tensor:
    encoded = [torch.zeros(0, encoder.length)]
    for start in range(0, len(prompts), REGIONS_PER_BATCH):
        control.check()
        listener(StageProgress(Stage.PREPARE, start, len(prompts), "region prompts"))
        part = prompts[start : start + REGIONS_PER_BATCH]
        images, masks = torch.stack([p.image for p in part]), torch.stack([p.mask for p in part])
        encoded.append(F.normalize(encoder.encode_regions(images, masks), dim=1))
    listener(StageProgress(Stage.PREPARE, len(prompts), len(prompts), "region prompts"))
    return torch.cat(encoded)


def _per_network(
    prompts: Sequence[RegionPrompt], encoded_PD: Tensor, pairs: Sequence[tuple[int, int]], foreground: int
) -> Tensor:
    """Average the regions of each class over the views that each network is shown, (N, K, D)."""
    mean_NKD = torch.zeros(NETWORKS, foreground, encoded_PD.shape[1])
    for network, pair in enumerate(pairs):
        for k in range(foreground):
            chosen = [i for i, p in enumerate(prompts) if p.view in pair and p.class_index == k + 1]
            if chosen:
                mean_NKD[network, k] = encoded_PD[chosen].mean(dim=0)
    return _unit_rms(mean_NKD)


def _encode_texts(texts: Sequence[Sequence[str]], encoder: AlphaClip) -> Tensor:
    """Average the prompts of each class, (K, D); 0 for a class that has none."""
    means = [F.normalize(encoder.encode_text(text), dim=1).sum(dim=0) for text in texts]
    return _unit_rms(torch.stack(means))


def _unit_rms(vectors: Tensor) -> Tensor:
    """Scale vectors to a root mean square of 1, as the pooled image features beside them have; 0 stays 0."""
    return F.normalize(vectors, dim=-1) * math.sqrt(vectors.shape[-1])


def _listed(prompts: Sequence[RegionPrompt], classes: ClassTable) -> list[dict[str, Any]]:
    return [
        {
            "case": prompt.case,
            "slice": [prompt.plane.axis, prompt.plane.index],
            "view": prompt.view,
            "class": classes.classes[prompt.class_index].name,
        }
        for prompt in prompts
    ]


def _tell_empty(empty: Sequence[EmptyRegion], vectors_NKD: Tensor, classes: ClassTable, listener: Listener) -> None:
    """Say which regions were skipped, and which class a network has no region of at all."""
    if empty:
        more = f" and {len(empty) - SHOWN} more" if len(empty) > SHOWN else ""
        shown = "; ".join(str(region) for region in empty[:SHOWN])
        listener(Notice(f"Region prompts were left out where a slice does not show the class: {shown}{more}."))
    for network, vectors_KD in enumerate(vectors_NKD, start=1):
        unseen = [info.name for info, v in zip(classes.classes[1:], vectors_KD, strict=True) if not v.any()]
        if unseen:
            listener(Notice(f"Network {network} gets no region prompt of {', '.join(unseen)}: its slices show none."))


def _tell_untold(names: Sequence[str], listener: Listener) -> None:
    if names:
        listener(
            Notice(
                f"No text prompt for {', '.join(names)}: the name does not say what it is. Name the class, or set "
                "guidance.prompts.VALUE to a sentence about it."
            )
        )
