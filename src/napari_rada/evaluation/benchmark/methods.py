"""What a benchmark compares: anything that turns a case with a few annotated slices into a mask."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from napari_rada.events import Listener, ignore

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from napari_rada.control import RunControl
    from napari_rada.data.case import Case


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a method returns.

    Parameters
    ----------
    mask
        (z, y, x) label values on the case's grid.
    parts
        Intermediate masks that are measured as well.
    note
        What guided the networks; empty if nothing did.
    """

    mask: NDArray[np.integer]
    parts: Mapping[str, NDArray[np.integer]] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Conditions:
    """Under which a method works on a scan.

    Parameters
    ----------
    seed
        Of everything random.
    window
        Intensity window of the data set; None for percentiles.
    folder
        Where files may be put meanwhile; None if nothing needs to be kept.
    """

    seed: int = 0
    window: tuple[float, float] | None = None
    folder: Path | None = None


class Method(Protocol):
    """One way from a few annotated slices to a mask."""

    @property
    def name(self) -> str:
        """As it was asked for."""
        ...

    @property
    def seeded(self) -> bool:
        """False if every seed gives the same mask."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return, in plain data, everything that determines the result apart from case and conditions."""
        ...

    def check(self) -> None:
        """Import what is needed, before any clock runs.

        Raises
        ------
        ConfigError, MissingDependencyError
            If the device or a package is not here.
        """
        ...

    def segment(
        self, case: Case, conditions: Conditions, *, control: RunControl, listener: Listener = ignore
    ) -> Segmentation:
        """Segment one case.

        Raises
        ------
        RadaError
            If the method cannot do this case.
        Stopped
            If a stop was requested.
        """
        ...
