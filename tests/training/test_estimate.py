from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

import napari_rada
from napari_rada.config import RunConfig
from napari_rada.models.networks import NetworkInput
from napari_rada.models.triple_view import TripleViewModel
from napari_rada.training.estimate import MemoryEstimate, _activations, estimate_memory

QUICK = RunConfig.from_preset("quick").with_settings({"device": "cpu"})
SHAPE = (60, 80, 80)


def estimate(**settings: object) -> MemoryEstimate:
    changed = QUICK.with_settings({name.replace("__", "."): value for name, value in settings.items()})
    return estimate_memory([SHAPE], 2, changed)


def test_more_of_anything_needs_more() -> None:
    before = estimate()
    assert estimate(training__patch=[64, 96, 96]).networks > 6 * before.networks
    assert estimate(training__labelled_patches=3).networks > 1.5 * before.networks
    assert estimate(model__filters=16).networks > 1.5 * before.networks
    assert estimate_memory([SHAPE] * 5, 2, QUICK).volumes > 2 * before.volumes
    assert estimate_memory([(600, 512, 512)], 2, QUICK).volumes > 600 * 512 * 512 * 4


def test_what_is_kept_is_what_autograd_keeps() -> None:
    """The count on the meta device against that of real tensors."""
    model, sides = TripleViewModel(2, QUICK.model), (2, 16, 24, 24)
    inputs = NetworkInput(torch.rand(sides), torch.rand(2, 2, 16, 24, 24), torch.rand(sides))
    real: dict[int, int] = {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            real[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(inputs)
    assert logits.requires_grad
    counted, _ = _activations(model.to("meta"), NetworkInput(*(values.to("meta") for values in inputs)))
    assert counted == pytest.approx(sum(real.values()), rel=0.02)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell the peak this way")
def test_the_estimate_is_of_the_right_size() -> None:
    """The peak of a real process that does what the estimate counts: 10 s, most of it the import of torch."""
    code = """
import resource, sys, torch
from pathlib import Path
from napari_rada.config import RunConfig
from napari_rada.models.networks import NetworkInput
from napari_rada.models.triple_view import TripleViewModel
torch.set_num_threads(1)
config = RunConfig.from_preset("quick")
model = TripleViewModel(2, config.model)
optimiser = torch.optim.AdamW(model.parameters())

def peak():
    status = Path("/proc/self/status")  # the kernel's ru_maxrss begins with that of the process that started this one
    if status.exists():
        return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before = peak()
sides = (2, 64, 96, 96)
for _ in range(2):
    logits = model(NetworkInput(torch.rand(sides), torch.rand(2, 2, *sides[1:]), torch.rand(sides)))
    optimiser.zero_grad(set_to_none=True)
    torch.softmax(logits, dim=2).square().sum().backward()
    optimiser.step()
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert 0.6 < estimate(training__patch=[64, 96, 96]).networks / int(done.stdout) < 1.7


def test_the_answer_is_one_sentence() -> None:
    gib = 2**30
    fitting = MemoryEstimate("cuda", 6 * gib, 2 * gib, 8 * gib, 16 * gib)
    assert fitting.fits
    assert str(fitting) == (
        "Training needs about 6.0 GiB on the graphics card (8.0 GiB free) and 2.0 GiB of main memory (16.0 GiB free)."
    )
    short = replace(fitting, free_device=4 * gib)
    assert not short.fits
    assert str(short).endswith(": too much; it will be tried with less, which is slower.")
    on_processor = MemoryEstimate("cpu", 6 * gib, 2 * gib, 7 * gib, 7 * gib)
    assert not on_processor.fits
    assert "needs about 8.0 GiB of main memory (7.0 GiB free): too much" in str(on_processor)
    assert replace(on_processor, free_main=9 * gib).fits


def test_it_is_public() -> None:
    assert napari_rada.estimate_memory is estimate_memory
