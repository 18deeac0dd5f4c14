import numpy as np
import pytest

from napari_rada.data.box import foreground_box
from napari_rada.data.case import Case
from napari_rada.data.reach import SLIP, reach

SLICES = [(0, 20), (1, 20), (2, 20)]
STRUCTURE = [(8, 47), (8, 47), (8, 47)]


def painted(*extra: tuple[int, ...], value: int = 1, slices: list[tuple[int, int]] | None = None) -> Case:
    """Three slices of a block, and `extra` voxels."""
    labels = np.zeros((80, 80, 80), dtype=np.uint16)
    labels[8:48, 8:48, 8:48] = 1
    if extra:
        labels[tuple(np.transpose(extra))] = value
    image = np.random.default_rng(0).random(labels.shape)
    return Case.create(image, labels, slices=slices or SLICES)


def ends(case: Case, value: int | None = None) -> list[tuple[int, int]]:
    assert case.labels is not None
    return reach(case, case.labels != 0 if value is None else case.labels == value)


def test_voxels_painted_by_a_slip_do_not_make_the_box_larger() -> None:
    slips = painted((20, 75, 70), (20, 75, 71), (20, 70, 2))
    assert ends(painted()) == ends(slips) == STRUCTURE
    assert foreground_box(slips, 0.25) == foreground_box(painted(), 0.25)


@pytest.mark.parametrize("voxels", [SLIP - 1, SLIP])
def test_parts_that_are_larger_than_a_slip_count(voxels: int) -> None:
    part = [(20, 75, 60 + number) for number in range(voxels)]
    found = ends(painted(*part))
    assert (found == STRUCTURE) == (voxels < SLIP)
    if voxels == SLIP:
        assert found == [(8, 47), (8, 75), (8, 60 + SLIP - 1)]


def test_a_structure_made_of_small_parts_is_reached_whole() -> None:
    dots = [(20, row, column) for row in range(53, 80, 6) for column in range(2, 80, 6)]
    assert ends(painted(*dots))[1] == (8, 77)


def test_what_is_little_of_all_but_a_structure_of_its_own_counts() -> None:
    case = painted((20, 75, 70), value=2)
    assert ends(case)[1:] == [(8, 75), (8, 70)]
    assert ends(case, 2) == [(20, 20), (75, 75), (70, 70)]


def test_all_that_an_annotated_slice_shows_counts() -> None:
    tip = [(70, 20, 20), (70, 20, 21)]
    assert ends(painted(*tip))[0] == (8, 47)
    assert ends(painted(*tip, slices=[*SLICES, (0, 70)]))[0] == (8, 70)


def test_a_thin_tip_counts_to_its_end() -> None:
    tip = [(20, 20, 48 + number) for number in range(SLIP)]
    assert ends(painted(*tip))[2] == (8, 47 + SLIP)
