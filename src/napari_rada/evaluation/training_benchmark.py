"""Does training pay? Propagation and trained networks on the same three slices of real scans.

``python -m napari_rada.evaluation.training_benchmark DATA_DIR [--preset quick] [--limit N] [--json]`` keeps, of the
dense labels of every scan in a folder, the slice of largest area per axis, and prints the Dice over the whole volume of
the propagation and of the networks that were trained on that one scan.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_rada import pipeline
from napari_rada.config import RunConfig, parse_settings
from napari_rada.errors import RadaError
from napari_rada.evaluation.propagation_benchmark import find_scans, load_scan, scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_rada.data.case import Case


@dataclass(frozen=True)
class Score:
    """One scan: Dice in 0..1 of both masks with the dense labels, and the wall time in seconds of each way."""

    scan: str
    propagation: float
    networks: float
    propagation_s: float
    networks_s: float


def score_scan(case: Case, dense: NDArray[np.uint16], config: RunConfig) -> Score:
    """Propagate, train and predict one sparsely labelled case; `dense` holds its dense labels (z, y, x)."""
    started = time.perf_counter()
    propagated = pipeline.propagate(case, config)
    propagated_at = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = pipeline.train([case], Path(folder) / "run", config)
        predicted = pipeline.predict(run.run_dir, case, device=config.device)
    ended = time.perf_counter()
    before, after = (scores(p.mask, dense, case.grid.spacing, p.classes)[0] for p in (propagated, predicted))
    return Score(case.name, before, after, propagated_at - started, ended - propagated_at)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, or 2 after bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m napari_rada.evaluation.training_benchmark",
        description="Dice of propagation and of trained networks, from three slices of each scan.",
    )
    parser.add_argument("data", metavar="DATA_DIR", type=Path, help="folder with NAME_label.* beside each image NAME_*")
    parser.add_argument("--preset", default="quick", help="preset to train with (default: quick)")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="change a setting")
    parser.add_argument("--value", metavar="V", type=int, help="keep this label value alone")
    parser.add_argument("--whole", action="store_true", help="take all labels as one structure")
    parser.add_argument("--limit", metavar="N", type=int, help="take the first N scans only")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    try:
        config = RunConfig.from_preset(args.preset).with_settings(parse_settings(args.set))
        measured = []
        for scan in find_scans(args.data)[: args.limit]:
            measured.append(score_scan(*load_scan(scan, args.value, whole=args.whole), config))
            sys.stderr.write(_row(measured[-1]) + "\n")
    except RadaError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(json.dumps([asdict(score) for score in measured]) if args.json else _table(measured))
    return 0


def _table(measured: Sequence[Score]) -> str:
    heading = "| scan | propagation, Dice | networks, Dice | propagation, s | training and prediction, s |"
    lines = [heading, "|---" * 5 + "|", *map(_row, measured)]
    dice = [[score.propagation for score in measured], [score.networks for score in measured]]
    cells = [f"{np.mean(values):.4f} ± {np.std(values):.4f}" for values in dice]
    lines.append(f"| **mean of {len(measured)}** | {cells[0]} | {cells[1]} | | |")
    return "\n".join(lines) + f"\n\nPeak memory: {_peak_memory()}\n"


def _peak_memory() -> str:
    """Largest resident memory of this process so far; Windows does not tell it this way."""
    if sys.platform == "win32":
        return "not known on Windows"
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kibibytes
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30:.2f} GiB"


def _row(score: Score) -> str:
    return (
        f"| {score.scan} | {score.propagation:.4f} | {score.networks:.4f} "
        f"| {score.propagation_s:.1f} | {score.networks_s:.1f} |"
    )


if __name__ == "__main__":
    sys.exit(main())
