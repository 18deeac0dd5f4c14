"""From annotated slices to dense pseudo-labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_rada.propagation.combined import CombinedPropagator
from napari_rada.propagation.diffusion import DiffusionPropagator
from napari_rada.propagation.flow import FlowPropagator
from napari_rada.propagation.registration import RegistrationPropagator
from napari_rada.settings import CombinedConfig, FlowConfig, RegistrationConfig

if TYPE_CHECKING:
    from napari_rada.propagation.base import Propagator, Shared
    from napari_rada.settings import PropagationConfig


def make_propagator(
    config: PropagationConfig, threads: int | None = None, shared: Shared | None = None, focus: int | None = None
) -> Propagator:
    """Return the propagator that a configuration asks for.

    Parameters
    ----------
    threads
        Systems that diffusion solves at the same time; None takes as many as torch has threads.
    shared
        What several opinions on another grid of the same scan left for this one.
    focus
        Index of the only class that is wanted, where less has to be computed for it; None for all.

    Raises
    ------
    MissingDependencyError
        If the way needs a package that is not installed.
    """
    if isinstance(config, RegistrationConfig):
        return RegistrationPropagator(config)
    if isinstance(config, FlowConfig):
        return FlowPropagator(config)
    threads = threads or torch.get_num_threads()
    if isinstance(config, CombinedConfig):
        return CombinedPropagator(config, threads, shared, focus=focus)
    return DiffusionPropagator(config, threads)
