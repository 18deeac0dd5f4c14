"""Who is trained on and who is tested: lists in the data, else the lineage's names, else folders, else sorted order."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from napari_rada.errors import InputError
from napari_rada.evaluation.benchmark.datasets import CohortSplit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_rada.evaluation.protocols.definitions import ProtocolDefinition
    from napari_rada.evaluation.protocols.sources import Source

LIST_NAMES = ("train", "test")


class ChosenSplit(NamedTuple):
    """The split, and in one sentence where it comes from."""

    split: CohortSplit
    origin: str


def choose_split(sources: Sequence[Source], definition: ProtocolDefinition, lists: Path) -> ChosenSplit:
    """Divide the scans of a data set.

    The labelled scans are the first ones of the training list (lineage).

    Parameters
    ----------
    sources
        All scans, sorted.
    lists
        Folder that may hold ``train.list`` and ``test.list`` (or ``.txt``), one name a line.

    Raises
    ------
    InputError
        If the lists name a scan that is not there, or one more than once, or there are too few scans.
    """
    train, test, origin = _divided(sources, definition, lists)
    with_labels = {source.name for source in sources if source.labels is not None}
    missing = [name for name in (*train, *test) if name not in {source.name for source in sources}]
    if missing:
        raise InputError(f"{lists}: the lists name {missing[0]}, which is not among the scans; check the data folder.")
    test = [name for name in test if name in with_labels]
    labelled = _labelled(sources, train, definition)
    if not labelled or not test:
        raise InputError(
            f"{len(sources)} scans were found, {len(labelled)} with labels to train on and {len(test)} to test on; "
            "at least one of each is needed."
        )
    rest = tuple(name for name in train if name not in labelled)
    split = CohortSplit(train=tuple(labelled), unlabelled=rest, test=tuple(test))
    counts = f"{len(labelled)} labelled, {len(rest)} unlabelled and {len(test)} test scans, {origin}"
    whole = (definition.labelled, definition.train - definition.labelled, definition.test)
    if (len(labelled), len(rest), len(test)) != whole:
        counts += (
            f"; the protocol has {whole[0]}, {whole[1]} and {whole[2]}, so figures are not comparable with the paper's"
        )
    return ChosenSplit(split, counts + ".")


def _divided(
    sources: Sequence[Source], definition: ProtocolDefinition, lists: Path
) -> tuple[list[str], list[str], str]:
    names = [source.name for source in sources]
    files = {name: path for name in LIST_NAMES if (path := _list_file(lists, name)) is not None}
    if len(files) == len(LIST_NAMES):
        train, test = (_read(files[name]) for name in LIST_NAMES)
        if both := [name for name in train if name in test]:
            raise InputError(
                f"{files['train']} and {files['test']} both name {both[0]}; a scan is trained on or tested: take it "
                "out of one of them."
            )
        return train, test, f"as listed in {lists}"
    if definition.test_names <= set(names) and definition.test_names:
        test = [name for name in names if name in definition.test_names]
        return [name for name in names if name not in definition.test_names], test, "the lineage's"
    if any(source.role == "test" for source in sources):
        train = [source.name for source in sources if source.role != "test"]
        return train, [source.name for source in sources if source.role == "test"], "by their folders"
    whole = definition.train + definition.test
    tested = definition.test if len(names) >= whole else max(1, round(len(names) * definition.test / whole))
    return names[:-tested][: definition.train], names[-tested:], "in sorted order"


def _labelled(sources: Sequence[Source], train: Sequence[str], definition: ProtocolDefinition) -> list[str]:
    """Return the scans that teach: those in a folder for them, or the first of the list, as many as the protocol has.

    Of a smaller set its share is taken.
    """
    said = [source.name for source in sources if source.role == "labelled" and source.labels is not None]
    if said and set(said) <= set(train):
        return said[: definition.labelled]
    whole = len(train) >= definition.train
    count = definition.labelled if whole else max(1, round(len(train) * definition.labelled / definition.train))
    with_labels = {source.name for source in sources if source.labels is not None}
    return [name for name in train if name in with_labels][:count]


def _list_file(folder: Path, name: str) -> Path | None:
    return next((path for suffix in (".list", ".txt") if (path := folder / f"{name}{suffix}").is_file()), None)


def _read(path: Path) -> list[str]:
    names = [name for line in path.read_text(encoding="utf-8").splitlines() if (name := line.strip())]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"{path} names {twice[0]} more than once; leave one of these lines.")
    return names
