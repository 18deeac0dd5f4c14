"""Prediction chunk by chunk: equal to the one in memory, resumable, and careful with what is there."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import dask.array
import numpy as np
import pytest
import yaml
import zarr
from tests.engine import ball_case, tiny_config
from tests.zarrs import write_ome

import napari_rada as rada
from napari_rada import pipeline
from napari_rada.control import RunControl
from napari_rada.data.grid import Grid
from napari_rada.data.resampling import upsample
from napari_rada.durable import MACHINE, PREFIX
from napari_rada.errors import InputError, NotEnoughMemoryError, RunFolderError, Stopped
from napari_rada.events import Event, Notice, Stage, StageProgress
from napari_rada.io import write_volume
from napari_rada.io.chunked import ChunkedArray
from napari_rada.io.lazy import from_array, open_lazy
from napari_rada.outofcore.plan import FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_rada.outofcore import VolumeResult

SPACING = (0.002, 0.001, 0.001)
SMALL: dict[str, Any] = {"chunk": 16, "memory": 0.001}


def predict(run: Path, volume: Any, out: Path, **settings: Any) -> VolumeResult:
    return rada.predict_volume(run, volume, out, device="cpu", **(SMALL | settings))


def level(out: Path, number: int = 0) -> np.ndarray:
    return np.asarray(zarr.open_group(str(out), mode="r")[str(number)])


def in_memory(run: Path, values: np.ndarray) -> rada.Prediction:
    return rada.predict(run, rada.Case.create(values, spacing=SPACING), device="cpu")


def chunk_files(out: Path) -> dict[str, int]:
    """Chunk files of a result with the time at which they were written."""
    files = [path for path in out.glob("*/**/*") if path.is_file() and path.name.isdigit()]
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in files}


def test_it_is_the_prediction_in_memory(run: Path, scan: Path, values: np.ndarray, tmp_path: Path) -> None:
    wanted = in_memory(run, values)
    result = predict(run, scan, tmp_path / "out.ome.zarr", probability=tmp_path / "p.ome.zarr")
    assert result.factors == (1, 1, 1)
    np.testing.assert_array_equal(level(result.out), wanted.mask)
    np.testing.assert_array_equal(level(tmp_path / "p.ome.zarr"), wanted.probability)
    assert 0 < wanted.mask.mean() < 1, "something is there to be compared"


def test_an_output_is_kept_to_one_call_and_nothing_is_left_of_one_that_began_nothing(
    coarse_run: Path, scan: Path, tmp_path: Path
) -> None:
    out, refused = tmp_path / "out.ome.zarr", []

    def meddle(event: Event) -> None:
        if isinstance(event, StageProgress) and event.message == "chunks" and not refused:
            with pytest.raises(InputError, match=r"in use by process .* choose another output") as caught:
                predict(coarse_run, scan, out)
            refused.append(caught)

    undisturbed = predict(coarse_run, scan, tmp_path / "undisturbed.ome.zarr")
    result = predict(coarse_run, scan, out, listener=meddle)
    assert refused
    assert result.computed == result.units == undisturbed.units
    np.testing.assert_array_equal(level(out), level(undisturbed.out))
    with pytest.raises(InputError, match="Chunks of 1 voxels"):
        predict(coarse_run, scan, tmp_path / "none.ome.zarr", chunk=1)
    assert not (tmp_path / "none.ome.zarr").exists()


@pytest.mark.parametrize(
    ("data", "factors"),
    [
        ({"spacing": [2, 2, 2]}, (1, 2, 2)),
        ({"spacing": None, "max_voxels": 5000}, (2, 4, 2)),
        ({"spacing": [4, 4, 4]}, (2, 4, 4)),
    ],
)
def test_it_is_the_prediction_in_memory_on_a_coarser_grid(
    coarse_run: Path, values: np.ndarray, tmp_path: Path, data: dict[str, Any], factors: tuple[int, int, int]
) -> None:
    run = _with_settings(coarse_run, tmp_path / "run", data)
    wanted = rada.predict(run, rada.Case.create(values, spacing=(2.0, 1.0, 1.0)), device="cpu")
    volume, out, told = from_array(values, spacing=(2.0, 1.0, 1.0), name="scan"), tmp_path / "out.ome.zarr", []
    result = predict(run, volume, out, probability=tmp_path / "p.ome.zarr", listener=told.append)
    assert result.factors == factors
    coarse = level(tmp_path / "p.ome.zarr")
    np.testing.assert_allclose(upsample(coarse, result.factors, values.shape), wanted.probability, atol=1e-5)
    assert (level(out) != wanted.mask).sum() <= 2
    notices = [event.message for event in told if isinstance(event, Notice)]
    assert notices[0].startswith(f"scan: the networks see blocks of {' x '.join(map(str, factors))} voxels as one, ")
    assert not (out / FOLDER / "coarse").exists(), "what is in between is removed"
    assert predict(run, volume, out, probability=tmp_path / "p.ome.zarr").computed == 0


AROUND = ((5, 18), (0, 7), (21, 2))


def inside(values: np.ndarray) -> tuple[slice, ...]:
    return tuple(slice(a, size - b) for (a, b), size in zip(AROUND, values.shape, strict=True))


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("filling", ["darkest", "lower", "nan"])
def test_what_nobody_scanned_is_background_as_in_memory(
    run: Path, values: np.ndarray, tmp_path: Path, filling: str, *, kept: bool
) -> None:
    around = {"darkest": values.min(), "lower": -3000, "nan": np.nan}[filling]
    padded = np.pad(values.astype(np.float32), AROUND, constant_values=around)
    case = rada.Case.create(padded, spacing=SPACING, non_finite="replace")
    wanted = rada.predict(run, case, device="cpu")
    volume = from_array(dask.array.from_array(padded, chunks=(13, 17, 11)), spacing=SPACING)
    probability = tmp_path / "p.ome.zarr" if kept else None
    result = predict(run, volume, tmp_path / "out.ome.zarr", probability=probability, non_finite="replace")
    np.testing.assert_array_equal(level(result.out), wanted.mask)
    if probability:
        np.testing.assert_array_equal(level(probability), wanted.probability)
    np.testing.assert_array_equal(level(result.out)[inside(padded)], in_memory(run, values).mask)
    assert predict(run, volume, result.out, probability=probability, non_finite="replace").computed == 0


def test_what_nobody_scanned_is_background_on_a_coarser_grid(
    coarse_run: Path, values: np.ndarray, tmp_path: Path
) -> None:
    run = _with_settings(coarse_run, tmp_path / "run", {"spacing": None, "max_voxels": 5000})
    padded = np.pad(values, AROUND, constant_values=values.min())
    plain, wanted = (
        rada.predict(run, rada.Case.create(array, spacing=(2.0, 1.0, 1.0)), device="cpu") for array in (values, padded)
    )
    np.testing.assert_array_equal(wanted.mask[inside(padded)], plain.mask)
    volume, out = from_array(padded, spacing=(2.0, 1.0, 1.0)), tmp_path / "out.ome.zarr"
    result = predict(run, volume, out, probability=tmp_path / "p.ome.zarr")
    assert result.factors == (2, 4, 2)
    np.testing.assert_array_equal(level(out), wanted.mask)
    coarse = level(tmp_path / "p.ome.zarr")
    found = upsample(coarse, result.factors, values.shape)
    np.testing.assert_allclose(found, wanted.probability[(slice(None), *inside(padded))], atol=1e-5)
    assert open_lazy(out).placement.translation == (0, 0, 0)
    coarser = json.loads((tmp_path / "p.ome.zarr" / ".zattrs").read_text())["multiscales"][0]["datasets"][0]
    assert coarser["coordinateTransformations"][1]["translation"] == [0, 5 * 2 + 1, 1.5, 21 + 0.5]


def test_a_prediction_that_an_earlier_version_began_is_gone_on_with_as_it_was_begun(
    run: Path, values: np.ndarray, tmp_path: Path
) -> None:
    volume, out = from_array(np.pad(values, AROUND), spacing=SPACING), tmp_path / "out.ome.zarr"
    predict(run, volume, out)
    path = out / FOLDER / "plan.json"
    plan = json.loads(path.read_text())
    del plan["box"]
    path.write_text(json.dumps(plan))
    (out / "0" / "0" / "0" / "0").unlink()
    assert predict(run, volume, out).computed == 1


def test_factors_of_numpy_are_taken_and_other_words_refused(run: Path, values: np.ndarray, tmp_path: Path) -> None:
    out = tmp_path / "out.ome.zarr"
    result = predict(run, from_array(values), out, factors=np.array([1, 2, 2]))
    assert result.factors == (1, 2, 2)
    for factors in ((2, 2), (2, 2, 0.5), 2):
        with pytest.raises(InputError, match="do not fit a volume of"):
            predict(run, from_array(values), tmp_path / "other.ome.zarr", factors=factors)
    with pytest.raises(InputError, match="no choice 'remove' for non_finite"):
        predict(run, from_array(values), tmp_path / "other.ome.zarr", non_finite="remove")


def test_a_volume_of_another_scale_is_told(coarse_run: Path, values: np.ndarray, tmp_path: Path) -> None:
    told: list[Event] = []
    volume = from_array(values, spacing=(2.0, 1.0, 1.0), name="scan")
    predict(coarse_run, volume, tmp_path / "out.ome.zarr", listener=told.append)
    messages = [event.message for event in told if isinstance(event, Notice)]
    assert any(message.startswith("scan has working voxels of 2 x 1 x 1 mm along (z, y, x)") for message in messages)


def test_floats_with_gaps_are_treated_as_in_memory(run: Path, values: np.ndarray, tmp_path: Path) -> None:
    gaps = values.astype(np.float32) * 3.7 - 100
    gaps[5, 6, 7:20], gaps[30] = np.nan, np.inf
    case = rada.Case.create(gaps, spacing=SPACING, non_finite="replace")
    wanted = rada.predict(run, case, device="cpu")
    volume = from_array(dask.array.from_array(gaps, chunks=20), spacing=SPACING)
    with pytest.raises(InputError, match=r"is NaN or infinite in \d+ of \d+ voxels; set data.non_finite to replace"):
        predict(run, volume, tmp_path / "out.ome.zarr")
    assert not (tmp_path / "out.ome.zarr").exists()
    result = predict(run, volume, tmp_path / "out.ome.zarr", non_finite="replace")
    np.testing.assert_array_equal(level(result.out), wanted.mask)


def test_the_result_is_a_multiscale_image_where_the_volume_lies(run: Path, scan: Path, tmp_path: Path) -> None:
    result = predict(run, scan, tmp_path / "out.ome.zarr")
    content = json.loads((result.out / ".zattrs").read_text())
    image = content["multiscales"][0]
    assert image["version"] == "0.4"
    assert [(axis["name"], axis["unit"]) for axis in image["axes"]] == [(axis, "micrometer") for axis in "zyx"]
    scales = [step["coordinateTransformations"][0]["scale"] for step in image["datasets"]]
    moved = [step["coordinateTransformations"][1]["translation"] for step in image["datasets"]]
    assert scales == [[2, 1, 1], [2, 2, 2], [4, 4, 4], [8, 8, 8]]
    assert moved == [[3, 3, 3], [3, 3.5, 3.5], [4, 4.5, 4.5], [6, 6.5, 6.5]]
    assert content["image-label"]["properties"][1] == {"label-value": 1, "name": "label 1"}
    assert content["napari-rada"]["iteration"] > 0
    assert [level(result.out, number).shape for number in range(result.levels)] == [
        (42, 46, 37),
        (42, 23, 19),
        (21, 12, 10),
        (11, 6, 5),
    ]
    assert set(np.unique(level(result.out, 2))) <= {0, 1}, "labels are not averaged"
    assert open_lazy(result.out).placement == open_lazy(scan).placement


def test_it_goes_on_where_it_was_stopped(run: Path, scan: Path, tmp_path: Path) -> None:
    whole = predict(run, scan, tmp_path / "whole.ome.zarr", memory=1e-6)
    out, control = tmp_path / "out.ome.zarr", RunControl()

    def stop_after_three(event: Event) -> None:
        if isinstance(event, StageProgress) and event.stage is Stage.PREDICT and event.done == 3:
            control.stop()

    with pytest.raises(Stopped):
        predict(run, scan, out, memory=1e-6, control=control, listener=stop_after_three)
    assert not (out / ".zattrs").exists(), "what is not whole is no image"
    before, told = chunk_files(out), []
    assert len(before) == 3
    result = predict(run, scan, out, listener=told.append)
    assert result.computed == whole.units - 3
    assert any(isinstance(event, Notice) and event.message.startswith("3 of ") for event in told)
    after = chunk_files(out)
    assert {name: after[name] for name in before} == before, "whole chunks are not written again"
    assert after.keys() == chunk_files(whole.out).keys()
    for name in after:
        assert (out / name).read_bytes() == (whole.out / name).read_bytes()
    assert predict(run, scan, out).computed == 0


def test_a_half_written_chunk_does_not_count(run: Path, scan: Path, tmp_path: Path) -> None:
    result = predict(run, scan, tmp_path / "out.ome.zarr")
    victim = result.out / "0" / "1" / "1" / "1"
    content = victim.read_bytes()
    victim.rename(victim.with_name(f"{PREFIX}-{MACHINE}-999999999-1"))
    assert predict(run, scan, result.out).computed == 1
    assert victim.read_bytes() == content
    assert not list(victim.parent.glob(".part*"))


def test_what_is_missing_of_the_probability_is_computed_again(run: Path, scan: Path, tmp_path: Path) -> None:
    kept = tmp_path / "p.ome.zarr"
    result = predict(run, scan, tmp_path / "out.ome.zarr", probability=kept)
    whole, victim = level(kept), kept / "0" / "0" / "1" / "1" / "1"
    victim.unlink()
    assert predict(run, scan, result.out, probability=kept).computed == 1
    assert victim.is_file()
    shutil.rmtree(kept)
    predict(run, scan, result.out, probability=kept)
    np.testing.assert_array_equal(level(kept), whole)
    assert open_lazy(result.out).placement == open_lazy(scan).placement
    assert "multiscales" in json.loads((kept / ".zattrs").read_text())


def test_a_prediction_that_was_cut_off_beside_its_plan_is_gone_on_with(
    run: Path, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(*arguments: Any, **settings: Any) -> None:
        raise KeyboardInterrupt

    out, kept = tmp_path / "out.ome.zarr", tmp_path / "p.ome.zarr"
    for name in ("napari_rada.outofcore.plan.write_text", "napari_rada.outofcore.predict.write_group"):
        with monkeypatch.context() as patch:
            patch.setattr(name, cut_off)
            with pytest.raises(KeyboardInterrupt):
                predict(run, scan, out, probability=kept)
    result = predict(run, scan, out, probability=kept)
    assert result.computed == result.units


def test_another_prediction_is_not_written_over(run: Path, coarse_run: Path, scan: Path, tmp_path: Path) -> None:
    result = predict(run, scan, tmp_path / "out.ome.zarr")
    other = write_ome(tmp_path / "other.ome.zarr", np.asarray(level(scan))[::-1])
    before = chunk_files(result.out)
    for run_dir, volume, settings, what in (
        (coarse_run, scan, {}, "the networks or settings of the run, the factors to the working grid"),
        (run, other, {}, "the volume, or the time of writing of its files"),
        (run, scan, {"factors": (1, 2, 2)}, "the factors to the working grid"),
        (run, scan, {"chunk": 32}, "the size of the chunks"),
        (run, scan, {"probability": tmp_path / "p.zarr"}, "the place of the probability"),
    ):
        with pytest.raises(InputError, match=f"belongs to another prediction, which differs in {what}; choose"):
            predict(run_dir, volume, result.out, **settings)
    assert chunk_files(result.out) == before


@pytest.mark.parametrize("name", ["long.ome.zarr", "long.nii"])
def test_a_volume_that_was_written_again_is_another_one(
    run: Path, values: np.ndarray, tmp_path: Path, name: str
) -> None:
    long, out = np.concatenate([values, values[:20]])[:, :16, :16], tmp_path / "out.ome.zarr"
    volume = _written(tmp_path / name, long)
    predict(run, volume, out)
    moved = volume.rename(tmp_path / f"moved-{name}")
    assert predict(run, moved, out).computed == 0, "it is the same elsewhere"
    long[18] = 255
    with pytest.raises(InputError, match="which differs in the volume, or the time of writing of its files; choose"):
        predict(run, _written(volume, long), out)


def _written(path: Path, values: np.ndarray) -> Path:
    if path.suffix == ".zarr":
        return write_ome(path, values)
    write_volume(path, values, Grid.from_spacing((len(values), 16, 16)))
    return path


def test_outputs_that_would_harm_are_refused(run: Path, scan: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.ome.zarr"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("years of work")
    (tmp_path / "file.zarr").write_text("")
    (tmp_path / "empty.zarr").mkdir()
    damaged = tmp_path / "damaged.zarr" / FOLDER
    damaged.mkdir(parents=True)
    (damaged / "plan.json").write_text("{}")
    for out, answer in (
        (foreign, "exists and is no prediction that was begun here"),
        (tmp_path / "file.zarr", "is a file; name a folder"),
        (tmp_path / "out.nii.gz", "is no name for an OME-Zarr folder"),
        (scan, "lie in each other"),
        (scan / "labels.zarr", "lie in each other"),
        (tmp_path / "damaged.zarr", "is damaged, the prediction cannot be gone on with"),
        (tmp_path / "nowhere" / "out.zarr", "does not exist"),
    ):
        with pytest.raises(InputError, match=answer):
            predict(run, scan, out)
    with pytest.raises(InputError, match=r"foreign.ome.zarr exists already"):
        predict(run, scan, tmp_path / "new.ome.zarr", probability=foreign)
    for out, kept in (
        ("new.zarr", "new.zarr"),
        ("empty.zarr", "empty.zarr/p.zarr"),
        ("foreign.ome.zarr/o.zarr", foreign),
    ):
        with pytest.raises(InputError, match=r"The output .* and the probability .* lie in each other"):
            predict(run, scan, tmp_path / out, probability=tmp_path / kept)
    assert not (tmp_path / "new.zarr").exists()
    assert (foreign / "thesis.txt").read_text() == "years of work"


def test_what_cannot_be_predicted_is_told(run: Path, scan: Path, values: np.ndarray, tmp_path: Path) -> None:
    constant = from_array(np.full((20, 20, 20), 7, dtype=np.uint8), name="flat")
    out = tmp_path / "out.ome.zarr"
    for volume, settings, answer in (
        (constant, {}, "flat: every voxel of the image is 7; a constant image"),
        (scan, {"factors": (0, 1, 1)}, "The factors .* do not fit"),
        (scan, {"factors": (42, 1, 1)}, "The factors .* do not fit"),
        (scan, {"chunk": 8}, "Chunks of 8 voxels"),
        (scan, {"chunk": 0}, "Chunks of 0 voxels"),
        (
            scan,
            {"chunk": 64},
            "Chunks of 64 voxels a side do not fit into 0.001 GiB with 6 .*; choose 32 voxels",
        ),
        (scan, {"memory": 0.0}, "and 0 GiB were asked for"),
        (from_array(values), {"scheduler": "tcp://127.0.0.1:1"}, "lies in this process; a cluster needs a file"),
    ):
        with pytest.raises(InputError, match=answer):
            predict(run, volume, out, **settings)
        assert not out.exists()


def test_a_shortage_is_told_with_what_helps_here(run: Path, values: np.ndarray, tmp_path: Path) -> None:
    class Large:
        shape, dtype = values.shape, values.dtype

        def __getitem__(self, key: object) -> np.ndarray:
            raise MemoryError

    with pytest.raises(NotEnoughMemoryError, match=r"are free now\).* \(a lower memory, a smaller chunk\)\.$"):
        predict(run, Large(), tmp_path / "out.ome.zarr")


def test_a_window_that_shows_nothing_is_told(run: Path, scan: Path, tmp_path: Path) -> None:
    copied = _with_settings(run, tmp_path / "run", {"window": [1000.0, 2000.0]})
    with pytest.raises(InputError, match="the intensity window 1000 to 2000 leaves one value only"):
        predict(copied, scan, tmp_path / "out.ome.zarr")


def test_a_window_is_taken_as_in_memory(run: Path, scan: Path, values: np.ndarray, tmp_path: Path) -> None:
    copied = _with_settings(run, tmp_path / "run", {"window": [90.0, 130.0]})
    result = predict(copied, scan, tmp_path / "out.ome.zarr")
    np.testing.assert_array_equal(level(result.out), in_memory(copied, values).mask)


def _with_settings(run: Path, copy: Path, data: dict[str, Any]) -> Path:
    """Copy a run with other settings of how volumes are read."""
    shutil.copytree(run, copy)
    settings = yaml.safe_load((copy / "config.yaml").read_text())
    settings["data"] |= data
    (copy / "config.yaml").write_text(yaml.safe_dump(settings))
    return copy


def test_what_a_run_would_do_to_the_whole_mask_is_left_out_and_told(run: Path, scan: Path, tmp_path: Path) -> None:
    copied, told = shutil.copytree(run, tmp_path / "run"), []
    settings = yaml.safe_load((copied / "config.yaml").read_text())
    settings["inference"]["largest_part"] = True
    (copied / "config.yaml").write_text(yaml.safe_dump(settings))
    predict(copied, scan, tmp_path / "out.ome.zarr", listener=told.append)
    assert any(isinstance(event, Notice) and "largest_part" in event.message for event in told)


def test_networks_that_only_complete_slices_are_refused(scan: Path, tmp_path: Path) -> None:
    run = pipeline.train([ball_case()], tmp_path / "run", tiny_config(training__iterations=1)).run_dir
    with pytest.raises(InputError, match="this run completes annotated slices and was given none of this scan"):
        predict(run, scan, tmp_path / "out.ome.zarr")


def test_a_run_that_changes_under_way_is_noticed(run: Path, scan: Path, tmp_path: Path) -> None:
    copied = _with_settings(run, tmp_path / "run", {})

    def change(event: Event) -> None:
        if isinstance(event, StageProgress) and event.stage is Stage.PREPARE:
            _change(copied)

    with pytest.raises(RunFolderError, match="has changed since"):
        predict(copied, scan, tmp_path / "out.ome.zarr", listener=change)


def _change(run: Path) -> None:
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["inference"]["overlap"] = 0.125
    (run / "config.yaml").write_text(yaml.safe_dump(settings))


def test_units_do_not_matter(run: Path, scan: Path, tmp_path: Path) -> None:
    small = predict(run, scan, tmp_path / "small.ome.zarr", memory=1e-6)
    large = predict(run, scan, tmp_path / "large.ome.zarr", memory=1.0)
    assert small.units > large.units
    for number in range(small.levels):
        np.testing.assert_array_equal(level(small.out, number), level(large.out, number))


def test_own_results_are_read_without_the_zarr_library(run: Path, scan: Path, tmp_path: Path) -> None:
    result = predict(run, scan, tmp_path / "out.ome.zarr")
    array = ChunkedArray.open(result.out / "0")
    np.testing.assert_array_equal(array.read((0, 0, 0), array.shape), level(result.out))


def meddling(meddle: Callable[[], object]) -> Callable[[Event], None]:
    """Return a listener that does something once, when the first part is predicted."""
    done = []

    def told(event: Event) -> None:
        if isinstance(event, StageProgress) and event.stage is Stage.PREDICT and event.done and not done:
            done.append(meddle())

    return told


def test_a_volume_that_is_taken_away_meanwhile_is_told_and_gone_on_with(run: Path, scan: Path, tmp_path: Path) -> None:
    """Zarr takes a part without a file for an empty one."""
    whole = predict(run, scan, tmp_path / "whole.ome.zarr")
    out, away = tmp_path / "out.ome.zarr", tmp_path / "away"
    with pytest.raises(InputError, match=r"scan\.ome\.zarr.0 is not there any more; put it back, then do"):
        predict(run, scan, out, listener=meddling(lambda: scan.rename(away)))
    away.rename(scan)
    predict(run, scan, out)
    np.testing.assert_array_equal(level(out), level(whole.out))


def test_a_volume_that_is_changed_meanwhile_makes_no_result(run: Path, scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.ome.zarr"
    last = max(file for file in scan.rglob("2") if file.is_file())
    with pytest.raises(InputError, match=r"scan was changed while it was predicted, and .* mixes both; predict it"):
        predict(run, scan, out, listener=meddling(last.unlink))
    assert not (out / ".zattrs").exists()
    with pytest.raises(InputError, match="the volume, or the time of writing of its files"):
        predict(run, scan, out)
