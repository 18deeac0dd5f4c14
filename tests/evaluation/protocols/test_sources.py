from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
from tests.engine import ball
from tests.evaluation.protocols.conftest import scan

from napari_rada.errors import InputError
from napari_rada.evaluation.protocols.definitions import PROTOCOLS, protocol
from napari_rada.evaluation.protocols.sources import Source, find_sources, read_source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LA, KITS, LITS = (PROTOCOLS[name] for name in ("la2018", "kits19", "lits"))


def test_the_preprocessed_form(h5_layout: Callable[[int], Path]) -> None:
    sources = find_sources(h5_layout(3), LA)
    assert [source.name for source in sources] == ["P00", "P01", "P02"]
    raw = read_source(sources[0])
    assert raw.spacing is None
    assert raw.labels is not None
    np.testing.assert_array_equal(raw.labels, ball())


def test_a_scan_of_the_preprocessed_form_without_labels_is_an_unlabelled_one(
    h5_layout: Callable[[int], Path],
) -> None:
    h5py, folder = pytest.importorskip("h5py"), h5_layout(3)
    with h5py.File(folder / "P01" / "mri_norm2.h5", "a") as file:
        del file["label"]
    (folder / "P02" / "mri_norm2.h5").write_bytes(b"not hdf5")
    found = find_sources(folder, LA)
    assert [source.labels is None for source in found] == [False, True, False], "a damaged one is told when it is read"
    assert read_source(found[1]).labels is None


def test_the_archive_of_la2018(tmp_path: Path) -> None:
    nrrd = pytest.importorskip("nrrd", reason="pynrrd is not installed: pip install pynrrd")
    image, labels = scan(0)
    for name in ("A1", "A2"):
        (tmp_path / "Training Set" / name).mkdir(parents=True)
        nrrd.write(str(tmp_path / "Training Set" / name / "lgemri.nrrd"), image)
        nrrd.write(str(tmp_path / "Training Set" / name / "laendo.nrrd"), labels * 255)
    sources = find_sources(tmp_path, LA)
    assert [source.name for source in sources] == ["A1", "A2"]
    raw = read_source(sources[0])
    assert raw.labels is not None
    np.testing.assert_array_equal(raw.labels == 255, ball() == 1)


def test_kits_is_turned_so_that_z_is_axial(kits_layout: Path) -> None:
    sources = find_sources(kits_layout, KITS)
    assert [source.name for source in sources] == [f"case_{n:05d}" for n in range(4)]
    raw = read_source(sources[0])
    assert raw.image.shape == ball().shape
    assert raw.spacing == (2.0, 1.0, 1.0)
    assert raw.labels is not None
    assert set(np.unique(raw.labels)) == {0, 1, 2}
    assert raw.image[raw.labels > 0].mean() > 80


def test_lits_in_two_folders(tmp_path: Path) -> None:
    image, labels = scan(0)
    for folder, numbers in (("Batch 1", (0, 10)), ("Batch 2", (2,))):
        (tmp_path / folder).mkdir()
        for number in numbers:
            nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / folder / f"volume-{number}.nii")
            nib.save(nib.Nifti1Image(labels, np.eye(4)), tmp_path / folder / f"segmentation-{number}.nii")
    (tmp_path / "Batch 2" / "volume-5.nii").write_bytes(b"no labels")
    assert [source.name for source in find_sources(tmp_path, LITS)] == ["000", "002", "010"]
    (tmp_path / "Batch 2" / "volume-10.nii.gz").write_bytes(b"")
    with pytest.raises(InputError, match=r"volume-10.nii.* are the same scan; name a folder that holds each once"):
        find_sources(tmp_path, LITS)


def test_pairs_and_what_their_folders_say(tmp_path: Path) -> None:
    image, labels = scan(0)
    for folder, name in (("labeled", "a"), ("unlabeled", "b"), ("validation", "c")):
        (tmp_path / folder).mkdir()
        nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / folder / f"{name}_image.nii.gz")
        if folder != "unlabeled":
            nib.save(nib.Nifti1Image(labels, np.eye(4)), tmp_path / folder / f"{name}_label.nii.gz")
    sources = find_sources(tmp_path, LA)
    assert [(s.name, s.role, s.labels is not None) for s in sources] == [
        ("a", "labelled", True),
        ("b", "unlabelled", False),
        ("c", "test", True),
    ]
    assert read_source(sources[1]).labels is None


def test_what_cannot_be_used(tmp_path: Path, h5_layout: Callable[[int], Path]) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        find_sources(tmp_path / "absent", LA)
    with pytest.raises(InputError, match="no scans of KiTS19 kidney in a known layout"):
        find_sources(tmp_path, KITS)
    with pytest.raises(InputError, match="no protocol acdc; choose among la2018, kits19, lits"):
        protocol("acdc")
    h5_layout(1)
    damaged = tmp_path / "h5" / "P00" / "mri_norm2.h5"
    damaged.write_bytes(b"not hdf5")
    with pytest.raises(InputError, match=r"mri_norm2.h5 cannot be read"):
        read_source(Source("P00", damaged, damaged))
    for folder in ("x", "y"):
        (tmp_path / "twice" / folder).mkdir(parents=True)
        (tmp_path / "twice" / folder / "a_image.nii.gz").write_bytes(b"")
    with pytest.raises(InputError, match="more than one scan called a"):
        find_sources(tmp_path / "twice", LA)


def test_labels_of_another_shape(tmp_path: Path) -> None:
    image, labels = scan(0)
    nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / "a_image.nii.gz")
    nib.save(nib.Nifti1Image(labels[1:], np.eye(4)), tmp_path / "a_label.nii.gz")
    with pytest.raises(InputError, match="two equal 3D volumes are needed"):
        read_source(find_sources(tmp_path, LA)[0])


def test_labels_that_lie_elsewhere(tmp_path: Path) -> None:
    image, labels = scan(0)
    nib.save(nib.Nifti1Image(image, np.diag([-1.0, -1.0, 1.0, 1.0])), tmp_path / "a_image.nii.gz")
    nib.save(nib.Nifti1Image(labels, np.eye(4)), tmp_path / "a_label.nii.gz")
    with pytest.raises(InputError, match=r"a_label.nii.gz does not lie where .*a_image.nii.gz lies"):
        read_source(find_sources(tmp_path, LA)[0])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("scan.nii.gz", b"version https://git-lfs.github.com/spec/v1"),
        ("scan.nii", bytes(400)),
        ("scan.nrrd", b"NRRD0004\ntype: float\ndimension: 3\nsizes: 4 4 4\nencoding: raw\n\n"),
    ],
)
def test_damaged_scans_are_one_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    if name.endswith("nrrd"):
        pytest.importorskip("nrrd", reason="pynrrd is not installed")
    with pytest.raises(InputError, match="cannot be read"):
        read_source(Source("scan", path, None))
