from __future__ import annotations

import io as streams
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
import tifffile

from napari_rada import io
from napari_rada.errors import InputError
from napari_rada.io import limits

if TYPE_CHECKING:
    from pathlib import Path

DATA = np.arange(60, dtype=np.int16).reshape(3, 4, 5)


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "scan.tif"])
def test_a_volume_that_does_not_fit_into_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / name
    if name == "scan.tif":
        tifffile.imwrite(path, DATA, photometric="minisblack")
    else:
        nib.save(nib.Nifti1Image(DATA, np.eye(4)), path)
    monkeypatch.setattr(limits, "free_memory", lambda: 119)
    with pytest.raises(InputError, match="holds 120 bytes of voxels and 119 bytes of memory are free; crop or down"):
        io.read_volume(path)
    monkeypatch.setattr(limits, "free_memory", lambda: 120)
    assert io.read_volume(path).array.size == 60


def test_real_extensions_are_read(tmp_path: Path) -> None:
    for image_class in (nib.Nifti1Image, nib.Nifti2Image):
        image = image_class(DATA, np.eye(4))
        for length in (3, 40, 7000):
            image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * length))
        for name in ("scan.nii", "scan.nii.gz"):
            nib.save(image, tmp_path / name)
            np.testing.assert_array_equal(io.read_volume(tmp_path / name).array, DATA.T)


def test_an_extension_of_an_odd_length_is_read_without_a_word(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(DATA, np.eye(4)), tmp_path / "scan.nii")
    content = bytearray((tmp_path / "scan.nii").read_bytes())
    struct.pack_into("<f", content, 108, 384.0)
    extension = struct.pack("<ii", 30, 6).ljust(32, b"\0")
    (tmp_path / "scan.nii").write_bytes(bytes(content[:348]) + b"\1\0\0\0" + extension + bytes(content[352:]))
    code = "import sys; from napari_rada import load_case; print(load_case(sys.argv[1]).image.sum())"
    command = [sys.executable, "-c", code, str(tmp_path / "scan.nii")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    assert (float(done.stdout), done.stderr) == (DATA.sum(), "")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("length", [-1, 0, 7, 33, 2**31 - 1])
def test_an_extension_is_as_long_as_the_space_for_it(order: str, length: int) -> None:
    content = bytearray(384)
    struct.pack_into(f"{order}i", content, 0, 348)
    struct.pack_into(f"{order}f", content, 108, 384.0)
    struct.pack_into(f"{order}i", content, 352, length)
    limits.check_front(streams.BytesIO(content))  # the flag says that there are no extensions
    content[348] = 1
    with pytest.raises(ValueError, match=f"a header extension is said to have {length} bytes"):
        limits.check_front(streams.BytesIO(content))
    struct.pack_into(f"{order}i", content, 352, 32)
    limits.check_front(streams.BytesIO(content))


def test_a_few_bytes_behind_the_voxels_are_ignored(tmp_path: Path) -> None:
    import gzip

    nib.save(nib.Nifti1Image(DATA, np.eye(4)), tmp_path / "scan.nii")
    content = (tmp_path / "scan.nii").read_bytes() + b"rest"
    (tmp_path / "scan.nii.gz").write_bytes(gzip.compress(content))
    np.testing.assert_array_equal(io.read_volume(tmp_path / "scan.nii.gz").array, DATA.T)
