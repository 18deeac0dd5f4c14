"""Layers to cases, predictions to layers: geometry above all."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer

from napari_rada._napari import layers as edge
from napari_rada._napari.geometry import WORLD_TO_RAS
from napari_rada._napari.layers import (
    case_from_layers,
    case_to_layer_data,
    grid_of,
    prediction_to_layer_data,
    take_snapshot,
)
from napari_rada._napari.preview import show_preview
from napari_rada.data.classes import ClassTable
from napari_rada.data.grid import Grid
from napari_rada.data.slices import AnnotatedSlice
from napari_rada.errors import InputError
from napari_rada.prediction import Explanation, Prediction

SHAPE = (12, 14, 16)

TURN = np.array([[1, 0, 0], [0, np.cos(0.2), -np.sin(0.2)], [0, np.sin(0.2), np.cos(0.2)]])


def affine(linear: np.ndarray, offset: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = offset
    return matrix


GEOMETRIES = {
    "plain": ({}, (1.0, 1.0, 1.0)),
    "anisotropic": ({"scale": (5.0, 0.7, 0.8)}, (5.0, 0.7, 0.8)),
    "negative scale": ({"scale": (-5.0, 0.7, -0.8), "translate": (55.0, 0.0, 12.0)}, (5.0, 0.7, 0.8)),
    "napari-nifti, old": ({"affine": affine(np.diag([-3.0, -1.25, -1.25]), (33.0, 20.0, 20.0))}, (3.0, 1.25, 1.25)),
    "napari-nifti": ({"scale": (-3.0, -1.25, -1.25), "translate": (33.0, 20.0, 20.0)}, (3.0, 1.25, 1.25)),
    "scale and affine": ({"scale": (2.0, 1.0, 1.0), "affine": affine(np.diag([1.5, 2.0, 0.5]))}, (3.0, 2.0, 0.5)),
    "oblique affine": ({"scale": (4.0, 1.0, 0.5), "affine": affine(TURN, (1.0, 2.0, 3.0))}, (4.0, 1.0, 0.5)),
    "rotated": ({"scale": (4.0, 1.0, 0.5), "rotate": TURN}, (4.0, 1.0, 0.5)),
    "sheared": ({"scale": (1.0, 1.0, 1.0), "shear": (0.0, 0.0, 0.75)}, (1.0, 1.0, 1.25)),
    "micrometres": ({"scale": (2000.0, 500.0, 500.0), "units": ("um", "um", "um")}, (2.0, 0.5, 0.5)),
    "metres": ({"scale": (0.002, 0.001, 0.001), "units": ("m", "m", "m")}, (2.0, 1.0, 1.0)),
}


@pytest.mark.parametrize(("settings", "spacing"), GEOMETRIES.values(), ids=GEOMETRIES.keys())
def test_spacing_comes_from_every_transform_and_the_units(volume, settings, spacing):
    grid = grid_of(Image(volume, **settings))
    np.testing.assert_allclose(grid.spacing, spacing, rtol=1e-9)
    assert [grid.plane_name(axis) for axis in range(3)] == ["axial", "coronal", "sagittal"]


DATA = {
    "in memory": lambda volume: volume,
    "dask": lambda volume: da.from_array(volume, chunks=(6, 7, 8)),
    "multiscale": lambda volume: [volume, volume[::2, ::2, ::2]],
    "multiscale dask": lambda volume: [da.from_array(v, chunks=(6, 7, 8)) for v in (volume, volume[::2, ::2, ::2])],
}


@pytest.fixture(params=DATA.values(), ids=DATA.keys())
def placed(request, volume):
    """Make Image layers of one kind of data."""

    def make(settings: dict) -> Image:
        data = request.param(volume)
        kept = {"affine": np.eye(4), "source": "x.nii"}
        return Image(
            data,
            name="scan",
            multiscale=isinstance(data, list),
            axis_labels=("u", "v", "w"),
            metadata=kept,
            contrast_limits=(0, 200),
            **settings,
        )

    return make


def check_same_place(output: Layer, layer: Image) -> None:
    """Every transform is the image's, not only their product, and so are units, axis labels and metadata."""
    for name in ("scale", "translate", "rotate", "shear"):
        np.testing.assert_array_equal(getattr(output, name), getattr(layer, name))
    np.testing.assert_array_equal(output.affine.affine_matrix, layer.affine.affine_matrix)
    np.testing.assert_array_equal(edge.world_matrix(output), edge.world_matrix(layer))
    np.testing.assert_allclose(output.extent.world, layer.extent.world)
    assert output.data.shape == SHAPE
    assert output.units == layer.units
    assert output.axis_labels == ("u", "v", "w")
    assert output.metadata["source"] == "x.nii"
    np.testing.assert_array_equal(output.metadata["affine"], np.eye(4))
    assert "provenance" not in layer.metadata


@pytest.mark.parametrize("settings", [settings for settings, _ in GEOMETRIES.values()], ids=GEOMETRIES.keys())
def test_outputs_lie_exactly_on_the_image(placed, settings):
    layer = placed(settings)
    made = prediction(grid_of(layer))
    outputs = [Layer.create(*layer_data) for layer_data in prediction_to_layer_data(made, layer, edge.OUTPUTS)]
    looked = Layer.create(*edge.explanation_to_layer_data(explanation(made.grid), layer))
    for output in (*outputs, looked):
        check_same_place(output, layer)
    assert [output.metadata["provenance"] for output in outputs] == [{"run": "here", "iteration": 7}] * 3
    assert looked.metadata["provenance"] == {"run": "here", "iteration": 7, "class": "liver"}


@pytest.mark.parametrize("settings", [settings for settings, _ in GEOMETRIES.values()], ids=GEOMETRIES.keys())
def test_new_labels_and_their_preview_lie_exactly_on_the_image(placed, settings):
    layer = placed(settings)
    viewer = ViewerModel()
    viewer.add_layer(layer)
    labels = viewer.add_layer(Layer.create(*edge.new_labels_data(layer)))
    preview = show_preview(viewer, prediction(grid_of(layer)), layer, labels)
    for output in (labels, preview):
        check_same_place(output, layer)
        edge.check_aligned(layer, output)


@pytest.mark.parametrize("settings", [settings for settings, _ in GEOMETRIES.values()], ids=GEOMETRIES.keys())
def test_a_case_of_any_image_has_its_voxels_and_its_place(placed, volume, settings):
    layer = placed(settings)
    case = case_from_layers(layer)
    np.testing.assert_array_equal(case.image, volume)
    np.testing.assert_allclose(WORLD_TO_RAS @ case.grid.affine, edge.world_matrix(layer), atol=1e-9)


def prediction(grid: Grid, classes: int = 2) -> Prediction:
    probability = np.full((classes, *SHAPE), 1.0 / classes, dtype=np.float32)
    return Prediction(
        name="scan",
        mask=np.ones(SHAPE, dtype=np.uint8),
        probability=probability,
        disagreement=np.zeros(SHAPE, dtype=np.float32),
        grid=grid,
        classes=ClassTable.from_values(range(classes)),
        provenance={"run": "here", "iteration": 7},
    )


def explanation(grid: Grid) -> Explanation:
    heat = np.linspace(0, 1, grid.shape[0] * grid.shape[1] * grid.shape[2], dtype=np.float32).reshape(grid.shape)
    return Explanation("scan", "liver", heat, grid, provenance={"run": "here", "iteration": 7})


def test_where_the_networks_look_is_laid_over_the_image(image):
    layer = Layer.create(*edge.explanation_to_layer_data(explanation(grid_of(image)), image))
    assert isinstance(layer, Image)
    assert layer.name == "scan looked at for liver"
    assert layer.blending == "additive"
    assert layer.contrast_limits == [0.0, 1.0]
    assert edge.is_output(layer)
    other = Image(np.zeros((5, 6, 7), dtype=np.float32), name="other")
    with pytest.raises(InputError, match=r"'other' has \(5, 6, 7\) now; ask for it again"):
        edge.explanation_to_layer_data(explanation(grid_of(image)), other)


def test_outputs_are_new_layers_of_the_right_kind(image):
    data = prediction_to_layer_data(prediction(grid_of(image)), image, edge.OUTPUTS)
    assert [(settings["name"], kind) for _, settings, kind in data] == [
        ("scan mask", "labels"),
        ("scan probability", "image"),
        ("scan disagreement", "image"),
    ]
    metadata = [settings["metadata"] for _, settings, _ in data]
    metadata[0]["note"] = "mine"
    assert "note" not in metadata[1]
    assert "note" not in image.metadata


def test_several_classes_give_one_probability_layer_each(image):
    data = prediction_to_layer_data(prediction(grid_of(image), classes=3), image, (edge.PROBABILITY,))
    assert [settings["name"] for _, settings, _ in data] == [
        "scan probability of label 1",
        "scan probability of label 2",
    ]


def test_what_a_prediction_does_not_have_is_left_out(image):
    alone = prediction(grid_of(image))
    alone = Prediction(alone.name, alone.mask, alone.probability, None, alone.grid, alone.classes)
    assert prediction_to_layer_data(alone, image, (edge.DISAGREEMENT,)) == []


def test_a_prediction_of_other_voxels_is_refused(image):
    other = Image(np.zeros((5, 6, 7), dtype=np.float32), name="other")
    with pytest.raises(InputError, match=r"12, 14, 16.*'other' has \(5, 6, 7\) now; predict again"):
        prediction_to_layer_data(prediction(grid_of(image)), other)


def test_a_case_has_the_layers_voxels_and_slices(image, labels):
    planes = [AnnotatedSlice(0, 6), AnnotatedSlice(1, 7)]
    case = case_from_layers(image, labels, planes)
    np.testing.assert_array_equal(case.image, image.data)
    assert (case.name, case.labels_name) == ("scan", "labels")
    assert case_to_layer_data(case)[1][1]["name"] == "labels"
    assert case.annotated == tuple(planes)
    assert case.grid.spacing == (3.0, 1.5, 1.0)
    assert case.labels is not None
    np.testing.assert_array_equal(case.labels[6], labels.data[6])


def test_slices_come_from_the_metadata_else_they_are_detected(image, labels):
    assert case_from_layers(image, labels).annotated == (
        AnnotatedSlice(0, 6),
        AnnotatedSlice(1, 7),
        AnnotatedSlice(2, 8),
    )
    edge.set_annotated_slices(labels, [AnnotatedSlice(2, 8), AnnotatedSlice(0, 6)])
    assert labels.metadata["annotated_slices"] == [{"axis": 0, "index": 6}, {"axis": 2, "index": 8}]
    assert case_from_layers(image, labels).annotated == (AnnotatedSlice(0, 6), AnnotatedSlice(2, 8))


def test_an_image_alone_is_an_unlabelled_case(image):
    case = case_from_layers(image, name="mine")
    assert not case.is_labelled
    assert case.name == "mine"


def test_later_edits_do_not_reach_a_snapshot(image, labels):
    snapshot = take_snapshot(image, labels, [AnnotatedSlice(0, 6)])
    image.data[:] = 0
    labels.data[:] = 5
    case = snapshot.to_case()
    assert case.image.min() != case.image.max()
    assert case.labels is not None
    assert set(np.unique(case.labels)) == {0, 1}


def test_lazy_arrays_are_read_by_the_case_and_not_before(volume):
    read: list[int] = []

    def load(block: np.ndarray) -> np.ndarray:
        read.append(1)
        return block

    lazy = da.from_array(volume, chunks=(6, 14, 16)).map_blocks(load, dtype=volume.dtype, meta=volume[:0])
    layer = Image(lazy, name="lazy", contrast_limits=(0, 200))
    read.clear()
    snapshot = take_snapshot(layer)
    assert not read
    np.testing.assert_array_equal(snapshot.to_case().image, volume)


def test_of_a_multiscale_image_the_finest_level_is_taken(volume):
    layer = Image([volume, volume[::2, ::2, ::2]], multiscale=True, scale=(3.0, 1.0, 1.0))
    case = case_from_layers(layer)
    assert case.image.shape == SHAPE
    assert case.grid.spacing == (3.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("layer", "gist"),
    [
        (Image(np.zeros((20, 30)), name="flat"), r"'flat' is 2D \(20, 30\); a 3D volume is needed"),
        (Image(np.zeros((8, 20, 30, 3), np.uint8), name="photo", rgb=True), "'photo' is an RGB image.*Split RGB"),
        (Image(np.zeros((2, 8, 20, 30)), name="film"), r"'film' has 4 dimensions \(2, 8, 20, 30\).*Split Stack"),
        (
            Image(np.random.rand(8, 9, 10), name="movie", units=("s", "mm", "mm")),  # noqa: NPY002
            "'movie' has an axis in second; all three axes must be lengths",
        ),
        (Image(np.zeros((20, 30, 3), np.uint8), name="photo", rgb=True), "'photo' is an RGB image.*Split RGB"),
        (
            Image(np.zeros((3, 20, 30)), name="stain", axis_labels=("c", "y", "x")),
            r"Axis 'c' of layer 'stain' \(3, 20, 30\) is no direction in space.*Open the whole stack of one channel",
        ),
        (
            Image(np.zeros((3, 20, 30)), name="clip", axis_labels=("Time", "y", "x")),
            "Axis 'Time' of layer 'clip'.*correct the layer's axis labels",
        ),
    ],
    ids=["2D", "RGB", "4D", "unit of time", "2D RGB", "2D and channel", "2D and time"],
)
def test_what_is_no_volume_is_refused_with_the_remedy(layer, gist):
    with pytest.raises(InputError, match=gist):
        case_from_layers(layer)


def test_labels_of_another_shape_are_refused(image):
    with pytest.raises(InputError, match=r"it has \(3, 4, 5\) voxels, not \(12, 14, 16\). Press 'New labels'"):
        case_from_layers(image, Labels(np.zeros((3, 4, 5), int), name="small"))


def test_labels_that_look_like_an_image_are_told_with_what_the_window_has(image):
    noise = np.random.default_rng(0).integers(0, 300, SHAPE)
    with pytest.raises(InputError, match=r"Labels layer 'noise' holds \d+ different .* press New labels") as told:
        case_from_layers(image, Labels(noise, name="noise", scale=image.scale, units=image.units), [(0, 4)])
    assert "name the image first" not in str(told.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"scale": (1.0, 1.0, 1.0)},
        {"scale": (3.0, 1.5, 1.0), "translate": (0.0, 0.0, 0.5)},
        {"scale": (3.0, 1.5, 1.0), "affine": affine(np.diag([-1.0, 1.0, 1.0]), (33.0, 0.0, 0.0))},
    ],
    ids=["other scale", "moved", "mirrored in place"],
)
def test_labels_that_lie_elsewhere_are_refused(image, settings):
    labels = Labels(np.zeros(SHAPE, int), name="astray", units=image.units, **settings)
    with pytest.raises(InputError, match=r"'astray' does not fit image 'scan'.*Press 'New labels'"):
        case_from_layers(image, labels)


def test_new_labels_fit_and_stay_inside_the_slice_shown(image):
    layer = Layer.create(*edge.new_labels_data(image))
    edge.check_aligned(image, layer)
    assert layer.n_edit_dimensions == 2
    assert edge.annotated_slices(layer) == ()
    probability = Image(image.data, metadata={"provenance": {"run": "here"}})
    assert not edge.is_output(Layer.create(*edge.new_labels_data(probability)))


def test_the_files_own_geometry_holds_until_the_layer_is_moved_or_cut(tmp_path, volume):
    path = tmp_path / "scan.nii"
    path.touch()
    oblique = Grid(SHAPE, affine(TURN @ np.diag([3.0, 1.5, 1.0])))
    layer = Image(volume, **edge.placement_of_grid(oblique, path))
    np.testing.assert_array_equal(grid_of(layer).affine, oblique.affine)
    assert edge.source_of(layer) == path
    layer.scale = (4.0, 1.5, 1.0)
    np.testing.assert_allclose(grid_of(layer).spacing, (4.0, 1.5, 1.0))
    assert edge.source_of(layer) is None
    cut = Image(volume[2:], **edge.placement_of_grid(oblique, path))
    assert edge.source_of(cut) is None
