"""Does training pay? Propagation and trained networks on the same three slices of real scans.

``python -m napari_rada.evaluation.training_benchmark DATA_DIR [--preset quick] [--limit N] [--json]`` takes every
``NAME_image.*`` with a ``NAME_label.*`` beside it, keeps of the labels the slice of largest area per axis, and prints
the Dice over the whole volume of the propagation and of the networks that were trained on that one scan.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_rada import pipeline
from napari_rada.config import RunConfig
from napari_rada.data.case import Case
from napari_rada.errors import InputError, RadaError
from napari_rada.evaluation.sparse import largest_slices
from napari_rada.io import read_volume

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Score:
    """One scan: Dice in 0..1 of both masks with the dense labels, and the wall time in seconds of each way."""

    scan: str
    propagation: float
    networks: float
    propagation_s: float
    networks_s: float


def score_scan(image: Path, label: Path, value: int | None, config: RunConfig) -> Score:
    """Propagate, train and predict one scan from its slices of largest area."""
    scan, dense = read_volume(image), read_volume(label)
    truth = (dense.array != 0) if value is None else (dense.array == value)
    labels = truth.astype(np.uint8)
    case = Case.create(scan.array, labels, slices=largest_slices(labels), grid=scan.grid, name=image.name)
    started = time.perf_counter()
    propagated = pipeline.propagate(case, config)
    propagated_at = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = pipeline.train([case], Path(folder) / "run", config)
        predicted = pipeline.predict(run.run_dir, case, device=config.device)
    return Score(
        scan=image.name.split("_image")[0].split("_ct")[0].split("_mr")[0],
        propagation=dice(propagated.mask, truth),
        networks=dice(predicted.mask, truth),
        propagation_s=propagated_at - started,
        networks_s=time.perf_counter() - propagated_at,
    )


def dice(mask: NDArray[np.integer], truth: NDArray[np.bool_]) -> float:
    """Dice of the foreground with the truth, 0..1."""
    found = mask != 0
    return float(2.0 * (found & truth).sum() / (found.sum() + truth.sum()))


def find_scans(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield (image, label) of every labelled scan in a folder, in order of their names."""
    for label in sorted(folder.glob("*_label.nii*")):
        stem = label.name.split("_label")[0]
        images = [path for path in sorted(folder.glob(f"{stem}_*.nii*")) if path != label]
        if len(images) != 1:
            raise InputError(f"{label} needs one image beside it that is called {stem}_….nii.gz; found {len(images)}.")
        yield images[0], label


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, or 2 after bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m napari_rada.evaluation.training_benchmark",
        description="Dice of propagation and of trained networks, from three slices of each scan.",
    )
    parser.add_argument("data", metavar="DATA_DIR", type=Path, help="folder of NAME_image.nii.gz and NAME_label.nii.gz")
    parser.add_argument("--preset", default="quick", help="preset to train with (default: quick)")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="change a setting")
    parser.add_argument("--value", metavar="V", type=int, help="structure; all labels together by default")
    parser.add_argument("--limit", metavar="N", type=int, help="take the first N scans only")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    try:
        settings = dict(item.split("=", 1) for item in args.set)
        config = RunConfig.from_preset(args.preset).with_settings(settings)
        scores = []
        for image, label in list(find_scans(args.data))[: args.limit]:
            scores.append(score_scan(image, label, args.value, config))
            sys.stderr.write(_row(scores[-1]) + "\n")
        if not scores:
            raise InputError(f"{args.data} has no file that is called NAME_label.nii or NAME_label.nii.gz.")
    except RadaError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(json.dumps([asdict(score) for score in scores]) if args.json else _table(scores))
    return 0


def _table(scores: Sequence[Score]) -> str:
    lines = ["| scan | propagation | networks | s | s |", "|---|---|---|---|---|", *map(_row, scores)]
    for name, values in (("propagation", [s.propagation for s in scores]), ("networks", [s.networks for s in scores])):
        lines.append(f"{name}: mean Dice {np.mean(values):.4f} ± {np.std(values):.4f}, {len(scores)} scans")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    lines.append(f"peak memory of the process: {peak:.2f} GiB")
    return "\n".join(lines) + "\n"


def _row(score: Score) -> str:
    return (
        f"| {score.scan} | {score.propagation:.4f} | {score.networks:.4f} "
        f"| {score.propagation_s:.1f} | {score.networks_s:.1f} |"
    )


if __name__ == "__main__":
    sys.exit(main())
