"""The report of a run."""

from __future__ import annotations

import base64
import gc
import io
import re
import weakref

import numpy as np
import pytest
from PIL import Image
from tests.engine import ball_case, tiny_config

from napari_rada import pipeline
from napari_rada.cli import main
from napari_rada.control import RunControl
from napari_rada.data.grid import Grid
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import InputError, RunFolderError, Stopped
from napari_rada.report.page import write_report
from napari_rada.report.pictures import LONGEST, slice_picture
from napari_rada.training.run_folder import RunFolder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run <1>"
    config = tiny_config(seed=3)
    pipeline.train([ball_case("heart & co"), ball_case("plain", seed=1, labelled=False)], path, config)
    return path


def test_the_page_tells_the_run_and_asks_nobody_for_anything(run):
    page = write_report(run, device="cpu").read_text(encoding="utf-8")
    assert "Run run &lt;1&gt;" in page
    assert "heart &amp; co" in page
    assert "Annotate next" in page
    assert "held-out Dice" in page
    assert re.search(r"label 1</td><td class=\"number\">1</td><td class=\"number\">\d+\.\d\d", page)
    assert page.count("<svg") == 4
    assert page.count("<img") == 4, "three annotated slices and the suggested one"
    assert "<td>3</td>" in page, "the seed differs from the preset's"
    assert "torch" in page
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href)=[\"'](?!data:)", page)
    assert "http" not in page.replace("http-equiv", "")


def test_the_legend_names_no_network_that_does_not_take_part(run, tmp_path):
    assert len(named(write_report(run, tmp_path / "three.html", device="cpu"))) == 6
    pipeline.train([ball_case()], tmp_path / "run", tiny_config(model__networks=1))
    assert named(write_report(tmp_path / "run", device="cpu")) == ["network 1, supervised"]


def test_curves_of_many_iterations_are_thinned_and_end_where_the_run_does(run, monkeypatch):
    shown = []
    monkeypatch.setattr("napari_rada.report.page.MAX_POINTS", 2)
    monkeypatch.setattr("napari_rada.report.page.line_chart", lambda series, *_, **__: shown.append(series[0].x) or "")
    write_report(run, device="cpu")
    steps = [float(step.iteration) for step in RunFolder.open(run).steps()]
    assert shown[0][-1] == steps[-1]
    assert 2 <= len(shown[0]) < len(steps)


def named(page):
    """Return the losses that the legend of a page names."""
    return re.findall(r"[━┅] (network [^<]*)</span>", page.read_text(encoding="utf-8"))


def test_one_prediction_is_in_memory_at_a_time(tmp_path, monkeypatch):
    pipeline.train([ball_case("a"), ball_case("b", seed=1)], tmp_path / "run", tiny_config(training__iterations=1))
    predict, made = pipeline.predict, []

    def watched(*args, **kwargs):
        gc.collect()
        assert [known() for known in made] == [None] * len(made)
        prediction = predict(*args, **kwargs)
        made.append(weakref.ref(prediction))
        return prediction

    monkeypatch.setattr(pipeline, "predict", watched)
    write_report(tmp_path / "run", device="cpu")
    assert len(made) == 2


def test_a_continued_run_names_the_one_before(run, tmp_path):
    pipeline.continue_training(run, [ball_case("heart & co")], tmp_path / "new")
    page = write_report(tmp_path / "new", tmp_path / "page.html", device="cpu").read_text(encoding="utf-8")
    assert "from iteration 8" in page, "of two halves, since one scan is not annotated"


def test_a_run_that_was_not_trained_has_a_page_too(tmp_path):
    control = RunControl()
    control.stop()
    pipeline.train([ball_case()], tmp_path / "run", tiny_config(), control=control)
    page = write_report(tmp_path / "run").read_text(encoding="utf-8")
    assert "Nothing was trained yet" in page
    assert page.count("<img") == 3
    assert "<svg" not in page


def test_what_cannot_be_written_is_told_and_a_stop_is_obeyed(run, tmp_path):
    with pytest.raises(InputError, match=r"must be called something.html"):
        write_report(run, tmp_path / "page.pdf")
    with pytest.raises(InputError, match="does not exist"):
        write_report(run, tmp_path / "nowhere" / "page.html")
    with pytest.raises(RunFolderError, match="is not a run folder"):
        write_report(tmp_path)
    control = RunControl()
    control.stop()
    with pytest.raises(Stopped):
        write_report(run, tmp_path / "page.html", control=control)
    assert not (tmp_path / "page.html").exists()


def test_the_command_line_writes_it(run, tmp_path, capsys):
    assert main(["report", str(run), "-o", str(tmp_path / "page.html"), "--device", "cpu"]) == 0
    assert (tmp_path / "page.html").exists()
    assert str(tmp_path / "page.html") in capsys.readouterr().out


def pixels_of(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))).astype(int)


def test_a_picture_is_upright_and_square_in_millimetres():
    image = np.zeros((4, 6, 8), dtype=np.float32)
    image[3, 5, 7] = image[3, 5, 6] = 100.0
    image[0] = 1.0
    grid = Grid(image.shape, Grid.from_spacing(image.shape, (5.0, 2.0, 1.0)).affine)
    labels = np.zeros(image.shape, dtype=np.int16)
    labels[3, 5, 7] = 1
    pixels = pixels_of(slice_picture(image, grid, AnnotatedSlice(1, 5), fill=labels))
    assert pixels.shape[:2] == (LONGEST, round(LONGEST * 8 / 20)), "20 mm high, 8 mm wide"
    assert pixels[5, 5].std() > 20, "head up and right on the left: the coloured voxel is in the upper left corner"
    assert pixels[-5, -5].std() == 0


def test_what_lies_nobody_knows_how_is_shown_as_it_is_stored_and_named_by_axis(run):
    image = np.zeros((4, 8, 8), dtype=np.float32)
    image[:, :4, :4] = 1e-9
    pixels = pixels_of(slice_picture(image, Grid.from_spacing(image.shape), AnnotatedSlice(0, 2)))
    assert pixels[5, 5, 0] == 255, "however small the values are"
    assert pixels[-5, -5, 0] == 0
    page = write_report(run, device="cpu").read_text(encoding="utf-8")
    assert "z slice 10 of 20" in page
    assert "axial" not in page
