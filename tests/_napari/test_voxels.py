"""Whether an image still shows the voxels of its file."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image

from napari_rada._napari.layers import grid_of
from napari_rada._napari.voxels import are_as_read, file_holds, note_voxels
from napari_rada.io import write_volume


def test_an_array_is_known_from_one_that_takes_its_place(volume):
    assert are_as_read({}, volume), "nothing is noted"
    metadata = note_voxels(volume)
    image = Image(volume, metadata=metadata)
    assert are_as_read(image.metadata, image.data)
    image.data = image.data.copy()
    assert not are_as_read(image.metadata, image.data)


@pytest.mark.parametrize("shape", [(12, 14, 16), (60, 128, 128)])
def test_a_change_in_place_is_seen(shape):
    voxels = np.random.default_rng(0).normal(size=shape).astype(np.float32)[:, ::-1]
    image = Image(voxels, metadata=note_voxels(voxels))
    image.data[image.data > 1] = 0
    assert image.data is voxels
    assert not are_as_read(image.metadata, image.data)


def test_a_file_holds_what_was_read_from_it(tmp_path, volume):
    volume[0, 0, 0] = np.nan
    write_volume(tmp_path / "scan.nii", volume, grid_of(Image(volume)))
    assert file_holds(tmp_path / "scan.nii", volume)
    assert not file_holds(tmp_path / "scan.nii", volume * 2)
    assert not file_holds(tmp_path / "scan.nii", volume[1:])
    assert not file_holds(tmp_path / "gone.nii", volume)
