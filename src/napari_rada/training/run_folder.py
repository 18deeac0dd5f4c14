"""The run folder: one directory with everything that repeats, resumes or explains a run.

```
config.yaml        every setting            environment.json   versions, device, threads
cases.json         the cases and their class table; images by path and content hash
annotations/       the annotated slices as they were at the start, with sidecars
losses.csv         one line per logged iteration    validation.csv   held-out Dice
checkpoints/       last.pt (goes on bit for bit), best.pt (what predicts), teacher.pt (self-training)
guidance.json      what guides the networks, or why nothing does    guidance.npz   its features
continued.json     the run whose weights this one began with, if any
run.log            what was told while it ran
run.lock           who trains in it, locked while somebody does
prepared/          volumes that the processes of a job exchange, while it runs
```
"""

from __future__ import annotations

import csv
import json
import os
import platform
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from napari_rada.config import RunConfig, load_complete_config
from napari_rada.durable import ODD_NAMES, REMEDY, RESUME, reason_of, remove_leftovers, write_text
from napari_rada.errors import ConfigError, RunFolderError
from napari_rada.events import StepLogged, Validated
from napari_rada.text import read_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

NETWORKS = (1, 2, 3)
LOSS_COLUMNS = (
    "iteration",
    *(f"supervised_{n}" for n in NETWORKS),
    *(f"cross_{n}" for n in NETWORKS),
    "beta",
    "learning_rate",
    "elapsed_s",
)
READERS_LOCK = os.name == "nt"
"""A spreadsheet that shows a file keeps others from writing it on Windows; the run goes on meanwhile."""
VALIDATION_COLUMNS = ("iteration", "dice", "propagation_dice")
PACKAGES = ("napari-rada", "torch", "monai", "numpy", "scipy", "scikit-image", "nibabel", "tifffile", "napari")


def named_folder(path: Path | str) -> Path:
    """Return the folder that somebody named; an empty name would be that in which the program runs.

    Raises
    ------
    RunFolderError
        If the name is empty.
    """
    if not path:
        raise RunFolderError("The name of the run folder is empty; name a folder that holds no run yet.")
    return Path(path)


@dataclass(frozen=True)
class RunFolder:
    """Paths and plain files of a run folder; `create` or `open` one.

    Lines for a file that another program keeps locked are held in memory until it lets go: see `settle`.
    """

    path: Path
    _held: dict[Path, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def create(cls, path: Path, config: RunConfig) -> RunFolder:
        """Make a new run folder.

        Raises
        ------
        RunFolderError
            If `path` already holds a run, is a file, or cannot be written. A folder in which a run was cut off
            before its cases were written holds none.
        """
        folder = cls(path)
        folder.check_free()
        try:
            folder.checkpoints.mkdir(parents=True, exist_ok=True)
            folder.annotations.mkdir(exist_ok=True)
        except OSError as error:
            raise RunFolderError(
                f"The run folder {path} cannot be written ({reason_of(error)}); choose one that can."
            ) from None
        write_text(folder.config_file, config.to_yaml(), RunFolderError)
        _write_rows(folder.losses_file, [LOSS_COLUMNS], REMEDY)
        _write_rows(folder.validation_file, [VALIDATION_COLUMNS], REMEDY)
        write_text(folder.environment_file, json.dumps(environment(), indent=2), RunFolderError)
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open an existing run folder.

        Raises
        ------
        RunFolderError
            If `path` holds no run.
        """
        folder = cls(path)
        if not folder.config_file.is_file():
            raise RunFolderError(f"{path} is not a run folder (no config.yaml in it); name the folder of a run.")
        return folder

    @contextmanager
    def undone_on_failure(self) -> Iterator[None]:
        """Take back what the block makes in the folder if it fails: nothing that is no run is to look like one."""
        places = (self.checkpoints, self.annotations, self.path)
        before = {path for place in places if place.is_dir() for path in place.iterdir()}
        try:
            yield
        except BaseException:
            own = (self.config_file, self.losses_file, self.validation_file, self.environment_file, self.parent_file)
            inside = [path for place in places[:2] if place.is_dir() for path in place.iterdir()]
            with suppress(OSError):  # a disk that takes nothing back either
                for path in (*inside, *own, self.cases_file):
                    if path not in before:
                        path.unlink(missing_ok=True)
                for place in places[:2]:
                    if place not in before and place.is_dir():
                        place.rmdir()
            raise

    def check_free(self) -> None:
        """Raise `RunFolderError` if it already holds a run."""
        if self.is_run:
            raise RunFolderError(
                f"{self.path} already holds a run; choose another folder, or go on with it: train --resume, "
                "in napari Load run…"
            )

    def check_there(self) -> None:
        """Raise `RunFolderError` if what makes it a run was removed meanwhile."""
        if not self.is_run:
            raise RunFolderError(
                f"{self.path} was removed, or a part of it, while the run trained: without config.yaml and cases.json "
                "what is left cannot be used; start a new run."
            )

    @property
    def is_run(self) -> bool:
        """True from when the cases were written; what was cut off before holds nothing to go on with."""
        return self.config_file.exists() and self.cases_file.exists()

    @property
    def config_file(self) -> Path:
        """Settings as YAML."""
        return self.path / "config.yaml"

    @property
    def cases_file(self) -> Path:
        """Cases and class table as JSON."""
        return self.path / "cases.json"

    @property
    def environment_file(self) -> Path:
        """Versions and machine as JSON."""
        return self.path / "environment.json"

    @property
    def losses_file(self) -> Path:
        """One line per logged iteration (`LOSS_COLUMNS`)."""
        return self.path / "losses.csv"

    @property
    def validation_file(self) -> Path:
        """One line per validation (`VALIDATION_COLUMNS`)."""
        return self.path / "validation.csv"

    @property
    def log_file(self) -> Path:
        """Messages in the order in which they were told."""
        return self.path / "run.log"

    @property
    def parent_file(self) -> Path:
        """The continued run as JSON; absent in a run that began afresh."""
        return self.path / "continued.json"

    @property
    def guidance_file(self) -> Path:
        """What guides the networks, or why nothing does, as JSON; absent before that is settled."""
        return self.path / "guidance.json"

    @property
    def features_file(self) -> Path:
        """Features of the prompts; absent if nothing guides the networks."""
        return self.path / "guidance.npz"

    @property
    def annotations(self) -> Path:
        """Folder of the annotation snapshot."""
        return self.path / "annotations"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def prepared(self) -> Path:
        """Folder of the volumes that the processes of a job exchange."""
        return self.path / "prepared"

    @property
    def last_checkpoint(self) -> Path:
        """Checkpoint to resume from."""
        return self.checkpoints / "last.pt"

    @property
    def best_checkpoint(self) -> Path:
        """Weights with the highest held-out Dice, or those of the end of self-training."""
        return self.checkpoints / "best.pt"

    @property
    def teacher_checkpoint(self) -> Path:
        """Weights that labelled the scans without annotation; absent without self-training, or before it."""
        return self.checkpoints / "teacher.pt"

    def config(self) -> RunConfig:
        """Read the settings.

        Raises
        ------
        ConfigError
            If they cannot be used; it tells if another version wrote them.
        """
        try:
            return load_complete_config(self.config_file)
        except ConfigError as error:
            writer, own = self._written_by(), environment()["napari-rada"]
            if writer in (None, own):
                raise
            told = f"{str(error).removesuffix('.')}; the run was made by napari-rada {writer}, and this is {own}."
            raise ConfigError(told) from None

    def _written_by(self) -> str | None:
        """Return the version of napari-rada that began the run, if that is known."""
        try:
            found = read_json(self.environment_file)["napari-rada"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if isinstance(found, str) else None

    def log_step(self, event: StepLogged) -> None:
        """Append the losses of an iteration."""
        row = (event.iteration, *event.supervised, *event.cross, event.beta, event.learning_rate, event.elapsed_s)
        self._append_row(self.losses_file, row)

    def log_validation(self, event: Validated) -> None:
        """Append a validation."""
        self._append_row(self.validation_file, (event.iteration, event.dice, event.propagation_dice))

    def steps(self) -> list[StepLogged]:
        """Read the logged iterations, those of a continued run included."""
        rows = _complete_rows(self.losses_file, LOSS_COLUMNS)
        total = int(rows[-1][0]) if rows else 0
        return [_step(row, total) for row in rows]

    def validations(self) -> list[Validated]:
        """Read the validations."""
        found: list[Validated] = []
        for row in _complete_rows(self.validation_file, VALIDATION_COLUMNS):
            best = all(float(row[1]) >= earlier.dice for earlier in found)
            found.append(Validated(int(row[0]), float(row[1]), float(row[2]), best))
        return found

    def parent(self) -> tuple[Path, int] | None:
        """Return the folder of the continued run and the iteration at which it was taken over."""
        if not self.parent_file.is_file():
            return None
        try:
            content = read_json(self.parent_file)
            return Path(content["run"]), int(content["iteration"])
        except (OSError, ValueError, KeyError, TypeError):
            raise RunFolderError(f"{self.parent_file} is damaged; delete it to use the run without its past.") from None

    def inherit(self, parent: RunFolder, iteration: int) -> None:
        """Begin with another run's curves up to `iteration`, and remember where they come from."""
        content = {"run": str(parent.path.resolve()), "iteration": iteration}
        write_text(self.parent_file, json.dumps(content, indent=2), RunFolderError)
        for mine, theirs, columns in (
            (self.losses_file, parent.losses_file, LOSS_COLUMNS),
            (self.validation_file, parent.validation_file, VALIDATION_COLUMNS),
        ):
            kept = [row for row in _complete_rows(theirs, columns) if int(row[0]) <= iteration]
            _write_rows(mine, [columns, *kept], REMEDY)

    def log(self, message: str) -> None:
        """Append a line with the time to the log."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        self._append(self.log_file, f"{stamp} {message}\n")

    def forget_after(self, iteration: int) -> None:
        """Drop the logged lines of iterations that the checkpoint does not hold, before a run goes on from it.

        A line that was cut off goes too, and so do temporary files of a process that was killed.
        """
        remove_leftovers(self.path)
        for path, columns in ((self.losses_file, LOSS_COLUMNS), (self.validation_file, VALIDATION_COLUMNS)):
            held = [line.split(",") for line in self._held.pop(path, "").splitlines()]
            rows = [*_complete_rows(path, columns), *held]
            _write_rows(path, [columns, *(row for row in rows if int(row[0]) <= iteration)], RESUME)

    def _append_row(self, path: Path, row: tuple[float, ...]) -> None:
        cells = [str(value) if isinstance(value, int) else f"{value:.6g}" for value in row]
        self._append(path, ",".join(cells) + "\n")

    def _append(self, path: Path, line: str) -> None:
        """Append a line, after those that could not be written while another program had the file."""
        lines = self._held.pop(path, "") + line
        try:
            with path.open("a", newline="", encoding="utf-8", errors=ODD_NAMES) as file:
                file.write(lines)
        except OSError as error:
            if not (READERS_LOCK and isinstance(error, PermissionError)):
                raise RunFolderError(f"{path} cannot be written ({reason_of(error)}); {RESUME}.") from None
            self._held[path] = lines

    def settle(self) -> list[str]:
        """Write what is held back still, and return the names of the files that another program does not let go."""
        for path in list(self._held):
            self._append(path, "")
        return [path.name for path in self._held]


def _read_rows(path: Path) -> list[list[str]]:
    """Read the lines of a CSV file; none if it is missing."""
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            return list(csv.reader(line.replace("\0", "") for line in file))
    except FileNotFoundError:
        return []
    except (OSError, csv.Error) as error:
        raise RunFolderError(f"{path} cannot be read ({error}); restore it, or delete it and resume.") from None


def _complete_rows(path: Path, columns: Sequence[str]) -> list[list[str]]:
    """Read the lines under the heading, without one that was cut off."""
    return [row for row in _read_rows(path)[1:] if _is_whole(row, columns)]


def _is_whole(row: Sequence[str], columns: Sequence[str]) -> bool:
    """Tell whether a line holds an iteration and one number per column."""
    try:
        return len(row) == len(columns) and row[0].isdecimal() and bool([float(cell) for cell in row])
    except ValueError:
        return False


def _write_rows(path: Path, rows: Iterable[Sequence[str]], remedy: str) -> None:
    write_text(path, "".join(",".join(row) + "\n" for row in rows), RunFolderError, remedy)


def _step(row: list[str], total: int) -> StepLogged:
    numbers = [float(value) for value in row[1:]]
    supervised, cross, (beta, rate, elapsed) = numbers[:3], numbers[3:6], numbers[6:]
    return StepLogged(int(row[0]), total, tuple(supervised), tuple(cross), beta, rate, elapsed, 0.0)


def environment() -> dict[str, str | int | None]:
    """Versions of what matters and the kind of machine."""
    found: dict[str, str | int | None] = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found
