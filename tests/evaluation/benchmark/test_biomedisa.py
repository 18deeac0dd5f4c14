"""Biomedisa as a peer; its process is imitated, except where Biomedisa is installed."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.engine import CENTRE, ball, ball_case

from napari_rada.control import RunControl
from napari_rada.data.case import Case
from napari_rada.errors import MissingDependencyError, RadaError
from napari_rada.evaluation.benchmark import biomedisa, outside
from napari_rada.evaluation.benchmark import biomedisa_worker as worker
from napari_rada.evaluation.benchmark.biomedisa import Biomedisa, sparse_labels
from napari_rada.evaluation.benchmark.methods import Conditions
from napari_rada.evaluation.benchmark.single import make_method

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

INSTALLED = all(importlib.util.find_spec(name) for name in ("biomedisa", "pyopencl", "mpi4py"))


def sevens() -> Case:
    """Make the ball with the label value 7."""
    return Case.create(ball_case().image, ball() * 7, slices=list(enumerate(CENTRE)), name="a")


def test_unknown_voxels_are_empty() -> None:
    case = sevens()
    labels = sparse_labels(case)
    assert labels.dtype == np.uint8
    assert not labels[~case.known].any()
    np.testing.assert_array_equal(labels[case.known], ball()[case.known])


def test_image_and_labels_go_there_and_a_mask_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    case = sevens()

    def imitation(module: str, folder: Path, program: str, *, control: RunControl) -> None:
        assert module == worker.__name__
        image = np.load(folder / worker.IMAGE)
        np.testing.assert_array_equal(image, np.clip(case.image, 0.25, 0.5))
        np.testing.assert_array_equal(np.load(folder / worker.LABELS), sparse_labels(case))
        np.save(folder / worker.MASK, np.ones(image.shape, dtype=np.uint8))

    monkeypatch.setattr(biomedisa, "run_worker", imitation)
    found = Biomedisa().segment(case, Conditions(window=(0.25, 0.5)), control=RunControl())
    assert (found.mask[~case.known] == 7).all()
    assert case.labels is not None
    np.testing.assert_array_equal(found.mask[case.known], case.labels[case.known])


def test_missing_packages_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"biomedisa needs .*pyopencl, .*with: pip install"):
        make_method("biomedisa", {}).check()


@pytest.mark.skipif(INSTALLED, reason="here Biomedisa is installed")
def test_a_process_without_biomedisa_is_told_in_one_sentence() -> None:
    with pytest.raises(RadaError, match=r"^ball: Biomedisa ended without a result: ModuleNotFoundError[^\n]*$"):
        Biomedisa().segment(ball_case(), Conditions(), control=RunControl())


@pytest.fixture
def opencl(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], list[Any]]], None]:
    """Let a made-up OpenCL with these platforms be installed."""

    def install(get_platforms: Callable[[], list[Any]]) -> None:
        fake: Any = ModuleType("pyopencl")
        fake.get_platforms, fake.LogicError = get_platforms, OSError
        fake.device_type = SimpleNamespace(CPU="cpu")
        monkeypatch.setitem(sys.modules, "pyopencl", fake)

    return install


def platform(name: str, *devices: str) -> SimpleNamespace:
    def get_devices(device_type: str) -> list[str]:
        return [device for device in devices if device == device_type]

    return SimpleNamespace(name=name, get_devices=get_devices)


def test_the_first_platform_with_a_cpu_is_taken(opencl: Callable[[Callable[[], list[Any]]], None]) -> None:
    opencl(lambda: [platform("NVIDIA CUDA", "gpu"), platform("Portable Computing Language", "cpu")])
    assert worker.cpu_platform() == "opencl_Portable Computing Language_CPU"


def test_a_machine_without_opencl_is_told(opencl: Callable[[Callable[[], list[Any]]], None]) -> None:
    def none_at_all() -> list[Any]:
        raise OSError("PLATFORM_NOT_FOUND_KHR")

    opencl(none_at_all)
    with pytest.raises(SystemExit, match="no OpenCL for the CPU"):
        worker.cpu_platform()


@pytest.mark.skipif(not INSTALLED, reason="biomedisa, pyopencl or mpi4py is not installed")
def test_biomedisa_itself_fills_the_ball() -> None:
    case = ball_case()
    image = np.where(ball() > 0, 200.0, 0.0).astype(np.float32)
    clean = Case.create(image, ball(), slices=case.annotated, name="clean")
    method = Biomedisa()
    method.check()
    mask = method.segment(clean, Conditions(), control=RunControl()).mask
    assert (mask == ball()).mean() > 0.97
