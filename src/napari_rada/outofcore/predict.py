"""Prediction of a volume chunk by chunk: OME-Zarr out, equal to the prediction in memory, resumable."""

from __future__ import annotations

import shutil
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args
from uuid import uuid4

from napari_rada.control import RunControl
from napari_rada.data.box import box_shape
from napari_rada.data.case import NonFinite
from napari_rada.data.grid import told_out_of_scale
from napari_rada.errors import InputError, check_choice
from napari_rada.events import Listener, Notice, Stage, StageProgress, ignore, tell
from napari_rada.io.chunked import make_folder
from napari_rada.io.files import check_folder
from napari_rada.io.lazy import LazyVolume, Readable, from_array, open_lazy
from napari_rada.io.ngff import write_group, write_image
from napari_rada.lock import kept_to_one
from napari_rada.memory import explaining_shortage
from napari_rada.models.device import undisturbed
from napari_rada.outofcore.intensities import find_intensities
from napari_rada.outofcore.plan import (
    CHUNK,
    FOLDER,
    LARGEST_CHUNK,
    SMALLEST_CHUNK,
    Plan,
    chunk_of,
    hash_of_networks,
    hash_of_scan,
    load_plan,
    predicted_shape,
    unit_of,
    working_factors,
)
from napari_rada.outofcore.runner import Cluster, Doing, Here, forget_sites
from napari_rada.outofcore.steps import Order, Site
from napari_rada.training.trained import TrainedNetworks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_rada.data.grid import Shape
    from napari_rada.data.resampling import Factors
    from napari_rada.outofcore.runner import Runner
    from napari_rada.training.trained import Weights

MEMORY = 1.0
"""GiB that the sums of a unit may take."""
LOCK = "predict.lock"


@dataclass(frozen=True)
class VolumeResult:
    """What came of a prediction chunk by chunk.

    Parameters
    ----------
    out
        The OME-Zarr image of the labels.
    probability
        That of the probability, if it was asked for.
    shape, factors
        Voxels along (z, y, x), and how many make up one that the networks see.
    levels
        Resolutions in `out`.
    units, computed
        Pieces of work in all, and how many of them were not there already.
    """

    out: Path
    probability: Path | None
    shape: Shape
    factors: Factors
    levels: int
    units: int
    computed: int


@explaining_shortage("close other programs, or predict less at once (a lower memory, a smaller chunk)")
@undisturbed()
def predict_volume(
    run_dir: Path | str,
    volume: LazyVolume | Readable | Path | str,
    out: Path | str,
    *,
    probability: Path | str | None = None,
    factors: Factors | None = None,
    chunk: int | None = None,
    memory: float = MEMORY,
    scheduler: str | None = None,
    device: str = "auto",
    weights: Weights = "best",
    non_finite: NonFinite | None = None,
    control: RunControl | None = None,
    listener: Listener = ignore,
) -> VolumeResult:
    """Predict a volume that need not fit in memory, chunk by chunk, into an OME-Zarr image of labels.

    The result is that of `napari_rada.predict` for a scan that nobody annotated: the same working grid, intensities,
    tiles and weights. Called again with the same arguments it goes on where it was stopped or killed.

    Parameters
    ----------
    run_dir
        The run folder.
    volume
        OME-Zarr, zarr, TIFF or NIfTI by path, or an array (z, y, x) of dask or zarr (voxels of 1 mm; give others by
        `napari_rada.open_lazy` or `napari_rada.from_array`).
    out
        The OME-Zarr folder to write; its name ends in ``.zarr``.
    probability
        Another one, for the mean softmax of the networks on their working grid, one channel per class. Where that is
        coarser it covers what was scanned (`napari_rada.data.scanned`).
    factors
        Voxels along (z, y, x) per voxel that the networks see; by default as many as in memory (`data.spacing`,
        `data.max_voxels`).
    chunk
        Voxels per side of the chunks that are stored; by default 128, or what `memory` has room for.
    memory
        GiB that the sums of what is predicted at once may take; the process takes up to twice as much, and about
        1 GiB for the libraries.
    scheduler
        Address of a dask.distributed scheduler whose workers compute; they must see the same folders.
    device, weights
        As `napari_rada.predict`; on a cluster the device is looked for by each worker.
    non_finite
        What to do with NaN and infinity; as in the run's settings by default.

    Raises
    ------
    InputError
        If the volume cannot be used, was changed or taken away meanwhile, the run can only complete annotated slices,
        or `out` is something else or in use.
    RunFolderError
        If `run_dir` is no run folder, has no checkpoint, or has changed since.
    MissingDependencyError
        If a package of the extra ``scale`` is needed and not installed.
    Stopped
        If a stop was requested; what is written is gone on with later.
    """
    control = control or RunControl()
    volume = _opened(volume, listener)
    run = TrainedNetworks.read(run_dir, weights)
    run.check_unannotated(volume.name)
    _check_place(volume, run, elsewhere=scheduler is not None)
    target, kept = _checked_out(out, volume), None if probability is None else _checked_out(probability, volume)
    _check_apart(target, kept)
    with ExitStack() as stack:
        stack.enter_context(_kept_to_one(target))
        runner: Runner = Here() if scheduler is None else stack.enter_context(Cluster(scheduler))
        stack.callback(forget_sites)
        wanted = _Wanted(factors, chunk, memory, kept, non_finite)
        plan = _settle(run, volume, target, wanted, runner, control, listener)
        _make_groups(target, kept)
        _tell_limits(run, volume, plan.factors, listener)
        order = Order(str(Path(run_dir).resolve()), weights, device, volume, str(target), uuid4().hex)
        site = Site(order)
        units, computed = _compute(site, order, runner, control, listener)
        _describe(site, volume)
    return VolumeResult(target, kept, plan.shape, plan.factors, len(site.labels), units, computed)


@dataclass(frozen=True)
class _Wanted:
    """What the caller asked for."""

    factors: Factors | None
    chunk: int | None
    memory: float
    probability: Path | None
    non_finite: NonFinite | None

    def __post_init__(self) -> None:
        """Refuse words that there are not."""
        if self.non_finite is not None:
            check_choice("non_finite", self.non_finite, get_args(NonFinite))


def _tell_limits(run: TrainedNetworks, volume: LazyVolume, factors: Factors, listener: Listener) -> None:
    """Say in what the result is less than the volume or the settings let expect."""
    z, y, x = (s * f for s, f in zip(volume.grid.spacing, factors, strict=True))
    tell(listener, told_out_of_scale(volume.name, (z, y, x), run.config.data.spacing))
    if max(factors) > 1:
        tell(listener, _coarseness(volume, factors))
    if run.config.inference.largest_part:
        tell(listener, "inference.largest_part needs the whole mask in memory and is left out; all parts are kept.")


def _check_place(volume: LazyVolume, run: TrainedNetworks, *, elsewhere: bool) -> None:
    """Raise `InputError` if the volume would have to be turned, or processes `elsewhere` could not read it.

    Turning takes all of it at once.
    """
    if elsewhere and volume.path is None and not hasattr(volume.array, "__dask_graph__"):
        raise InputError(f"{volume.name} lies in this process; a cluster needs a file, or a dask array.")
    found, wanted = volume.grid.orientation, run.config.data.orientation
    if found and wanted and found != wanted:
        raise InputError(
            f"{volume.name} lies as {found}, and the networks know scans that lie as {wanted}; write it in that "
            "orientation first, or predict it in memory."
        )


def _opened(volume: LazyVolume | Readable | Path | str, listener: Listener) -> LazyVolume:
    """Open what was given and tell what is to be known of it; its path is one that another process finds too."""
    if isinstance(volume, (str, Path)):
        volume = open_lazy(volume)
    elif not isinstance(volume, LazyVolume):
        volume = from_array(volume)
    tell(listener, *volume.notes)
    return volume if volume.path is None else replace(volume, path=volume.path.resolve())


def _checked_out(out: Path | str, volume: LazyVolume) -> Path:
    path = Path(out).resolve()
    if not path.name.lower().endswith(".zarr"):
        raise InputError(f"{out} is no name for an OME-Zarr folder; let it end in .ome.zarr.")
    if path.exists() and not path.is_dir():
        raise InputError(f"{out} is a file; name a folder that ends in .ome.zarr.")
    check_folder(path if path.exists() else path.parent)
    source = None if volume.path is None else volume.path.resolve()
    if source is not None and (path.is_relative_to(source) or source.is_relative_to(path)):
        raise InputError(f"The output {out} and the input {volume.path} lie in each other; choose another output.")
    return path


def _make_groups(*folders: Path | None) -> None:
    """Make zarr groups of the folders that are wanted."""
    for folder in filter(None, folders):
        make_folder(folder)
        write_group(folder)


@contextmanager
def _kept_to_one(out: Path) -> Iterator[None]:
    """Keep an output to one call at a time; a folder that was made and in which the block left nothing is removed."""
    load_plan(out)  # nothing is put into the folder of somebody else
    made = [folder for folder in (out / FOLDER, out) if not folder.exists()]
    make_folder(out / FOLDER)
    with kept_to_one(out / FOLDER / LOCK, f"The output {out}", "another output", InputError):
        try:
            yield
        except BaseException:
            with suppress(OSError):  # Windows removes no file that is open
                if made and [entry.name for entry in (out / FOLDER).iterdir()] == [LOCK]:
                    (out / FOLDER / LOCK).unlink()
                    for folder in made:
                        folder.rmdir()
            raise


def _check_apart(out: Path, probability: Path | None) -> None:
    if probability is not None and (probability.is_relative_to(out) or out.is_relative_to(probability)):
        raise InputError(
            f"The output {out} and the probability {probability} lie in each other; choose another place for the "
            "probability."
        )


def _settle(
    run: TrainedNetworks,
    volume: LazyVolume,
    out: Path,
    wanted: _Wanted,
    runner: Runner,
    control: RunControl,
    listener: Listener,
) -> Plan:
    """Make the plan of a new prediction and keep it, or check that a begun one is the same."""
    networks, scan, spacing = hash_of_networks(run), hash_of_scan(volume), volume.grid.spacing
    begun = load_plan(out)
    if begun is not None:
        factors = working_factors(box_shape(begun.box), spacing, run, wanted.factors)
        _check_same(begun, volume, networks, scan, out, replace(wanted, factors=factors))
        return begun
    working_factors(volume.shape, spacing, run, wanted.factors)  # those that fit no volume are told before it is read
    if wanted.probability is not None and wanted.probability.exists():
        raise InputError(f"{wanted.probability} exists already; choose another name for the probability.")
    side = CHUNK if wanted.chunk is None else wanted.chunk
    if not SMALLEST_CHUNK <= side <= LARGEST_CHUNK or not wanted.memory > 0:
        raise InputError(
            f"Chunks of {side} voxels a side and {wanted.memory:g} GiB were asked for; choose {SMALLEST_CHUNK} to "
            f"{LARGEST_CHUNK} voxels, and more than 0 GiB."
        )
    channels = run.config.model.networks * len(run.classes)
    chunk = chunk_of(volume.shape, wanted.chunk, channels, wanted.memory)
    found = find_intensities(volume, run.config.data, wanted.non_finite, runner, control, listener)
    factors = working_factors(box_shape(found.scanned), spacing, run, wanted.factors)
    shape = predicted_shape(volume.shape, found.scanned, factors)
    plan = Plan(
        networks=networks,
        scan=scan,
        shape=volume.shape,
        spacing=spacing,
        box=found.scanned,
        factors=factors,
        low=found.low,
        high=found.high,
        replacement=found.replacement,
        chunk=chunk,
        unit=unit_of(shape, chunk, run.config.training.patch, channels, wanted.memory),
        probability="" if wanted.probability is None else str(wanted.probability),
    )
    plan.save(out)
    return plan


def _check_same(begun: Plan, volume: LazyVolume, networks: str, scan: str, out: Path, wanted: _Wanted) -> None:
    """Raise `InputError` if something else was begun at `out`."""
    kept = "" if wanted.probability is None else str(wanted.probability)
    differs = {
        "the networks or settings of the run": begun.networks != networks,
        "the volume, or the time of writing of its files": begun.scan != scan or begun.shape != volume.shape,
        "the factors to the working grid": begun.factors != wanted.factors,
        "the size of the chunks": wanted.chunk not in (None, begun.chunk),
        "the place of the probability": begun.probability != kept,
    }
    other = [name for name, different in differs.items() if different]
    if other:
        raise InputError(
            f"{out} belongs to another prediction, which differs in {', '.join(other)}; choose another output."
        )


def _compute(site: Site, order: Order, runner: Runner, control: RunControl, listener: Listener) -> tuple[int, int]:
    """Compute what is not there; returns the number of all units, and of those that were computed.

    Raises `InputError` if the volume is another one by then than when the prediction was begun.
    """
    units, computed = 0, 0
    whole = site.is_complete()
    for number, step in enumerate(site.steps()):
        all_units = step.units()
        missing = [] if whole else [box for box in all_units if not step.is_done(box)]
        there = len(all_units) - len(missing)
        if there and missing:
            listener(Notice(f"{there} of {len(all_units)} {step.what} are there already; going on with the rest."))
        listener(StageProgress(Stage.PREDICT, there, len(all_units), step.what))
        for done, _ in enumerate(runner.map(Doing(order, number), missing, control), start=there + 1):
            listener(StageProgress(Stage.PREDICT, done, len(all_units), step.what))
        units, computed = units + len(all_units), computed + len(missing)
    if computed and hash_of_scan(order.volume) != site.plan.scan:
        raise InputError(
            f"{order.volume.name} was changed while it was predicted, and {site.out} mixes both; predict it again to "
            "another output."
        )
    return units, computed


def _describe(site: Site, volume: LazyVolume) -> None:
    """Write the metadata, which makes the result complete, and remove what was in between."""
    plan, run = site.plan, site.run
    provenance = run.provenance() | {"volume": str(volume.path or volume.name)}
    if plan.probability:
        begins = plan.box[0] if plan.is_coarser else (0, 0, 0)
        place = volume.placement.beginning(begins).coarser(plan.factors)
        names = [info.name for info in run.classes.classes]
        write_image(Path(plan.probability), [("0", place)], name=volume.name, channels=names, provenance=provenance)
    levels = [(str(number), volume.placement.coarser(level[1])) for number, level in enumerate(plan.levels())]
    write_image(site.out, levels, name=volume.name, classes=run.classes, method="mode", provenance=provenance)
    for between in ("coarse", "probability"):
        shutil.rmtree(site.out / FOLDER / between, ignore_errors=True)


def _coarseness(volume: LazyVolume, factors: Factors) -> str:
    """Say on which grid the networks see the volume."""
    z, y, x = (s * f for s, f in zip(volume.grid.spacing, factors, strict=True))
    return (
        f"{volume.name}: the networks see blocks of {' x '.join(map(str, factors))} voxels as one, "
        f"{z:.3g} x {y:.3g} x {x:.3g} mm along (z, y, x)."
    )
