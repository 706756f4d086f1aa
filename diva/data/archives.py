"""Members of archives (zip, tar, tar.gz) and of folders, in their own order; nothing is unpacked to a place that a member names."""

from __future__ import annotations

import tarfile
import zipfile
from typing import IO, TYPE_CHECKING, cast

from diva.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def members(archive: Path) -> list[str]:
    """The names of the files."""
    if archive.is_dir():
        return sorted(path.relative_to(archive).as_posix() for path in archive.rglob("*") if path.is_file())
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            return [info.filename for info in opened.infolist() if not info.is_dir()]
    return [name for name, _ in contents(archive)]


def open_member(archive: Path, name: str) -> IO[bytes]:
    """One file, to be read."""
    if archive.is_dir():
        return (archive / name).open("rb")
    try:
        return zipfile.ZipFile(archive).open(name)
    except KeyError:
        raise DataError(f"{archive.name}: has no file {name}") from None


def contents(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Every file with its content, in one pass; each is valid until the next one is asked for."""
    if archive.is_dir() or zipfile.is_zipfile(archive):
        for name in members(archive):
            with open_member(archive, name) as stream:
                yield name, stream
        return
    try:
        with tarfile.open(archive, "r|*") as opened:
            for member in opened:
                if member.isreg():
                    yield member.name, cast("IO[bytes]", opened.extractfile(member))
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{archive.name}: damaged ({error}). Delete it and download it again") from None
