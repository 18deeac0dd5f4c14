"""Propagate, train, predict: the use cases that the API, the command line and the viewer all call."""

from napari_rada.pipeline.continuing import continue_training
from napari_rada.pipeline.predicting import explain, predict, preview, suggest
from napari_rada.pipeline.propagating import propagate
from napari_rada.pipeline.training import TrainingResult, resume, train

__all__ = [
    "TrainingResult",
    "continue_training",
    "explain",
    "predict",
    "preview",
    "propagate",
    "resume",
    "suggest",
    "train",
]
