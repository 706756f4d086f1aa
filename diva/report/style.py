"""The look of figures: colours, sizes in pixels, texts that fit; no display and no global state."""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

DPI: Final = 120
INK, GREY, RULE, PAPER, ABSENT = "#1b2733", "#5f6b76", "#d5dbe0", "#ffffff", "#e4e7ea"
GREEN, RED = "#1a7f4b", "#c8321f"
# Okabe and Ito 2008, without the yellow that white paper swallows: told apart with every kind of colour vision.
LINES: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#1b2733")
DASHES: Final = ("-", (0, (4, 1.5)), (0, (1, 1.2)))
BLUES: Final = ("#d9e9f6", "#a6cdea", "#5fa3d4", "#2575b7", "#0b4a86", "#08264d")
STYLE: Final[dict[str, Any]] = {
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "a$b$"
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "figure.facecolor": PAPER,
    "lines.solid_capstyle": "round",
}
MARGIN: Final = 18


def png(figure: Figure) -> bytes:
    """The picture as a PNG file; equal figures give equal bytes with one version of Matplotlib."""
    file = BytesIO()
    with style():
        figure.savefig(file, format="png", dpi=figure.dpi, metadata={"Software": None})
    return file.getvalue()


@contextmanager
def style() -> Iterator[None]:
    """The settings that all figures share, whatever a user's matplotlibrc says; put back afterwards."""
    defaults = matplotlib.rcParamsDefault.items()
    settings: Any = {**{key: value for key, value in defaults if not key.startswith("backend")}, **STYLE}
    with matplotlib.rc_context(settings):
        yield


def canvas(left: int, below: int, width: int, height: int, above: int, right: int) -> tuple[Figure, Axes]:
    """A figure whose axes cover exactly `width` by `height` pixels inside the four margins."""
    total_width, total_height = left + width + right, below + height + above
    figure = Figure(figsize=(total_width / DPI, total_height / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    box = (left / total_width, below / total_height, width / total_width, height / total_height)
    return figure, figure.add_axes(box)


def headline(figure: Figure, title: str, subtitle: str = "") -> None:
    """Title and subtitle in the upper left corner, cut to the width of the figure."""
    width, height = figure.get_size_inches() * DPI
    room = width - 2 * MARGIN
    figure.text(MARGIN / width, 1 - 26 / height, cut(clean(title), 11, room), size=11, va="center")
    figure.text(MARGIN / width, 1 - 48 / height, cut(subtitle, 8.5, room), size=8.5, color=GREY, va="center")


@cache
def _font() -> Any:
    return FT2Font(findfont(FontProperties(family="DejaVu Sans")))


# FreeType reads the font file piece by piece; parent and child would move each other's place in it (Matplotlib does the same).
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_font.cache_clear)


def text_pixels(text: str, size: float) -> int:
    """The width of a line of text of `size` points."""
    font = _font()
    font.set_size(size, DPI)
    font.set_text(text, 0.0)
    return int(font.get_width_height()[0] / 64) + 1


def clean(text: str) -> str:
    """One line that the bundled font can draw: white space becomes a blank, a missing character U+FFFD."""
    known = _known_characters()
    return "".join(char if ord(char) in known else "\ufffd" for char in " ".join(str(text).split()))


@cache
def _known_characters() -> frozenset[int]:
    return frozenset(_font().get_charmap())


def cut(text: str, size: float, room: float) -> str:
    """The text, or as much of its beginning as fits in `room` pixels with an ellipsis."""
    if text_pixels(text, size) <= room:
        return text
    while text and text_pixels(text + "…", size) > room:
        text = text[:-1]
    return text.rstrip() + "…"


def wrap(text: str, size: float, room: float) -> list[str]:
    """At most two lines of `room` pixels."""
    if text_pixels(text, size) <= room:
        return [text]
    words = text.split(" ")
    n_first = 1
    while n_first < len(words) and text_pixels(" ".join(words[: n_first + 1]), size) <= room:
        n_first += 1
    lines = [" ".join(words[:n_first]), " ".join(words[n_first:])]
    return [cut(line, size, room) for line in lines if line]


def fit(image: NDArray[np.uint8], tile: int) -> NDArray[np.uint8]:
    """The image enlarged by the greatest whole factor, or shrunk, until it fits into the tile."""
    longest = max(image.shape[:2])
    if longest <= tile:
        factor = tile // longest
        return image.repeat(factor, axis=0).repeat(factor, axis=1)
    height, width = (max(1, round(length * tile / longest)) for length in image.shape[:2])
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
