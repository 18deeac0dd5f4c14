"""Does it pay to annotate the suggested slice? Simulated on scans with dense labels.

``python -m napari_rada.evaluation.suggestion_benchmark DATA_DIR [--rounds 3] [--set training.iterations=40] …``

Each scan starts with its slice of largest area per axis. Then, round by round, one slice is added, its labels taken
from the dense ones, and training continues from the run before. Three ways to choose the slice are compared; all start
from the same first run:

- *suggested*: what `suggest` names, from the disagreement of the networks;
- *random*: any slice that meets the predicted mask and is not annotated, all equally likely;
- *even*: the axes in turn, the middle of the widest gap between annotated slices, within the predicted mask's extent.

None of them sees the dense labels before its slice is chosen.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from napari_rada import pipeline
from napari_rada.config import RunConfig, parse_settings
from napari_rada.data.case import Case
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import RadaError
from napari_rada.evaluation.scans import find_scans, load_scan, scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_rada.prediction import Prediction

Strategy: TypeAlias = Literal["suggested", "random", "even"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)


@dataclass(frozen=True)
class Course:
    """One scan, one strategy: Dice with the first slices and after each added one, and which slices were added."""

    scan: str
    strategy: Strategy
    dice: tuple[float, ...]
    added: tuple[str, ...]


def follow(
    case: Case,
    dense: NDArray[np.uint16],
    config: RunConfig,
    rounds: int,
    seed: int = 0,
    strategies: Sequence[Strategy] = STRATEGIES,
    folder: Path | None = None,
) -> list[Course]:
    """Simulate strategies on one scan.

    Parameters
    ----------
    case
        The scan with its first annotated slices.
    dense
        (z, y, x) dense labels, the source of every added slice and of the Dice over the whole volume.
    rounds
        Slices added one by one.
    seed
        Of the random choice.
    folder
        Where the run folders go; a temporary one by default.
    """
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            return follow(case, dense, config, rounds, seed, strategies, Path(temporary))
    first = folder / "first"
    pipeline.train([case], first, config)
    prediction = pipeline.predict(first, case, device=config.device)
    return [_course(s, case, dense, prediction, first, rounds, seed, folder) for s in strategies]


def choose(
    strategy: Strategy, prediction: Prediction, annotated: Sequence[AnnotatedSlice], rng: np.random.Generator, turn: int
) -> AnnotatedSlice:
    """Choose the slice to annotate next; `turn` counts the slices added so far."""
    if strategy == "suggested":
        return pipeline.suggest(prediction, annotated).plane
    mask = prediction.mask > 0
    extents = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    if strategy == "random":
        planes = [AnnotatedSlice(axis, int(i)) for axis, extent in enumerate(extents) for i in extent]
        free = [plane for plane in planes if plane not in set(annotated)]
        return free[int(rng.integers(len(free)))]
    axis = turn % 3
    taken = [plane.index for plane in annotated if plane.axis == axis]
    return AnnotatedSlice(axis, middle_of_widest_gap(int(extents[axis][0]), int(extents[axis][-1]), taken))


def middle_of_widest_gap(first: int, last: int, taken: Sequence[int]) -> int:
    """Return the index from `first` to `last` that lies in the middle of the widest stretch without a taken one."""
    ends = sorted({first - 1, last + 1, *(index for index in taken if first <= index <= last)})
    low, high = max(itertools.pairwise(ends), key=lambda gap: gap[1] - gap[0])
    return (low + high) // 2


def _course(
    strategy: Strategy,
    case: Case,
    dense: NDArray[np.uint16],
    prediction: Prediction,
    run: Path,
    rounds: int,
    seed: int,
    folder: Path,
) -> Course:
    rng = np.random.default_rng(seed)
    dice, planes = [_dice(prediction, dense, case)], list(case.annotated)
    for turn in range(rounds):
        planes.append(choose(strategy, prediction, planes, rng, turn))
        grown = Case.create(case.image, dense, slices=planes, grid=case.grid, name=case.name)
        after = folder / f"{strategy}{turn}"
        pipeline.continue_training(run, [grown], after)
        run, prediction = after, pipeline.predict(after, grown)
        dice.append(_dice(prediction, dense, case))
    added = tuple(f"{plane.axis}:{plane.index}" for plane in planes[len(case.annotated) :])
    return Course(case.name, strategy, tuple(dice), added)


def _dice(prediction: Prediction, dense: NDArray[np.uint16], case: Case) -> float:
    return scores(prediction.mask, dense, case.grid.spacing, prediction.classes)[0]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, or 2 after bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m napari_rada.evaluation.suggestion_benchmark",
        description="Dice per added slice: suggested, random and evenly spaced slices, simulated.",
    )
    parser.add_argument("data", metavar="DATA_DIR", type=Path, help="folder with NAME_label.* beside each image NAME_*")
    parser.add_argument("--rounds", metavar="K", type=int, default=3, help="slices to add one by one (%(default)s)")
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="of the random choice (%(default)s)")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="change a setting of quick")
    parser.add_argument("--value", metavar="V", type=int, help="keep this label value alone")
    parser.add_argument("--whole", action="store_true", help="take all labels as one structure")
    parser.add_argument("--limit", metavar="N", type=int, help="take the first N scans only")
    parser.add_argument(
        "--strategy", choices=STRATEGIES, action="append", help="choose slices in this way alone; may be repeated"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    courses: list[Course] = []
    try:
        config = RunConfig.from_preset("quick").with_settings(parse_settings(args.set))
        for scan in find_scans(args.data)[: args.limit]:
            loaded = load_scan(scan, args.value, whole=args.whole)
            found = follow(*loaded, config, args.rounds, args.seed, args.strategy or STRATEGIES)
            sys.stderr.write("".join(f"{_row(course)}\n" for course in found))
            courses += found
    except RadaError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(json.dumps([asdict(course) for course in courses]) if args.json else table(courses))
    return 0


def table(courses: Sequence[Course]) -> str:
    """Put courses into a table: each scan, then the means over the scans."""
    rounds = len(courses[0].dice)
    heads = ["scan", "slice chosen", "three slices", *(f"+{n}" for n in range(1, rounds)), "added (axis:index)"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *map(_row, courses)]
    for strategy in dict.fromkeys(course.strategy for course in courses):
        dice = np.mean([course.dice for course in courses if course.strategy == strategy], axis=0)
        cells = " | ".join(f"**{value:.4f}**" for value in dice)
        lines.append(f"| **mean** | {strategy} | {cells} | |")
    return "\n".join(lines) + "\n"


def _row(course: Course) -> str:
    cells = " | ".join(f"{value:.4f}" for value in course.dice)
    return f"| {course.scan} | {course.strategy} | {cells} | {' '.join(course.added)} |"


if __name__ == "__main__":
    sys.exit(main())
