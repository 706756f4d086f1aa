"""An archive that could do harm is refused with a message of its own, and nothing is written; all others give every byte."""

import bz2
import gzip
import lzma
import os
import stat
import struct
import tarfile
import zipfile
from functools import partial
from pathlib import Path

import pytest

from diva.data.archives import Limits, extract, is_foreign, members, open_member, read_members, read_once, stem_of
from diva.data.archives.streams import stream
from diva.errors import DataError
from tests.data.hostile import (
    FILES,
    entry,
    flagged,
    huge_header,
    negative,
    overlapping,
    refuse_utf8_zip,
    sparse,
    tar_of,
    with_zeros,
    zip_entry,
    zip_of,
)

PACKED = {
    "zip": lambda path: zip_of(path, FILES.items()),
    "stored zip": lambda path: zip_of(path, FILES.items(), zipfile.ZIP_STORED),
    "bzip2 zip": lambda path: zip_of(path, FILES.items(), zipfile.ZIP_BZIP2),
    "tar": lambda path: tar_of(path, FILES.items(), "w"),
    "tar.gz": lambda path: tar_of(path, FILES.items(), "w:gz"),
    "tar.bz2": lambda path: tar_of(path, FILES.items(), "w:bz2"),
    "tar.xz": lambda path: tar_of(path, FILES.items(), "w:xz"),
    "old tar": lambda path: tar_of(path, FILES.items(), "w", format=tarfile.USTAR_FORMAT),
    "gnu tar": lambda path: tar_of(path, FILES.items(), "w", format=tarfile.GNU_FORMAT),
}


def folder_of(path: Path) -> Path:
    for name, content in FILES.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


@pytest.fixture(params=[*PACKED, "folder"])
def archive(request, tmp_path):
    """The same files in every kind of archive; the name says nothing of the kind."""
    return (PACKED.get(request.param) or folder_of)(tmp_path / "archive")


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# --- What is fine -----------------------------------------------------------------------------------------------------


def test_every_kind_gives_all_members_and_their_bytes(archive):
    assert {member.name: member.size for member in members(archive)} == {k: len(v) for k, v in FILES.items()}
    for name, content in FILES.items():
        with open_member(archive, name) as file:
            assert file.read(7) == content[:7] and file.read() == content[7:]


def test_many_members_come_in_the_archives_order_in_one_pass(archive):
    order = [member.name for member in members(archive)]
    wanted = [order[2], order[0]]
    read = [(member.name, content.read()) for member, content in read_members(archive, wanted)]
    assert read == [(name, FILES[name]) for name in order if name in wanted]


def test_members_are_read_once_as_they_come(archive):
    order = [member.name for member in members(archive)]
    read = [(name, content.read()) for name, content in read_once(archive, lambda name: name != "a/1.txt")]
    assert read == [(name, FILES[name]) for name in order if name != "a/1.txt"]


def test_members_are_copied_to_where_they_belong(archive, tmp_path):
    (tmp_path / "out").mkdir()
    places = {"a/1.txt": [tmp_path / "out/x", tmp_path / "out/y"], "a/b/2.bin": [tmp_path / "out/z"]}
    counts: list[int] = []
    extract(archive, places, counts.append)
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == {
        "x": b"one",
        "y": b"one",
        "z": FILES["a/b/2.bin"],
    }
    assert sum(counts) == 3


def test_a_file_that_is_there_is_not_written_over(archive, tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(FileExistsError):
        extract(archive, {"a/1.txt": [tmp_path / "mine"]})
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_missing_member_is_named_before_anything_is_written(archive, tmp_path):
    with pytest.raises(DataError, match=r"archive: has no member 'none' and 1 more"):
        extract(archive, {"a/1.txt": [tmp_path / "x"], "none": [tmp_path / "y"], "nothing": [tmp_path / "z"]})
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("module", [gzip, bz2, lzma])
def test_a_compressed_single_file_has_one_member(tmp_path, module):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    with module.open(path, "wb") as file:
        file.write(b"x" * 100_000)
    assert [member.name for member in members(path)] == ["train-images-idx3-ubyte"]
    with open_member(path, "train-images-idx3-ubyte") as content:
        assert content.read() == b"x" * 100_000


def test_dots_and_doubled_slashes_in_names_are_tidied(tmp_path):
    path = tar_of(tmp_path / "t", [("./a//1.txt", b"one"), (entry("./", tarfile.DIRTYPE), b""), ("./a/./2", b"2")])
    assert [member.name for member in members(path)] == ["a/1.txt", "a/2"]
    with open_member(path, "a/2") as file:
        assert file.read() == b"2"


def test_names_in_utf8_that_a_zip_does_not_declare_are_read_as_such(tmp_path):
    path = zip_of(tmp_path / "z", [("gerät/blå.txt", b"1")])
    data = path.read_bytes()
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.index(signature) + offset
        data = data[:place] + b"\0\0" + data[place + 2 :]
    path.write_bytes(data)
    assert [member.name for member in members(path)] == ["gerät/blå.txt"]
    with open_member(path, "gerät/blå.txt") as file:
        assert file.read() == b"1"


def test_an_archive_that_was_replaced_is_looked_at_anew(tmp_path):
    path = zip_of(tmp_path / "z", [("a", b"1")])
    assert [member.name for member in members(path)] == ["a"]
    path.unlink()
    zip_of(path, [("b", b"12")])
    assert [member.name for member in members(path)] == ["b"]


def test_what_a_footprint_ignores_is_no_member_of_a_folder(tmp_path):
    folder = folder_of(tmp_path / "f")
    (folder / ".git").mkdir()
    (folder / ".git" / "x").write_text("")
    (folder / "a" / "Thumbs.db").write_text("")
    assert [member.name for member in members(folder)] == sorted(FILES)


def test_stems_and_foreign_archives():
    assert [stem_of(n) for n in ("a.tar.gz", "b.TGZ", "c.zip", "d-ubyte.gz", "e.v2.tar.xz", "f")] == [
        "a", "b", "c", "d-ubyte", "e.v2", "f",
    ]  # fmt: skip
    assert is_foreign("x.RAR") and is_foreign("x.7z") and not is_foreign("x.zip")


# --- What is refused ----------------------------------------------------------------------------------------------------

BAD_NAMES = {
    "../evil": "leads to a folder above",
    "a/../../evil": "leads to a folder above",
    "..": "leads to a folder above",
    "/evil": "is an absolute path",
    "//evil": "is an absolute path",
    "C:/evil": "names a drive",
    "c:evil": "names a drive",
    "..\\evil": "has a backslash",
    "a\\..\\evil": "has a backslash",
    "a\x1b[2Jevil": "has control characters",
    "a\nevil": "has control characters",
    "x" * 300: "longer name than file systems take",
    "y/" * 2500 + "y": "longer name than file systems take",
}


GOOD = ("good", b"good")


def _with_name(pack, name: str, path: Path) -> Path:
    return pack(path, [GOOD, (name, b"evil")])


HOSTILE = {
    "symlink out": (lambda p: tar_of(p, [GOOD, (entry("a/evil", tarfile.SYMTYPE, "../../x"), b"")]), "leads out of the archive"),
    "symlink to root": (lambda p: tar_of(p, [GOOD, (entry("evil", tarfile.SYMTYPE, "/etc"), b"")]), "leads out of the archive"),
    "symlink inside": (lambda p: tar_of(p, [GOOD, (entry("evil", tarfile.SYMTYPE, "good"), b"")]), "data sets need none"),
    "hard link": (lambda p: tar_of(p, [GOOD, (entry("evil", tarfile.LNKTYPE, "../x"), b"")]), "is a hard link to '../x'"),
    "character device": (lambda p: tar_of(p, [GOOD, (entry("evil", tarfile.CHRTYPE), b"")]), "is a device"),
    "block device": (lambda p: tar_of(p, [GOOD, (entry("evil", tarfile.BLKTYPE), b"")]), "is a device"),
    "pipe": (lambda p: tar_of(p, [GOOD, (entry("evil", tarfile.FIFOTYPE), b"")]), "is a device or a pipe"),
    "unknown type": (lambda p: tar_of(p, [GOOD, (entry("evil", b"Z"), b"")]), "is of the unknown type"),
    "sparse": (sparse, "is a sparse file"),
    "negative size": (negative, "evil' says that it has -1 bytes|is damaged"),
    "long header": (huge_header, "an extended header of 2,000,"),
    "tar twice": (lambda p: tar_of(p, [GOOD, ("evil", b"1"), ("./evil", b"2")]), "is there twice"),
    "tar one letter twice": (lambda p: tar_of(p, [("e", b"1"), ("e", b"2")]), "'e' is there twice"),
    "tar case": (lambda p: tar_of(p, [GOOD, ("evil", b"1"), ("EVIL", b"2")]), "'EVIL' and 'evil' differ only in case"),
    "tar case of folders": (lambda p: tar_of(p, [("evil/1", b"1"), ("Evil/2", b"2")]), "'Evil' and 'evil' differ only in case"),
    "tar accents": (lambda p: tar_of(p, [("evil\u00e9", b"1"), ("evile\u0301", b"2")]), "the form of accents"),
    "tar bad UTF-8": (lambda p: tar_of(p, [GOOD, ("evil\udcff", b"1")], format=tarfile.GNU_FORMAT), "not valid UTF-8"),
    "file and folder": (lambda p: tar_of(p, [("evil", b"1"), ("evil/2", b"2")]), "is a file, and the folder 'evil'"),
    "folder and file": (lambda p: zip_of(p, [("evil/x/2", b"2"), ("evil", b"1")]), "is a file, and the folder 'evil'"),
    "no name": (lambda p: tar_of(p, [GOOD, ("./", b"1")]), "is a file without a name"),
    "zip symlink out": (lambda p: zip_of(p, [GOOD, (zip_entry("evil", stat.S_IFLNK | 0o777), b"../x")]), "link to '../x' that leads"),
    "zip symlink inside": (lambda p: zip_of(p, [GOOD, (zip_entry("evil", stat.S_IFLNK | 0o777), b"good")]), "data sets need none"),
    "zip device": (lambda p: zip_of(p, [GOOD, (zip_entry("evil", stat.S_IFCHR | 0o666), b"")]), "is a device or a pipe"),
    "zip case": (lambda p: zip_of(p, [GOOD, ("evil", b"1"), ("Evil", b"2")]), "'Evil' and 'evil' differ only in case"),
    "zip bad UTF-8": (refuse_utf8_zip, "not valid UTF-8"),
    "zip NUL": (with_zeros, "has a NUL in its name"),
    "zip encrypted": (lambda p: flagged(p, flag=1), "'evil' is encrypted"),
    "zip method": (lambda p: flagged(p, method=99), "'evil' is compressed by method 99"),
    "zip overlap": (overlapping, r"'evil\d' overlaps another member"),
    "zip empty": (lambda p: zip_of(p, []), "holds no files"),
    "zip bomb": (lambda p: zip_of(p, [GOOD, ("evil", bytes(80 << 20))]), "'evil' brings the unpacked size to 83,886,084 bytes, too many"),
    "zip bomb of many": (lambda p: zip_of(p, [(f"evil{i}", bytes(10 << 20)) for i in range(8)]), "brings the unpacked size to"),
    "tar bomb": (lambda p: tar_of(p, [GOOD, ("evil", bytes(80 << 20))]), "'evil' brings the unpacked size to"),
    "xz bomb": (lambda p: tar_of(p, [GOOD, ("evil", bytes(80 << 20))], "w:xz"), "'evil' brings the unpacked size to"),
}  # fmt: skip
for _bad, _said in BAD_NAMES.items():
    HOSTILE[f"tar {_bad[:12]!r}"] = (partial(_with_name, tar_of, _bad), _said)
    HOSTILE[f"zip {_bad[:12]!r}"] = (partial(_with_name, zip_of, _bad), _said)
HOSTILE["tar folder above"] = (
    lambda p: tar_of(p, [GOOD, (entry("../evil/", tarfile.DIRTYPE), b"")]),
    "leads to a folder above",
)
HOSTILE["zip folder above"] = (lambda p: zip_of(p, [GOOD, ("../evil/", b"")]), "leads to a folder above")


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_archive_is_refused_with_its_own_message_and_nothing_is_written(tmp_path, what):
    make, said = HOSTILE[what]
    inner = tmp_path / "data" / "inner"
    inner.mkdir(parents=True)
    path = make(inner / "bad.archive")
    before = tree(tmp_path)
    for use in (
        members,
        lambda p: extract(p, {"good": [inner / "good"]}),
        lambda p: list(read_once(p, lambda name: True)),
    ):
        with pytest.raises(DataError, match=said) as raised:
            use(path)
        assert str(path) in str(raised.value) and str(raised.value).isprintable()
    assert tree(tmp_path) == before
    assert not [name for name in os.listdir("/tmp") if name.startswith("evil")]  # noqa: PTH208


def test_the_corpus_is_as_large_as_it_says():
    assert len(HOSTILE) >= 60 and len({said for _, said in HOSTILE.values()}) >= 25


def test_too_many_members_are_refused(tmp_path):
    limits = Limits(n_members=3)
    for path in (
        zip_of(tmp_path / "z", [(str(i), b"") for i in range(4)]),
        tar_of(tmp_path / "t", [(str(i), b"") for i in range(4)]),
    ):
        with pytest.raises(DataError, match="'3' is one of more than 3 members"):
            members(path, limits)
        assert len(members(path, Limits(n_members=4))) == 4


def test_a_member_above_the_limit_is_refused(tmp_path):
    for path in (zip_of(tmp_path / "z", [("a", b"12345")]), tar_of(tmp_path / "t", [("a", b"12345")])):
        with pytest.raises(DataError, match=r"'a' says that it has 5 bytes, more than 4"):
            members(path, Limits(member_bytes=4))


def test_a_single_file_that_unpacks_to_too_much_is_cut_off(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(1 << 20)))
    limits = Limits(ratio=1, slack_bytes=1000)
    with (
        open_member(path, "bomb", limits) as file,
        pytest.raises(DataError, match=r"unpacks to more than .* it is refused"),
    ):
        file.read()


@pytest.mark.parametrize("kind", PACKED)
def test_an_archive_cut_anywhere_is_refused_or_gives_every_byte(tmp_path, kind):
    whole = PACKED[kind](tmp_path / "whole").read_bytes()
    refused = 0
    for cut in sorted({1, 100, 512, 600, 1024, 1536, *range(4, len(whole), max(1, len(whole) // 40)), len(whole) - 1}):
        path = tmp_path / f"cut{cut}"
        path.write_bytes(whole[:cut])
        try:
            read = {member.name: content.read() for member, content in read_members(path, FILES)}
        except DataError:
            refused += 1
        else:
            assert read == FILES  # only what fills up the last block was cut off
    assert refused > 20


def test_a_tar_that_ends_between_two_members_was_cut_off(tmp_path):
    whole = tar_of(tmp_path / "whole", FILES.items(), "w").read_bytes()
    (tmp_path / "cut").write_bytes(whole[:1024])
    with pytest.raises(DataError, match="is damaged or was cut off"):
        members(tmp_path / "cut")


def test_a_damaged_header_does_not_pass_for_the_end(tmp_path):
    whole = tar_of(tmp_path / "whole", FILES.items(), "w").read_bytes()
    (tmp_path / "damaged").write_bytes(whole[:1030] + b"?" + whole[1031:])
    with pytest.raises(DataError, match=r"is damaged or was cut off \(bad checksum\)"):
        members(tmp_path / "damaged")


@pytest.mark.parametrize("blocks", [[b"abc", b""], [b"abcdef", b""]])
def test_a_content_that_is_not_as_long_as_declared_is_told(tmp_path, blocks):
    left = list(blocks)
    with pytest.raises(DataError, match=r"'a' is damaged or was cut off \(it has \d bytes, its header says 4\)"):
        stream(tmp_path / "x", "a", lambda n: left.pop(0), 4).read()


@pytest.mark.parametrize("kind", PACKED)
def test_a_flipped_bit_is_found_where_the_archive_has_checksums(tmp_path, kind):
    whole = PACKED[kind](tmp_path / "whole").read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 30)):
        path = tmp_path / "flipped"
        path.unlink(missing_ok=True)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            read = {member.name: content.read() for member, content in read_members(path, FILES)}
        except DataError:
            continue
        except Exception as error:
            pytest.fail(f"byte {place}: {type(error).__name__}: {error}")
        assert "tar" in kind or read == FILES  # a plain tar has checksums for its headers alone
        assert set(read) == set(FILES)


def test_a_header_that_lies_about_the_length_is_found_while_reading(tmp_path):
    path = zip_of(tmp_path / "z", [("a", bytes(1000))])
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 500)
    path.write_bytes(data)
    with open_member(path, "a") as file, pytest.raises(DataError, match="'a' is damaged or was cut off"):
        file.read()


@pytest.mark.parametrize(("content", "said"), [
    (b"Rar!\x1a\x07\x01\0rest", "is a rar archive, which diva does not unpack; .*--from FOLDER"),
    (b"7z\xbc\xaf\x27\x1crest", "is a 7z archive, which diva does not unpack"),
    (b"<!DOCTYPE html><html>", "is no zip, tar.*it looks like a web page"),
    (b"", "is no zip, tar"),
    (b"\x1f\x8b\x08garbage", "is damaged or was cut off"),
    (b"PK\x03\x04garbage", "is damaged or was cut off"),
])  # fmt: skip
def test_what_is_no_archive_is_told(tmp_path, content, said):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError, match=said):
        members(tmp_path / "x")


def test_a_link_that_leads_out_of_an_unpacked_folder_is_refused(tmp_path):
    folder = folder_of(tmp_path / "f")
    (tmp_path / "secret").write_text("secret")
    (folder / "a" / "in").symlink_to("1.txt")
    assert "a/in" in [member.name for member in members(folder)]
    for target in (tmp_path / "secret", tmp_path):
        (folder / "a" / "out").unlink(missing_ok=True)
        (folder / "a" / "out").symlink_to(target)
        with pytest.raises(DataError, match="'a/out' is a link that leads out of the folder"):
            members(folder)
