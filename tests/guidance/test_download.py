from __future__ import annotations

import errno
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.weight_server import serve, served_entry  # noqa: F401 - fixtures

from napari_rada.control import RunControl
from napari_rada.errors import Stopped, WeightsError
from napari_rada.guidance import download as download_module
from napari_rada.guidance import store as store_module
from napari_rada.guidance.download import download
from napari_rada.guidance.store import WeightStore

if TYPE_CHECKING:
    from tests.weight_server import Server

    from napari_rada.guidance.registry import WeightEntry


@pytest.fixture
def store(tmp_path: Path) -> WeightStore:
    return WeightStore(tmp_path / "cache")


def agree(entry: WeightEntry) -> bool:
    return True


def left_over(store: WeightStore) -> list[str]:
    return sorted(path.name for path in store.folder.iterdir() if path.name != store_module.RECORD_FILE)


def test_a_file_comes_whole_and_its_checksum_is_recorded(
    store: WeightStore, entry: WeightEntry, server: Server
) -> None:
    seen: list[tuple[int, int]] = []
    found = download(entry, store, consent=agree, on_bytes=lambda done, total: seen.append((done, total)))
    assert store.path(entry).read_bytes() == server.body
    assert (found.sha256, found.source, found.ok) == (server.sha256, "new", True)
    assert left_over(store) == ["alpha.pth"]
    size = len(server.body)
    assert seen[0] == (0, size)
    assert seen[-1] == (size, size)
    assert store.known_checksum(entry) == server.sha256


def test_nobody_is_contacted_without_consent(store: WeightStore, entry: WeightEntry, server: Server) -> None:
    asked = []
    with pytest.raises(WeightsError, match=r"nobody agreed.*download http://.*weights import alpha.pth"):
        download(entry, store, consent=lambda e: asked.append(e) is not None)
    assert asked == [entry]
    assert server.asked == []
    assert not store.folder.exists()


def test_a_cut_connection_goes_on_where_it_ended(store: WeightStore, entry: WeightEntry, server: Server) -> None:
    server.cuts = 2
    download(entry, store, consent=agree)
    assert store.path(entry).read_bytes() == server.body
    assert server.asked == ["/alpha.pth", "/alpha.pth bytes=100000-", "/alpha.pth bytes=200000-"]


def test_a_later_attempt_goes_on_too(store: WeightStore, entry: WeightEntry, server: Server) -> None:
    server.cuts, server.cut_after = 1, 60_000
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(download_module, "TRIES", 1)
        with pytest.raises(WeightsError, match=r"cut.*60,000 bytes are kept.*By hand"):
            download(entry, store, consent=agree)
    assert left_over(store) == ["alpha.pth.part", "alpha.pth.part.json"]
    download(entry, store, consent=agree)
    assert server.asked[1:] == ["/alpha.pth bytes=60000-"]
    assert store.path(entry).read_bytes() == server.body


def test_a_server_that_always_cuts_at_once_is_given_up(store: WeightStore, entry: WeightEntry, server: Server) -> None:
    server.cuts, server.cut_after = 100, 0
    with pytest.raises(WeightsError, match="could not be downloaded"):
        download(entry, store, consent=agree)
    assert len(server.asked) == download_module.TRIES


def test_a_server_without_ranges_sends_everything_again(store: WeightStore, entry: WeightEntry, server: Server) -> None:
    server.cuts, server.ranges = 1, False
    download(entry, store, consent=agree)
    assert server.asked == ["/alpha.pth", "/alpha.pth bytes=100000-"]
    assert store.path(entry).read_bytes() == server.body


def test_a_part_of_another_version_is_not_continued(store: WeightStore, entry: WeightEntry, server: Server) -> None:
    server.cuts = 1
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(download_module, "TRIES", 1)
        with pytest.raises(WeightsError):
            download(entry, store, consent=agree)
    server.body, server.etag = server.body + b" ", '"two"'
    download(entry, store, consent=agree)
    assert store.path(entry).read_bytes() == server.body


def test_a_part_of_another_version_is_not_continued_after_the_disk_was_full(
    store: WeightStore, entry: WeightEntry, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.cuts = 1
    monkeypatch.setattr(download_module, "TRIES", 1)
    with pytest.raises(WeightsError, match="cut"):
        download(entry, store, consent=agree)
    server.body, server.etag = server.body + b" ", '"two"'
    usage = store_module.shutil.disk_usage(".")
    with pytest.MonkeyPatch.context() as full:
        full.setattr(store_module.shutil, "disk_usage", lambda _: usage._replace(free=10))
        with pytest.raises(WeightsError, match="The disk is full"):
            download(entry, store, consent=agree)
    download(entry, store, consent=agree)
    assert store.path(entry).read_bytes() == server.body


def test_a_part_that_nothing_identifies_is_not_continued(
    store: WeightStore, entry: WeightEntry, server: Server
) -> None:
    server.cuts, server.etag = 1, ""
    download(entry, store, consent=agree)
    assert server.asked == ["/alpha.pth", "/alpha.pth"]
    server.cuts = 1
    known = replace(entry, name="known.pth", sha256=server.sha256)
    download(known, store, consent=agree)
    assert server.asked[-1] == "/alpha.pth bytes=100000-"


def test_a_part_that_is_complete_is_only_checked(store: WeightStore, entry: WeightEntry, server: Server) -> None:
    store.make_folder()
    store.partial(entry).write_bytes(server.body)
    origin = {"url": entry.url, "validator": server.etag}
    (store.folder / "alpha.pth.part.json").write_text(json.dumps(origin))
    assert download(entry, store, consent=agree).ok
    assert server.asked == [f"/alpha.pth bytes={len(server.body)}-"]


def test_a_part_that_is_too_long_is_thrown_away(store: WeightStore, entry: WeightEntry, server: Server) -> None:
    store.make_folder()
    store.partial(entry).write_bytes(server.body + b"more")
    origin = {"url": entry.url, "validator": server.etag}
    (store.folder / "alpha.pth.part.json").write_text(json.dumps(origin))
    assert download(entry, store, consent=agree).sha256 == server.sha256


def test_a_wrong_size_is_told_before_anything_comes(store: WeightStore, entry: WeightEntry, server: Server) -> None:
    with pytest.raises(WeightsError, match=rf"offers {len(server.body):,} bytes for alpha.pth, which must have 17"):
        download(replace(entry, size_bytes=17), store, consent=agree)
    assert left_over(store) == []


def test_a_wrong_checksum_keeps_nothing(store: WeightStore, entry: WeightEntry, server: Server) -> None:
    with pytest.raises(WeightsError, match=rf"sha256 is {server.sha256} and not {'0' * 64}"):
        download(replace(entry, sha256="0" * 64), store, consent=agree)
    assert not store.path(entry).exists()
    assert not store.partial(entry).exists()


def test_a_recorded_checksum_is_compared(store: WeightStore, entry: WeightEntry, server: Server) -> None:
    first = download(entry, store, consent=agree)
    store.path(entry).unlink()
    assert download(entry, store, consent=agree).source == "recorded"
    server.body = server.body.replace(b"\x00\x00", b"\x00\x01", 1)
    with pytest.raises(WeightsError, match=f"and not {first.sha256}"):
        download(entry, store, consent=agree)


def test_a_web_page_is_no_weights(store: WeightStore, entry: WeightEntry, server: Server) -> None:
    server.body = b"<html>please log in</html>"
    with pytest.raises(WeightsError, match="no file of plain PyTorch weights"):
        download(entry, store, consent=agree)
    assert not store.partial(entry).exists()


def test_a_redirect_is_followed(store: WeightStore, entry: WeightEntry, server: Server) -> None:
    server.redirect_to = f"{server.url}/moved"
    assert download(entry, store, consent=agree).sha256 == server.sha256
    assert server.asked == ["/alpha.pth", "/moved"]


def test_a_redirect_out_of_tls_is_refused() -> None:
    request = download_module.urllib.request.Request("https://weights.example/a.pth")
    with pytest.raises(WeightsError, match=r"redirects to http://other.example/a.pth, which is not encrypted"):
        download_module._SafeRedirects().redirect_request(
            request, None, 302, "Found", None, "http://other.example/a.pth"
        )


def test_certificates_are_checked() -> None:
    import ssl

    handlers = [
        h for h in download_module._opener().handlers if isinstance(h, download_module.urllib.request.HTTPSHandler)
    ]
    context = handlers[0]._context
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.cert_store_stats()["x509_ca"] > 100  # those of certifi, also where this machine has none
    assert ssl._create_default_https_context().verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_missing_file_is_told_at_once(store: WeightStore, entry: WeightEntry, server: Server, status: int) -> None:
    server.refuse = status
    with pytest.raises(WeightsError, match=rf"answers {status} .* may have moved. By hand: download {entry.url}"):
        download(entry, store, consent=agree)
    assert len(server.asked) == 1


def test_a_server_in_trouble_is_asked_again(store: WeightStore, entry: WeightEntry, server: Server) -> None:
    server.refuse = 503
    with pytest.raises(WeightsError, match="answers 503"):
        download(entry, store, consent=agree)
    assert len(server.asked) == download_module.TRIES


def test_offline_says_how_to_do_it_by_hand(store: WeightStore, entry: WeightEntry) -> None:
    nowhere = replace(entry, url="http://127.0.0.1:9/alpha.pth")
    with pytest.raises(WeightsError, match=r"127.0.0.1:9 cannot be reached .*weights import alpha.pth"):
        download(nowhere, store, consent=agree)


def test_a_disk_that_fills_up_keeps_what_came(
    store: WeightStore, entry: WeightEntry, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            if self.tell() > 70_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    original = Path.open

    def full_open(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        return Full(path, mode) if path.suffix == ".part" and "w" in mode else original(path, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", full_open)
    with pytest.raises(WeightsError, match=r"The disk is full: .*alpha.pth.part.*NAPARI_RADA_CACHE"):
        download(entry, store, consent=agree)
    monkeypatch.undo()
    kept = store.partial(entry).stat().st_size
    assert kept > 70_000
    download(entry, store, consent=agree)
    assert server.asked[-1] == f"/alpha.pth bytes={kept}-"


def test_too_little_space_is_told_before_the_download(
    store: WeightStore, entry: WeightEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = store_module.shutil.disk_usage(".")
    monkeypatch.setattr(store_module.shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(WeightsError, match="The disk is full: 0 MB are needed"):
        download(entry, store, consent=agree)
    assert not store.partial(entry).exists()


def test_a_stop_keeps_what_came(store: WeightStore, entry: WeightEntry, server: Server) -> None:
    control = RunControl()

    def stop_half_way(done: int, total: int) -> None:
        if done > total / 3:
            control.stop()

    with pytest.raises(Stopped):
        download(entry, store, consent=agree, on_bytes=stop_half_way, control=control)
    assert 0 < store.partial(entry).stat().st_size < len(server.body)
    download(entry, store, consent=agree)
    assert store.path(entry).read_bytes() == server.body
    assert server.asked[1].startswith("/alpha.pth bytes=")
