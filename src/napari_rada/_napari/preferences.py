"""What a person set for good on the plugin's Preferences page; nothing, where napari is too old to have one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PLUGIN = "napari-rada"


@dataclass(frozen=True)
class Preferences:
    """Defaults of the docks.

    Parameters
    ----------
    device
        As the configuration spells it.
    threads
        CPU threads; None leaves them to the preset.
    cache
        Folder of downloaded weights; None takes the usual one.
    """

    device: str = "auto"
    threads: int | None = None
    cache: Path | None = None


def preferences() -> Preferences:
    """Read the Preferences page as it is now."""
    try:
        from napari.settings import get_plugin_settings
    except ImportError:
        return Preferences()
    try:
        page = get_plugin_settings(PLUGIN).defaults
    except (KeyError, AttributeError):  # the plugin is not installed, or disabled
        return Preferences()
    cache = str(page.cache_folder).strip()
    return Preferences(str(page.device), int(page.threads) or None, Path(cache).expanduser() if cache else None)
