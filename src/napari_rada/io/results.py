"""Predictions and annotations back into files, with the geometry of the image they belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_rada.errors import InputError
from napari_rada.io.annotations import sidecar_path, write_annotation
from napari_rada.io.files import check_output
from napari_rada.io.formats import write_volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_rada.data.case import Case
    from napari_rada.prediction import Explanation, Prediction


def check_result(path: Path | str, inputs: Sequence[Path | str] = ()) -> Path:
    """Check that a result can be written to `path` without destroying an input or an annotation.

    Parameters
    ----------
    path
        A volume file, new or to be replaced.
    inputs
        Files that must not be overwritten.

    Raises
    ------
    InputError
        If it cannot: see `check_output`; also if a sidecar shows that the file at `path` is an annotation, or would
        make one of the result.
    """
    path = check_output(path, inputs)
    sidecar = sidecar_path(path)
    if not sidecar.exists():
        return path
    if path.exists():
        raise InputError(
            f"{path} holds annotations, as {sidecar.name} beside it shows, and would be overwritten; choose another "
            "name."
        )
    raise InputError(
        f"{path} would count as annotated, since {sidecar.name} of other labels is beside it; choose another name, or "
        "delete that file if its labels are gone."
    )


def save_mask(prediction: Prediction, path: Path | str, *, inputs: Sequence[Path | str] = ()) -> None:
    """Write the mask: label values, smallest integer type, with the geometry of the predicted image.

    Parameters
    ----------
    path
        NIfTI or TIFF. In the format of the image it gets that file's header geometry exactly.
    inputs
        Files beside the image itself that must not be overwritten, such as the labels.

    Raises
    ------
    InputError
        If it cannot be written, or would overwrite an input or an annotation.
    """
    _save(prediction, prediction.mask, path, inputs)


def save_probability(prediction: Prediction, path: Path | str, *, inputs: Sequence[Path | str] = ()) -> None:
    """Write the probability as float32.

    With one foreground class it is a volume, the probability of that class; with more it has one volume per foreground
    class, in the order of the class table (NIfTI: fourth dimension; TIFF: channels). Parameters as in `save_mask`.
    """
    foreground = prediction.probability[1:]
    _save(prediction, foreground[0] if len(foreground) == 1 else foreground, path, inputs)


def save_disagreement(prediction: Prediction, path: Path | str, *, inputs: Sequence[Path | str] = ()) -> None:
    """Write how much the opinions contradict each other, float32 in 0..1. Parameters as in `save_mask`.

    Raises
    ------
    InputError
        As `save_mask`, and if there was only one opinion, as in a propagation by diffusion.
    """
    if prediction.disagreement is None:
        raise InputError(
            "This mask has no disagreement, there was only one opinion; propagate with method combined, or train first."
        )
    _save(prediction, prediction.disagreement, path, inputs)


def save_heat(explanation: Explanation, path: Path | str, *, inputs: Sequence[Path | str] = ()) -> None:
    """Write where the networks look for a class, float32 in 0..1. Parameters and errors as in `save_mask`."""
    _save(explanation, explanation.heat, path, inputs)


def save_labels(case: Case, path: Path | str) -> None:
    """Write the annotated slices of a case, 0 elsewhere, and beside them the sidecar that names the slices.

    Raises
    ------
    InputError
        If the case has no annotation, the file cannot be written, or it is the image itself.
    """
    if case.labels is None or case.classes is None:
        raise InputError(f"{case.name} has no annotated slices to save; annotate some first.")
    path = check_output(path, [] if case.source is None else [case.source])
    labels, source = case.labels.astype(case.classes.dtype), _existing(case.source)
    write_annotation(path, labels, case.grid, source, slices=case.annotated, classes=case.classes.classes)


def _save(
    prediction: Prediction | Explanation, values: NDArray[Any], path: Path | str, inputs: Sequence[Path | str]
) -> None:
    source = prediction.source
    path = check_result(path, [*inputs, *([] if source is None else [source])])
    is_mask = values.dtype.kind in "bui"
    values = values if is_mask else values.astype(np.float32, copy=False)
    write_volume(path, values, prediction.grid, _existing(source), labels=is_mask)


def _existing(source: Path | None) -> Path | None:
    """Return the image file if it is still there; a result is not lost because its image has moved."""
    return source if source is not None and source.is_file() else None
