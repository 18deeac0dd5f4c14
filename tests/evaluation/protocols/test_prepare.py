from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.engine import CENTRE, ball, ball_image

from napari_rada.control import RunControl
from napari_rada.errors import InputError, Stopped
from napari_rada.evaluation.protocols import prepare as module
from napari_rada.evaluation.protocols.definitions import PROTOCOLS
from napari_rada.evaluation.protocols.prepare import Preparation, prepare, prepared
from napari_rada.evaluation.protocols.sources import RawScan, Source, find_sources
from napari_rada.io import read_volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LA = replace(PROTOCOLS["la2018"], patch=(4, 4, 4))
KITS = replace(PROTOCOLS["kits19"], patch=(4, 4, 4))


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source("a", tmp_path / "a", tmp_path / "a")


@pytest.fixture
def small_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MARGIN_VOXELS", 2)


@pytest.mark.usefixtures("small_margin")
def test_a_scan_is_cropped_to_its_structure(source: Source) -> None:
    image, labels, grid = prepared(RawScan(ball_image(ball()), ball() * 255, None), source, Preparation(LA))
    assert labels is not None
    assert image.shape == labels.shape == grid.shape == (17, 17, 17)
    assert grid.spacing == (0.625, 0.625, 0.625)
    assert labels.sum() == ball().sum()
    assert labels[2 + 6, 2 + 6, 2 + 6] == 1
    assert image.dtype == np.float32


@pytest.mark.usefixtures("small_margin")
def test_a_crop_is_at_least_a_patch_where_the_scan_is(source: Source) -> None:
    large = replace(LA, patch=(16, 23, 80))
    image, _, _ = prepared(RawScan(ball_image(ball()), ball(), None), source, Preparation(large))
    assert image.shape == (17, 23, ball().shape[2])


def test_no_crop_on_request_and_without_labels(source: Source) -> None:
    raw = RawScan(ball_image(ball()), ball(), (3.0, 1.0, 1.0))
    image, labels, grid = prepared(raw, source, Preparation(LA, "none"))
    assert image.shape == ball().shape
    assert grid.spacing == (3.0, 1.0, 1.0)
    image, labels, _ = prepared(raw._replace(labels=None), source, Preparation(LA))
    assert (image.shape, labels) == (ball().shape, None)


def test_scans_are_brought_to_one_spacing(source: Source) -> None:
    raw = RawScan(ball_image(ball()), ball() * 2, (2.0, 0.5, 1.0))
    image, labels, grid = prepared(raw, source, Preparation(KITS, "none"))
    assert labels is not None
    assert image.shape == labels.shape == (40, 13, 24)
    assert grid.spacing == (1.0, 1.0, 1.0)
    centre = tuple(np.argwhere(labels).mean(axis=0))
    assert centre == pytest.approx((CENTRE[0] * 2 + 0.5, (CENTRE[1] - 0.5) / 2, CENTRE[2]), abs=0.6)
    assert labels.sum() == pytest.approx(ball().sum(), rel=0.05)


def test_the_voxel_size_can_be_given(source: Source) -> None:
    raw = RawScan(ball_image(ball()), ball(), None)
    _, _, grid = prepared(raw, source, Preparation(LA, "none", (0.9, 0.9, 0.9)))
    assert grid.spacing == (0.9, 0.9, 0.9)


def test_a_scan_without_the_structure_is_told(source: Source) -> None:
    with pytest.raises(InputError, match="holds no left atrium"):
        prepared(RawScan(ball_image(ball()), ball() * 7, None), source, Preparation(LA))


def test_preparation_goes_on_where_it_was_stopped(h5_layout: Callable[[int], Path], tmp_path: Path) -> None:
    sources = find_sources(h5_layout(3), LA)
    out = tmp_path / "prepared"
    out.mkdir()
    control = RunControl()
    with pytest.raises(Stopped):
        prepare(sources, out, Preparation(LA), control=control, listener=lambda _: control.stop())
    prepare(sources[:1], out, Preparation(LA), control=RunControl())
    first = out / "P00_image.nii.gz"
    before = first.stat().st_mtime_ns
    prepare(sources, out, Preparation(LA), control=RunControl())
    assert first.stat().st_mtime_ns == before
    assert {path.name for path in out.glob("*_label.nii.gz")} == {f"P0{n}_label.nii.gz" for n in range(3)}
    np.testing.assert_array_equal(read_volume(out / "P02_label.nii.gz").array, ball())
    with pytest.raises(InputError, match="was prepared in another way"):
        prepare(sources, out, Preparation(LA, "none"), control=RunControl())
