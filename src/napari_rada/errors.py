"""Errors meant for the person using the program.

Every message says what was found, what is needed and what to do. Anything else that is raised is a bug of ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class RadaError(ValueError):
    """Base of all errors that a user can cause and mend."""


class InputError(RadaError):
    """An image, a label volume, a slice list or a path cannot be used as given."""


class ConfigError(RadaError):
    """A setting is unknown, out of range or contradicts another one."""


class RunFolderError(RadaError):
    """A run folder is missing, incomplete, or belongs to other data."""


class MissingDependencyError(RadaError):
    """An optional package is needed for what was asked."""


class WeightsError(RadaError):
    """A file of published weights is missing, damaged, unknown or out of reach."""


class NotEnoughMemoryError(RadaError):
    """Memory ran out, and nothing is left that would save any."""


class ElsewhereError(RadaError):
    """Another process of the same job has failed and tells why; nobody needs to hear it twice."""


class LostContactError(RadaError):
    """Another process of the same job is gone without a word."""


class Stopped(Exception):
    """Raised by long computations that end without a result because a stop was requested (`RunControl.stop`).

    No error: window and command line say in a word of their own that it was stopped, and when if the exception tells
    it. Training that has begun does not raise it, but returns, with `FinishReason.STOPPED`.
    """


def check_choice(what: str, value: object, choices: Sequence[str]) -> None:
    """Raise `InputError` unless a value is one of the words for it."""
    if value not in choices:
        raise InputError(f"There is no choice {value!r} for {what}; use {' or '.join(map(repr, choices))}.")
