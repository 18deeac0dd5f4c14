from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from tests.evaluation.benchmark.conftest import TINY, datasets_file  # noqa: F401 - a fixture
from tests.evaluation.growth.measured import Measured

from napari_rada.cli import benchmark
from napari_rada.errors import InputError
from napari_rada.evaluation.growth.measure import run_growth

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_rada.control import RunControl
    from napari_rada.data.case import Case
    from napari_rada.evaluation.growth.point import Spec, Term

FILES = {"report.json", "report.md", "scans.csv", "plot.svg", "results.jsonl", "benchmark.lock"}
SET = [flag for key, value in TINY.items() for flag in ("--set", f"{key}={value}")]


def test_single_prints_its_table_and_goes_on(
    request: pytest.FixtureRequest, tmp_path: Path, run_cli: Callable[..., Any]
) -> None:
    file, out = request.getfixturevalue("datasets_file"), tmp_path / "to be made" / "out"
    arguments = ["benchmark", "single", "--datasets", file, "-o", out]
    done = run_cli(*arguments, "--limit", 1)
    assert done.status == 0
    assert done.out.startswith("| data set | method | scans | Dice |")
    assert "| balls | auto | 1 | " in done.out
    assert "**macro mean**" in done.out
    assert {path.name for path in out.iterdir()} == FILES
    assert "measuring balls, b, auto 0/2" in done.err
    report = json.loads(run_cli(*arguments, "--dataset", "balls", "--json").out)
    assert [row["scan"] for row in report["rows"]] == ["b", "c"]
    assert len((out / "results.jsonl").read_text().splitlines()) == 3
    assert report["about"]["dataset"] == ["balls"]


def test_a_method_that_fails_everywhere_is_an_error_after_its_results(
    request: pytest.FixtureRequest, tmp_path: Path, run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(case: Case, *_: Any, **__: Any) -> None:
        raise InputError(f"{case.name} is too dark.")

    monkeypatch.setattr("napari_rada.pipeline.propagate", refuse)
    file, out = request.getfixturevalue("datasets_file"), tmp_path / "out"
    flags = ["--method", "diffusion", "--method", "random-walker", "--dataset", "balls"]
    done = run_cli("benchmark", "single", "--datasets", file, "-o", out, *flags)
    assert done.status == 2
    assert "diffusion failed on every scan; mend what" in done.err.splitlines()[-1]
    assert "| balls | random-walker | 2 | " in done.out
    assert "b is too dark." in (out / "scans.csv").read_text()


def test_a_folder_is_kept_to_one_benchmark(
    tmp_path: Path, run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["benchmark", "growth", "-o", tmp_path / "out", "--sides", 16, 24, "--whole", 16, 24, 16]
    refused = []

    def measure_while_another_begins(spec: Spec, control: RunControl) -> list[Term]:
        refused.append(run_cli(*command))
        raise InputError("Enough.")

    monkeypatch.setattr(benchmark, "run_growth", partial(run_growth, measure=measure_while_another_begins))
    run_cli(*command)
    assert {ran.status for ran in refused} == {2}
    assert "is in use by process" in refused[0].err


def test_cohort_prints_its_table(request: pytest.FixtureRequest, tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    file, out = request.getfixturevalue("datasets_file"), tmp_path / "out"
    done = run_cli("benchmark", "cohort", "--datasets", file, "-o", out, "--limit", 1, "--device", "cpu", *SET)
    assert done.status == 0
    assert "| balls | quick | 1 |" in done.out
    assert done.out.splitlines()[0].endswith("| training, s |")
    assert {path.name for path in out.iterdir()} == FILES | {"runs"}


def test_report_puts_the_table_into_a_page(
    request: pytest.FixtureRequest, tmp_path: Path, run_cli: Callable[..., Any]
) -> None:
    file, out, page = request.getfixturevalue("datasets_file"), tmp_path / "out", tmp_path / "page.md"
    run_cli("benchmark", "single", "--datasets", file, "-o", out, "--limit", 1)
    page.write_text("# Page\n<!-- begin out -->\n<!-- end out -->\n")
    assert run_cli("benchmark", "report", out, "--into", page).status == 0
    assert "| balls | auto | 1 |" in page.read_text()
    done = run_cli("benchmark", "report", tmp_path, "--into", page)
    assert (done.status, "is no report of a benchmark" in done.err) == (2, True)


def test_growth_prints_its_tables_and_report_puts_them_into_a_page(
    tmp_path: Path, run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "run_growth", partial(run_growth, measure=Measured()))
    out, page = tmp_path / "out", tmp_path / "page.md"
    sizes = ["--sides", 16, 24, 32, "--classes", 1, 2, "--scans", 1, 2, "--whole", 16, 24, 16]
    done = run_cli("benchmark", "growth", "-o", out, *sizes)
    assert done.status == 0
    assert "| propagation | " in done.out
    assert "scan of 16 x 24 x 16 voxels" in done.out
    assert {path.name for path in out.iterdir()} == {
        "growth.md",
        "growth.json",
        "growth.csv",
        "growth.svg",
        "results.jsonl",
        "benchmark.lock",
    }
    page.write_text("# Page\n<!-- begin out -->\n<!-- end out -->\n")
    assert run_cli("benchmark", "report", out, "--into", page).status == 0
    assert "| propagation | " in page.read_text()
    wrong = run_cli("benchmark", "growth", "-o", tmp_path / "other", "--sides", 4)
    assert (wrong.status, wrong.err.count("\n")) == (2, 1)
    assert "A side of 4 voxels is too small" in wrong.err
    assert not (tmp_path / "other").exists()


def test_points_that_fail_are_an_error_after_the_tables(
    tmp_path: Path, run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = Measured()

    def refuse(spec: Spec, control: RunControl) -> list[Term]:
        if spec.point.work == "uncapped":
            raise InputError("Memory ran out.")
        return measured(spec, control)

    command = ["benchmark", "growth", "-o", tmp_path, "--sides", 16, 24, "--classes", 1, "--scans", 1]
    monkeypatch.setattr(benchmark, "run_growth", partial(run_growth, measure=refuse))
    done = run_cli(*command, "--whole", 16, 24, 16)
    assert done.status == 2
    assert "2 of 17 points failed; mend what" in done.err.splitlines()[-1]
    assert "| propagation | " in done.out
    assert "Memory ran out." in (tmp_path / "growth.csv").read_text()
    monkeypatch.setattr(benchmark, "run_growth", partial(run_growth, measure=(again := Measured())))
    assert run_cli(*command, "--whole", 16, 24, 16).status == 0
    assert {spec.point.work for spec in again.specs} == {"uncapped"}


def test_methods_are_listed(run_cli: Callable[..., Any]) -> None:
    found = json.loads(run_cli("benchmark", "methods", "--json").out)
    assert "random-walker" in found["peers"]["names"]
    assert "diffusion" in found["propagation"]["names"]
    assert "no-cross" in found["training"]["stages"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "magic"], "There is no method magic"),
        (["--method", "auto", "--set", "nonsense"], "is not a setting"),
        (["--dataset", "livers"], "choose among balls, halves"),
        (["--limit", "0"], "0 is not possible here"),
        (["-k", "-1"], "-1 is not possible here"),
        (["--seeds", "-1"], "-1 is not possible here"),
        (["--method", "quick", "--device", "tpu"], "tpu"),
        (["--root", "elsewhere"], "elsewhere"),
        (["--datasets", "absent.yaml"], "absent.yaml"),
    ],
)
def test_bad_input_is_one_line(
    request: pytest.FixtureRequest, tmp_path: Path, run_cli: Callable[..., Any], arguments: list[str], message: str
) -> None:
    file = request.getfixturevalue("datasets_file")
    done = run_cli("benchmark", "single", "--datasets", file, "-o", tmp_path / "out", *arguments)
    assert done.status == 2
    assert message in done.err
    assert "error" in done.err


def test_a_cohort_needs_a_method_that_trains(
    request: pytest.FixtureRequest, tmp_path: Path, run_cli: Callable[..., Any]
) -> None:
    file = request.getfixturevalue("datasets_file")
    done = run_cli("benchmark", "cohort", "--datasets", file, "-o", tmp_path / "out", "--method", "diffusion")
    assert (done.status, "Only methods that train" in done.err) == (2, True)


def test_an_ablation_prints_a_row_per_level(
    request: pytest.FixtureRequest, tmp_path: Path, run_cli: Callable[..., Any]
) -> None:
    file, out = request.getfixturevalue("datasets_file"), tmp_path / "out"
    flags = ["--datasets", file, "-o", out, "--dataset", "balls", "--device", "cpu", *SET]
    done = run_cli("benchmark", "ablation", "--factor", "views", "--limit", 1, "--seeds", 0, 1, *flags)
    assert done.status == 0, done.err
    for level in "123":
        assert f"| balls | views {level} | 1, 2 seeds |" in done.out
    assert done.out.splitlines()[0].endswith("| over seeds |")
    assert "views 3" in (out / "plot.svg").read_text()
    done = run_cli(
        "benchmark", "ablation", "--factor", "beta", "--level", "0", "--setting", "cohort", "--limit", 1, *flags
    )
    assert "| balls | beta 0 | 1 |" in done.out
    done = run_cli("benchmark", "ablation", "--factor", "views", "--method", "quick", "--method", "paper", *flags)
    assert (done.status, "name a single one" in done.err) == (2, True)


@pytest.mark.usefixtures("tiny_clip")
def test_an_ablation_of_guidance_says_that_its_weights_are_random(
    request: pytest.FixtureRequest, tmp_path: Path, run_cli: Callable[..., Any]
) -> None:
    pytest.importorskip("open_clip", reason="open_clip_torch is not installed")
    file, out = request.getfixturevalue("datasets_file"), tmp_path / "out"
    flags = ["--datasets", file, "-o", out, "--dataset", "balls", "--limit", 1, "--device", "cpu", *SET]
    done = run_cli("benchmark", "ablation", "--factor", "guidance", *flags)
    assert (done.status, "guidance.mode is required" in done.err) == (2, True)
    done = run_cli("benchmark", "ablation", "--factor", "guidance", "--random-weights", *flags)
    assert done.status == 0, done.err
    assert "The guidance weights are random: these figures show that the program works" in done.out
    for level in ("none", "text", "region", "region+text"):
        assert f"| balls | guidance {level} | 1 |" in done.out
    rows = json.loads((out / "report.json").read_text())["rows"]
    assert [row["note"].split(" by ")[0] for row in rows] == ["", "text", "region", "region+text"]
    planes = ["--factor", "planes", "--level", "axial+sagittal", "--random-weights", "--set", "model.networks=2"]
    done = run_cli("benchmark", "ablation", *planes, *flags)
    assert "| balls | planes axial+sagittal | 1 |" in done.out
