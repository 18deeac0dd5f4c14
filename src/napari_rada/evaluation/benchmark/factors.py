"""What an ablation switches: for each factor its levels, as the settings that make them. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

Levels: TypeAlias = Mapping[str, Mapping[str, Any]]

AXIAL, CORONAL, SAGITTAL = 0, 1, 2
"""A view is named by the array axis that its slices are perpendicular to."""

_REQUIRED = {"guidance.mode": "required"}


def _shown(*pair: int) -> dict[str, Any]:
    return {"guidance.plane_pairs": [list(pair)] * 3, **_REQUIRED}


FACTORS: dict[str, Levels] = {
    "guidance": {
        "none": {"guidance.source": "none"},
        "text": {"guidance.source": "text", **_REQUIRED},
        "region": {"guidance.source": "region", **_REQUIRED},
        "region+text": {"guidance.source": "region+text", **_REQUIRED},
    },
    "planes": {
        "as taught": {"guidance.plane_pairs": None, **_REQUIRED},
        "axial+sagittal": _shown(AXIAL, SAGITTAL),
        "axial+coronal": _shown(AXIAL, CORONAL),
        "coronal+sagittal": _shown(CORONAL, SAGITTAL),
    },
    "beta": {
        "0": {"training.cross.beta_max": 0.0},
        "0.05": {"training.cross.beta_max": 0.05},
        "0.1": {"training.cross.beta_max": 0.1},
        "0.2": {"training.cross.beta_max": 0.2},
        "0.1 linear": {"training.cross.beta_max": 0.1, "training.cross.schedule": "linear"},
        "0.1 constant": {"training.cross.beta_max": 0.1, "training.cross.schedule": "constant"},
    },
    "propagation": {
        "combined": {"propagation.method": "combined"},
        "diffusion": {"propagation.method": "diffusion"},
        "flow": {"propagation.method": "flow"},
        "registration": {"propagation.method": "registration"},
        "none": {"training.pseudo_weight": 0.0},
    },
    "views": {
        "1": {"model.networks": 1},
        "2": {"model.networks": 2},
        "3": {"model.networks": 3},
    },
}
"""`guidance`: what guides the networks. `planes`: which annotated planes every network is shown as region prompts.
`beta`: largest weight of cross supervision and how it is reached. `propagation`: where pseudo-labels come from.
`views`: how many of the three networks, each with its pair of views, take part."""
