"""Three networks of one architecture, each for another pair of views.

Shape legend: B batch, C classes, N networks (3), D H W voxels along (z, y, x).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from napari_rada.memory import keep_within_card
from napari_rada.models.guided import BUFFER, Guide, prompts_in
from napari_rada.models.networks import make_network, make_reference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_rada.models.networks import NetworkInput
    from napari_rada.settings import GuidanceConfig, ModelConfig

NUM_VIEWS = 3


class TripleViewModel(nn.Module):
    """The three networks, guided by prompts if there is a guide.

    Attributes
    ----------
    reference
        The completer as it comes with the package, where networks go on learning from its weights; else None. The
        propagation has weighed its opinion already, so what it would add is taken away again: untrained, the networks
        say what the propagation says.
    """

    def __init__(self, num_classes: int, config: ModelConfig, seed: int = 0, guide: Guide | None = None) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.completion = config.completion
        generators = [torch.Generator().manual_seed(seed * NUM_VIEWS + view) for view in range(config.networks)]
        # torch draws every layer's weights once from the global generator before ours are drawn.
        with torch.random.fork_rng(devices=[]):
            self.networks = nn.ModuleList(
                make_network(num_classes, config, generator, *_part(guide, view))
                for view, generator in enumerate(generators)
            )
            self.reference = make_reference(num_classes, config)
        self.stride: int = self.networks[0].stride  # type: ignore[assignment]
        self.memory_format = torch.contiguous_format
        """Of weights and inputs; see `place_on`."""

    def forward(self, inputs: NetworkInput, networks: Sequence[int] | None = None) -> Tensor:
        """Return the logits of the chosen networks, by default all, on the same input: (N, B, C, D, H, W)."""
        chosen = range(len(self.networks)) if networks is None else networks
        return self.corrected(torch.stack([self.networks[network](inputs) for network in chosen]), inputs)

    def corrected(self, logits_NBCDHW: Tensor, inputs: NetworkInput) -> Tensor:
        """Take from the networks' own logits what the reference adds to the propagation."""
        if self.reference is None:
            return logits_NBCDHW
        with torch.no_grad():
            added_BCDHW: Tensor = self.reference(inputs) - self.reference.base(inputs)
        return logits_NBCDHW - added_BCDHW

    def place_on(self, device: torch.device) -> TripleViewModel:
        """Move to a device, and to the memory format that is fast there; returns the model itself.

        That is `channels_last_3d`, but with instance normalisation on a graphics card, where PyTorch copies its input
        into the usual format, and the next convolution copies it back (pytorch#59168, pytorch#72341). On Apple's it is
        the usual format, since layers gave wrong results or crashed in the other (pytorch#141471, pytorch#190645).
        """
        keep_within_card(device)
        copies = device.type == "cuda" and any(isinstance(layer, nn.InstanceNorm3d) for layer in self.modules())
        usual = copies or device.type == "mps"
        self.memory_format = torch.contiguous_format if usual else torch.channels_last_3d
        return self.to(device).to(memory_format=self.memory_format)

    def moved_to(self, device: torch.device) -> TripleViewModel:
        """Return the model itself, placed on another device if it is not there already."""
        return self if next(self.parameters()).device == device else self.place_on(device)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take over trained weights; the prompts stay those of this model's guide.

        Raises
        ------
        RuntimeError
            If the weights are those of networks that are built differently.
        """
        own = {name: values for name, values in self.state_dict().items() if name.endswith(f".{BUFFER}")}
        self.load_state_dict({**weights, **own})


def guide_in(weights: Mapping[str, Tensor], config: GuidanceConfig) -> Guide | None:
    """Return the guide that lies among a model's weights, or None if it has none."""
    prompts = prompts_in(weights, NUM_VIEWS)
    return None if prompts is None else Guide(prompts, config)


def _part(guide: Guide | None, network: int) -> tuple[Tensor | None, GuidanceConfig | None]:
    return (None, None) if guide is None else (guide.prompts_NKSD[network], guide.config)
