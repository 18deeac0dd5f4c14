from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from tests.weight_server import alpha_bytes

from napari_rada.control import RunControl
from napari_rada.errors import Stopped, WeightsError
from napari_rada.events import Event, Notice
from napari_rada.guidance import weights
from napari_rada.guidance.files import find_files
from napari_rada.guidance.registry import CLIP_MODELS, REGISTRY, WeightEntry, entries_of, entry_named
from napari_rada.guidance.store import CACHE_VARIABLE, WeightStore, cache_folder
from napari_rada.settings import GuidanceConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ALPHA = "clip_b16_grit20m_fultune_2xe.pth"


@pytest.fixture(autouse=True)
def _no_other_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the machine's own CLIP files out of sight."""
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    monkeypatch.setattr(weights, "_in_hub_cache", lambda repository: None)


@pytest.fixture
def store(tmp_path: Path) -> WeightStore:
    store = WeightStore(tmp_path / "cache")
    store.make_folder()
    return store


@pytest.fixture
def brought(tmp_path: Path) -> Path:
    path = tmp_path / "brought.pth"
    path.write_bytes(alpha_bytes())
    return path


def test_the_registry_has_the_eight_files_of_alpha_clip() -> None:
    alpha = [entry for entry in REGISTRY if entry.kind == "alpha"]
    assert len(alpha) == 8
    assert len({entry.name for entry in REGISTRY}) == len(REGISTRY)
    for entry in alpha:
        assert entry.url == f"https://download.openxlab.org.cn/models/SunzeY/AlphaCLIP/weight/{entry.name}"
        assert "research" in entry.licence
    for model in CLIP_MODELS:
        assert len(entries_of(model, "clip")) == 1
        assert entries_of(model, "alpha")


def test_the_clip_files_are_those_of_open_clip() -> None:
    pretrained = pytest.importorskip("open_clip.pretrained", reason="open_clip_torch is not installed")
    for model in CLIP_MODELS:
        (entry,) = entries_of(model, "clip")
        published = pretrained.get_pretrained_cfg(model, "openai")
        assert entry.url == published["url"]
        assert entry.sha256 == entry.url.split("/")[-2]
        assert f"{weights.HUB_NAMES[model]}/" == published["hf_hub"]
    assert pretrained.HF_SAFE_WEIGHTS_NAME == weights.HUB_FILE


@pytest.mark.parametrize("ask", [lambda: entry_named("x.pth"), lambda: entries_of("RN50", "clip")])
def test_what_the_registry_does_not_have(ask: Callable[[], object]) -> None:
    with pytest.raises(WeightsError, match="choose one of"):
        ask()


def test_the_cache_is_set_by_argument_then_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "variable"))
    assert cache_folder(tmp_path / "setting") == tmp_path / "setting"
    assert cache_folder() == tmp_path / "variable"
    monkeypatch.delenv(CACHE_VARIABLE)
    assert cache_folder().name == "napari-rada"


def test_an_import_is_checked_copied_and_recorded(store: WeightStore, brought: Path) -> None:
    entry = entry_named(ALPHA)
    assert store.known_checksum(entry) is None
    found = store.import_file(entry, brought)
    assert (found.source, found.path) == ("new", store.path(entry))
    assert brought.exists()
    assert store.verify(entry).source == "recorded"
    assert store.import_file(entry, brought).source == "recorded"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>", "no file of plain PyTorch weights"),
        ({"conv1.weight": torch.zeros(2)}, "have no conv1_alpha.weight"),
        ([1, 2], "have no conv1_alpha.weight"),
    ],
)
def test_an_import_of_something_else(store: WeightStore, tmp_path: Path, content: object, message: str) -> None:
    file = tmp_path / "other.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(WeightsError, match=message):
        store.import_file(entry_named(ALPHA), file)
    assert list(store.folder.iterdir()) == []


def test_code_in_a_file_is_not_run(store: WeightStore, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> object:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"conv1_alpha.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match="no file of plain PyTorch weights"):
        store.import_file(entry_named(ALPHA), tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_an_import_of_wrong_size_or_checksum(store: WeightStore, brought: Path) -> None:
    entry = entry_named(ALPHA)
    with pytest.raises(WeightsError, match="must have 12 bytes"):
        store.import_file(replace(entry, size_bytes=12), brought)
    with pytest.raises(WeightsError, match="and not 00"):
        store.import_file(replace(entry, sha256="0" * 64), brought)
    with pytest.raises(WeightsError, match="is not a file"):
        store.import_file(entry, brought.with_name("absent.pth"))
    assert brought.exists()


def test_a_shortage_of_memory_is_no_wrong_file(
    store: WeightStore, brought: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*args: object, **options: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch, "load", short)
    with pytest.raises(RuntimeError, match="allocate memory"):
        store.import_file(entry_named(ALPHA), brought)


def test_an_import_can_be_stopped(store: WeightStore, brought: Path) -> None:
    control = RunControl()
    control.stop()
    with pytest.raises(Stopped):
        store.import_file(entry_named(ALPHA), brought, control=control)
    assert list(store.folder.iterdir()) == []


def test_a_damaged_record_is_told(store: WeightStore, brought: Path) -> None:
    store.import_file(entry_named(ALPHA), brought)
    (store.folder / "checksums.json").write_text("[1]")
    with pytest.raises(WeightsError, match=r"checksums.json is damaged; delete it"):
        store.verify(entry_named(ALPHA))


def put_clip(store: WeightStore, monkeypatch: pytest.MonkeyPatch, folder: Path | None = None) -> WeightEntry:
    """Put a stand-in for the CLIP base in place, under the checksum it has."""
    import hashlib

    (entry,) = entries_of(CLIP_MODELS[0], "clip")
    folder = folder or store.folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / entry.name).write_bytes(b"clip")
    entry = replace(entry, sha256=hashlib.sha256(b"clip").hexdigest())
    real = entries_of
    monkeypatch.setattr(weights, "entries_of", lambda m, kind: (entry,) if kind == "clip" else real(m, kind))
    return entry


def test_find_needs_both_files(store: WeightStore, brought: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = store.folder.parent
    assert weights.find(CLIP_MODELS[0], cache=cache) is None
    clip = put_clip(store, monkeypatch)
    assert weights.find(CLIP_MODELS[0], cache=cache) is None
    told: list[Event] = []
    store.path(entry_named(ALPHA)).write_bytes(brought.read_bytes())
    found = weights.find(CLIP_MODELS[0], cache=cache, listener=told.append)
    assert found == weights.GuidanceWeights(CLIP_MODELS[0], store.path(clip), store.path(entry_named(ALPHA)))
    assert len(told) == 1
    assert isinstance(told[0], Notice)
    assert "no published checksum" in told[0].message
    assert weights.find(CLIP_MODELS[0], cache=cache, listener=told.append) == found
    assert len(told) == 1


def test_find_takes_the_preferred_or_the_named_file(
    store: WeightStore, brought: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_clip(store, monkeypatch)
    other = "clip_b16_grit1m_fultune_8xe.pth"
    for name in (other, ALPHA):
        store.import_file(entry_named(name), brought)
    cache = store.folder.parent
    preferred, named = (weights.find(CLIP_MODELS[0], alpha=name, cache=cache) for name in (None, other))
    assert preferred is not None
    assert preferred.alpha.name == ALPHA
    assert named is not None
    assert named.alpha.name == other
    with pytest.raises(WeightsError, match="has no Alpha-CLIP weights called nonsense"):
        weights.find(CLIP_MODELS[0], alpha="nonsense", cache=cache)


def test_a_changed_file_is_not_used(store: WeightStore, brought: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_clip(store, monkeypatch)
    entry = entry_named(ALPHA)
    store.import_file(entry, brought)
    content = bytearray(brought.read_bytes())
    content[-1] ^= 1
    store.path(entry).write_bytes(bytes(content))
    os.utime(store.path(entry), ns=(1, 1))
    with pytest.raises(WeightsError, match="differs from the recorded"):
        weights.find(CLIP_MODELS[0], cache=store.folder.parent)
    assert not store.verify(entry).ok


def test_known_weights_of_a_cache_that_is_read_only_are_used(
    store: WeightStore, brought: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_clip(store, monkeypatch)
    entry = entry_named(ALPHA)
    store.import_file(entry, brought)
    os.utime(store.path(entry), ns=(1, 1))  # as a copy of the folder has
    record = store.folder / "checksums.json"
    before = record.read_text()
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    assert weights.find(CLIP_MODELS[0], cache=store.folder.parent) is not None
    assert store.verify(entry).source == "recorded"
    assert record.read_text() == before
    record.unlink()
    with pytest.raises(WeightsError, match="is not writable"):
        store.verify(entry)


def test_a_clip_base_that_open_clip_fetched_is_used_where_it_lies(
    store: WeightStore, brought: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = put_clip(store, monkeypatch, tmp_path / "home" / ".cache" / "clip")
    store.import_file(entry_named(ALPHA), brought)
    found = weights.find(CLIP_MODELS[0], cache=store.folder.parent)
    assert found is not None
    assert found.clip == tmp_path / "home" / ".cache" / "clip" / clip.name
    found.clip.unlink()
    hub = tmp_path / "hub" / weights.HUB_FILE
    hub.parent.mkdir()
    hub.write_bytes(b"safetensors")
    monkeypatch.setattr(weights, "_in_hub_cache", lambda repository: hub)
    found = weights.find(CLIP_MODELS[0], cache=store.folder.parent)
    assert found is not None
    assert found.clip == hub


def test_a_run_can_name_the_cache(store: WeightStore, brought: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = put_clip(store, monkeypatch)
    store.import_file(entry_named(ALPHA), brought)
    monkeypatch.setenv(CACHE_VARIABLE, str(store.folder / "elsewhere"))
    assert find_files(GuidanceConfig()) is None
    found = find_files(GuidanceConfig(cache=store.folder.parent))
    assert found == (store.path(clip), store.path(entry_named(ALPHA)))
