"""Images that are not what they seem: other formats by another name, pipes, sizes that nobody decodes, depths that need care."""

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy
import pytest
from PIL import Image

from diva.data.analysis import analyse
from diva.data.analysis.kinds import count_codes
from diva.data.analysis.statistics import Files, Way, measure, read_modes
from diva.data.borders import _opened
from diva.data.images import open_image, opened
from diva.data.layouts.clips import frames_of
from diva.data.masks import mask_codes
from diva.data.pixels import Pixels
from diva.errors import DataError

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Path:
    """A folder first on PATH, whose `gs` leaves a trace when it is called."""
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "gs").write_text(f"#!/bin/sh\necho called >> {folder}/trace\n", encoding="utf-8")
    (folder / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    return folder


def grey_levels(path: Path) -> list[list[int]]:
    return numpy.asarray(open_image(path, "L")).tolist()


def pgm(path: Path, values: list[int], most: int = 65535) -> Path:
    path.write_bytes(b"P5 %d 1 %d\n" % (len(values), most) + numpy.array(values, ">u2").tobytes())
    return path


def huge(path: Path, side: int) -> Path:
    """A PNG of a few bytes that claims side x side pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    return path


def test_no_program_is_ever_called_for_an_image_that_is_none(programs, tmp_path):
    folder = tmp_path / "data"
    (folder / "cat").mkdir(parents=True)
    (folder / "cat" / "a.png").write_bytes(EPS)
    Image.new("L", (8, 8)).save(folder / "cat" / "b.png")
    path = folder / "cat" / "a.png"
    for use in (
        lambda: open_image(path, "L"),
        lambda: Pixels([path], "L", (8, 8)).decode(0),
        lambda: mask_codes(path),
        lambda: list(frames_of((path,))),
        lambda: _opened(path).__enter__().load(),
    ):
        with pytest.raises(DataError, match=r"a\.png: cannot be read as an image"):
            use()
    files = Files(folder, ["cat/a.png"])
    with pytest.raises(DataError, match=r"a\.png: cannot be read as an image"):
        read_modes(files, "threads")
    assert [index for index, _ in measure(files, [1], Way(1)).unreadable] == [0]
    assert [index for index, _ in count_codes(files, [(0, 0)], [1], Way(1), lambda n: None)[2]] == [0]
    report = analyse(folder, jobs=1)
    assert [item["path"] for item in report["unreadable"]] == ["cat/a.png"]
    assert not (programs / "trace").exists()


def test_every_suffix_of_an_image_is_of_a_format_that_is_opened(tmp_path):
    for suffix in ("png", "jpg", "jpeg", "bmp", "gif", "tif", "tiff", "webp", "ppm", "pgm", "pbm"):
        mode = {"pgm": "L", "pbm": "1"}.get(suffix, "RGB")
        Image.new(mode, (5, 4)).save(tmp_path / f"a.{suffix}")
        assert open_image(tmp_path / f"a.{suffix}", "RGB").size == (5, 4)


def test_large_images_are_opened_without_a_word_and_huge_ones_are_refused(tmp_path):
    huge(tmp_path / "large.png", 13_000)
    code = f"from diva.data.images import opened\nprint(opened({str(tmp_path / 'large.png')!r}).size)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("(13000, 13000)\n", "")
    with pytest.raises(DataError, match=r"huge\.png: .*more than 178,956,970 pixels.*cut it into parts"):
        open_image(huge(tmp_path / "huge.png", 14_000), "L")


def test_a_pipe_is_no_image_and_blocks_nothing(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: cannot be read as an image \(is no regular file\)"):
        open_image(tmp_path / "a.png", "L")


# Depth


def test_sixteen_bit_pgm_keeps_its_upper_byte(tmp_path):
    assert grey_levels(pgm(tmp_path / "a.pgm", [0, 1000, 30000, 65535])) == [[0, 3, 117, 255]]
    assert grey_levels(pgm(tmp_path / "b.pgm", [0, 1023], most=1023)) == [[0, 255]]


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_sixteen_bit_tiff_keeps_its_upper_byte(tmp_path, mode):
    values = numpy.array([[0, 1000, 30000, 65535]], ">u2" if mode == "I;16B" else "<u2")
    Image.frombytes(mode, (4, 1), values.tobytes()).save(tmp_path / "a.tif")
    assert grey_levels(tmp_path / "a.tif") == [[0, 3, 117, 255]]


def signed(path: Path, values: list[int]) -> Path:
    """A TIFF of 16 bits with a sign, which Pillow decodes to mode I."""
    Image.frombytes("I;16", (len(values), 1), numpy.array(values, "<i2").tobytes()).save(path, tiffinfo={339: 2})
    with opened(path) as image:
        assert image.mode == "I"
    return path


def test_sixteen_bits_with_a_sign_are_read_where_none_is_negative(tmp_path):
    assert grey_levels(signed(tmp_path / "a.tif", [0, 1000, 32767])) == [[0, 3, 127]]
    with pytest.raises(DataError, match="mode is I"):
        open_image(signed(tmp_path / "b.tif", [-1, 1000]), "L")


@pytest.mark.parametrize("dtype", ["int32", "float32"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_grey_of_unknown_range_is_refused_by_name_with_what_to_do(tmp_path, dtype, mode):
    Image.fromarray(numpy.array([[0, 1]], dtype)).save(tmp_path / "a.tif")
    letter = "F" if dtype == "float32" else "I"
    with pytest.raises(DataError, match=rf"a\.tif: .*mode is {letter}, .*save it with 8 or 16 bits"):
        open_image(tmp_path / "a.tif", mode)


def test_frames_of_16_bits_keep_their_upper_byte(tmp_path):
    Image.fromarray(numpy.array([[0, 30000]], numpy.uint16)).save(tmp_path / "a.tif")
    (frame,) = frames_of((tmp_path / "a.tif",))
    assert numpy.asarray(frame)[0, :, 0].tolist() == [0, 117]
