"""White borders: cropped into a new folder under the same names; white inside an image, and the originals, stay."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
from numpy.typing import NDArray
from PIL import Image

from diva.data.borders import content_box, trim_borders
from diva.errors import DataError, UsageError

Pixels = NDArray[Any]


def page(height: int = 40, width: int = 60) -> Pixels:
    """White, with a block, a white gap inside, and another block: what is not white fills rows 10-29 and columns 20-49."""
    pixels = numpy.full((height, width, 3), 255, numpy.uint8)
    pixels[10:15, 20:30] = (0, 10, 20)
    pixels[25:30, 40:50] = (30, 40, 50)
    return pixels


BOX = (20, 10, 50, 30)


def save(path: Path, pixels: Pixels, **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **how)
    return path


def opened(path: Path) -> Pixels:
    with Image.open(path) as image:
        return numpy.asarray(image)


def names(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def state(root: Path) -> dict[str, tuple[int, bytes]]:
    return {name: ((root / name).stat().st_mtime_ns, (root / name).read_bytes()) for name in names(root)}


def test_borders_go_and_white_rows_and_columns_inside_stay(tmp_path: Path) -> None:
    save(tmp_path / "in/a.png", page())
    made = trim_borders(tmp_path / "in", tmp_path / "out")
    assert (opened(tmp_path / "out/a.png") == page()[10:30, 20:50]).all()
    assert made.record["cropped"]["a.png"]["box"] == list(BOX)


def test_dots_in_folders_and_files_map_every_image_to_one_of_its_own(tmp_path: Path) -> None:
    paths = ["v1.0/set.a/x.1.png", "v1.0/set.a/x.2.png", "v1.0/set.b/x.1.png", "v1.0/b..png"]
    for number, name in enumerate(paths):
        save(tmp_path / "in" / name, page() - numpy.uint8(number))
    before = state(tmp_path / "in")
    trim_borders(tmp_path / "in", tmp_path / "out", threshold=250)
    assert names(tmp_path / "out") == sorted(["borders.json", *paths])
    for number, name in enumerate(paths):
        assert (opened(tmp_path / "out" / name) == (page() - numpy.uint8(number))[10:30, 20:50]).all()
    assert state(tmp_path / "in") == before


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "tiff", "ppm"])
def test_formats_that_lose_nothing_are_kept(tmp_path: Path, suffix: str) -> None:
    save(tmp_path / f"in/a.{suffix}", page())
    trim_borders(tmp_path / "in", tmp_path / "out")
    assert (opened(tmp_path / f"out/a.{suffix}") == page()[10:30, 20:50]).all()


@pytest.mark.parametrize("suffix", ["jpg", "webp", "gif"])
def test_a_cropped_image_of_another_format_becomes_a_png_with_the_same_pixels(tmp_path: Path, suffix: str) -> None:
    source = save(tmp_path / f"in/a.b.{suffix}", page())
    trim_borders(tmp_path / "in", tmp_path / "out", threshold=200)
    with Image.open(source) as image, Image.open(tmp_path / "out/a.b.png") as cropped:
        box = content_box(image, 200)
        assert box is not None
        assert image.convert("RGB").crop(box).tobytes() == cropped.convert("RGB").tobytes()


def test_no_name_is_given_twice(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.jpeg", "a.png", "a.jpg.png", "A.JPG"):
        save(tmp_path / "in" / name, page())
    made = trim_borders(tmp_path / "in", tmp_path / "out", threshold=200)
    assert len(names(tmp_path / "out")) == 6
    to = {name: facts["to"] for name, facts in made.record["cropped"].items()}
    assert to["a.png"] == "a.png" and to["a.jpeg"] == "a.jpeg.png" and to["A.JPG"] == "A.png"
    assert len(set(to.values())) == 5


def test_what_has_no_border_and_what_is_no_image_stays_the_same_bytes(tmp_path: Path) -> None:
    save(tmp_path / "in/full.jpg", page()[10:30, 20:50], quality=95)
    (tmp_path / "in/LICENCE.txt").write_text("free")
    save(tmp_path / "in/a.png", page())
    trim_borders(tmp_path / "in", tmp_path / "out", threshold=255)
    for name in ("full.jpg", "LICENCE.txt"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "in" / name).read_bytes()


def test_images_that_are_white_all_over_or_move_are_kept_whole_and_named(tmp_path: Path) -> None:
    save(tmp_path / "in/a.png", page())
    save(tmp_path / "in/empty.png", numpy.full((5, 5), 255, numpy.uint8))
    frames = [Image.fromarray(page()), Image.fromarray(255 - page())]
    frames[0].save(tmp_path / "in/clip.gif", save_all=True, append_images=frames[1:])
    made = trim_borders(tmp_path / "in", tmp_path / "out")
    assert made.record["kept"] == {"fewer_bits": [], "several_frames": ["clip.gif"], "white": ["empty.png"]}
    assert [warning.split(":")[1] for warning in made.warnings] == [" empty.png", " clip.gif"]
    for name in ("empty.png", "clip.gif"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "in" / name).read_bytes()


def test_masks_are_cropped_with_their_images(tmp_path: Path) -> None:
    mask = numpy.arange(2400, dtype=numpy.uint16).reshape(40, 60).astype(numpy.uint8)
    for split in ("train", "val", "test"):
        save(tmp_path / f"in/{split}/data/p.1.jpg", page())
        save(tmp_path / f"in/{split}/gt/p.1.png", mask)
    made = trim_borders(tmp_path / "in", tmp_path / "out", threshold=200)
    left, upper, right, lower = made.record["cropped"]["val/gt/p.1.png"]["box"]
    assert (opened(tmp_path / "out/val/gt/p.1.png") == mask[upper:lower, left:right]).all()
    assert opened(tmp_path / "out/val/data/p.1.png").shape[:2] == (lower - upper, right - left)
    save(tmp_path / "in/val/gt/p.1.png", mask[1:])
    with pytest.raises(DataError, match=r"val/gt/p.1.png: is 60 x 39 pixels, its image 60 x 40"):
        trim_borders(tmp_path / "in", tmp_path / "other", threshold=200)
    assert not (tmp_path / "other").exists() and not list(tmp_path.glob(".*"))


def png_of_16_bits(kind: int, channels: int) -> bytes:
    """A white PNG of 9 x 9 pixels with a value in its middle that 8 bits do not hold; Pillow writes none in colour."""
    pixels = numpy.full((9, 9, channels), 65535, ">u2")
    pixels[4, 4] = 0x1234
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", 9, 9, 16, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_images_of_which_bits_would_be_lost_are_kept_whole_and_named(tmp_path: Path) -> None:
    whole = {
        "colour.png": png_of_16_bits(2, 3),
        "clear.png": png_of_16_bits(6, 4),
        "colour.ppm": b"P6 9 9 65535\n" + b"\xff\xff" * 120 + b"\x12\x34" * 3 + b"\xff\xff" * 120,
        "scaled.pgm": b"P5 9 9 100\n" + numpy.pad([[7]], 4, constant_values=100).astype("u1").tobytes(),
    }  # fmt: skip
    exact = {
        "grey.png": png_of_16_bits(0, 1),
        "grey.pgm": b"P5 9 9 65535\n" + numpy.pad([[0x1234]], 4, constant_values=65535).astype(">u2").tobytes(),
    }
    (tmp_path / "in").mkdir()
    for name, content in {**whole, **exact}.items():
        (tmp_path / "in" / name).write_bytes(content)
    Image.fromarray(numpy.pad([[0x1234]], 4, constant_values=65535).astype(numpy.uint16)).save(tmp_path / "in/grey.tif")
    made = trim_borders(tmp_path / "in", tmp_path / "out")
    assert made.record["kept"]["fewer_bits"] == sorted(whole)
    assert "4 images are of more bits than are read of them and were kept whole: " in made.warnings[0]
    for name, content in whole.items():
        assert (tmp_path / "out" / name).read_bytes() == content
    for name in (*exact, "grey.tif"):
        assert opened(tmp_path / "out" / name).tolist() == [[0x1234]]


def test_a_mask_of_which_bits_would_be_lost_keeps_its_image_whole(tmp_path: Path) -> None:
    save(tmp_path / "in/data/p.png", page()[:9, :9] - numpy.pad([[[1]]], ((4, 4), (4, 4), (0, 0))).astype("u1"))
    (tmp_path / "in/gt").mkdir()
    (tmp_path / "in/gt/p.png").write_bytes(png_of_16_bits(2, 3))
    made = trim_borders(tmp_path / "in", tmp_path / "out")
    assert made.record["cropped"] == {} and made.record["kept"]["fewer_bits"] == ["gt/p.png"]


def test_what_a_tiff_says_of_its_image_stays_and_the_image_stays_upright(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[270], tags[33432], tags[274] = "a page", "a library", 6
    save(tmp_path / "in/a.tif", page(), dpi=(300, 300), exif=tags)
    with Image.open(tmp_path / "in/a.tif") as image:
        box = content_box(image)
        upright = numpy.asarray(image.crop(box))
    trim_borders(tmp_path / "in", tmp_path / "out")
    with Image.open(tmp_path / "out/a.tif") as image:
        assert image.info["dpi"] == (300, 300)
        assert (image.getexif()[270], image.getexif()[33432]) == ("a page", "a library")
        assert numpy.array_equal(numpy.asarray(image), upright)


def test_frames_of_one_clip_get_one_box(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        for number in range(3):
            pixels = numpy.full((20, 20, 3), 255, numpy.uint8)
            pixels[5, 5 + 3 * number] = 0
            save(tmp_path / f"in/{split}/walk/left/{number}.png", pixels)
        save(tmp_path / f"in/{split}/walk/left/3.png", numpy.full((20, 20, 3), 255, numpy.uint8))
        save(tmp_path / f"in/{split}/walk/right/0.png", pixels)
        save(tmp_path / f"in/{split}/walk/right/1.png", pixels)
    made = trim_borders(tmp_path / "in", tmp_path / "out", layout="clips")
    boxes = {name: facts["box"] for name, facts in made.record["cropped"].items() if name.startswith("val")}
    assert boxes == {f"val/walk/left/{n}.png": [5, 5, 12, 6] for n in range(4)} | {
        f"val/walk/right/{n}.png": [11, 5, 12, 6] for n in range(2)
    }
    save(tmp_path / "in/val/walk/left/2.png", pixels[1:])
    with pytest.raises(DataError, match=r"left/2.png: is 20 x 19 pixels, the first frame of its clip 20 x 20"):
        trim_borders(tmp_path / "in", tmp_path / "other", layout="clips")


def test_a_table_of_labels_follows_renamed_images(tmp_path: Path) -> None:
    save(tmp_path / "in/images/x/a.jpg", page())
    save(tmp_path / "in/images/b.png", page())
    (tmp_path / "in/labels.csv").write_text("image,p\nx/a.jpg,1\nb.png,0\n")
    trim_borders(tmp_path / "in", tmp_path / "out", threshold=200)
    assert (tmp_path / "out/labels.csv").read_text() == "image,p\nx/a.png,1\nb.png,0\n"


GREY = page()[..., 0]


@pytest.mark.parametrize(
    ("make", "threshold", "margin", "box"),
    [
        (lambda: Image.fromarray(page()), 255, 0, BOX),
        (lambda: Image.fromarray(page()), 255, 3, (17, 7, 53, 33)),
        (lambda: Image.fromarray(page()), 255, 99, (0, 0, 60, 40)),
        (lambda: Image.fromarray(numpy.minimum(page(), 250)), 250, 0, BOX),
        (lambda: Image.fromarray(numpy.minimum(page(), 249)), 250, 0, (0, 0, 60, 40)),
        (lambda: Image.fromarray(GREY), 255, 0, BOX),
        (lambda: Image.fromarray(GREY > 128), 255, 0, BOX),
        (lambda: Image.fromarray(GREY.astype(numpy.uint16) * 257), 255, 0, BOX),
        (lambda: Image.fromarray(page()).quantize(8), 255, 0, BOX),
        (lambda: Image.fromarray(page()).convert("RGBA"), 255, 0, BOX),
        (lambda: Image.fromarray(page()).convert("CMYK"), 255, 0, BOX),
        (lambda: Image.fromarray(numpy.full((3, 3), 255, numpy.uint8)), 255, 0, None),
        (lambda: Image.fromarray(page()[10:11, 20:21]), 255, 0, (0, 0, 1, 1)),
    ],
)
def test_the_box_holds_all_that_is_not_white_in_every_mode(
    make: Callable[[], Image.Image], threshold: int, margin: int, box: tuple[int, ...] | None
) -> None:
    assert content_box(make(), threshold, margin) == box


def test_one_channel_below_the_threshold_is_enough_to_stay(tmp_path: Path) -> None:
    pixels = page()
    pixels[0, 0] = (255, 255, 254)
    assert content_box(Image.fromarray(pixels)) == (0, 0, 50, 30)


def test_the_same_command_again_verifies_and_another_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "in/a.png", page())
    save(tmp_path / "in/b.jpg", page())
    trim_borders(tmp_path / "in", tmp_path / "out", jobs=1)
    before = state(tmp_path / "out")
    assert trim_borders(tmp_path / "in", tmp_path / "out", jobs=4).was_there
    assert state(tmp_path / "out") == before
    with pytest.raises(DataError, match="margin 0, now 2"):
        trim_borders(tmp_path / "in", tmp_path / "out", margin=2)
    (tmp_path / "out/a.png").write_bytes(b"changed")
    with pytest.raises(DataError, match=r"1 changed \(a.png\)"):
        trim_borders(tmp_path / "in", tmp_path / "out")
    save(tmp_path / "in/c.png", page())
    with pytest.raises(DataError, match="the source was"):
        trim_borders(tmp_path / "in", tmp_path / "out")


def test_expectations_that_may_not_hold_are_dropped(tmp_path: Path) -> None:
    save(tmp_path / "in/a/1.png", page())
    text = "licence: 'CC0' # mine\nexpectations: {size: [60, 40]}\nclasses: [a]\n"
    (tmp_path / "in/dataset.yaml").write_text(text)
    trim_borders(tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out/dataset.yaml").read_text() == 'licence: "CC0"\nclasses: ["a"]\n'
    assert trim_borders(tmp_path / "in", tmp_path / "out").was_there
    save(tmp_path / "in/a/1.png", page()[10:30, 20:50])
    assert trim_borders(tmp_path / "in", tmp_path / "same").record["cropped"] == {}
    assert (tmp_path / "same/dataset.yaml").read_text() == text


def test_a_folder_trimmed_again_is_the_same_pixels_under_a_record_of_its_own(tmp_path: Path) -> None:
    save(tmp_path / "in/a.png", page())
    trim_borders(tmp_path / "in", tmp_path / "once")
    made = trim_borders(tmp_path / "once", tmp_path / "twice")
    assert made.record["cropped"] == {} and made.record["source"]["name"] == "once"
    assert (tmp_path / "twice/a.png").read_bytes() == (tmp_path / "once/a.png").read_bytes()


@pytest.mark.parametrize(
    ("options", "said"),
    [({"threshold": 256}, "--threshold 256"), ({"threshold": -1}, "0 to 255"), ({"margin": -1}, "0 or more")],
)
def test_numbers_that_make_no_sense_are_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    save(tmp_path / "in/a.png", page())
    with pytest.raises(UsageError, match=said):
        trim_borders(tmp_path / "in", tmp_path / "out", **options)


def test_a_damaged_image_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    save(tmp_path / "in/a.png", page())
    (tmp_path / "in/b.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"b.png: cannot be read as an image"):
        trim_borders(tmp_path / "in", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
