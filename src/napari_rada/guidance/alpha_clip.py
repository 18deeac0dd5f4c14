"""Alpha-CLIP: CLIP with a second patch embedding, for a mask that says where to look (METHOD section 4).

Everything but that embedding is open_clip's ViT, unchanged.

Shape legend: N regions or prompts, H W pixels, S side of the encoder's input, D length of a feature vector.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from napari_rada.errors import ConfigError, InputError, WeightsError
from napari_rada.guidance.checkpoints import Weights, check_fit, named_as_open_clip, read_weights
from napari_rada.guidance.registry import CLIP_MODELS
from napari_rada.guidance.squares import to_square

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
MASK_MEAN, MASK_STD = 0.5, 0.26
REGIONS_PER_BATCH = 4
ALPHA_KEY = "conv1_alpha.weight"


class RegionEmbedding(nn.Module):
    """Patch embedding of three image channels plus that of one mask channel."""

    def __init__(self, conv1: nn.Conv2d) -> None:
        super().__init__()
        self.conv1 = conv1
        self.conv1_alpha = nn.Conv2d(1, conv1.out_channels, conv1.kernel_size, conv1.stride, bias=False)  # type: ignore[arg-type]
        nn.init.zeros_(self.conv1_alpha.weight)

    def forward(self, x_N4SS: Tensor) -> Tensor:
        """Return the patches' embeddings (N, width, rows, columns); the fourth channel is the mask."""
        image, mask = x_N4SS[:, :3].contiguous(), x_N4SS[:, 3:].contiguous()
        embedded: Tensor = self.conv1(image) + self.conv1_alpha(mask)
        return embedded


class AlphaClip:
    """Frozen encoders for regions and texts; make it with `load_alpha_clip`.

    Parameters
    ----------
    clip
        open_clip's model, whose vision encoder takes four channels.
    tokenizer
        open_clip's tokenizer of the same model.
    random
        True if the weights are marked as made up.
    """

    def __init__(self, clip: Any, tokenizer: Any, device: torch.device, *, random: bool) -> None:
        self._clip = clip.eval().requires_grad_(False).to(device)
        self._tokenizer = tokenizer
        self._device = device
        self.random = random

    @property
    def size(self) -> int:
        """Side of the square that the vision encoder sees, in pixels."""
        return int(self._clip.visual.image_size[0])

    @property
    def length(self) -> int:
        """Length D of a feature vector."""
        return int(self._clip.visual.output_dim)

    def encode_regions(self, images: ArrayLike | Tensor, masks: ArrayLike | Tensor) -> Tensor:
        """Encode images, each with a region.

        Parameters
        ----------
        images
            (N, H, W) float in 0..1. Padded with 0 to a square and resampled to the encoder's input, unless
            they have its size already.
        masks
            (N, H, W) bool: the regions.

        Returns
        -------
        torch.Tensor
            (N, D) float32, not normalised.

        Raises
        ------
        InputError
            If the shapes differ or the values are out of range.
        """
        images_NHW, masks_NHW = torch.as_tensor(images).float(), torch.as_tensor(masks)
        _check_regions(images_NHW, masks_NHW)
        features = [torch.zeros(0, self.length)]
        for start in range(0, len(images_NHW), REGIONS_PER_BATCH):
            part = slice(start, start + REGIONS_PER_BATCH)
            image_NSS, mask_NSS = to_square(images_NHW[part], masks_NHW[part], self.size)
            with torch.no_grad():
                features.append(self._clip.visual(as_input(image_NSS, mask_NSS).to(self._device)).float().cpu())
        return torch.cat(features)

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Encode prompts to (N, D) float32, not normalised.

        Raises
        ------
        InputError
            If a prompt is empty or longer than CLIP can read; nothing is cut off silently.
        """
        for prompt in prompts:
            self._check_prompt(prompt)
        if not prompts:
            return torch.zeros(0, self.length)
        with torch.no_grad():
            features: Tensor = self._clip.encode_text(self._tokenizer(list(prompts)).to(self._device))
        return features.float().cpu()

    def _check_prompt(self, prompt: str) -> None:
        if not prompt.strip():
            raise InputError("A text prompt is empty; write what the class is, or leave the class without guidance.")
        room = self._tokenizer.context_length - 2  # one token marks the start, one the end
        tokens = len(self._tokenizer.encode(prompt))
        if tokens > room:
            raise InputError(
                f"The text prompt '{prompt[:60]}…' has {tokens} tokens and CLIP reads at most {room}; shorten it."
            )


def load_alpha_clip(
    model: str,
    *,
    clip_weights: Path | str,
    alpha_weights: Path | str | None = None,
    device: torch.device | str = "cpu",
) -> AlphaClip:
    """Load the encoders.

    Parameters
    ----------
    model
        open_clip's name: ``ViT-B-16-quickgelu``, ``ViT-L-14-quickgelu`` or ``ViT-L-14-336-quickgelu``.
    clip_weights
        A file of OpenAI's CLIP (its TorchScript archive, its state dict, or open_clip's state dict or safetensors), or
        a tag that open_clip knows, such as ``openai``: open_clip then takes it from its cache or downloads it.
    alpha_weights
        A file of Alpha-CLIP's vision encoder. Without it the encoder is CLIP's own and does not see masks.

    Raises
    ------
    ConfigError
        If the model is unknown.
    WeightsError
        If a file cannot be read or does not fit the model; the keys are named.
    """
    if model not in CLIP_MODELS:
        raise ConfigError(f"There is no CLIP model {model!r} for guidance; choose one of {', '.join(CLIP_MODELS)}.")
    import open_clip
    from open_clip.model import CLIP

    path = _clip_file(model, clip_weights)
    with torch.random.fork_rng(devices=[]):  # the weights that open_clip draws are replaced
        clip = CLIP(**open_clip.get_model_config(model))
        embedding = RegionEmbedding(clip.visual.conv1)
    base = read_weights(path)
    check_fit(base.tensors, clip.state_dict(), path)
    clip.load_state_dict(base.tensors)
    clip.visual.conv1 = embedding
    region = Weights({})
    if alpha_weights is not None:
        region = read_weights(alpha_weights)
        _load_regions(clip.visual, named_as_open_clip(region.tensors), alpha_weights)
    random = base.random or region.random
    return AlphaClip(clip, open_clip.get_tokenizer(model), torch.device(device), random=random)


def as_input(image_NSS: Tensor, mask_NSS: Tensor) -> Tensor:
    """Normalise images and masks as Alpha-CLIP was trained and stack them, (N, 4, S, S)."""
    mean, std = (torch.tensor(values)[None, :, None, None] for values in (IMAGE_MEAN, IMAGE_STD))
    rgb = (image_NSS[:, None] - mean) / std
    alpha = (mask_NSS[:, None].float() - MASK_MEAN) / MASK_STD
    return torch.cat([rgb, alpha], dim=1)


def _load_regions(visual: Any, tensors: dict[str, Tensor], path: Path | str) -> None:
    """Put Alpha-CLIP's weights into the vision encoder."""
    nested = {f"conv1.{key}" if key.startswith("conv1") else key: value for key, value in tensors.items()}
    wanted = {
        key.removeprefix("conv1.") if key.startswith("conv1.") else key: v for key, v in visual.state_dict().items()
    }
    check_fit(tensors, wanted, path)
    visual.load_state_dict(nested)


def _clip_file(model: str, weights: Path | str) -> Path:
    """Return the file itself, or that of a tag through open_clip's cache and download."""
    if isinstance(weights, Path) or Path(weights).is_file():
        return Path(weights)
    import open_clip

    tag = open_clip.get_pretrained_cfg(model, weights)
    if not tag:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model))
        raise WeightsError(f"{weights} is neither a file nor a tag of open_clip for {model}; its tags are {tags}.")
    try:
        return Path(open_clip.download_pretrained(tag))
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise WeightsError(
            f"open_clip could not fetch {weights} for {model} ({reason}); download it elsewhere and name the file."
        ) from error


def _check_regions(images_NHW: Tensor, masks_NHW: Tensor) -> None:
    if images_NHW.ndim != 3 or images_NHW.shape != masks_NHW.shape:
        raise InputError(
            f"Images (N, H, W) and masks of the same shape are needed; found {tuple(images_NHW.shape)} and "
            f"{tuple(masks_NHW.shape)}."
        )
    if masks_NHW.dtype is not torch.bool:
        raise InputError(f"Masks must be boolean; found {masks_NHW.dtype}.")
    if images_NHW.numel() and not (images_NHW.min() >= 0 and images_NHW.max() <= 1):  # NaN fails too
        low, high = float(images_NHW.min()), float(images_NHW.max())
        raise InputError(f"Images must lie in 0..1; found {low:g} to {high:g}. Apply an intensity window first.")
