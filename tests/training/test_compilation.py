import functools

import pytest
import torch
from tests.engine import tiny_config
from tests.training.test_trainer import make_trainer, weights

from napari_rada.errors import ConfigError
from napari_rada.training.compilation import compiled

COMPILE = torch.compile


def refuse(graph, inputs):
    raise RuntimeError("no compiler was found\nand more that nobody reads")


@pytest.fixture
def backend(monkeypatch):
    """Let torch trace the networks, which is quick, and hand them to another backend than its own."""

    def choose(backend):
        asked = []

        def compile_with(model, mode):
            asked.append(mode)
            return COMPILE(model, backend=backend)

        monkeypatch.setattr(torch, "compile", compile_with)
        return asked

    torch._dynamo.reset()
    yield choose
    torch._dynamo.reset()


@pytest.mark.parametrize("architecture", ["vnet", "completer"])
def test_compiled_networks_learn_the_same(tmp_path, backend, architecture):
    settings = {"model__networks": 2, "training__iterations": 2, "training__cross__noisy_passes": 1}
    make = functools.partial(tiny_config, model__architecture=architecture, **settings)
    plain = make_trainer(tmp_path / "plain", make())
    plain.run()
    asked = backend("eager")
    trainer = make_trainer(tmp_path / "compiled", make(training__compile="reduce-overhead"))
    trainer.run()
    assert asked == ["reduce-overhead"]
    torch.testing.assert_close(weights(trainer), weights(plain))
    assert set(trainer.model.state_dict()) == set(plain.model.state_dict())


def test_a_machine_that_cannot_compile_is_told_what_to_do(tmp_path, backend):
    backend(refuse)
    trainer = make_trainer(tmp_path, tiny_config(training__compile="default"))
    with pytest.raises(ConfigError, match=r"cannot be compiled here .*no compiler was found.*\); set training.compile"):
        trainer.run()


def test_several_processes_do_not_compile(tmp_path):
    trainer = make_trainer(tmp_path, tiny_config())
    assert compiled(trainer.model, "none", processes=2) is trainer.model
    with pytest.raises(ConfigError, match="one process only"):
        compiled(trainer.model, "default", processes=2)
