"""Damage good files at random and read them: whatever is wrong must be one `RadaError`, nothing else.

Images, labels, sidecars, tables of cases, settings, checkpoints and run folders are read as the command line reads
them. Damage is bits turned over, extreme numbers written somewhere, pieces cut, doubled and moved; a compressed file is
damaged outside or, unpacked and packed again, inside.
"""

from __future__ import annotations

import gzip
import shutil
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import nibabel as nib
import numpy as np
import psutil
import tifffile

from napari_rada import io, pipeline
from napari_rada.config import load_config
from napari_rada.errors import RadaError
from napari_rada.evaluation.reliability.scene import make_case, tiny_config, write_scene
from napari_rada.training.checkpoint import load_checkpoint
from napari_rada.training.run_folder import RunFolder
from napari_rada.training.snapshot import load_cases

Read: TypeAlias = Callable[[Path], object]
EXTREMES = (0, 1, -1, 7, 127, 255, 256, 32767, -32768, 65535, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63))


@dataclass(frozen=True)
class Target:
    """A good file and how it is read."""

    path: Path
    read: Read


@dataclass
class FuzzReport:
    """What came of the damaged files, per kind of file, and the growth of the resident memory in bytes."""

    tried: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    slowest: str = ""
    grown: int = 0


def fuzz(folder: Path, *, count: int | None = None, seconds: float | None = None, seed: int = 0) -> FuzzReport:
    """Read damaged files, `count` of them or for so many `seconds`.

    Parameters
    ----------
    folder
        Empty; a file that was not refused as it should be is left there.
    """
    targets, rng, report = make_targets(folder), np.random.default_rng(seed), FuzzReport()
    names, before = list(targets), psutil.Process().memory_info().rss
    started, number = time.monotonic(), 0
    while (count is None or number < count) and (seconds is None or time.monotonic() - started < seconds):
        name = names[number % len(names)]
        _try(name, targets[name], rng, report, folder / f"failed-{number}-{targets[name].path.name}")
        report.grown = max(report.grown, psutil.Process().memory_info().rss - before)
        number += 1
    return report


def _try(name: str, target: Target, rng: np.random.Generator, report: FuzzReport, kept: Path) -> None:
    good = target.path.read_bytes()
    target.path.write_bytes(damaged(good, rng))
    report.tried[name] = report.tried.get(name, 0) + 1
    started = time.monotonic()
    try:
        target.read(target.path)
    except RadaError:
        report.refused[name] = report.refused.get(name, 0) + 1
    except Exception as error:  # noqa: BLE001 - any other error is what is looked for
        shutil.copy(target.path, kept)
        report.failures.append(f"{name}: {type(error).__name__}: {error} ({kept})")
    took = time.monotonic() - started
    if took > report.slowest_s:
        report.slowest_s, report.slowest = took, name
    target.path.write_bytes(good)


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Damage a file; a gzip file half of the time inside."""
    if content[:2] == b"\x1f\x8b" and rng.random() < 0.5:
        return gzip.compress(_damaged(gzip.decompress(content), rng), 1)
    return _damaged(content, rng)


def _damaged(content: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        # Half of the damage goes to the first bytes, where headers are.
        reach = len(data) if rng.random() < 0.5 else min(len(data), 600)
        at, length = int(rng.integers(max(1, reach))), int(rng.integers(1, 64))
        match int(rng.integers(6)):
            case 0:
                data[at : at + 1] = bytes([data[at] ^ (1 << int(rng.integers(8)))]) if at < len(data) else b""
            case 1:
                data[at : at + length] = _extreme(rng)
            case 2:
                written = _extreme(rng)
                data[at : at + len(written)] = written
            case 3:
                del data[at : at + length]
            case 4:
                data[at:at] = data[at : at + length]
            case _:
                data = data[:at] if rng.random() < 0.3 else data
    return bytes(data)


def _extreme(rng: np.random.Generator) -> bytes:
    """Write an extreme number as bytes of one of the usual types, or as text."""
    value, order = EXTREMES[int(rng.integers(len(EXTREMES)))], "<>"[int(rng.integers(2))]
    match int(rng.integers(5)):
        case 0:
            return struct.pack(order + "H", value & 0xFFFF)
        case 1:
            return struct.pack(order + "I", value & 0xFFFFFFFF)
        case 2:
            return struct.pack(order + "Q", value & 0xFFFFFFFFFFFFFFFF)
        case 3:
            return struct.pack(order + "f", float(rng.choice([np.nan, np.inf, -np.inf, 1e38, -1.0, 0.0])))
        case _:
            return str(value).encode()


def make_targets(folder: Path) -> dict[str, Target]:
    """Write one good file of every kind."""
    scene, case = write_scene(folder), make_case()
    voxels = case.image[:6, :7, :8].astype(np.float32)
    nib.save(nib.Nifti2Image(voxels, np.diag([1.0, 2.0, 3.0, 1.0])), folder / "second.nii")
    nib.save(nib.Nifti1Image(voxels, np.diag([1.0, 2.0, 3.0, 1.0])), folder / "first.nii.gz")
    metadata = {"axes": "ZYX"}
    tifffile.imwrite(folder / "imagej.tif", voxels, imagej=True, metadata=metadata)
    tifffile.imwrite(folder / "ome.tif", voxels, ome=True, metadata=metadata)
    tifffile.imwrite(folder / "packed.tif", voxels, compression="zlib", metadata=metadata)
    config = tiny_config(training__iterations="1")
    (folder / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
    (folder / "table").mkdir()
    (folder / "table" / "cases.csv").write_text(
        f"name,image,labels,slices\nball,{scene.image},{scene.labels},0:12;1:13;2:10\n", encoding="utf-8"
    )
    run = RunFolder(folder / "run")
    pipeline.train([case], run.path, config)
    paths = ("second.nii", "first.nii.gz", "imagej.tif", "ome.tif", "packed.tif")
    return {
        **{name: Target(folder / name, io.read_volume) for name in paths},
        "labels and sidecar": Target(io.sidecar_path(scene.labels), lambda _: io.load_case(scene.image, scene.labels)),
        "labels": Target(scene.labels, lambda path: io.load_case(scene.image, path)),
        "table of cases": Target(folder / "table" / "cases.csv", lambda path: io.find_cases([str(path.parent)])),
        "settings": Target(folder / "config.yaml", load_config),
        "checkpoint": Target(run.last_checkpoint, load_checkpoint),
        "cases of a run": Target(run.cases_file, lambda _: load_cases(run, config)),
        "settings of a run": Target(run.config_file, lambda path: RunFolder.open(path.parent).config()),
    }
