"""Does it pay to annotate the suggested slice? Simulated on scans with dense labels.

``python -m napari_rada.evaluation.suggestion_benchmark --datasets FILE [--root DIR] [--rounds 3] [--propagation] …``

Each scan starts with its slice of largest area per axis. Then, round by round, one slice is added, its labels taken
from the dense ones, and training continues from the run before; with ``--propagation`` nothing is trained, and the
slices are propagated. Three ways to choose the slice are compared; all start from the same mask:

- *suggested*: what `suggest` names, from how likely each voxel of the mask is wrong;
- *random*: any slice that meets the predicted mask and is not annotated, all equally likely;
- *even*: the axes in turn, the middle of the widest gap between annotated slices, within the predicted mask's extent;
  an axis without a gap is passed over.

None of them sees the dense labels before its slice is chosen.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from napari_rada import pipeline
from napari_rada.config import RunConfig, parse_settings
from napari_rada.data.case import Case
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import RadaError
from napari_rada.evaluation.arguments import at_least
from napari_rada.evaluation.benchmark.datasets import load_datasets
from napari_rada.evaluation.benchmark.methods import Conditions
from napari_rada.evaluation.benchmark.ours import under
from napari_rada.evaluation.benchmark.report import escaped
from napari_rada.evaluation.ending import status_of
from napari_rada.evaluation.scans import scores
from napari_rada.evaluation.sparse import choose_slices
from napari_rada.prediction import Prediction
from napari_rada.temporary import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Strategy: TypeAlias = Literal["suggested", "random", "even"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
Segment: TypeAlias = Callable[[Case, Path | None, Path], Prediction]
"""Segments a case, given the folder of the run before, None at first, and a folder for a new one."""


@dataclass(frozen=True)
class Course:
    """One scan, one strategy: Dice with the first slices and after each added one, and which slices were added.

    Where no slice is left to add, fewer are, and the last Dice stands for the rounds that remain.
    """

    dataset: str
    scan: str
    strategy: Strategy
    dice: tuple[float, ...]
    added: tuple[str, ...]


def training(config: RunConfig) -> Segment:
    """Train on the annotated slices, or go on with the run before, and predict."""

    def segment(case: Case, before: Path | None, after: Path) -> Prediction:
        if before is None:
            pipeline.train([case], after, config)
        else:
            pipeline.continue_training(before, [case], after)
        return pipeline.predict(after, case, device=config.device)

    return segment


def propagation(config: RunConfig) -> Segment:
    """Propagate the annotated slices."""
    return lambda case, _before, _after: pipeline.propagate(case, config)


def follow(
    case: Case,
    dense: NDArray[np.uint16],
    segment: Segment,
    rounds: int,
    seed: int = 0,
    strategies: Sequence[Strategy] = STRATEGIES,
    dataset: str = "",
) -> list[Course]:
    """Simulate strategies on one scan.

    Parameters
    ----------
    case
        The scan with its first annotated slices.
    dense
        (z, y, x) dense labels, the source of every added slice and of the Dice over the whole volume.
    segment
        `training` or `propagation`.
    rounds
        Slices added one by one.
    seed
        Of the random choice.
    """
    courses = []
    with temporary_folder() as folder:
        first = folder / "first"
        begun = segment(case, None, first)
        for strategy in strategies:
            rng, run, prediction = np.random.default_rng(seed), first, begun
            dice, planes = [_dice(prediction, dense, case)], list(case.annotated)
            for turn in range(rounds):
                plane = choose(strategy, prediction, planes, rng, turn)
                if plane is None:
                    break
                planes.append(plane)
                grown = Case.create(
                    case.image, dense, slices=planes, grid=case.grid, classes=case.classes, name=case.name
                )
                before, run = run, folder / f"{strategy}{turn}"
                prediction = segment(grown, before, run)
                dice.append(_dice(prediction, dense, case))
            added = tuple(f"{plane.axis}:{plane.index}" for plane in planes[len(case.annotated) :])
            dice += dice[-1:] * (rounds + 1 - len(dice))
            courses.append(Course(dataset, case.name, strategy, tuple(dice), added))
    return courses


def choose(
    strategy: Strategy, prediction: Prediction, annotated: Sequence[AnnotatedSlice], rng: np.random.Generator, turn: int
) -> AnnotatedSlice | None:
    """Choose the slice to annotate next, None if none is left; `turn` counts the slices added so far."""
    if strategy == "suggested":
        return pipeline.suggest(prediction, annotated).plane
    mask = prediction.mask > 0
    extents = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    if strategy == "random":
        planes = [AnnotatedSlice(axis, int(i)) for axis, extent in enumerate(extents) for i in extent]
        free = [plane for plane in planes if plane not in set(annotated)]
        return free[int(rng.integers(len(free)))] if free else None
    return _even(extents, annotated, turn) if mask.any() else None


def middle_of_widest_gap(first: int, last: int, taken: Sequence[int]) -> int | None:
    """Return the index from `first` to `last` in the middle of the widest stretch without a taken one; None if none."""
    ends = sorted({first - 1, last + 1, *(index for index in taken if first <= index <= last)})
    low, high = max(itertools.pairwise(ends), key=lambda gap: gap[1] - gap[0])
    return (low + high) // 2 if high - low > 1 else None


def _even(extents: Sequence[NDArray[np.intp]], annotated: Sequence[AnnotatedSlice], turn: int) -> AnnotatedSlice | None:
    """Choose on the axis whose turn it is, or on the next one where a slice is left."""
    for axis in (turn % 3, (turn + 1) % 3, (turn + 2) % 3):
        taken = [plane.index for plane in annotated if plane.axis == axis]
        index = middle_of_widest_gap(int(extents[axis][0]), int(extents[axis][-1]), taken)
        if index is not None:
            return AnnotatedSlice(axis, index)
    return None


def _dice(prediction: Prediction, dense: NDArray[np.uint16], case: Case) -> float:
    return scores(prediction.mask, dense, case.grid.spacing, prediction.classes)[0]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, or 2 after bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m napari_rada.evaluation.suggestion_benchmark",
        description="Dice per added slice: suggested, random and evenly spaced slices, simulated.",
    )
    parser.add_argument("--datasets", metavar="FILE", required=True, help="YAML file of data sets and their splits")
    parser.add_argument("--root", metavar="DIR", help="folder that its paths start from (that of the file)")
    parser.add_argument("--dataset", metavar="NAME", action="append", default=[], help="this data set; may be repeated")
    parser.add_argument(
        "--split", choices=("reported", "settings"), default="reported", help="which scans (%(default)s)"
    )
    parser.add_argument("--limit", metavar="N", type=at_least(1), help="take the first N scans of each data set only")
    parser.add_argument("--propagation", action="store_true", help="propagate, and train nothing")
    parser.add_argument(
        "--rounds", metavar="K", type=at_least(0), default=3, help="slices to add one by one (%(default)s)"
    )
    parser.add_argument("--seed", metavar="S", type=at_least(0), default=0, help="of the random choice (%(default)s)")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="change a setting of quick")
    parser.add_argument(
        "--strategy", choices=STRATEGIES, action="append", help="choose slices in this way alone; may be repeated"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    courses: list[Course] = []
    try:
        config = RunConfig.from_preset("quick").with_settings(parse_settings(args.set))
        collection = load_datasets(args.datasets, args.root).chosen(args.dataset)
        for dataset in collection.datasets:
            conditions = Conditions(config.seed, dataset.window)
            segment = (propagation if args.propagation else training)(under(config, conditions))
            for scan in dataset.scans(args.split, args.limit):
                dense = collection.load(dataset, scan)
                assert dense.labels is not None
                case = dense.case(choose_slices(dense.labels > 0, 1, centre=False))
                strategies = args.strategy or STRATEGIES
                found = follow(case, dense.labels, segment, args.rounds, args.seed, strategies, dataset.name)
                sys.stderr.write("".join(f"{_row(course)}\n" for course in found))
                courses += found
    except RadaError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(json.dumps([asdict(course) for course in courses]) if args.json else table(courses))
    return 0


def table(courses: Sequence[Course]) -> str:
    """Put courses into a table: each scan, then means over the scans of a data set, then over the data sets."""
    rounds = len(courses[0].dice)
    heads = ["data set", "scan", "slice chosen", "three slices", *(f"+{n}" for n in range(1, rounds))]
    lines = [f"| {' | '.join([*heads, 'added (axis:index)'])} |", "|---" * (len(heads) + 1) + "|", *map(_row, courses)]
    means: dict[Strategy, list[tuple[float, ...]]] = {}
    for dataset in dict.fromkeys(course.dataset for course in courses):
        for strategy in dict.fromkeys(course.strategy for course in courses):
            found = [course.dice for course in courses if (course.dataset, course.strategy) == (dataset, strategy)]
            means.setdefault(strategy, []).append(tuple(np.mean(found, axis=0)))
            lines.append(_mean_row(escaped(dataset), f"**mean of {len(found)}**", strategy, means[strategy][-1]))
    for strategy, by_dataset in means.items():
        if len(by_dataset) > 1:
            lines.append(_mean_row("**macro mean**", "", strategy, np.mean(by_dataset, axis=0)))
    return "\n".join(lines) + "\n"


def _row(course: Course) -> str:
    start = f"| {escaped(course.dataset)} | {escaped(course.scan)} | {course.strategy} |"
    cells = " | ".join(f"{value:.4f}" for value in course.dice)
    return f"{start} {cells} | {' '.join(course.added)} |"


def _mean_row(dataset: str, scan: str, strategy: Strategy, dice: Sequence[float] | NDArray[np.float64]) -> str:
    cells = " | ".join(f"**{value:.4f}**" for value in dice)
    return f"| {dataset} | {scan} | {strategy} | {cells} | |"


if __name__ == "__main__":
    sys.exit(status_of(main))
