"""Archives as bytes: what kind of archive a file is, and streams that count what they give and name what is damaged."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from typing import IO, TYPE_CHECKING, Final, Literal, cast, final

from diva.errors import DataError
from diva.records.files import printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Kind = Literal["folder", "zip", "tar", "single"]

BLOCK: Final = 1 << 20
DAMAGE: Final = (
    EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, struct.error,
    ValueError, OverflowError, NotImplementedError, RuntimeError, MemoryError,
)  # fmt: skip
_FOREIGN = {b"Rar!": "a rar archive", b"7z\xbc\xaf": "a 7z archive"}


def shown(name: str) -> str:
    """A member's name, quoted, on one line of any terminal."""
    return repr(printable(name)) if len(name) <= 120 else repr(printable(name[:120]) + "...")


def refused(path: Path, name: str, why: str) -> DataError:
    """The error for a member that must not be unpacked."""
    return DataError(f"{path}: {shown(name)} {why}: the archive is refused, nothing of it was written")


def damaged(path: Path, error: BaseException) -> DataError:
    """The error for an archive that cannot be read to its end."""
    what = "ends too early" if isinstance(error, EOFError) else str(error) or type(error).__name__
    return DataError(f"{path}: is damaged or was cut off ({' '.join(what.split())}); delete it and get it again")


# --- What is it -------------------------------------------------------------------------------------------------------


def kind_of(path: Path) -> Kind:
    """What an archive is by its content; its name may say otherwise."""
    if path.is_dir():
        return "folder"
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "zip"
    if head[:4] in _FOREIGN:
        raise DataError(
            f"{path}: is {_FOREIGN[head[:4]]}, which diva does not unpack; do it yourself (unrar x, 7z x) "
            "and give the folder: diva download NAME --from FOLDER"
        )
    if _is_tar(head):
        return "tar"
    if _decompressor(head) is not None:
        with Source(path, 512) as source:
            return "tar" if _is_tar(source.read(512)) else "single"
    page = "; it looks like a web page, as a log-in or an error gives" if head.lstrip()[:1] == b"<" else ""
    raise DataError(f"{path}: is no zip, tar, tar.gz, tar.bz2, tar.xz or gz file{page}")


def _is_tar(head: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True


def _decompressor(head: bytes) -> Callable[[Path], IO[bytes]] | None:
    if head[:2] == b"\x1f\x8b":
        return lambda path: cast("IO[bytes]", gzip.open(path, "rb"))
    if head[:3] == b"BZh":
        return lambda path: cast("IO[bytes]", bz2.open(path, "rb"))
    if head[:6] == b"\xfd7zXZ\x00":
        return lambda path: cast("IO[bytes]", lzma.open(path, "rb"))
    return None


@final
class Source:
    """The decompressed bytes of a file, counted: reading more than `limit` is refused, whatever a header says."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path, self._limit, self._n = path, limit, 0
        with path.open("rb") as file:
            decompressor = _decompressor(file.read(8))
        self._file: IO[bytes] = decompressor(path) if decompressor else path.open("rb")

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, n: int = BLOCK) -> bytes:
        """Up to n bytes."""
        try:
            data = self._file.read(n)
        except DAMAGE as error:
            raise damaged(self._path, error) from None
        self._n += len(data)
        if self._n > self._limit:
            raise DataError(
                f"{self._path}: unpacks to more than {self._limit:,} bytes, too many for an archive of its size: it is refused, "
                "nothing of it was written"
            )
        return data


@final
class Content(io.RawIOBase):
    """A member's content: what goes wrong while reading is a DataError that names it, and so is a length other than declared."""

    def __init__(self, path: Path, name: str, read: Callable[[int], bytes], size: int | None) -> None:
        self._path, self._name, self._read, self._size, self._n = path, name, read, size, 0

    def readable(self) -> bool:
        """Part of the io interface."""
        return True

    def readinto(self, buffer: object) -> int:
        """Part of the io interface."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        try:
            data = self._read(len(view))
        except DAMAGE as error:
            raise self._fault(str(error) or "it ends too early") from None
        self._n += len(data)
        if self._size is not None and (self._n > self._size or (not data and self._n < self._size)):
            raise self._fault(f"it has {self._n:,} bytes, its header says {self._size:,}")
        view[: len(data)] = data
        return len(data)

    def _fault(self, what: str) -> DataError:
        return DataError(
            f"{self._path}: {shown(self._name)} is damaged or was cut off ({what}); delete the archive and get it again"
        )


def stream(path: Path, name: str, read: Callable[[int], bytes], size: int | None) -> IO[bytes]:
    """A member's content as a binary file; `size` is what the archive declares, if it does."""
    return io.BufferedReader(Content(path, name, read, size), BLOCK)
