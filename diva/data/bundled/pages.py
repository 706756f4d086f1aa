"""Rendered document pages and, for each pixel, what it is: a small stand-in for scanned pages, with masks that hold exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy

from diva.data import png
from diva.data.bundled import rendering
from diva.data.bundled.random import Stream

if TYPE_CHECKING:
    from pathlib import Path

SPLITS: Final = {"train": 24, "val": 8, "test": 8}
CLASSES: Final = ("background", "text", "heading", "decoration", "comment")
HEIGHT, WIDTH = 256, 192


def page(index: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    """A page, uint8 (256, 192, 3), and its mask, uint8 (256, 192) of numbers of `CLASSES`."""
    stream = Stream(f"pages {index}")
    image = rendering.paper(stream, HEIGHT, WIDTH)
    mask = numpy.zeros((HEIGHT, WIDTH), numpy.uint8)
    body = rendering.FONTS[stream.below(len(rendering.FONTS))]
    left, top = stream.between(40, 50), stream.between(12, 24)
    top += _line(stream, mask, 2, body, stream.between(15, 18), left, top, WIDTH - 8) + 4
    initial = rendering.ink(rendering.word(stream, 1)[0].upper(), body, stream.between(30, 38))
    _stamp(mask, 3, initial, top, left)
    indent_until = top + initial.shape[0] + 2
    size = stream.between(9, 11)
    while top < HEIGHT - 24:
        start = left + initial.shape[1] + 4 if top < indent_until else left
        top += max(_line(stream, mask, 1, body, size, start, top, WIDTH - 8), size) + stream.below(3)
    for _ in range(stream.between(1, 3)):
        at = stream.between(30, HEIGHT - 40)
        _line(stream, mask, 4, body, 8, 4, at, left - 4)
    darkness = stream.between(100, 190) + stream.grid(HEIGHT, WIDTH).astype(int) // 8
    inked = (image.astype(int) - darkness[:, :, None] * numpy.array([9, 9, 8]) // 9).clip(0, 255).astype(numpy.uint8)
    red = numpy.stack([image[:, :, 0], image[:, :, 1] // 3, image[:, :, 2] // 3], axis=2)
    image = numpy.where(mask[:, :, None] == 3, red, numpy.where(mask[:, :, None] > 0, inked, image))
    return image, mask


def _line(
    stream: Stream, mask: numpy.ndarray, label: int, font: str, size: int, left: int, top: int, right: int
) -> int:
    """Set words from left to right until the line is full; the height of the line."""
    height = 0
    while True:
        drawn = rendering.ink(rendering.word(stream, stream.between(1, 2)), font, size, on_line=True)
        if left + drawn.shape[1] > right:
            return height
        _stamp(mask, label, drawn, top, left)
        left += drawn.shape[1] + size // 3
        height = max(height, drawn.shape[0])


def _stamp(mask: numpy.ndarray, label: int, drawn: numpy.ndarray, top: int, left: int) -> None:
    part = mask[top : top + drawn.shape[0], left : left + drawn.shape[1]]
    part[drawn[: part.shape[0], : part.shape[1]]] = label


def write_pages(folder: Path) -> None:
    """`<split>/data/<page>.png` and `<split>/gt/<page>.png`, and the names of the classes in `dataset.yaml`."""
    folder.mkdir(parents=True)
    (folder / "dataset.yaml").write_text(f"layout: pairs\nclasses: [{', '.join(CLASSES)}]\n", encoding="utf-8")
    index = 0
    for split, n in SPLITS.items():
        for kind in ("data", "gt"):
            (folder / split / kind).mkdir(parents=True)
        for _ in range(n):
            for kind, pixels in zip(("data", "gt"), page(index), strict=True):
                (folder / split / kind / f"page_{index:02}.png").write_bytes(png.encode(pixels))
            index += 1
