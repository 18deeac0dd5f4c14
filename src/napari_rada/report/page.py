"""The report of a run: one HTML file that asks nobody for anything."""

from __future__ import annotations

import time
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_rada import pipeline
from napari_rada.control import RunControl
from napari_rada.durable import write_text
from napari_rada.errors import InputError
from napari_rada.events import Listener, ignore
from napari_rada.prediction import millilitres
from napari_rada.report.chart import Series, line_chart
from napari_rada.report.pictures import colour_of, slice_picture
from napari_rada.text import read_json
from napari_rada.training.run_folder import RunFolder
from napari_rada.training.snapshot import load_cases, load_classes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_rada.data.case import Case
    from napari_rada.data.classes import ClassTable
    from napari_rada.data.slices import AnnotatedSlice
    from napari_rada.inference.suggest import Suggestion
    from napari_rada.prediction import Prediction

NETWORK_COLOURS = ("#c77700", "#0f6cb3", "#00805a")
MAX_POINTS = 600
"""Points per drawn curve."""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What the page may load: nothing but what is in it."""
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2430; background: #fff; max-width: 72rem; margin: 2rem auto;
  padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: 0 } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem }
.muted, figcaption { color: #5a6675 } table { border-collapse: collapse } td, th { padding: .2rem .9rem .2rem 0;
  text-align: left; border-bottom: 1px solid #e3e7ec } td.number { text-align: right }
figure { display: inline-block; margin: 0 1rem 1rem 0; vertical-align: top } figcaption { font-size: .85rem }
svg { width: 34rem; max-width: 100%; display: block } svg text { font-size: 11px; fill: #5a6675 }
svg polyline { fill: none; stroke-width: 1.5 } svg .grid { stroke: #e3e7ec } img { display: block; background: #000 }
.swatch { display: inline-block; width: .8em; height: .8em; margin-right: .4em; border-radius: 2px }
pre { background: #f4f6f8; padding: 1rem; overflow: auto; font-size: .8rem }
"""


@dataclass(frozen=True, eq=False)
class _Result:
    """A case of the run, and what the networks make of it, if they were trained."""

    case: Case
    prediction: Prediction | None
    suggestion: Suggestion | None


def write_report(
    run_dir: Path | str,
    out: Path | str | None = None,
    *,
    device: str = "auto",
    control: RunControl | None = None,
    listener: Listener = ignore,
) -> Path:
    """Predict the annotated cases of a run and write its report; returns the file.

    Parameters
    ----------
    run_dir
        A run folder, trained or not.
    out
        The HTML file; ``report.html`` in the run folder by default.
    device
        To predict on, as in the configuration.

    Raises
    ------
    RunFolderError
        If `run_dir` is no run folder, is damaged, or an image has changed since.
    InputError
        If `out` is no HTML file or cannot be written.
    Stopped
        If a stop was requested.
    """
    control = control or RunControl()
    folder = RunFolder.open(Path(run_dir))
    out = folder.path / "report.html" if out is None else Path(out)
    if out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"The report {out} must be called something.html.")
    if not out.parent.is_dir():
        raise InputError(f"The folder {out.parent} does not exist; make it, or choose another one.")
    cases = load_cases(folder, folder.config(), control, listener)
    parts = [_predicted(folder, case, device, control, listener) for case in cases]
    write_text(out, _page(folder, cases, parts), InputError)
    return out


def _predicted(folder: RunFolder, case: Case, device: str, control: RunControl, listener: Listener) -> str:
    """Predict a case, if it is annotated and the networks were trained, and return its part of the page."""
    prediction = suggestion = None
    if case.is_labelled and folder.last_checkpoint.exists():
        prediction = pipeline.predict(folder.path, case, device=device, control=control, listener=listener)
        suggestion = pipeline.suggest(prediction, case.annotated)
    return _case(_Result(case, prediction, suggestion), load_classes(folder))


def _page(folder: RunFolder, cases: Sequence[Case], parts: Sequence[str]) -> str:
    config = folder.config()
    sections = [
        _head(folder, cases),
        _curves(folder, config.model.networks),
        *parts,
        f"<h2>Settings</h2><p>Preset {escape(config.preset)}.</p>{_changes(config.changes())}",
        f"<details><summary>All settings</summary><pre>{escape(config.to_yaml())}</pre></details>",
        f"<h2>Made with</h2>{_environment(folder)}",
    ]
    title = escape(f"Run {folder.path.name}")
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><style>{STYLE}</style></head>'
        f"<body>{''.join(sections)}</body></html>\n"
    )


def _head(folder: RunFolder, cases: Sequence[Case]) -> str:
    steps, validations = folder.steps(), folder.validations()
    facts = [("Folder", str(folder.path.resolve())), ("Written", time.strftime("%Y-%m-%d %H:%M"))]
    if (parent := folder.parent()) is not None:
        facts.append(("Continues", f"{parent[0]}, from iteration {parent[1]}"))
    facts.append(("Cases", f"{len(cases)}, of which {sum(case.is_labelled for case in cases)} annotated"))
    if steps:
        facts.append(("Iterations", f"{steps[-1].iteration} in {steps[-1].elapsed_s:.0f} s of training"))
    if validations:
        last, best = validations[-1], max(v.dice for v in validations)
        figures = f"{last.dice:.3f}, best {best:.3f}; propagation alone {last.propagation_dice:.3f}"
        facts.append(("Dice on held-out annotated voxels", figures))
    note = "" if steps else "<p>Nothing was trained yet.</p>"
    return f"<h1>Run {escape(folder.path.name)}</h1>{_table(facts)}{note}"


def _curves(folder: RunFolder, networks: int) -> str:
    steps, validations = folder.steps(), folder.validations()
    steps = steps[:: -max(1, len(steps) // MAX_POINTS)][::-1]  # the last one, too
    x = [float(step.iteration) for step in steps]
    losses = [
        Series(f"network {n + 1}, {kind}", x, [getattr(s, kind)[n] for s in steps], colour, dashed=kind == "cross")
        for kind in (("supervised", "cross") if networks > 1 else ("supervised",))
        for n, colour in enumerate(NETWORK_COLOURS[:networks])
    ]
    at = [float(v.iteration) for v in validations]
    dice = [
        Series("held-out Dice", at, [v.dice for v in validations], "#1d2430"),
        Series("propagation alone", at, [v.propagation_dice for v in validations], "#5a6675", dashed=True),
    ]
    charts = (
        line_chart(losses, "Loss by iteration", log=True),
        line_chart(dice, "Dice on annotated voxels that the judged network was not taught"),
        line_chart([Series("β", x, [s.beta for s in steps], "#6a4c93")], "Weight of cross supervision"),
        line_chart([Series("rate", x, [s.learning_rate for s in steps], "#3fa34d")], "Learning rate", log=True),
    )
    return f"<h2>Training</h2>{''.join(charts)}" if any(charts) else ""


def _case(result: _Result, classes: ClassTable) -> str:
    case, prediction = result.case, result.prediction
    heading = f"<h2>{escape(case.name)}</h2>"
    spacing = " by ".join(f"{size:.3g}" for size in case.grid.spacing)
    shape = " by ".join(str(size) for size in case.grid.shape)
    facts = [("Voxels (z, y, x)", f"{shape} of {spacing} mm"), ("Image", str(case.source or "kept in the run folder"))]
    if not case.is_labelled:
        return f"{heading}{_table(facts)}<p>Not annotated.</p>"
    if result.suggestion is not None:
        suggestion = result.suggestion
        share = f"{suggestion.score:.0%} of the doubt lies around it"
        facts.append(("Annotate next", f"{_name(case, suggestion.plane)}; {share}"))
    parts = [heading, _table(facts)]
    if prediction is not None:
        parts.append(_volumes(prediction, classes))
    parts.append('<p class="muted">Lines are what was painted; areas are what the networks predict.</p>')
    parts += [_picture(result, classes, plane) for plane in case.annotated]
    if result.suggestion is not None and prediction is not None:
        parts.append(_picture(result, classes, result.suggestion.plane, "suggested: "))
    return "".join(parts)


def _picture(result: _Result, classes: ClassTable, plane: AnnotatedSlice, prefix: str = "") -> str:
    case, prediction = result.case, result.prediction
    assert case.labels is not None
    fill = None if prediction is None else classes.encode(prediction.mask)
    uri = slice_picture(case.image, case.grid, plane, fill, classes.encode(case.labels))
    caption = escape(f"{prefix}{_name(case, plane)}")
    return f'<figure><img src="{uri}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'


def _volumes(prediction: Prediction, classes: ClassTable) -> str:
    volumes = prediction.volumes_ml()
    rows = "".join(
        f'<tr><td><span class="swatch" style="background:{colour_of(index)}"></span>{escape(info.name)}</td>'
        f'<td class="number">{info.value}</td><td class="number">{millilitres(volumes[info.name])}</td></tr>'
        for index, info in enumerate(classes.classes[1:], start=1)
    )
    return f"<table><tr><th>Class</th><th>Label</th><th>Volume, ml</th></tr>{rows}</table>"


def _changes(changes: dict[str, Any]) -> str:
    return _table(changes.items()) if changes else "<p>Nothing changed against the preset.</p>"


def _environment(folder: RunFolder) -> str:
    try:
        found = dict(read_json(folder.environment_file))
    except (OSError, ValueError, TypeError):
        return "<p>Not known: environment.json is missing or damaged.</p>"
    return _table((name, "not installed" if value is None else value) for name, value in found.items())


def _table(rows: Iterable[tuple[str, object]]) -> str:
    cells = "".join(f"<tr><th>{escape(str(name))}</th><td>{escape(str(value))}</td></tr>" for name, value in rows)
    return f"<table>{cells}</table>"


def _name(case: Case, plane: AnnotatedSlice) -> str:
    """Name a slice by its plane, or by its axis where nobody knows how the scan lies."""
    what = case.grid.plane_name(plane.axis) if case.grid.oriented else "zyx"[plane.axis]
    return f"{what} slice {plane.index} of {case.grid.shape[plane.axis]}"
