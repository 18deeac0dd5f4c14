"""What each protocol fixes. METHOD: the paper's own text; lineage: the code and papers before it; ours: chosen here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_rada.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_rada.data.grid import Shape, Spacing


@dataclass(frozen=True)
class Published:
    """Figures of a paper; None where it gives none."""

    method: str
    dice: float
    jaccard: float | None = None


@dataclass(frozen=True)
class ProtocolDefinition:
    """One data set and how it is used.

    Parameters
    ----------
    name, title
        On the command line, and in tables.
    structures
        Class name and the values in the published labels that count as it.
    train, labelled, test
        Numbers of scans: all that are trained on, those of them with three annotated slices, and those tested.
    patch
        Voxels along (z, y, x).
    window
        Intensity window in HU; None for percentiles.
    resample
        Scans are brought to this spacing, mm along (z, y, x); None keeps their own.
    voxel
        Spacing of files that do not tell theirs.
    test_names
        The scans that the lineage tests on, if they are known by name; otherwise lists in the data, or sorted order.
    published
        The figures to compare with.
    """

    name: str
    title: str
    structures: Mapping[str, tuple[int, ...]]
    train: int
    labelled: int
    test: int
    patch: Shape
    window: tuple[float, float] | None
    resample: Spacing | None
    voxel: Spacing
    test_names: frozenset[str] = frozenset()
    published: tuple[Published, ...] = field(default=())


# The test list that the lineage has used since UA-MT (Yu et al., MICCAI 2019); the other 80 scans, sorted, are trained
# on, and the first eight of them are labelled.
_LA_TEST = frozenset(
    """
    UPT6DX9IQY9JAZ7HJKA7 UTBUJIWZMKP64E3N73YC ULHWPWKKLTE921LQLH1P V0MZOWJ6MU3RMRCV9EXR VDOF02M8ZHEAADFMS6NP
    VG4C826RAAKVMV9BQLVD VIXBEFTNVHZWKAKURJBN VQ2L3WM8KEVF6L44E6G9 WBG9WYZ1B25WDT5WAT8T WMDG2EFA6L2SNDZXIRU0
    WNPKE0W404QE9AELX1LR WSJB9P4JCXUVHBOYFVWL WW8F5CO4S4K5IM5Z7EXX X18LU5AOBNNDMLTA0JZL XYDLYJ5CS19FDBVLJIPI
    Y7ZU0B2APPF54WG6PDMF YDKD1HVHSME6NVMA8I39 Z9GMG63CJLL0VW893BB1 ZIJLJAVQV3FJ6JSQOH1E ZQPMJ4XEC5A4BISD45P1
    """.split()
)
_ABDOMEN = (-125.0, 275.0)  # ours: the paper's window is not known to us

PROTOCOLS = {
    definition.name: definition
    for definition in (
        ProtocolDefinition(
            name="la2018",
            title="LA2018 left atrium",
            structures={"left atrium": (1, 255)},
            train=80,
            labelled=8,
            test=20,
            patch=(80, 112, 112),
            window=None,
            resample=None,
            voxel=(0.625, 0.625, 0.625),
            test_names=_LA_TEST,
            published=(Published("RADA (paper)", 0.8652, 0.7634), Published("SGTC (paper)", 0.8429)),
        ),
        ProtocolDefinition(
            name="kits19",
            title="KiTS19 kidney",
            structures={"kidney": (1, 2)},
            train=190,
            labelled=19,
            test=20,
            patch=(64, 128, 128),
            window=_ABDOMEN,
            resample=(1.0, 1.0, 1.0),
            voxel=(1.0, 1.0, 1.0),
            published=(Published("RADA (paper)", 0.9448),),
        ),
        ProtocolDefinition(
            name="lits",
            title="LiTS liver",
            structures={"liver": (1, 2)},
            train=100,
            labelled=10,
            test=31,
            patch=(64, 176, 176),
            window=_ABDOMEN,
            resample=(1.0, 1.0, 1.0),
            voxel=(1.0, 1.0, 1.0),
            published=(Published("RADA (paper)", 0.9363),),
        ),
    )
}


def protocol(name: str) -> ProtocolDefinition:
    """Return a protocol by its name.

    Raises
    ------
    InputError
        If there is none.
    """
    if name not in PROTOCOLS:
        raise InputError(f"There is no protocol {name}; choose among {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]
