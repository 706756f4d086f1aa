"""Listings: the files of a folder in one order on every machine, without holding them all in memory."""

from __future__ import annotations

import errno
import os
import stat
from fnmatch import fnmatchcase
from itertools import chain, groupby, islice
from typing import TYPE_CHECKING, NamedTuple, final

from diva.errors import DataError
from diva.records import files
from diva.records.entries import decoded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Left behind by systems, editors and downloads, never part of the data. `.*` holds for folders too, the rest for files.
IGNORED = (".*", "Thumbs.db", "desktop.ini", "*~", "*.swp", "*.part")

_IGNORED_NAMES = frozenset(pattern.encode() for pattern in IGNORED if "*" not in pattern)
_IGNORED_ENDS = tuple(pattern[1:].encode() for pattern in IGNORED if pattern.startswith("*"))
_KIND = stat.S_IFMT(0xFFFF)
_AT_ONCE = 500  # files
_KEPT = 30_000  # files; a listing up to this size is kept, a longer one is made again


def is_ignored(name: str) -> bool:
    """Whether a file or folder of this name is no part of a data set, see `IGNORED`."""
    return any(fnmatchcase(name, pattern) for pattern in IGNORED)


class Found(NamedTuple):
    """A file as the folder lists it: path relative to the folder, size in bytes, times of last change in nanoseconds.

    `ctime_ns` changes with the content even when somebody sets `mtime_ns` back.
    """

    path: bytes
    size: int
    mtime_ns: int
    ctime_ns: int


@final
class Listing:
    """The files of a folder that count, sorted by the bytes of their paths; `n_files` of them, `n_bytes` in all.

    DataError: the folder is missing or holds no file, or something in it is unreadable, a broken link, a link to a
    folder above it, or no plain file.
    """

    def __init__(self, folder: Path) -> None:
        """List the folder once; short listings are kept."""
        files_found = chain.from_iterable(walk(folder))
        self._folder = folder
        self._kept = list(islice(files_found, _KEPT))
        self.n_files, self.n_bytes = len(self._kept), sum(file.size for file in self._kept)
        self._whole = len(self._kept) < _KEPT
        for file in files_found:
            self.n_files, self.n_bytes = self.n_files + 1, self.n_bytes + file.size
        if not self.n_files:
            raise DataError(f"{folder} holds no files (ignored: {', '.join(IGNORED)}).")
        if not self._whole:
            self._kept = []

    def __iter__(self) -> Iterator[Found]:
        return iter(self._kept) if self._whole else chain.from_iterable(walk(self._folder))


def walk(folder: Path) -> Iterator[list[Found]]:
    """The files of a folder that count, sorted by the bytes of their paths, some at a time.

    DataError, at the end: the folder is missing, or something in it is unreadable or cannot be data.

    A folder is listed when its turn comes, so memory grows with the largest folder (about 60 bytes a name), not with
    the tree. Bytes, not text, so that names mean the same under every locale.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} {'is not a folder' if folder.exists() else 'does not exist'}.")
    problems = _Problems(folder)
    root = os.path.join(os.fsencode(folder), b"")  # noqa: PTH118
    above = frozenset({_identity(os.stat(root))})  # noqa: PTH116
    yield from _below(root, b"", above, problems)
    problems.tell()


@final
class _Problems:
    """What stands in the way of a listing: the first few, and how many."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._told: list[str] = []
        self._n = 0

    def add(self, root: bytes, path: bytes, error: OSError) -> None:
        self._n += 1
        if len(self._told) < files.NAMED_AT_MOST:
            broken = error.errno in (errno.ENOENT, errno.ELOOP) and os.path.islink(root + path)  # noqa: PTH114
            self._told.append(f"{shown(path)}: {'a broken link' if broken else error.strerror or error}")

    def tell(self) -> None:
        if self._n:
            more = f"; and {self._n - len(self._told)} more" if self._n > len(self._told) else ""
            raise DataError(f"{self._folder}: {'; '.join(self._told)}{more}. Repair or remove them.")


def _below(root: bytes, inner: bytes, above: frozenset[tuple[int, int]], problems: _Problems) -> Iterator[list[Found]]:
    """The files below root + inner, a few at a time. A folder sorts with its slash, as the paths of its files do."""
    for are_files, names in groupby(_names(root + inner, inner, problems), _is_file):
        if are_files:
            while some := list(islice(names, _AT_ONCE)):
                yield _plain_files(root, inner, some, problems)
            continue
        for name in names:
            try:
                identity = _identity(os.stat(root + inner + name))  # noqa: PTH116
                if identity in above:
                    raise OSError(errno.EINVAL, "a link that leads back to a folder above it")
            except OSError as error:
                problems.add(root, inner + name[:-1], error)
                continue
            yield from _below(root, inner + name, above | {identity}, problems)


def _is_file(name: bytes) -> bool:
    return not name.endswith(b"/")


def _plain_files(root: bytes, inner: bytes, names: list[bytes], problems: _Problems) -> list[Found]:
    """Look at the files `names` of one folder, by way of its descriptor: the system need not find the folder each time."""
    found = []
    try:
        folder = os.open(root + inner, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        problems.add(root, inner.rstrip(b"/") or b".", error)
        return []
    try:
        for name in names:
            try:
                facts = os.stat(name, dir_fd=folder)
                if facts.st_mode & _KIND != stat.S_IFREG:
                    raise OSError(errno.EINVAL, "not a plain file")
                found.append(Found(inner + name, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns))
            except OSError as error:
                problems.add(root, inner + name, error)
    finally:
        os.close(folder)
    return found


def _names(place: bytes, inner: bytes, problems: _Problems) -> list[bytes]:
    """The names in one folder that count, sorted; those of folders end with a slash."""
    names = []
    try:
        with os.scandir(place) as listing:
            for entry in listing:
                name = entry.name
                if name.startswith(b"."):
                    continue
                try:
                    is_folder = entry.is_dir()
                except OSError:  # a link that cannot be followed; looking at it again says why
                    is_folder = False
                if is_folder:
                    names.append(name + b"/")
                elif not (name.endswith(_IGNORED_ENDS) or name in _IGNORED_NAMES):
                    names.append(name)
    except OSError as error:
        problems.add(place[: len(place) - len(inner)], inner.rstrip(b"/") or b".", error)
    names.sort()
    return names


def _identity(facts: os.stat_result) -> tuple[int, int]:
    """What makes a folder the same folder: links that lead back to one that they lie in would never end."""
    return facts.st_dev, facts.st_ino


def shown(path: bytes) -> str:
    """A path as one line of printable text."""
    return files.printable(decoded(path))
