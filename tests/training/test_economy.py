"""Out of memory at every stage: told once, a step down, on from the last state, and never without end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tests.engine import ball_case, tiny_config

from napari_rada import assembly, pipeline, preparation
from napari_rada.control import RunControl
from napari_rada.errors import NotEnoughMemoryError
from napari_rada.events import Event, FinishReason, Notice, StepLogged, TrainingStarted
from napari_rada.inference import sliding
from napari_rada.inference.sliding import blank_prior, predicted_softmax
from napari_rada.memory import in_words, is_out_of_memory
from napari_rada.models import device as devices
from napari_rada.models.completer import load_completer
from napari_rada.models.triple_view import TripleViewModel
from napari_rada.training import checkpoint as checkpoints
from napari_rada.training import trainer as trainers
from napari_rada.training.checkpoint import load_checkpoint
from napari_rada.training.economy import average, ladder, split
from napari_rada.training.objective import NetworkLoss
from napari_rada.training.patches import Batch, PatchSampler

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
CONFIG = tiny_config(
    training__labelled_patches=2,
    training__unlabelled_patches=2,
    training__patch=[16, 20, 20],
    training__iterations=4,
    training__checkpoint_seconds=0,
    model__dropout=0.1,
    training__cross__noisy_passes=1,
)
SHORTAGES: dict[str, Callable[[], BaseException]] = {
    "CUDA": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "CPU": lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8589934592 bytes."),
    "Windows": lambda: RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 85899345 bytes."),
    "MPS": lambda: RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
    "numpy": lambda: MemoryError("Unable to allocate 8.00 GiB for an array"),
}


@pytest.fixture(autouse=True)
def _a_processor_without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Go down the same steps on every machine."""
    monkeypatch.setattr(devices, "_cpu_has_bfloat16", lambda: False)


class Shortage:
    """Raises an out-of-memory error at some calls of a function, and lets the others through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, times: int, *, after: int = 0) -> None:
        self.left, self.after, self.kind = times, after, "CUDA"
        original = getattr(owner, name)

        def short(*args: Any, **kwargs: Any) -> Any:
            if self.after:
                self.after -= 1
            elif self.left:
                self.left -= 1
                raise SHORTAGES[self.kind]()
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, short)


def train(path: Path, listener: Callable[[Event], None] = lambda event: None) -> Any:
    return pipeline.train([ball_case()], path, CONFIG, listener=listener)


@pytest.mark.parametrize("kind", SHORTAGES)
def test_every_kind_is_recognised(kind: str) -> None:
    assert is_out_of_memory(SHORTAGES[kind]())


def test_other_errors_are_none() -> None:
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))


STAGES: dict[str, tuple[Any, str, int]] = {
    "weights to the device": (torch.nn.Module, "to", 0),
    "batch": (PatchSampler, "cut", 1),
    "forward": (TripleViewModel, "forward", 3),
    "loss": (trainers, "network_losses", 2),
    "backward": (torch.autograd, "backward", 1),
    "optimiser": (torch.optim.AdamW, "step", 1),
    "validation": (trainers, "score_held_out", 0),
    "checkpoint": (checkpoints, "asdict", 1),
}


@pytest.mark.parametrize(("stage", "kind"), [*((stage, "CUDA") for stage in STAGES), ("forward", "CPU")])
def test_training_steps_down_once_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, kind: str
) -> None:
    owner, name, after = STAGES[stage]
    load_completer()  # once per process, and not what the ladder is for
    shortage = Shortage(monkeypatch, owner, name, 1, after=after)
    shortage.kind = kind
    events: list[Event] = []
    result = train(tmp_path / "run", events.append)
    assert shortage.left == 0
    assert (result.reason, result.iteration) == (FinishReason.COMPLETED, 4)
    told = [event.message for event in events if isinstance(event, Notice)]
    assert len(told) == 1
    assert "with the batch in 2 parts." in told[0]
    assert told[0] in (tmp_path / "run" / "run.log").read_text()
    starts = [event.first_iteration for event in events if isinstance(event, TrainingStarted)]
    assert f"from iteration {starts[-1] - 1} with" in told[0]
    lines = (tmp_path / "run" / "losses.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["iteration", "1", "2", "3", "4"]
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt").state.rung == 2


def test_a_processor_with_bfloat16_takes_that_step_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_cpu_has_bfloat16", lambda: True)
    dtypes = set()
    forward = TripleViewModel.forward

    def seen(self: TripleViewModel, *args: Any, **kwargs: Any) -> torch.Tensor:
        dtypes.add(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32)
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(TripleViewModel, "forward", seen)
    Shortage(monkeypatch, PatchSampler, "cut", 1, after=1)
    events: list[Event] = []
    config = CONFIG.with_settings({"training.iterations": 2})
    assert pipeline.train([ball_case()], tmp_path / "run", config, listener=events.append).iteration == 2
    told = [event.message for event in events if isinstance(event, Notice)]
    assert len(told) == 1
    assert told[0].endswith("with mixed precision (bfloat16).")
    assert dtypes == {torch.float32, torch.bfloat16}
    already = CONFIG.with_settings({"training.bfloat16": True})
    assert [rung.economy.autocast for rung in ladder(already, CPU)] == [False] * 4


@pytest.mark.parametrize("times", [1, 2, 3])
def test_every_step_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    Shortage(monkeypatch, PatchSampler, "cut", times)
    events: list[Event] = []
    assert train(tmp_path / "run", events.append).iteration == 4
    told = [event.message for event in events if isinstance(event, Notice)]
    steps = ["the batch in 2 parts", "patches of [16, 16, 16]", "activations computed twice"]
    assert len(told) == times
    assert all(step in message for step, message in zip(steps, told, strict=False))
    losses = [event.supervised for event in events if isinstance(event, StepLogged)]
    assert np.isfinite(losses).all()


def test_completers_train_on_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in parts without unlabelled patches, in which the networks teach each other on the labelled ones."""
    settings = {
        "model.architecture": "completer",
        "training.unlabelled_patches": 0,
        "training.cross.on_labelled": True,
        "training.cross.schedule": "constant",
    }
    load_completer()
    Shortage(monkeypatch, PatchSampler, "cut", 3)
    events: list[Event] = []
    config = CONFIG.with_settings(settings)
    assert pipeline.train([ball_case()], tmp_path / "run", config, listener=events.append).iteration == 4
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt").state.rung == 4
    steps = [event for event in events if isinstance(event, StepLogged)]
    assert np.isfinite([step.supervised for step in steps]).all()
    assert np.isfinite([step.cross for step in steps]).all()
    assert min(min(step.cross) for step in steps) > 0


def test_the_ladder_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shortage = Shortage(monkeypatch, PatchSampler, "cut", 1000)
    with pytest.raises(NotEnoughMemoryError, match=r"with every way of saving it .* a machine with more memory\.$"):
        train(tmp_path / "run")  # no checkpoint was reached that could be kept
    assert 1000 - shortage.left == len(ladder(CONFIG, CPU)) - 1  # mixed precision is passed over


def test_a_resumed_run_begins_on_the_step_that_it_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    control = RunControl()

    def stop_at_two(event: Event) -> None:
        if isinstance(event, StepLogged) and event.iteration == 2:
            control.stop()

    with monkeypatch.context() as patch:
        Shortage(patch, PatchSampler, "cut", 3)
        pipeline.train([ball_case()], tmp_path / "run", CONFIG, control=control, listener=stop_at_two)
    events: list[Event] = []
    pipeline.resume(tmp_path / "run", listener=events.append)
    assert not [event for event in events if isinstance(event, Notice)]
    state = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt").state
    assert (state.iteration, state.rung) == (4, 4)


def test_another_error_is_not_swallowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **options: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(PatchSampler, "cut", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        train(tmp_path / "run")


@pytest.mark.parametrize("stage", ["make_working_cases", "make_volume", "make_propagator"])
def test_a_shortage_before_training_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    Shortage(monkeypatch, preparation, stage, 1).kind = "numpy"
    with pytest.raises(NotEnoughMemoryError, match=r"of main memory are free now.*crop the scan, or lower") as error:
        train(tmp_path / "run")
    assert "\n" not in str(error.value)
    assert pipeline.resume(tmp_path / "run").iteration == 4


@pytest.mark.parametrize("kind", ["numpy", "CPU"])
def test_a_shortage_while_a_checkpoint_is_read_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    train(tmp_path / "run")
    monkeypatch.setattr(torch, "load", lambda *args, **options: (_ for _ in ()).throw(SHORTAGES[kind]()))
    with pytest.raises(NotEnoughMemoryError, match="Memory ran out"):
        pipeline.resume(tmp_path / "run")


@pytest.mark.parametrize(("owner", "name"), [(TripleViewModel, "load"), (checkpoints, "restore_optimiser")])
def test_a_shortage_while_a_checkpoint_is_put_back_is_one_step_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    control, told = RunControl(), []

    def stop(event: Event) -> None:
        if isinstance(event, StepLogged) and event.iteration == 2:
            control.stop()

    pipeline.train([ball_case()], tmp_path / "run", CONFIG, control=control, listener=stop)
    Shortage(monkeypatch, owner, name, 1)
    assert pipeline.resume(tmp_path / "run", listener=told.append).iteration == 4
    assert any(isinstance(event, Notice) and "goes on from iteration 2" in event.message for event in told)


def test_the_ladder_of_a_graphics_card_ends_on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    rungs = ladder(CONFIG.with_settings({"training.patch": [80, 112, 112]}), CUDA)
    assert [rung.config.training.patch for rung in rungs[2:6]] == [
        (80, 112, 112),
        (40, 56, 56),
        (20, 28, 28),
        (20, 28, 28),
    ]
    assert [rung.economy.unrecorded for rung in rungs] == [False] + [True] * 6
    assert [rung.economy.parts for rung in rungs] == [1, 1, 2, 2, 2, 2, 2]
    assert [rung.economy.recompute for rung in rungs] == [False] * 5 + [True] * 2
    assert [rung.device.type for rung in rungs] == ["cuda"] * 6 + ["cpu"]
    assert [rung.economy.rung for rung in rungs] == list(range(7))
    compiled = ladder(CONFIG.with_settings({"training.compile": "default"}), CUDA)
    assert compiled[1].saves_like(compiled[0]), "what is compiled is not recorded anyway"
    assert not any(rung.economy.autocast for rung in rungs)


def test_a_batch_is_split_into_parts_of_both_kinds() -> None:
    def tensor(*extra: int) -> torch.Tensor:
        return torch.arange(6).reshape(6, *[1] * len(extra)).expand(6, *extra)

    batch = Batch(*(tensor(2, 2, 2) for _ in range(7)))
    parts = split(batch, 2, 2)
    assert [part.image_BDHW[:, 0, 0, 0].tolist() for part in parts] == [[0, 2, 3], [1, 4, 5]]
    assert split(batch, 2, 1) == [batch]


def test_losses_are_averaged_over_the_parts() -> None:
    def loss(value: float) -> NetworkLoss:
        return NetworkLoss(torch.tensor(value), (torch.tensor(value + 1), torch.tensor(value + 2)))

    (mean,) = average([[loss(1.0)], [loss(3.0)]])
    assert (mean.supervised.item(), [term.item() for term in mean.cross]) == (2.0, [3.0, 4.0])


def test_saving_memory_hardly_changes_a_step(tmp_path: Path) -> None:
    """Parts and recomputation give the same gradient, but for the statistics of the normalisation."""
    from tests.training.test_trainer import make_trainer

    found = {}
    for position in (0, 2, 5):
        rung = ladder(CONFIG.with_settings({"training.patch": [40, 40, 40], "model.dropout": 0}), CPU)[position]
        start = CONFIG.with_settings({"model.dropout": 0})
        made = make_trainer(tmp_path / str(position), start)
        made.economy = rung.economy
        summary, _, _ = made.step(made.sampler.batch(2, 2), 1)
        found[position] = summary.supervised
    np.testing.assert_allclose(found[2], found[0], rtol=0.05)
    np.testing.assert_allclose(found[5], found[0], rtol=0.05)


# --- prediction
def predict(control: RunControl | None = None, **changes: Any) -> tuple[Any, list[str]]:
    model = TripleViewModel(2, CONFIG.model)
    image = np.random.default_rng(0).random((40, 40, 40), dtype=np.float32)
    told: list[str] = []
    inference = CONFIG.inference.model_copy(update={"tiles_per_batch": 2})
    result = predicted_softmax(
        model, blank_prior(image, 2), (40, 40, 40), inference, control or RunControl(), on_shortage=told.append
    )
    assert model.training
    return result, told


@pytest.mark.parametrize(
    ("stage", "kind"),
    [
        *(((TripleViewModel, "forward"), kind) for kind in SHORTAGES),
        *((stage, "CUDA") for stage in ((torch, "softmax"), (sliding, "as_tensor"))),
    ],
)
def test_prediction_steps_down_and_gives_nearly_the_same(
    monkeypatch: pytest.MonkeyPatch, stage: tuple[Any, str], kind: str
) -> None:
    whole, told = predict()
    assert told == []
    with monkeypatch.context() as patch:
        Shortage(patch, *stage, 2).kind = kind
        smaller, told = predict()
    assert told == ["one tile at a time", "tiles of [20, 20, 20] voxels"]
    assert smaller.shape == whole.shape
    np.testing.assert_allclose(smaller.sum(axis=1), 1, atol=1e-4)
    assert np.abs(smaller - whole).mean() < 0.1


def test_prediction_does_not_try_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    shortage = Shortage(monkeypatch, TripleViewModel, "forward", 1000)
    with pytest.raises(torch.OutOfMemoryError):
        predict()
    assert 1000 - shortage.left == 4


@pytest.mark.parametrize("stage", ["predicted_softmax", "assemble"])
def test_a_prediction_that_cannot_be_saved_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    train(tmp_path / "run")
    Shortage(monkeypatch, assembly, stage, 1).kind = "numpy"
    with pytest.raises(NotEnoughMemoryError, match="Memory ran out"):
        pipeline.predict(tmp_path / "run", ball_case(), device="cpu")


def test_a_prediction_that_steps_down_tells_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline.train([ball_case()], tmp_path / "run", CONFIG.with_settings({"training.patch": [20, 26, 24]}))
    Shortage(monkeypatch, TripleViewModel, "forward", 2)
    events: list[Event] = []
    pipeline.predict(tmp_path / "run", ball_case(), device="cpu", listener=events.append)
    told = [event.message for event in events if isinstance(event, Notice)]
    assert told == [
        "Memory ran out; prediction begins again with one tile at a time.",
        "Memory ran out; prediction begins again with tiles of [16, 16, 16] voxels.",
    ]


@pytest.mark.parametrize(
    ("size", "words"), [(0, "0 bytes"), (900, "900 bytes"), (2**20, "1.0 MiB"), (3.25 * 2**30, "3.2 GiB")]
)
def test_sizes_in_words(size: float, words: str) -> None:
    assert in_words(size) == words
