"""The named presets, as the settings in which they differ from the defaults of `napari_rada.config`."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # Minutes on two CPU cores: small networks correct the propagation of one scan on a coarse, cropped grid.
    # One thread: with more, threads that wait for each other made a busy two-core machine several times slower.
    "quick": {
        "threads": 1,
        "data": {"max_voxels": 300_000, "crop_margin": 0.25},
        "model": {"filters": 8, "blocks": (1, 2, 2, 2), "norm": "instance", "dropout": 0.0, "completion": True},
        "training": {
            "iterations": 80,
            "labelled_patches": 1,
            "unlabelled_patches": 1,
            "patch": (32, 48, 48),
            "learning_rate": 3e-3,
            "optimiser": {"kind": "adamw"},
            "decay": {"kind": "cosine"},
            "cross": {"noisy_passes": 0},
            "alpha_every": 1000,
            "centred": 0.7,
            "validate_every": 40,
        },
        "inference": {"overlap": 0.25, "tiles_per_batch": 4, "blend": 0.5},
    },
    # One GPU: the lineage's networks correct the propagation at full resolution.
    "standard": {
        "data": {"max_voxels": 8_000_000, "crop_margin": 0.25},
        "model": {"norm": "instance", "dropout": 0.2, "completion": True},
        "training": {
            "iterations": 3000,
            "patch": (64, 96, 96),
            "learning_rate": 1e-3,
            "optimiser": {"kind": "adamw"},
            "decay": {"kind": "cosine"},
            "cross": {"noisy_passes": 2},
            "alpha_every": 500,
            "centred": 0.5,
            "log_every": 10,
        },
        "inference": {"blend": 0.5},
    },
    # METHOD section 5 of the paper: one setting for its three data sets.
    "paper": {"data": {"max_voxels": None}, "propagation": {"method": "registration"}},
}

COHORT: dict[str, dict[str, Any]] = {
    # Minutes on two CPU cores: networks that see the image alone, nearly all of a scan at once, on a grid for all.
    "quick": {
        "data.max_voxels": 400_000,
        "data.crop_margin": None,
        "model.filters": 12,
        "training.iterations": 300,
        "training.patch_voxels": 210_000,
        "training.learning_rate": 5e-3,
        "training.augment": "deform",
        "training.cross.beta_max": 0.2,
        "training.cross.schedule": "linear",
        "training.centred": 0.0,
        "training.validate_every": 150,
        "training.bfloat16": True,
    },
    "standard": {"data.crop_margin": None, "training.augment": "deform"},
    "paper": {},
}
"""The settings of each preset for more than one case, by their dotted names."""
