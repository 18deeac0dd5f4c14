"""Guidance of one run: settled at its start, kept in the run folder, the same for as long as the run lives."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_rada.durable import RESUME, write_text, written_whole
from napari_rada.errors import RunFolderError
from napari_rada.events import Notice
from napari_rada.guidance.features import GuidanceFeatures, compute_features
from napari_rada.guidance.files import find_files
from napari_rada.models.device import resolve_device
from napari_rada.models.guided import Guide
from napari_rada.models.triple_view import guide_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_rada.config import RunConfig
    from napari_rada.control import RunControl
    from napari_rada.data.case import Case
    from napari_rada.data.classes import ClassTable
    from napari_rada.events import Listener
    from napari_rada.guidance.files import GuidanceFiles
    from napari_rada.settings import GuidanceConfig
    from napari_rada.training.checkpoint import Checkpoint
    from napari_rada.training.run_folder import RunFolder

BUILT = ("source", "model", "reduction", "width", "controller")
"""The settings that decide how the guided head is built."""


def prepare_guide(
    folder: RunFolder,
    cases: Sequence[Case],
    classes: ClassTable,
    config: RunConfig,
    checkpoint: Checkpoint | None,
    control: RunControl,
    listener: Listener,
) -> Guide | None:
    """Return what guides a run, or None; decided once, then read from its folder.

    Parameters
    ----------
    checkpoint
        The weights from which the run goes on. Networks that were trained without guidance stay without it; guided
        ones keep their prompts if the encoders' weights are no longer there.

    Raises
    ------
    Stopped
        If a stop was requested while prompts were encoded.
    WeightsError
        If a weight file cannot be used.
    RunFolderError
        If what the folder holds is damaged or cannot be written.
    """
    if config.guidance.source == "none":
        return None
    if not folder.guidance_file.is_file():
        before = guide_in(checkpoint.model, config.guidance) if checkpoint else None
        if checkpoint is not None and before is None:
            _decide_against(folder, "the networks were trained without guidance")
        elif (files := find_files(config.guidance, listener)) is not None:
            _compute(folder, cases, classes, config, files, control, listener)
        elif before is not None:
            _keep(folder, before, listener)
        else:
            _do_without(folder, config.guidance, listener)
    features = load_features(folder)
    return None if features is None else Guide(torch.from_numpy(features.vectors), config.guidance)


def load_features(folder: RunFolder) -> GuidanceFeatures | None:
    """Read the features that guide a run; None if nothing does.

    Raises
    ------
    RunFolderError
        If they are missing or damaged.
    """
    record = _record(folder)
    if record.get("source", "none") == "none":
        return None
    try:
        with np.load(folder.features_file, allow_pickle=False) as content:
            vectors = content["vectors"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        raise RunFolderError(f"{folder.features_file} is missing or damaged; restore it, or start a new run.") from None
    return GuidanceFeatures(vectors, record)


def describe_guidance(folder: RunFolder) -> str:
    """Say in a few words what guides a run; empty if nothing does."""
    record = _record(folder) if folder.guidance_file.is_file() else {}
    source = str(record.get("source", "none"))
    if source == "none":
        return ""
    return f"{source} by {record.get('model')}{' with random weights' if record.get('random') else ''}"


def built_alike(config: GuidanceConfig, other: GuidanceConfig) -> bool:
    """Tell whether both settings build the same guided head."""
    return all(getattr(config, name) == getattr(other, name) for name in BUILT)


def _compute(
    folder: RunFolder,
    cases: Sequence[Case],
    classes: ClassTable,
    config: RunConfig,
    files: GuidanceFiles,
    control: RunControl,
    listener: Listener,
) -> None:
    from napari_rada.guidance.alpha_clip import load_alpha_clip

    control.check()
    encoder = load_alpha_clip(
        config.guidance.model, clip_weights=files.clip, alpha_weights=files.alpha, device=resolve_device(config.device)
    )
    features = compute_features(cases, classes, config, encoder, control, listener)
    weights = {"clip_weights": str(files.clip), "alpha_weights": None if files.alpha is None else str(files.alpha)}
    _save(folder, GuidanceFeatures(features.vectors, features.record | weights))
    listener(Notice(f"The networks are guided by {describe_guidance(folder)}."))
    if encoder.random:
        listener(
            Notice("The guidance weights are random: the run shows that the program works, not what guidance does.")
        )
    if _shows_what_judges(config):
        listener(
            Notice(
                "guidance.plane_pairs shows networks the slices by which they are judged; Dice while training is "
                "then no longer on what they have not seen."
            )
        )


def _keep(folder: RunFolder, guide: Guide, listener: Listener) -> None:
    record = {"source": guide.config.source, "model": guide.config.model, "kept": True}
    _save(folder, GuidanceFeatures(guide.prompts_NKSD.cpu().numpy(), record))
    listener(Notice("The guidance weights are not here; the networks keep the prompts of the run that they continue."))


def _do_without(folder: RunFolder, config: GuidanceConfig, listener: Listener) -> None:
    _decide_against(folder, f"the weights of {config.model} and its Alpha-CLIP are not here")
    listener(
        Notice(
            f"Training without guidance: the weights of {config.model} and its Alpha-CLIP are not here. "
            "`napari-rada weights download` fetches them; guidance.source=none asks for no guidance."
        )
    )


def _decide_against(folder: RunFolder, reason: str) -> None:
    write_text(folder.guidance_file, json.dumps({"source": "none", "reason": reason}, indent=2), RunFolderError, RESUME)


def _save(folder: RunFolder, features: GuidanceFeatures) -> None:
    """Write the features, then the record, which tells that they are complete."""
    with written_whole(folder.features_file, RunFolderError, RESUME) as temporary:
        np.savez(temporary, vectors=features.vectors)
    text = json.dumps(features.record, indent=2, ensure_ascii=False)
    write_text(folder.guidance_file, text, RunFolderError, RESUME)


def _record(folder: RunFolder) -> dict[str, Any]:
    try:
        content = json.loads(folder.guidance_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise RunFolderError(f"{folder.guidance_file} is damaged; restore it, or start a new run.")
    return content


def _shows_what_judges(config: RunConfig) -> bool:
    """Tell whether a network is shown a view that it is not taught, by whose slices it is judged."""
    pairs = config.guidance.plane_pairs
    if pairs is None or "region" not in config.guidance.source:
        return False
    return any(set(shown) - set(taught) for shown, taught in zip(pairs, config.training.view_pairs, strict=True))
