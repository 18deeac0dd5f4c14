"""The Preferences page, and doing without one."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from npe2 import PluginManifest

from napari_rada._napari.preferences import Preferences, preferences

settings = pytest.importorskip("napari.settings")


def set_page(monkeypatch, **values) -> None:
    page = SimpleNamespace(defaults=SimpleNamespace(**values))
    monkeypatch.setattr(settings, "get_plugin_settings", lambda name: {"napari-rada": page}[name], raising=False)


def test_the_page_is_read(monkeypatch):
    set_page(monkeypatch, device="cpu", threads=3, cache_folder=" /data/cache ")
    assert preferences() == Preferences("cpu", 3, Path("/data/cache"))
    set_page(monkeypatch, device="auto", threads=0, cache_folder="")
    assert preferences() == Preferences()


def test_without_a_page_there_are_defaults(monkeypatch):
    monkeypatch.setattr(settings, "get_plugin_settings", lambda name: {}[name], raising=False)
    assert preferences() == Preferences()
    monkeypatch.setitem(sys.modules, "napari.settings", SimpleNamespace())
    assert preferences() == Preferences()


def test_the_manifest_declares_what_is_read():
    contributions = PluginManifest.from_distribution("napari-rada").contributions
    pages = getattr(contributions, "configurations", None)
    if not pages or isinstance(pages, list):
        pytest.skip("this npe2 has no Preferences pages")
    assert set(pages["defaults"].properties) == {"device", "threads", "cache_folder"}
