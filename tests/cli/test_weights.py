from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.weight_server import alpha_bytes, serve, served_entry  # noqa: F401 - fixtures

from napari_rada.cli import weights as command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.weight_server import Server

    from napari_rada.guidance.registry import WeightEntry

ALPHA = "clip_b16_grit20m_fultune_2xe.pth"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a cache folder, set by the variable; CLIP files of this machine are not seen."""
    monkeypatch.setenv("NAPARI_RADA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(command, "find_clip", lambda *_: None)
    return tmp_path / "cache"


def test_list_names_every_file_and_its_terms(cache: Path, run_cli: Callable[..., Any]) -> None:
    done = run_cli("weights", "list")
    assert done.status == 0
    assert ALPHA in done.out
    assert "ViT-L-14-336px.pt" in done.out
    assert "research use only" in done.out
    assert f"Folder: {cache}" in done.out
    rows = json.loads(run_cli("weights", "list", "--json").out)["weights"]
    assert len(rows) == 11
    assert {row["state"] for row in rows} == {"no"}
    assert sum(row["sha256"] is not None for row in rows) == 3


def test_import_then_verify(cache: Path, tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    file = tmp_path / ALPHA
    file.write_bytes(alpha_bytes())
    done = run_cli("weights", "import", file)
    assert (done.status, "recorded and compared from now on" in done.out) == (0, True)
    assert run_cli("weights", "verify").out.count("as recorded") == 1
    renamed = file.rename(tmp_path / "mine.pth")
    refused = run_cli("weights", "import", renamed)
    assert refused.status == 2
    assert refused.err.endswith("say with --name which one it is (napari-rada weights list).\n")
    assert run_cli("weights", "import", renamed, "--name", "clip_b16_grit1m_fultune_8xe.pth", "--json").status == 0
    (cache / "weights" / ALPHA).write_bytes(b"changed")
    done = run_cli("weights", "verify")
    assert done.status == 2
    assert "differs from the recorded" in done.out
    assert f"{ALPHA}: not the expected content" in done.err


def test_verify_of_nothing(cache: Path, run_cli: Callable[..., Any]) -> None:
    assert "There are no weights in" in run_cli("weights", "verify").err
    done = run_cli("weights", "verify", ALPHA)
    assert (done.status, "does not exist" in done.err) == (2, True)


@pytest.fixture
def served(entry: WeightEntry, monkeypatch: pytest.MonkeyPatch) -> WeightEntry:
    """Let the registry know the file of the local server."""
    monkeypatch.setattr(command, "entry_named", lambda name: replace(entry, name=name))
    return entry


def test_download_needs_consent(
    cache: Path,
    served: WeightEntry,
    server: Server,
    run_cli: Callable[..., Any],
) -> None:
    done = run_cli("weights", "download", "alpha.pth")
    assert done.status == 2
    assert f"about 0 MB from {served.host}" in done.err
    assert "licence: a licence" in done.err
    assert "add --yes" in done.err
    assert server.asked == []


def test_download_with_consent_shows_progress_and_checks_what_is_there(
    cache: Path,
    served: WeightEntry,
    server: Server,
    run_cli: Callable[..., Any],
) -> None:
    done = run_cli("weights", "download", "alpha.pth", "--yes", "--json")
    assert done.status == 0
    assert json.loads(done.out)["weights"][0]["sha256"] == server.sha256
    assert "downloading alpha.pth, MB" in done.err
    assert run_cli("weights", "download", "alpha.pth", "--yes").status == 0
    assert len(server.asked) == 1


@pytest.mark.parametrize(("answer", "status"), [("y\n", 0), ("no\n", 2), ("", 2)])
def test_the_question_on_a_terminal(
    cache: Path,
    served: WeightEntry,
    run_cli: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    status: int,
) -> None:
    import io

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal(answer))
    done = run_cli("weights", "download", "alpha.pth")
    assert done.status == status
    assert "Download it? [y/N]" in done.err


def test_a_model_means_its_two_files() -> None:
    chosen = command._chosen(["ViT-B-16-quickgelu", "ViT-B-16.pt"])
    assert [entry.name for entry in chosen] == ["ViT-B-16.pt", ALPHA]
