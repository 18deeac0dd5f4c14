"""The dock Guidance weights: nothing without consent, progress, cancel, errors in one sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QMessageBox
from tests.weight_server import alpha_bytes, serve, served_entry  # noqa: F401 - fixtures

from napari_rada._napari import weights as work
from napari_rada._napari.job import RunState
from napari_rada._qt.weights import WeightsWidget
from napari_rada.guidance import weights as finding
from napari_rada.guidance.store import WeightStore


@pytest.fixture
def widget(dock, tmp_path, entry, monkeypatch):
    """The dock on an empty cache, with the file of the local server in place of every published one."""
    clip = replace(entry, name="clip.pt", kind="clip")
    monkeypatch.setattr(work, "entries_of", lambda model, kind: (clip,) if kind == "clip" else (entry,))
    monkeypatch.setattr(finding, "_in_hub_cache", lambda repository: None)
    monkeypatch.setenv("HOME", str(tmp_path))
    return dock(WeightsWidget, store=WeightStore(tmp_path / "cache"))


def answer(monkeypatch, button) -> list[str]:
    asked: list[str] = []

    def question(parent, title, text, buttons):
        asked.append(text)
        return button

    monkeypatch.setattr(QMessageBox, "question", question)
    return asked


def test_nothing_is_contacted_without_consent(widget, server, qtbot, monkeypatch):
    assert "CLIP base: clip.pt: not here" in widget.files.text()
    asked = answer(monkeypatch, QMessageBox.StandardButton.No)
    qtbot.mouseClick(widget.row.button, Qt.MouseButton.LeftButton)
    assert not widget.job.is_running
    assert server.asked == []
    assert "Licence: a licence" in asked[0]
    assert server.url.removeprefix("http://") in asked[0]


def test_download_then_verify(widget, server, qtbot, wait, monkeypatch):
    answer(monkeypatch, QMessageBox.StandardButton.Yes)
    states = []
    widget.job.state_changed.connect(states.append)
    qtbot.mouseClick(widget.row.button, Qt.MouseButton.LeftButton)
    wait(lambda: not widget.job.is_running)
    assert RunState.DOWNLOADING in states
    assert "Downloaded clip.pt, alpha.pth." in widget.message.value()
    assert "no published checksum" in widget.message.value()
    assert "alpha.pth: here" in widget.files.text()
    qtbot.mouseClick(widget.verify_button, Qt.MouseButton.LeftButton)
    wait(lambda: not widget.job.is_running)
    assert widget.message.value().count("as recorded") == 2
    widget.download()
    assert widget.message.value() == "Both files are here already."


def test_a_cancelled_download_goes_on_later(widget, server, wait, monkeypatch):
    answer(monkeypatch, QMessageBox.StandardButton.Yes)
    server.body += b" " * 3_000_000
    server.hold.clear()
    widget.download()
    wait(lambda: widget.job.state is RunState.DOWNLOADING)
    assert not widget.model.isEnabled()
    widget.cancel()
    server.hold.set()
    wait(lambda: not widget.job.is_running)
    assert "clip.pt: not here" in widget.files.text()
    assert widget.store.partial(widget.value()[0].entry).exists()
    assert widget.model.isEnabled()


def test_an_imported_file_is_checked(widget, tmp_path, wait, notified):
    brought = tmp_path / "alpha.pth"
    brought.write_bytes(b"<html>")
    widget.import_file(brought)
    wait(lambda: not widget.job.is_running)
    assert "no file of plain PyTorch weights" in notified[0]
    brought.write_bytes(alpha_bytes())
    widget.import_file(brought)
    wait(lambda: not widget.job.is_running)
    assert f"Took {brought} as alpha.pth." in widget.message.value()
    assert widget.value()[1].path is not None


def test_an_error_is_one_sentence(widget, server, wait, monkeypatch, notified):
    answer(monkeypatch, QMessageBox.StandardButton.Yes)
    server.refuse = 404
    widget.download()
    wait(lambda: not widget.job.is_running)
    assert "answers 404" in notified[0]
    assert "By hand: download" in widget.message.value()
