"""Footprints: the same content gives the same string, on every machine."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from diva.errors import DataError, RecordError
from diva.records import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCHEMA = 1
SUFFIX = ".footprint.json"
# Left behind by systems, editors and downloads, never part of the data. `.*` holds for folders too, the rest for files.
IGNORED = (".*", "Thumbs.db", "desktop.ini", "*~", "*.swp", "*.part")

_IGNORED_NAMES = frozenset(pattern.encode() for pattern in IGNORED if "*" not in pattern)
_IGNORED_ENDS = tuple(pattern[1:].encode() for pattern in IGNORED if pattern.startswith("*"))
_SMALL = 1 << 20  # bytes; a file up to this size is read at once
_BATCH_FILES = 64  # files to a thread's turn: the cost of handing over one small file exceeds that of hashing it
_BATCH_BYTES = 1 << 24


def is_ignored(name: str) -> bool:
    """Whether a file or folder of this name is no part of a data set, see `IGNORED`."""
    return any(fnmatchcase(name, pattern) for pattern in IGNORED)


Outcome = Literal["created", "verified", "updated"]


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file: path relative to the folder with `/` (undecodable bytes as surrogates), size in bytes, sha256 in hex.

    `mtime_ns` only tells whether the content must be looked at again; it is no part of any digest.
    """

    path: str
    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True)
class Footprint:
    """The content of a folder: its files, sorted by the bytes of their paths."""

    files: tuple[FileEntry, ...]

    @cached_property
    def digest(self) -> str:
        r"""The digest to quote in a paper: sha256 over the lines "<sha256>  <path>\n", sorted by the bytes of the path.

        Without diva (GNU find and coreutils 9; the first 64 characters that this prints follow "sha256:"):

            cd FOLDER && find -L . -name '.?*' -prune -o -type f ! -name Thumbs.db ! -name desktop.ini ! -name '*~' \
                ! -name '*.swp' ! -name '*.part' -printf '%P\0' | LC_ALL=C sort -z | xargs -0 -r sha256sum | sha256sum
        """
        lines = (files.checksum_line(entry.sha256, _encoded(entry.path)) for entry in self.files)
        return "sha256:" + files.sha256_bytes(b"".join(lines))

    @property
    def n_files(self) -> int:
        """The number of files."""
        return len(self.files)

    @property
    def n_bytes(self) -> int:
        """The sum of the files' sizes."""
        return sum(entry.size for entry in self.files)


@dataclass(frozen=True)
class Differences:
    """The paths at which two footprints differ; false when they do not."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def text(self) -> str:
        """One line: how many files of each kind; the first five are named."""
        named, told = 0, []
        for kind, paths in (("changed", self.changed), ("removed", self.removed), ("added", self.added)):
            shown = paths[: max(0, files.NAMED_AT_MOST - named)]
            named += len(shown)
            more = [f"{len(paths) - len(shown)} more"] if len(paths) > len(shown) else []
            if paths:
                told.append(f"{len(paths)} {kind} ({', '.join([*map(files.printable, shown), *more])})")
        return "; ".join(told) or "no differences"


class _Found(NamedTuple):
    """A file as the folder lists it, not hashed yet; the path comes first because it is the order."""

    path: bytes
    size: int
    mtime_ns: int


def take(
    folder: Path,
    known: Footprint | None = None,
    deep: bool = True,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Footprint:
    """The footprint of a folder, hashed in `jobs` threads (default: one per core, at most 8).

    With `known` and not `deep`, only files whose size or modification time differ from `known` are hashed.
    Symbolic links are followed. DataError: the folder is missing or holds no file, or something in it is unreadable,
    a broken link, a link to a folder above it, or no plain file. `progress` gets (bytes hashed, bytes to hash).
    """
    found = _list(folder)
    trusted = {} if deep or known is None else {entry.path: entry for entry in known.files}
    entries = [_untouched(file, trusted) for file in found]
    to_hash = [file for file, entry in zip(found, entries, strict=True) if entry is None]
    hashed = iter(_hash(folder, to_hash, jobs, progress))
    return Footprint(tuple(entry or next(hashed) for entry in entries))


def compare(then: Footprint, now: Footprint) -> Differences:
    """What was added to, removed from and changed since `then`. Content counts, modification times do not."""
    if then.files == now.files:
        return Differences((), (), ())
    old = {entry.path: entry.sha256 for entry in then.files}
    new = {entry.path: entry.sha256 for entry in now.files}
    return Differences(
        added=tuple(path for path in new if path not in old),
        removed=tuple(path for path in old if path not in new),
        changed=tuple(path for path in new if path in old and new[path] != old[path]),
    )


def check(folder: Path, deep: bool = False, update: bool = False) -> tuple[Footprint, Outcome]:
    """Compare a folder with its stored footprint; the first time, take and store it.

    Quick by default: finds files added, removed, or touched (size or modification time) and of other content.
    `deep` reads every file. `update` reads every file and accepts what it finds. Differences are a DataError.
    """
    stored_at = location(folder)
    if update or not stored_at.exists():
        now = take(folder)
        outcome: Outcome = "updated" if stored_at.exists() else "created"
        _store(stored_at, now, folder)
        return now, outcome
    then = read(stored_at)
    now = take(folder, known=then, deep=deep)
    differences = compare(then, now)
    if differences:
        raise DataError(
            f"{folder} is not what it was when its footprint was taken: {differences.text()}. Restore these files, "
            f"or accept the new state with: diva verify {folder} --update"
        )
    if now != then:  # only touched or copied: spare the next check from reading these files again
        with suppress(OSError):
            write(stored_at, now, folder.resolve().name)
    return now, "verified"


def location(folder: Path) -> Path:
    """Where a folder's footprint lives: beside it, or in the user's cache when nothing can be written there."""
    real = folder.resolve()
    beside = real.with_name(real.name + SUFFIX)
    if beside.exists() or _writable(real.parent):
        return beside
    cache = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache"
    key = files.sha256_bytes(os.fsencode(real))[:16]
    return root / "diva" / "footprints" / f"{key}-{real.name}{SUFFIX}"


def write(path: Path, footprint: Footprint, name: str) -> None:
    """Write a footprint as JSON, one line per file so that a diff tool shows files; keys sorted, the long list last."""
    head = {
        "algorithm": "sha256",
        "digest": footprint.digest,
        "ignored": list(IGNORED),
        "n_bytes": footprint.n_bytes,
        "n_files": footprint.n_files,
        "name": name,
        "schema": SCHEMA,
    }
    lines = ",\n".join(_line(entry) for entry in footprint.files)
    fields = "".join(f"{json.dumps(key)}: {json.dumps(value)},\n" for key, value in head.items())
    files.write_atomic(path, f'{{\n{fields}"files": [\n{lines}\n]\n}}\n')


def read(path: Path) -> Footprint:
    """Read a stored footprint; RecordError when it is damaged, contradicts itself or comes from a newer diva."""
    try:
        document = files.read_json(path)
    except RecordError as error:
        raise RecordError(f"{error} {_way_out(path)}") from error
    if isinstance(document, dict) and isinstance(document.get("schema"), int) and document["schema"] > SCHEMA:
        raise RecordError(f"{path} has schema {document['schema']}, this diva reads up to {SCHEMA}: update diva.")
    try:
        footprint = _parsed(document)
        totals = (footprint.digest, footprint.n_files, footprint.n_bytes)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordError(f"{path} is not a footprint, or a damaged one. {_way_out(path)}") from error
    if totals != (document.get("digest"), document.get("n_files"), document.get("n_bytes")):
        raise RecordError(f"{path} contradicts itself: its totals do not match its entries. {_way_out(path)}")
    return footprint


def _list(folder: Path) -> list[_Found]:
    """Every file of the folder that counts, sorted by the bytes of the paths."""
    if not folder.is_dir():
        raise DataError(f"{folder} {'is not a folder' if folder.exists() else 'does not exist'}.")
    problems: list[str] = []
    found = sorted(_walk(os.fsencode(folder), problems))
    if problems:
        told = "; ".join(sorted(problems)[: files.NAMED_AT_MOST])
        more = len(problems) - files.NAMED_AT_MOST
        raise DataError(f"{folder}: {told}{f'; and {more} more' if more > 0 else ''}. Repair or remove them.")
    if not found:
        raise DataError(f"{folder} holds no files (ignored: {', '.join(IGNORED)}).")
    return found


def _untouched(file: _Found, trusted: dict[str, FileEntry]) -> FileEntry | None:
    entry = trusted.get(_decoded(file.path))
    return entry if entry and (entry.size, entry.mtime_ns) == (file.size, file.mtime_ns) else None


def _walk(root: bytes, problems: list[str]) -> Iterator[_Found]:
    """The files below root, in no order; what cannot be data is told in `problems`.

    Bytes, not text, so that names mean the same under every locale; no Path objects, which would double the time.
    """
    cut = len(os.path.join(root, b""))  # noqa: PTH118
    facts = os.stat(root)  # noqa: PTH116
    to_do = [(root, frozenset({(facts.st_dev, facts.st_ino)}))]
    while to_do:
        folder, above = to_do.pop()
        for entry in _entries(folder, cut, problems):
            try:
                if entry.is_dir():
                    to_do.append((entry.path, above | {_new_folder(entry, above)}))
                elif not (entry.name in _IGNORED_NAMES or entry.name.endswith(_IGNORED_ENDS)):
                    yield _plain_file(entry, cut)
            except OSError as error:
                problems.append(f"{_shown(entry.path[cut:])}: {_reason(error, entry)}")


def _entries(folder: bytes, cut: int, problems: list[str]) -> list[os.DirEntry[bytes]]:
    try:
        with os.scandir(folder) as listing:
            return [entry for entry in listing if not entry.name.startswith(b".")]
    except OSError as error:
        problems.append(f"{_shown(folder[cut:]) or '.'}: {error.strerror}")
        return []


def _new_folder(entry: os.DirEntry[bytes], above: frozenset[tuple[int, int]]) -> tuple[int, int]:
    """The identity of a folder, which must not be one that it lies in: links that lead back would never end."""
    facts = entry.stat()
    if (facts.st_dev, facts.st_ino) in above:
        raise OSError(errno.EINVAL, "a link that leads back to a folder above it")
    return facts.st_dev, facts.st_ino


def _plain_file(entry: os.DirEntry[bytes], cut: int) -> _Found:
    facts = entry.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise OSError(errno.EINVAL, "not a plain file")
    return _Found(entry.path[cut:], facts.st_size, facts.st_mtime_ns)


def _reason(error: OSError, entry: os.DirEntry[bytes]) -> str:
    broken = error.errno in (errno.ENOENT, errno.ELOOP) and entry.is_symlink()
    return "a broken link" if broken else error.strerror or str(error)


def _hash(
    folder: Path, found: list[_Found], jobs: int | None, progress: Callable[[int, int], None] | None
) -> list[FileEntry]:
    """Hash files in threads; the entries come in the order of `found`."""
    root = os.fsencode(folder)
    entries: list[FileEntry] = []
    total, done = sum(file.size for file in found), 0
    with ThreadPoolExecutor(jobs or min(8, os.cpu_count() or 1)) as threads:
        for batch in threads.map(partial(_hash_batch, root), _batches(found)):
            entries += batch
            done += sum(entry.size for entry in batch)
            if progress is not None:
                progress(done, total)
    return entries


def _batches(found: list[_Found]) -> Iterator[list[_Found]]:
    batch: list[_Found] = []
    n_bytes = 0
    for file in found:
        batch.append(file)
        n_bytes += file.size
        if len(batch) == _BATCH_FILES or n_bytes >= _BATCH_BYTES:
            yield batch
            batch, n_bytes = [], 0
    if batch:
        yield batch


def _hash_batch(root: bytes, batch: list[_Found]) -> list[FileEntry]:
    return [FileEntry(_decoded(file.path), file.size, file.mtime_ns, _hash_file(root, file)) for file in batch]


def _hash_file(root: bytes, file: _Found) -> str:
    try:
        with open(os.path.join(root, file.path), "rb", buffering=0) as content:  # noqa: PTH118, PTH123
            if file.size <= _SMALL:
                return files.sha256_bytes(content.read())
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{_shown(root)}: {_shown(file.path)} cannot be read: {error.strerror}.") from error


def _store(path: Path, footprint: Footprint, folder: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, footprint, folder.resolve().name)
    except OSError as error:
        raise DataError(
            f"the footprint of {folder} cannot be written to {path}: {error.strerror}. Make that place writable, "
            "or set XDG_CACHE_HOME to a folder that is."
        ) from error


def _writable(folder: Path) -> bool:
    """Whether a file can be made in a folder; a function of its own because root, as whom tests run, always can."""
    return os.access(folder, os.W_OK | os.X_OK)


def _line(entry: FileEntry) -> str:
    path = json.dumps(entry.path)
    return f'{{"mtime_ns":{entry.mtime_ns},"path":{path},"sha256":"{entry.sha256}","size":{entry.size}}}'


def _parsed(document: Any) -> Footprint:
    if document["algorithm"] != "sha256" or document["schema"] != SCHEMA:
        raise ValueError("unknown algorithm or schema")
    return Footprint(
        tuple(FileEntry(item["path"], item["size"], item["mtime_ns"], item["sha256"]) for item in document["files"])
    )


def _way_out(path: Path) -> str:
    return f"Delete {path}, or accept the data as they are now with: diva verify DIR --update"


def _encoded(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _decoded(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def _shown(path: bytes) -> str:
    return files.printable(_decoded(path))
