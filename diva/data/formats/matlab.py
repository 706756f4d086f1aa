"""Variables of .mat files of version 5, only those asked for; what is not a plain array of numbers or texts is refused unread."""

from __future__ import annotations

import math
import os
import struct
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from diva.data import archives
from diva.data.archives.streams import BLOCK
from diva.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy

_HEADER: Final = 128  # bytes
_COMPRESSED: Final = 15  # kind of an element
_NUMBERS = frozenset(
    ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "single", "double", "logical"]
)


def load(
    file: Path | IO[bytes],
    wanted: Mapping[str, str],
    name: str | None = None,
    limits: archives.Limits = archives.LIMITS,
) -> dict[str, numpy.ndarray]:
    """The wanted variables. A variable's kind is its MATLAB class ("uint8", "cell"), or "" for any numbers.

    The list of variables is read first: objects, functions and structures are refused before their content is read, and so
    is a file that unpacks to more than an archive of its size may.
    """
    if isinstance(file, Path):
        with file.open("rb") as opened:
            return load(opened, wanted, name or file.name, limits)
    from scipy import io

    name = name or str(getattr(file, "name", "the file")).rpartition("/")[2]
    n_bytes = _unpacked_bytes(file, name, limits)
    try:
        file.seek(0)
        there = {variable: (shape, kind) for variable, shape, kind in io.whosmat(file)}
        for variable, kind in wanted.items():
            if variable not in there:
                raise DataError(f"{name}: has no variable {variable}; it has {', '.join(sorted(there)) or 'none'}")
            shape, found = there[variable]
            if found != kind if kind else found not in _NUMBERS:
                raise DataError(f"{name}: {variable} is of type {found}; expected {kind or 'numbers'}. It is not read")
            if math.prod(shape) > n_bytes:
                raise DataError(
                    f"{name}: {variable} is to have {math.prod(shape):,} values in {n_bytes:,} bytes. It is not read"
                )
        file.seek(0)
        return dict(io.loadmat(file, variable_names=list(wanted), chars_as_strings=True))
    except DataError:
        raise
    except Exception as error:  # a damaged file fails in scipy in any of a dozen ways
        raise DataError(
            f"{name}: cannot be read as a .mat file of version 5 ({error}). Delete it and download it again"
        ) from None


def _unpacked_bytes(file: IO[bytes], name: str, limits: archives.Limits) -> int:
    """Bytes of a file with its compressed elements unpacked, which are counted and not kept; DataError when they are too many.

    What their headers say of themselves is not believed. A file that is no .mat file of version 5 is left to its reader.
    """
    size = file.seek(0, os.SEEK_END)
    most = limits.total_bytes(size)
    file.seek(_HEADER - 2)
    order = "<" if file.read(2) == b"IM" else ">"
    total, place = size, _HEADER
    while place + 8 <= size:
        file.seek(place)
        kind, length = struct.unpack(f"{order}II", file.read(8))
        if kind == _COMPRESSED:
            for n_bytes in _unpacked(file, length):
                total += n_bytes
                if total > most:
                    raise DataError(
                        f"{name}: unpacks to more than {most:,} bytes, too many for a file of {size:,}: it is not read"
                    )
        place += 8 + length
    return total


def _unpacked(file: IO[bytes], length: int) -> Iterator[int]:
    """The sizes of the pieces that the next `length` bytes unpack to, as far as they are sound."""
    unpacker = zlib.decompressobj()
    try:
        while length > 0 and (packed := file.read(min(length, BLOCK))):
            length -= len(packed)
            while packed:
                yield len(unpacker.decompress(packed, BLOCK))
                packed = unpacker.unconsumed_tail
        while piece := unpacker.decompress(unpacker.unconsumed_tail, BLOCK):
            yield len(piece)
    except zlib.error:
        return
