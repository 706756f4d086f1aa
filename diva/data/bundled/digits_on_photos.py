"""Real handwritten digits composed on parts of real photographs, and for each pixel which digit it is or none."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

import numpy

from diva.data import png
from diva.data.bundled.random import Stream
from diva.data.formats import deal

if TYPE_CHECKING:
    from pathlib import Path

SPLITS: Final = {"train": 60, "val": 15, "test": 15}
CLASSES: Final = ("background", *(f"digit {i}" for i in range(10)))
COLUMNS: Final = {
    "train": (0, 380),
    "val": (380, 510),
    "test": (510, 640),
}  # of a photograph, 640 wide: no texture is in two splits
SIDE, CELL = 16, 19  # pixels of a digit, and of the square somewhere in which it stands
GREYEST: Final = 16  # what the images of digits go up to
NOTICE: Final = """The digits: optical recognition of handwritten digits, the copy that scikit-learn bundles (UCI, 13 writers).
E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, https://doi.org/10.24432/C50P49, licence CC BY 4.0.
The photographs: china.jpg and flower.jpg that scikit-learn bundles, by danielbuechele and vultilion on Flickr,
https://www.flickr.com/photos/danielbuechele/6061409035 and https://www.flickr.com/photos/vultilion/6056698931,
licence CC BY 2.0. Parts are cut out and digits drawn on them.
"""


@cache
def _photographs() -> tuple[numpy.ndarray, ...]:
    from sklearn.datasets import load_sample_images

    return tuple(load_sample_images().images)


@cache
def _digits() -> tuple[numpy.ndarray, numpy.ndarray, dict[str, list[int]]]:
    """Images (1797, 8, 8) of whole numbers up to 16, their labels, and which of them each split has."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    members: dict[str, list[int]] = {split: [] for split in SPLITS}
    for i, split in deal("digits_on_photos", list(range(len(labels))), 0.25, 0.2).items():
        members[split].append(i)
    return images.astype(numpy.int64).reshape(-1, 8, 8), labels, members


def picture(split: str, index: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    """A picture, uint8 (H, W, 3) with sides of 96 to 128, and its mask, uint8 (H, W) of numbers of `CLASSES`."""
    stream = Stream(f"digits on photos {split} {index}")
    images, labels, members = _digits()
    photograph = _photographs()[stream.below(2)]
    height, width = stream.between(96, 128), stream.between(96, 128)
    first, last = COLUMNS[split]
    top, left = stream.between(0, photograph.shape[0] - height), stream.between(first, last - width)
    image = photograph[top : top + height, left : left + width].astype(numpy.int64) * 5 // 8  # darker than any digit
    mask = numpy.zeros((height, width), numpy.uint8)
    for row in range(height // CELL):
        for column in range(width // CELL):
            i = members[split][stream.below(len(members[split]))]
            y, x = (CELL * at + stream.below(CELL - SIDE + 1) for at in (row, column))
            shade = numpy.array([stream.below(50) for _ in range(3)])
            if stream.below(8) == 0:
                continue
            ink, place = enlarged(images[i], SIDE // 8), (slice(y, y + SIDE), slice(x, x + SIDE))
            image[place] = (image[place] * (GREYEST - ink[:, :, None]) + (255 - shade) * ink[:, :, None]) // GREYEST
            mask[place][ink >= GREYEST // 2] = labels[i] + 1
    return image.clip(0, 255).astype(numpy.uint8), mask


def enlarged(digit: numpy.ndarray, factor: int) -> numpy.ndarray:
    """A digit, whole numbers (8, 8), `factor` times as large and smoothed by the mean of `factor` by `factor` pixels."""
    coarse = digit.repeat(factor, 0).repeat(factor, 1)
    side = len(coarse)
    padded = numpy.pad(coarse, (factor // 2, factor - 1 - factor // 2))
    total = sum(padded[i : i + side, j : j + side] for i in range(factor) for j in range(factor))
    smooth: numpy.ndarray = numpy.asarray(total) // (factor * factor)
    return smooth


def write_digits_on_photos(folder: Path) -> None:
    """`<split>/data/<picture>.png` and `<split>/gt/<picture>.png`, and the names of the classes in `dataset.yaml`."""
    folder.mkdir(parents=True)
    (folder / "dataset.yaml").write_text(f"layout: pairs\nclasses: [{', '.join(CLASSES)}]\n", encoding="utf-8")
    for split, n in SPLITS.items():
        for kind in ("data", "gt"):
            (folder / split / kind).mkdir(parents=True)
        for index in range(n):
            for kind, pixels in zip(("data", "gt"), picture(split, index), strict=True):
                (folder / split / kind / f"picture_{index:02}.png").write_bytes(png.encode(pixels))
    (folder / "LICENCE.txt").write_text(NOTICE, encoding="utf-8")
