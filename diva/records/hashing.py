"""Hashing: the SHA-256 of many files in threads, and a journal so that an interrupted hash goes on where it was."""

from __future__ import annotations

import fcntl
import hashlib
import heapq
import json
import os
import threading
import time
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, final

from diva.errors import DataError
from diva.records import entries
from diva.records.listing import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from diva.records.listing import Found

SUFFIX = ".part"
_SMALL = 1 << 16  # bytes; a file up to this size is read at once
_BLOCK = 1 << 18  # bytes; larger ones through one buffer of this size, which stays in the core's own cache
_BATCH_FILES = 256  # files to a thread's turn: the cost of handing over one small file exceeds that of hashing it
_BATCH_BYTES = 1 << 24
_TELL_EVERY_S = 0.2
_OLDEST_S = 86_400  # a journal that nobody continued for a day is dropped
_READ = os.O_RDONLY | os.O_CLOEXEC
_BEGUN = b'{"begun_ns":'


class Known(NamedTuple):
    """A hash taken before: it holds for a file of this path, size and modification time.

    `before_ns`: and only when nothing at all changed the file (its ctime) since then; 0 where that does not matter.
    """

    path: bytes
    size: int
    mtime_ns: int
    sha256: str
    before_ns: int = 0


class Hashed(NamedTuple):
    """Some files, with their SHA-256 in hex and their lines, and the lines of those among them that were read."""

    found: list[Found]
    sha256s: list[str]
    lines: list[bytes]
    fresh: list[bytes]


def hashed(
    folder: Path,
    found: Iterable[Found],
    known: Iterable[Known] = (),
    journal: Journal | None = None,
    jobs: int | None = None,
    tell: Callable[[int], None] | None = None,
) -> Generator[Hashed, None, None]:
    """The files with their SHA-256, in the order of `found`, some at a time; only what is not `known` is read.

    `found` and `known` are sorted by path. `jobs` threads, by default one per core, at most 8: a few batches at a time,
    so that memory does not grow with the folder. `tell` gets the bytes done, of known files too.
    DataError: a file cannot be read, or changed while it was.
    """
    from concurrent.futures import ThreadPoolExecutor

    n_threads = jobs or min(8, os.cpu_count() or 1)
    work = _Work(os.path.join(os.fsencode(folder), b""))  # noqa: PTH118
    threads = ThreadPoolExecutor(n_threads)
    waiting: deque[Future[Hashed]] = deque()

    def next_one() -> Hashed:
        batch = _outcome(waiting.popleft(), work, tell)
        if journal is not None and batch.fresh:
            journal.append(batch.fresh)
        return batch

    try:
        for batch in _batches(_matched(found, known)):
            waiting.append(threads.submit(_hash_batch, work, batch))
            if len(waiting) > 2 * n_threads:
                yield next_one()
        while waiting:
            yield next_one()
    finally:
        work.stopped = True
        threads.shutdown(cancel_futures=True)


@final
class Journal:
    """What an unfinished footprint has hashed so far, beside it in `<footprint>.part`.

    One process at a time holds it; the next one after a `kill -9` gets the lines that were written. Only lines of
    files that were read stand in it, and they are trusted only when path, size and modification time are the same and
    the file's ctime is older than the journal: so a deep check that is continued is still a deep check.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        """Use `Journal.of`."""
        self._path = path
        self._file = open(descriptor, "r+b", buffering=0)  # noqa: SIM115
        self._runs: list[tuple[int, int, int]] = []  # begun at this time; first byte, byte after the last
        if time.time() - os.fstat(descriptor).st_mtime > _OLDEST_S:
            self._file.truncate(0)
        self._find_runs()
        self._file.write(b"\n")  # closes a torn line; and now the file system says what time it is
        self._file.write(_BEGUN + b"%d}\n" % os.fstat(descriptor).st_mtime_ns)

    @classmethod
    def of(cls, footprint_path: Path) -> Journal | None:
        """The journal of a footprint, ready to be written; None when another process has it, or there can be none."""
        path = journal_path(footprint_path)
        while True:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            except OSError:
                return None
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return cls(path, descriptor)
            except FileNotFoundError:  # whoever held it has finished and removed it
                pass
            except OSError:
                os.close(descriptor)
                return None
            os.close(descriptor)

    def known(self) -> Iterator[Known]:
        """What earlier processes hashed, sorted by path."""
        return heapq.merge(*(self._run(*run) for run in self._runs), key=lambda known: known.path)

    def append(self, lines: list[bytes]) -> None:
        """Write lines of entries."""
        with suppress(OSError):  # a full disk costs the journal, not the hash
            self._file.write(b"\n".join(lines) + b"\n")

    def discard(self) -> None:
        """Remove the journal: the footprint is whole, or nobody will go on."""
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let another process have it."""
        self._file.close()

    def _find_runs(self) -> None:
        starts = []
        at = 0
        with self._path.open("rb") as file:
            for text in file:
                at += len(text)
                if text.startswith(_BEGUN):
                    with suppress(ValueError, KeyError, TypeError):
                        starts.append((int(json.loads(text)["begun_ns"]), at))
        ends = [*(start for _, start in starts[1:]), at][: len(starts)]
        self._runs = [(begun, start, end) for (begun, start), end in zip(starts, ends, strict=True)]

    def _run(self, begun_ns: int, start: int, end: int) -> Iterator[Known]:
        with self._path.open("rb") as file:
            file.seek(start)
            while start < end:
                text = file.readline()
                start += len(text) or end
                with suppress(ValueError):
                    entry = entries.parsed(text.removesuffix(b"\n"))
                    yield Known(entries.encoded(entry.path), entry.size, entry.mtime_ns, entry.sha256, begun_ns)


@contextmanager
def journal(footprint_path: Path) -> Iterator[Journal | None]:
    """The journal of a footprint: removed at the end, left to be continued after an error or an interruption."""
    held = Journal.of(footprint_path)
    if held is None:
        yield None
        return
    try:
        yield held
        held.discard()
    finally:
        held.close()


def journal_path(footprint_path: Path) -> Path:
    """Where the journal of a footprint lies."""
    return footprint_path.with_name(footprint_path.name + SUFFIX)


def temporary(footprint_path: Path) -> Path:
    """Where the holder of the journal, one process at a time, writes the footprint before it takes its place."""
    return footprint_path.with_name(f".{footprint_path.name}.tmp")


def tidy(footprint_path: Path) -> None:
    """Remove a journal that has served: the footprint was written after it, or nobody continued it for a day."""
    path = journal_path(footprint_path)
    with suppress(OSError):
        last_written = path.stat().st_mtime
        if last_written <= footprint_path.stat().st_mtime or time.time() - last_written > _OLDEST_S:
            journal = Journal.of(footprint_path)
            if journal is not None:
                temporary(footprint_path).unlink(missing_ok=True)
                journal.discard()
                journal.close()


@final
class _Work:
    """What the threads share: where to read (with a slash at its end), how much was read, whether to stop."""

    def __init__(self, root: bytes) -> None:
        self.root = root
        self.n_bytes = 0
        self.stopped = False
        self._lock = threading.Lock()

    def add(self, n_bytes: int) -> None:
        with self._lock:
            self.n_bytes += n_bytes


def _outcome(future: Future[Hashed], work: _Work, tell: Callable[[int], None] | None) -> Hashed:
    while tell is not None:
        with suppress(TimeoutError):
            future.exception(timeout=_TELL_EVERY_S)
            tell(work.n_bytes)
            break
        tell(work.n_bytes)
    return future.result()


def _matched(found: Iterable[Found], known: Iterable[Known]) -> Iterator[tuple[Found, str | None]]:
    """Each file with its hash, where it is known; both are walked through once, side by side."""
    to_come = iter(known)
    ahead = next(to_come, None)
    for file in found:
        sha256 = None
        while ahead is not None and ahead.path <= file.path:
            same = ahead[:3] == file[:3] and (not ahead.before_ns or file.ctime_ns < ahead.before_ns)
            sha256 = ahead.sha256 if same else sha256
            ahead = next(to_come, None)
        yield file, sha256


def _batches(matched: Iterable[tuple[Found, str | None]]) -> Iterator[list[tuple[Found, str | None]]]:
    batch: list[tuple[Found, str | None]] = []
    n_bytes = 0
    for file, sha256 in matched:
        batch.append((file, sha256))
        n_bytes += file.size
        if len(batch) == _BATCH_FILES or n_bytes >= _BATCH_BYTES:
            yield batch
            batch, n_bytes = [], 0
    if batch:
        yield batch


def _hash_batch(work: _Work, batch: list[tuple[Found, str | None]]) -> Hashed:
    found = [file for file, _ in batch]
    sha256s = [known or _hash_file(work, file) for file, known in batch]
    lines = [entries.line(*file[:3], sha256) for file, sha256 in zip(found, sha256s, strict=True)]
    fresh = [line for line, (_, known) in zip(lines, batch, strict=True) if known is None]
    work.add(sum(file.size for file, known in batch if known is not None or file.size <= _SMALL))
    return Hashed(found, sha256s, lines, fresh)


def _hash_file(work: _Work, file: Found) -> str:
    try:
        descriptor = os.open(work.root + file.path, _READ)
        try:
            if file.size <= _SMALL:
                content = os.read(descriptor, file.size + 1)
                if len(content) == file.size:
                    return hashlib.sha256(content).hexdigest()
            sha256 = _hash_blocks(work, descriptor, file.size)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise DataError(f"{shown(work.root[:-1])}: {shown(file.path)} cannot be read: {error.strerror}.") from error
    if sha256 is None:
        raise DataError(
            f"{shown(work.root[:-1])}: {shown(file.path)} changed while it was read. Wait until nothing writes there, and "
            "try again."
        )
    return sha256


def _hash_blocks(work: _Work, descriptor: int, size: int) -> str | None:
    """The SHA-256 of an open file, read from its start; None when it is not of this size."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    buffer = bytearray(_BLOCK)
    view = memoryview(buffer)
    state, n_bytes = hashlib.sha256(), 0
    while n_read := os.readv(descriptor, [buffer]):
        if work.stopped:
            return ""
        state.update(view[:n_read])
        n_bytes += n_read
        if size > _SMALL:  # of the others a batch counts together
            work.add(n_read)
    return state.hexdigest() if n_bytes == size else None
