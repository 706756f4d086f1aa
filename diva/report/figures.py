"""Figures: arrays become pictures, the same bytes each time, with no display and no global state left behind.

Each picture is laid out in pixels on a `Figure` of `DPI` dots per inch, so that the cells of a matrix and the pixels of
a tiny image stay sharp. Turn one into a file with `style.png`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, PowerNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from diva.report.pictures import rgb
from diva.report.style import (
    ABSENT,
    BLUES,
    DASHES,
    DPI,
    GREEN,
    GREY,
    INK,
    LINES,
    MARGIN,
    PAPER,
    RED,
    RULE,
    canvas,
    clean,
    cut,
    fit,
    headline,
    style,
    text_pixels,
    wrap,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage
    from numpy.typing import ArrayLike, NDArray

MOST_ANNOTATED_CLASSES: Final = 30
MOST_NAMED_CLASSES: Final = 60
MOST_MATRIX_PIXELS: Final = 1200
MOST_IMAGES: Final = 64
MOST_SAMPLES: Final = 32


def confusion_matrix(counts: ArrayLike, class_names: Sequence[str], title: str = "") -> Figure:
    """How often each true class (row) was predicted as each class (column).

    counts: integers (C, C) >= 0, C >= 1; class_names: C strings. The colour is the share of the row, so that rare
    classes count as much as frequent ones; the number is the count (up to 30 classes). Names stand beside up to 60
    classes, beyond that their numbers do. A class without samples is a grey row. Beyond 1200 classes a dot is the
    largest share among several neighbours.
    """
    matrix = np.asarray(counts)
    n_classes = len(class_names)
    if matrix.shape != (n_classes, n_classes) or n_classes == 0:
        raise ValueError(f"confusion matrix: {n_classes} class names need as many rows and columns, got {matrix.shape}")
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.where(totals > 0, matrix / np.maximum(totals, 1), np.nan)  # (C, C)
    per_dot = -(-n_classes // MOST_MATRIX_PIXELS)
    cell = _cell_pixels(n_classes, int(matrix.max()))
    side = max(cell * -(-n_classes // per_dot), 240)
    names = [cut(clean(name), 8.5, 170) for name in class_names] if n_classes <= MOST_NAMED_CLASSES else []
    widest = max((text_pixels(name, 8.5) for name in names), default=40)
    upright = bool(names) and widest > side / n_classes - 6
    with style():
        left, below = MARGIN + 30 + widest, 34 + (widest if upright else 18)
        figure, axes = canvas(left, below, side, side, above=64, right=104)
        image = _draw_shares(axes, _pooled(shares, per_dot), n_classes)
        _label_classes(axes, names, n_classes, upright)
        if n_classes <= MOST_ANNOTATED_CLASSES:
            _annotate(axes, matrix, shares)
        _share_bar(figure, axes, image)
        headline(figure, title or "Confusion matrix", _summary(matrix, totals, per_dot))
    return figure


def image_grid(
    images: Sequence[NDArray[np.uint8]],
    captions: Sequence[str],
    title: str = "",
    columns: int = 8,
    marks: Sequence[bool] | None = None,
) -> Figure:
    """Up to 64 images of any sizes with a caption each; of more, the first 64 are drawn and the title says so.

    images: uint8 (H, W) or (H, W, 3). Tiny images are enlarged by a whole factor, pixel for pixel; large ones shrink.
    marks: one bool per image, drawn as a green frame and a tick, or a red frame and a cross.
    """
    if len(captions) != len(images) or (marks is not None and len(marks) != len(images)):
        raise ValueError(f"image grid: {len(images)} images ask for as many captions and marks, got {len(captions)}")
    shown = [rgb(image) for image in images[:MOST_IMAGES]]
    tile = _tile_pixels(shown)
    fitted = [fit(image, tile) for image in shown]
    signs = ["" if marks is None else "✓ " if marks[index] else "✗ " for index in range(len(shown))]
    wrapped = [wrap(sign + clean(caption), 8, tile + 8) for sign, caption in zip(signs, captions, strict=False)]
    columns = max(1, min(columns, len(shown)))
    n_rows = -(-len(shown) // columns)
    caption_height = 15 * max((len(lines) for lines in wrapped), default=1) + 6
    tall = max((image.shape[0] for image in fitted), default=tile)  # wide images leave no empty room above them
    step_x, step_y = tile + 20, tall + caption_height + 14
    head = 50 if title or len(images) > MOST_IMAGES or not shown else MARGIN
    width, height = max(2 * MARGIN + columns * step_x - 20, 320), head + n_rows * step_y + 8
    with style():
        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
        FigureCanvasAgg(figure)
        note = f"   the first {MOST_IMAGES} of {len(images)}" if len(images) > MOST_IMAGES else ""
        heading = cut(clean(title), 11, width - 2 * MARGIN - text_pixels(note, 11)) + note
        figure.text(MARGIN / width, 1 - 27 / height, heading or ("" if shown else "no images"), size=11, va="center")
        for index, (image, lines) in enumerate(zip(fitted, wrapped, strict=True)):
            x = MARGIN + index % columns * step_x
            y = height - head - index // columns * step_y - tall  # from the bottom, as Matplotlib counts
            _draw_tile(figure, image, (x, y), (tile, tall), lines, None if marks is None else bool(marks[index]))
    return figure


def sample_sheet(
    n: int, picture: Callable[[int], NDArray[np.uint8]], caption: Callable[[int], str], title: str
) -> Figure:
    """Up to `MOST_SAMPLES` of `n` samples, evenly spread over them, as `image_grid` draws them; `picture(i)` as there."""
    chosen = range(0, n, -(-n // MOST_SAMPLES) or 1)
    return image_grid([picture(i) for i in chosen], [caption(i) for i in chosen], title=title)


def curves(series: Mapping[str, tuple[ArrayLike, ArrayLike]], title: str, xlabel: str, ylabel: str) -> Figure:
    """One line per name; where a value is not finite, the line has a gap and the legend says how many are missing.

    series: name -> (x, y), each of shape (N,), N >= 0; series may differ in length.
    """
    lines = {name: (np.asarray(x, np.float64), np.asarray(y, np.float64)) for name, (x, y) in series.items()}
    labels = [_line_label(name, x, y) for name, (x, y) in lines.items()]
    legend_width = max((text_pixels(label, 8.5) for label in labels), default=-64) + 64
    with style():
        figure, axes = canvas(82, 58, 640, max(360, 23 * len(labels)), above=56, right=MARGIN + legend_width)
        for index, (label, (x, y)) in enumerate(zip(labels, lines.values(), strict=True)):
            _draw_line(axes, label, x, y, index)
        axes.set_xlabel(clean(xlabel), size=9, labelpad=7)
        axes.set_ylabel(clean(ylabel), size=9, labelpad=7)
        axes.tick_params(labelsize=8.5, length=0, pad=6)
        axes.grid(color=RULE, linewidth=0.7, axis="y")
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(GREY)
        axes.margins(x=0.02, y=0.06)
        axes.ticklabel_format(axis="y", scilimits=(-4, 5))
        _place_ticks(axes, [x[np.isfinite(y)] for x, y in lines.values()])
        headline(figure, title)
        if labels:  # beside the axes, where it never hides a line
            axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False, fontsize=8.5)
    return figure


def _cell_pixels(n_classes: int, largest_count: int) -> int:
    """The side of a cell: room for the largest count where counts are written, and never less than a pixel."""
    if n_classes <= MOST_ANNOTATED_CLASSES:
        return max(30 if n_classes > 12 else 46, text_pixels(str(largest_count), 8.5) + 10)
    return 18 if n_classes <= MOST_NAMED_CLASSES else max(1, MOST_MATRIX_PIXELS // n_classes)


def _pooled(shares: NDArray[np.float64], per_dot: int) -> NDArray[np.float64]:
    """The largest share in each square of `per_dot` by `per_dot` cells; NaN where no cell has samples."""
    beyond = -len(shares) % per_dot
    padded = np.pad(shares, (0, beyond), constant_values=np.nan)
    n_dots = len(padded) // per_dot
    squares = padded.reshape(n_dots, per_dot, n_dots, per_dot)
    return np.asarray(np.fmax.reduce(np.fmax.reduce(squares, axis=3), axis=1))


def _draw_shares(axes: Axes, dots: NDArray[np.float64], n_classes: int) -> AxesImage:
    """White where nothing is; from there the colour leaps, so that a single mistake is seen, even if a pixel wide."""
    faintest = 0 if n_classes <= MOST_NAMED_CLASSES else 1
    blues = LinearSegmentedColormap.from_list("shares", BLUES[faintest:]).with_extremes(bad=ABSENT, under=PAPER)
    values = np.where(dots == 0, -1.0, dots)
    extent = (-0.5, n_classes - 0.5, n_classes - 0.5, -0.5)
    image = axes.imshow(values, cmap=blues, norm=PowerNorm(0.5, 0.0, 1.0), interpolation="nearest", extent=extent)
    if n_classes <= MOST_NAMED_CLASSES:
        edges = np.arange(1, n_classes) - 0.5
        axes.hlines(edges, -0.5, n_classes - 0.5, color=RULE, linewidth=0.5)
        axes.vlines(edges, -0.5, n_classes - 0.5, color=RULE, linewidth=0.5)
    return image


def _label_classes(axes: Axes, names: list[str], n_classes: int, upright: bool) -> None:
    axes.set_xlabel("predicted class", size=9)
    axes.set_ylabel("true class", size=9)
    axes.tick_params(length=0, labelsize=8.5 if n_classes <= MOST_ANNOTATED_CLASSES else 7.5, pad=5, labelcolor=INK)
    if names:
        axes.set_xticks(range(n_classes), names, rotation=90 if upright else 0)
        axes.set_yticks(range(n_classes), names)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))


def _annotate(axes: Axes, matrix: NDArray[Any], shares: NDArray[np.float64]) -> None:
    size = 9.0 if len(matrix) <= 12 else 8.0
    for row, column in np.ndindex(matrix.shape):
        count, share = matrix[row, column], shares[row, column]
        if count or row == column:
            colour = PAPER if share > 0.2 else INK if count else GREY
            axes.text(column, row, str(count), size=size, color=colour, ha="center", va="center_baseline")


def _share_bar(figure: Figure, axes: Axes, image: AxesImage) -> None:
    width, height = figure.get_size_inches() * DPI
    box = axes.get_position()
    bar = figure.add_axes((box.x1 + 20 / width, box.y0, 12 / width, min(box.height, 300 / height) - 24 / height))
    scale = figure.colorbar(image, cax=bar, ticks=[0.01, 0.05, 0.1, 0.25, 0.5, 1])
    scale.ax.set_yticklabels(["1 %", "5 %", "10 %", "25 %", "50 %", "100 %"])
    scale.ax.tick_params(labelsize=7.5, length=0, pad=5)
    scale.outline.set_visible(False)
    top = bar.get_position().y1 + 14 / height
    figure.text(box.x1 + 20 / width, top, "of the row", size=7.5, color=GREY, va="center")


def _summary(matrix: NDArray[Any], totals: NDArray[Any], per_dot: int) -> str:
    n_samples, n_right, n_absent = int(matrix.sum()), int(np.trace(matrix)), int((totals == 0).sum())
    if not n_samples:
        return "no samples"
    parts = [f"{n_right:,} of {n_samples:,} right ({100 * n_right / n_samples:.1f} %)"]
    if n_absent:
        parts.append(f"{n_absent} {'class has' if n_absent == 1 else 'classes have'} no samples")
    if per_dot > 1:
        parts.append(f"a dot is the largest of {per_dot} by {per_dot} cells")
    return " · ".join(parts)


def _tile_pixels(images: Sequence[NDArray[np.uint8]]) -> int:
    """The side of the square that each image is fitted into: 120 pixels, up to 200 where the images are larger."""
    longest = max((max(image.shape) for image in images), default=0)
    return min(max(longest, 120), 200)


def _draw_tile(
    figure: Figure, image: NDArray[np.uint8], place: tuple[int, int], size: tuple[int, int], lines: list[str],
    mark: bool | None,
) -> None:  # fmt: skip
    """An image centred in its tile, a frame around it and its caption below; place: left and bottom, size: width and height in pixels."""
    (x, y), (tile, tall) = place, size
    colour, thickness = (RULE, 1) if mark is None else (GREEN if mark else RED, 3)
    height, width = (length + 2 * thickness for length in image.shape[:2])
    framed = np.empty((height, width, 3), np.uint8)
    framed[:] = [round(255 * part) for part in to_rgb(colour)]
    framed[thickness:-thickness, thickness:-thickness] = image
    figure.figimage(framed, x + (tile - width) // 2, y + (tall - height) // 2, origin="upper")
    ink = INK if mark is None else colour
    for index, line in enumerate(lines):
        figure.text(
            x + tile / 2, y - 14 - 15 * index, line, size=8, color=ink, ha="center", va="center", transform=None
        )


def _line_label(name: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"curves: {name} has x of shape {x.shape} and y of shape {y.shape}, expected (N,) and (N,)")
    n_missing = int((~np.isfinite(y)).sum())
    return cut(clean(name), 8.5, 220) + (f" ({n_missing:,} not finite)" if n_missing else "")


def _draw_line(axes: Axes, label: str, x: NDArray[np.float64], y: NDArray[np.float64], index: int) -> None:
    """A line; with dots where there are few points, and where a point has no finite neighbour to be joined to."""
    seen = np.isfinite(y)
    around = np.pad(seen, 1)
    alone = np.flatnonzero(seen & ~around[:-2] & ~around[2:])
    axes.plot(
        x,
        np.where(seen, y, np.nan),
        label=label,
        color=LINES[index % len(LINES)],
        linestyle=DASHES[index // len(LINES) % len(DASHES)],
        linewidth=1.8,
        marker="o",
        markevery=None if len(x) <= 40 else alone.tolist(),
        markersize=3.5,
        markeredgewidth=0,
    )


def _place_ticks(axes: Axes, positions: Sequence[NDArray[np.float64]]) -> None:
    """Whole numbers under whole numbers (epochs, steps), also under a single one."""
    x = np.concatenate([*positions, np.zeros(0)])
    x = x[np.isfinite(x)]
    if x.size and (x == np.round(x)).all():
        axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, steps=[1, 2, 5, 10]))
        if x.min() == x.max():
            axes.set_xlim(x.min() - 1, x.max() + 1)
    if not x.size:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "no data", size=11, color=GREY, ha="center", va="center", transform=axes.transAxes)
