"""Masks: class numbers by hand-made masks of indices, palettes, colours and DIVA-HisDB's codes; what is unknown is refused by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image

from diva.data.masks import (
    colour_codes,
    hisdb_name,
    looks_like_hisdb,
    mask_codes,
    read_mask,
    read_mask_and_boundary,
)
from diva.errors import DataError, UsageError

TRIMAP = numpy.array([[1, 1, 2], [3, 3, 2]], numpy.uint8)


def saved(tmp_path: Path, image: Image.Image, name: str = "mask.png") -> Path:
    image.save(tmp_path / name)
    return tmp_path / name


def rgb(*rows: list[int]) -> Image.Image:
    codes = numpy.array(rows)
    return Image.fromarray(numpy.stack([codes >> 16, codes >> 8 & 255, codes & 255], 2).astype(numpy.uint8))


def test_a_grey_mask_holds_class_codes(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(TRIMAP))
    read = read_mask(path, {1: 0, 2: 1, 3: 2})
    assert read.dtype == numpy.int64
    assert read.tolist() == [[0, 0, 1], [2, 2, 1]]
    assert mask_codes(path) == [1, 2, 3]


def test_a_palette_is_read_by_its_indices_not_its_colours(tmp_path: Path) -> None:
    image = Image.fromarray(TRIMAP, "P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 0, 0])  # 1 and 3 look alike
    path = saved(tmp_path, image)
    assert read_mask(path, {1: 0, 2: 1, 3: 2}).tolist() == [[0, 0, 1], [2, 2, 1]]
    assert mask_codes(path, "colour") == [0x008000, 0x800000]


def test_a_mask_of_one_bit_has_the_codes_0_and_1(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(numpy.array([[True, False]])))
    assert mask_codes(path) == [0, 1]
    assert read_mask(path, {0: 5, 1: 7}).tolist() == [[7, 5]]


def test_16_bits_hold_codes_beyond_255(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(numpy.array([[7, 65535]], numpy.uint16)))
    assert mask_codes(path) == [7, 65535]


def test_colours_are_those_that_dataset_yaml_states(tmp_path: Path) -> None:
    codes = colour_codes({"text": "#ff0000", "page": "000001"}, ("page", "text"))
    path = saved(tmp_path, rgb([0xFF0000, 1], [1, 0xFF0000]))
    assert read_mask(path, codes).tolist() == [[1, 0], [0, 1]]
    with_alpha = rgb([0xFF0000, 1])
    with_alpha.putalpha(128)
    assert read_mask(saved(tmp_path, with_alpha), codes).tolist() == [[1, 0]]


def test_hisdb_has_its_codes_in_blue_and_marks_boundaries_in_red(tmp_path: Path) -> None:
    path = saved(tmp_path, rgb([0x000001, 0x000008, 0x800008], [0x00000A, 0x80000A, 0x000002]))
    classes, boundary = read_mask_and_boundary(path, {1: 0, 2: 1, 8: 2, 10: 3}, "divahisdb")
    assert classes.tolist() == [[0, 2, 2], [3, 3, 1]]
    assert boundary.tolist() == [[False, False, True], [False, True, False]]
    assert mask_codes(path, "divahisdb") == [1, 2, 8, 10]
    assert [hisdb_name(code) for code in (1, 10, 16)] == ["background", "comment + main text", "code 16"]


@pytest.mark.parametrize(
    ("pixels", "is_it"),
    [
        ([0x000001, 0x80000F], True),
        ([0x000001, 0], False),
        ([0x000101], False),
        ([0x000010], False),
        ([0x400001], False),
    ],
)
def test_hisdb_masks_are_recognised(tmp_path: Path, pixels: list[int], is_it: bool) -> None:
    assert looks_like_hisdb(saved(tmp_path, rgb(pixels))) is is_it
    assert not looks_like_hisdb(saved(tmp_path, Image.fromarray(TRIMAP), "grey.png"))


def test_an_unknown_code_is_named_with_its_file(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(TRIMAP))
    with pytest.raises(
        DataError, match=r"mask.png: 2 pixels have a code that no class has, the first 3; known are 1, 2$"
    ):
        read_mask(path, {1: 0, 2: 1})
    path = saved(tmp_path, rgb([0xFF0000, 0x0000FF]), "colours.png")
    with pytest.raises(DataError, match=r"1 pixels .* #0000ff; known are #ff0000$"):
        read_mask(path, {0xFF0000: 0})
    path = saved(tmp_path, rgb([0xFF0000, 0x0000FF]), "mask.webp")
    with pytest.raises(DataError, match="WebP may have altered colours"):
        read_mask(path, {0xFF0000: 0})


@pytest.mark.parametrize("name", ["mask.jpg", "mask.png"])
def test_a_jpeg_is_no_mask_whatever_it_is_called_and_holds(tmp_path: Path, name: str) -> None:
    Image.fromarray(TRIMAP).save(tmp_path / name, "JPEG")
    for read in (mask_codes, looks_like_hisdb, lambda path: read_mask(path, dict.fromkeys(range(256), 0))):
        with pytest.raises(DataError, match=rf"{name}: is a JPEG.*save it as PNG"):
            read(tmp_path / name)


def test_what_is_no_such_mask_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, rgb([0x00FF00]))
    with pytest.raises(DataError, match=r"is an image in colours \(RGB\), a mask of indices has one channel"):
        read_mask(path, {0: 0}, "index")
    with pytest.raises(DataError, match="its green channel is not 0"):
        read_mask(path, {0: 0}, "divahisdb")
    with pytest.raises(UsageError, match="allowed: index, colour, divahisdb"):
        mask_codes(path, "hisdb")  # type: ignore[arg-type]
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match=r"text.png: cannot be read as an image"):
        mask_codes(tmp_path / "text.png")


@pytest.mark.parametrize(
    ("colours", "said"),
    [
        ({"page": "#000000", "text": "red"}, "the colour 'red' of text is none; expected \"#rrggbb\""),
        ({"page": "#000000", "text": "#000000"}, "text and page have the same colour #000000"),
        ({"page": "#000000"}, "colours has none for the class 'text'"),
        ({"page": "#000000", "texts": "#ff0000"}, "colours names the class 'texts'; classes are page, text"),
    ],
)
def test_colours_that_do_not_fit_the_classes_are_refused(colours: dict[str, str], said: str) -> None:
    with pytest.raises(DataError, match=re.escape(said)):
        colour_codes(colours, ("page", "text"))


def test_a_task_reads_pairs_by_public_names(tmp_path):
    import diva

    for split in ("train", "val", "test"):
        for kind, value in (("data", 9), ("gt", 3)):
            place = tmp_path / split / kind
            place.mkdir(parents=True)
            Image.new("L", (2, 1), value).save(place / "a.png")
    splits: dict[str, Any] = dict(diva.read_splits(tmp_path))
    (mask,) = splits["val"].masks
    assert list(splits) == ["train", "val", "test"] and diva.mask_codes(mask) == [3]
    assert diva.read_mask(mask, {3: 1}).tolist() == [[1, 1]]
    assert not diva.read_mask_and_boundary(mask, {3: 1})[1].any()
