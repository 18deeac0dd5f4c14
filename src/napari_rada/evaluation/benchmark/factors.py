"""What an ablation switches: for each factor its levels, as the settings that make them. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

Levels: TypeAlias = Mapping[str, Mapping[str, Any]]

FACTORS: dict[str, Levels] = {
    "beta": {
        "0": {"training.cross.beta_max": 0.0},
        "0.05": {"training.cross.beta_max": 0.05},
        "0.1": {"training.cross.beta_max": 0.1},
        "0.2": {"training.cross.beta_max": 0.2},
    },
    "propagation": {
        "diffusion": {"propagation.method": "diffusion"},
        "registration": {"propagation.method": "registration"},
        "none": {"training.pseudo_weight": 0.0},
    },
    "views": {
        "1": {"model.networks": 1},
        "2": {"model.networks": 2},
        "3": {"model.networks": 3},
    },
}
"""`beta`: largest weight of cross supervision. `propagation`: where pseudo-labels come from. `views`: how many of the
three networks, each with its pair of views, take part."""
