"""What is told of a setting that cannot be used."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError

from napari_rada.setting_errors import told
from napari_rada.settings import Group


class Wide(Group):
    """A member of a union."""

    kind: Literal["wide"] = "wide"
    width: int = Field(3, gt=0, lt=10)


class Tall(Group):
    """Another."""

    kind: Literal["tall"] = "tall"
    heights: tuple[float, ...] = Field((1.0,), min_length=1)


class Shape(Group):
    """What holds one of them."""

    form: Annotated[Wide | Tall, Field(discriminator="kind")] = Wide()
    colour: Literal["red", "blue"] | None = None
    edges: tuple[int, int] = (1, 2)
    name: str = ""
    when: bytes = b""


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ({"form": {"kind": "wide", "width": 0}}, "Setting form.width must be more than 0, found 0."),
        ({"form": {"kind": "wide", "width": 10}}, "Setting form.width must be less than 10, found 10."),
        ({"form": {"kind": "wide", "widht": 3}}, "There is no setting form.widht; form.width may be meant."),
        ({"form": {"kind": "tall", "heights": []}}, "Setting form.heights must be longer, found []."),
        ({"form": {"kind": "flat"}}, "Setting form.kind must be one of 'wide', 'tall', found 'flat'."),
        ({"heights": [1]}, "There is no setting heights; form.heights may be meant."),
        ({"weight": 1}, "There is no setting weight."),
        ({"colour": "green"}, "Setting colour must be one of 'red' or 'blue', found 'green'."),
        ({"edges": [1]}, "Setting edges must be longer, found [1]."),
        ({"edges": [1, None]}, "Setting edges.1 must be a whole number, found nothing."),
        ({"name": 3}, "Setting name must be text, found 3."),
        ({"when": 3}, "Setting when: Input should be a valid bytes (found 3)."),
        ([], "Settings must be a mapping of names to values, found []."),
        ({"name": ["long"] * 40}, "Setting name must be text, found ['long', 'long', 'long', 'long', 'long', 'long',"),
    ],
)
def test_the_first_setting_that_is_wrong_is_told_in_one_sentence(found: Any, sentence: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Shape.model_validate(found)

    assert told(raised.value, Shape).startswith(sentence)
