"""Prompts from annotated slices and names to one vector per network, class and source."""

import numpy as np
import pytest
import torch
from tests.clip import MODEL

from napari_rada.config import RunConfig
from napari_rada.control import RunControl
from napari_rada.data.case import Case
from napari_rada.data.classes import ClassInfo, ClassTable
from napari_rada.data.intensity import CT_WINDOWS
from napari_rada.errors import Stopped
from napari_rada.events import Notice, StageProgress
from napari_rada.guidance import load_alpha_clip
from napari_rada.guidance.features import compute_features
from napari_rada.guidance.regions import region_prompts

CLASSES = ClassTable((ClassInfo(0, "background"), ClassInfo(4, "spleen"), ClassInfo(9, "label 9")))
SHAPE = (20, 26, 24)


def two_class_case(name="scan", seed=0, spacing=(1.0, 1.0, 1.0)):
    """Make a case in which the second class is missing from the slice on axis 2."""
    labels = np.zeros(SHAPE, np.uint16)
    labels[6:16, 8:18, 8:20] = 4
    labels[8:12, 10:14, 2:6] = 9
    image = labels + np.random.default_rng(seed).normal(0, 0.1, SHAPE)
    return Case.create(image, labels, slices=[(0, 10), (1, 12), (2, 12)], classes=CLASSES, name=name, spacing=spacing)


@pytest.fixture
def encoder(tiny_clip):
    return load_alpha_clip(MODEL, clip_weights=tiny_clip.clip, alpha_weights=tiny_clip.alpha)


def settings(**changes):
    return RunConfig().with_settings({f"guidance.{name}": value for name, value in changes.items()})


def prompts_of(case, **changes):
    config = settings(**changes)
    return region_prompts([case], CLASSES, 32, config.data, config.guidance)


def computed(encoder, cases, listener=lambda event: None, control=None, **changes):
    return compute_features(cases, CLASSES, settings(**changes), encoder, control or RunControl(), listener)


def test_every_class_of_every_annotated_slice_is_a_prompt_and_empty_ones_are_named():
    prompts, empty = prompts_of(two_class_case())
    assert [(p.plane.axis, p.view, p.class_index) for p in prompts] == [
        (0, 0, 1),
        (0, 0, 2),
        (1, 1, 1),
        (1, 1, 2),
        (2, 2, 1),
    ]
    assert [str(region) for region in empty] == ["label 9 in slice 2:12 of scan"]
    assert all(p.image.shape == p.mask.shape == (32, 32) and p.mask.any() for p in prompts)
    assert all(0 <= p.image.min() <= p.image.max() <= 1 for p in prompts)


def test_the_region_lies_on_the_structure():
    prompt = prompts_of(two_class_case())[0][0]
    assert prompt.image[prompt.mask].mean() > prompt.image[~prompt.mask].mean() + 0.2


def test_spacing_is_the_aspect_ratio():
    """10 voxels of 3 mm along z and 12 of 1 mm along x, in a slice of 60 mm by 24 mm."""
    prompts, _ = prompts_of(two_class_case(spacing=(3.0, 1.0, 1.0)))
    mask = next(p for p in prompts if p.view == 1 and p.class_index == 1).mask
    rows, columns = torch.nonzero(mask, as_tuple=True)
    height, width = int(rows.max() - rows.min() + 1), int(columns.max() - columns.min() + 1)
    assert height / width == pytest.approx(30 / 12, rel=0.2)


def test_windows_are_applied():
    case = two_class_case()
    hounsfield = Case.create(case.image * 25, case.labels, slices=case.annotated, classes=CLASSES)
    wide, narrow = (prompts_of(hounsfield, window=w)[0][0].image for w in ("bone", [-10, 110]))
    assert float(narrow.max()) > 0.9
    assert float(wide.max()) < 0.5
    low, high = CT_WINDOWS["bone"]
    assert float(wide.max()) == pytest.approx((float(hounsfield.image[10].max()) - low) / (high - low), abs=0.02)


def test_vectors_have_their_shape_their_scale_and_their_zeros(encoder):
    events = []
    features = computed(encoder, [two_class_case()], events.append)
    assert features.vectors.shape == (3, 2, 2, 32)
    assert features.vectors.dtype == np.float32
    rms = np.sqrt((features.vectors**2).mean(axis=-1))
    np.testing.assert_allclose(rms[:, 0], 1, rtol=1e-5)  # spleen: region and text
    np.testing.assert_allclose(rms[:, 1, 0], 1, rtol=1e-5)  # label 9: region
    assert not features.vectors[:, 1, 1].any()  # its name says nothing
    notices = [event.message for event in events if isinstance(event, Notice)]
    assert notices == [
        "Region prompts were left out where a slice does not show the class: label 9 in slice 2:12 of scan.",
        "No text prompt for label 9: the name does not say what it is. Name the class, or set guidance.prompts.VALUE "
        "to a sentence about it.",
    ]
    done = [event.done for event in events if isinstance(event, StageProgress)]
    assert done == sorted(done)
    assert done[-1] == 5


def test_each_network_sees_its_own_planes(encoder):
    regions = computed(encoder, [two_class_case()], source="region").vectors[:, 0, 0]
    assert not np.allclose(regions[0], regions[1])
    again = computed(encoder, [two_class_case()], source="region", plane_pairs=[[1, 0], [1, 0], [2, 1]]).vectors[
        :, 0, 0
    ]
    np.testing.assert_array_equal(again[0], again[1])
    np.testing.assert_allclose(again[2], regions[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(again[0], regions[2], rtol=1e-5, atol=1e-6)


def test_texts_are_the_same_for_all_networks(encoder):
    features = computed(encoder, [two_class_case()], source="text")
    assert features.vectors.shape == (3, 2, 1, 32)
    np.testing.assert_array_equal(features.vectors[0], features.vectors[2])
    assert features.record["text"] == {
        "spleen": ["An image containing the spleen, with the rest being background"],
        "label 9": [],
    }


def test_a_class_that_a_network_never_sees_is_told(encoder):
    case = two_class_case()
    only = Case.create(case.image, case.labels, slices=[(1, 12), (2, 12)], classes=CLASSES, name="scan")
    events = []
    features = computed(encoder, [only], events.append, source="region")
    assert not features.vectors[1, 1].any()
    assert features.vectors[0, 1].any()
    told = [event.message for event in events if isinstance(event, Notice)]
    assert any(message.startswith("Network 2 gets no region prompt of label 9") for message in told)


def test_all_labelled_cases_count(encoder):
    first, second = two_class_case("a"), two_class_case("b", seed=1)
    unlabelled = Case.create(second.image, name="c")
    together = computed(encoder, [first, second, unlabelled], source="region")
    assert {entry["case"] for entry in together.record["regions"]} == {"a", "b"}
    alone = computed(encoder, [first], source="region")
    assert not np.allclose(together.vectors, alone.vectors)


def test_the_record_says_that_weights_are_random(encoder):
    record = computed(encoder, [two_class_case()]).record
    assert record["random"] is True
    assert record["source"] == "region+text"
    assert record["plane_pairs"] == [[2, 1], [0, 2], [1, 0]]


def test_a_stop_is_obeyed(encoder):
    control = RunControl()
    control.stop()
    with pytest.raises(Stopped):
        computed(encoder, [two_class_case()], control=control)
