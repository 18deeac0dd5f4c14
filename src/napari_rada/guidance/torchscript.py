"""Weights out of a TorchScript archive, as OpenAI published CLIP, without running anything in it.

Such an archive is a zip file with a pickle of the module tree and one file per tensor. It is read with an unpickler
that knows tensors and plain containers only; modules become empty shells, code is never looked at.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}


class _Shell:
    """Stands for a module of the archive: its attributes, without its code."""


def is_torchscript(path: Path) -> bool:
    """Tell whether a file is a TorchScript archive: a zip file with constants beside its data."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, torch.Tensor]:
    """Read every tensor of an archive under the name that it has in the module tree.

    Raises
    ------
    pickle.UnpicklingError, zipfile.BadZipFile, KeyError, ValueError, RuntimeError
        If the archive is damaged or holds anything but modules, tensors and plain values.
    """
    with zipfile.ZipFile(path) as archive:
        (main,) = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
        root = main.removesuffix("data.pkl")
        with archive.open(main) as file:
            module = _Unpickler(file, lambda key: archive.read(f"{root}data/{key}")).load()
    return dict(_tensors(module, ""))


class _Unpickler(pickle.Unpickler):
    """Makes tensors, shells and plain containers; refuses every other name."""

    def __init__(self, file: Any, read: Callable[[str], bytes]) -> None:
        super().__init__(file)
        self._read = read

    def persistent_load(self, pid: Any) -> torch.Tensor:
        """Return a tensor's memory as a flat tensor."""
        _, dtype, key, _, length = pid
        flat = torch.frombuffer(bytearray(self._read(str(key))), dtype=dtype)
        if len(flat) != length:
            raise pickle.UnpicklingError(f"tensor data {key} is not complete")
        return flat

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name in the archive stands for."""
        if module.startswith("__torch__"):
            return _Shell
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle":  # marks of the element type of a list
            return _first
        raise pickle.UnpicklingError(f"{module}.{name} is not expected among weights")


def _rebuild(flat: torch.Tensor, offset: int, size: Sequence[int], stride: Sequence[int], *_: object) -> torch.Tensor:
    return flat.as_strided(tuple(size), tuple(stride), offset).clone()


def _first(value: object, *_: object) -> object:
    return value


def _tensors(value: object, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, _Shell):
        for key, inner in vars(value).items():
            yield from _tensors(inner, f"{name}.{key}" if name else key)
