"""From annotated slices to dense pseudo-labels."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from napari_rada.propagation.diffusion import DiffusionPropagator

if TYPE_CHECKING:
    from napari_rada.config import DiffusionConfig
    from napari_rada.propagation.base import Propagator


def make_propagator(config: DiffusionConfig, threads: int | None = None) -> Propagator:
    """Return the propagator that a configuration asks for; `threads` None takes all cores."""
    return DiffusionPropagator(config, threads or os.cpu_count() or 1)
