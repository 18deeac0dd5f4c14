"""Colours for what Qt's style sheet does not reach, taken from napari's theme."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari.utils.theme import get_theme

if TYPE_CHECKING:
    from qtpy.QtWidgets import QPushButton

NETWORK_COLOURS = {"dark": ("#f5a742", "#5ab4f0", "#3fcf9f"), "light": ("#b96a00", "#0f6cb3", "#00805a")}
"""One colour per network, told apart by people with colour vision deficiencies (after Okabe and Ito)."""
SMALL = ("QTableView", "QHeaderView", "QToolButton", "QLineEdit", "QPlainTextEdit")
"""What napari's style leaves in the size of the desktop, whatever size is set in its preferences."""
READABLE = 4.5
"""Contrast that text of usual size needs at the least (Web Content Accessibility Guidelines 2.2, level AA)."""


@dataclass(frozen=True)
class Colours:
    """Colours as `#rrggbb`."""

    background: str
    text: str
    muted: str
    line: str
    accent: str
    warning: str
    error: str
    networks: tuple[str, ...]


def colours_of(theme_name: str) -> Colours:
    """Return the colours that go with a napari theme."""
    theme = get_theme(theme_name)
    background, text = theme.background.as_rgb_tuple(), theme.text.as_rgb_tuple()
    return Colours(
        background=_hex(background),
        text=_hex(text),
        muted=_mix(background, text, 0.65),
        line=_mix(background, text, 0.25),
        accent=_hex(theme.current.as_rgb_tuple()),
        warning=_readable(background, text, theme.warning.as_rgb_tuple()),
        error=_readable(background, text, theme.error.as_rgb_tuple()),
        networks=NETWORK_COLOURS["dark" if sum(text[:3]) > sum(background[:3]) else "light"],
    )


def emphasise(button: QPushButton, colours: Colours) -> None:
    """Give the one button that moves the work on the theme's accent colour while it can be pressed."""
    button.setStyleSheet(f"QPushButton:enabled {{ background-color: {colours.accent} }}")


def text_size(points: int) -> str:
    """Return the style sheet that takes the size set in napari's preferences to what napari's leaves out."""
    return f"{', '.join(SMALL)} {{ font-size: {points}pt }}\n"


def contrast(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """Contrast of two colours with channels in 0..255, from 1 to 21 (Web Content Accessibility Guidelines 2.2)."""
    lighter, darker = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: tuple[float, ...]) -> float:
    parts = (channel / 255 for channel in colour[:3])
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _readable(background: tuple[float, ...], text: tuple[float, ...], colour: tuple[float, ...]) -> str:
    """Mix as much of a colour into that of text as can be read on the background."""
    shares = [share / 20 for share in range(15, -1, -1)]
    mixed = (_blend(text, colour, share) for share in shares)
    return _hex(next((one for one in mixed if contrast(one, background) >= READABLE), text))


def _hex(colour: tuple[float, ...]) -> str:
    red, green, blue = (round(channel) for channel in colour[:3])
    return f"#{red:02x}{green:02x}{blue:02x}"


def _mix(first: tuple[float, ...], second: tuple[float, ...], share: float) -> str:
    return _hex(_blend(first, second, share))


def _blend(first: tuple[float, ...], second: tuple[float, ...], share: float) -> tuple[float, ...]:
    return tuple(a * (1 - share) + b * share for a, b in zip(first[:3], second[:3], strict=True))
