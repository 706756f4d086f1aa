"""Archives: the members of zip and tar files, read as streams; an archive that could do harm is refused before anything is written.

A folder counts as an archive that is unpacked already, and a compressed single file as one with a single member.
"""

from __future__ import annotations

import os
import re
import stat
import tarfile
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NamedTuple, NoReturn, final

from diva.data.archives.names import Names
from diva.data.archives.streams import BLOCK, DAMAGE, Source, damaged, kind_of, refused, shown, stream
from diva.errors import DataError
from diva.records.footprint import is_ignored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

_LONGEST_HEADER: Final = 1 << 20  # bytes of an extended tar header: names and dates, read into memory at once
_EXTENDED = (
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
)  # fmt: skip
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


class Limits(NamedTuple):
    """What an archive may unpack to. Real data sets stay far below; an archive made to fill the disk does not."""

    n_members: int = 10_000_000
    member_bytes: int = 1 << 36
    ratio: int = 200  # times the size of the archive, for all members together
    slack_bytes: int = 1 << 26  # so that a small archive may hold a long empty file

    def total_bytes(self, archive_bytes: int) -> int:
        """The most that all members of an archive of this size may hold together."""
        return self.ratio * archive_bytes + self.slack_bytes


LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class Member:
    """A plain file in an archive: its path, normalised, with `/`; its size in bytes, None when only reading it would tell."""

    name: str
    size: int | None


def members(path: Path, limits: Limits = LIMITS) -> tuple[Member, ...]:
    """The plain files of an archive, in its order (a folder's in the order of the names' bytes); a tar is read through once.

    Raises DataError that names archive and member for everything that is not a plain file inside: see the tests for the list.
    """
    facts = path.stat()
    if stat.S_ISDIR(facts.st_mode):
        return _members_of_folder(path)
    return _checked(path, facts.st_size, facts.st_mtime_ns, facts.st_ino, limits)


@contextmanager
def open_member(path: Path, name: str, limits: Limits = LIMITS) -> Iterator[IO[bytes]]:
    """One member as a stream that can be read once; DataError when there is none of that name, or when it is damaged.

    In a compressed tar it is found by reading what lies before it; for many members use `read_members`.
    """
    for _, content in read_members(path, [name], limits):
        yield content
        return


def read_members(path: Path, names: Iterable[str], limits: Limits = LIMITS) -> Iterator[tuple[Member, IO[bytes]]]:
    """The named members with their contents, in the order of the archive, which is read through once at most.

    A stream is good until the next one is asked for. All members are checked before the first one is given.
    """
    there = {member.name: member for member in members(path, limits)}
    wanted = set(names)
    missing = sorted(wanted - set(there))
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"{path}: has no member {shown(missing[0])}{more}; is it the archive that the card describes?")
    kind = kind_of(path)
    read = {"folder": _read_folder, "zip": _read_zip, "tar": _read_tar, "single": _read_single}[kind]
    for name, content in read(path, wanted, limits):
        yield there[name], content


def read_once(path: Path, wanted: Callable[[str], bool], limits: Limits = LIMITS) -> Iterator[tuple[str, IO[bytes]]]:
    """The wanted members with their contents, in the order of the archive; a tar is checked while it is read.

    So it is decompressed once, not twice. Only for readers to whom no member's name becomes a path, and who write nothing
    that stays when a DataError comes late.
    """
    if kind_of(path) != "tar":
        for member, content in read_members(path, [m.name for m in members(path) if wanted(m.name)], limits):
            yield member.name, content
        return
    names, tally = _names_of(path), _Tally(path, path.stat().st_size, limits)
    with _tar(path, limits) as entries:
        for member, info, tar in _plain(path, names, entries):
            tally.add(member)
            if wanted(member.name):
                file = tar.extractfile(info)
                assert file is not None
                yield member.name, stream(path, member.name, file.read, info.size)
    names.check_parents()


def extract(path: Path, targets: Mapping[str, Sequence[Path]], report: Callable[[int], None] | None = None) -> None:
    """Copy members to files that must not exist yet; their folders must. `report` gets the number of files written.

    Raises DataError before the first file is written when the archive is refused or a member is missing.
    """
    for member, content in read_members(path, targets):
        _copy(content, targets[member.name])
        if report is not None:
            report(len(targets[member.name]))


def _copy(content: IO[bytes], targets: Sequence[Path]) -> None:
    first, *others = targets
    with first.open("xb") as file:
        while block := content.read(BLOCK):
            file.write(block)
    for other in others:
        with first.open("rb") as source, other.open("xb") as file:
            while block := source.read(BLOCK):
                file.write(block)


def stem_of(name: str) -> str:
    """The name of an archive without what says that it is one."""
    return re.sub(r"(\.(tar|tgz|tbz2?|txz|zip|gz|bz2|xz|rar|7z))+$", "", name, flags=re.IGNORECASE)


def is_foreign(name: str) -> bool:
    """Whether a file of this name is an archive of a kind that is not unpacked here."""
    return name.lower().endswith((".rar", ".7z"))


# --- Members, checked -------------------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def _checked(path: Path, size: int, mtime_ns: int, inode: int, limits: Limits) -> tuple[Member, ...]:
    """The members of a file of this identity; a reader asks several times."""
    kind = kind_of(path)
    if kind == "single":
        return (Member(stem_of(path.name), None),)
    names, tally = _names_of(path), _Tally(path, size, limits)
    found: list[Member] = []
    for member in _list_zip(path, names) if kind == "zip" else _list_tar(path, names, limits):
        tally.add(member)
        found.append(member)
    names.check_parents()
    if not found:
        raise DataError(f"{path}: holds no files; delete it and get it again")
    return tuple(found)


def _names_of(path: Path) -> Names:
    return Names(lambda name, why: _refuse(path, name, why))


@final
class _Tally:
    """What the members of an archive add up to, held against the limits."""

    def __init__(self, path: Path, size: int, limits: Limits) -> None:
        self._path, self._size, self._limits = path, size, limits
        self._n, self._total, self._most = 0, 0, limits.total_bytes(size)

    def add(self, member: Member) -> None:
        """Count a member; DataError when it is one too many or too large."""
        n_bytes = member.size or 0
        self._n += 1
        self._total += n_bytes
        if n_bytes > self._limits.member_bytes:
            why = f"says that it has {n_bytes:,} bytes, more than {self._limits.member_bytes:,}"
        elif self._total > self._most:
            why = f"brings the unpacked size to {self._total:,} bytes, too many for {self._size:,} packed ones"
        elif self._n > self._limits.n_members:
            why = f"is one of more than {self._limits.n_members:,} members"
        else:
            return
        raise refused(self._path, member.name, why)


def _refuse(path: Path, name: str, why: str) -> NoReturn:
    raise refused(path, name, why)


def _list_zip(path: Path, names: Names) -> Iterator[Member]:
    with _zip(path) as archive:
        infos = archive.infolist()
        _refuse_overlaps(path, infos, archive.start_dir)
        for info in infos:
            name = _zip_name(info)
            kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system in (3, 19) else 0
            if kind == stat.S_IFLNK:
                _refuse_link(path, name, _target_of(archive, info))
            if kind in (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK):
                raise refused(path, name, "is a device or a pipe, not a file")
            if info.is_dir():
                names.add_folder(name)
                continue
            if info.flag_bits & 1:
                raise refused(path, name, "is encrypted; unpack it yourself and use --from FOLDER")
            if info.compress_type not in _METHODS:
                raise refused(path, name, f"is compressed by method {info.compress_type}, which diva does not know")
            yield Member(names.add_file(name), info.file_size)


@contextmanager
def _zip(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except UnicodeDecodeError as error:
        raise refused(path, repr(error.object)[2:-1], "is a name that is not valid UTF-8") from None
    except DAMAGE as error:
        raise damaged(path, error) from None
    with archive:
        yield archive


def _zip_name(info: zipfile.ZipInfo) -> str:
    """A member's name. Many programs write UTF-8 without saying so, which is then read as code page 437."""
    name = info.orig_filename
    if info.flag_bits & 0x800 or name.isascii():
        return name
    try:
        return name.encode("cp437").decode("utf-8")
    except UnicodeError:
        return name


def _target_of(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str:
    try:
        with archive.open(info) as file:
            return file.read(4096).decode("utf-8", "replace")
    except DAMAGE:
        return "?"


def _refuse_overlaps(path: Path, infos: list[zipfile.ZipInfo], end: int) -> None:
    """Entries that share bytes make a small archive unpack to a huge one; no program that packs files writes them."""
    ordered = sorted(infos, key=lambda info: info.header_offset)
    starts = [*(info.header_offset for info in ordered[1:]), end]
    for info, following in zip(ordered, starts, strict=False):
        least = info.header_offset + zipfile.sizeFileHeader + len(info.orig_filename) + info.compress_size  # type: ignore[attr-defined]
        if least > following:
            raise refused(path, _zip_name(info), "overlaps another member of the archive")


class _Header(tarfile.TarInfo):
    """A tar header; one that is damaged or too large ends the reading with an error, where tarfile would say nothing."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        """Part of the interface of tarfile."""
        if len(buf) < tarfile.BLOCKSIZE:
            raise EOFError("it ends without the mark that ends a tar file")
        if any(buf):
            try:
                header = super().frombuf(buf, encoding, errors)
            except tarfile.TarError as error:
                raise ValueError(str(error)) from None  # a TarError would count as the end of the archive
            if header.type in _EXTENDED and header.size > _LONGEST_HEADER:
                raise ValueError(f"an extended header of {header.size:,} bytes")
            return header
        return super().frombuf(buf, encoding, errors)


@contextmanager
def _tar(path: Path, limits: Limits) -> Iterator[Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]]:
    """The entries of a tar from first to last, without going back."""
    with Source(path, limits.total_bytes(path.stat().st_size) + BLOCK) as source:

        def entries() -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
            try:
                tar = tarfile.open(  # noqa: SIM115
                    fileobj=source, mode="r|", bufsize=64 * tarfile.BLOCKSIZE, tarinfo=_Header, encoding="utf-8",
                    errors="surrogateescape",
                )  # type: ignore[call-overload]  # fmt: skip
                while (info := tar.next()) is not None:
                    yield info, tar
                    tar.members.clear()  # it would keep a million headers
            except DAMAGE as error:
                raise damaged(path, error) from None

        yield entries()


def _list_tar(path: Path, names: Names, limits: Limits) -> Iterator[Member]:
    with _tar(path, limits) as entries:
        for member, _, _ in _plain(path, names, entries):
            yield member


def _plain(
    path: Path, names: Names, entries: Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]
) -> Iterator[tuple[Member, tarfile.TarInfo, tarfile.TarFile]]:
    """The plain files among the entries of a tar, their names taken; anything that is neither file nor folder is refused."""
    for info, tar in entries:
        name = info.name
        if info.issym():
            _refuse_link(path, name, info.linkname)
        if info.islnk():
            raise refused(path, name, f"is a hard link to {shown(info.linkname)}; data sets need none")
        if info.isdev():
            raise refused(path, name, "is a device or a pipe, not a file")
        if info.issparse():
            raise refused(path, name, "is a sparse file, whose size says nothing about the archive's")
        if info.isdir():
            names.add_folder(name)
        elif not info.isreg() or info.type not in tarfile.REGULAR_TYPES:
            raise refused(path, name, f"is of the unknown type {info.type!r}")
        elif info.size < 0:
            raise refused(path, name, f"says that it has {info.size} bytes")
        else:
            yield Member(names.add_file(name), info.size), info, tar


def _refuse_link(path: Path, name: str, target: str) -> NoReturn:
    parts = [*name.split("/")[:-1], *target.split("/")]
    depth, least = 0, 0
    for part in parts:
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        least = min(least, depth)
    out = target.startswith("/") or least < 0
    how = "that leads out of the archive" if out else "; data sets need none"
    raise refused(path, name, f"is a symbolic link to {shown(target)}{' ' if out else ''}{how}")


def _members_of_folder(path: Path) -> tuple[Member, ...]:
    """The plain files below a folder; a link that leads out of it is refused, what a footprint ignores is left out."""
    root = path.resolve()
    found: list[Member] = []
    for place, folders, files in os.walk(path):
        folders[:] = [name for name in folders if not is_ignored(name)]
        for name in [*files, *(folder for folder in folders if Path(place, folder).is_symlink())]:
            file = Path(place, name)
            relative = file.relative_to(path).as_posix()
            if is_ignored(name):
                continue
            if file.is_symlink() and not file.resolve().is_relative_to(root):
                raise DataError(
                    f"{path}: {shown(relative)} is a link that leads out of the folder; put the files there themselves"
                )
            if file.is_file():
                found.append(Member(relative, file.stat().st_size))
    if not found:
        raise DataError(f"{path}: holds no files")
    return tuple(sorted(found, key=lambda member: os.fsencode(member.name)))


# --- Contents ---------------------------------------------------------------------------------------------------------


def _read_folder(path: Path, wanted: set[str], limits: Limits) -> Iterator[tuple[str, IO[bytes]]]:
    for member in members(path):
        if member.name in wanted:
            try:
                file = (path / member.name).open("rb")
            except OSError as error:
                raise DataError(f"{path / member.name}: cannot be read ({error.strerror})") from None
            with file:
                yield member.name, file


def _read_zip(path: Path, wanted: set[str], limits: Limits) -> Iterator[tuple[str, IO[bytes]]]:
    with _zip(path) as archive:
        for info in archive.infolist():
            name = Names.normal(_zip_name(info))
            if name not in wanted or info.is_dir():
                continue
            try:
                file = archive.open(info)
            except DAMAGE as error:
                raise damaged(path, error) from None
            with file:
                yield name, stream(path, name, file.read, info.file_size)


def _read_tar(path: Path, wanted: set[str], limits: Limits) -> Iterator[tuple[str, IO[bytes]]]:
    left = set(wanted)
    with _tar(path, limits) as entries:
        for info, tar in entries:
            name = Names.normal(info.name)
            if name not in left or not info.isreg():
                continue
            file = tar.extractfile(info)
            assert file is not None
            yield name, stream(path, name, file.read, info.size)
            left.discard(name)
            if not left:
                return


def _read_single(path: Path, wanted: set[str], limits: Limits) -> Iterator[tuple[str, IO[bytes]]]:
    with Source(path, limits.total_bytes(path.stat().st_size)) as source:
        yield stem_of(path.name), stream(path, stem_of(path.name), source.read, None)
