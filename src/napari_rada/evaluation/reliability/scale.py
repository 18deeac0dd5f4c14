"""Volumes larger than memory: whether memory stays flat, whether there are seams, and what a kill loses.

Volumes of growing size are predicted chunk by chunk, each in a fresh process whose peak of resident memory is
watched. Small ones are predicted in memory too, and compared. One prediction is killed (SIGKILL) and gone on with, and
one is computed on a local cluster that loses a worker (SIGKILL); both must leave the files of the undisturbed one.
"""

from __future__ import annotations

import filecmp
import json
import re
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_rada import outofcore, pipeline
from napari_rada.data.case import Case
from napari_rada.errors import RadaError
from napari_rada.evaluation.reliability.scene import inside_balls, make_case, tiny_config
from napari_rada.events import Event, Stage, StageProgress
from napari_rada.inference.window import boxes
from napari_rada.io.chunked import ChunkedArray
from napari_rada.io.lazy import open_lazy
from napari_rada.io.ngff import Placement, write_group, write_image
from napari_rada.memory import GIB
from napari_rada.outofcore.plan import bytes_of_sums

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from napari_rada.data.box import Box

SPACING = (0.002, 0.001, 0.001)
STORED = 64
"""Side of the chunks of the volumes that are made."""
CHANNELS = 6
"""Networks times classes of the run that is trained."""
PERIOD = 32
"""Distance of the balls in them, voxels."""
PATIENCE_S = 60.0
PROCESSES = Path("/proc")
LOOK_S = 0.02
"""Between two looks at a process; what it takes in its last moment is not seen."""


@dataclass(frozen=True)
class Settings:
    """How volumes are predicted: side of the stored chunks, and GiB for the sums of a unit."""

    chunk: int = 64
    memory: float = 0.1


@dataclass(frozen=True)
class Peak:
    """A prediction in a process of its own: side of the volume, its bytes, the process's peak, and its time."""

    side: int
    volume: int
    peak: int
    seconds: float


@dataclass(frozen=True)
class Seams:
    """What tells a prediction chunk by chunk from the one in memory.

    Parameters
    ----------
    side
        Of the volume.
    units
        Into how many pieces the networks' part was cut.
    probability
        Largest difference of a class's probability.
    voxels
        Voxels with another label.
    """

    side: int
    units: int
    probability: float
    voxels: int


@dataclass(frozen=True)
class Interruption:
    """A prediction that was disturbed: pieces in all, there after the disturbance, computed then; complaints."""

    kind: str
    units: int
    there: int
    computed: int
    complaint: str


@dataclass(frozen=True)
class ScaleReport:
    """Everything that was measured."""

    settings: Settings
    peaks: tuple[Peak, ...]
    seams: tuple[Seams, ...]
    interruptions: tuple[Interruption, ...]

    @property
    def is_sound(self) -> bool:
        """True if there is no seam and nothing was lost."""
        return not any(seam.voxels for seam in self.seams) and not any(i.complaint for i in self.interruptions)


def measure_scale(
    folder: Path,
    sides: Sequence[int],
    compared: Sequence[int],
    settings: Settings,
    tell: Callable[[str], None] = lambda text: None,
) -> ScaleReport:
    """Measure everything.

    Parameters
    ----------
    folder
        Empty; everything is written there.
    sides
        Of the volumes whose prediction is measured in a fresh process.
    compared
        Of those that are predicted in memory too, cut as finely as possible; the last of these is disturbed.
    """
    run = train_networks(folder / "run")
    peaks = []
    for side in sides:
        volume = make_volume(folder / f"volume{side}.ome.zarr", side)
        peaks.append(measure_peak(run, volume, folder / f"peak{side}.ome.zarr", side, settings))
        tell(f"{side}: {peaks[-1].peak / 2**20:.0f} MiB, {peaks[-1].seconds:.0f} s")
    seams, finest = [], Settings(settings.chunk, bytes_of_sums([settings.chunk] * 3, CHANNELS) / GIB)
    for side in compared:
        seams.append(measure_seams(run, make_volume(folder / f"volume{side}.ome.zarr", side), folder, finest))
        tell(f"{side}: {seams[-1].voxels} voxels differ from the prediction in memory")
    side = compared[-1]
    volume, whole = folder / f"volume{side}.ome.zarr", folder / f"whole{side}.ome.zarr"
    outofcore.predict_volume(run, volume, whole, chunk=finest.chunk, memory=finest.memory, device="cpu")
    broken = [kill_and_resume(run, volume, whole, finest), lose_worker(run, volume, whole, finest)]
    return ScaleReport(settings, tuple(peaks), tuple(seams), tuple(broken))


def train_networks(run_dir: Path) -> Path:
    """Train three tiny networks that predict scans which nobody annotated, at full resolution."""
    config = tiny_config(
        training__iterations="40",
        training__learning_rate="3e-3",
        training__patch="[48, 48, 48]",
        training__validate_every="40",
        model__filters="2",
        model__completion="false",
        data__max_voxels="null",
        data__crop_margin="null",
        inference__tiles_per_batch="1",
        guidance__source="none",
    )
    return pipeline.train([make_case()], run_dir, config).run_dir


def make_volume(folder: Path, side: int) -> Path:
    """Write a uint8 cube of noisy balls as OME-Zarr, chunk by chunk; one that is there is taken."""
    if (folder / ".zattrs").is_file():
        return folder
    folder.mkdir()
    write_group(folder)
    array = ChunkedArray.create(folder / "0", (side,) * 3, (STORED,) * 3, np.uint8)
    for number, box in enumerate(boxes((side, side, side), (STORED,) * 3)):
        array.write(box[0], _balls(box, np.random.default_rng(number)))
    write_image(folder, [("0", Placement(SPACING, unit="millimeter"))], name="balls", provenance={"method": "made"})
    return folder


def _balls(box: Box, rng: np.random.Generator) -> NDArray[np.uint8]:
    inside = inside_balls(box, (PERIOD, PERIOD, PERIOD)).astype(np.float32)
    noisy = 80 + 70 * inside + rng.normal(0, 12, inside.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def measure_peak(run: Path, volume: Path, out: Path, side: int, settings: Settings) -> Peak:
    """Predict in a process of its own and look at the peak of resident memory that Linux keeps for it."""
    if not PROCESSES.is_dir():
        raise RadaError("The peak of a process's memory is read from /proc, which this system lacks; use Linux.")
    started, peak = time.monotonic(), 0
    with subprocess.Popen(_command(run, volume, out, settings), stdout=subprocess.DEVNULL) as child:  # noqa: S603
        while child.poll() is None:
            peak = max(peak, _peak_so_far(child.pid))
            time.sleep(LOOK_S)
    if child.returncode != 0:
        raise RadaError(f"The prediction of {volume} ended with status {child.returncode}.")
    return Peak(side, side**3, peak, time.monotonic() - started)


def _peak_so_far(process: int) -> int:
    """Bytes of the largest resident memory of a process since it began; 0 if it has ended."""
    try:
        status = (PROCESSES / str(process) / "status").read_text(encoding="utf-8")
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return 1024 * int(found[1]) if found else 0


def measure_seams(run: Path, volume: Path, folder: Path, settings: Settings) -> Seams:
    """Predict a volume both ways and compare."""
    lazy = open_lazy(volume)
    side = lazy.shape[0]
    case = Case.create(lazy.read(((0, 0, 0), lazy.shape)), grid=lazy.grid, name="balls")
    wanted = pipeline.predict(run, case, device="cpu")
    out, kept = folder / f"seams{side}.ome.zarr", folder / f"probability{side}.ome.zarr"
    units = 0

    def listen(event: Event) -> None:
        nonlocal units
        if isinstance(event, StageProgress) and event.stage is Stage.PREDICT and event.message == "chunks":
            units = event.total

    outofcore.predict_volume(
        run,
        volume,
        out,
        probability=kept,
        chunk=settings.chunk,
        memory=settings.memory,
        device="cpu",
        listener=listen,
    )
    labels, probability = ChunkedArray.open(out / "0"), ChunkedArray.open(kept / "0")
    found = probability.read((0,) * 4, probability.shape)
    return Seams(
        side,
        units,
        float(np.abs(found - wanted.probability).max()),
        int((labels.read((0,) * 3, labels.shape) != wanted.mask).sum()),
    )


def kill_and_resume(run: Path, volume: Path, whole: Path, settings: Settings) -> Interruption:
    """Kill a prediction in mid-run, go on with it here, and compare with the undisturbed one."""
    out = whole.with_name("killed.ome.zarr")
    with subprocess.Popen(  # noqa: S603 - our own module
        _command(run, volume, out, settings), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as child:
        until = time.monotonic() + PATIENCE_S
        while (
            child.poll() is None and time.monotonic() < until and len(_files(out / "0")) < len(_files(whole / "0")) // 2
        ):
            time.sleep(0.005)
        child.kill()
    there = len(_files(out))
    result = outofcore.predict_volume(run, volume, out, chunk=settings.chunk, memory=settings.memory, device="cpu")
    return Interruption("killed and gone on with", result.units, there, result.computed, compare(whole, out))


def lose_worker(run: Path, volume: Path, whole: Path, settings: Settings) -> Interruption:
    """Predict on a cluster of two workers of which one is killed in mid-run, and compare with the undisturbed one."""
    out = whole.with_name("cluster.ome.zarr")
    there = 0
    with local_cluster(whole.parent, 2) as (address, workers):

        def listen(event: Event) -> None:
            nonlocal there
            if isinstance(event, StageProgress) and event.message == "chunks" and event.done >= event.total // 3:
                if workers[0].poll() is None:
                    there = event.done
                workers[0].kill()

        result = outofcore.predict_volume(
            run,
            volume,
            out,
            chunk=settings.chunk,
            memory=settings.memory,
            scheduler=address,
            device="cpu",
            listener=listen,
        )
        lost = workers[0].wait() < 0
    complaint = compare(whole, out) or ("" if lost else "no worker was lost")
    return Interruption("cluster that lost a worker", result.units, there, result.computed, complaint)


@contextmanager
def local_cluster(folder: Path, count: int) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Start a scheduler and workers of one thread each, as processes; gives its address, and the workers."""
    file = folder / "scheduler.json"
    with ExitStack() as stack:
        scheduler = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
        _start(stack, [*scheduler, "--port", "0", "--no-dashboard", "--no-jupyter", "--scheduler-file", str(file)])
        until = time.monotonic() + PATIENCE_S
        while not file.exists() and time.monotonic() < until:
            time.sleep(0.05)
        address = str(json.loads(file.read_text())["address"])
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny"]
        more = ["--no-dashboard", "--local-directory", str(folder)]
        yield address, [_start(stack, [*worker, *more, "--name", f"worker-{number}"]) for number in range(count)]


def _start(stack: ExitStack, command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a process that is killed when the stack ends."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    stack.enter_context(child)
    stack.callback(child.kill)
    return child


def compare(whole: Path, other: Path) -> str:
    """Say what tells the files of two results apart; empty if nothing does."""
    mine, theirs = _files(whole), _files(other)
    if mine != theirs:
        return f"{len(mine)} chunk files in one, {len(theirs)} in the other"
    different = filecmp.cmpfiles(whole, other, mine, shallow=False)[1]
    return f"{len(different)} of {len(mine)} chunk files differ" if different else ""


def _files(out: Path) -> list[str]:
    """Return the chunk files of a result, by relative path."""
    return sorted(str(path.relative_to(out)) for path in out.glob("**/*") if path.is_file() and path.name.isdigit())


def _command(run: Path, volume: Path, out: Path, settings: Settings) -> list[str]:
    flags = ["--chunk", settings.chunk, "--memory", settings.memory, "--device", "cpu", "--json"]
    return [sys.executable, "-m", "napari_rada.cli", "predict", *map(str, (run, volume, "-o", out, *flags))]
