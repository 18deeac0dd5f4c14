"""Volumes larger than memory: layers that are read in parts, predicted chunk by chunk, shown in parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_rada._napari.layers import PROVENANCE_KEY, full_resolution, grid_of, placement_of_layer, shape_of
from napari_rada.errors import InputError, RadaError
from napari_rada.io.chunked import ChunkedArray, make_folder
from napari_rada.io.lazy import LazyVolume, from_array
from napari_rada.text import read_json
from napari_rada.training.run_folder import RunFolder

if TYPE_CHECKING:
    from pathlib import Path

    from napari.layers import Image

    from napari_rada._napari.job import Work
    from napari_rada._napari.layers import LayerData
    from napari_rada.control import RunControl
    from napari_rada.data.case import NonFinite
    from napari_rada.events import Listener
    from napari_rada.outofcore import VolumeResult

PREDICTIONS = "predictions"
"""Folder, inside a run folder, of what is predicted chunk by chunk unless another place is named."""


def volume_of_layer(layer: Image) -> LazyVolume:
    """Return what an Image layer shows, of a multiscale one the finest level, without reading it.

    Raises
    ------
    InputError
        If it is not a single 3D volume.
    """
    grid = grid_of(layer)
    return from_array(full_resolution(layer), grid=grid, name=str(layer.name))


def default_folder(run_dir: Path, name: str) -> Path:
    """Return where the prediction of an image called `name` is kept unless another place is named."""
    safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in name).strip("-.") or "image"
    return run_dir / PREDICTIONS / f"{safe}.ome.zarr"


def needs_annotation(run_dir: Path) -> bool:
    """Tell whether a run predicts only scans with annotated slices, and so none chunk by chunk; False if unreadable."""
    try:
        return RunFolder.open(run_dir).config().model.completes_only
    except RadaError:
        return False


def predicting_volume(
    run_dir: Path, volume: LazyVolume, out: Path, device: str, non_finite: NonFinite = "refuse"
) -> Work:
    """Work that predicts a volume chunk by chunk into a folder and returns a `VolumeResult`.

    NaN and infinity are replaced if the run or `non_finite` says so.
    """

    def work(control: RunControl, listener: Listener) -> VolumeResult:
        from napari_rada._napari.engine import keep_out_triton

        if needs_annotation(run_dir):
            raise InputError(
                "This run completes annotated slices, which are not used chunk by chunk; take off 'Chunk by chunk, "
                "into a folder', or train on several scans."
            )
        keep_out_triton()
        from napari_rada.outofcore import predict_volume

        if out.parent == run_dir / PREDICTIONS:
            make_folder(out.parent)
        replaced: NonFinite | None = "replace" if non_finite == "replace" else None  # None: as in the run
        return predict_volume(
            run_dir, volume, out, device=device, non_finite=replaced, control=control, listener=listener
        )

    return work


def result_to_layer_data(result: VolumeResult, image_layer: Image) -> LayerData:
    """Show a prediction on disk as a Labels layer that lies exactly on the image layer and reads what is looked at.

    Raises
    ------
    InputError
        If the image layer's voxels are not those that were predicted.
    """
    # dask comes with napari; nothing before the first result needs it.
    import dask.array

    if shape_of(image_layer) != result.shape:
        raise InputError(
            f"The prediction has {result.shape} voxels, but layer '{image_layer.name}' has {shape_of(image_layer)} "
            "now; predict again."
        )
    arrays = [ChunkedArray.open(result.out / str(level)) for level in range(result.levels)]
    levels = [
        dask.array.from_array(array, chunks=array.chunks, name=False, fancy=False, meta=_nothing(array))
        for array in arrays
    ]
    provenance = read_json(result.out / ".zattrs")["napari-rada"]
    place = placement_of_layer(image_layer, **{PROVENANCE_KEY: provenance | {"folder": str(result.out)}})
    several = len(levels) > 1
    settings = {"name": f"{image_layer.name} mask", "multiscale": several, **place}
    return (levels if several else levels[0], settings, "labels")


def _nothing(array: ChunkedArray) -> Any:
    """Return an empty array of the same kind, so that dask reads nothing to find it out."""
    return np.empty((0,) * array.ndim, dtype=array.dtype.newbyteorder("="))
