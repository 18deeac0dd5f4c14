"""The completer, and its file."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from napari_rada.errors import InputError
from napari_rada.models import completer
from napari_rada.models.completer import CUES, WEIGHTS, Completer, load_completer, pack_completer, read_provenance


def test_any_size_goes_in_and_the_same_comes_out():
    torch.manual_seed(0)
    assert Completer(3, (4, 6, 8))(torch.randn(2, 3, 9, 14, 11)).shape == (2, 9, 14, 11)


def test_an_untrained_one_corrects_nothing():
    torch.manual_seed(0)
    assert not Completer(3, (4, 6))(torch.randn(2, 3, 8, 8, 8)).any()


def test_a_decoder_convolves_the_level_below_and_the_skip_side_by_side():
    torch.manual_seed(0)
    decoder = Completer(3, (4, 6)).decoders[0]
    level, skip = torch.randn(2, 6, 4, 4, 4), torch.randn(2, 4, 8, 8, 8)
    finer = F.interpolate(level, scale_factor=2, mode="trilinear", align_corners=False)
    together = decoder.after_first(decoder.first(torch.cat([finer, skip], dim=1)))
    found, weighting = decoder(level, skip), torch.randn_like(together)
    torch.testing.assert_close(found, together, rtol=1e-4, atol=1e-4)
    gradients = [torch.autograd.grad((made * weighting).sum(), decoder.first.weight)[0] for made in (found, together)]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3)


def test_weights_come_back_from_their_file(tmp_path):
    torch.manual_seed(1)
    model = Completer(3, (4, 6))
    torch.nn.init.normal_(model.head.weight)
    file = tmp_path / "completer.safetensors"
    file.write_bytes(pack_completer(model, {"steps": 3}))
    loaded = load_completer(file)
    cues = torch.randn(2, 3, 8, 8, 8)
    with torch.no_grad():
        assert torch.allclose(loaded(cues), model(cues), atol=0.02)  # kept in half precision
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert read_provenance(file) == {"steps": 3}


@pytest.mark.parametrize("content", [b"", b"no tensors", pickle.dumps({"a": 1})])
def test_another_file_is_refused_in_one_sentence(tmp_path, content):
    file = tmp_path / "other.safetensors"
    file.write_bytes(content)
    with pytest.raises(InputError, match="is no completer"):
        load_completer(file)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(InputError, match="is no completer"):
        load_completer(tmp_path / "nothing")


def test_a_shortage_of_memory_is_no_damage(monkeypatch):
    def short(path, framework):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(completer, "safe_open", short)
    with pytest.raises(RuntimeError, match="allocate memory"):
        load_completer(Path("short"))


def test_the_package_brings_a_completer_for_our_cues_that_says_where_it_comes_from():
    assert load_completer().stem.first.in_channels == len(CUES)
    assert Path(WEIGHTS).stat().st_size <= 5_000_000
    provenance = read_provenance()
    assert provenance["data"] == "synthetic scans only, drawn by napari_rada.pretraining"
    assert provenance["steps"] == provenance["planned_steps"]
