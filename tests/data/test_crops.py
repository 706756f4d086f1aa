"""Crops: parts of an enlarged image as large as the network takes, in a fixed order."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
from PIL import Image

from diva.data.crops import PLACES, enlarged
from diva.data.image_set import Images
from diva.errors import UsageError


@pytest.fixture
def images(tmp_path: Path) -> Images:
    """One grey image of 8 x 16 pixels, which the network takes as 7 x 14, hence without enlarging for its crops."""
    pixels = numpy.arange(128, dtype=numpy.uint8).reshape(8, 16)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return Images([tmp_path / "a.png"], (0,), "L", (7, 14), [0.0], [1.0])


def test_ten_crops_are_five_places_and_then_the_same_mirrored(images: Images) -> None:
    whole = Images(images.paths, (0,), "L", (8, 16), [0.0], [1.0])[0][0]  # (1, 8, 16)
    cut = [whole[:, y : y + 7, x : x + 14] for y, x in ((0, 1), (0, 0), (0, 2), (1, 0), (1, 2))]
    views = images.views(10)
    assert [name for name, _ in views] == [*PLACES, *(f"{place}, mirrored" for place in PLACES)]
    for (name, view), part in zip(views, [*cut, *(part.flip(2) for part in cut)], strict=True):
        assert (view[0][0] == part).all(), name


def test_all_crops_share_the_pixels_that_are_kept(images: Images) -> None:
    views = images.views(10)
    assert len({id(view.pixels) for _, view in views}) == 1
    assert views[0][1].pixels.size == enlarged((7, 14)) == (8, 16)


@pytest.mark.parametrize("n", [0, 11])
def test_another_number_of_crops_is_refused(images: Images, n: int) -> None:
    with pytest.raises(UsageError, match=f"--crops {n}"):
        images.views(n)
