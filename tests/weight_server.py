"""A local server that hands out one file, as badly as it is told to."""

from __future__ import annotations

import hashlib
import io
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
import torch

from napari_rada.guidance import download as download_module
from napari_rada.guidance.registry import WeightEntry

if TYPE_CHECKING:
    from collections.abc import Iterator


def alpha_bytes() -> bytes:
    """Return a state dict with an alpha channel, about 300 kB."""
    buffer = io.BytesIO()
    generator = torch.Generator().manual_seed(0)
    torch.save({"conv1_alpha.weight": torch.rand(4, 1, 130, 130, generator=generator)}, buffer)
    return buffer.getvalue()


@dataclass
class Server:
    """What is served and how.

    `cut_after` bytes a connection is closed while `cuts` last; `refuse` is the status of every answer if it is not 0.
    While `hold` is not set, nothing follows the first half.
    """

    body: bytes = field(default_factory=alpha_bytes)
    ranges: bool = True
    etag: str = '"one"'
    cut_after: int = 100_000
    cuts: int = 0
    refuse: int = 0
    redirect_to: str = ""
    url: str = ""
    asked: list[str] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.hold.set()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            server.asked.append(f"{self.path} {wanted}".strip())
            self.close_connection = True
            if server.refuse or (server.redirect_to and self.path != "/moved"):
                self.send_response(server.refuse or 302)
                self.send_header("Location", server.redirect_to)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self._send(int(wanted.removeprefix("bytes=").removesuffix("-")) if self._continues(wanted) else 0)

        def _continues(self, wanted: str) -> bool:
            same = self.headers.get("If-Range", server.etag) == server.etag
            return bool(wanted) and server.ranges and same

        def _send(self, start: int) -> None:
            size = len(server.body)
            if start >= size:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{size}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            if server.etag:
                self.send_header("ETag", server.etag)
            self.send_header("Content-Length", str(size - start))
            self.end_headers()
            body = server.body[start:]
            if server.cuts:
                server.cuts -= 1
                body = body[: server.cut_after]
            half = len(body) // 2
            self.wfile.write(body[:half])
            server.hold.wait()
            self.wfile.write(body[half:])

    return Handler


@pytest.fixture(name="server")
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serve until the test ends; waiting between attempts is cut short."""
    monkeypatch.setattr(download_module, "PAUSE_S", 0.0)
    served = Server()
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(served))
    served.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    yield served
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture(name="entry")
def served_entry(server: Server) -> WeightEntry:
    """Return an entry of an Alpha-CLIP file whose checksum nobody published."""
    return WeightEntry(
        "alpha.pth", "alpha", "ViT-B-16-quickgelu", f"{server.url}/alpha.pth", "a licence", "tests", 300_000
    )
