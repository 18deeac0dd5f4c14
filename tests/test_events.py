"""Events: frozen, of scalars only, light to import."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import get_args

import pytest

from napari_rada.events import (
    CheckpointSaved,
    Event,
    FinishReason,
    Notice,
    Paused,
    Resumed,
    RunFinished,
    Stage,
    StageProgress,
    StepLogged,
    TrainingStarted,
    Validated,
    ignore,
)

EVENTS = [
    StageProgress(Stage.PROPAGATE, 1, 3),
    TrainingStarted(1, 100, "cpu"),
    StepLogged(1, 100, (0.5, 0.6, 0.7), (0.1, 0.1, 0.1), 0.01, 1e-2, 1.0, 99.0),
    Validated(10, 0.9, 0.89, best=True),
    CheckpointSaved(10, Path("last.pt")),
    Paused(3),
    Resumed(4),
    RunFinished(FinishReason.STOPPED, 7),
    Notice("Something was replaced."),
]


def test_every_event_is_here() -> None:
    assert {type(event) for event in EVENTS} == set(get_args(Event))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_events_are_frozen_values(event: Event) -> None:
    field = dataclasses.fields(event)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(event, field, None)
    assert pickle.loads(pickle.dumps(event)) == event  # noqa: S301
    assert hash(event) == hash(dataclasses.replace(event))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_the_default_listener_takes_everything(event: Event) -> None:
    ignore(event)


def test_reasons_and_stages_read_as_words() -> None:
    assert FinishReason("stopped") is FinishReason.STOPPED
    assert [stage.value for stage in Stage][:5] == ["prepare", "propagate", "train", "label", "predict"]
