"""What is planned from the cases: one grid, one patch."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from tests.engine import ball, ball_case, ball_image, tiny_config

from napari_rada.config import RunConfig
from napari_rada.control import RunControl
from napari_rada.data.case import Case, check_trainable
from napari_rada.data.grid import Grid
from napari_rada.errors import ConfigError
from napari_rada.events import ignore
from napari_rada.preparation import Work, working_grids
from napari_rada.training.plan import common_spacing, largest_patch, left_out, plan, teaching, working_shape


def grid(shape: tuple[int, int, int], spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Grid:
    return Grid.from_spacing(shape, spacing)


def case_on(grid: Grid, *, labelled: bool = True) -> Case:
    labels = np.zeros(grid.shape, dtype=np.uint16)
    labels[tuple(slice(side // 4, side // 4 + max(1, side // 2)) for side in grid.shape)] = 1
    image = ball_image(labels)
    if not labelled:
        return Case.create(image, grid=grid)
    return Case.create(image, labels, slices=[(axis, side // 2) for axis, side in enumerate(grid.shape)], grid=grid)


def quick(**settings: object) -> RunConfig:
    return RunConfig.from_preset("quick").with_settings({name.replace("__", "."): v for name, v in settings.items()})


def test_the_median_case_fits() -> None:
    grids = [grid((20, 40, 40), (3.0, 1.0, 1.0))] * 2 + [grid((60, 400, 400), (3.0, 1.0, 1.0))]
    assert common_spacing(grids, 20 * 40 * 40) == (3.0, 1.0, 1.0)
    assert common_spacing(grids, 20 * 40 * 40 - 1) == (3.0, 2.0, 1.0)
    assert common_spacing(grids, 20 * 20 * 20) == (3.0, 2.0, 2.0)


def test_the_median_is_that_of_spacing_and_of_extent() -> None:
    grids = [
        grid((40, 40, 40), (1.0, 1.0, 1.0)),
        grid((20, 20, 20), (2.0, 2.0, 2.0)),
        grid((10, 10, 10), (4.0, 4.0, 4.0)),
    ]
    assert common_spacing(grids, 8000) == (2.0, 2.0, 2.0)


def test_cases_of_other_spacing_come_to_the_same_grid() -> None:
    coarse, fine = case_on(grid((16, 24, 24), (4.0, 2.0, 2.0))), case_on(grid((64, 96, 96), (1.0, 0.5, 0.5)))
    config = plan([coarse, coarse, fine], quick(data__max_voxels=16 * 24 * 24))
    assert config.data.spacing == (4.0, 2.0, 2.0)
    assert working_shape(fine, config) == working_shape(coarse, config) == (16, 24, 24)


def test_a_scan_coarser_than_the_grid_stays_as_it_is() -> None:
    config = quick(data__spacing=[1, 1, 1])
    assert working_shape(case_on(grid((9, 24, 24), (5.0, 1.2, 1.2)), labelled=False), config) == (9, 24, 24)


def test_no_axis_is_coarsened_below_eight_voxels() -> None:
    config = quick(data__spacing=[8, 8, 8])
    assert working_shape(case_on(grid((2, 31, 64)), labelled=False), config) == (2, 16, 8)


def test_of_one_case_nothing_but_the_patch_is_planned() -> None:
    config = quick(training__patch_voxels=5000)
    planned = plan([ball_case()], config)
    assert planned.training.patch_voxels is None
    assert prod(planned.training.patch) <= 5000
    changed = {"training.patch": list(planned.training.patch), "training.patch_voxels": None}
    assert planned == config.with_settings(changed)
    assert plan([ball_case()], planned) == planned
    assert plan([ball_case()], tiny_config()) == tiny_config()


def test_the_patch_that_was_chosen_for_one_case_stays() -> None:
    config = plan([ball_case()], quick(training__patch=[16, 8, 8]))
    assert (config.training.patch, config.training.patch_voxels) == ((16, 8, 8), None)


def test_planning_twice_changes_nothing() -> None:
    cases = [ball_case(), ball_case(labelled=False)]
    once = plan(cases, RunConfig.from_preset("quick"))
    assert once.data.spacing == (1.0, 1.0, 1.0)
    assert once.training.patch == (24, 32, 24)
    assert once.training.patch_voxels is None
    assert plan(cases, once) == once
    assert plan([*cases, case_on(grid((60, 90, 90)))], once) == once


def test_full_resolution_stays_full_resolution() -> None:
    assert plan([ball_case(), ball_case(labelled=False)], RunConfig.from_preset("paper")).data.spacing is None


def test_the_patch_of_a_single_case_can_be_planned_too() -> None:
    config = plan([ball_case()], tiny_config(training__patch_voxels=10**6))
    assert config.training.patch == (24, 32, 24)


@pytest.mark.parametrize(
    ("shapes", "voxels", "patch"),
    [
        ([(44, 74, 106), (40, 70, 110)], 10**6, (48, 80, 112)),
        ([(44, 74, 106)], 210_000, (32, 64, 96)),
        ([(1, 200, 200)], 8 * 64 * 64, (8, 64, 64)),
        ([(10, 10, 10)], 512, (8, 8, 8)),
        ([(100, 100, 100)], 1, (8, 8, 8)),
    ],
)
def test_the_patch_shows_as_much_as_is_affordable(
    shapes: list[tuple[int, int, int]], voxels: int, patch: tuple[int, int, int]
) -> None:
    assert largest_patch(shapes, voxels) == patch
    assert prod(patch) <= voxels or patch == (8, 8, 8)


def test_the_planned_shape_holds_both_alignments() -> None:
    case = ball_case()
    for settings in ({}, {"data__aligned": False}):
        config = quick(data__max_voxels=4096, data__crop_margin=None, **settings)
        grids = working_grids(Work(case, check_trainable([case]), config, RunControl(), ignore))
        planned = working_shape(case, config)
        largest = np.max([grid.shape for grid in grids], axis=0)
        assert len(grids) == 1 + config.data.aligned
        assert (largest <= planned).all()
        assert (planned <= largest + config.data.aligned).all()
    assert working_shape(case, quick(data__max_voxels=4096, data__crop_margin=None)) != planned


def test_the_planned_shape_is_finer_with_more_slices_as_the_grid_is() -> None:
    three = ball_case()
    more = Case.create(three.image, ball(), slices=[*three.annotated, (0, 10), (0, 14), (1, 20)])
    config = quick(data__max_voxels=5000, data__crop_margin=None, data__aligned=False)
    (grid,) = working_grids(Work(more, check_trainable([more]), config, RunControl(), ignore))
    assert working_shape(more, config) == grid.shape != working_shape(three, config)


def test_scans_without_labels_teach_only_where_patches_without_labels_are_asked_for() -> None:
    labelled, unlabelled = case_on(grid((16, 24, 24))), case_on(grid((16, 24, 24)), labelled=False)
    cases = [unlabelled, labelled, unlabelled]
    alone, both = plan(cases, quick()), plan(cases, quick(training__unlabelled_patches=1))
    assert (alone.training.labelled_patches, alone.training.unlabelled_patches) == (2, 0)
    assert teaching(cases, alone) == [labelled]
    assert (both.training.labelled_patches, both.training.unlabelled_patches) == (2, 1)
    assert teaching(cases, both) == cases
    assert plan(cases, RunConfig.from_preset("standard")).training == both.training
    assert teaching(cases, plan(cases, RunConfig.from_preset("standard"))) == cases


def test_where_every_scan_is_annotated_the_presets_self_training_has_none_to_label() -> None:
    cases = [case_on(grid((16, 24, 24)))] * 2
    found = plan(cases, RunConfig.from_preset("standard"))
    assert found.training == plan(cases, quick()).training
    assert plan(cases, found) == found
    chosen = plan(cases, quick(training__unlabelled_patches=2))
    assert chosen.training.unlabelled_patches == 2
    lineage = plan(cases, RunConfig.from_preset("standard").with_settings({"training.self_training": False}))
    assert lineage.training.unlabelled_patches == 1


def test_a_run_of_standard_is_not_told_to_use_standard() -> None:
    """It was planned for scans that all were annotated, and is continued with one that is not."""
    annotated, bare = [case_on(grid((16, 16, 16))) for _ in range(2)], case_on(grid((16, 16, 16)), labelled=False)
    told = "1 scan without annotated slices is left out of training; "
    setting = "training.unlabelled_patches=1"
    standard = plan([*annotated, bare], plan(annotated, RunConfig.from_preset("standard")))
    assert left_out([*annotated, bare], standard) == f"{told}{setting} makes networks learn there, too."
    preset = f"{told}the preset standard, or {setting}, makes networks learn there, too."
    assert left_out([*annotated, bare], plan([*annotated, bare], quick())) == preset


def test_voxels_of_nanometres_keep_their_size() -> None:
    grids = [grid((40, 40, 40), (40e-6, 8e-6, 8e-6))] * 2
    assert common_spacing(grids, 40**3) == (40e-6, 8e-6, 8e-6)
    assert common_spacing(grids, 40**3 // 2) == (40e-6, 16e-6, 8e-6)


def test_the_patch_that_was_chosen_for_a_cohort_stays() -> None:
    cases = [case_on(grid((20, 24, 28))), case_on(grid((20, 24, 28)))]
    begun = RunConfig.from_preset("quick").for_cohort().with_settings({"training.patch": [16, 16, 8]})
    for config in (begun, plan(cases, begun), quick(training__patch=[16, 16, 8])):
        assert plan(cases, config).training.patch == (16, 16, 8)


def test_patches_that_leave_nothing_to_normalise_are_refused() -> None:
    case = case_on(grid((20, 24, 28)))
    settings = {"model.norm": "batch", "training.patch": [16, 16, 16], "training.unlabelled_patches": 0}
    config = RunConfig.from_preset("paper").with_settings({**settings, "training.labelled_patches": 1})
    with pytest.raises(ConfigError, match="a single value"):
        plan([case], config)
    for change in ({"training.labelled_patches": 2}, {"model.norm": "instance"}, {"training.patch": [16, 16, 32]}):
        plan([case], config.with_settings(change))


def test_a_patch_far_larger_than_the_scans_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"of \[1000, 1000, 1000\] voxels is far larger .* \[20, 26, 24\]"):
        plan([ball_case()], tiny_config(training__patch=[1000, 1000, 1000]))
    assert plan([ball_case()], tiny_config(training__patch=[64, 96, 96])).training.patch == (64, 96, 96)
