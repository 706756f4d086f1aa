"""Figures of activations: what the layers of a network make of a sample, and how much of it over the epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from diva.report.figures import curves
from diva.report.pictures import rgb
from diva.report.style import BLUES, DPI, GREY, INK, MARGIN, RULE, clean, cut, fit, style, text_pixels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

MOST_ROWS: Final = 16
MOST_LINES: Final = 12
TILE: Final = 64
STEP: Final = TILE + 8
_COLOURS: Final = LinearSegmentedColormap.from_list("activations", ("#ffffff", *BLUES))


def spread(n: int, most: int) -> list[int]:
    """Up to `most` of the numbers below n, evenly spread, the first and the last among them."""
    if n <= most:
        return list(range(n))
    return [i * (n - 1) // (most - 1) for i in range(most)]


def activation_sheet(
    layers: Sequence[tuple[str, str, NDArray[np.float64]]], title: str, image: NDArray[np.uint8] | None = None
) -> Figure:
    """Up to 16 layers of a network, a row each, spread from first to last, with what they make of one sample.

    layers: name, a note below it, and maps (K, h, w), up to 64 x 64 each, or values (F,), drawn as one strip. image: the sample, uint8
    (H, W) or (H, W, 3). Within a row white is the lowest value and dark blue the highest; both stand below the note.
    """
    rows = [layers[i] for i in spread(len(layers), MOST_ROWS)]
    labels = [[name, note, "{:.3g} to {:.3g}".format(*_limits(values))] for name, note, values in rows]
    left = MARGIN + 16 + min(260, max((text_pixels(clean(line), 8) for lines in labels for line in lines), default=0))
    n_columns = max((len(values) for _, _, values in rows if values.ndim == 3), default=4)
    head = 50 + (STEP + 12 if image is not None else 0)
    width, height = max(left + n_columns * STEP + MARGIN, 420), head + len(rows) * STEP + MARGIN
    with style():
        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
        FigureCanvasAgg(figure)
        of = f"   {len(rows)} of {len(layers)} layers" if len(rows) < len(layers) else ""
        heading = cut(clean(title), 11, width - 2 * MARGIN - text_pixels(of, 11)) + of
        figure.text(MARGIN / width, 1 - 27 / height, heading, size=11, va="center")
        if image is not None:
            shown = fit(rgb(image), TILE)
            _place(figure, shown, left, height - 50 - len(shown))
            figure.text(MARGIN, height - 50 - 12, "the sample", size=8, va="center", transform=None)
        for row, ((_, _, values), lines) in enumerate(zip(rows, labels, strict=True)):
            top = height - head - row * STEP
            for line, text in enumerate(lines):
                said = cut(clean(text), 8, left - MARGIN - 12)
                colour = INK if line == 0 else GREY
                figure.text(MARGIN, top - 12 - 19 * line, said, size=8, color=colour, va="center", transform=None)
            _draw_row(figure, values, left, top, n_columns)
    return figure


def activation_curves(strengths: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Figure:
    """The mean absolute activation of up to 12 layers, spread from first to last, over the epochs: name -> (epochs, means)."""
    names = list(strengths)
    chosen = [names[i] for i in spread(len(names), MOST_LINES)]
    of = f", {len(chosen)} of {len(names)} layers" if len(chosen) < len(names) else ""
    return curves({name: strengths[name] for name in chosen}, f"Activations{of}", "epoch", "mean absolute activation")


def _limits(values: NDArray[np.float64]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def _draw_row(figure: Figure, values: NDArray[np.float64], left: int, top: int, n_columns: int) -> None:
    low, high = _limits(values)
    if values.ndim == 1:
        width, height = n_columns * STEP - 8, TILE // 3
        columns = np.arange(width) * len(values) // width
        strip = np.repeat(_coloured(values[None, :], low, high)[:, columns], height, axis=0)
        _place(figure, strip, left, top - TILE // 3 - height)
        return
    for column, one in enumerate(values):
        pixels = _enlarged(_coloured(one, low, high))
        _place(figure, pixels, left + column * STEP, top - len(pixels))


def _coloured(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.uint8]:
    """Values (H, W) as colours, uint8 (H, W, 3); what is not finite is black."""
    finite = np.isfinite(values)
    shares = np.where(finite, values - low, 0.0) / ((high - low) or 1.0)
    colours = np.asarray(_COLOURS(shares, bytes=True))[:, :, :3]
    return np.where(finite[:, :, None], colours, 0).astype(np.uint8)


def _enlarged(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) up to 64 x 64 -> a tile of at most that, pixel for pixel, its longer side filled."""
    factor = TILE / max(pixels.shape[:2])
    rows, columns = (np.arange(max(1, round(n * factor))) * n // max(1, round(n * factor)) for n in pixels.shape[:2])
    return np.asarray(pixels[rows][:, columns])


def _place(figure: Figure, pixels: NDArray[np.uint8], x: int, y: int) -> None:
    """An image with a hairline around it, its lower left corner at (x, y) pixels from that of the figure."""
    framed = np.empty((pixels.shape[0] + 2, pixels.shape[1] + 2, 3), np.uint8)
    framed[:] = [int(RULE[start : start + 2], 16) for start in (1, 3, 5)]
    framed[1:-1, 1:-1] = pixels
    figure.figimage(framed, x - 1, y - 1, origin="upper")
