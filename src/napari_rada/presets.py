"""The named presets, as the settings in which they differ from the defaults of `napari_rada.config`."""

from __future__ import annotations

from typing import Any

# A minute or two on two CPU cores: pre-trained networks adapt to one scan, seen whole on a coarse, cropped grid.
_ONE_SCAN: dict[str, Any] = {
    "data": {
        "max_voxels": 150_000,
        "usual_slices": 3,
        "crop_margin": 0.25,
        "aligned": True,
        "close_ups": True,
    },
    "model": {
        "architecture": "completer",
        "filters": 8,
        "blocks": (1, 2, 2, 2),
        "norm": "instance",
        "dropout": 0.0,
        "completion": True,
    },
    "training": {
        "iterations": 20,
        "labelled_patches": 2,
        "unlabelled_patches": 0,
        "self_training": True,
        "patch_voxels": 250_000,
        "learning_rate": 1e-3,
        "optimiser": {"kind": "adamw"},
        "decay": {"kind": "cosine", "warmup": 0.25},
        "cross": {"noisy_passes": 0, "on_labelled": True},
        "alpha_every": 1000,
        "pseudo_weight": 0.05,
        "validate_every": 10,
        "bfloat16": True,
    },
    "inference": {
        "overlap": 0.25,
        "tiles_per_batch": 4,
        "blend": 0.5,
        "corrections": True,
        "keep_size": True,
        "edge_aware": True,
    },
}

# Half an hour on two CPU cores that have bfloat16, more than an hour on others: networks that see the image alone,
# nearly all of a scan at once, on one grid for all.
_COHORT: dict[str, Any] = {
    "data.max_voxels": 400_000,
    "data.crop_margin": None,
    "data.propagation_voxels": 150_000,
    "model.architecture": "vnet",
    "model.completion": False,
    "model.filters": 12,
    "training.iterations": 1800,
    "training.patch_voxels": 210_000,
    "training.learning_rate": 5e-3,
    "training.augment": "deform",
    "training.cross.beta_max": 0.2,
    "training.cross.schedule": "linear",
    "training.pseudo_weight": 1.0,
    "training.decay.warmup": 0.05,
    "training.validate_every": 150,
    "inference.blend": 0.2,
    "inference.corrections": False,
}

PRESETS: dict[str, dict[str, Any]] = {
    "quick": _ONE_SCAN,
    "standard": _ONE_SCAN,
    # METHOD section 5 of the paper: one setting for its three data sets.
    "paper": {"data": {"max_voxels": None}, "propagation": {"method": "registration"}},
}

COHORT: dict[str, dict[str, Any]] = {
    "quick": _COHORT,
    # More than twice the time: scans without labels teach, too.
    "standard": {**_COHORT, "training.unlabelled_patches": 1},
    "paper": {},
}
"""The settings of each preset for more than one case, by their dotted names."""
