import csv

import pytest
import torch
from tests.engine import tiny_config
from tests.models.test_stopping import StopAtLook
from tests.training.test_trainer import make_trainer, weights

from napari_rada.errors import Stopped
from napari_rada.events import FinishReason
from napari_rada.training.checkpoint import load_checkpoint
from napari_rada.training.interruption import whole_or_not_at_all


def looks_of(path, config):
    """How often a whole run looks for a stop."""
    control = StopAtLook()
    make_trainer(path, config, control).run()
    return control.looks


@pytest.mark.parametrize("share", [0.3, 0.4, 0.5, 0.6])
def test_a_run_stopped_within_an_iteration_goes_on_bit_for_bit(tmp_path, share):
    config = tiny_config(
        training__iterations=6, model__dropout=0.3, model__norm="batch", training__cross__noisy_passes=2
    )
    whole = make_trainer(tmp_path / "whole", config)
    whole.run()
    looks = looks_of(tmp_path / "counted", config)

    interrupted = make_trainer(tmp_path / "parts", config, StopAtLook(int(share * looks)))
    assert interrupted.run() is FinishReason.STOPPED
    done = interrupted.state.iteration
    assert 0 < done < 6
    checkpoint = load_checkpoint(tmp_path / "parts" / "checkpoints" / "last.pt")
    assert checkpoint.state.iteration == done
    resumed = make_trainer(tmp_path / "parts", config, checkpoint=checkpoint)
    assert resumed.run() is FinishReason.COMPLETED
    assert torch.equal(weights(whole), weights(resumed))
    rows = [list(csv.reader((tmp_path / name / "losses.csv").read_text().splitlines())) for name in ("whole", "parts")]
    assert [row[:-1] for row in rows[0]] == [row[:-1] for row in rows[1]]


@pytest.mark.parametrize("way", ["forward", "back"])
def test_a_stop_is_seen_on_both_ways_and_leaves_everything_as_it_was(tmp_path, way):
    trainer = make_trainer(tmp_path, tiny_config(model__norm="batch", model__dropout=0.3))
    model, rng = trainer.model, trainer.sampler.rng
    count = sum(isinstance(layer, torch.nn.Conv3d | torch.nn.ConvTranspose3d) for layer in model.modules())
    before = {name: values.clone() for name, values in model.state_dict().items()}
    random, drawn = torch.get_rng_state(), rng.bit_generator.state
    control = StopAtLook(count // 2 if way == "forward" else count + count // 2)
    with pytest.raises(Stopped), whole_or_not_at_all(model, rng, control):
        trainer.step(trainer.sampler.batch(1, 1), 1)
    assert control.looks == control.look
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert rng.bit_generator.state == drawn
