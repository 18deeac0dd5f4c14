from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tests.models.test_stopping import StopAtLook

from napari_rada.config import RunConfig
from napari_rada.control import RunControl
from napari_rada.errors import Stopped
from napari_rada.inference import tiles
from napari_rada.inference.sliding import blank_prior, predicted_softmax
from napari_rada.inference.tiles import predict_part
from napari_rada.inference.window import TileGrid, boxes
from napari_rada.models.triple_view import TripleViewModel

if TYPE_CHECKING:
    from napari_rada.data.box import Box

TILE = (16, 24, 24)


def make_model(config: RunConfig) -> TripleViewModel:
    model = TripleViewModel(2, config.model, 0).to(memory_format=torch.channels_last_3d)
    for network in model.networks:
        torch.nn.init.normal_(network.vnet.head.weight, generator=torch.Generator().manual_seed(1))
    return model


def config(**settings: object) -> RunConfig:
    tiny = {
        "model.architecture": "vnet",
        "model.filters": 2,
        "model.blocks": [1, 1],
        "model.completion": False,
        "inference.tiles_per_batch": 1,
    }
    return RunConfig.from_preset("quick").with_settings(
        tiny | {name.replace("__", "."): value for name, value in settings.items()}
    )


def select(box: Box) -> tuple[slice, ...]:
    return tuple(slice(a, b) for a, b in zip(*box, strict=True))


@pytest.mark.parametrize("completion", [False, True])
@pytest.mark.parametrize("shape", [(33, 50, 47), (10, 30, 24)])
@pytest.mark.parametrize("overlap", [0.25, 0.5])
def test_parts_are_bit_for_bit_those_of_the_whole(
    shape: tuple[int, int, int], completion: bool, overlap: float
) -> None:
    settings = config(model__completion=completion, inference__overlap=overlap)
    model, image = make_model(settings), np.random.default_rng(0).random(shape).astype(np.float32)
    whole = predicted_softmax(model, blank_prior(image, 2), TILE, settings.inference, RunControl())
    grid = TileGrid(shape, TILE, overlap)
    joined = np.zeros_like(whole)
    for box in boxes(shape, (16, 32, 20)):
        part = predict_part(model, lambda b: image[select(b)], grid, box, settings.inference, RunControl())
        joined[(slice(None), slice(None), *select(box))] = part
    np.testing.assert_array_equal(joined, whole)


def test_stop_is_heard_between_tiles() -> None:
    settings, control = config(), RunControl()
    control.stop()
    with pytest.raises(Stopped):
        predict_part(
            make_model(settings),
            lambda b: np.zeros((32, 24, 24), dtype=np.float32),
            TileGrid((32, 24, 24), TILE, 0.5),
            ((0, 0, 0), (32, 24, 24)),
            settings.inference,
            control,
        )


def test_stop_is_heard_within_a_tile() -> None:
    settings = config()
    image, model = np.zeros(TILE, dtype=np.float32), make_model(settings)
    predicted_softmax(model, blank_prior(image, 2), TILE, settings.inference, counted := StopAtLook())
    control = StopAtLook(counted.looks // 2)
    with pytest.raises(Stopped):
        predicted_softmax(model, blank_prior(image, 2), TILE, settings.inference, control)
    assert control.looks == control.look


def test_where_memory_runs_out_tiles_go_one_by_one_and_keep_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(inference__tiles_per_batch=4)
    model, batches = make_model(settings), []
    real = tiles._softmax

    def short(model: TripleViewModel, tiles_BDHW: torch.Tensor) -> torch.Tensor:
        batches.append(tuple(tiles_BDHW.shape))
        if len(tiles_BDHW) > 1:
            raise MemoryError
        return real(model, tiles_BDHW)

    monkeypatch.setattr(tiles, "_softmax", short)
    image = np.random.default_rng(0).random((32, 24, 24)).astype(np.float32)
    grid, box = TileGrid(image.shape, TILE, 0.5), ((0, 0, 0), image.shape)
    found = predict_part(model, lambda b: image[select(b)], grid, box, settings.inference, RunControl())
    assert batches == [(3, *TILE), (1, *TILE), (1, *TILE), (1, *TILE)]
    assert found.shape == (3, 2, *image.shape)
    monkeypatch.setattr(tiles, "_softmax", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        predict_part(model, lambda b: image[select(b)], grid, box, settings.inference, RunControl())
