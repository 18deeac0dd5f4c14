"""How much memory a run will need, before it starts.

What the networks keep for the backward pass is counted on PyTorch's meta device, which computes shapes and no values:
nothing of that size is allocated. What allocators waste, and a GPU's own overhead, is not in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import torch

from napari_rada.config import as_config
from napari_rada.data.case import as_cases, check_trainable
from napari_rada.data.working import grid_factors
from napari_rada.memory import free_memory, in_words
from napari_rada.models.device import autocasts, learns_in_bfloat16, resolve_device
from napari_rada.models.networks import NetworkInput, count_cues
from napari_rada.models.triple_view import TripleViewModel
from napari_rada.training.plan import plan, teaching_scans

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_rada.config import RunConfig
    from napari_rada.data.case import Case
    from napari_rada.training.plan import Scan

FLOAT = 4
"""Bytes of a float32."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a run needs at its peak, and bytes that are free now.

    Parameters
    ----------
    device
        Where the networks are: ``cpu``, ``cuda``, ``mps``.
    networks
        Training on that device: weights, gradients, optimiser, activations of one batch.
    volumes
        The scans in main memory, for training or for the prediction of one, whichever is more.
    free_device
        Free on the device; that of main memory where it has none of its own.
    free_main
        Free in main memory.
    """

    device: str
    networks: int
    volumes: int
    free_device: int
    free_main: int

    @property
    def fits(self) -> bool:
        """True if both needs can be met now."""
        if self.device == "cuda":
            return self.networks <= self.free_device and self.volumes <= self.free_main
        return self.networks + self.volumes <= self.free_main

    def __str__(self) -> str:
        """One sentence for the user."""
        if self.device == "cuda":
            text = (
                f"Training needs about {in_words(self.networks)} on the graphics card ({in_words(self.free_device)} "
                f"free) and {in_words(self.volumes)} of main memory ({in_words(self.free_main)} free)"
            )
        else:
            need = in_words(self.networks + self.volumes)
            text = f"Training needs about {need} of main memory ({in_words(self.free_main)} free)"
        return f"{text}." if self.fits else f"{text}: too much; it will be tried with less, which is slower."


def estimate_memory(cases: Iterable[Case] | Case, config: RunConfig | str | None = None) -> MemoryEstimate:
    """Estimate the memory that `napari_rada.train` would need with these cases and settings.

    Parameters
    ----------
    cases
        As for `napari_rada.train`.
    config
        As for `napari_rada.train`, which plans patch and grid first; so does this.

    Raises
    ------
    InputError
        If the cases cannot teach anything.
    ConfigError
        If the networks could not learn with these settings, or the configured device cannot be used here.
    """
    cases = as_cases(cases)
    classes, config = check_trainable(cases), plan(cases, as_config(config))
    return planned_memory(teaching_scans(cases, config), len(classes), config)


def planned_memory(scans: Sequence[Scan], num_classes: int, config: RunConfig) -> MemoryEstimate:
    """Estimate the memory of a run with settings that were planned.

    Parameters
    ----------
    scans
        All that networks learn from, at least one.
    num_classes
        Background included.

    Raises
    ------
    ConfigError
        If the configured device cannot be used here.
    """
    device = resolve_device(config.device)
    free = free_memory()
    on_device = int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else free
    needs = _networks(num_classes, config, device), _volumes(scans, num_classes, config)
    return MemoryEstimate(device.type, *needs, on_device, free)


def _networks(num_classes: int, config: RunConfig, device: torch.device) -> int:
    """Bytes of weights, gradients, optimiser and activations."""
    training = config.training
    model = TripleViewModel(num_classes, config.model, config.seed).to("meta")
    count = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    copies = 2 + (2 if training.optimiser.kind == "adamw" else 1)
    batch = training.labelled_patches + training.unlabelled_patches
    shape = (batch, *training.patch)
    inputs = NetworkInput(
        torch.empty(shape, device="meta"),
        torch.empty((batch, num_classes, *training.patch), device="meta"),
        torch.empty((batch, count_cues(config.model.architecture, num_classes), *training.patch), device="meta"),
    )
    kept, largest = _activations(model, inputs)
    mixed = training.bfloat16 and learns_in_bfloat16(device, training.patch[0], model.stride)
    share = 0.5 if autocasts(device, cpu=mixed) else 1.0
    voxels = prod(shape)
    losses = 4 * len(model.networks) * voxels * num_classes * FLOAT  # logits, softmaxes and their gradients
    targets = voxels * (8 + 1 + 3 * 8 + 3 * FLOAT)  # truth, views, pseudo-labels and distances of a batch
    return int(count * copies * FLOAT + share * (kept + 2 * largest) + losses + targets)


def _activations(model: TripleViewModel, inputs: NetworkInput) -> tuple[int, int]:
    """Bytes that the backward pass keeps, each storage once, and of the largest; weights are not counted."""
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}  # noqa: SLF001
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:  # noqa: SLF001 - meta tensors have no other identity
            kept[storage._cdata] = storage  # noqa: SLF001
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(inputs)
    sizes = [storage.nbytes() for storage in kept.values()]
    return sum(sizes), max(sizes)


def _volumes(scans: Sequence[Scan], num_classes: int, config: RunConfig) -> int:
    """Bytes of all scans as they are trained on, or of the prediction of the largest, whichever is more."""
    data = config.data
    shapes = [scan.grid.shape for scan in scans]
    if data.spacing is not None:
        factors = (grid_factors(scan.scanned, scan.grid.spacing, None, data.spacing) for scan in scans)
        working = [-(-prod(scan.scanned) // prod(factor)) for scan, factor in zip(scans, factors, strict=True)]
    else:
        limits = (data.voxels_with(scan.showing) for scan in scans)
        sizes = (prod(scan.scanned) for scan in scans)
        working = [size if limit is None else min(size, limit) for size, limit in zip(sizes, limits, strict=True)]
    labelled = 4 + 2 + 1 + 3 * (2 + 4)  # image, truth, views, pseudo-labels and their distances
    cues = count_cues(config.model.architecture, num_classes)
    completion = 4 * (num_classes + cues) * 2 if config.model.completion else 0
    full = max(prod(shape) for shape in shapes)
    networks = config.model.networks
    edges = config.inference.edge_aware  # needs the image, and what is found beside what was there
    grids = 3 if config.data.working_aligned or edges else 2  # of two alignments there is a sum beside what is added
    mixed = config.model.completion or config.inference.blend < 1.0  # networks lie beside what is pooled
    begun = config.model.completion and config.inference.corrections  # beside them what they began with
    maps = (grids + 2 * mixed + begun) * num_classes + 2 + edges
    predicted = max(working) * num_classes * FLOAT * (2 * networks + 2) + full * FLOAT * maps
    return sum(prod(shape) for shape in shapes) * (FLOAT + 2) + max(sum(working) * (labelled + completion), predicted)
