"""Places of data sets: the data root, the lock of a folder, and folders that appear whole or not at all."""

from __future__ import annotations

import fcntl
import glob
import os
import secrets
import shutil
import threading
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

from diva.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def prepare_root(data_root: Path, option: str = "--data-root") -> None:
    """Make the data root, with a `.gitignore` that keeps its content out of every repository."""
    try:
        data_root.mkdir(parents=True, exist_ok=True)
        ignore = data_root / ".gitignore"
        if not ignore.exists() and not any(data_root.iterdir()):
            ignore.write_text("*\n")
    except OSError as error:
        raise cannot_write(data_root, error, option) from None


def cannot_write(place: Path, error: OSError, option: str = "--data-root") -> DataError:
    """The error for a place where nothing can be written."""
    return DataError(f"{place}: cannot be written ({error.strerror}); choose another place with {option}")


@contextmanager
def locked(folder: Path, *, wait: bool, option: str = "--data-root") -> Iterator[None]:
    """Hold the right to make `folder`: one at a time. With `wait` the others queue up, else they get a DataError.

    The lock goes with the process, however it ends; its file, a hidden sibling, is taken away at the end. A lock of POSIX,
    which forked workers do not inherit: those of a killed process would hold it for a while. It does not hold off other
    threads of its process, and is lost when one of these closes the file: they are held off before they open it.
    """
    path = folder.with_name(f".{folder.name}.lock")
    with _alone_in_process(folder, wait=wait):
        try:
            file = _lock(path, wait=wait)
        except _ClosedError as error:
            raise _closed(path, error, option) from None
        except (BlockingIOError, PermissionError):
            raise DataError(f"{folder}: another process is making this data set; wait until it is done") from None
        except OSError as error:
            raise cannot_write(folder.parent, error, option) from None
        with file:
            try:
                yield
            finally:
                with suppress(PermissionError):  # in a place where only owners may remove, and the file was there
                    path.unlink(missing_ok=True)


class _ClosedError(PermissionError):
    """The file of a lock may not be opened, which says nothing about whether somebody holds it."""


def _closed(path: Path, error: OSError, option: str) -> DataError:
    try:
        uid = path.stat().st_uid
    except OSError:
        return cannot_write(path.parent, error, option)
    try:
        owner = path.owner()
    except KeyError:
        owner = f"user {uid}"
    return DataError(
        f"{path}: cannot be opened ({error.strerror}); it is {owner}'s, who may be making this data set or was stopped while doing so. "
        f"Ask {owner} to finish, or to delete this file, or choose another place with {option}"
    )


_turn = threading.Condition()
_held: dict[Path, int] = {}  # lock of a folder -> the thread of this process that has it


def _forget() -> None:
    """A forked process holds none of its parent's locks, and has none of its threads."""
    global _turn
    _turn = threading.Condition()
    _held.clear()


os.register_at_fork(after_in_child=_forget)


@contextmanager
def _alone_in_process(folder: Path, *, wait: bool) -> Iterator[None]:
    """Hold off the other threads of this process."""
    key, own = folder.parent.resolve() / folder.name, threading.get_ident()
    with _turn:
        while key in _held:
            if not wait or _held[key] == own:
                raise DataError(f"{folder}: this process is making this data set already; wait until it is done")
            _turn.wait()
        _held[key] = own
    try:
        yield
    finally:
        with _turn:
            _held.pop(key, None)
            _turn.notify_all()


def _lock(path: Path, *, wait: bool) -> IO[str]:
    """The locked file: the one that has the name now, not one that its holder removed while we waited."""
    while True:
        try:
            file = path.open("a")
        except PermissionError as error:
            raise _ClosedError(error.errno, error.strerror) from None
        try:
            fcntl.lockf(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            there, ours = path.stat(), os.fstat(file.fileno())
            if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                return file
        except FileNotFoundError:
            pass
        except BaseException:
            file.close()
            raise
        file.close()


@contextmanager
def made(folder: Path) -> Iterator[Path]:
    """A hidden sibling to write into, which becomes `folder` at the end; on an error it is removed. To be used under the lock.

    What a killed process left is removed first. The name is new each time: workers of a killed process may still be
    writing into theirs. The files are not flushed: what a power cut takes shows in their sizes, which the footprint knows.
    """
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.partial-*"):
        shutil.rmtree(left, ignore_errors=True)
    partial = folder.with_name(f".{folder.name}.partial-{secrets.token_hex(6)}")
    try:
        yield partial
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
