"""Footprints: the same content gives the same string, on every machine."""

from __future__ import annotations

import hashlib
import os
from contextlib import closing, suppress
from heapq import merge
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, final

from diva.errors import DataError, RecordError
from diva.records import entries, files, hashing
from diva.records.entries import Entries, FileEntry
from diva.records.listing import IGNORED, Listing, is_ignored, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    Progress = Callable[[int, int], None]

__all__ = [
    "IGNORED", "SCHEMA", "SUFFIX", "Differences", "FileEntry", "Footprint", "Outcome", "Totals", "check", "compare",
    "inspect", "is_ignored", "location", "read", "take", "write",
]  # fmt: skip

SCHEMA = 1
SUFFIX = ".footprint.json"
_AT_ONCE = 500
_IN_MEMORY = 1 << 22  # bytes of lines; more of them go to a temporary file

Outcome = Literal["created", "verified", "updated", "different"]


class Totals(NamedTuple):
    """What a footprint says of all its files together."""

    digest: str
    n_files: int
    n_bytes: int


@final
class Footprint:
    """The content of a folder: its files, sorted by the bytes of their paths. Equal when the files are. Never changed.

    The files may stand in a file and are then read anew each time they are gone through. `counted`: their totals, when
    these are known already. (No dataclass, nor any below: importing those takes as long as checking a thousand files.)
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, files: Sequence[FileEntry], counted: Totals | None = None) -> None:
        self.files = files
        self._counted = counted

    def __eq__(self, other: object) -> bool:
        return self.files == other.files if isinstance(other, Footprint) else NotImplemented

    def __repr__(self) -> str:
        return f"Footprint({self.digest}, {self.n_files} files)"

    @property
    def totals(self) -> Totals:
        """Digest, number of files and number of bytes."""
        if self._counted is None:
            self._counted = _counted(self.files)
        return self._counted

    @property
    def digest(self) -> str:
        r"""The digest to quote in a paper: sha256 over the lines "<sha256>  <path>\n", sorted by the bytes of the path.

        Without diva (GNU find and coreutils 9; the first 64 characters that this prints follow "sha256:"):

            cd FOLDER && find -L . -name '.?*' -prune -o -type f ! -name Thumbs.db ! -name desktop.ini ! -name '*~' \
                ! -name '*.swp' ! -name '*.part' -printf '%P\0' | LC_ALL=C sort -z | xargs -0 -r sha256sum | sha256sum
        """
        return self.totals.digest

    @property
    def n_files(self) -> int:
        """The number of files."""
        return self.totals.n_files

    @property
    def n_bytes(self) -> int:
        """The sum of the files' sizes."""
        return self.totals.n_bytes


class Differences(NamedTuple):
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


def take(
    folder: Path,
    known: Footprint | None = None,
    deep: bool = True,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Footprint:
    """The footprint of a folder, hashed in `jobs` threads (default: one per core, at most 8).

    With `known` and not `deep`, only files whose size or modification time differ from `known` are hashed.
    Symbolic links are followed. DataError: the folder is missing or holds no file, or something in it is unreadable,
    a broken link, a link to a folder above it, or no plain file. `progress` gets (bytes done, bytes of all files).
    """
    return _take(folder, None if deep else known, None, jobs, progress)


def compare(then: Footprint, now: Footprint) -> Differences:
    """What was added to, removed from and changed since `then`. Content counts, modification times do not."""
    added: list[str] = []
    removed: list[str] = []
    changed: list[str] = []
    if then.totals != now.totals:
        for old, new in _side_by_side(then.files, now.files):
            if old is None and new is not None:
                added.append(new.path)
            elif new is None and old is not None:
                removed.append(old.path)
            elif old is not None and new is not None and old.sha256 != new.sha256:
                changed.append(new.path)
    return Differences(tuple(added), tuple(removed), tuple(changed))


def check(folder: Path, deep: bool = False, update: bool = False) -> tuple[Footprint, Outcome]:
    """Compare a folder with its stored footprint; the first time, take and store it.

    Quick by default: finds files added, removed, or touched (size or modification time) and of other content.
    `deep` reads every file. `update` reads every file and accepts what it finds. Differences are a DataError.
    """
    now, outcome, differences = inspect(folder, deep=deep, update=update)
    if differences:
        raise difference_error(folder, differences)
    return now, outcome


def difference_error(folder: Path, differences: Differences) -> DataError:
    """What to raise when a folder is not what its stored footprint says."""
    return DataError(
        f"{folder} is not what it was when its footprint was taken: {differences.text()}. Restore these files, "
        f"or accept the new state with: diva verify {folder} --update"
    )


def inspect(
    folder: Path,
    deep: bool = False,
    update: bool = False,
    against: Path | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> tuple[Footprint, Outcome, Differences]:
    """As `check`, but differences are returned, not raised; the stored footprint is then left as it is.

    against: compare, deep, with the footprint in this file, whatever is stored; nothing is stored then.
    What was hashed when this was interrupted is not hashed again, see `hashing.Journal`.
    """
    stored_at = location(folder)
    is_stored = stored_at.exists()
    then = None
    if against is not None:
        then = read(against)
    elif is_stored and not update:
        untouched = None if deep else _untouched(folder, stored_at)
        if untouched is not None:
            return untouched, "verified", Differences((), (), ())
        then = read(stored_at)
    with hashing.journal(stored_at) as journal:
        now = _take(folder, None if deep or against is not None else then, journal, jobs, progress)
        differences = Differences((), (), ()) if then is None else compare(then, now)
        temporary = None if journal is None else hashing.temporary(stored_at)
        if then is None:
            _store(stored_at, now, folder, temporary)
        elif against is None and not differences and now != then:
            with suppress(OSError):  # only touched or copied: spare the next check from reading these files again
                _write(stored_at, now, folder.resolve().name, temporary)
    done: Outcome = "updated" if update and is_stored else "created" if then is None else "verified"
    return now, "different" if differences else done, differences


def location(folder: Path) -> Path:
    """Where a folder's footprint lives: beside it, or in the user's cache when nothing can be written there.

    Beside a part of a data set that has a footprint itself, as data/digits/train, is inside: it would count as a change.
    """
    real = folder.resolve()
    beside = real.with_name(real.name + SUFFIX)
    if beside.exists() or (_writable(real.parent) and not any(map(_has_footprint, real.parents))):
        return beside
    cache = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache"
    key = files.sha256_bytes(os.fsencode(real))[:16]
    return root / "diva" / "footprints" / f"{key}-{real.name}{SUFFIX}"


def write(path: Path, footprint: Footprint, name: str) -> None:
    """Write a footprint as JSON, one line per file so that a diff tool shows files; keys sorted, the long list last."""
    _write(path, footprint, name, None)


def read(path: Path) -> Footprint:
    """Read a stored footprint; RecordError when it is damaged, contradicts itself or comes from a newer diva.

    All of it is looked at, but not held in memory, unless somebody laid it out anew.
    """
    try:
        head, listed = entries.opened(path) or _laid_out_anew(path)
    except FileNotFoundError:
        raise RecordError(f"{path} does not exist. {_way_out(path)}") from None
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}. {_way_out(path)}") from error
    schema = head.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise RecordError(f"{path} has schema {schema}, this diva reads up to {SCHEMA}: update diva.")
    try:
        if head["algorithm"] != "sha256" or schema != SCHEMA:
            raise ValueError("unknown algorithm or schema")
        totals = _counted(_in_order(listed))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordError(f"{path} is not a footprint, or a damaged one. {_way_out(path)}") from error
    if not _says(head, totals):
        raise RecordError(f"{path} contradicts itself: its totals do not match its entries. {_way_out(path)}")
    return Footprint(listed, totals)


@final
class _Count:
    """Totals of files that come some at a time, in the order of their paths."""

    def __init__(self) -> None:
        self._state = hashlib.sha256()
        self._n_files = 0
        self._n_bytes = 0

    def add(self, paths: Sequence[bytes], n_bytes: int, sha256s: Sequence[str]) -> None:
        """Count the next files, which have so many bytes together."""
        self._state.update(files.checksum_lines(sha256s, paths))
        self._n_files += len(paths)
        self._n_bytes += n_bytes

    def totals(self) -> Totals:
        """What was counted so far."""
        return Totals("sha256:" + self._state.hexdigest(), self._n_files, self._n_bytes)


def _take(
    folder: Path,
    known: Footprint | None,
    journal: hashing.Journal | None,
    jobs: int | None,
    progress: Progress | None,
) -> Footprint:
    """The lines are spooled, to memory while they are few, so that what this needs does not grow with the folder."""
    from tempfile import SpooledTemporaryFile, gettempdir

    listing = Listing(folder)
    sources = [_known(known)] if known is not None else []
    sources += [journal.known()] if journal is not None else []
    lines = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
    count = _Count()
    tell = None if progress is None else lambda n_bytes: progress(n_bytes, max(n_bytes, listing.n_bytes))
    batches = hashing.hashed(folder, listing, merge(*sources, key=lambda one: one.path), journal, jobs, tell)
    try:
        with closing(batches):
            for batch in batches:
                count.add([file.path for file in batch.found], sum(file.size for file in batch.found), batch.sha256s)
                lines.write(b",\n".join([*batch.lines, b""]))
    except OSError as error:
        raise DataError(
            f"the footprint of {folder} has no place in {gettempdir()} while it is made: {error.strerror}. Make room "
            "there, or set TMPDIR to another folder."
        ) from error
    totals = count.totals()
    return Footprint(Entries(lines, 0, max(0, lines.tell() - 2), totals.n_files), totals)


def _known(footprint: Footprint) -> Iterator[hashing.Known]:
    return (hashing.Known(path, entry.size, entry.mtime_ns, entry.sha256) for path, entry in _by_path(footprint.files))


def _counted(listed: Iterable[FileEntry]) -> Totals:
    count = _Count()
    to_come = iter(listed)
    while some := list(islice(to_come, _AT_ONCE)):
        paths = [entries.encoded(entry.path) for entry in some]
        count.add(paths, sum(entry.size for entry in some), [entry.sha256 for entry in some])
    return count.totals()


def _in_order(listed: Iterable[FileEntry]) -> Iterator[FileEntry]:
    """The same entries; ValueError when they are not in the order of their paths, or one stands twice."""
    before = b""
    for entry in listed:
        path = entries.encoded(entry.path)
        if path <= before:
            raise ValueError(f"out of order: {entry.path}")
        before = path
        yield entry


def _by_path(listed: Sequence[FileEntry]) -> Iterator[tuple[bytes, FileEntry]]:
    """Entries in the order of their paths, in which those that stand in a file are already."""
    pairs = ((entries.encoded(entry.path), entry) for entry in listed)
    return pairs if isinstance(listed, Entries) else iter(sorted(pairs, key=lambda pair: pair[0]))


def _side_by_side(
    then: Sequence[FileEntry], now: Sequence[FileEntry]
) -> Iterator[tuple[FileEntry | None, FileEntry | None]]:
    """What two footprints say of each path that one of them has."""
    pairs = merge(
        ((path, 0, entry) for path, entry in _by_path(then)),
        ((path, 1, entry) for path, entry in _by_path(now)),
        key=lambda pair: pair[:2],
    )
    for _, same in groupby(pairs, key=lambda pair: pair[0]):
        found: list[FileEntry | None] = [None, None]
        for _, which, entry in same:
            found[which] = entry
        yield found[0], found[1]


def _untouched(folder: Path, stored_at: Path) -> Footprint | None:
    """The stored footprint, when it is whole and the folder still lists as its lines say; None in any other case.

    One pass that compares text and builds no object: this is what most checks of most data sets come to.
    """
    with suppress(OSError):
        head, listed = entries.opened(stored_at) or ({}, None)
        if listed is None or head.get("schema") != SCHEMA or head.get("algorithm") != "sha256":
            return None
        count = _Count()
        lines = listed.lines()
        for found in walk(folder):
            texts = list(islice(lines, len(found)))
            sha256s = entries.sha256s_in(texts, found) if len(texts) == len(found) else None
            if sha256s is None:
                return None
            count.add([file.path for file in found], sum(file.size for file in found), sha256s)
        totals = count.totals()
        if next(lines, None) is None and _says(head, totals):
            hashing.tidy(stored_at)
            return Footprint(listed, totals)
    return None


def _says(head: dict[str, Any], totals: Totals) -> bool:
    return [head.get(name) for name in ("digest", "n_files", "n_bytes")] == list(totals)


def _laid_out_anew(path: Path) -> tuple[dict[str, Any], Sequence[FileEntry]]:
    """Head and entries of a footprint whose text is not as `write` lays it out, by a formatter or a hand."""
    try:
        document = files.read_json(path)
    except RecordError as error:
        raise RecordError(f"{error} {_way_out(path)}") from error
    try:
        newer = isinstance(document["schema"], int) and document["schema"] > SCHEMA
        items = [] if newer else document["files"]
        listed = [FileEntry(item["path"], item["size"], item["mtime_ns"], item["sha256"]) for item in items]
        return document, tuple(sorted(listed, key=lambda entry: entries.encoded(entry.path)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordError(f"{path} is not a footprint, or a damaged one. {_way_out(path)}") from error


def _store(path: Path, footprint: Footprint, folder: Path, temporary: Path | None) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, footprint, folder.resolve().name, temporary)
    except OSError as error:
        raise DataError(
            f"the footprint of {folder} cannot be written to {path}: {error.strerror}. Make that place writable, "
            "or set XDG_CACHE_HOME to a folder that is."
        ) from error


def _write(path: Path, footprint: Footprint, name: str, temporary: Path | None) -> None:
    head = {
        "algorithm": "sha256",
        "digest": footprint.digest,
        "ignored": list(IGNORED),
        "n_bytes": footprint.n_bytes,
        "n_files": footprint.n_files,
        "name": name,
        "schema": SCHEMA,
    }
    files.write_blocks(path, entries.text_of(head, footprint.files), temporary)


def _writable(folder: Path) -> bool:
    """Whether a file can be made in a folder; a function of its own because root, as whom tests run, always can."""
    return os.access(folder, os.W_OK | os.X_OK)


def _has_footprint(folder: Path) -> bool:
    return folder.name != "" and folder.with_name(folder.name + SUFFIX).exists()


def _way_out(path: Path) -> str:
    return f"Delete {path}, or accept the data as they are now with: diva verify DIR --update"
