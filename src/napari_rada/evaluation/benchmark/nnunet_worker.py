"""What runs in the process of nnU-Net: plan, preprocess, train for a time, predict.

``python -m napari_rada.evaluation.benchmark.nnunet_worker FOLDER PARENT``. nnU-Net is imported when it is needed, for
it reads its folders from the environment at that time.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_rada.evaluation.family import end_with

if TYPE_CHECKING:
    from collections.abc import Iterator

RAW, PREPROCESSED, RESULTS = "raw", "preprocessed", "results"
NUMBER, DATASET = 1, "Dataset001_Scan"
CONFIGURATION = "3d_fullres"
JOB, SUMMARY, MASK = "job.json", "summary.txt", "mask.nii.gz"
AUGMENTING = "nnUNet_n_proc_DA"
"""The variable that says in how many processes nnU-Net augments; 0 for its own."""


class Trainer(Protocol):
    """What is used of ``nnUNetTrainer``."""

    num_epochs: int
    network: Any
    lr_scheduler: Any
    dataloader_train: Iterator[dict[str, Any]]

    def on_train_start(self) -> None:
        """Build the network and start the loaders."""

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Do one iteration."""


def variables(folder: Path) -> dict[str, str]:
    """Return the environment with which nnU-Net keeps to the folder."""
    return {
        "nnUNet_raw": str(folder / RAW),
        "nnUNet_preprocessed": str(folder / PREPROCESSED),
        "nnUNet_results": str(folder / RESULTS),
        "MPLBACKEND": "agg",
    }


def prepare() -> None:
    """Plan and preprocess the dataset."""
    os.environ.pop(AUGMENTING, None)  # the planner takes it for a number of threads, of which 0 is none
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api

    api.extract_fingerprints([NUMBER], num_processes=1)
    plans = api.plan_experiments([NUMBER])
    api.preprocess([NUMBER], plans or "nnUNetPlans", (CONFIGURATION,), num_processes=[1])


def make_trainer(seed: int) -> Any:
    """Make nnU-Net's default trainer for the dataset, on the CPU, augmenting in this process."""
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    os.environ[AUGMENTING] = "0"
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - nnU-Net draws from it
    torch.manual_seed(seed)
    return get_trainer_from_args(DATASET, CONFIGURATION, "all", device=torch.device("cpu"))


def train(trainer: Trainer, seconds: float) -> int:
    """Train until the time is over, or would be within the next iteration; returns the number of iterations."""
    trainer.on_train_start()
    trainer.network.train()
    start, elapsed, done = time.perf_counter(), 0.0, 0
    while not done or elapsed + elapsed / done <= seconds:
        trainer.lr_scheduler.step(min(elapsed / seconds, 1.0) * trainer.num_epochs)
        trainer.train_step(next(trainer.dataloader_train))
        done, elapsed = done + 1, time.perf_counter() - start
    return done


def predict(trainer: Any, image: Path, mask: Path) -> None:
    """Predict an image as ``nnUNetv2_predict`` does, with tiles that overlap by half and with mirroring."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    trainer.set_deep_supervision_enabled(False)
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [trainer.network.state_dict()],
        trainer.dataset_json,
        type(trainer).__name__,
        trainer.inference_allowed_mirroring_axes,
    )
    stem = str(mask).removesuffix(trainer.dataset_json["file_ending"])
    predictor.predict_from_files_sequential([[str(image)]], [stem])


def main(folder: Path) -> None:
    """Do the job in a folder."""
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    prepare()
    trainer = make_trainer(job["seed"])
    done = train(trainer, job["seconds"])
    plan = trainer.configuration_manager
    size = " x ".join(str(side) for side in plan.patch_size)
    text = f"nnU-Net trained {done} iterations of {plan.batch_size} patches of {size} voxels."
    (folder / SUMMARY).write_text(text, encoding="utf-8")
    (image,) = (folder / RAW / DATASET / "imagesTr").iterdir()
    predict(trainer, image, folder / MASK)


if __name__ == "__main__":
    end_with(int(sys.argv[2]))
    main(Path(sys.argv[1]))
