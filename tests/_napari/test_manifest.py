"""The manifest: valid, and every command can be imported."""

from __future__ import annotations

from pathlib import Path

import pytest
from npe2 import PluginManifest

import napari_rada


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    return PluginManifest.from_file(Path(napari_rada.__file__).parent / "napari.yaml")


def test_the_manifest_is_valid(manifest):
    manifest.validate_imports()
    assert manifest.name == "napari-rada"


def test_the_docks_have_their_names_and_lie_in_the_segment_menu(manifest):
    widgets = {widget.display_name: widget.command for widget in manifest.contributions.widgets}
    assert list(widgets) == ["Label slices", "Train", "Predict", "Guidance weights"]
    menu = manifest.contributions.menus["napari/layers/segment"]
    assert [item.command for item in menu] == list(widgets.values())


def test_files_and_sample_are_offered(manifest):
    (reader,) = manifest.contributions.readers
    assert set(reader.filename_patterns) == {"*.nii", "*.nii.gz", "*.tif", "*.tiff"}
    assert {kind for writer in manifest.contributions.writers for kind in writer.layer_types} == {"labels", "image"}
    (sample,) = manifest.contributions.sample_data
    assert sample.display_name == "Synthetic organ (three slices labelled)"
