"""Made-up weights with the names and shapes of the published ones: to try and to test guidance without them.

They are marked as random, and whatever is computed with them says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_rada.guidance.weights import GuidanceWeights

if TYPE_CHECKING:
    from pathlib import Path

ALPHA_SCALE = 0.02


def save_random_weights(model: str, folder: Path, seed: int = 0) -> GuidanceWeights:
    """Write a CLIP and an Alpha-CLIP checkpoint of random half-precision values into an existing folder.

    Parameters
    ----------
    model
        open_clip's name of the CLIP model; ViT-B/16 takes about 500 MB, ViT-L/14 about 1.5 GB.
    """
    import open_clip
    from open_clip.model import CLIP

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        clip = CLIP(**open_clip.get_model_config(model))
        patches = clip.visual.conv1.weight
        alpha = torch.randn(patches.shape[0], 1, *patches.shape[2:]) * ALPHA_SCALE
    whole = {key: value.half() for key, value in clip.state_dict().items()}
    regions = {key.removeprefix("visual."): value for key, value in whole.items() if key.startswith("visual.")}
    regions = {key.replace(".in_proj_", ".in_proj."): value for key, value in regions.items()}
    regions["conv1_alpha.weight"] = alpha.half()
    files = GuidanceWeights(model, folder / f"random_{model}_clip.pt", folder / f"random_{model}_alpha.pth")
    torch.save({"state_dict": whole, "random": True}, files.clip)
    torch.save({"state_dict": regions, "random": True}, files.alpha)
    return files
