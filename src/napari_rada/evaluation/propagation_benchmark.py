"""How good propagation alone is: from the slice of largest area per axis to the whole structure.

``python -m napari_rada.evaluation.propagation_benchmark DATA_DIR [--method diffusion|registration] …`` measures every
scan of a folder that has dense labels. Dice is taken over the whole volume, annotated slices included. Time is that of
the whole call, from the image as an array to the mask on its grid; files and metrics are not counted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_rada.config import RunConfig, parse_settings
from napari_rada.control import RunControl
from napari_rada.data.case import Case, check_trainable
from napari_rada.data.working import make_working_case
from napari_rada.errors import InputError, RadaError
from napari_rada.evaluation.metrics import evaluate_masks
from napari_rada.evaluation.sparse import largest_slices
from napari_rada.inference.ensemble import assemble
from napari_rada.io import check_same_grid, read_volume, stem_of
from napari_rada.propagation import make_propagator

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from napari_rada.data.classes import ClassTable
    from napari_rada.data.grid import Spacing
    from napari_rada.data.working import WorkingCase
    from napari_rada.prediction import Prediction
    from napari_rada.propagation.base import Probability, PseudoLabels

LABEL_SUFFIX = "_label"


class ScanFiles(NamedTuple):
    """A scan and its dense labels."""

    name: str
    image: Path
    labels: Path


@dataclass(frozen=True)
class Measurement:
    """One scan.

    Parameters
    ----------
    dice, hd95_mm
        Of the fused mask, mean over the classes.
    per_view
        Dice of the mask made from one annotated slice alone, along array axis 0, 1, 2; empty if the method does not
        tell views apart.
    wall_s, cpu_s
        Seconds by the clock, and of computing on all cores together.
    """

    name: str
    dice: float
    hd95_mm: float
    per_view: tuple[float, ...]
    wall_s: float
    cpu_s: float


def find_scans(folder: Path | str) -> list[ScanFiles]:
    """Pair each ``NAME_label.*`` of a folder with the one other file whose name starts with ``NAME_``.

    Raises
    ------
    InputError
        If there is no such pair, or more than one image fits.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; name one that holds images and their dense labels.")
    files = sorted(path for path in folder.iterdir() if path.is_file())
    scans = []
    for labels in files:
        if not stem_of(labels).endswith(LABEL_SUFFIX):
            continue
        name = stem_of(labels).removesuffix(LABEL_SUFFIX)
        images = [path for path in files if path != labels and stem_of(path).startswith(f"{name}_")]
        if len(images) != 1:
            raise InputError(f"{labels}: {len(images)} files fit as its image; exactly one must be called {name}_….")
        scans.append(ScanFiles(name, images[0], labels))
    if not scans:
        raise InputError(f"{folder} holds no file called NAME{LABEL_SUFFIX}; dense labels are needed to measure.")
    return scans


def load_scan(scan: ScanFiles, value: int | None = None, *, whole: bool = False) -> tuple[Case, NDArray[np.uint16]]:
    """Read a scan as a case with the slice of largest area per axis annotated, and its dense labels (z, y, x).

    Parameters
    ----------
    value
        Keep this structure alone; None keeps all classes and chooses the slices by all of them together.
    whole
        Take all labels as one structure.
    """
    image, labels = read_volume(scan.image), read_volume(scan.labels)
    check_same_grid(labels, image)
    slices = largest_slices(labels.array, value)
    dense = labels.array
    if whole or value is not None:
        dense = dense != 0 if value is None else dense == value
    dense = dense.astype(np.uint16)
    return Case.create(image.array, dense, slices=slices, grid=image.grid, name=scan.name), dense


def measure(case: Case, dense: NDArray[np.uint16], config: RunConfig, *, held_out: bool = False) -> Measurement:
    """Propagate one case and compare with its dense labels (z, y, x); `held_out` also makes the folds."""
    wall, cpu = time.perf_counter(), time.process_time()
    working = prepare(case, config)
    propagator = make_propagator(config.propagation)
    pseudo = propagator.propagate(
        working, held_out=held_out, control=RunControl(), on_progress=lambda done, total: None
    )
    prediction = to_mask(case, working, pseudo.probability)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    dice, hd95 = scores(prediction.mask, dense, case.grid.spacing, prediction.classes)
    return Measurement(case.name, dice, hd95, views_dice(case, working, pseudo, dense), wall, cpu)


def prepare(case: Case, config: RunConfig) -> WorkingCase:
    """Bring a case to the working grid of a configuration."""
    return make_working_case(
        case,
        check_trainable([case]),
        max_voxels=config.data.max_voxels,
        crop_margin=config.data.crop_margin,
        percentiles=config.data.percentiles,
        window=config.data.window,
    )


def to_mask(case: Case, working: WorkingCase, probability: Probability) -> Prediction:
    """Bring a probability (C, Z, Y, X) to the case's own grid."""
    classes = check_trainable([case])
    return assemble(case, working, classes, probability, None, keep_annotated=True, provenance={})


def views_dice(case: Case, working: WorkingCase, pseudo: PseudoLabels, dense: NDArray[np.uint16]) -> tuple[float, ...]:
    """Dice of each view's own labelling; the annotated slices of the others are not stamped into it."""
    if len(pseudo.labels) == 1:
        return ()
    classes = check_trainable([case])
    found = []
    for labels in pseudo.labels:
        one_hot = np.stack([labels == index for index in range(len(classes))]).astype(np.float32)
        mask = classes.decode(working.to_full(one_hot).argmax(axis=0))
        found.append(scores(mask, dense, case.grid.spacing, classes)[0])
    return tuple(found)


def scores(
    mask: NDArray[np.integer], dense: NDArray[np.integer], spacing: Spacing, classes: ClassTable
) -> tuple[float, float]:
    """Dice and HD95 in mm, mean over the foreground classes."""
    per_class = evaluate_masks(mask, dense, spacing, classes)
    return float(np.mean([m.dice for m in per_class])), float(np.mean([m.hd95_mm for m in per_class]))


def summary(measurements: Sequence[Measurement]) -> dict[str, float]:
    """Mean and standard deviation over the scans, keys ``FIELD_mean`` and ``FIELD_std``."""
    found: dict[str, float] = {}
    for field, values in _columns(measurements).items():
        found[f"{field}_mean"] = float(np.mean(values))
        found[f"{field}_std"] = float(np.std(values))
    return found


def table(measurements: Sequence[Measurement]) -> str:
    """Write a Markdown table: one row per scan, then mean ± standard deviation."""
    columns = _columns(measurements)
    lines = ["| scan | " + " | ".join(_HEADINGS[field] for field in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row, measured in enumerate(measurements):
        cells = [f"{values[row]:.{_DIGITS[field]}f}" for field, values in columns.items()]
        lines.append(f"| {measured.name} | " + " | ".join(cells) + " |")
    means = [
        f"{np.mean(values):.{_DIGITS[field]}f} ± {np.std(values):.{_DIGITS[field]}f}"
        for field, values in columns.items()
    ]
    return "\n".join([*lines, f"| **mean of {len(measurements)}** | " + " | ".join(means) + " |"]) + "\n"


_HEADINGS = {
    "dice": "Dice",
    "hd95_mm": "HD95, mm",
    "axis_0": "axis 0 alone",
    "axis_1": "axis 1 alone",
    "axis_2": "axis 2 alone",
    "wall_s": "time, s",
    "cpu_s": "CPU time, s",
}
_DIGITS = {"dice": 4, "axis_0": 4, "axis_1": 4, "axis_2": 4, "hd95_mm": 2, "wall_s": 2, "cpu_s": 2}


def _columns(measurements: Sequence[Measurement]) -> dict[str, list[float]]:
    columns = {"dice": [m.dice for m in measurements], "hd95_mm": [m.hd95_mm for m in measurements]}
    if all(m.per_view for m in measurements):
        columns |= {f"axis_{axis}": [m.per_view[axis] for m in measurements] for axis in range(3)}
    return columns | {"wall_s": [m.wall_s for m in measurements], "cpu_s": [m.cpu_s for m in measurements]}


class ResultFile:
    """Finished scans, one JSON object a line, so that a long benchmark can be interrupted and go on.

    Parameters
    ----------
    path
        Made if it does not exist; None keeps nothing.
    settings
        What was measured. A file of other settings is refused.
    """

    def __init__(self, path: Path | None, settings: dict[str, Any]) -> None:
        self.path = path
        self.settings = settings

    def load(self) -> dict[str, Measurement]:
        """Return the finished scans by name.

        Raises
        ------
        InputError
            If the file holds something else, or results of other settings.
        """
        if self.path is None or not self.path.exists():
            return {}
        finished = {}
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
                same = entry.pop("settings") == self.settings
                measured = Measurement(**{**entry, "per_view": tuple(entry["per_view"])})
            except (ValueError, TypeError, KeyError, AttributeError):
                raise InputError(f"{self.path} holds no results of this benchmark; name another file.") from None
            if not same:
                raise InputError(f"{self.path} holds results of other settings; name another file.")
            finished[measured.name] = measured
        return finished

    def add(self, measured: Measurement) -> None:
        """Append a finished scan."""
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"settings": self.settings, **asdict(measured)}) + "\n")


def benchmark(
    scans: Iterable[ScanFiles],
    config: RunConfig,
    results: ResultFile,
    *,
    value: int | None = None,
    whole: bool = False,
    held_out: bool = False,
) -> list[Measurement]:
    """Measure every scan that `results` does not hold yet; tells each on stderr when it is done."""
    finished = results.load()
    measured = []
    for scan in scans:
        if scan.name not in finished:
            case, dense = load_scan(scan, value, whole=whole)
            finished[scan.name] = measure(case, dense, config, held_out=held_out)
            results.add(finished[scan.name])
        measured.append(finished[scan.name])
        sys.stderr.write(f"{scan.name}: Dice {measured[-1].dice:.4f}, {measured[-1].wall_s:.1f} s\n")
    return measured


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, or 2 after bad input."""
    args = _parser().parse_args(argv)
    try:
        config = RunConfig.from_preset("quick").with_settings(
            {"propagation.method": args.method, **parse_settings(args.settings)}
        )
        scans = find_scans(args.data)[: args.limit]
        described = {
            **config.model_dump(mode="json", include={"data", "propagation"}),
            "value": args.value,
            "whole": args.whole,
            "held_out": args.held_out,
        }
        results = ResultFile(args.results, described)
        measured = benchmark(scans, config, results, value=args.value, whole=args.whole, held_out=args.held_out)
    except RadaError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    if args.json:
        report = {"settings": described, "scans": [asdict(m) for m in measured], **summary(measured)}
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    else:
        sys.stdout.write(table(measured))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m napari_rada.evaluation.propagation_benchmark",
        description="Propagate from the slice of largest area per axis and compare with the dense labels.",
    )
    parser.add_argument("data", metavar="DATA_DIR", type=Path, help="folder with NAME_label.* beside each image NAME_*")
    parser.add_argument("--method", choices=["diffusion", "registration"], default="diffusion")
    parser.add_argument("--value", metavar="V", type=int, help="keep this label value alone")
    parser.add_argument("--whole", action="store_true", help="take all labels as one structure")
    parser.add_argument("--held-out", action="store_true", help="also make the folds without one view each")
    parser.add_argument("--limit", metavar="N", type=int, help="measure the first N scans only")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", dest="settings", action="append", default=[], help="a setting of the quick preset"
    )
    parser.add_argument("--results", metavar="FILE", type=Path, help="keep finished scans here, and go on from them")
    parser.add_argument("--json", action="store_true", help="print everything as JSON instead of a table")
    return parser


if __name__ == "__main__":
    sys.exit(main())
