"""hyperparameters: every setting of a preset with its value and where that value comes from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from napari_rada.presets import PRESETS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from napari_rada.cli.console import Console
    from napari_rada.config import RunConfig
    from napari_rada.control import RunControl

Source: TypeAlias = Literal["paper", "lineage", "ours"]

ORIGINS: dict[str, tuple[Source, str]] = {
    "preset": ("ours", "the name"),
    "cohort": ("ours", "True in a run of several scans"),
    "seed": ("ours", "the papers state none"),
    "device": ("ours", "as the machine allows"),
    "threads": ("ours", "as the machine allows"),
    "data.max_voxels": ("paper", "scans are not coarsened"),
    "data.usual_slices": ("paper", "scans are not coarsened"),
    "data.spacing": ("paper", "none that all scans are brought to"),
    "data.orientation": ("ours", "scans of one data set lie alike"),
    "data.crop_margin": ("ours", "scans are used as they are given"),
    "data.propagation_voxels": ("paper", "on the grid of the networks"),
    "data.close_ups": ("paper", "on the grid of the scans"),
    "data.aligned": ("paper", "on the grid of the scans"),
    "data.percentiles": ("ours", ""),
    "data.window": ("ours", "set one for CT"),
    "data.non_finite": ("ours", ""),
    "propagation.method": ("paper", "registration with ANTs"),
    "propagation.transform": ("lineage", "ANTs, deformable"),
    "propagation.alpha": ("paper", "the trust at the start also fuses the views"),
    "model.architecture": ("lineage", "V-Net"),
    "model.filters": ("lineage", "V-Net"),
    "model.blocks": ("lineage", "V-Net, four downsamplings"),
    "model.networks": ("paper", "three networks, three views"),
    "model.norm": ("lineage", ""),
    "model.dropout": ("lineage", "at the bottleneck and before the head"),
    "model.completion": ("paper", "off: networks see the image alone; on is ours"),
    "model.prior_dropout": ("ours", "without completion it does nothing"),
    "training.iterations": ("paper", ""),
    "training.minutes": ("ours", "no time budget"),
    "training.labelled_patches": ("paper", "batch of 4"),
    "training.unlabelled_patches": ("paper", "batch of 4"),
    "training.self_training": ("paper", "networks teach each other on unlabelled volumes"),
    "training.patch": ("paper", "of LA2018; KiTS19 has 128x128x64, LiTS 176x176x64"),
    "training.patch_voxels": ("ours", "the patch is given"),
    "training.learning_rate": ("paper", ""),
    "training.weight_decay": ("paper", ""),
    "training.optimiser.kind": ("paper", ""),
    "training.optimiser.momentum": ("paper", ""),
    "training.decay.kind": ("paper", ""),
    "training.decay.factor": ("paper", ""),
    "training.decay.every": ("paper", ""),
    "training.decay.minimum": ("paper", ""),
    "training.cross.beta_max": ("lineage", "the paper says that β is dynamic"),
    "training.cross.schedule": ("lineage", "0.1 rampup(t / 150, 40)"),
    "training.cross.noisy_passes": ("lineage", "T"),
    "training.cross.noise": ("lineage", "clamped to twice that"),
    "training.cross.on_labelled": ("paper", "on unlabelled volumes"),
    "training.alpha": ("paper", ""),
    "training.alpha_every": ("paper", "cosine"),
    "training.view_pairs": ("lineage", "S+C, S+A, C+A"),
    "training.pseudo_weight": ("ours", "trust alone weighs a pseudo-label"),
    "training.centred": ("paper", "random crop"),
    "training.augment": ("paper", "quarter turns and flips"),
    "training.bfloat16": ("ours", "precision is not stated"),
    "training.compile": ("ours", "changes rounding only"),
    "training.cuda_graph": ("ours", "changes rounding only"),
    "training.log_every": ("ours", "changes no result"),
    "training.validate_every": ("ours", "chooses best.pt"),
    "training.checkpoint_seconds": ("ours", "changes no result"),
    "guidance.source": ("paper", "text alone is the lineage's"),
    "guidance.mode": ("ours", "the paper always has weights: required is exact"),
    "guidance.model": ("ours", "the size is not settled by the text that we have"),
    "guidance.cache": ("ours", "as the machine allows"),
    "guidance.clip_weights": ("ours", "from the cache"),
    "guidance.alpha_weights": ("ours", "from the cache"),
    "guidance.plane_pairs": ("ours", "orthogonal pairs (paper), each network's own (ours)"),
    "guidance.window": ("ours", "that of data"),
    "guidance.templates": ("lineage", ""),
    "guidance.prompts": ("ours", "none beside the class table's"),
    "guidance.reduction": ("paper", "adapter"),
    "guidance.width": ("paper", "projection"),
    "guidance.controller": ("paper", "512-256-128-64-8"),
    "inference.overlap": ("ours", "the paper overlaps and does not say how much"),
    "inference.tiles_per_batch": ("ours", "changes no result"),
    "inference.corrections": ("paper", "its networks complete nothing"),
    "inference.keep_size": ("paper", "the networks say what is there"),
    "inference.edge_aware": ("ours", "networks see the scan's own grid"),
    "inference.largest_part": ("ours", "parts are not mentioned"),
    "inference.blend": ("paper", "the mean of the networks alone"),
    "inference.keep_annotated": ("ours", "test scans have no annotation"),
}
"""Where every value of the preset `paper` comes from, and a word about it, which is shown for other presets, too, where
they have the same value.

Paper: RADA. Lineage: what it builds on, where its text leaves a value open. Ours: what we chose.
"""


@dataclass(frozen=True)
class Row:
    """One setting: its dotted name, its value, where the value comes from, and a word about it."""

    setting: str
    value: Any
    source: Source
    note: str


def add_hyperparameters(commands: Any, command: Callable[[Any, str, str, str], argparse.ArgumentParser]) -> None:
    """Add the command's arguments."""
    text = "Print every setting of a preset with its value and its source: paper, lineage or ours."
    parser = command(commands, "hyperparameters", "hyperparameters:hyperparameters", text)
    parser.add_argument("--preset", choices=tuple(PRESETS), default="paper", help="which preset (%(default)s)")
    parser.add_argument(
        "--set",
        metavar="K=V",
        action="append",
        default=[],
        dest="settings",
        help="change a setting; cohort=true shows what the preset has for several scans",
    )


def hyperparameters(args: argparse.Namespace, console: Console, control: RunControl) -> bool:
    """Print the table."""
    from napari_rada.cli.chosen_config import config_from

    found = rows(config_from(args))
    console.result({"hyperparameters": [asdict(row) for row in found]}, as_table(found))
    return True


def rows(config: RunConfig) -> list[Row]:
    """List all settings; a value that differs from that of the preset `paper` is ours."""
    from napari_rada.config import RunConfig

    paper = dict(leaves(RunConfig.from_preset("paper").model_dump(mode="json")))
    found = []
    for setting, value in leaves(config.model_dump(mode="json")):
        published = setting in paper and paper[setting] == value
        source, note = ORIGINS[setting] if published else ("ours", "")
        found.append(Row(setting, value, source, note))
    return found


def leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Walk through nested settings, (dotted name, value); an empty group is a value."""
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{name}.")
        else:
            yield name, value


def as_table(found: list[Row]) -> str:
    """Write rows as aligned text under a heading."""
    cells = [("setting", "value", "source", "note"), *((r.setting, str(r.value), r.source, r.note) for r in found)]
    widths = [max(len(line[column]) for line in cells) for column in range(3)]
    return "\n".join(
        "  ".join([*(text.ljust(width) for text, width in zip(line[:3], widths, strict=True)), line[3]]).rstrip()
        for line in cells
    )
