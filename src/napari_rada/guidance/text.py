"""Text prompts: what CLIP is told about every class."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_rada.data.classes import ClassInfo
    from napari_rada.settings import GuidanceConfig

UNTOLD = re.compile(r"(label|class|segment|region|structure)?[\s_-]*\d*", re.IGNORECASE)
"""Names that say nothing about what the class is."""

ORGANS = {
    "left atrium": ("la", "atrium", "left atrial cavity", "lac"),
    "right atrium": ("ra",),
    "left ventricle": ("lv", "left ventricular cavity"),
    "right ventricle": ("rv", "right ventricular cavity"),
    "left ventricular myocardium": ("myo", "myocardium", "lvm"),
    "aorta": ("ao",),
    "inferior vena cava": ("ivc", "postcava"),
    "portal vein and splenic vein": ("pv", "portal vein", "veins"),
    "liver": ("li",),
    "liver tumor": ("liver lesion", "hepatic tumor", "hepatic lesion", "hcc"),
    "spleen": ("spl",),
    "pancreas": ("panc",),
    "stomach": ("sto",),
    "gallbladder": ("gb", "gall bladder"),
    "oesophagus": ("esophagus", "eso"),
    "duodenum": ("duo",),
    "colon": ("large intestine",),
    "urinary bladder": ("bladder",),
    "prostate": ("prostate gland",),
    "left kidney": ("lk", "kidney left", "l kidney"),
    "right kidney": ("rk", "kidney right", "r kidney"),
    "kidney": ("kidneys",),
    "kidney tumor": ("renal tumor", "kidney lesion", "renal mass"),
    "left adrenal gland": ("lag", "adrenal gland left"),
    "right adrenal gland": ("rag", "adrenal gland right"),
    "left lung": ("lung left", "l lung"),
    "right lung": ("lung right", "r lung"),
    "lung": ("lungs",),
    "lung nodule": ("nodule",),
    "trachea": (),
    "heart": ("whole heart",),
    "anterior hippocampus": ("hippocampus head",),
    "posterior hippocampus": ("hippocampus body and tail",),
    "hippocampus": (),
    "brain": ("whole brain",),
    "brain tumor": ("glioma", "tumor core"),
    "white matter": ("wm",),
    "grey matter": ("gray matter", "gm"),
    "vertebra": ("vertebrae",),
    "spinal cord": ("cord",),
    "femur": (),
    "tumor": ("tumour", "lesion", "mass"),
}
"""Names as radiology writes them, and how labellings abbreviate them."""

_BY_NAME = {alias: organ for organ, aliases in ORGANS.items() for alias in (organ, *aliases)}


def suggest_name(name: str) -> str | None:
    """Return the full name of an organ for a common name or abbreviation, or None if it is not known."""
    return _BY_NAME.get(" ".join(re.split(r"[\s_-]+", name.strip().lower())))


def says_nothing(name: str) -> bool:
    """Tell whether a class's name, like `label 3`, holds nothing that a text encoder could use."""
    return UNTOLD.fullmatch(name.strip()) is not None


def text_prompts(info: ClassInfo, config: GuidanceConfig) -> tuple[str, ...]:
    """Return the prompts of a class; their features are averaged.

    The setting's own prompt wins over that of the class table, and both over the templates, which are filled with the
    organ's full name, or the name as it is.
    """
    own = config.prompts.get(info.value, "").strip() or info.prompt.strip()
    if own:
        return (own,)
    if says_nothing(info.name):
        return ()
    name = suggest_name(info.name) or info.name
    return tuple(template.replace("{name}", name) for template in config.templates)
