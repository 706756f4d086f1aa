"""Facts about masks: every pixel is counted, sizes must be those of the images, and what was counted once is not counted again."""

from typing import Any

import numpy
import pytest
from PIL import Image

from diva.data.layouts import read_splits
from diva.data.mask_statistics import mask_statistics
from diva.errors import DataError


@pytest.fixture
def pages(tmp_path):
    folder = tmp_path / "pages"
    for split in ("train", "val", "test"):
        for kind in ("data", "gt"):
            (folder / split / kind).mkdir(parents=True)
        for i, (height, width) in enumerate([(2, 3), (4, 1)]):
            Image.new("RGB", (width, height)).save(folder / split / "data" / f"{i}.png")
            mask = numpy.full((height, width), 7 * i, numpy.uint8)
            mask[0, 0] = 255 if split == "train" else 0
            Image.fromarray(mask).save(folder / split / "gt" / f"{i}.png")
    return folder


def taken(folder, digest="sha256:0"):
    splits: dict[str, Any] = dict(read_splits(folder))
    return mask_statistics(splits, None, digest, folder.parent / "cache" / "masks.json")


def test_every_pixel_of_every_mask_is_counted_and_every_page_measured(pages):
    found = taken(pages)
    assert found["codes"] == {"train": [[0, 5], [7, 3], [255, 2]], "val": [[0, 7], [7, 3]], "test": [[0, 7], [7, 3]]}
    assert found["sizes"]["test"] == [[2, 3], [4, 1]]
    assert found["boundary"] == {"train": 0, "val": 0, "test": 0}


def test_boundaries_of_divahisdb_are_counted(pages):
    for i, (height, width) in enumerate([(2, 3), (4, 1)]):
        mask = numpy.zeros((height, width, 3), numpy.uint8)
        mask[:, :, 2], mask[0, 0, 0] = 8, 0x80
        Image.fromarray(mask).save(pages / "val" / "gt" / f"{i}.png")
    val: Any = read_splits(pages)["val"]
    found = mask_statistics({"val": val}, "divahisdb", "sha256:0", pages.parent / "masks.json")
    assert found["boundary"] == {"val": 2} and found["codes"] == {"val": [[8, 10]]}


def test_what_was_counted_is_kept_for_the_footprint_alone(pages):
    before = taken(pages)
    Image.new("L", (3, 2), 9).save(pages / "val" / "gt" / "0.png")
    assert taken(pages) == before
    assert taken(pages, "sha256:1")["codes"]["val"] == [[0, 1], [7, 3], [9, 6]]


def test_a_mask_that_has_not_its_images_size_is_refused(pages):
    Image.new("L", (3, 3)).save(pages / "val" / "gt" / "0.png")
    with pytest.raises(DataError, match=r"gt/0.png: is 3 x 3 pixels, its image 2 x 3"):
        taken(pages)
