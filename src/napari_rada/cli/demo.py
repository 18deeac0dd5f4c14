"""The main job on the built-in scan: sparse labels to propagated mask to trained mask, measured and drawn."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import napari_rada as rada
from napari_rada import io
from napari_rada.cli.chosen_config import config_from
from napari_rada.cli.commands import output_folder
from napari_rada.cli.picture import save_picture
from napari_rada.data.sample import Sample, make_sample
from napari_rada.events import FinishReason

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from napari_rada.cli.console import Console
    from napari_rada.control import RunControl
    from napari_rada.data.case import Case
    from napari_rada.evaluation.metrics import ClassMetrics
    from napari_rada.prediction import Prediction


def demo(args: argparse.Namespace, console: Console, control: RunControl) -> bool:
    """Make the sample, propagate, train, predict, compare with the truth; False if training was stopped."""
    config = config_from(args)
    folder = output_folder(args.out)
    sample = make_sample()
    case = _write_inputs(sample, folder)
    propagated = rada.propagate(case, config, control=control, listener=console)
    io.save_mask(propagated, folder / "sample_propagated.nii.gz")
    run_dir = _new_run_dir(folder)
    result = rada.train([case], run_dir, config, control=control, listener=console)
    if result.reason is FinishReason.STOPPED:
        return False
    predicted = rada.predict(run_dir, case, device=config.device, control=control, listener=console)
    io.save_mask(predicted, folder / "sample_mask.nii.gz")
    io.save_probability(predicted, folder / "sample_probability.nii.gz")
    io.save_disagreement(predicted, folder / "sample_disagreement.nii.gz")
    save_picture(folder / "sample.png", case, sample.truth, predicted.mask)
    scores = {"propagation": _score(propagated, sample), "trained": _score(predicted, sample)}
    data: dict[str, Any] = {name: asdict(score) for name, score in scores.items()}
    console.result({**data, "folder": folder, "run": run_dir}, _report(scores, folder))
    return True


def _write_inputs(sample: Sample, folder: Path) -> Case:
    """Write scan, truth and sparse labels, and read the case back as any other would be read."""
    image, labels = folder / "sample_image.nii.gz", folder / "sample_labels.nii.gz"
    io.write_volume(image, sample.case.image, sample.case.grid)
    io.write_volume(folder / "sample_truth.nii.gz", sample.truth.astype("uint8"), sample.case.grid, labels=True)
    io.save_labels(sample.case, labels)
    return io.load_case(image, labels, name="sample")


def _new_run_dir(folder: Path) -> Path:
    """Return a name for a run folder that is still free: an earlier demo is never deleted."""
    number = 1
    while (folder / f"run{number}").exists():
        number += 1
    return folder / f"run{number}"


def _score(prediction: Prediction, sample: Sample) -> ClassMetrics:
    from napari_rada.evaluation.metrics import evaluate_masks

    return evaluate_masks(prediction.mask, sample.truth, sample.case.grid.spacing, sample.case.classes)[0]


def _report(scores: dict[str, ClassMetrics], folder: Path) -> str:
    lines = [
        f"{name}: Dice {score.dice:.4f}, HD95 {score.hd95_mm:.2f} mm against the true mask"
        for name, score in scores.items()
    ]
    lines.append(
        f"Files in {folder}: sample_mask.nii.gz is the result, sample.png shows it (truth green, mask orange)."
    )
    return "\n".join(lines)
