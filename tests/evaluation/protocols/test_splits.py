from __future__ import annotations

from pathlib import Path

import pytest

from napari_rada.errors import InputError
from napari_rada.evaluation.benchmark.ours import OwnTraining, make_own
from napari_rada.evaluation.protocols.definitions import PROTOCOLS
from napari_rada.evaluation.protocols.run import protocol_settings
from napari_rada.evaluation.protocols.sources import Source
from napari_rada.evaluation.protocols.splits import choose_split

LA, KITS, LITS = (PROTOCOLS[name] for name in ("la2018", "kits19", "lits"))
FILE = Path("x.nii")


def sources(
    names: list[str], unlabelled: frozenset[str] = frozenset(), roles: dict[str, str] | None = None
) -> list[Source]:
    roles = roles or {}
    return [Source(name, FILE, None if name in unlabelled else FILE, roles.get(name, "")) for name in sorted(names)]


def numbered(count: int) -> list[str]:
    return [f"case_{n:05d}" for n in range(count)]


def test_whole_sets_are_divided_as_in_the_paper(tmp_path: Path) -> None:
    for definition in (KITS, LITS):
        names = numbered(definition.train + definition.test)
        split, origin = choose_split(sources(names), definition, tmp_path)
        assert split.train == tuple(names[: definition.labelled])
        assert split.unlabelled == tuple(names[definition.labelled : definition.train])
        assert split.test == tuple(names[-definition.test :])
        assert "not comparable" not in origin


def test_la2018_is_divided_by_the_lineages_names(tmp_path: Path) -> None:
    names = [f"0{n:03d}" for n in range(79)] + ["UZUZZT2W9IUSHL6ASOX3", *LA.test_names]
    split, origin = choose_split(sources(names), LA, tmp_path)
    assert set(split.test) == LA.test_names
    assert len(split.test) == 20
    assert "UZUZZT2W9IUSHL6ASOX3" in split.unlabelled
    assert split.train == tuple(names[:8])
    assert origin == "8 labelled, 72 unlabelled and 20 test scans, the lineage's."


def test_lists_win(tmp_path: Path) -> None:
    (tmp_path / "train.list").write_text("b\nc\n\n")
    (tmp_path / "test.txt").write_text("a\n")
    split, origin = choose_split(sources(list("abcd")), KITS, tmp_path)
    assert (split.train, split.unlabelled, split.test) == (("b",), ("c",), ("a",))
    assert "as listed in" in origin
    (tmp_path / "test.txt").write_text("z\n")
    with pytest.raises(InputError, match="the lists name z"):
        choose_split(sources(list("abcd")), KITS, tmp_path)


def test_lists_that_name_a_scan_more_than_once_are_refused(tmp_path: Path) -> None:
    for train, test, answer in (
        ("a\nb\n", "b\nc\n", r"train.list and .*test.txt both name b; a scan is trained on or tested"),
        ("a\nb\na\n", "c\n", r"train.list names a more than once"),
        ("a\n", "c\nc\n", r"test.txt names c more than once"),
    ):
        (tmp_path / "train.list").write_text(train)
        (tmp_path / "test.txt").write_text(test)
        with pytest.raises(InputError, match=answer):
            choose_split(sources(list("abc")), KITS, tmp_path)


def test_folders_divide_what_has_no_lists(tmp_path: Path) -> None:
    roles = {"a": "labelled", "b": "labelled", "x": "test"}
    split, origin = choose_split(sources(list("abcdx"), frozenset("cd"), roles), LA, tmp_path)
    assert (split.train, split.unlabelled, split.test) == (("a", "b"), ("c", "d"), ("x",))
    assert "by their folders; the protocol has 8, 72 and 20, so figures are not comparable" in origin


def test_a_part_of_a_set_keeps_the_shares(tmp_path: Path) -> None:
    split, origin = choose_split(sources(numbered(42)), KITS, tmp_path)
    assert (len(split.train), len(split.unlabelled), len(split.test)) == (4, 34, 4)
    assert "in sorted order" in origin


def test_too_few_scans_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one of each is needed"):
        choose_split(sources(numbered(1)), KITS, tmp_path)
    with pytest.raises(InputError, match="0 with labels to train on"):
        choose_split(sources(list("abc"), frozenset("ab")), KITS, tmp_path)


def test_the_patch_is_the_papers_unless_it_is_set() -> None:
    for definition, patch in ((LA, (80, 112, 112)), (KITS, (64, 128, 128)), (LITS, (64, 176, 176))):
        method = make_own("paper", protocol_settings(definition))
        assert isinstance(method, OwnTraining)
        assert method.config.training.patch == patch
        assert method.config.training.iterations == 6000
