"""Entries: the files of a footprint, kept as lines of text rather than as objects, so that a million of them take no memory."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from itertools import zip_longest
from json.encoder import encode_basestring_ascii
from typing import IO, TYPE_CHECKING, Any, NamedTuple, final, overload

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from diva.records.listing import Found

_BLOCK = 1 << 18
_FILES = b'"files": [\n'
_END = b"\n]\n}\n"
_HEAD_AT_MOST = 1 << 16  # bytes; the head of a footprint has seven short fields
_LINE = re.compile(rb'\{"mtime_ns":(-?\d+),"path":("(?:[^"\\]|\\.)*"),"sha256":"([0-9a-f]{64})","size":(\d+)\}')


class FileEntry(NamedTuple):
    """One file: path relative to the folder with `/` (undecodable bytes as surrogates), size in bytes, sha256 in hex.

    `mtime_ns` only tells whether the content must be looked at again; it is no part of any digest.
    """

    path: str
    size: int
    mtime_ns: int
    sha256: str


@final
class Entries(Sequence[FileEntry]):
    """`n_files` entries that stand as lines in an open file, which is read again each time they are asked for."""

    def __init__(self, file: IO[bytes], start: int, end: int, n_files: int) -> None:
        """The bytes of `file` from `start` up to `end` are lines as `line` writes them, parted by a comma and a line feed."""
        self._file, self._start, self._end, self._n_files = file, start, end, n_files

    def __del__(self) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._n_files

    def __iter__(self) -> Iterator[FileEntry]:
        return (parsed(text) for text in self.lines())

    @overload
    def __getitem__(self, index: int) -> FileEntry: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[FileEntry, ...]: ...
    def __getitem__(self, index: int | slice) -> FileEntry | tuple[FileEntry, ...]:
        return tuple(self)[index]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Entries):
            return all(mine == theirs for mine, theirs in zip_longest(self.lines(), other.lines()))
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def blocks(self) -> Iterator[bytes]:
        """The text in blocks."""
        at = self._start
        while at < self._end:
            self._file.seek(at)
            block = self._file.read(min(_BLOCK, self._end - at))
            if not block:
                break
            at += len(block)
            yield block

    def lines(self) -> Iterator[bytes]:
        """The lines, without what parts them."""
        rest = b""
        for block in self.blocks():
            *whole, rest = (rest + block).split(b",\n")
            yield from whole
        if rest:
            yield rest


def line(path: bytes, size: int, mtime_ns: int, sha256: str) -> bytes:
    """The line of one entry: JSON, keys sorted, ASCII."""
    quoted = encode_basestring_ascii(path.decode("utf-8", "surrogateescape"))
    return f'{{"mtime_ns":{mtime_ns},"path":{quoted},"sha256":"{sha256}","size":{size}}}'.encode("ascii")


def sha256s_in(texts: Sequence[bytes], found: Sequence[Found]) -> list[str] | None:
    """The sha256 in each line, when they are the lines of these files as they are listed now; otherwise None."""
    sha256s = []
    for text, (path, size, mtime_ns, _) in zip(texts, found, strict=True):
        end = len(text) - len(f'","size":{size}}}')
        sha256 = text[end - 64 : end].decode("ascii", "replace")
        if line(path, size, mtime_ns, sha256) != text:
            return None
        sha256s.append(sha256)
    return sha256s


def parsed(text: bytes) -> FileEntry:
    """The entry that a line says; ValueError when it is none, or not whole."""
    found = _LINE.fullmatch(text)
    if found is None:
        raise ValueError(f"not an entry: {text[:80]!r}")
    mtime_ns, path, sha256, size = found.groups()
    return FileEntry(json.loads(path), int(size), int(mtime_ns), sha256.decode("ascii"))


def blocks_of(files: Iterable[FileEntry]) -> Iterator[bytes]:
    """The text of entries in blocks, as `Entries.blocks`."""
    if isinstance(files, Entries):
        yield from files.blocks()
        return
    between = b""
    for entry in files:
        yield between + line(encoded(entry.path), entry.size, entry.mtime_ns, entry.sha256)
        between = b",\n"


def text_of(head: dict[str, Any], files: Iterable[FileEntry]) -> Iterator[bytes]:
    """A footprint as JSON, one line per file so that a diff tool shows files; keys sorted, the long list last."""
    yield b"{\n" + b"".join(f"{json.dumps(key)}: {json.dumps(head[key])},\n".encode("ascii") for key in sorted(head))
    yield _FILES
    yield from blocks_of(files)
    yield _END


def opened(path: Path) -> tuple[dict[str, Any], Entries] | None:
    """Head and entries of a stored footprint, neither of them checked; None when it is not laid out as `text_of` does."""
    file = path.open("rb", buffering=0)
    with suppress(ValueError, KeyError, TypeError, OSError):
        text = file.read(_HEAD_AT_MOST)
        start = text.index(_FILES)
        head = json.loads(text[:start].rstrip(b",\n") + b"}")
        end = file.seek(-len(_END), 2)
        if file.read() == _END and end >= start + len(_FILES):
            return head, Entries(file, start + len(_FILES), end, int(head["n_files"]))
    file.close()
    return None


def encoded(path: str) -> bytes:
    """The bytes of a path as the system names it."""
    return path.encode("utf-8", "surrogateescape")


def decoded(path: bytes) -> str:
    """A path as text, whatever its bytes."""
    return path.decode("utf-8", "surrogateescape")
