"""Train and predict in a window again and again, and watch what the process holds.

``python -m napari_rada._qt.rounds [--count 20]`` opens a window, trains a tiny network through the dock *Train*,
predicts with it through the dock *Predict*, removes the new layers, and does it again; each round has a run folder of
its own. It prints resident memory, file handles, threads and Qt objects, and ends with status 1 if one of the latter
three grew. It needs a display; where there is none:

    xvfb-run -a -s "-screen 0 1600x1000x24" python -m napari_rada._qt.rounds
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_rada._qt.waiting import LOOK_S, live, new_window, stopped_by_ctrl_c
from napari_rada.errors import RadaError
from napari_rada.evaluation.ending import status_of
from napari_rada.evaluation.reliability.endurance import WARM_UP, Sample, Trend, take_sample, trend
from napari_rada.evaluation.reliability.scene import make_case, tiny_config

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import napari

    from napari_rada._qt.predict import PredictWidget
    from napari_rada._qt.train import TrainWidget

PATIENCE_S = 300.0
SETTLE_S = 0.3
"""For what the window does after a round: deferred deletions, drawing."""


@dataclass(frozen=True)
class Rounds:
    """What the process held after each round, from the end of the warm-up to the last: memory, handles, threads; Qt.

    Parameters
    ----------
    held
        Resident memory, file handles, threads.
    qt_objects
        Objects of Qt under the application's windows, at the end of the warm-up and at the last round.
    """

    held: Trend
    qt_objects: tuple[int, int]

    @property
    def leaks(self) -> bool:
        """True if handles, threads or Qt objects have become more."""
        return self.held.leaks or self.qt_objects[1] > self.qt_objects[0]


def train_and_predict(
    viewer: napari.Viewer, count: int, tell: Callable[[Sample, int], None] = lambda sample, objects: None
) -> Rounds:
    """Do `count` rounds in a viewer's window.

    Parameters
    ----------
    tell
        Called after each round with what the process holds and the number of Qt objects.

    Raises
    ------
    RadaError
        If a round brought no mask.
    """
    from napari_rada._napari.layers import case_to_layer_data
    from napari_rada._napari.preview import add_layers

    add_layers(viewer, case_to_layer_data(make_case()))
    train = viewer.window.add_plugin_dock_widget("napari-rada", "Train")[1]
    predict = viewer.window.add_plugin_dock_widget("napari-rada", "Predict")[1]
    samples, objects = [], []
    own = list(viewer.layers)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1, count + 1):
            one_round(train, predict, Path(folder) / f"run{number}")
            new = [layer for layer in viewer.layers if layer not in own]
            if not new:
                raise RadaError(f"Round {number} brought no mask: {predict.message.value()}")
            for layer in new:
                viewer.layers.remove(layer)
            del new, layer
            close_notifications()
            live(SETTLE_S)
            samples.append(take_sample(number))
            objects.append(count_qt_objects())
            tell(samples[-1], objects[-1])
    return Rounds(trend(samples), (objects[int(count * WARM_UP)], objects[-1]))


def one_round(train: TrainWidget, predict: PredictWidget, run_dir: Path) -> None:
    """Train into a new run folder and predict with it, as a person would."""
    train.settings.setValue(tiny_config(training__iterations="10", training__validate_every="5"))
    train.folder.setValue(run_dir)
    train.start()
    with stopped_by_ctrl_c(train.job):
        wait_for(lambda: not train.job.is_running)
    if not run_dir.exists():
        raise RadaError(f"Nothing was trained: {train.message.value()}")
    predict.run.setValue(run_dir)
    predict.predict()
    with stopped_by_ctrl_c(predict.job):
        wait_for(lambda: not predict.job.is_running)


def close_notifications() -> None:
    """Close napari's pop-ups: they wait for somebody to look at the window before they go by themselves."""
    from napari._qt.dialogs.qt_notification import NapariQtNotification
    from qtpy.QtWidgets import QApplication

    for window in QApplication.topLevelWidgets():
        for notification in window.findChildren(NapariQtNotification):
            notification.close()
            notification.deleteLater()


def count_qt_objects() -> int:
    """Count the objects of Qt under all windows of the application."""
    from qtpy.QtCore import QObject
    from qtpy.QtWidgets import QApplication

    return sum(1 + len(window.findChildren(QObject)) for window in QApplication.topLevelWidgets())


def wait_for(happened: Callable[[], bool]) -> None:
    """Let the window live until something has happened."""
    until = time.monotonic() + PATIENCE_S
    while not happened():
        live(LOOK_S)
        if time.monotonic() > until:
            raise TimeoutError(f"Nothing came of it in {PATIENCE_S:g} s.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m napari_rada._qt.rounds", description=__doc__)
    parser.add_argument("--count", type=int, default=20, metavar="N", help="rounds, at least 2 (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)

    def tell(sample: Sample, objects: int) -> None:
        sys.stderr.write(
            f"round {sample.step}: {sample.resident / 2**20:.1f} MiB, {sample.handles} handles, {sample.threads} "
            f"threads, {objects} Qt objects\n"
        )

    with new_window() as viewer:
        found = train_and_predict(viewer, max(2, args.count), tell)
    sys.stdout.write(json.dumps(asdict(found), indent=2) + "\n" if args.json else _report(found))
    return 1 if found.leaks else 0


def _report(found: Rounds) -> str:
    held = found.held
    return (
        f"{held.steps} rounds of training and prediction in a window: resident memory {held.first / 2**20:.1f} to "
        f"{held.last / 2**20:.1f} MiB after the warm-up, slope {held.slope / 2**10:+.0f} KiB per round; file handles "
        f"{held.handles[0]} to {held.handles[1]}, threads {held.threads[0]} to {held.threads[1]}, Qt objects "
        f"{found.qt_objects[0]} to {found.qt_objects[1]}.\n"
    )


if __name__ == "__main__":
    sys.exit(status_of(main))
