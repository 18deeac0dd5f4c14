"""Prediction of volumes that do not fit in memory, chunk by chunk, here or on a cluster."""

from napari_rada.outofcore.predict import MEMORY, VolumeResult, predict_volume

__all__ = ["MEMORY", "VolumeResult", "predict_volume"]
