"""Which weight files a run uses: those that its settings name, or those in the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from napari_rada.errors import ConfigError, WeightsError
from napari_rada.events import ignore
from napari_rada.guidance.weights import find

if TYPE_CHECKING:
    from pathlib import Path

    from napari_rada.events import Listener
    from napari_rada.settings import GuidanceConfig


class GuidanceFiles(NamedTuple):
    """The weights of CLIP, and of Alpha-CLIP unless only texts are encoded."""

    clip: Path
    alpha: Path | None


def find_files(config: GuidanceConfig, listener: Listener = ignore) -> GuidanceFiles | None:
    """Return the weight files, or None where nothing guides or they are not there; downloads nothing.

    Raises
    ------
    ConfigError
        If only one of the two files that are needed is named.
    WeightsError
        If a named file does not exist, a file is not the one that was published or used before, or none is there
        and `guidance.mode` is `required`.
    """
    if config.source == "none":
        return None
    if config.clip_weights is not None or config.alpha_weights is not None:
        return _named(config)
    found = find(config.model, cache=config.cache, listener=listener)
    if found is not None:
        return GuidanceFiles(found.clip, found.alpha)
    if config.mode == "required":
        raise WeightsError(
            f"The weights of {config.model} and its Alpha-CLIP are not here and guidance.mode is required; fetch them "
            "with `napari-rada weights download`, or name files by guidance.clip_weights and guidance.alpha_weights."
        )
    return None


def _named(config: GuidanceConfig) -> GuidanceFiles:
    if config.clip_weights is None or (config.alpha_weights is None and "region" in config.source):
        missing = "clip_weights" if config.clip_weights is None else "alpha_weights"
        raise ConfigError(f"guidance.{missing} is not set; name both weight files, or none to use the cache.")
    for path in (config.clip_weights, config.alpha_weights):
        if path is not None and not path.is_file():
            raise WeightsError(f"The weight file {path} does not exist; check the path.")
    return GuidanceFiles(config.clip_weights, config.alpha_weights)
