"""Make the screenshots of the documentation: a real window, the built-in sample, a short real training run.

Needs a display; on a machine without one:

    xvfb-run -a -s "-screen 0 1600x1000x24" python docs/make_screenshots.py --out docs/images
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_rada._napari.job import RunState
from napari_rada.data.slices import AnnotatedSlice

if TYPE_CHECKING:
    from collections.abc import Callable

PLUGIN = "napari-rada"
LONGEST_WAIT_S = 600.0


class Photographer:
    """Drives one window and takes its picture."""

    def __init__(self, out: Path, theme: str, width: int, dock_width: int) -> None:
        self.out = out
        self.theme = theme
        self.viewer = napari.Viewer(show=False, show_welcome_screen=False)
        self.viewer.theme = theme
        self.dock_width = dock_width
        self.window = self.viewer.window
        self.window.show()
        settle()
        self.window.resize(width, 900)

    def open(self, name: str) -> Any:
        """Open one of the plugin's docks and give its column the width asked for."""
        dock, widget = self.window.add_plugin_dock_widget(PLUGIN, name)
        settle()
        main_window = dock.parent()
        main_window.resizeDocks([dock], [self.dock_width], Qt.Orientation.Horizontal)
        settle()
        self.viewer.reset_view()
        return widget

    def take(self, name: str) -> None:
        """Save a picture of the whole window."""
        settle()
        self.viewer.screenshot(str(self.out / f"{name}-{self.theme}.png"), canvas_only=False, flash=False)


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


def label(photographer: Photographer) -> None:
    """Show the sample, then its annotated slices and a propagated preview."""
    viewer = photographer.viewer
    viewer.open_sample(PLUGIN, "synthetic_organ")
    widget = photographer.open("Label slices")
    first = widget.annotated[0]
    photographer.take("1-sample")
    widget.go_to(first)
    photographer.take("2-slices")
    widget.propagate()
    wait_until(lambda: not widget.job.is_running)
    widget.go_to(AnnotatedSlice(first.axis, first.index + 6))
    photographer.take("3-preview")


def train(photographer: Photographer, run_dir: Path, iterations: int) -> None:
    """Train for a while; take the picture half way."""
    widget = photographer.open("Train")
    widget.settings.length.setValue(iterations=iterations)
    widget.folder.setValue(run_dir)
    photographer.take("4-ready")
    widget.start()
    wait_until(lambda: len(widget.history.steps) >= iterations // 2 or widget.state is RunState.IDLE)
    photographer.take("5-training")
    wait_until(lambda: widget.state is RunState.IDLE)
    photographer.take("6-trained")


def predict(photographer: Photographer) -> None:
    """Predict the sample and go to the suggested slice."""
    widget = photographer.open("Predict")
    widget.outputs.setValue(("mask", "disagreement"))
    widget.predict()
    wait_until(lambda: not widget.job.is_running)
    photographer.take("7-predicted")
    widget.suggest()
    wait_until(lambda: not widget.suggestion_job.is_running)
    photographer.take("8-suggested")


def main() -> None:
    """Take all pictures in the themes asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    parser.add_argument("--themes", nargs="+", default=["dark", "light"])
    parser.add_argument("--width", type=int, default=1400)
    parser.add_argument("--dock-width", type=int, default=340)
    parser.add_argument("--iterations", type=int, default=60)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for theme in arguments.themes:
        photographer = Photographer(arguments.out, theme, arguments.width, arguments.dock_width)
        with tempfile.TemporaryDirectory() as folder:
            label(photographer)
            train(photographer, Path(folder) / "run", arguments.iterations)
            predict(photographer)
        photographer.viewer.close()


if __name__ == "__main__":
    main()
