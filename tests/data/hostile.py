"""Makers of archives, honest ones and such as mean harm."""

import io
import stat
import tarfile
import zipfile
from pathlib import Path

FILES = {"a/1.txt": b"one", "a/b/2.bin": bytes(range(256)) * 5000, "c.txt": b""}


def tar_of(path: Path, entries, mode="w:gz", **kwargs) -> Path:
    """A tar with (name or TarInfo, content) in this order."""
    with tarfile.open(path, mode, **kwargs) as tar:
        for entry, content in entries:
            info = entry if isinstance(entry, tarfile.TarInfo) else tarfile.TarInfo(entry)
            if info.isreg():
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def zip_of(path: Path, entries, method=zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for entry, content in entries:
            archive.writestr(entry, content)
    return path


def entry(name, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def zip_entry(name, mode=stat.S_IFREG | 0o644):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def refuse_utf8_zip(path: Path) -> Path:
    zip_of(path, [("good", b""), ("é" * 4, b"evil")])
    path.write_bytes(path.read_bytes().replace("é".encode() * 4, b"\xff" * 8))
    return path


def with_zeros(path: Path) -> Path:
    zip_of(path, [("good", b""), ("evil@.png", b"evil")])
    path.write_bytes(path.read_bytes().replace(b"evil@", b"evil\0"))
    return path


def flagged(path: Path, *, flag=0, method=None) -> Path:
    """A zip whose second member has a flag set or a method changed, in both of its headers."""
    zip_of(path, [("good", b""), ("evil", b"evil" * 10)])
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.rindex(signature) + offset
        data[place] |= flag
        if method is not None:
            data[place + 2] = method
    path.write_bytes(data)
    return path


def overlapping(path: Path) -> Path:
    """A zip whose central directory names the same bytes twice, as a zip bomb without nesting does."""
    zip_of(path, [("evil1", b"\0" * 1000), ("evil2", b"\0" * 1000)])
    data = path.read_bytes()
    first, second = (place for place in range(len(data)) if data[place : place + 4] == b"PK\x01\x02")
    path.write_bytes(data[: second + 42] + data[first + 42 : first + 46] + data[second + 46 :])
    return path


def sparse(path: Path) -> Path:
    info = tarfile.TarInfo("evil")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[156:157] = b"S"
    header[386:398], header[398:410] = b"00000000000\0", b"00000000000\0"
    header[483:495] = b"77777777777\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path.write_bytes(bytes(header) + bytes(1024))
    return path


def huge_header(path: Path) -> Path:
    """A name that is 2 MB long, in a header that is read into memory at once."""
    return tar_of(path, [("good", b"good"), ("x" * 2_000_000, b"evil")], format=tarfile.GNU_FORMAT)


def negative(path: Path) -> Path:
    info = tarfile.TarInfo("evil")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 12  # base 256, two's complement: -1
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path.write_bytes(bytes(header) + bytes(1024))
    return path
