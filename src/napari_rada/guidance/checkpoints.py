"""Reading the published weights of CLIP and Alpha-CLIP: which formats there are, and what must be in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from napari_rada.errors import WeightsError
from napari_rada.guidance.torchscript import is_torchscript, read_torchscript
from napari_rada.memory import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Mapping

NO_WEIGHTS = ("input_resolution", "context_length", "vocab_size")
"""Numbers that OpenAI kept among the weights."""
CAUSAL_MASK = "attn_mask"
"""The text encoder's mask, a constant that some archives repeat in every block."""
SHOWN_KEYS = 4
"""How many keys of each kind an error names."""


@dataclass(frozen=True, eq=False)
class Weights:
    """Named tensors in float32, and whether somebody marked them as random."""

    tensors: dict[str, torch.Tensor]
    random: bool = False


def read_weights(path: Path | str) -> Weights:
    """Read a file of weights without running code from it.

    Accepted are safetensors, a state dict saved by PyTorch (bare or under ``state_dict``, with or without ``module.``
    before every key), and OpenAI's TorchScript archives. Values may be half precision.

    Raises
    ------
    WeightsError
        If the file is missing, damaged, or no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"The weight file {path} does not exist; check the path, or use `napari-rada weights`.")
    try:
        content = _read(path)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        # torch, safetensors and zipfile raise many kinds for a damaged file
        reason = " ".join(str(error).split())[:120]
        raise WeightsError(
            f"{path} is damaged or no file of plain weights ({reason}); fetch it again, or name another file."
        ) from None
    marked = isinstance(content, dict) and content.get("random") is True
    state = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(state, dict) or not state or not all(isinstance(key, str) for key in state):
        raise WeightsError(f"{path} holds a {type(state).__name__}; a dictionary of named tensors is needed.")
    if not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"{path} holds values that are no tensors; a plain state dict is needed.")
    tensors = {key.removeprefix("module."): value.float() for key, value in state.items()}
    return Weights({key: value for key, value in tensors.items() if not _is_constant(key)}, marked)


def named_as_open_clip(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename Alpha-CLIP's attention weights ``in_proj.weight`` and ``in_proj.bias`` as open_clip has them."""
    return {key.replace(".in_proj.", ".in_proj_"): value for key, value in tensors.items()}


def check_fit(found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], path: Path | str) -> None:
    """Compare names and shapes with those of the model.

    Raises
    ------
    WeightsError
        If keys are missing, unknown or of another shape; it names them.
    """
    problems = [
        _listed("missing", [key for key in wanted if key not in found]),
        _listed("unknown", [key for key in found if key not in wanted]),
        _listed(
            "of another shape",
            [
                f"{key} {tuple(found[key].shape)} instead of {tuple(value.shape)}"
                for key, value in wanted.items()
                if key in found and found[key].shape != value.shape
            ],
        ),
    ]
    if any(problems):
        raise WeightsError(
            f"{path} does not fit the model: {'; '.join(filter(None, problems))}. Name the file that belongs to this "
            "model, or the model that belongs to this file."
        )


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    if is_torchscript(path):
        return read_torchscript(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _is_constant(key: str) -> bool:
    return key in NO_WEIGHTS or key.rpartition(".")[2] == CAUSAL_MASK


def _listed(kind: str, keys: list[str]) -> str:
    if not keys:
        return ""
    more = f" and {len(keys) - SHOWN_KEYS} more" if len(keys) > SHOWN_KEYS else ""
    return f"{len(keys)} {kind} ({', '.join(keys[:SHOWN_KEYS])}{more})"
