from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import napari_rada as rada
from napari_rada.control import RunControl
from napari_rada.errors import InputError
from napari_rada.io.lazy import open_lazy
from napari_rada.outofcore.plan import FOLDER, Plan, chunk_of, load_plan, unit_of
from napari_rada.outofcore.steps import Order, Site, commonest

if TYPE_CHECKING:
    from pathlib import Path


def make_plan(shape: tuple[int, int, int], spacing: tuple[float, float, float], chunk: int) -> Plan:
    return Plan("", "", shape, spacing, ((0, 0, 0), shape), (1, 1, 1), 0.0, 1.0, 0.0, chunk, shape, "")


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [4, 4]},
        {"shape": ["4", "4", "4"]},
        {"unit": [0, 4, 4]},
        {"factors": [1.0, 1.0, 1.0]},
        {"chunk": 1},
        {"chunk": 10**9},
        {"spacing": [0.0, 1.0, 1.0]},
        {"low": float("nan")},
        {"high": "1"},
        {"probability": None},
        {"shape": 3},
        {"box": [[0, 0, 0], [4, 4, 5]]},
        {"box": [[2, 0, 0], [2, 4, 4]]},
        {"box": [[0, 0], [4, 4]]},
        {"box": [[0, 0, 0.5], [4, 4, 4]]},
        {"box": 3},
    ],
)
def test_a_plan_of_a_stranger_is_not_believed(tmp_path: Path, change: dict[str, Any]) -> None:
    out = tmp_path / "out.zarr"
    make_plan((4, 4, 4), (1.0, 1.0, 1.0), 16).save(out)
    assert load_plan(out) == make_plan((4, 4, 4), (1.0, 1.0, 1.0), 16)
    path = out / FOLDER / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match="is damaged, the prediction cannot be gone on with"):
        load_plan(out)


def test_the_commonest_label_of_a_block_wins_and_of_equals_the_first() -> None:
    labels = np.zeros((2, 2, 3), dtype=np.uint8)
    labels[..., 0] = 7
    labels[0, 0, 1] = 7
    labels[..., 2] = [[1, 1], [2, 2]]
    np.testing.assert_array_equal(commonest(labels, (2, 2, 2)), [[[7, 1]]])
    np.testing.assert_array_equal(commonest(labels, (1, 1, 1)), labels)
    assert commonest(labels, (2, 1, 2)).shape == (1, 2, 2)


def test_levels_make_voxels_rounder_and_end_in_one_chunk() -> None:
    levels = make_plan((40, 400, 400), (4.0, 1.0, 1.0), 64).levels()
    assert [shape for shape, _, _ in levels] == [(40, 400, 400), (40, 200, 200), (40, 100, 100), (20, 50, 50)]
    assert levels[-1][1:] == ((2, 8, 8), (2, 2, 2))
    assert len(make_plan((64, 64, 64), (1.0, 1.0, 1.0), 64).levels()) == 1
    flat = make_plan((2, 2, 500), (0.01, 0.01, 1.0), 16).levels()
    assert flat[-1][0] == (1, 1, 16)


def test_units_grow_where_most_is_wasted_until_memory_is_used() -> None:
    gib = 4 * 3 / 2**30
    assert unit_of((512, 512, 512), 64, (64, 64, 64), 2, 64**3 * gib) == (64, 64, 64)
    assert sorted(unit_of((512, 512, 512), 64, (64, 64, 64), 2, 128**3 * gib)) == [128, 128, 128]
    z, y, x = unit_of((512, 512, 512), 64, (128, 64, 64), 2, 192 * 128 * 128 * gib)
    assert z > max(y, x)
    assert unit_of((30, 512, 40), 64, (64, 64, 64), 2, 1.0) == (30, 512, 40)
    assert unit_of((512, 512, 512), 64, (64, 64, 64), 2, 1e-9) == (64, 64, 64), "one chunk at the least"


def test_a_chunk_that_does_not_fit_into_memory_is_refused_and_none_is_chosen() -> None:
    shape, gib = (512, 512, 512), 4 * 7 / 2**30
    assert chunk_of(shape, None, 6, 1.0) == 128
    assert chunk_of(shape, None, 6, 100**3 * gib) == 96
    assert chunk_of(shape, 100, 6, 100**3 * gib) == 100
    assert chunk_of((8, 512, 512), 200, 6, 8 * 200**2 * gib) == 200, "a thin volume has thin chunks"
    with pytest.raises(InputError, match=r"Chunks of 512 voxels a side do not fit into 1 GiB .*; choose 336 voxels"):
        chunk_of(shape, 512, 6, 1.0)
    assert chunk_of(shape, 16, 6, 1e-9) == 16, "one of the smallest at the least"
    assert chunk_of(shape, None, 6, 1e-9) == 16


def test_a_unit_that_outlives_its_call_writes_into_no_output_that_was_begun_anew(
    run: Path, scan: Path, tmp_path: Path
) -> None:
    """As on a worker, which nobody can stop in the midst."""
    out, volume = tmp_path / "out.ome.zarr", open_lazy(scan)
    rada.predict_volume(run, volume, out, chunk=16, device="cpu")
    plan = load_plan(out)
    assert plan is not None
    site = Site(Order(str(run), "best", "cpu", volume, str(out), "call"))
    step = site.steps()[-1]
    box = step.units()[0]
    for begun in (None, replace(plan, low=plan.low - 1)):
        shutil.rmtree(out, ignore_errors=True)
        if begun is not None:
            begun.save(out)
        with pytest.raises(InputError, match="was deleted or begun anew meanwhile; run the same command again"):
            step.do(box, RunControl())
        assert not list(out.glob("[0-9]"))
