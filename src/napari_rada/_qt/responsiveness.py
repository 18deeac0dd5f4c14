"""Measure whether the window stays alive while networks train, and whether they train as fast as without one.

``python -m napari_rada._qt.responsiveness [--iterations 40]`` opens a window, trains on a synthetic scan of
183 x 140 x 88 voxels and measures, by a timer that should fire every 10 ms, the longest time for which the main thread
was held up; then it trains on the same scan without a window, in a process of its own, and stops a few runs in the
middle of an iteration, to measure how long they take to end. It needs a display:
``xvfb-run -a -s "-screen 0 1600x1000x24" python -m napari_rada._qt.responsiveness`` where there is none.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_rada._qt.waiting import live, new_window, run_loop, stopped_by_ctrl_c
from napari_rada.config import RunConfig
from napari_rada.data.case import Case
from napari_rada.data.sample import make_sample
from napari_rada.evaluation.ending import status_of
from napari_rada.events import StepLogged

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_rada._qt.train import TrainWidget
    from napari_rada.events import Event

SHAPE = (183, 140, 88)
BEAT_MS = 10
SETTLE_S = 8.0
"""For what a new window does by itself: it is drawn, devices are looked for."""
WARM_UP = 5
"""Iterations that are not timed: memory is still being taken."""


@dataclass(frozen=True)
class Stalls:
    """How long the main thread was held up in a stage, in ms: the longest, and the share of beats over 100 ms."""

    stage: str
    longest_ms: float
    late_share: float
    beats: int


class Heartbeat:
    """Counts the time between beats of a timer of the main thread, by what the run was doing."""

    def __init__(self, widget: TrainWidget) -> None:
        from qtpy.QtCore import Qt, QTimer

        self._widget = widget
        self._gaps: dict[str, list[float]] = {}
        self._last = time.perf_counter()
        self._timer = QTimer(widget)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(BEAT_MS)
        self._timer.timeout.connect(self._on_beat)
        self._timer.start()

    def _on_beat(self) -> None:
        now = time.perf_counter()
        self._gaps.setdefault(self._widget.state.value, []).append(1000 * (now - self._last))
        self._last = now

    def stop(self) -> list[Stalls]:
        """End, and return the stalls of each stage."""
        self._timer.stop()
        return [
            Stalls(stage, max(gaps), float(np.mean(np.asarray(gaps) > 100.0)), len(gaps))
            for stage, gaps in self._gaps.items()
        ]


def big_case() -> Case:
    """Return the built-in sample stretched to the size of a cardiac scan, three slices annotated."""
    sample = make_sample()
    zoom = [wanted / size for wanted, size in zip(SHAPE, sample.case.image.shape, strict=True)]
    image = ndimage.zoom(sample.case.image, zoom, order=1)
    truth = ndimage.zoom(sample.truth, zoom, order=0)
    slices = [(plane.axis, int(plane.index * zoom[plane.axis])) for plane in sample.case.annotated]
    return Case.create(image, truth, slices=slices, spacing=(1.0, 1.0, 1.0), name="scan")


def bench_config(iterations: int, threads: int) -> RunConfig:
    """Return the quick preset, validated as often as by default."""
    settings = {"training.iterations": iterations, "threads": threads, "device": "cpu"}
    return RunConfig.from_preset("quick").with_settings(settings)


@contextmanager
def train_dock(config: RunConfig) -> Iterator[TrainWidget]:
    """Open a window with the scan, and the dock *Train* with its settings; a run goes into a new folder."""
    from napari_rada._napari.layers import case_to_layer_data
    from napari_rada._napari.preview import add_layers

    with new_window() as viewer, tempfile.TemporaryDirectory() as folder:
        add_layers(viewer, case_to_layer_data(big_case()))
        _dock, widget = viewer.window.add_plugin_dock_widget("napari-rada", "Train")
        live(SETTLE_S)
        widget.settings.setValue(config)
        widget.folder.setValue(Path(folder) / "run")
        yield widget


def wait_for_end(widget: TrainWidget) -> None:
    """Let the window live until its run has ended."""
    from qtpy.QtCore import QEventLoop

    from napari_rada._napari.job import RunState

    loop = QEventLoop()
    for ended in (widget.job.succeeded, widget.job.failed):
        ended.connect(lambda _said: loop.quit())
    with stopped_by_ctrl_c(widget.job):
        run_loop(loop)
    assert widget.state is RunState.IDLE


def train_in_window(config: RunConfig) -> tuple[list[Stalls], float]:
    """Train in a window; returns the stalls and the seconds per iteration."""
    with train_dock(config) as widget:
        heart = Heartbeat(widget)
        widget.start()
        wait_for_end(widget)
        return heart.stop(), per_iteration(widget.history.steps)


def stop_in_window(config: RunConfig, delay_s: float) -> float:
    """Train in a window and stop some seconds after the second iteration; returns the seconds until the run ended."""
    from qtpy.QtCore import QTimer

    stopped = []

    def stop() -> None:
        stopped.append(time.perf_counter())
        widget.stop()

    def listen(event: Event) -> None:
        if isinstance(event, StepLogged) and event.iteration == 2:
            QTimer.singleShot(int(1000 * delay_s), stop)

    with train_dock(config.with_settings({"training.iterations": 1000})) as widget:
        widget.job.event.connect(listen)
        widget.start()
        wait_for_end(widget)
        return time.perf_counter() - stopped[0]


def train_without(config: RunConfig) -> float:
    """Train with nothing but the engine; returns the seconds per iteration."""
    from napari_rada import pipeline

    steps: list[StepLogged] = []

    def listen(event: Event) -> None:
        if isinstance(event, StepLogged):
            steps.append(event)

    with tempfile.TemporaryDirectory() as folder:
        pipeline.train([big_case()], Path(folder) / "run", config, listener=listen)
    return per_iteration(steps)


def per_iteration(steps: Sequence[StepLogged]) -> float:
    """Median seconds of an iteration after the first few."""
    times = np.diff([step.elapsed_s for step in steps][WARM_UP:])
    return float(np.median(times))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m napari_rada._qt.responsiveness", description=__doc__)
    parser.add_argument("--iterations", type=int, default=40, help="iterations of the quick preset (%(default)s)")
    parser.add_argument("--bare", action="store_true", help="train without a window and print seconds per iteration")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads (%(default)s)")
    parser.add_argument("--stops", type=int, default=3, help="runs that are stopped in the middle (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    config = bench_config(args.iterations, args.threads)
    if args.bare:
        sys.stdout.write(f"{train_without(config)}\n")
        return 0
    before = os.getloadavg() if hasattr(os, "getloadavg") else ()
    bare = [_bare(config)]
    stalls, beside = train_in_window(config)
    bare.append(_bare(config))
    without = float(np.mean(bare))
    data = {
        "stalls": [asdict(stall) for stall in stalls],
        "seconds_in_window": beside,
        "seconds_without": bare,
        "slower_percent": 100 * (beside / without - 1),
        "seconds_to_stop": [stop_in_window(config, beside * (part + 0.5) / args.stops) for part in range(args.stops)],
        "load_before": before,
        "cores": os.cpu_count(),
        "threads": args.threads,
    }
    sys.stdout.write(json.dumps(data, indent=2) + "\n" if args.json else _report(data, stalls))
    return 0


def _bare(config: RunConfig) -> float:
    command = [sys.executable, "-m", "napari_rada._qt.responsiveness", "--bare"]
    command += ["--iterations", str(config.training.iterations), "--threads", str(config.threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - our own module
    return float(done.stdout.split()[-1])


def _report(data: dict[str, object], stalls: Sequence[Stalls]) -> str:
    lines = ["| stage | beats | longest stall, ms | beats later than 100 ms |", "|---|---|---|---|"]
    lines += [f"| {s.stage} | {s.beats} | {s.longest_ms:.0f} | {100 * s.late_share:.2f} % |" for s in stalls]
    lines.append("")
    lines += [f"{name}: {value}" for name, value in data.items() if name != "stalls"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(status_of(main))
