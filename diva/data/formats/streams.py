"""What the readers share: bytes of official files, read exactly, so that a short or damaged file is named and never half a data set."""

from __future__ import annotations

import gzip
import io
import tempfile
import zlib
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

import numpy

from diva.data import archives
from diva.data.formats import Key
from diva.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from diva.data.catalogue import Card

BLOCK = 10_000  # samples to a block at most: enough to share out between processes, small enough to hold two


class Source:
    """Bytes of one file, gzip or not, of `size` bytes as it lies there; it says where it is when they do not suffice.

    A gzip may unpack to no more than any archive of its size.
    """

    def __init__(self, stream: io.BufferedReader, name: str, size: int) -> None:
        self.name, self.offset = name, 0
        self._stream: IO[bytes] = stream
        self._most = size
        if stream.peek(2)[:2] == b"\x1f\x8b":
            self._stream = gzip.GzipFile(fileobj=stream)  # type: ignore[assignment]
            self._most = archives.LIMITS.total_bytes(size)

    def take(self, n: int) -> bytes:
        """The next n bytes, exactly; memory is not asked for more than the file can hold."""
        if self.offset + n > self._most:
            raise DataError(
                f"{self.name}: {n:,} bytes must come behind byte {self.offset}, more than a file of its size may hold "
                f"({self._most:,}); it is damaged, cut off, or made to fill the memory. Delete it and download it again"
            )
        found = self._read(n)
        if len(found) < n:
            raise DataError(
                f"{self.name}: ends at byte {self.offset} where {n - len(found)} more must come; "
                "it is damaged or was cut off. Delete it and download it again"
            )
        return found

    def end(self) -> None:
        """Nothing may follow."""
        if self._read(1):
            raise DataError(
                f"{self.name}: goes on behind byte {self.offset - 1}, where its header says that it ends; "
                "it is damaged, or not the file that the card describes"
            )

    def _read(self, n: int) -> bytes:
        try:
            found = self._stream.read(n)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(
                f"{self.name}: damaged behind byte {self.offset} ({error}). Delete it and download it again"
            ) from None
        self.offset += len(found)
        return found


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """A local file as a source of bytes."""
    with path.open("rb") as stream:
        yield Source(stream, path.name, path.stat().st_size)


def pixels(content: bytes, shape: tuple[int, ...]) -> numpy.ndarray:
    """Bytes as uint8 of this shape; nothing is copied."""
    return numpy.frombuffer(content, numpy.uint8).reshape(shape)


def by_split(files: Mapping[str, Path], card: Card) -> dict[str, list[Path]]:
    """The local files of each split that is there, in the card's order; DataError when one of a split is missing."""
    found: dict[str, list[Path]] = {}
    for source in card.files:
        if source.split is None:
            continue
        if source.name in files:
            found.setdefault(source.split, []).append(files[source.name])
        elif not source.optional:
            raise missing(card, source.name)
    return found


def only(files: Mapping[str, Path], card: Card, name: str | None = None) -> Path:
    """The one file of a card, or the one of this name."""
    wanted = name or card.files[0].name
    if wanted not in files:
        raise missing(card, wanted)
    return files[wanted]


def missing(card: Card, name: str) -> DataError:
    """The error for a file that the reader was not given."""
    return DataError(f"{card.name}: the file {name} is missing; download it again, or give it with --from")


def option(card: Card, name: str, kind: type, default: Any) -> Any:
    """An option of the reader in a card; DataError when it is of another type."""
    value = card.options.get(name, default)
    if not isinstance(value, kind):
        raise DataError(f"{card.name}: option {name!r} is {value!r} in the card; expected {kind.__name__}")
    return value


def texts(card: Card, name: str) -> list[str]:
    """An option that is a list of names; DataError when it holds anything else."""
    values: list[str] = option(card, name, list, [])
    if not all(isinstance(value, str) for value in values):
        raise DataError(f"{card.name}: option {name!r} is {values!r} in the card; expected a list of texts")
    return values


def by_key(found: Iterable[tuple[Key, str]], archive: Path | str) -> dict[Key, str]:
    """Members by what they become; DataError names two that would become the same, of which one would be lost."""
    members: dict[Key, str] = {}
    for key, member in found:
        if members.setdefault(key, member) != member:
            raise DataError(
                f"{archive if isinstance(archive, str) else archive.name}: {members[key]} and {member} would both become {key}, "
                "and one of them would be lost; rename one, or leave one out"
            )
    return members


@contextmanager
def unpacked(archive: Path, member: str) -> Iterator[Path]:
    """An archive that lies inside another one, as a file of its own for as long as it is read.

    What is read from it must be passed on as `Text`: afterwards the file is gone.
    """
    with tempfile.TemporaryDirectory(prefix="diva-") as place:
        path = Path(place) / PurePosixPath(member).name
        archives.extract(archive, {member: [path]})
        yield path


def one(names: Iterable[str], wanted: Callable[[str], bool], archive: Path, what: str) -> str:
    """The one member that is wanted; DataError when there is none, or more than one."""
    found = [name for name in names if wanted(name)]
    if len(found) != 1:
        told = f"has {len(found)} files that could be {what}: {', '.join(found[:5])}" if found else f"holds no {what}"
        raise DataError(f"{archive.name}: {told}; it is not the one that the card describes")
    return found[0]
