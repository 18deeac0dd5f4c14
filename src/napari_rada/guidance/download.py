"""Fetching a weight file: after consent, resumable, checked, and never half-done under its own name.

What has come lies in ``NAME.part`` beside ``NAME.part.json``, which says which version of which URL it is a part of.
The rest is asked for with HTTP Range; a server that refuses sends everything again. TLS certificates are checked.
"""

from __future__ import annotations

import errno
import json
import ssl
import time
import urllib.error
import urllib.request
from contextlib import closing
from dataclasses import asdict, dataclass
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING, Any, TypeAlias, cast
from urllib.parse import urlsplit

import certifi

from napari_rada.control import RunControl
from napari_rada.errors import WeightsError
from napari_rada.guidance.store import CACHE_VARIABLE, WeightStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.client import HTTPMessage
    from pathlib import Path

    from napari_rada.guidance.registry import WeightEntry
    from napari_rada.guidance.store import Verification

    Consent: TypeAlias = Callable[[WeightEntry], bool]
    """Asked before a server is contacted; False ends the download."""
    OnBytes: TypeAlias = Callable[[int, int], None]
    """Told how many bytes there are, and of how many; the latter is 0 if the server does not say."""

CHUNK = 1 << 16
TIMEOUT_S = 10.0
TRIES = 4
"""Attempts in a row in which nothing comes before a download gives up."""
PAUSE_S = 1.0
FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
HTTP_PARTIAL, HTTP_RANGE_REFUSED, HTTP_OWN_TROUBLE = 206, 416, 500
HTTP_LATER = (408, 429)


@dataclass(frozen=True)
class _Origin:
    """Which version of which file a part belongs to; `validator` is an ETag or a date, empty if there is neither."""

    url: str
    validator: str


class _Interrupted(Exception):
    """The connection ended early or did not come about; more may come when it is tried again."""


def download(
    entry: WeightEntry,
    store: WeightStore,
    *,
    consent: Consent,
    on_bytes: OnBytes = lambda done, total: None,
    control: RunControl | None = None,
) -> Verification:
    """Fetch a weight file into the store, going on from what an earlier attempt left.

    Parameters
    ----------
    consent
        Called with the entry before any contact; shows size, licence and host to whoever decides.
    on_bytes
        Progress, in bytes.
    control
        A stop keeps what has come.

    Raises
    ------
    WeightsError
        Without consent, if the server cannot be reached or does not have the file, if the disk is full, or if what came
        is not the expected file.
    Stopped
        If a stop was requested.
    """
    control = control or RunControl()
    if not consent(entry):
        raise WeightsError(f"{entry.name} was not downloaded, because nobody agreed to it. {by_hand(entry, store)}")
    store.make_folder()
    _Transfer(entry, store, on_bytes, control).run()
    found = store.accept(entry, store.partial(entry), control=control)
    _origin_file(store, entry).unlink(missing_ok=True)
    return found


def by_hand(entry: WeightEntry, store: WeightStore) -> str:
    """Say how to get a file without a connection from here."""
    return (
        f"By hand: download {entry.url} on any machine, then run: napari-rada weights import {entry.name} "
        f"(the file is kept in {store.folder})."
    )


class _Transfer:
    """One download, over as many connections as it takes."""

    def __init__(self, entry: WeightEntry, store: WeightStore, on_bytes: OnBytes, control: RunControl) -> None:
        self.entry = entry
        self.store = store
        self.on_bytes = on_bytes
        self.control = control
        self.part = store.partial(entry)
        self.origin_file = _origin_file(store, entry)

    def run(self) -> None:
        """Fetch until the part is complete."""
        failures = 0
        while True:
            self.control.check()
            before = self._size()
            try:
                self._fetch()
                return
            except _Interrupted as error:
                failures = 1 if self._size() > before else failures + 1
                if failures >= TRIES:
                    raise WeightsError(self._gave_up(str(error))) from None
            self._pause(PAUSE_S * failures)

    def _fetch(self) -> None:
        """Open one connection and append what comes to the part."""
        start = self._resumable()
        response = self._open(start)
        if response is None:
            return
        with closing(response):
            if response.status != HTTP_PARTIAL:
                start = 0
                self._forget()  # what is there is of another version
            elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                self._forget()
                raise _Interrupted(f"{self.entry.host} sent another part than was asked for")
            total = _total(response.headers, start)
            self._check_total(total)
            self._remember(response.headers)
            self.store.check_space(max(0, total - start))
            self._append(response, start, total)
        if total and self._size() != total:
            raise _Interrupted(f"the connection was cut after {self._size():,} of {total:,} bytes")

    def _resumable(self) -> int:
        """Return how many bytes of the part can be kept: all, or none if it may be of another version."""
        if not self.part.exists() or not self.origin_file.exists():
            return 0
        origin = self._origin()
        known = origin is not None and origin.url == self.entry.url
        return self._size() if known and origin is not None and (origin.validator or self.entry.sha256) else 0

    def _open(self, start: int) -> HTTPResponse | None:
        """Ask for the file from byte `start` on; None if there is nothing behind it."""
        headers = {"User-Agent": "napari-rada", "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            origin = self._origin()
            if origin is not None and origin.validator:
                headers["If-Range"] = origin.validator
        request = urllib.request.Request(self.entry.url, headers=headers)  # noqa: S310 - the registry names https only
        try:
            return cast("HTTPResponse", _opener().open(request, timeout=TIMEOUT_S))
        except urllib.error.HTTPError as error:
            with closing(error):
                if error.code == HTTP_RANGE_REFUSED and error.headers.get("Content-Range") == f"bytes */{start}":
                    return None
                self._on_refusal(error, start)
            raise _Interrupted(f"{self.entry.host} answers {error.code} {error.reason}") from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise _Interrupted(f"{self.entry.host} cannot be reached ({reason})") from None

    def _on_refusal(self, error: urllib.error.HTTPError, start: int) -> None:
        """Forget a part that the server cannot continue; end the download where trying again is of no use."""
        if error.code == HTTP_RANGE_REFUSED and start:
            self._forget()
        elif error.code < HTTP_OWN_TROUBLE and error.code not in HTTP_LATER:
            raise WeightsError(
                f"{self.entry.host} answers {error.code} {error.reason} for {self.entry.name}; the file may have "
                f"moved. {by_hand(self.entry, self.store)}"
            )

    def _append(self, response: HTTPResponse, start: int, total: int) -> None:
        try:
            with self.part.open("ab" if start else "wb") as file:
                done = start
                self.on_bytes(done, total)
                while chunk := _read(response):
                    file.write(chunk)
                    done += len(chunk)
                    self.on_bytes(done, total)
                    self.control.check()
        except OSError as error:
            if error.errno not in FULL:
                raise WeightsError(f"{self.part} cannot be written ({error.strerror or error}).") from None
            raise WeightsError(
                f"The disk is full: {self.part} could not be written to its end; free some space, and the download "
                f"goes on from what has come; or set {CACHE_VARIABLE} to a folder on another disk."
            ) from None

    def _check_total(self, total: int) -> None:
        expected = self.entry.size_bytes
        if total and expected is not None and total != expected:
            raise WeightsError(
                f"{self.entry.host} offers {total:,} bytes for {self.entry.name}, which must have {expected:,}; "
                "the file has been changed, so it was not downloaded."
            )

    def _gave_up(self, reason: str) -> str:
        kept = self._size()
        advice = f"{kept:,} bytes are kept and the next attempt goes on from there. " if kept else ""
        return f"{self.entry.name} could not be downloaded: {reason}. {advice}{by_hand(self.entry, self.store)}"

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.control.check()
            time.sleep(min(seconds, 0.1))

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _origin(self) -> _Origin | None:
        try:
            return _Origin(**json.loads(self.origin_file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def _remember(self, headers: HTTPMessage) -> None:
        etag = headers.get("ETag", "")
        validator = headers.get("Last-Modified", "") if etag.startswith("W/") or not etag else etag
        origin = _Origin(self.entry.url, validator)
        self.origin_file.write_text(json.dumps(asdict(origin)), encoding="utf-8")

    def _forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self.origin_file.unlink(missing_ok=True)


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects, but never from https to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        """Refuse what would leave TLS."""
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            raise WeightsError(f"{req.host} redirects to {newurl}, which is not encrypted; nothing was downloaded.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Trust who this machine trusts, and who Mozilla does: Python has no certificates on some Macs."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return urllib.request.build_opener(_SafeRedirects, urllib.request.HTTPSHandler(context=context))


def _read(response: HTTPResponse) -> bytes:
    try:
        return response.read1(CHUNK)
    except (OSError, HTTPException) as error:
        raise _Interrupted(f"the connection was cut ({error})") from None


def _total(headers: HTTPMessage, start: int) -> int:
    """Return the size of the whole file, 0 if the server does not say."""
    length = headers.get("Content-Length", "")
    return start + int(length) if length.isdigit() else 0


def _origin_file(store: WeightStore, entry: WeightEntry) -> Path:
    part = store.partial(entry)
    return part.with_name(part.name + ".json")
