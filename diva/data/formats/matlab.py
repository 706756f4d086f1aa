"""Variables of .mat files of version 5, only those asked for; what is not a plain array of numbers or texts is refused unread."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

from diva.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy

_NUMBERS = frozenset(
    ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "single", "double", "logical"]
)


def load(file: Path | IO[bytes], wanted: Mapping[str, str], name: str | None = None) -> dict[str, numpy.ndarray]:
    """The wanted variables. A variable's kind is its MATLAB class ("uint8", "cell"), or "" for any numbers.

    The list of variables is read first: objects, functions and structures are refused before their content is read.
    """
    from scipy import io

    name = name or getattr(file, "name", str(file)).rpartition("/")[2]
    source: Any = str(file) if hasattr(file, "parts") else file
    try:
        there = {variable: kind for variable, _, kind in io.whosmat(source)}
        for variable, kind in wanted.items():
            if variable not in there:
                raise DataError(f"{name}: has no variable {variable}; it has {', '.join(sorted(there)) or 'none'}")
            found = there[variable]
            if found != kind if kind else found not in _NUMBERS:
                raise DataError(f"{name}: {variable} is of type {found}; expected {kind or 'numbers'}. It is not read")
        if not isinstance(source, str):
            source.seek(0)
        return dict(io.loadmat(source, variable_names=list(wanted), chars_as_strings=True))
    except DataError:
        raise
    except Exception as error:  # a damaged file fails in scipy in any of a dozen ways
        raise DataError(
            f"{name}: cannot be read as a .mat file of version 5 ({error}). Delete it and download it again"
        ) from None
