"""The sheet of nearest neighbours: a query to the left, what was found for it beside it, right in green and wrong in red."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from diva.report.pictures import rgb
from diva.report.style import DPI, GREEN, GREY, INK, MARGIN, RED, RULE, clean, cut, style, text_pixels, wrap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MOST_ROWS: Final = 16
MOST_NEIGHBOURS: Final = 12
_AREA: Final = 100 * 100  # pixels of a tile: wide ones are lower
_GAP: Final = 16


@dataclass(frozen=True)
class RankedRow:
    """A query and what was found for it, nearest first.

    query: uint8 (H, W) or (H, W, 3), or None for a query that is text: its caption stands in its place. images, captions, right: of the
    neighbours, as many each.
    """

    query: NDArray[np.uint8] | None
    caption: str
    images: Sequence[NDArray[np.uint8]]
    captions: Sequence[str]
    right: Sequence[bool]


def neighbour_sheet(rows: Sequence[RankedRow], title: str = "") -> Figure:
    """A row per query: its image (or text), then its neighbours, each in a green frame with a tick or in a red one with a cross.

    Up to 16 queries and 12 neighbours of each; of more, the first are drawn and the title says so. Images of any sizes: tiny ones are
    enlarged by a whole factor, large ones shrink. ValueError for captions or marks that do not match the images.
    """
    for row in rows:
        if not len(row.images) == len(row.captions) == len(row.right):
            raise ValueError(
                f"neighbour sheet: {len(row.images)} neighbours have {len(row.captions)} captions and {len(row.right)} marks"
            )
    shown = rows[:MOST_ROWS]
    columns = min(MOST_NEIGHBOURS, max((len(row.images) for row in shown), default=0))
    pictures = [[rgb(image) for image in row.images[:columns]] for row in shown]
    queries = [None if row.query is None else rgb(row.query) for row in shown]
    tile = _tile([*(image for row in pictures for image in row), *(image for image in queries if image is not None)])
    step_x, step_y = tile[0] + _GAP, tile[1] + 48
    left, head = MARGIN + tile[0] + 2 * _GAP, 70
    width, height = max(left + columns * step_x + MARGIN, 360), head + len(shown) * step_y + 4
    with style():
        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
        FigureCanvasAgg(figure)
        note = f"   the first {MOST_ROWS} of {len(rows)}" if len(rows) > MOST_ROWS else ""
        heading = cut(clean(title), 11, width - 2 * MARGIN - text_pixels(note, 11)) + note
        _write(figure, MARGIN, height - 24, heading or ("" if shown else "no queries"), 11, INK, "left")
        if shown:
            _write(figure, MARGIN, height - 52, "query", 8.5, GREY, "left")
            _write(figure, left, height - 52, "nearest first", 8.5, GREY, "left")
        for number, (row, query, images) in enumerate(zip(shown, queries, pictures, strict=True)):
            y = height - head - number * step_y - tile[1]
            if query is None:
                text = cut(clean(row.caption), 11, tile[0])
                _write(figure, MARGIN + tile[0] / 2, y + tile[1] / 2, text, 11, INK, "center")
            else:
                _draw(figure, query, (MARGIN, y), tile, row.caption, None)
            for place, (image, caption, right) in enumerate(zip(images, row.captions, row.right, strict=False)):
                _draw(figure, image, (left + place * step_x, y), tile, caption, bool(right))
    return figure


def _tile(images: Sequence[NDArray[np.uint8]]) -> tuple[int, int]:
    """Width and height that suit images of these proportions; between 1 : 2 and 4 : 1."""
    if not images:
        return 100, 100
    ratio = min(max(float(np.median([image.shape[1] / image.shape[0] for image in images])), 0.5), 4.0)
    return round((_AREA * ratio) ** 0.5), round((_AREA / ratio) ** 0.5)


def fit(image: NDArray[np.uint8], tile: tuple[int, int]) -> NDArray[np.uint8]:
    """The image enlarged by the greatest whole factor, or shrunk, until it fits into the tile."""
    height, width = image.shape[:2]
    factor = min(tile[0] // width, tile[1] // height)
    if factor >= 1:
        return image.repeat(factor, axis=0).repeat(factor, axis=1)
    scale = min(tile[0] / width, tile[1] / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def _draw(
    figure: Figure,
    image: NDArray[np.uint8],
    place: tuple[int, int],
    tile: tuple[int, int],
    caption: str,
    right: bool | None,
) -> None:
    """An image in the middle of its tile, framed, its caption below; place: left and bottom in pixels."""
    colour, thickness = (RULE, 1) if right is None else (GREEN if right else RED, 3)
    fitted = fit(image, tile)
    height, width = (length + 2 * thickness for length in fitted.shape[:2])
    framed = np.empty((height, width, 3), np.uint8)
    framed[:] = [round(255 * part) for part in to_rgb(colour)]
    framed[thickness:-thickness, thickness:-thickness] = fitted
    x, y = place
    figure.figimage(framed, x + (tile[0] - width) // 2, y + (tile[1] - height) // 2, origin="upper")
    sign = "" if right is None else "✓ " if right else "✗ "
    for number, line in enumerate(wrap(sign + clean(caption), 8, tile[0] + _GAP - 4)):
        _write(figure, x + tile[0] / 2, y - 14 - 15 * number, line, 8, INK if right is None else colour, "center")


def _write(figure: Figure, x: float, y: float, text: str, size: float, colour: str, side: str) -> None:
    figure.text(x, y, text, size=size, color=colour, ha=side, va="center", transform=None)
