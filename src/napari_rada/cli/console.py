"""What the command line shows: progress on stderr, results on stdout."""

from __future__ import annotations

import json
import math
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from napari_rada.events import (
    Event,
    Notice,
    RunFinished,
    Stage,
    StageProgress,
    StepLogged,
    TrainingStarted,
    Validated,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

QUIET_SECONDS = 10.0
"""Time between two progress lines where the line cannot be updated, as in a log file."""
ERASE_LINE = "\r\x1b[K"

_DOING = {
    Stage.PREPARE: "preparing",
    Stage.PROPAGATE: "propagating",
    Stage.TRAIN: "training",
    Stage.LABEL: "labelling",
    Stage.PREDICT: "predicting",
    Stage.DOWNLOAD: "downloading",
    Stage.VERIFY: "checking",
    Stage.BENCHMARK: "measuring",
}


class Line(NamedTuple):
    """What an event says; a lasting line stays, another is replaced by the next of its topic or left out."""

    text: str
    lasting: bool
    topic: str = ""


class Console:
    """A listener that shows events, and the place where results are printed.

    Parameters
    ----------
    as_json
        Print results as JSON.
    silent
        Show and print nothing: another process of the same job does.
    """

    def __init__(self, as_json: bool = False, *, silent: bool = False) -> None:
        self.as_json = as_json
        self._silent = silent
        self._updating = sys.stderr.isatty()
        self._line_open = False
        self._topic = ""
        self._written_at = 0.0

    def __call__(self, event: Event) -> None:
        """Show an event."""
        line = None if self._silent else describe(event)
        if line is None:
            return
        if line.lasting:
            self.close()
            sys.stderr.write(line.text + "\n")
        elif self._updating:
            sys.stderr.write(ERASE_LINE + line.text)
            self._line_open = True
        elif line.topic != self._topic or time.monotonic() - self._written_at > QUIET_SECONDS:
            sys.stderr.write(line.text + "\n")
            self._topic, self._written_at = line.topic, time.monotonic()
        sys.stderr.flush()

    def close(self) -> None:
        """End the line that is being updated, if there is one."""
        if self._line_open:
            sys.stderr.write("\n")
            self._line_open = False

    def result(self, data: Mapping[str, Any], text: str) -> None:
        """Print a result: `data` as JSON if that was asked for, else `text`."""
        if self._silent:
            return
        self.close()
        shown = json.dumps(_finite(data), indent=2, allow_nan=False) if self.as_json else text
        sys.stdout.write(shown + "\n")
        sys.stdout.flush()


def describe(event: Event) -> Line | None:
    """Put an event into words; None for those that need none."""
    match event:
        case Notice(message):
            return Line(f"note: {message}", lasting=True)
        case StageProgress(stage, done, total, message):
            what = " ".join(part for part in (_DOING[stage], message) if part)
            return Line(f"{what} {done}/{total}", lasting=False, topic=what)
        case TrainingStarted(first, None, device):
            return Line(f"training on {device}, from iteration {first} on as many as fit into the time", lasting=True)
        case TrainingStarted(first, int(total), device) if first > total:
            return Line(f"nothing is left to train, {total} iterations are done", lasting=True)
        case TrainingStarted(first, total, device):
            return Line(f"training on {device}, iterations {first} to {total}", lasting=True)
        case StepLogged():
            losses = " ".join(f"{loss:.3f}" for loss in event.supervised if not math.isnan(loss))
            of = " of about " if event.estimated else "/"
            text = f"iteration {event.iteration}{of}{event.total_iterations}, loss {losses}"
            return Line(f"{text}, {duration(event.remaining_s)} left", lasting=False, topic="iteration")
        case Validated(iteration, dice, propagation_dice, best):
            text = f"iteration {iteration}: Dice {dice:.3f} on held-out annotated voxels"
            predicts = ", predicts from now on" if best else ""
            return Line(f"{text} (propagation {propagation_dice:.3f}){predicts}", lasting=True)
        case RunFinished(reason, iteration):
            return Line(f"training {reason.value} after {iteration} iterations", lasting=True)
        case _:
            return None


def duration(seconds: float) -> str:
    """Write a time as m:ss or h:mm:ss."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _finite(value: Any) -> Any:
    """Turn plain data into what JSON knows: infinity and NaN become null, paths text."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int)) else str(value)
