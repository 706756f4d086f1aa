"""Places of data sets: the data root, the lock of a folder, and folders that appear whole or not at all."""

from __future__ import annotations

import fcntl
import glob
import os
import secrets
import shutil
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from diva.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def prepare_root(data_root: Path) -> None:
    """Make the data root, with a `.gitignore` that keeps its content out of every repository."""
    try:
        data_root.mkdir(parents=True, exist_ok=True)
        ignore = data_root / ".gitignore"
        if not ignore.exists() and not any(data_root.iterdir()):
            ignore.write_text("*\n")
    except OSError as error:
        raise cannot_write(data_root, error) from None


def cannot_write(place: Path, error: OSError, option: str = "--data-root") -> DataError:
    """The error for a place where nothing can be written."""
    return DataError(f"{place}: cannot be written ({error.strerror}); choose another place with {option}")


@contextmanager
def locked(folder: Path, *, wait: bool, option: str = "--data-root") -> Iterator[None]:
    """Hold the right to make `folder`: one process at a time. With `wait` the others queue up, else they get a DataError.

    The lock goes with the process, however it ends; its file, a hidden sibling, is taken away at the end. A lock of POSIX,
    which forked workers do not inherit: those of a killed process would hold it for a while.
    """
    path = folder.with_name(f".{folder.name}.lock")
    try:
        file = _lock(path, wait=wait)
    except (BlockingIOError, PermissionError) as error:
        if not path.exists():
            raise cannot_write(folder.parent, error, option) from None
        raise DataError(f"{folder}: another process is making this data set; wait until it is done") from None
    except OSError as error:
        raise cannot_write(folder.parent, error, option) from None
    with file:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _lock(path: Path, *, wait: bool) -> IO[str]:
    """The locked file: the one that has the name now, not one that its holder removed while we waited."""
    while True:
        file = path.open("a")
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
