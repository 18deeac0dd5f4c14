"""The command line: ``napari-rada COMMAND …``.

Exit status: 0 done, 2 bad input (one line on stderr), 3 stopped early (`train --resume` goes on), 141 if whoever read
the output went away. Results go to stdout, progress to stderr. Nothing heavy is imported before a command needs it. Of
several processes that torchrun started for one training, one shows, prints, and says what went wrong in any of them.
"""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING

from napari_rada.cli.jobs import leads, processes, team_for
from napari_rada.cli.parser import make_parser
from napari_rada.errors import ElsewhereError, InputError, RadaError, Stopped

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

DONE, BAD_INPUT, STOPPED, UNREAD = 0, 2, 3, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Parameters
    ----------
    argv
        Arguments without the program's name; those of the process by default.
    """
    _stand_in_for_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # redirected to a file it may not know every letter of a path
            stream.reconfigure(errors="backslashreplace")
    try:
        args = _parsed(argv)
    except RadaError as error:
        return _refuse(str(error)) if leads() else BAD_INPUT
    except OSError as error:
        return _refused_by_system(error)

    from napari_rada.cli.console import Console
    from napari_rada.cli.signals import stop_on_signals
    from napari_rada.control import RunControl
    from napari_rada.memory import shortage_explained

    console, control, when = Console(as_json=args.json, silent=not leads()), RunControl(), ""
    try:
        with stop_on_signals(control, in_a_job=processes() > 1), team_for(args, control) as args.team:
            completed = shortage_explained(args.run)(args, console, control)
    except ElsewhereError:  # the process that failed says so
        console.close()
        return BAD_INPUT
    except RadaError as error:
        console.close()
        return _refuse(str(error))
    except BrokenPipeError as error:
        return _refused_by_system(error)
    except OSError as error:
        console.close()
        return _refused_by_system(error)
    except Stopped as stop:
        completed, when = False, f" {stop}".rstrip()
    console.close()
    if not completed and (leads() or when):
        sys.stderr.write(f"napari-rada: stopped{when}\n")
    return DONE if completed else STOPPED


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the arguments; ``--help`` and ``--version`` are printed to their end, and end the process."""
    _check_no_empty(sys.argv[1:] if argv is None else argv)
    try:
        args = make_parser().parse_args(argv)
    except SystemExit:
        sys.stdout.flush()
        raise
    _check_no_empty(vars(args).values())  # one may be given as --out=
    return args


def _check_no_empty(arguments: Iterable[object]) -> None:
    if "" in arguments:
        raise InputError("An argument is empty, as a variable is that a shell does not know; name what is meant there.")


def _stand_in_for_closed_streams() -> None:
    """Write to nowhere where a shell closed a stream (``>&-``), which Python then has not."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))


def _drop_output() -> None:
    """Let what is not written yet go nowhere, so that nothing is said about it at the end of the process."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())


def _refused_by_system(error: OSError) -> int:
    """Say what the system refuses, but not to a reader that went away, as that of ``napari-rada … | head``."""
    if isinstance(error, BrokenPipeError):
        status = UNREAD
    else:
        where = f"{error.filename}: " if error.filename else ""
        status = _refuse(f"{where}{error.strerror or error}.")
    _drop_output()
    return status


def _refuse(message: str) -> int:
    sys.stderr.write(f"napari-rada: error: {' '.join(message.split())}\n")
    return BAD_INPUT
