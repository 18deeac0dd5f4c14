"""Two processes train as one does, and fail, stop and run short of memory together."""

from __future__ import annotations

import csv
import os
import re
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tests.clip import architecture
from tests.engine import ball_case, tiny_config
from tests.pair import Pair, environment, free_port, two_processes
from torch.distributed import TCPStore

from napari_rada import pipeline
from napari_rada.control import RunControl
from napari_rada.errors import ConfigError, ElsewhereError, InputError, LostContactError, RadaError, Stopped
from napari_rada.events import Event, FinishReason, Notice, StepLogged, TrainingStarted
from napari_rada.models import device
from napari_rada.training import crew
from napari_rada.training.checkpoint import load_checkpoint
from napari_rada.training.patches import Cuts, PatchSampler
from napari_rada.training.team import ALONE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_rada.config import RunConfig
    from napari_rada.guidance.weights import GuidanceWeights
    from napari_rada.training.team import Team

# Of the preset "paper", as far as it is not said here: what its settings for cohorts change is not tried here.
CONFIG = tiny_config(
    propagation__method="diffusion",
    propagation__scales=[0.8],
    training__labelled_patches=2,
    training__unlabelled_patches=2,
    training__self_training=False,
    training__optimiser__kind="sgd",
    training__learning_rate=0.05,
    training__cross__noisy_passes=2,
    training__cross__beta_max=0.2,
    training__cross__schedule="constant",
    training__checkpoint_seconds=0,
    training__iterations=5,
    training__validate_every=3,
    model__dropout=0.3,
    model__prior_dropout=0.5,
).model_copy(update={"preset": "paper"})


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Start both processes once: importing torch takes longer than the tests."""
    with two_processes() as pair:
        yield pair


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train in one process, without a break, for the tests that compare with it."""
    path = tmp_path_factory.mktemp("alone") / "whole"
    train(ALONE, path)
    return path


@dataclass
class Plan:
    """What goes wrong, in which process, and when; picklable."""

    rank: int = -1
    at: int = 0
    what: str = ""


NOTHING = Plan()
ANY = -2


class StoppedAt(RunControl):
    """Asked to stop after so many looks."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self._looks = looks

    @property
    def stop_requested(self) -> bool:
        self._looks -= 1
        return self._looks < 0


@dataclass(frozen=True)
class Ended:
    """How training ended in one process, and what it told."""

    reason: FinishReason
    iteration: int
    dice: float | None
    events: list[Event]


def cases() -> list[Any]:
    """Three scans, two of them labelled."""
    return [ball_case("first"), ball_case("bare", 1, labelled=False), ball_case("second", 2)]


def train(
    team: Team,
    path: Path,
    config: RunConfig | None = CONFIG,
    plan: Plan = NOTHING,
    resume: bool = False,
    scans: int = 3,
) -> Ended:
    """Train on so many scans, or go on, with a fault as planned."""
    events: list[Event] = []
    control = StoppedAt(plan.at) if plan.what == "stop" and plan.rank == team.rank else RunControl()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "_cpu_has_bfloat16", lambda: False)  # its rounding depends on the size of a batch
        if plan.rank in (team.rank, ANY):
            _break(patch, plan)
        if resume:
            result = pipeline.resume(path, control=control, listener=events.append, team=team)
        else:
            taught = cases()[:scans]
            result = pipeline.train(taught, path, config, control=control, listener=events.append, team=team)
    return Ended(result.reason, result.iteration, result.dice, events)


def _break(patch: pytest.MonkeyPatch, plan: Plan) -> None:
    original, calls = PatchSampler.cut, []

    def cut(self: PatchSampler, *args: Any, **options: Any) -> Any:
        calls.append(1)
        found = original(self, *args, **options)
        if plan.what == "slow":
            time.sleep(0.3)
        if len(calls) != plan.at:
            return found
        if plan.what == "refuse":
            raise InputError("the scan is upside down")
        if plan.what == "memory":
            raise MemoryError
        return Cuts(one._replace(image=torch.full_like(one.image, torch.nan)) for one in found)

    if plan.what in ("refuse", "memory", "nan", "slow"):
        patch.setattr(PatchSampler, "cut", cut)


def losses(path: Path) -> torch.Tensor:
    with (path / "losses.csv").open() as file:
        return torch.tensor([[float(cell) for cell in row[:-1]] for row in list(csv.reader(file))[1:]])


def assert_same(one: Path, other: Path, tolerance: float = 5e-5) -> None:
    """Compare losses and weights; rounding moves single voxels over the threshold of cross supervision."""
    cross = slice(4, 7)
    found, wanted = losses(one), losses(other)
    torch.testing.assert_close(found[:, cross], wanted[:, cross], rtol=1e-2, atol=1e-2, equal_nan=True)
    found[:, cross] = wanted[:, cross] = 0.0
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance, equal_nan=True)
    models = [load_checkpoint(path / "checkpoints" / "last.pt").model for path in (one, other)]
    assert models[0].keys() == models[1].keys()
    for name, values in models[0].items():
        torch.testing.assert_close(values, models[1][name], rtol=tolerance, atol=tolerance, msg=name)


VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "one patch each, of another kind": {"training.labelled_patches": 1, "training.unlabelled_patches": 1},
    "uneven shares": {"training.labelled_patches": 3, "training.unlabelled_patches": 2},
    "labelled by themselves": {"training.self_training": True},
    "no unlabelled patches": {"training.unlabelled_patches": 0},
    "taught on labelled patches too": {"training.cross.on_labelled": True, "training.labelled_patches": 3},
    "taught on labelled patches alone": {"training.cross.on_labelled": True, "training.unlabelled_patches": 0},
    "batch normalisation": {"model.norm": "batch"},
    "batch normalisation of uneven shares": {
        "model.norm": "batch",
        "training.labelled_patches": 1,
        "training.unlabelled_patches": 1,
    },
    "two networks from the image alone": {"model.networks": 2, "model.completion": False},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_processes_train_as_one(pair: Pair, tmp_path: Path, variant: str) -> None:
    config = CONFIG.with_settings(VARIANTS[variant])
    alone = train(ALONE, tmp_path / "one", config)
    first, second = pair.run(train, tmp_path / "two", config)
    iterations = 10 if config.training.self_training else 5
    assert (first.reason, first.iteration, first.dice) == (alone.reason, iterations, alone.dice)
    assert (second.iteration, second.dice) == (iterations, alone.dice)
    assert_same(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "one" / "validation.csv").read_text() == (tmp_path / "two" / "validation.csv").read_text()


COMPLETERS = CONFIG.with_settings(
    {
        "model.architecture": "completer",
        "model.prior_dropout": 0.0,
        "training.cross.on_labelled": True,
        "training.learning_rate": 1e-3,
        "training.iterations": 3,
        "training.validate_every": 2,
    }
)


@pytest.mark.parametrize(("labelled", "unlabelled", "on_labelled"), [(3, 2, True), (1, 1, False)])
def test_completers_train_as_in_one(
    pair: Pair, tmp_path: Path, labelled: int, unlabelled: int, on_labelled: bool
) -> None:
    settings = {
        "training.labelled_patches": labelled,
        "training.unlabelled_patches": unlabelled,
        "training.cross.on_labelled": on_labelled,
    }
    config = COMPLETERS.with_settings(settings)
    alone = train(ALONE, tmp_path / "one", config, scans=1)
    first, second = pair.run(train, tmp_path / "two", config, NOTHING, False, 1)
    assert (first.iteration, first.dice) == (second.iteration, second.dice) == (3, alone.dice)
    assert (losses(tmp_path / "one")[:, 4:7] > 0).all() == (on_labelled or unlabelled > 0)
    assert_same(tmp_path / "one", tmp_path / "two")


def train_guided(team: Team, path: Path, config: RunConfig) -> Ended:
    """Train with a tiny CLIP."""
    with architecture():
        return train(team, path, config)


def test_guided_networks_train_as_in_one(pair: Pair, tmp_path: Path, tiny_clip: GuidanceWeights) -> None:
    settings = {
        "guidance.source": "region+text",
        "guidance.clip_weights": str(tiny_clip.clip),
        "guidance.alpha_weights": str(tiny_clip.alpha),
        "guidance.width": 16,
        "guidance.controller": [12, 8],
    }
    config = CONFIG.with_settings(settings)
    train_guided(ALONE, tmp_path / "one", config)
    first, _ = pair.run(train_guided, tmp_path / "two", config)
    assert first.iteration == 5
    assert any("guided by region+text" in event.message for event in first.events if isinstance(event, Notice))
    assert_same(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize("rung", [2, 4])
def test_every_way_of_saving_memory_is_the_same_on_two(pair: Pair, tmp_path: Path, rung: int) -> None:
    """2 the batch in parts, 4 also smaller patches and activations computed twice."""
    config = CONFIG.with_settings({"training.patch": [16, 20, 20]})
    for name in ("one", "two"):
        train(ALONE, tmp_path / name, config, Plan(0, 1, "stop"))
        path = tmp_path / name / "checkpoints" / "last.pt"
        content = torch.load(path, weights_only=True)
        content["state"]["rung"] = rung
        torch.save(content, path)
    train(ALONE, tmp_path / "one", None, NOTHING, True)
    pair.run(train, tmp_path / "two", None, NOTHING, True)
    assert load_checkpoint(tmp_path / "two" / "checkpoints" / "last.pt").state.rung == rung
    assert_same(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize("order", ["one then two", "two then one"])
def test_a_run_goes_on_with_another_number_of_processes(pair: Pair, whole: Path, tmp_path: Path, order: str) -> None:
    stopped, path = Plan(0, 2, "stop"), tmp_path / "parts"
    if order == "one then two":
        assert train(ALONE, path, CONFIG, stopped).iteration == 2
        ended = pair.run(train, path, None, NOTHING, True)
    else:
        assert [each.iteration for each in pair.run(train, path, CONFIG, stopped)] == [2, 2]
        ended = [train(ALONE, path, resume=True)]
    assert all(each.reason is FinishReason.COMPLETED and each.iteration == 5 for each in ended)
    assert_same(whole, path)


def test_a_killed_process_ends_the_other_with_one_sentence_and_the_job_resumes(
    pair: Pair, whole: Path, tmp_path: Path
) -> None:
    path = tmp_path / "killed"
    pair.begin(train, path, CONFIG, Plan(ANY, what="slow"))
    until = time.monotonic() + 60
    while not (path / "losses.csv").exists() or len((path / "losses.csv").read_text().splitlines()) < 3:
        assert time.monotonic() < until
        time.sleep(0.02)
    pair.kill(1)
    killed = time.monotonic()
    error = pair.end(0)
    assert time.monotonic() - killed < 20
    assert isinstance(error, LostContactError)
    assert re.fullmatch(
        r"Process 0 of 2 lost contact with another one \(.+\), which was killed or whose machine failed; start the job "
        r"again with --resume, training goes on from the last checkpoint\.",
        str(error),
    )
    assert 1 <= load_checkpoint(path / "checkpoints" / "last.pt").state.iteration < 5
    assert (path / "prepared").is_dir()
    assert train(ALONE, path, resume=True).iteration == 5
    assert not (path / "prepared").exists()
    assert_same(whole, path)


def be(monkeypatch: pytest.MonkeyPatch, rank: int, port: int) -> None:
    """Be one of two processes."""
    for name, value in environment(rank, port).items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("launched", [True, False])
def test_a_stop_is_heard_while_others_are_waited_for(
    monkeypatch: pytest.MonkeyPatch, rank: int, launched: bool
) -> None:
    """As after a process was killed before it was there: the launcher asks those that wait for it to end."""
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False) if launched else None
    be(monkeypatch, rank, server.port if server else free_port())
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", str(launched))
    monkeypatch.setattr(crew, "MEETING", timedelta(seconds=10))
    told = f"while process {rank} of 2 waited for the others to start; start the job again"
    began = time.monotonic()
    with pytest.raises(Stopped, match=re.escape(told)), crew.joined(StoppedAt(3)):
        pass
    assert time.monotonic() - began < 5
    monkeypatch.setattr(crew, "MEETING", timedelta(seconds=1))
    with pytest.raises(ConfigError, match=r"did not find each other \(not all were there after 1 s\)"), crew.joined():
        pass


def test_a_stop_counts_where_the_first_process_was_stopped_too_and_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Store(TCPStore):  # type: ignore[misc]  # untyped in torch
        def check(self, keys: list[str]) -> bool:
            raise RuntimeError("Connection reset by peer")

    server = Store("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    be(monkeypatch, 1, server.port)
    monkeypatch.setattr(crew, "rendezvous", lambda _url, timeout: iter([(server, 1, 1)]))
    monkeypatch.setattr(crew, "PrefixStore", lambda _prefix, store: store)
    with pytest.raises(Stopped), crew.joined(StoppedAt(0)):
        pass
    with pytest.raises(ConfigError, match=r"did not find each other \(Connection reset by peer\)"), crew.joined():
        pass


def set_patience(team: Team, seconds: float) -> None:
    """Let the processes wait for each other for so long from their next meeting on."""
    crew.PATIENCE = timedelta(seconds=seconds)


def sleep_in_one(team: Team, seconds: float) -> None:
    """Let one process hang for a while."""
    if team.rank == 1:
        time.sleep(seconds)
    team.any(False)


def test_a_process_that_hangs_is_not_waited_for_without_end(pair: Pair) -> None:
    pair.run(set_patience, 1.0)
    pair.begin(sleep_in_one, 4.0)
    started = time.monotonic()
    error = pair.end(0)
    assert time.monotonic() - started < 4.0
    assert isinstance(error, LostContactError)
    assert isinstance(pair.end(1), LostContactError | ElsewhereError)
    pair.run(set_patience, 60.0)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_stop_of_one_stops_both_at_the_same_iteration(pair: Pair, tmp_path: Path, rank: int) -> None:
    ended = pair.run(train, tmp_path / "run", CONFIG, Plan(rank, 3, "stop"))
    assert [(each.reason, each.iteration) for each in ended] == [(FinishReason.STOPPED, 3)] * 2
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt").state.iteration == 3
    assert not (tmp_path / "run" / "prepared").exists()


def prepare_and_stop(team: Team, path: Path) -> Ended:
    """Stop one process while it prepares its share."""
    control = RunControl()
    if team.rank == 1:
        control.stop()
    result = pipeline.train(cases(), path, CONFIG, control=control, team=team)
    return Ended(result.reason, result.iteration, None, [])


def test_a_stop_while_one_prepares_stops_both(pair: Pair, tmp_path: Path) -> None:
    ended = pair.run(prepare_and_stop, tmp_path / "run")
    assert [(each.reason, each.iteration) for each in ended] == [(FinishReason.STOPPED, 0)] * 2


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_in_one_ends_both_and_is_told_once(pair: Pair, tmp_path: Path, rank: int) -> None:
    ended = pair.run(train, tmp_path / "run", CONFIG, Plan(rank, 3, "refuse"))
    assert (type(ended[rank]), str(ended[rank])) == (InputError, "the scan is upside down")
    assert isinstance(ended[1 - rank], ElsewhereError)
    assert str(ended[1 - rank]).startswith(f"Process {rank} of 2 on ")
    assert str(ended[1 - rank]).endswith(": the scan is upside down")
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt").state.iteration == 2
    assert "upside down" in (tmp_path / "run" / "run.log").read_text()
    assert not (tmp_path / "run" / "prepared").exists()


def test_a_loss_that_is_not_finite_in_one_changes_no_weight_in_any(pair: Pair, tmp_path: Path) -> None:
    ended = pair.run(train, tmp_path / "run", CONFIG, Plan(1, 3, "nan"))
    told = [error for error in ended if not isinstance(error, ElsewhereError)]
    assert len(told) == 1
    assert isinstance(told[0], RadaError)
    assert "The loss became nan in iteration 3, on the patches" in str(told[0])
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt").state.iteration == 2


def test_too_little_memory_in_one_is_a_step_down_for_both(pair: Pair, tmp_path: Path) -> None:
    train(ALONE, tmp_path / "one", CONFIG, Plan(0, 3, "memory"))
    first, second = pair.run(train, tmp_path / "two", CONFIG, Plan(1, 3, "memory"))
    assert (first.iteration, second.iteration) == (5, 5)
    told = [event.message for event in first.events if isinstance(event, Notice)]
    assert told == ["Memory ran out; training goes on from iteration 2 with the batch in 2 parts."]
    assert load_checkpoint(tmp_path / "two" / "checkpoints" / "last.pt").state.rung == 2
    assert_same(tmp_path / "one", tmp_path / "two")


WRITTEN: list[str] = []
_WATCHED: list[str] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _WATCHED and isinstance(arguments[0], str | bytes | os.PathLike):
        name, mode = os.fsdecode(arguments[0]), arguments[1]
        if name.startswith(_WATCHED[0]) and isinstance(mode, str) and set(mode) & set("wax+"):
            WRITTEN.append(name)


def train_watched(team: Team, path: Path) -> tuple[list[str], int]:
    """Train, and return the names of the files that were opened to write, and the number of events."""
    if not _WATCHED:
        sys.addaudithook(_watch)
    _WATCHED[:], WRITTEN[:] = [str(path)], []
    ended = train(team, path)
    _WATCHED.clear()
    _WATCHED.append("nowhere")
    return list(WRITTEN), len(ended.events)


def test_only_the_leading_process_writes_and_tells(pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "run"
    (wrote, told), (others, heard) = pair.run(train_watched, path)
    assert any("losses.csv" in name for name in wrote)
    assert told > 5
    assert others
    assert all(Path(name).is_relative_to(path / "prepared") for name in others)
    assert heard == 0
    assert not (path / "prepared").exists()


def test_a_time_budget_is_the_leading_process_s(pair: Pair, tmp_path: Path) -> None:
    config = CONFIG.with_settings({"training.minutes": 0.02, "training.iterations": 100_000})
    first, second = pair.run(train, tmp_path / "run", config)
    assert 5 < first.iteration == second.iteration < 100_000


@pytest.mark.parametrize(("unlabelled", "teaches_itself"), [(0, False), (1, True)])
def test_more_processes_than_patches_are_refused(
    pair: Pair, tmp_path: Path, unlabelled: int, teaches_itself: bool
) -> None:
    """The first half of self-training has labelled patches alone."""
    config = CONFIG.with_settings(
        {
            "training.labelled_patches": 1,
            "training.unlabelled_patches": unlabelled,
            "training.self_training": teaches_itself,
        }
    )
    ended = pair.run(train, tmp_path / "run", config)
    told = [error for error in ended if isinstance(error, ConfigError)]
    assert [str(error)[:53] for error in told] == ["There are 2 processes for 1 patches per batch; start "]
    assert not (tmp_path / "run").exists()


def test_one_graphics_card_for_all_is_refused(pair: Pair, tmp_path: Path) -> None:
    ended = pair.run(train, tmp_path / "run", CONFIG.with_settings({"device": "cuda:1"}))
    told = [str(error) for error in ended if isinstance(error, ConfigError)]
    assert told == ["Device 'cuda:1' is one device for 2 processes; use auto, cuda or cpu."]


def test_the_processes_can_work_on_after_an_error_that_was_caught(pair: Pair, tmp_path: Path) -> None:
    ended = pair.run(fail_twice, tmp_path / "run")
    assert ended == [["Process 1 of 2", "first"], ["Process 0 of 2", "second"]]


def fail_twice(team: Team, path: Path) -> list[str]:
    """Fail in one process, then in the other; return what each heard of the other, and said."""
    found = []
    for rank, what in ((1, "first"), (0, "second")):
        try:
            with team.together():
                if team.rank == rank:
                    raise InputError(what)
                team.any(False)
        except ElsewhereError as error:
            found.append(str(error).partition(" on ")[0])
            heard = str(error).rpartition(": ")[2]
        except InputError:
            pass
    return [*found, heard]


def test_the_run_is_told_to_have_started_once(pair: Pair, tmp_path: Path) -> None:
    first, _ = pair.run(train, tmp_path / "run")
    assert len([event for event in first.events if isinstance(event, TrainingStarted)]) == 1
    assert [event.iteration for event in first.events if isinstance(event, StepLogged)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("cuda", "nccl", "wanted"), [(True, True, "cpu:gloo,cuda:nccl"), (True, False, "gloo"), (False, True, "gloo")]
)
def test_without_nccl_gloo_carries_all(monkeypatch: pytest.MonkeyPatch, cuda: bool, nccl: bool, wanted: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: nccl)
    assert crew.backend() == wanted
