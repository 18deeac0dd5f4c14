"""The classes of a labelling: the user's label values, names and prompts, and the network's class indices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_rada.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

MAX_LABEL = 65535
ROUNDING = 1e-5
"""Values no farther from a whole number than this are one: headers scale by fractions, such as 1/255."""
MOST_LISTED = 12
"""So many label values are named in a message."""
UNKNOWN = -1
"""Class index of a voxel that nobody annotated."""


def label_dtype(*values: NDArray[Any] | int) -> np.dtype[Any]:
    """Return the smallest integer type that holds every label of arrays, and labels beside them."""
    ends = [int(end) for value in map(np.asarray, values) if value.size for end in (value.min(), value.max())]
    low, high = min(ends, default=0), max(ends, default=0)
    kinds = [np.dtype(f"{'int' if low < 0 else 'uint'}{bits}") for bits in (8, 16, 32)]
    fitting = (kind for kind in kinds if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return next(fitting, np.dtype(np.int64))


@dataclass(frozen=True)
class ClassInfo:
    """One class: its value in the label volume, its name, and the text prompt that describes it (may be empty)."""

    value: int
    name: str
    prompt: str = ""

    @property
    def is_named(self) -> bool:
        """True for a foreground class with a name or a prompt that somebody gave it."""
        return self.value > 0 and (self.has_own_name or bool(self.prompt))

    @property
    def has_own_name(self) -> bool:
        """True if the name is not the one that a class gets by its value."""
        return self.name != f"label {self.value}"

    def is_called_as(self, other: ClassInfo) -> bool:
        """Tell whether the names of two classes of one value can be those of one structure."""
        if not (self.has_own_name and other.has_own_name):
            return True
        return _plain(self) == _plain(other)


@dataclass(frozen=True)
class ClassTable:
    """All classes of a run. Class index 0 is background (value 0); the position in the table is the class index.

    Of classes with the same name, in any case, the later ones have their value behind it.
    """

    classes: tuple[ClassInfo, ...]

    def __post_init__(self) -> None:
        values = self.values
        if not values or values[0] != 0:
            raise InputError(f"A class table must start with background (value 0); found values {listed(values)}.")
        if len(set(values)) != len(values) or any(not 0 <= value <= MAX_LABEL for value in values):
            raise InputError(f"Class values must be distinct and in 0..{MAX_LABEL}; found {listed(values)}.")
        object.__setattr__(self, "classes", _told_apart(self.classes))

    @classmethod
    def from_values(cls, values: Iterable[int], names: dict[int, str] | None = None) -> ClassTable:
        """Make a table of background and every positive value in `values`, named `label N` unless `names` has it.

        Raises
        ------
        InputError
            If one is no whole number.
        """
        names, values = names or {}, set(values)
        if not all(isinstance(value, Real) and value % 1 == 0 for value in values):
            raise InputError(f"Class values must be whole numbers; found {listed(values)}.")
        foreground = sorted({int(value) for value in values} - {0})
        background = ClassInfo(0, names.get(0, "background"))
        return cls((background, *(ClassInfo(value, names.get(value, f"label {value}")) for value in foreground)))

    def with_names(self, infos: Iterable[ClassInfo]) -> ClassTable:
        """Return this table with the names and prompts that `infos` has for its values."""
        named = {info.value: info for info in infos}
        return ClassTable(tuple(named.get(info.value, info) for info in self.classes))

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def values(self) -> tuple[int, ...]:
        """Label value of each class index."""
        return tuple(info.value for info in self.classes)

    def find(self, name: str | int) -> int:
        """Return the index of a foreground class, by its name in any case or by its label value.

        Raises
        ------
        InputError
            If there is no such class.
        """
        wanted = str(name).strip().lower()
        for index, info in enumerate(self.classes[1:], start=1):
            if wanted in (info.name.lower(), str(info.value)):
                return index
        known = ", ".join(f"{info.name} ({info.value})" for info in self.classes[1:])
        raise InputError(f"There is no class {name!r}; the classes are {known}.")

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """Smallest unsigned integer type that holds every label value."""
        return np.dtype(np.uint8 if max(self.values) <= 255 else np.uint16)

    def encode(self, labels: NDArray[np.integer]) -> NDArray[np.int16]:
        """Turn label values into class indices.

        Raises
        ------
        InputError
            If `labels` holds a value that the table does not have.
        """
        values = np.asarray(self.values)
        order = np.argsort(values)
        position = np.clip(np.searchsorted(values[order], labels), 0, len(values) - 1)
        index = order[position].astype(np.int16)
        unknown = values[index] != labels
        if unknown.any():
            found = sorted({int(value) for value in np.unique(np.asarray(labels)[unknown])})
            raise InputError(f"The labels hold the values {listed(found)}, but the classes are {listed(self.values)}.")
        return index

    def decode(self, index: NDArray[np.integer]) -> NDArray[np.unsignedinteger]:
        """Turn class indices into label values, in the smallest dtype that holds them."""
        decoded: NDArray[np.unsignedinteger] = np.asarray(self.values, dtype=self.dtype)[index]
        return decoded


def listed(values: Iterable[int]) -> str:
    """Write values in brackets, of many the first ones."""
    values = list(values)
    if len(values) <= MOST_LISTED:
        return str(values)
    return f"[{', '.join(map(str, values[:MOST_LISTED]))} and {len(values) - MOST_LISTED} more]"


def whole_numbers(values: NDArray[Any]) -> NDArray[Any] | None:
    """Return real values as the whole numbers that they are, to `ROUNDING`; None if one is a fraction or NaN."""
    if values.dtype.kind != "f":
        return values
    with np.errstate(invalid="ignore"):
        rounded = np.round(values)
        return rounded if bool((np.abs(values - rounded) <= ROUNDING).all()) else None


def merged_classes(tables: Sequence[tuple[str, ClassTable]]) -> ClassTable:
    """Return the classes of several cases, each with the first name and the first prompt that a case gives it.

    They come in the order of the longest table if that has them all, else by their values.

    Parameters
    ----------
    tables
        Each with the name of its case.

    Raises
    ------
    InputError
        If two cases call one value differently.
    """
    named: dict[int, ClassInfo] = {}
    by: dict[int, str] = {}
    for case, table in tables:
        for info in table.classes[1:]:
            known = named.get(info.value, info)
            if not info.is_called_as(known):
                raise InputError(
                    f"{by[info.value]} calls the label value {info.value} {known.name!r} and {case} calls it "
                    f"{info.name!r}; one value must mean one structure in all cases: rename it in one of them, or "
                    "change its value there."
                )
            name = known.name if known.has_own_name else info.name
            if not known.has_own_name or info.value not in by:
                by[info.value] = case
            named[info.value] = ClassInfo(info.value, name, known.prompt or info.prompt)
    longest = max((table for _, table in tables), key=len)
    complete = longest if set(longest.values) >= set(named) else ClassTable.from_values(named)
    return complete.with_names(named.values())


def _plain(info: ClassInfo) -> str:
    """Return a name for comparing: in one case, and without the value that tells it from others like it."""
    return info.name.removesuffix(f" ({info.value})").strip().casefold()


def _told_apart(classes: tuple[ClassInfo, ...]) -> tuple[ClassInfo, ...]:
    """Give every class a name of its own."""
    taken: set[str] = set()
    found = []
    for info in classes:
        one = replace(info, name=f"{info.name} ({info.value})") if info.name.casefold() in taken else info
        taken.add(one.name.casefold())
        found.append(one)
    return tuple(found)
