"""Pictures of segmented pages: classes in colour over the page, and where the network was right or wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from .coding import IGNORED

if TYPE_CHECKING:
    from collections.abc import Sequence

Colour = tuple[int, int, int]
Legend = list[tuple[str, Colour]]

# Okabe and Ito 2008, told apart with every kind of colour vision, then others.
COLOURS: tuple[Colour, ...] = (
    (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (240, 228, 66), (86, 180, 233), (230, 159, 0), (120, 60, 160),
    (150, 220, 60), (120, 80, 40), (230, 30, 60), (90, 100, 110),
)  # fmt: skip
# The colours of the layout analysis evaluator, Alberti et al. 2017.
CORRECT, WRONG_CLASS, BACKGROUND, INVENTED, MISSED = (0, 127, 0), (255, 255, 0), (0, 0, 0), (255, 0, 0), (0, 255, 255)
NOT_COUNTED: Colour = (128, 128, 128)
ERRORS: Legend = [
    ("foreground, right", CORRECT),
    ("foreground, wrong class", WRONG_CLASS),
    ("background, right", BACKGROUND),
    ("background taken for foreground", INVENTED),
    ("foreground taken for background", MISSED),
    ("not counted", NOT_COUNTED),
]
MOST_NAMED = 24
PANEL, GAP, DPI = 300, 12, 120


def class_colours(n_classes: int, background: int) -> numpy.ndarray:
    """A colour for each class, uint8 (C, 3): those of `COLOURS` again and again, darker each time; background is white."""
    colours = numpy.empty((n_classes, 3), numpy.uint8)
    numbers = [number for number in range(n_classes) if number != background]
    for i, number in enumerate(numbers):
        darker = 1 + i // len(COLOURS) % 3
        colours[number] = [part // darker for part in COLOURS[i % len(COLOURS)]]
    colours[background] = 255
    return colours


def overlay(pixels: numpy.ndarray, labels: numpy.ndarray, background: int, colours: numpy.ndarray) -> numpy.ndarray:
    """A page, uint8 (H, W, channels), with the colour of each pixel's class laid over it, two to one; background stays as it is."""
    page = numpy.broadcast_to(pixels, (*labels.shape, 3)).astype(numpy.int64)
    known = labels != IGNORED
    tint = colours[numpy.where(known, labels, background)].astype(numpy.int64)
    tint[~known] = NOT_COUNTED
    covered = (labels != background)[:, :, None]
    mixed: numpy.ndarray = numpy.where(covered, (page + 2 * tint) // 3, page).astype(numpy.uint8)
    return mixed


def error_map(
    truth: numpy.ndarray, predicted: numpy.ndarray, boundary: numpy.ndarray, background: int
) -> numpy.ndarray:
    """What became of each pixel, uint8 (H, W, 3) in the colours of `ERRORS`; at a boundary, background is right."""
    is_page, says_page = truth == background, predicted == background
    picture = numpy.empty((*truth.shape, 3), numpy.uint8)
    picture[:] = WRONG_CLASS
    picture[truth == predicted] = CORRECT
    picture[is_page & ~says_page] = INVENTED
    picture[~is_page & says_page] = MISSED
    picture[says_page & (is_page | boundary)] = BACKGROUND
    picture[truth == IGNORED] = NOT_COUNTED
    return picture


def class_legend(names: Sequence[str], background: int, colours: numpy.ndarray) -> Legend:
    """The colour of each class but background, of the first 24."""
    legend = [
        (name, (int(r), int(g), int(b)))
        for i, (name, (r, g, b)) in enumerate(zip(names, colours, strict=True))
        if i != background
    ]
    return legend[:MOST_NAMED]


def panels(
    rows: Sequence[Sequence[numpy.ndarray]], headings: Sequence[str], legends: Sequence[Legend], title: str
) -> Figure:
    """Pictures, uint8 (H, W, 3), in rows and columns under their headings, with the meaning of colours below."""
    shown = [[_fitted(picture) for picture in row] for row in rows]
    heights = [max(len(picture) for picture in row) for row in shown]
    lines = [-(-len(legend) // 3) for legend in legends]
    below = sum(20 * n + 14 for n in lines) + 8
    width, height = len(headings) * (PANEL + GAP) + GAP, 62 + sum(heights) + GAP * len(heights) + below
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    _write(figure, GAP / width, 1 - 20 / height, title, 11)
    for column, heading in enumerate(headings):
        _write(figure, (GAP + column * (PANEL + GAP)) / width, 1 - 46 / height, heading, 9)
    top = height - 62
    for row, row_height in zip(shown, heights, strict=True):
        for column, picture in enumerate(row):
            figure.figimage(picture, GAP + column * (PANEL + GAP), top - len(picture), origin="upper")
        top -= row_height + GAP
    for legend, n in zip(legends, lines, strict=True):
        handles = [Patch(facecolor=_share(colour), edgecolor="#888888") for _, colour in legend]
        drawn = figure.legend(
            handles, [name for name, _ in legend], loc="upper left", bbox_to_anchor=(GAP / width, top / height), ncols=3,
            frameon=False, fontsize=8.5, borderaxespad=0,
        )  # fmt: skip
        for text in drawn.get_texts():
            text.set_parse_math(False)
        top -= 20 * n + 14
    return figure


def _write(figure: Figure, x: float, y: float, text: str, size: float) -> None:
    figure.text(x, y, text, size=size, va="center").set_parse_math(False)


def _share(colour: Colour) -> tuple[float, float, float]:
    red, green, blue = (part / 255 for part in colour)
    return red, green, blue


def _fitted(picture: numpy.ndarray) -> numpy.ndarray:
    """RGB, `PANEL` pixels wide: small pictures pixel for pixel, large ones by the mean of what becomes a pixel."""
    height, width = picture.shape[:2]
    whole = numpy.ascontiguousarray(numpy.broadcast_to(picture, (height, width, 3)))
    size = (PANEL, max(1, round(PANEL * height / width)))
    way = Image.Resampling.BOX if width > PANEL else Image.Resampling.NEAREST
    return numpy.asarray(Image.fromarray(whole).resize(size, way))
