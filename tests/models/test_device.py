import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from napari_rada.errors import ConfigError
from napari_rada.models import device as devices
from napari_rada.models.device import (
    _cpu_has_bfloat16,
    autocast,
    autocasts,
    computing,
    has_bfloat16,
    learns_in_bfloat16,
    resolve_device,
    undisturbed,
    why_unusable,
)


def card_of(monkeypatch, capability, built="sm_75 sm_80 sm_86 sm_90 sm_100 sm_120 compute_120"):
    """Let there be one graphics card, and PyTorch be built for some."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_arch_list", built.split)


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (8, 9), (9, 0), (10, 3), (12, 0), (13, 1)])
def test_a_gpu_that_pytorch_was_built_for_is_used(monkeypatch, capability):
    card_of(monkeypatch, capability)
    assert why_unusable(torch.device("cuda")) is None
    assert resolve_device("auto").type == "cuda"


@pytest.mark.parametrize("capability", [(6, 1), (7, 0), (11, 0)])
def test_a_gpu_that_pytorch_was_not_built_for_is_left_alone_and_says_why(monkeypatch, capability):
    """Its first kernel would end the run: no kernel image is available for execution on the device."""
    card_of(monkeypatch, capability)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device("auto").type == "cpu"
    own = "{}.{}".format(*capability)
    with pytest.raises(ConfigError, match=rf"capability 7\.5, 8\.0, 8\.6, 9\.0, 10\.0, 12\.0, not {own}; pytorch\.org"):
        resolve_device("cuda:0")


@pytest.mark.parametrize("built", ["", "gfx90a gfx942", "unheard_of"])
def test_a_pytorch_that_does_not_say_what_it_was_built_for_is_believed(monkeypatch, built):
    card_of(monkeypatch, (6, 1), built)
    assert why_unusable(torch.device("cuda")) is None


def test_auto_prefers_cuda_then_mps(monkeypatch):
    card_of(monkeypatch, (8, 0))
    assert resolve_device("auto").type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(devices, "trial", lambda device: None)
    assert resolve_device("auto").type == "mps"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device("auto").type == "cpu"


def test_an_apple_gpu_that_fails_its_trial_is_not_chosen_and_says_why(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(devices, "trial", lambda device: "PyTorch 2.14 computes 3D networks wrongly on it")
    assert resolve_device("auto").type == "cpu"
    with pytest.raises(ConfigError, match=r"'mps' cannot be used: PyTorch 2\.14 .* wrongly on it\. Use auto or cpu\."):
        resolve_device("mps")


def test_a_missing_device_says_why(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"'cuda' cannot be used: .*Use auto or cpu"):
        resolve_device("cuda")


def test_a_gpu_number_beyond_the_last_is_refused(monkeypatch):
    card_of(monkeypatch, (8, 0))
    assert why_unusable(torch.device("cuda:0")) is None
    assert why_unusable(torch.device("cuda:1")) == "there are only 1 GPUs"


@pytest.mark.parametrize("name", ["gpu", "", "xla", "cpu:x"])
def test_unknown_names_are_refused(name):
    with pytest.raises(ConfigError, match="Device"):
        resolve_device(name)


def test_a_processor_with_bfloat16_uses_it_if_asked_to(monkeypatch):
    device = torch.device("cpu")
    _cpu_has_bfloat16.cache_clear()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    assert autocasts(device, cpu=True)
    assert not autocasts(device)
    _cpu_has_bfloat16.cache_clear()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False}, raising=False)
    assert not autocasts(device, cpu=True)
    _cpu_has_bfloat16.cache_clear()
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not autocasts(device, cpu=True)
    _cpu_has_bfloat16.cache_clear()


@pytest.mark.parametrize(
    ("depth", "stride", "safe"),
    [
        (16, 8, False),
        (9, 8, False),
        (8, 8, False),
        (1, 8, False),
        (17, 8, True),
        (24, 8, True),
        (4, 2, False),
        (5, 2, True),
    ],
)
def test_no_gradient_in_bfloat16_where_a_level_is_two_voxels_deep(depth, stride, safe):
    levels, padded = stride.bit_length(), -(-depth // stride) * stride
    assert safe is (2 not in [padded >> level for level in range(levels)])
    assert learns_in_bfloat16(torch.device("cpu"), depth, stride) is safe
    assert learns_in_bfloat16(torch.device("cuda"), depth, stride)


def test_mixed_precision_only_where_the_gpu_has_bfloat16(monkeypatch):
    with autocast(torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    card = torch.device("cuda")
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert has_bfloat16(card)
    assert autocasts(card)
    # PyTorch calls this one able to, since it can make such numbers; cuDNN cannot convolve them
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert not has_bfloat16(card)
    assert not autocasts(card, cpu=True)
    assert not isinstance(autocast(card), torch.autocast)
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert has_bfloat16(card)
    assert not has_bfloat16(torch.device("mps"))


def test_no_more_threads_compute_than_there_are_processors(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    before = torch.get_num_threads()
    with computing(1000):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == before


def test_of_two_computations_at_a_time_the_last_puts_back_what_a_caller_chose() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        first, second = undisturbed(), undisturbed()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert torch.get_default_dtype() == torch.float32
        second.__exit__(None, None, None)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_of_two_computations_at_a_time_the_last_leaves_later_ones_their_threads(monkeypatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    chosen = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other, ThreadPoolExecutor(1) as later:
            first, second = computing(1), computing(None)
            one.submit(first.__enter__).result()
            other.submit(second.__enter__).result()
            one.submit(first.__exit__, None, None, None).result()
            other.submit(second.__exit__, None, None, None).result()
            assert later.submit(torch.get_num_threads).result() == 3
    finally:
        torch.set_num_threads(chosen)


@pytest.mark.parametrize(("mine", "beside"), [(None, 1), (1, None), (2, 1), (None, None)])
def test_of_two_computations_at_a_time_each_has_its_own_threads(monkeypatch, mine, beside) -> None:
    def count(threads):
        with computing(threads):
            return torch.get_num_threads()

    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    chosen = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with computing(beside), ThreadPoolExecutor(1) as other:
            assert other.submit(count, mine).result() == (mine or 3)
            assert torch.get_num_threads() == (beside or 3)
    finally:
        torch.set_num_threads(chosen)


def test_what_a_caller_chose_for_his_own_computations_does_not_hold() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), np.errstate(all="raise"), computing(1):
            weights = torch.ones(2, requires_grad=True)
            torch.autograd.backward(weights.sum())
            assert weights.dtype == torch.float32
            assert weights.grad is not None
            assert np.exp(np.float32(-100)) == 0.0
        with torch.no_grad():
            with computing(1):
                assert torch.is_grad_enabled()
            assert not torch.is_grad_enabled()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
