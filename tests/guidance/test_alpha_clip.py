"""The encoders: agreement with an independent evaluation, and the files that they are read from."""

from __future__ import annotations

import copy
import warnings
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import CLIP
from safetensors.torch import save_file
from tests.clip import MODEL, TINY, architecture
from tests.guidance import reference

from napari_rada.errors import ConfigError, InputError, WeightsError
from napari_rada.guidance import load_alpha_clip
from napari_rada.guidance.alpha_clip import as_input

if TYPE_CHECKING:
    from pathlib import Path

    from napari_rada.guidance.alpha_clip import AlphaClip
    from napari_rada.guidance.weights import GuidanceWeights

LARGE, LARGE_336 = "ViT-L-14-quickgelu", "ViT-L-14-336-quickgelu"


def shortened(model: str, vision: int, text: int = 1) -> dict[str, object]:
    """Return the published architecture with fewer layers."""
    config = copy.deepcopy(open_clip.get_model_config(model))
    config["vision_cfg"]["layers"], config["text_cfg"]["layers"] = vision, text
    return dict(config)


def random_states(model: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Make the state dicts of a CLIP and of an Alpha-CLIP with weights of their own, both as open_clip names them."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        base = CLIP(**open_clip.get_model_config(model)).state_dict()
        visual = CLIP(**open_clip.get_model_config(model)).visual.state_dict()
        patches = visual["conv1.weight"]
        visual["conv1_alpha.weight"] = 0.05 * torch.randn(len(patches), 1, *patches.shape[2:])
    return base, visual


def as_published(visual: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename attention weights as the Alpha-CLIP files have them."""
    return {key.replace("in_proj_", "in_proj."): value for key, value in visual.items()}


def double(state: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {key: value.double().numpy() for key, value in state.items()}


def scene(side: int, number: int = 1) -> tuple[np.ndarray, np.ndarray]:
    images = np.random.default_rng(0).random((number, side, side)).astype(np.float32)
    masks = np.zeros(images.shape, dtype=bool)
    masks[:, side // 4 : side // 2, side // 3 : side // 2] = True
    return images, masks


def written(folder: Path, base: dict[str, torch.Tensor], visual: dict[str, torch.Tensor]) -> tuple[Path, Path]:
    torch.save(base, folder / "clip.pt")
    torch.save(visual, folder / "alpha.pth")
    return folder / "clip.pt", folder / "alpha.pth"


@pytest.mark.parametrize(
    ("model", "layers", "naming", "values"),
    [
        (MODEL, 12, as_published, torch.float32),  # the whole ViT-B/16: some seconds
        (LARGE, 2, dict, torch.float16),
        (LARGE_336, 1, as_published, torch.float16),
    ],
)
def test_features_agree_with_an_independent_evaluation(tmp_path, model, layers, naming, values):
    with architecture(shortened(model, layers), model):
        base, visual = random_states(model)
        base, visual = ({key: value.to(values) for key, value in state.items()} for state in (base, visual))
        clip_file, alpha_file = written(tmp_path, base, naming(visual))
        encoder = load_alpha_clip(model, clip_weights=clip_file, alpha_weights=alpha_file)
    image, mask = scene(encoder.size)
    found = encoder.encode_regions(image, mask).numpy()[0]
    wanted = reference.region_features(image[0].astype(np.float64), mask[0].astype(np.float64), double(visual))
    assert found.shape == wanted.shape == (512 if model == MODEL else 768,)
    assert np.linalg.norm(found - wanted) <= 1e-5 * np.linalg.norm(wanted)
    other = encoder.encode_regions(image, ~mask).numpy()[0]
    assert np.linalg.norm(other - found) > 1e-3 * np.linalg.norm(found)


@pytest.mark.parametrize(("model", "layers"), [(MODEL, 12), (LARGE, 2)])
def test_text_features_agree_with_an_independent_evaluation(tmp_path, model, layers):
    prompt = "An image containing the left atrium, with the rest being background"
    with architecture(shortened(model, 1, layers), model):
        base, _ = random_states(model)
        torch.save(base, tmp_path / "clip.pt")
        encoder = load_alpha_clip(model, clip_weights=tmp_path / "clip.pt")
        tokens = open_clip.get_tokenizer(model)([prompt])[0].numpy()
    found = encoder.encode_text([prompt]).numpy()[0]
    wanted = reference.text_features(tokens, double(base))
    assert np.linalg.norm(found - wanted) <= 1e-5 * np.linalg.norm(wanted)


def test_with_a_zero_alpha_embedding_it_is_open_clip_itself(tmp_path):
    with architecture(shortened(MODEL, 3)):
        base, visual = random_states(MODEL)
        own = {key.removeprefix("visual."): value for key, value in base.items() if key.startswith("visual.")}
        own["conv1_alpha.weight"] = torch.zeros_like(visual["conv1_alpha.weight"])
        clip_file, alpha_file = written(tmp_path, base, as_published(own))
        plain = CLIP(**open_clip.get_model_config(MODEL)).eval()
        encoder = load_alpha_clip(MODEL, clip_weights=clip_file, alpha_weights=alpha_file)
    plain.load_state_dict(base)
    image, mask = scene(224, 2)
    with torch.no_grad():
        rgb = as_input(torch.from_numpy(image), torch.from_numpy(mask))[:, :3].contiguous()
        wanted = plain.encode_image(rgb)
    assert torch.equal(encoder.encode_regions(image, mask), wanted)


def test_without_alpha_weights_masks_make_no_difference(tiny_clip):
    encoder = load_alpha_clip(MODEL, clip_weights=tiny_clip.clip)
    image, mask = scene(32)
    assert torch.equal(encoder.encode_regions(image, mask), encoder.encode_regions(image, ~mask))


class Archived(torch.nn.Module):
    """A CLIP as OpenAI archived it: the weights, three numbers, and a constant mask."""

    def __init__(self, clip: CLIP) -> None:
        super().__init__()
        for name, child in clip.named_children():
            setattr(self, name, child)
        for name, parameter in clip.named_parameters(recurse=False):
            setattr(self, name, parameter)
        for name in ("input_resolution", "context_length", "vocab_size"):
            self.register_buffer(name, torch.tensor(77))
        self.attn_mask = clip.attn_mask

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.visual(x)


def save_torchscript(path: Path, clip: CLIP) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, OpenAI's files stay what they are
        traced = torch.jit.trace(Archived(clip).half().float().eval(), torch.rand(1, 3, 32, 32))
        torch.jit.save(traced, path)


def save_half(path: Path, clip: CLIP) -> None:
    numbers = {name: torch.tensor(224) for name in ("input_resolution", "context_length", "vocab_size")}
    torch.save({key: value.half() for key, value in clip.state_dict().items()} | numbers, path)


def save_nested(path: Path, clip: CLIP) -> None:
    torch.save({"epoch": 3, "state_dict": {f"module.{key}": value for key, value in clip.state_dict().items()}}, path)


def save_safetensors(path: Path, clip: CLIP) -> None:
    save_file({key: value.contiguous() for key, value in clip.state_dict().items()}, path)


@pytest.mark.parametrize(
    ("save", "name"),
    [
        (save_torchscript, "ViT-B-16.pt"),
        (save_half, "openai_state.pt"),
        (save_nested, "epoch_3.pt"),
        (save_safetensors, "open_clip_model.safetensors"),
    ],
)
def test_clip_is_read_in_every_published_format(tmp_path, save, name):
    with architecture():
        torch.manual_seed(3)
        clip = CLIP(**open_clip.get_model_config(MODEL)).half().float().eval()
        save(tmp_path / name, clip)
        encoder = load_alpha_clip(MODEL, clip_weights=tmp_path / name)
        tokens = open_clip.get_tokenizer(MODEL)(["a spleen"])
    image, mask = scene(32)
    with torch.no_grad():
        rgb = as_input(torch.from_numpy(image), torch.from_numpy(mask))[:, :3].contiguous()
        assert torch.equal(encoder.encode_regions(image, mask), clip.encode_image(rgb))
        assert torch.equal(encoder.encode_text(["a spleen"]), clip.encode_text(tokens))
    assert not encoder.random


class Malicious:
    def __reduce__(self):
        return (print, ("code ran",))


def test_no_weight_file_runs_code(tmp_path, capsys):
    torch.save({"visual.proj": Malicious()}, tmp_path / "clip.pt")
    with pytest.raises(WeightsError, match="damaged or no file of plain weights"):
        load_alpha_clip(MODEL, clip_weights=tmp_path / "clip.pt")
    archive = tmp_path / "archive.pt"
    torch.save({"visual.proj": Malicious()}, archive)
    with zipfile.ZipFile(archive, "a") as file:  # makes it look like TorchScript
        file.writestr("archive/constants.pkl", b"")
    with pytest.raises(WeightsError, match=r"print is not expected among weights"):
        load_alpha_clip(MODEL, clip_weights=archive)
    assert "code ran" not in capsys.readouterr().out


def test_random_weights_say_that_they_are(tiny_clip):
    assert load_alpha_clip(MODEL, clip_weights=tiny_clip.clip, alpha_weights=tiny_clip.alpha).random


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("ln_post.weight"), r"1 missing \(ln_post\.weight\)"),
        (lambda state: state.pop("conv1_alpha.weight"), r"1 missing \(conv1_alpha\.weight\)"),
        (lambda state: state.update(extra=torch.zeros(1)), r"1 unknown \(extra\)"),
        (
            lambda state: state.update({"proj": torch.zeros(3, 4)}),
            r"1 of another shape \(proj \(3, 4\) instead of \(64, 32\)\)",
        ),
    ],
)
def test_alpha_weights_that_do_not_fit_are_named(tmp_path, tiny_clip, change, message):
    state = torch.load(tiny_clip.alpha, weights_only=True)["state_dict"]
    change(state)
    torch.save(state, tmp_path / "alpha.pth")
    with pytest.raises(WeightsError, match=message):
        load_alpha_clip(MODEL, clip_weights=tiny_clip.clip, alpha_weights=tmp_path / "alpha.pth")


def test_clip_weights_of_another_model_are_named(tiny_clip):
    with pytest.raises(WeightsError, match=r"does not fit the model: .*missing .* and \d+ more"):
        load_alpha_clip(MODEL, clip_weights=tiny_clip.alpha)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(1)], "holds a list; a dictionary of named tensors is needed"),
        ({}, "holds a dict; a dictionary of named tensors is needed"),
        ({1: torch.zeros(1)}, "holds a dict; a dictionary of named tensors is needed"),
        ({"a": 1}, "holds values that are no tensors"),
        ({"random": torch.zeros(2)}, "does not fit the model"),
    ],
)
def test_files_that_are_no_state_dict_are_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "clip.pt")
    with pytest.raises(WeightsError, match=message):
        load_alpha_clip(MODEL, clip_weights=tmp_path / "clip.pt")


def test_missing_files_tags_and_models_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="does not exist"):
        load_alpha_clip(MODEL, clip_weights=tmp_path / "absent.pt")
    with pytest.raises(WeightsError, match="neither a file nor a tag of open_clip for ViT-B-16-quickgelu; its tags"):
        load_alpha_clip(MODEL, clip_weights="no-such-tag")
    with pytest.raises(ConfigError, match="There is no CLIP model 'RN50'"):
        load_alpha_clip("RN50", clip_weights=tmp_path / "clip.pt")
    (tmp_path / "page.pt").write_text("<html>")
    with pytest.raises(WeightsError, match="damaged or no file of plain weights"):
        load_alpha_clip(MODEL, clip_weights=tmp_path / "page.pt")


def test_a_tag_goes_through_open_clips_own_download(tmp_path, tiny_clip, monkeypatch):
    asked = []
    monkeypatch.setattr(open_clip, "download_pretrained", lambda tag: asked.append(tag) or str(tiny_clip.clip))
    load_alpha_clip(MODEL, clip_weights="openai")
    assert asked == [open_clip.get_pretrained_cfg(MODEL, "openai")]

    def offline(tag: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(open_clip, "download_pretrained", offline)
    with pytest.raises(WeightsError, match=r"could not fetch openai .*no route to host.*name the file"):
        load_alpha_clip(MODEL, clip_weights="openai")


@pytest.fixture
def encoder(tiny_clip: GuidanceWeights) -> AlphaClip:
    return load_alpha_clip(MODEL, clip_weights=tiny_clip.clip, alpha_weights=tiny_clip.alpha)


@pytest.mark.parametrize(
    ("images", "masks", "message"),
    [
        (np.zeros((1, 8, 8), np.float32), np.zeros((1, 8, 9), bool), r"found \(1, 8, 8\) and \(1, 8, 9\)"),
        (np.zeros((8, 8), np.float32), np.zeros((8, 8), bool), r"Images \(N, H, W\)"),
        (np.zeros((1, 8, 8), np.float32), np.zeros((1, 8, 8)), "Masks must be boolean; found torch.float64"),
        (np.full((1, 8, 8), 2.0), np.zeros((1, 8, 8), bool), r"must lie in 0\.\.1; found 2 to 2"),
        (np.full((1, 8, 8), np.nan), np.zeros((1, 8, 8), bool), r"must lie in 0\.\.1"),
    ],
)
def test_bad_regions_are_refused(encoder, images, masks, message):
    with pytest.raises(InputError, match=message):
        encoder.encode_regions(images, masks)


def test_prompts_that_clip_cannot_read_whole_are_refused(encoder):
    assert encoder.encode_text(["kidney " * 75]).shape == (1, TINY["embed_dim"])
    with pytest.raises(InputError, match="has 76 tokens and CLIP reads at most 75; shorten it"):
        encoder.encode_text(["kidney", "kidney " * 76])
    with pytest.raises(InputError, match="A text prompt is empty"):
        encoder.encode_text([" "])


def test_nothing_to_encode_gives_nothing(encoder):
    assert encoder.encode_text([]).shape == (0, encoder.length)
    assert encoder.encode_regions(np.zeros((0, 8, 8)), np.zeros((0, 8, 8), bool)).shape == (0, encoder.length)


def test_batches_do_not_change_the_features(encoder):
    images, masks = scene(32, 6)
    together = encoder.encode_regions(images, masks)
    for number in range(6):
        alone = encoder.encode_regions(images[number : number + 1], masks[number : number + 1])
        torch.testing.assert_close(alone[0], together[number], rtol=1e-5, atol=1e-6)


def test_weights_are_frozen_and_the_global_random_state_is_left_alone(tiny_clip):
    before = torch.get_rng_state()
    encoder = load_alpha_clip(MODEL, clip_weights=tiny_clip.clip, alpha_weights=tiny_clip.alpha)
    assert torch.equal(before, torch.get_rng_state())
    assert not any(parameter.requires_grad for parameter in encoder._clip.parameters())
    assert not encoder.encode_text(["spleen"]).requires_grad
