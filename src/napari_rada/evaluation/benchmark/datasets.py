"""Which scans a benchmark takes: a YAML file of data sets, with their splits written out.

```yaml
datasets:
  - name: BTCV liver
    image: btcv/{scan}_ct.nii.gz          # relative to the root folder
    labels: btcv/{scan}_label.nii.gz
    structures: {liver: [6]}              # class name: the values in the files that count as it
    modality: CT
    window: null                          # intensity window, null for percentiles
    settings: [case_00]                   # settings may be chosen on these
    reported: [case_01, case_03]          # figures are reported on these
    cohort:                               # optional: train on some, test on others
      train: [case_01]
      unlabelled: []
      test: [case_03]
```
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from napari_rada.data.case import Case
from napari_rada.data.classes import ClassTable
from napari_rada.errors import InputError
from napari_rada.io import check_same_grid, read_volume
from napari_rada.text import parse_yaml, read_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_rada.data.slices import AnnotatedSlice
    from napari_rada.io import Volume

Split: TypeAlias = Literal["reported", "settings"]
PLACE = "{scan}"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CohortSplit(_Frozen):
    """Who teaches and who is tested: scans with a few annotated slices, scans without, scans never seen."""

    train: tuple[str, ...] = Field(min_length=1)
    unlabelled: tuple[str, ...] = ()
    test: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _apart(self) -> CohortSplit:
        if both := sorted(set(self.test) & {*self.train, *self.unlabelled}):
            raise ValueError(f"{both} are both seen in training and in test")
        return self


class Dataset(_Frozen):
    """One set of scans of the same structures."""

    name: str
    image: str
    labels: str
    structures: dict[str, tuple[int, ...]] = Field(min_length=1)
    modality: str = ""
    window: tuple[float, float] | None = None
    settings: tuple[str, ...] = ()
    reported: tuple[str, ...] = ()
    cohort: CohortSplit | None = None

    @model_validator(mode="after")
    def _sound(self) -> Dataset:
        for field in ("image", "labels"):
            if PLACE not in getattr(self, field):
                raise ValueError(f"{field} must hold {PLACE} where the name of the scan goes")
        if both := sorted(set(self.settings) & set(self.reported)):
            raise ValueError(f"{both} are both for choosing settings and for reporting")
        return self

    @property
    def classes(self) -> ClassTable:
        """Background, and the structures in their order as 1, 2, …."""
        names = dict(enumerate(self.structures, start=1))
        return ClassTable.from_values(names, names)

    def scans(self, split: Split, limit: int | None = None) -> tuple[str, ...]:
        """Return the names of a split, at most `limit`."""
        chosen = self.reported if split == "reported" else self.settings
        return chosen[:limit]


@dataclass(frozen=True, eq=False)
class DenseScan:
    """A scan whose structures are labelled everywhere.

    Parameters
    ----------
    name
        Of the scan in its data set.
    image
        As read.
    labels
        (z, y, x) label values of `classes`; None if the scan has none.
    classes
        Of the data set.
    """

    name: str
    image: Volume
    labels: NDArray[np.uint16] | None
    classes: ClassTable

    def case(self, slices: Sequence[AnnotatedSlice] = ()) -> Case:
        """Make the case of a person who annotated these slices and nothing else."""
        labels = self.labels if slices else None
        return Case.create(
            self.image.array,
            labels,
            slices=slices or None,
            grid=self.image.grid,
            classes=self.classes if slices else None,
            name=self.name,
            non_finite="replace",
            source=self.image.path,
        )


@dataclass(frozen=True)
class Collection:
    """Data sets and the folder that their paths start from.

    Parameters
    ----------
    root_name
        Stands for the root where results are told apart, if the folder moves with the results; its path by default.
    """

    datasets: tuple[Dataset, ...]
    root: Path
    root_name: str | None = None

    def chosen(self, names: Sequence[str]) -> Collection:
        """Return only the named data sets; all if none is named.

        Raises
        ------
        InputError
            If there is no such data set.
        """
        known = {dataset.name: dataset for dataset in self.datasets}
        if missing := [name for name in names if name not in known]:
            raise InputError(f"There is no data set {', '.join(missing)}; choose among {', '.join(known)}.")
        return replace(self, datasets=tuple(known[name] for name in names) or self.datasets)

    def describe(self, dataset: Dataset) -> dict[str, object]:
        """Return, in plain data, what decides which scans and structures are meant."""
        described = dataset.model_dump(mode="json", include={"name", "image", "labels", "structures", "window"})
        return {"dataset": described, "root": self.root_name or str(self.root.resolve())}

    def content(self, dataset: Dataset, scan: str) -> str | None:
        """Return a short hash of a scan's files, image and labels; None if one cannot be read."""
        digest = hashlib.sha256()
        try:
            for pattern in (dataset.image, dataset.labels):
                digest.update((self.root / pattern.replace(PLACE, scan)).read_bytes())
        except OSError:
            return None
        return digest.hexdigest()[:16]

    def load(self, dataset: Dataset, scan: str, *, labelled: bool = True) -> DenseScan:
        """Read a scan, with its labels brought to the classes of the data set.

        Raises
        ------
        InputError
            If a file is missing or damaged, or the two do not fit.
        """
        image = read_volume(self.root / dataset.image.replace(PLACE, scan))
        if not labelled:
            return DenseScan(scan, image, None, dataset.classes)
        labels = read_volume(self.root / dataset.labels.replace(PLACE, scan))
        check_same_grid(labels, image)
        merged = np.zeros(labels.array.shape, dtype=np.uint16)
        for value, found in enumerate(dataset.structures.values(), start=1):
            merged[np.isin(labels.array, found)] = value
        return DenseScan(scan, image, merged, dataset.classes)


def load_datasets(file: Path | str, root: Path | str | None = None) -> Collection:
    """Read a datasets file.

    Parameters
    ----------
    root
        Folder that the paths start from; by default the one that holds the file.

    Raises
    ------
    InputError
        If the file cannot be read or a data set is wrong.
    """
    file = Path(file)
    try:
        raw = parse_yaml(read_text(file))
        listed = raw.get("datasets") if isinstance(raw, dict) else None
        if not isinstance(listed, list):
            raise ValueError("it has none" if raw else "it is empty")
        datasets = tuple(Dataset.model_validate(entry) for entry in listed)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{file}: {where or 'data set'}: {first['msg'].removeprefix('Value error, ')}.") from None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"{file} is no readable file of data sets ({reason}); it needs a list called datasets."
        ) from None
    names = [dataset.name for dataset in datasets]
    if len(set(names)) < len(names) or not names:
        raise InputError(f"{file}: {len(names)} data sets are listed; each needs a name of its own, and one is needed.")
    return Collection(datasets, Path(root) if root is not None else file.parent)
