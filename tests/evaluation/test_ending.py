from __future__ import annotations

import runpy
import sys
from argparse import ArgumentParser

import pytest

from napari_rada.evaluation.ending import status_of

COMMANDS = ("sparse", "step_benchmark", "suggestion_benchmark", "reliability.__main__")


def interrupted(*_: object) -> int:
    raise KeyboardInterrupt


def test_a_command_ends_with_its_own_status() -> None:
    assert status_of(lambda: 2) == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_is_no_traceback(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delitem(sys.modules, f"napari_rada.evaluation.{name}", raising=False)
    monkeypatch.setattr(ArgumentParser, "parse_args", interrupted)
    with pytest.raises(SystemExit) as end:
        runpy.run_module(f"napari_rada.evaluation.{name}", run_name="__main__")
    assert end.value.code == 130
    assert capsys.readouterr().err == "\nstopped\n"
