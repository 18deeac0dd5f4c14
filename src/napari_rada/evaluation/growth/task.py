"""What `napari-rada benchmark growth` measures: points, each a piece of work on synthetic scans of a size."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from napari_rada.config import RunConfig
from napari_rada.errors import InputError
from napari_rada.evaluation.growth.scans import MOST_CLASSES, SMALLEST_SIDE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_rada.data.grid import Shape

Work: TypeAlias = Literal["propagation", "uncapped", "quick", "vnet", "prediction", "cohort", "finished", "whole"]
Against: TypeAlias = Literal["voxels", "classes", "scans"]

NEVER = 1_000_000
UNLIMITED = 10**9
SMALLEST_PATCH = 8
NEEDS: dict[Work, Work] = {"prediction": "quick", "whole": "finished"}
"""Work that uses the run which other work on the same scan leaves."""
ON_ONE_SCAN: tuple[Work, ...] = ("propagation", "quick", "prediction", "vnet")
FULL_RESOLUTION = {"data.max_voxels": None}
SETTINGS: dict[Work, dict[str, Any]] = {
    "uncapped": {
        **FULL_RESOLUTION,
        "propagation.diffusion.max_voxels": UNLIMITED,
        "propagation.flow.max_voxels": UNLIMITED,
    },
    "vnet": {**FULL_RESOLUTION, "model.architecture": "vnet", "training.patch_voxels": None},
}
"""In what the work differs from the quick preset."""


@dataclass(frozen=True)
class Point:
    """One measurement.

    Parameters
    ----------
    work
        Propagation, also with a grid that is not capped; training with the quick preset, a V-Net or the settings for
        cohorts; prediction by a run. `finished` trains to the end of the preset, `whole` is the prediction by that.
    shape
        Of each scan, (z, y, x).
    classes
        Foreground classes.
    scans
        Number of scans.
    """

    work: Work
    shape: Shape
    classes: int = 1
    scans: int = 1

    @property
    def needs(self) -> Point | None:
        """The point whose run this one predicts with; None if it needs none."""
        work = NEEDS.get(self.work)
        return None if work is None else Point(work, self.shape, self.classes, self.scans)

    @property
    def leaves_run(self) -> bool:
        """True if another point needs the run."""
        return self.work in NEEDS.values()

    def size(self, against: Against) -> int:
        """Return the number that something is measured against."""
        return {"voxels": prod(self.shape), "classes": self.classes, "scans": self.scans}[against]

    def __str__(self) -> str:
        """Say what is measured, in a line of progress."""
        shape = " x ".join(str(side) for side in self.shape)
        return f"{self.work}, {shape}, {self.classes} classes, {self.scans} scans"


@dataclass(frozen=True)
class GrowthTask:
    """All that is asked for.

    Parameters
    ----------
    sides
        Of the cubes, for growth with the voxels.
    uncapped
        Largest side at which the propagation also runs on a grid that is not capped.
    classes
        Numbers of foreground classes, in a cube of `classes_side`.
    scans
        Numbers of scans of a cohort, each a cube of `scans_side`.
    whole
        Shape (z, y, x) of the scan that a finished quick run predicts.
    patch
        Of the V-Net, which trains at full resolution.
    repeats
        How often everything is timed; the fastest counts.
    settings
        Dotted settings that are changed for all work.
    """

    sides: tuple[int, ...] = (64, 96, 128, 160, 192, 256)
    uncapped: int = 128
    classes: tuple[int, ...] = (1, 2, 4, 8)
    classes_side: int = 96
    scans: tuple[int, ...] = (1, 2, 4, 8, 16)
    scans_side: int = 48
    whole: Shape = (183, 140, 88)
    patch: Shape = (32, 48, 48)
    repeats: int = 2
    settings: Mapping[str, Any] | None = None

    def check(self) -> None:
        """Raise `InputError` if there are no such scans, or nothing could be seen."""
        least = min(*self.sides, self.classes_side, self.scans_side, *self.whole)
        if least < SMALLEST_SIDE:
            raise InputError(f"A side of {least} voxels is too small; give {SMALLEST_SIDE} or more.")
        if min(self.patch) < SMALLEST_PATCH:
            raise InputError(f"A patch of {min(self.patch)} voxels is too small; give {SMALLEST_PATCH} or more.")
        for number in self.classes:
            if not 1 <= number <= MOST_CLASSES:
                raise InputError(f"{number} classes are not possible here; give 1 to {MOST_CLASSES}.")
        if min(*self.scans, self.repeats) < 1:
            raise InputError(f"{min(*self.scans, self.repeats)} is not possible here; give a number from 1 on.")

    def points(self, against: Against) -> list[Point]:
        """Return the points that show growth with something, smallest first."""
        if against == "scans":
            return [Point("cohort", _cube(self.scans_side), scans=number) for number in sorted(self.scans)]
        if against == "classes":
            cube = _cube(self.classes_side)
            return [Point(work, cube, number) for number in sorted(self.classes) for work in ON_ONE_SCAN]
        cubes = [_cube(side) for side in sorted(self.sides)]
        return [
            Point(work, cube)
            for cube in cubes
            for work in (*ON_ONE_SCAN, "uncapped")
            if work != "uncapped" or cube[0] <= self.uncapped
        ]

    def all_points(self) -> list[Point]:
        """Return every point once, those that leave a run before those that need it."""
        whole = [Point("finished", self.whole), Point("whole", self.whole)]
        found = [*self.points("voxels"), *whole, *self.points("classes"), *self.points("scans")]
        return list(dict.fromkeys(found))

    def config(self, point: Point) -> RunConfig:
        """Return the settings of a point.

        Raises
        ------
        ConfigError
            If a setting is wrong.
        """
        config = RunConfig.from_preset("quick").base(cohort=point.work == "cohort")
        changes: dict[str, Any] = {
            "device": "cpu",
            "guidance.source": "none",
            "training.validate_every": NEVER,
            "training.checkpoint_seconds": NEVER,
            **SETTINGS.get(point.work, {}),
        }
        if point.work != "finished":
            changes["training.iterations"] = 1 + self.repeats  # the first one warms up
        if point.work == "vnet":
            changes["training.patch"] = list(self.patch)
        return config.with_settings({**changes, **(self.settings or {})})


def _cube(side: int) -> Shape:
    return (side, side, side)
