import pytest

from napari_rada.data.classes import ClassInfo
from napari_rada.guidance.text import ORGANS, says_nothing, suggest_name, text_prompts
from napari_rada.settings import GuidanceConfig

LINEAGE = "An image containing the {}, with the rest being background"


@pytest.mark.parametrize(
    ("name", "organ"),
    [("LA", "left atrium"), ("Left_Atrium", "left atrium"), ("kidney-left", "left kidney"), ("GB", "gallbladder")],
)
def test_common_names_are_suggested_in_full(name, organ):
    assert suggest_name(name) == organ
    assert text_prompts(ClassInfo(1, name), GuidanceConfig()) == (LINEAGE.format(organ),)


def test_no_name_stands_for_two_organs():
    names = [name for organ, aliases in ORGANS.items() for name in (organ, *aliases)]
    assert len(names) == len(set(names))


def test_other_names_are_taken_as_they_are():
    assert suggest_name("cyst wall") is None
    assert text_prompts(ClassInfo(1, "cyst wall"), GuidanceConfig()) == (LINEAGE.format("cyst wall"),)


def test_own_prompts_win_over_templates_and_settings_over_the_class_table():
    info = ClassInfo(3, "la", "There is a kidney in this computerized tomography")
    assert text_prompts(info, GuidanceConfig()) == (info.prompt,)
    assert text_prompts(info, GuidanceConfig(prompts={3: "mine"})) == ("mine",)
    assert text_prompts(info, GuidanceConfig(prompts={2: "not mine"})) == (info.prompt,)


def test_every_template_is_filled():
    config = GuidanceConfig(templates=("a {name}", "{name} in a scan of {name}"))
    assert text_prompts(ClassInfo(1, "spleen"), config) == ("a spleen", "spleen in a scan of spleen")


@pytest.mark.parametrize("name", ["label 1", "Label_12", "3", "class", "segment 2", ""])
def test_names_that_say_nothing_make_no_prompt(name):
    assert says_nothing(name)
    assert text_prompts(ClassInfo(1, name), GuidanceConfig()) == ()


def test_names_that_say_something_do():
    assert not says_nothing("label of the cyst")
    assert not says_nothing("spleen")
