from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.engine import ball_case, tiny_config

from napari_rada.control import RunControl
from napari_rada.data.case import Case, check_trainable
from napari_rada.data.working import make_working_case
from napari_rada.errors import RunFolderError
from napari_rada.propagation import make_propagator
from napari_rada.training.exchange import load_volume, prepared, save_volume
from napari_rada.training.run_folder import RunFolder
from napari_rada.training.team import ALONE
from napari_rada.training.volumes import HeldOutView, Volume, make_volume

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = tiny_config(propagation__method="diffusion")


def make(case: Case) -> Volume:
    working = make_working_case(case, check_trainable([ball_case()]))
    pseudo = None
    if working.is_labelled:
        pseudo = make_propagator(CONFIG.propagation).propagate(
            working, held_out=True, control=RunControl(), on_progress=lambda done, total: None
        )
    return make_volume(working, pseudo, CONFIG.training.view_pairs, model=CONFIG.model)


def assert_equal(one: Volume | HeldOutView, other: Volume | HeldOutView) -> None:
    for field in fields(one):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if isinstance(mine, np.ndarray):
            assert mine.dtype == theirs.dtype
            np.testing.assert_array_equal(mine, theirs)
        elif field.name == "held_out":
            assert mine.keys() == theirs.keys()
            for view in mine:
                assert_equal(mine[view], theirs[view])
        else:
            assert mine == theirs


@pytest.mark.parametrize("labelled", [True, False])
def test_a_volume_survives_the_journey(tmp_path: Path, labelled: bool) -> None:
    volume = make(ball_case("Bäll/1", labelled=labelled))
    save_volume(tmp_path / "0", volume)
    found = load_volume(tmp_path / "0")
    assert_equal(volume, found)
    assert bool(found.held_out) == labelled
    assert isinstance(found.image, np.memmap)
    assert not found.image.flags.writeable


def test_a_view_without_voxels_survives_too(tmp_path: Path) -> None:
    volume = make(ball_case())
    nothing = HeldOutView((), np.zeros((0, 3), np.intp), np.zeros(0, np.int16), np.zeros((2, 0), np.float32))
    volume.held_out[0] = nothing
    save_volume(tmp_path / "0", volume)
    assert_equal(nothing, load_volume(tmp_path / "0").held_out[0])


def test_a_volume_that_is_not_whole_or_has_no_room_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = make(ball_case(labelled=False))
    save_volume(tmp_path / "0", volume)
    (tmp_path / "0" / "image.npy").write_bytes(b"")
    with pytest.raises(RunFolderError, match=r"0 cannot be read \(EOFError\); all machines of a job need to see"):
        load_volume(tmp_path / "0")
    (tmp_path / "0" / "image.npy").unlink()
    with pytest.raises(RunFolderError, match=r"0 cannot be read \(TypeError\)"):
        load_volume(tmp_path / "0")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(RunFolderError, match=r"1 cannot be written \(No space left on device\); what the run"):
        save_volume(tmp_path / "1", volume)


def test_one_process_exchanges_nothing(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, CONFIG)
    (folder.prepared / "00000").mkdir(parents=True)  # of a job of several processes that was killed
    made: list[Volume] = []

    def keep(case: Case) -> Volume:
        made.append(make(case))
        return made[-1]

    with prepared([ball_case(), ball_case(labelled=False)], keep, folder, ALONE) as volumes:
        assert volumes == made
        assert not folder.prepared.exists()
