"""propagate, train, predict, evaluate, suggest. Each returns False if it was stopped before its end."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import napari_rada as rada  # its names load torch when they are used, after the inputs were checked
from napari_rada import io
from napari_rada.cli.chosen_config import config_from
from napari_rada.cli.volumes import is_volume, predict_volume
from napari_rada.config import parse_settings
from napari_rada.data.case import looks_like_image
from napari_rada.data.classes import MAX_LABEL, whole_numbers
from napari_rada.durable import reason_of
from napari_rada.errors import ConfigError, InputError, NotEnoughMemoryError
from napari_rada.events import FinishReason, Notice, tell

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_rada.cli.console import Console
    from napari_rada.config import RunConfig
    from napari_rada.control import RunControl
    from napari_rada.data.case import Case
    from napari_rada.evaluation.metrics import ClassMetrics
    from napari_rada.io import CaseFiles, Volume
    from napari_rada.pipeline import TrainingResult
    from napari_rada.prediction import Prediction


MOST_CLASSES = 256
"""A mask with more values is taken for an image where neighbours are hardly ever alike."""
MOST_TOLD = 9
"""So many scans are named."""


def propagate(args: argparse.Namespace, console: Console, control: RunControl) -> bool:
    """Complete annotated slices to a mask without training."""
    config = config_from(args)
    labels = io.split_labels(args.labels)
    inputs = [args.image, *labels]
    wanted = (args.out, args.probability, args.disagreement)
    mask, probability, disagreement = (None if path is None else output(path, inputs, args) for path in wanted)
    assert mask is not None
    _check_distinct([mask, probability, disagreement])
    out = Outputs(mask, probability, disagreement)
    if disagreement and config.propagation.method != "combined":
        raise InputError(
            f"Propagation by {config.propagation.method} has a single opinion and no disagreement; leave "
            "--disagreement out, or propagate with --method combined."
        )
    case = io.load_case(args.image, labels, _slices(args), non_finite=config.data.non_finite, listener=console)
    prediction = rada.propagate(case, config, control=control, listener=console)
    _save(prediction, out, labels, console)
    data, text = {**_summary(prediction), **asdict(out)}, _sentence(prediction, out.mask)
    suggested, sentence = _suggested(prediction, case)
    annotated = _annotated([case])
    text += f"\n{_told(annotated)}\nNext slice worth annotating: {sentence}"
    console.result({**data, "annotated": annotated[case.name], "next": suggested}, text)
    return True


def train(args: argparse.Namespace, console: Console, control: RunControl) -> bool:
    """Train on cases, or go on with a run; of several processes, each of which does so, one writes."""
    team = args.team
    if args.resume:
        if _given(args):
            console(
                Notice(f"A resumed run keeps its cases and settings; {', '.join(_given(args))} made no difference.")
            )
        result = rada.resume(args.out, control=control, listener=console, team=team)
    else:
        if not args.cases:
            raise InputError("No case is named; write IMAGE,LABELS, a folder with a cases.csv, or --resume.")
        found = io.find_cases(args.cases)
        if not any(case.labels for case in found):
            raise InputError(
                "No scan that is named has labels; a scan with its labels is written IMAGE,LABELS with a comma and no "
                "space, or is a line of a cases.csv with its labels."
            )
        cohort = len(found) > 1
        config = _continued_config(args, cohort) if args.old_run else config_from(args, cohort=cohort)
        cases = io.load_cases(args.cases, non_finite=config.data.non_finite, control=control, listener=console)
        if args.old_run:
            result = rada.continue_training(
                args.old_run, cases, args.out, config, control=control, listener=console, team=team
            )
        else:
            result = rada.train(cases, args.out, config, control=control, listener=console, team=team)
    data, sentence = {**asdict(result), "reason": result.reason.value}, _training_sentence(result)
    if args.resume:
        console.result(data, sentence)
    else:
        annotated = _annotated(cases)
        console.result({**data, "annotated": annotated}, f"{sentence}\n{_told(annotated)}")
    return result.reason is FinishReason.COMPLETED


def predict(args: argparse.Namespace, console: Console, control: RunControl) -> bool:
    """Predict scans with a run."""
    if is_volume(args):
        return predict_volume(args, console, control)

    from napari_rada.inference.cleanup import CleanUp

    config = _run_config(args.run_dir, args.settings)
    if args.disagreement and config.model.networks == 1:
        raise InputError(
            f"{args.run_dir} has one network (model.networks=1), which contradicts nobody; leave --disagreement out."
        )
    cases = io.find_cases(args.cases)
    tidy = CleanUp(args.min_part, args.fill_holes)

    def predicted(files: CaseFiles) -> Prediction:
        case = files.load(non_finite=config.data.non_finite, listener=console)
        return rada.predict(
            args.run_dir, case, device=args.device or "auto", tidy=tidy, control=control, listener=console
        )

    with taken_back(args.out, args.probability, args.disagreement):
        _predict_each(cases, _plan_outputs(cases, args), predicted, console)
    return True


def _predict_each(
    cases: Sequence[CaseFiles],
    outputs: Sequence[Outputs],
    predicted: Callable[[CaseFiles], Prediction],
    console: Console,
) -> None:
    """Predict and save scan by scan; one of several that cannot be predicted does not hold up the others.

    Raises
    ------
    InputError
        At the end, if some could not be predicted.
    """
    done: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    try:
        for files, out in zip(cases, outputs, strict=True):
            try:
                prediction = predicted(files)
            except (InputError, NotEnoughMemoryError) as error:
                if len(cases) == 1:
                    raise
                failed[files.name] = str(error).removeprefix(f"{files.name}: ")
                console(Notice(f"{files.name} is left out: {failed[files.name]}"))
                continue
            _save(prediction, out, files.files, console)
            done.append({**_summary(prediction), **asdict(out)})
            if not console.as_json:
                console.result({}, _sentence(prediction, out.mask))
    finally:  # also what was done before a stop
        if console.as_json and (done or failed):
            console.result({"predictions": done, "failed": failed}, "")
    if failed:
        raise InputError(
            f"{len(failed)} of {len(cases)} scans could not be predicted: {', '.join(failed)}; mend what is said of "
            "each above, and predict those alone."
        )


def evaluate(args: argparse.Namespace, console: Console, control: RunControl) -> bool:
    """Compare a mask with a reference."""
    prediction, reference = io.read_volume(args.prediction), io.read_volume(args.reference)
    io.check_same_grid(prediction, reference)
    found, wanted = _mask_of(prediction), _mask_of(reference)
    measure = reference if reference.calibrated else prediction
    tell(console, *measure.notes, _told_sparse(prediction), _told_sparse(reference))

    from napari_rada.evaluation.metrics import evaluate_masks

    classes = evaluate_masks(found, wanted, measure.grid.spacing, control=control)
    console.result({"classes": [asdict(metrics) for metrics in classes]}, _table(classes))
    return True


def _told_sparse(labels: Volume) -> str | None:
    """Tell of labels that say nothing but in the slices that a sidecar names."""
    slices = io.read_sidecar(labels.path) or ()
    known = [{index for axis, index in slices if axis == each} for each in range(3)]
    if not slices or any(len(found) == size for found, size in zip(known, labels.file_shape, strict=True)):
        return None
    return (
        f"{labels.path} is annotated in {len(slices)} slices alone, as {io.sidecar_path(labels.path).name} beside it "
        "says; elsewhere it counts as background, so that the figures say little."
    )


def suggest(args: argparse.Namespace, console: Console, control: RunControl) -> bool:
    """Name the slice to annotate next."""
    from napari_rada.training.run_folder import RunFolder
    from napari_rada.training.snapshot import find_case

    folder = RunFolder.open(Path(args.run_dir))
    config = folder.config()
    case = io.load_case(args.image, args.labels, _slices(args), non_finite=config.data.non_finite, listener=console)
    if not case.is_labelled:
        case = find_case(folder, case, config) or case
    prediction = rada.predict(args.run_dir, case, device=args.device or "auto", control=control, listener=console)
    console.result(*_suggested(prediction, case))
    return True


def _suggested(prediction: Prediction, case: Case) -> tuple[dict[str, Any], str]:
    """Return the slice to annotate next, in the axes of the case's own file, as data and as text."""
    suggestion = rada.suggest(prediction, case.annotated)
    plane, score = suggestion.plane, suggestion.score
    axis, name = io.file_axis(case.source, plane.axis), case.grid.plane_name(plane.axis)
    data = {"axis": axis, "index": plane.index, "plane": name, "score": score}
    return data, f"axis {axis}, index {plane.index} ({name}), score {score:.3f}"


@dataclass(frozen=True)
class Outputs:
    """Where the results of one case go."""

    mask: Path
    probability: Path | None
    disagreement: Path | None


def _save(prediction: Prediction, out: Outputs, inputs: Sequence[Path | str], console: Console) -> None:
    """Write what was asked for; said is what a format cannot hold.

    Raises
    ------
    InputError
        If something cannot be written; a mask that is there by then stays, and that is said.
    """
    tell(console, io.lost_in(out.mask, prediction.grid))
    io.save_mask(prediction, out.mask, inputs=inputs)
    try:
        if out.probability:
            io.save_probability(prediction, out.probability, inputs=inputs)
        if out.disagreement:
            io.save_disagreement(prediction, out.disagreement, inputs=inputs)
    except InputError as error:
        raise InputError(
            f"{str(error).removesuffix('.')}; the mask {out.mask} is written and whole, to replace it with another "
            "try add --overwrite."
        ) from None


def _annotated(cases: Sequence[Case]) -> dict[str, list[str]]:
    """Return the slices of each case that were learned from, as ``axis:index`` in the axes of its file."""
    return {case.name: io.write_slices(io.to_file(case.annotated, case.source)) for case in cases if case.is_labelled}


def _told(annotated: Mapping[str, Sequence[str]]) -> str:
    """Name the slices that were learned from: people name them, or they are detected."""
    told = [f"{name} {io.named_briefly(planes)}" for name, planes in list(annotated.items())[:MOST_TOLD]]
    return f"Annotated slices (axis:index in the file): {'; '.join(told)}"


def output(path: Path | str, inputs: Sequence[Path | str], args: argparse.Namespace) -> Path:
    """Check that a result can be written to `path`; a file that is there is replaced only with ``--overwrite``.

    Raises
    ------
    InputError
        If it cannot: see `napari_rada.io.check_result`.
    """
    path = io.check_result(path, inputs)
    check_overwritten(path, args)
    return path


def check_overwritten(path: Path, args: argparse.Namespace) -> None:
    """Raise `InputError` if there is a file at `path` and nobody said that it may be replaced."""
    if path.exists() and not args.overwrite:
        raise InputError(f"{path} exists; choose another name, or add --overwrite to replace it.")


def _check_distinct(outputs: Sequence[Path | None]) -> None:
    named = [path.resolve() for path in outputs if path is not None]
    if len(set(named)) < len(named):
        raise InputError("Two outputs have the same name; give mask, probability and disagreement a name each.")


def _plan_outputs(cases: Sequence[CaseFiles], args: argparse.Namespace) -> list[Outputs]:
    """Choose and check every output before anything is computed."""
    inputs = [path for case in cases for path in case.files]
    chosen: dict[str, list[Path | None]] = {}
    for kind, target in (("mask", args.out), ("probability", args.probability), ("disagreement", args.disagreement)):
        into_folder = target is not None and (len(cases) > 1 or Path(target).is_dir())
        if into_folder and not Path(target).is_dir() and io.suffix_of(Path(target)):
            raise InputError(f"{len(cases)} scans are predicted into a folder, and {target} is the name of a file.")
        if into_folder:
            output_folder(target)
        chosen[kind] = [
            None
            if target is None
            else output(Path(target) / _file_name(case, kind) if into_folder else target, inputs, args)
            for case in cases
        ]
    _check_distinct([path for column in chosen.values() for path in column])
    rows = zip(chosen["mask"], chosen["probability"], chosen["disagreement"], strict=True)
    return [Outputs(mask, probability, disagreement) for mask, probability, disagreement in rows if mask is not None]


def output_folder(path: Path | str) -> Path:
    """Make a folder for results, and those above it, if it does not exist and check that it can be written.

    Raises
    ------
    InputError
        If it cannot.
    """
    folder = Path(path)
    if not folder.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"The output folder {folder} cannot be made ({reason_of(error)}); choose another one."
            ) from None
    io.check_folder(folder)
    return folder


@contextmanager
def taken_back(*paths: Path | str | None) -> Iterator[None]:
    """Where the block fails, remove the folders on the way to `paths` that it made and left empty."""
    named = [Path(path) for path in paths if path is not None]
    absent = [folder for path in named for folder in (path, *path.parents) if not folder.exists()]
    try:
        yield
    except BaseException:
        for folder in absent:
            with suppress(OSError):
                folder.rmdir()
        raise


def _file_name(case: CaseFiles, kind: str) -> str:
    return f"{io.file_name(case.name)}_{kind}{io.suffix_of(case.image)}"


def _slices(args: argparse.Namespace) -> tuple[io.FileSlice, ...] | None:
    return io.parse_slices(args.slices) if args.slices else None


def _given(args: argparse.Namespace) -> list[str]:
    """Name the given flags that a resumed run does not look at."""
    flags = {
        "the cases": args.cases,
        "--preset": args.preset,
        "--config": args.config,
        "--minutes": args.minutes,
        "--device": args.device,
        "--set": args.settings,
        "--continue": args.old_run,
    }
    return [name for name, value in flags.items() if value]


def _continued_config(args: argparse.Namespace, cohort: bool) -> RunConfig:
    """Make the settings of a run that continues another: the old run's, unless a file or a preset is named."""
    from napari_rada.training.run_folder import RunFolder

    old = None if args.config or args.preset else RunFolder.open(Path(args.old_run)).config()
    return config_from(args, old, cohort=cohort)


def _run_config(run_dir: str, settings: Sequence[str]) -> RunConfig:
    """Read the settings of a run and change what may still be changed when it predicts."""
    from napari_rada.training.run_folder import RunFolder

    config = RunFolder.open(Path(run_dir)).config()
    changes = parse_settings(settings)
    if set(changes) - {"data.non_finite"}:
        raise ConfigError("A prediction takes its settings from the run; only data.non_finite can be set.")
    return config.with_settings(dict(changes))


def _mask_of(volume: Volume) -> NDArray[np.integer]:
    """Return the label values of a file; raises `InputError` if it looks like an image, or holds fractions."""
    array: NDArray[Any] = volume.array
    if array.dtype.kind == "b":
        return array.view(np.uint8)
    whole = whole_numbers(array)
    if whole is None:
        raise InputError(f"{volume.path} holds fractions or NaN; a mask with whole numbers is needed.")
    low, high = whole.min(), whole.max()
    out_of_range = low < 0 or high > MAX_LABEL
    if out_of_range or ((classes := len(np.unique(whole))) > MOST_CLASSES and looks_like_image(whole)):
        what = f"values from {low:g} to {high:g}" if out_of_range else f"{classes} different values"
        raise InputError(
            f"{volume.path} looks like an image, not a mask: it holds {what}; name a file with one value per class, "
            f"from 0 to {MAX_LABEL}."
        )
    return whole if whole.dtype.kind in "iu" else whole.astype(np.int32)


def _summary(prediction: Prediction) -> dict[str, Any]:
    return {
        "name": prediction.name,
        "image": prediction.source,
        "volumes_ml": prediction.volumes_ml(),
        "provenance": dict(prediction.provenance),
    }


def _sentence(prediction: Prediction, path: Path) -> str:
    return f"{path}: {prediction.sizes()}"


def _training_sentence(result: TrainingResult) -> str:
    text = f"{result.run_dir}: {result.reason.value} after {result.iteration} iterations"
    if result.dice is None:
        return text
    text += f", Dice {result.dice:.3f} on held-out annotated voxels"
    return text if result.propagation_dice is None else f"{text} (propagation alone {result.propagation_dice:.3f})"


def _table(classes: Sequence[ClassMetrics]) -> str:
    lines = [f"{'class':<16} {'Dice':>7} {'Jaccard':>8} {'HD95 mm':>8} {'ASD mm':>8}"]
    for found in classes:
        numbers = f"{found.dice:7.4f} {found.jaccard:8.4f} {found.hd95_mm:8.4g} {found.asd_mm:8.4g}"
        lines.append(f"{found.name:<16} {numbers}")
    return "\n".join(lines)
