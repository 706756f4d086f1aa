"""Errors that a user can act on: one class, one exit code, one message: what, where, what is allowed, what next."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class DivaError(Exception):
    """The run failed (exit 1). The base of all errors that are shown without a traceback."""

    exit_code = 1


class UsageError(DivaError):
    """The command line or a configuration file asks for something that does not exist (exit 2)."""

    exit_code = 2


class SourceError(DivaError):
    """The working tree was refused by the `--code` policy (exit 3)."""

    exit_code = 3


class DataError(DivaError):
    """The data are missing, unreadable or not what they were (exit 4)."""

    exit_code = 4


class RecordError(DivaError):
    """A run's record is incomplete or was altered (exit 4)."""

    exit_code = 4


class NotReproducedError(DivaError):
    """A run was repeated and its bits differ (exit 5)."""

    exit_code = 5


class KernelError(DivaError):
    """An operator has no deterministic kernel (exit 6)."""

    exit_code = 6


def place_of(error: BaseException) -> str:
    """File and line of the innermost frame of an error that is not in an installed library: the user's, most likely."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename and not frame.filename.startswith("<")]
    chosen = (own or list(frames))[-1:]
    return f"{chosen[0].filename}:{chosen[0].lineno}" if chosen else "no place known"


def nearest(name: str, allowed: Iterable[str]) -> str:
    """The end of a message about an unknown name: the closest allowed one, or all of them when none is close."""
    choices = sorted(allowed)
    close = get_close_matches(name, choices, n=1)
    return f"did you mean {close[0]}?" if close else f"allowed: {', '.join(choices)}"
