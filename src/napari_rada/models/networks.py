"""The networks that can take one of the three places, and what goes into them.

Shape legend: B batch, C classes, K foreground classes (C - 1), J cues of all classes together, Q cues of one class,
F channels, D H W voxels along (z, y, x).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_rada.models.completer import CUES, FLOOR, TOGETHER, Completer, load_completer
from napari_rada.models.guided import GuidedHead
from napari_rada.models.vnet import Features, VNet, initialise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_rada.settings import Architecture, GuidanceConfig, ModelConfig

IMAGE = CUES.index("image")


class NetworkInput(NamedTuple):
    """What a network sees.

    `image_BDHW` holds intensities in 0..1, `prior_BCDHW` the propagated probability (uniform where nothing is known),
    and `cues_BJDHW` what else the annotated slices say: for a V-Net the nearness to them, which falls from 1 to 0 far
    from all, for a completer its cues, class after class. Networks that work from the image alone ignore the latter
    two.
    """

    image_BDHW: Tensor
    prior_BCDHW: Tensor
    cues_BJDHW: Tensor


def count_cues(architecture: Architecture, num_classes: int) -> int:
    """Return J, the number of cues that networks of an architecture are given."""
    return len(CUES) * (num_classes - 1) if architecture == "completer" else 1


class ViewNetwork(nn.Module, ABC):
    """One of the three networks: features, and logits that are read off them, by guidance as well if it has prompts.

    Attributes
    ----------
    num_classes
        Background included.
    stride
        Voxels per voxel of the bottleneck; inputs are padded to multiples of it.
    """

    def __init__(self, num_classes: int, stride: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.stride = stride
        self.guided: GuidedHead | None = None

    def forward(self, inputs: NetworkInput) -> Tensor:
        """Return logits (B, C, D, H, W)."""
        return self.logits(self.features(inputs), inputs)

    @abstractmethod
    def features(self, inputs: NetworkInput) -> Features:
        """Compute everything up to the head, on the padded input."""

    @abstractmethod
    def scores(self, features: Features) -> Tensor:
        """Return what the plain head reads off the features, (B, C, D, H, W), on the padded input."""

    @abstractmethod
    def base(self, inputs: NetworkInput) -> Tensor | None:
        """Return the logits that the scores correct, (B, C, D, H, W); None if they stand alone."""

    def logits(self, features: Features, inputs: NetworkInput) -> Tensor:
        """Turn features into logits (B, C, D, H, W) on the unpadded input."""
        logits = self.scores(features)
        if self.guided is not None:
            logits = logits + self.guided(features)
        depth, height, width = inputs.image_BDHW.shape[1:]
        logits, base = logits[:, :, :depth, :height, :width], self.base(inputs)
        return logits if base is None else logits + base

    def _padded(self, x_BFDHW: Tensor) -> Tensor:
        pad = [-side % self.stride for side in x_BFDHW.shape[2:]]
        if not any(pad):
            return x_BFDHW
        return F.pad(x_BFDHW, (0, pad[2], 0, pad[1], 0, pad[0]), mode="replicate")


class VNetNetwork(ViewNetwork):
    """A V-Net, from image to logits, or as a correction of the propagation if the configuration says so."""

    def __init__(
        self,
        num_classes: int,
        config: ModelConfig,
        generator: torch.Generator,
        prompts_KSD: Tensor | None = None,
        guidance: GuidanceConfig | None = None,
    ) -> None:
        super().__init__(num_classes, stride=2 ** (len(config.blocks) - 1))
        self.completion = config.completion
        self.vnet = VNet(
            2 + num_classes if self.completion else 1,
            num_classes,
            filters=config.filters,
            blocks=config.blocks,
            norm=config.norm,
            dropout=config.dropout,
        )
        initialise(self.vnet, generator)
        if self.completion:
            nn.init.zeros_(self.vnet.head.weight)
        if prompts_KSD is not None and guidance is not None:
            widest = config.filters * self.stride
            self.guided = GuidedHead(
                prompts_KSD, guidance, bottleneck=widest, decoded=config.filters, generator=generator
            )

    def features(self, inputs: NetworkInput) -> Features:
        """Run the V-Net up to its head."""
        x_BFDHW = inputs.image_BDHW[:, None]
        if self.completion:
            x_BFDHW = torch.cat([x_BFDHW, inputs.prior_BCDHW, inputs.cues_BJDHW], dim=1)
        return self.vnet.features(self._padded(x_BFDHW))

    def scores(self, features: Features) -> Tensor:
        """Return the scores of the V-Net's head."""
        scores: Tensor = self.vnet.head(features.decoded_BCDHW)
        return scores

    def base(self, inputs: NetworkInput) -> Tensor | None:
        """Return the propagation's logits if they are to be corrected."""
        return prior_logits(inputs.prior_BCDHW) if self.completion else None


class CompleterNetwork(ViewNetwork):
    """A completer that goes on learning, from the weights that come with the package.

    It sees one class at a time beside the rest, all with the same weights. Its features are those of all classes, one
    after the other. Asked for a prediction, it takes the mean over the scan and its mirror image, which is steadier.
    """

    def __init__(
        self,
        num_classes: int,
        generator: torch.Generator,
        prompts_KSD: Tensor | None = None,
        guidance: GuidanceConfig | None = None,
    ) -> None:
        trained = load_completer()
        super().__init__(num_classes, stride=trained.stride)
        self.completer = Completer(len(CUES), trained.widths)
        self.completer.load_state_dict(trained.state_dict())
        if prompts_KSD is not None and guidance is not None:
            decoded, *_, widest = (width * (num_classes - 1) for width in trained.widths)
            self.guided = GuidedHead(prompts_KSD, guidance, bottleneck=widest, decoded=decoded, generator=generator)

    def forward(self, inputs: NetworkInput) -> Tensor:
        """Return logits (B, C, D, H, W)."""
        if self.training:
            return super().forward(inputs)
        both = NetworkInput(*(torch.cat([part, part.flip(-3, -2, -1)]) for part in inputs))
        upright, mirrored = super().forward(both).chunk(2)
        return 0.5 * (upright + mirrored.flip(-3, -2, -1))

    def features(self, inputs: NetworkInput) -> Features:
        """Run the completer up to its head, on every class."""
        cues_BKQDHW = self._by_class(inputs.cues_BJDHW).clone()
        cues_BKQDHW[:, :, IMAGE] = 2.0 * inputs.image_BDHW[:, None] - 1.0
        encoded = [self.completer.encode(part) for part in parted(self._padded(cues_BKQDHW.flatten(0, 1)))]
        bottleneck_BFDHW = self._joined(torch.cat([bottleneck for bottleneck, _ in encoded]))
        # What comes after reads the bottleneck that is returned, so that there is a gradient by it.
        bottlenecks = parted(self._by_class(bottleneck_BFDHW).flatten(0, 1))
        decoded = [self.completer.decode(part, skips) for part, (_, skips) in zip(bottlenecks, encoded, strict=True)]
        return Features(bottleneck_BFDHW, self._joined(torch.cat(decoded)))

    def scores(self, features: Features) -> Tensor:
        """Return the corrections of the foreground classes' log-odds, 0 for background."""
        correction = self._joined(self.completer.head(self._by_class(features.decoded_BCDHW).flatten(0, 1)))
        return F.pad(correction, (0, 0, 0, 0, 0, 0, 1, 0))

    def base(self, inputs: NetworkInput) -> Tensor:
        """Return the propagation's logits."""
        return prior_logits(inputs.prior_BCDHW)

    def _by_class(self, values: Tensor) -> Tensor:
        """Take the classes apart: (B, K * F, D, H, W) to (B, K, F, D, H, W)."""
        classes = self.num_classes - 1
        return values.reshape(len(values), classes, values.shape[1] // classes, *values.shape[2:])

    def _joined(self, values: Tensor) -> Tensor:
        """Put the classes one after the other: (B * K, F, D, H, W) to (B, K * F, D, H, W)."""
        classes = self.num_classes - 1
        return values.reshape(len(values) // classes, classes * values.shape[1], *values.shape[2:])


def parted(samples: Tensor) -> list[Tensor]:
    """Split a batch as a processor computes it best: two samples at a time, three last of an odd number.

    Graphics cards take the batch as a whole.
    """
    if samples.device.type in ("cuda", "mps") or len(samples) < 2 * TOGETHER:
        return [samples]
    parts = len(samples) // TOGETHER
    return list(torch.split(samples, [TOGETHER] * (parts - 1) + [len(samples) - TOGETHER * (parts - 1)]))


def make_network(
    num_classes: int,
    config: ModelConfig,
    generator: torch.Generator,
    prompts_KSD: Tensor | None = None,
    guidance: GuidanceConfig | None = None,
) -> ViewNetwork:
    """Build one network; with prompts (K, S, D) it is guided."""
    if config.architecture == "completer":
        return CompleterNetwork(num_classes, generator, prompts_KSD, guidance)
    return VNetNetwork(num_classes, config, generator, prompts_KSD, guidance)


def make_reference(num_classes: int, config: ModelConfig) -> CompleterNetwork | None:
    """Build what completers begin as, with weights that do not learn; None for networks that begin from nothing."""
    if config.architecture != "completer":
        return None
    return CompleterNetwork(num_classes, torch.Generator()).requires_grad_(False)


def prior_logits(prior_BCDHW: Tensor) -> Tensor:
    """Turn the propagated probability into finite logits."""
    return prior_BCDHW.clamp(FLOOR, 1.0).log()


def begun_as(prior: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the probability (C, …) that networks which complete a propagation begin with: the prior, never quite 0."""
    begun: NDArray[np.float32] = np.maximum(prior, np.float32(FLOOR)).astype(np.float32)
    begun /= begun.sum(axis=0)
    return begun
