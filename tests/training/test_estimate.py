from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from tests.engine import ball_case

import napari_rada
from napari_rada.config import RunConfig
from napari_rada.data.grid import Grid
from napari_rada.models.networks import NetworkInput, count_cues
from napari_rada.models.triple_view import TripleViewModel
from napari_rada.training.estimate import MemoryEstimate, _activations, estimate_memory, planned_memory
from napari_rada.training.plan import Scan, plan
from napari_rada.training.preflight import preflight

if TYPE_CHECKING:
    from napari_rada.data.case import Case

VNETS = RunConfig.from_preset("quick").with_settings(
    {
        "device": "cpu",
        "model.architecture": "vnet",
        "training.patch": [32, 48, 48],
        "training.patch_voxels": None,
        "training.labelled_patches": 1,
        "training.unlabelled_patches": 1,
        "training.bfloat16": False,
    }
)
COMPLETERS = VNETS.with_settings({"model.architecture": "completer"})
SHAPE = (60, 80, 80)
SCAN, LARGE = (Scan(Grid.from_spacing(shape), shape, showing=3) for shape in (SHAPE, (600, 512, 512)))


def estimate(config: RunConfig = VNETS, **settings: object) -> MemoryEstimate:
    changed = config.with_settings({name.replace("__", "."): value for name, value in settings.items()})
    return planned_memory([SCAN], 2, changed)


def test_more_of_anything_needs_more() -> None:
    before = estimate()
    assert estimate(training__patch=[64, 96, 96]).networks > 6 * before.networks
    assert estimate(training__labelled_patches=3).networks > 1.5 * before.networks
    assert estimate(model__filters=16).networks > 1.5 * before.networks
    assert planned_memory([SCAN] * 6, 2, VNETS).volumes > 1.5 * before.volumes
    assert planned_memory([LARGE], 2, VNETS).volumes > 600 * 512 * 512 * 4


def test_a_prediction_with_corrections_keeps_what_networks_began_with() -> None:
    large = {"training.patch": [16, 16, 16], "model.filters": 2}
    scan, config = [LARGE], VNETS.with_settings(large)
    without, with_ = (
        planned_memory(scan, 3, config.with_settings({"inference.corrections": on})).volumes for on in (False, True)
    )
    assert with_ - without == 3 * 600 * 512 * 512 * 4


def test_completers_need_more_with_every_class_and_their_cues_as_well() -> None:
    two, three = (planned_memory([SCAN] * 9, classes, COMPLETERS) for classes in (2, 3))
    assert three.networks > 1.5 * two.networks
    assert two.volumes > 1.5 * planned_memory([SCAN] * 9, 2, VNETS).volumes
    assert three.volumes > 1.5 * two.volumes


@pytest.mark.parametrize("config", [VNETS, COMPLETERS], ids=["V-Nets", "completers"])
def test_what_is_kept_is_what_autograd_keeps(config: RunConfig) -> None:
    """The count on the meta device against that of real tensors."""
    model, sides = TripleViewModel(3, config.model), (16, 24, 24)
    cues = torch.rand(2, count_cues(config.model.architecture, 3), *sides)
    inputs = NetworkInput(torch.rand(2, *sides), torch.rand(2, 3, *sides), cues)
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
@pytest.mark.parametrize(
    ("config", "patch"), [(VNETS, [32, 48, 64]), (COMPLETERS, [24, 32, 48])], ids=["V-Nets", "completers"]
)
def test_the_estimate_is_of_the_right_size(config: RunConfig, patch: list[int]) -> None:
    """The peak of a real process that does what the estimate counts: 10 s, most of it the import of torch."""
    code = """
import json, resource, sys, torch
from pathlib import Path
from napari_rada.config import RunConfig
from napari_rada.models.networks import NetworkInput, count_cues
from napari_rada.models.triple_view import TripleViewModel
torch.set_num_threads(1)
config = RunConfig.model_validate_json(sys.argv[1])
model = TripleViewModel(2, config.model).place_on(torch.device("cpu"))
optimiser = torch.optim.AdamW(model.parameters())

def peak():
    status = Path("/proc/self/status")  # the kernel's ru_maxrss begins with that of the process that started this one
    if status.exists():
        return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before = peak()
sides = json.loads(sys.argv[2])
for _ in range(2):
    cues = torch.rand(2, count_cues(config.model.architecture, 2), *sides)
    logits = model(NetworkInput(torch.rand(2, *sides), torch.rand(2, 2, *sides), cues))
    optimiser.zero_grad(set_to_none=True)
    torch.softmax(logits, dim=2).square().sum().backward()
    optimiser.step()
print(peak() - before)
"""
    command = [sys.executable, "-c", code, config.model_dump_json(), json.dumps(patch)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    assert 0.6 < estimate(config, training__patch=patch).networks / int(done.stdout) < 1.7


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


@pytest.mark.parametrize("cases", [[ball_case()], [ball_case(), ball_case(labelled=False)]], ids=["one", "cohort"])
def test_the_public_estimate_is_of_what_is_planned(cases: list[Case]) -> None:
    """The patch of `quick`, planned for a small scan, needs a fraction of that in the settings as they are."""
    assert napari_rada.estimate_memory is estimate_memory
    config = RunConfig.from_preset("quick", device="cpu")
    planned = plan(cases, config)
    found = estimate_memory(cases, config)
    assert found.networks == estimate_memory(cases, planned).networks
    assert found.networks == preflight(cases, planned.with_settings({"training.minutes": 1})).memory.networks
    assert found.networks == estimate_memory(iter(cases), "quick").networks
    if len(cases) == 1:
        assert found.networks == estimate_memory(cases[0]).networks
        assert (
            found.networks
            < 0.5 * planned_memory([Scan(cases[0].grid, cases[0].grid.shape, showing=3)], 2, config).networks
        )
