"""Drive a real window through the whole loop, check every step, and take the pictures of the documentation.

Label, propagate, train, pause, preview, resume, stop, predict, suggest, accept, correct, undo, continue, save, close,
reopen, restore: on the built-in sample, or with ``--scan IMAGE DENSE_LABELS`` on another scan, whose dense labels
stand in for the person who paints. Needs a display; on a machine without one:

    xvfb-run -a -s "-screen 0 1600x1000x24" python docs/make_screenshots.py --out docs/images
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari
import numpy as np
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_rada._napari.edits import write_plane
from napari_rada._napari.job import RunState
from napari_rada.data.sample import make_sample
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.evaluation.sparse import largest_slices
from napari_rada.io import read_volume

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

PLUGIN = "napari-rada"
LONGEST_WAIT_S = 600.0


class Photographer:
    """Drives one window and takes its picture."""

    def __init__(self, out: Path, theme: str, width: int, dock_width: int) -> None:
        self.out = out
        self.viewer = napari.Viewer(show=False, show_welcome_screen=False)
        self.viewer.theme = theme
        self.dock_width = dock_width
        self.window = self.viewer.window
        self.window.show()
        settle()
        self.window.resize(width, 900)

    def open(self, name: str) -> Any:
        """Open one of the plugin's docks, or bring it to the front, and give its column the width asked for."""
        dock, widget = self.window.add_plugin_dock_widget(PLUGIN, name)
        settle()
        main_window = dock.parent()
        main_window.resizeDocks([dock], [self.dock_width], Qt.Orientation.Horizontal)
        dock.show()
        dock.raise_()
        settle()
        self.viewer.reset_view()
        return widget

    def take(self, name: str) -> None:
        """Save a picture of the whole window."""
        settle()
        path = self.out / f"{name}.png"
        self.viewer.screenshot(str(path), canvas_only=False, flash=False)
        Image.open(path).convert("RGB").save(path, optimize=True)


def settle(seconds: float = 0.5) -> None:
    """Let the window draw."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)


def wait_until(condition: Callable[[], bool]) -> None:
    """Keep the window alive until something has happened."""
    end = time.monotonic() + LONGEST_WAIT_S
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the window did not get there in time")
        settle(0.1)


def check(fact: object, what: str) -> None:
    """Stop if a step did not do what it should."""
    if not fact:
        raise RuntimeError(f"this did not happen: {what}")


def label(photographer: Photographer, dense: NDArray[np.integer]) -> Any:
    """Paint three slices, as a person would who knows the dense labels, mark them, and preview the propagation."""
    viewer = photographer.viewer
    widget = photographer.open("Label slices")
    widget.new_labels()
    painting = widget.labels.value()
    for plane in largest_slices(dense):
        widget.go_to(plane)
        write_plane(painting, plane, dense[plane.selector()])
        widget.mark_current_slice()
    first = widget.annotated[0]
    check(len(widget.annotated) == 3, "three slices are marked")
    widget.go_to(first)
    photographer.take("label")
    widget.propagate()
    wait_until(lambda: not widget.job.is_running)
    preview = next(layer for layer in viewer.layers if str(layer.name).endswith("preview"))
    check(preview.data.any(), "the propagation is shown")
    widget.go_to(AnnotatedSlice(first.axis, first.index + 6))
    photographer.take("propagated")
    widget.suggest()
    wait_until(lambda: "in doubt" in widget.message.value())
    check(widget.current_slice not in widget.annotated, "a slice that is not annotated is suggested")
    photographer.take("next")
    preview.visible = False
    return widget


def train(photographer: Photographer, run_dir: Path, iterations: int) -> Any:
    """Train, pause, look at a preview, resume, stop."""
    widget = photographer.open("Train")
    widget.settings.length.setValue(iterations=10 * iterations)
    widget.folder.setValue(run_dir)
    widget.start()
    wait_until(lambda: len(widget.history.steps) >= iterations // 2)
    widget.pause()
    wait_until(lambda: widget.state is RunState.PAUSED)
    count = len(widget.history.steps)
    widget.preview.request("slices")
    wait_until(lambda: not widget.preview.job.is_running)
    names = [str(layer.name) for layer in photographer.viewer.layers]
    check(any("training slices" in name for name in names), "the annotated slices are previewed")
    check(len(widget.history.steps) == count, "a paused run waits")
    widget.resume()
    wait_until(lambda: len(widget.history.steps) >= iterations)
    photographer.take("training")
    widget.stop()
    wait_until(lambda: widget.state is RunState.IDLE)
    check((run_dir / "checkpoints" / "last.pt").is_file(), "a stopped run leaves a checkpoint")
    for layer in photographer.viewer.layers:
        layer.visible = layer.visible and "training" not in str(layer.name)
    return widget


def predict(photographer: Photographer, painting: Any, dense: NDArray[np.integer]) -> Any:
    """Predict, go to the suggested slice, accept it, correct it, undo and redo, mark it."""
    widget = photographer.open("Predict")
    widget.outputs.setValue(("mask", "disagreement"))
    widget.predict()
    wait_until(lambda: not widget.job.is_running)
    check(widget.mask_layer is not None and widget.mask_layer.data.any(), "there is a mask")
    widget.suggest()
    wait_until(lambda: not widget.suggestion_job.is_running)
    photographer.take("suggested")
    before = painting.data.copy()
    widget.accept()
    accepted = painting.data.copy()
    check((accepted != before).any(), "the predicted slice is in the annotation")
    painting.undo()
    check((painting.data == before).all(), "undo takes it back")
    painting.redo()
    check((painting.data == accepted).all(), "redo writes it again")
    _image, _labels, plane = widget._checked_target()  # noqa: SLF001 - the slice that is shown
    write_plane(painting, plane, dense[plane.selector()])
    widget.session.annotation(painting).set_complete(plane)
    photographer.take("corrected")
    return widget


def proceed(photographer: Photographer, widget: Any, run_dir: Path, iterations: int) -> None:
    """Continue training with the added slice; the curve goes on."""
    before = widget.history.steps[-1].iteration
    widget.settings.length.setValue(iterations=iterations)
    widget.folder.setValue(run_dir)
    photographer.window.add_plugin_dock_widget(PLUGIN, "Train")[0].raise_()
    widget.continue_training()
    wait_until(lambda: widget.state is RunState.IDLE)
    check(widget.history.steps[-1].iteration == before + iterations, "the iterations go on")
    photographer.take("continued")


def restore(photographer: Photographer, run_dir: Path, painted: NDArray[np.integer]) -> None:
    """Load the run into a new window, as after a restart."""
    widget = photographer.open("Train")
    widget.load_run(run_dir)
    wait_until(lambda: not widget.loading_job.is_running)
    check((widget.labels.value().data == painted).all(), "the annotation is restored")
    check(len(widget.annotated) == 4, "four slices are marked")
    check(widget.history.steps and widget.buttons.proceed.isEnabled(), "curve and networks are restored")
    settle(1.0)
    photographer.take("restored")


def loop(arguments: argparse.Namespace, folder: Path) -> None:
    """Go through everything once."""
    photographer = Photographer(arguments.out, arguments.theme, arguments.width, arguments.dock_width)
    if arguments.scan:
        photographer.viewer.open(arguments.scan[0], plugin=PLUGIN)
        dense = (read_volume(arguments.scan[1]).array != 0).astype(np.uint8)
    else:
        photographer.viewer.open_sample(PLUGIN, "synthetic_organ")
        photographer.viewer.layers.remove("sample labels")
        dense = make_sample().truth.astype(np.uint8)
    slices = label(photographer, dense)
    painting = slices.labels.value()
    training = train(photographer, folder / "run", arguments.iterations)
    prediction = predict(photographer, painting, dense)
    proceed(photographer, training, folder / "continued", arguments.iterations)
    prediction.save_mask(folder / "mask.nii.gz")
    wait_until(lambda: not prediction.saver.job.is_running)
    check((folder / "mask.nii.gz").is_file(), "the mask is saved")
    painted = painting.data.copy()
    photographer.viewer.close()
    settle()
    again = Photographer(arguments.out, arguments.theme, arguments.width, arguments.dock_width)
    restore(again, folder / "continued", painted)
    again.viewer.close()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    parser.add_argument("--scan", nargs=2, metavar=("IMAGE", "DENSE_LABELS"), help="use this scan, not the sample")
    parser.add_argument("--theme", default="dark")
    parser.add_argument("--width", type=int, default=1400)
    parser.add_argument("--dock-width", type=int, default=340)
    parser.add_argument("--iterations", type=int, default=40)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        loop(arguments, Path(folder))


if __name__ == "__main__":
    main()
