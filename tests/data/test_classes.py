"""Class tables: values, indices, names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_rada.data.classes import ClassInfo, ClassTable, label_dtype
from napari_rada.errors import InputError

values = st.lists(st.integers(1, 65535), unique=True, max_size=12)


@given(values, st.data())
def test_encoding_and_decoding_are_inverse(foreground: list[int], data: st.DataObject) -> None:
    table = ClassTable(tuple(ClassInfo(value, str(value)) for value in (0, *foreground)))
    labels = np.array(data.draw(st.lists(st.sampled_from(table.values), min_size=1)))
    index = table.encode(labels)
    assert index.max() < len(table)
    np.testing.assert_array_equal(table.decode(index), labels)


def test_table_from_values() -> None:
    table = ClassTable.from_values(np.array([7, 0, 3], dtype=np.uint8), {3: "liver"})
    assert table.classes == (ClassInfo(0, "background"), ClassInfo(3, "liver"), ClassInfo(7, "label 7"))
    assert table.dtype == np.uint8
    assert len(table) == 3


def test_background_is_always_there() -> None:
    assert ClassTable.from_values([5]).values == (0, 5)


def test_dtype_grows_with_the_values() -> None:
    assert ClassTable.from_values([256]).dtype == np.uint16


def test_unknown_values_are_refused() -> None:
    with pytest.raises(InputError, match=r"hold the values \[2, 9\], but the classes are \[0, 1\]"):
        ClassTable.from_values([1]).encode(np.array([0, 1, 9, 2]))


def test_many_values_are_named_by_the_first() -> None:
    with pytest.raises(InputError, match=r"values \[2, 3, .*, 13 and 487 more\], but the classes are \[0, 1\]"):
        ClassTable.from_values([1]).encode(np.arange(501))


@pytest.mark.parametrize("value", [1.5, float("nan"), "1"])
def test_values_that_are_no_whole_numbers_are_refused(value: Any) -> None:
    with pytest.raises(InputError, match=r"^Class values must be whole numbers; found \["):
        ClassTable.from_values([value])
    assert ClassTable.from_values([np.float32(1.0)]).values == (0, 1)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ((), r"must start with background \(value 0\); found values \[\]"),
        ((1, 0), r"must start with background .* \[1, 0\]"),
        ((0, 2, 2), r"must be distinct .* \[0, 2, 2\]"),
        ((0, 65536), r"in 0\.\.65535"),
        ((0, -1), r"in 0\.\.65535"),
    ],
)
def test_impossible_tables_are_refused(table: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ClassTable(tuple(ClassInfo(value, "") for value in table))


def test_classes_of_one_name_are_told_apart() -> None:
    infos = (ClassInfo(0, "background"), ClassInfo(1, "kidney"), ClassInfo(2, "Kidney"), ClassInfo(4, "background"))
    table = ClassTable(infos)
    assert [info.name for info in table.classes] == ["background", "kidney", "Kidney (2)", "background (4)"]
    assert table.find("kidney") == 1
    assert table.find("Kidney (2)") == 2
    assert table.find("2") == table.find(2) == table.find(np.uint8(2)) == 2
    assert ClassTable(table.classes) == table


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        ([0, 255], np.uint8),
        ([0, 256], np.uint16),
        ([-1, 3], np.int8),
        ([3_000_000], np.uint32),
        ([-1, 3_000_000], np.int32),
        ([-1, 3_000_000_000], np.int64),
        ([], np.uint8),
    ],
)
def test_every_label_has_room_in_its_type(labels, dtype):
    assert label_dtype(np.array(labels, dtype=np.int64)) == dtype


def test_a_label_beside_others_has_room_in_their_type():
    assert label_dtype(np.array([1, 2]), 300) == np.uint16
