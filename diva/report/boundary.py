"""Decision boundaries: which class a model gives to each place of a plane, how sure it is, and the points it is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.ticker import MaxNLocator

from diva.report.style import GREY, INK, LINES, MARGIN, PAPER, canvas, clean, cut, headline, style, text_pixels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

MOST_NAMED: Final = 21  # classes that stand in the legend: seven colours, three marks
MARKS: Final = "osD"
SIDE: Final = 360  # pixels
FAINTEST, STRONGEST = 0.06, 0.62  # how much of a class's colour a place has that is undecided, and one that is certain


def decision_boundary(
    probabilities: ArrayLike,
    extent: tuple[float, float, float, float],
    points: ArrayLike,
    labels: Sequence[int],
    predictions: Sequence[int],
    class_names: Sequence[str],
    axis_names: tuple[str, str],
    title: str,
    note: str = "",
) -> Figure:
    """The regions of the classes, paler where the model is less sure, with a line between them; and points, crossed out where it is wrong.

    probabilities: (H, W, C), summing to 1 over the classes, of the centres of H x W equal cells; row 0 lies at the bottom.
    extent: left, right, bottom and top edge of the cells; points: (N, 2); labels, predictions: (N,). The colour of a cell is that of
    its most probable class (the first of equals), mixed with white by its confidence: (C p - 1) / (C - 1), 0 where all classes are
    equally probable, 1 where p is 1.
    """
    shares = np.asarray(probabilities, np.float64)
    places, truth, said = np.asarray(points, np.float64).reshape(-1, 2), np.asarray(labels), np.asarray(predictions)
    if shares.ndim != 3 or shares.shape[2] != len(class_names):
        raise ValueError(
            f"decision boundary: {len(class_names)} classes need probabilities (H, W, C), got {shares.shape}"
        )
    if not len(places) == len(truth) == len(said):
        raise ValueError(
            f"decision boundary: {len(places)} points have {len(truth)} labels and {len(said)} predictions"
        )
    names = [cut(clean(name), 8.5, 150) for name in class_names[:MOST_NAMED]]
    legend = max((text_pixels(name, 8.5) for name in [*names, "wrong"]), default=0) + 36
    with style():
        figure, axes = canvas(76, 54, SIDE, max(SIDE, 21 * len(names) + 24), above=64, right=MARGIN + legend)
        axes.imshow(_colours(shares), extent=extent, origin="lower", interpolation="bilinear", aspect="auto")
        _draw_lines(axes, shares, extent)
        _draw_points(axes, places, truth, said, names)
        axes.set_xlim(extent[0], extent[1])
        axes.set_ylim(extent[2], extent[3])
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
        axes.tick_params(labelsize=8.5, length=0, pad=6)
        axes.spines[:].set_visible(False)
        axes.set_xlabel(cut(clean(axis_names[0]), 9, SIDE), size=9, labelpad=6)
        axes.set_ylabel(cut(clean(axis_names[1]), 9, SIDE), size=9, labelpad=6)
        headline(figure, title, note)
        axes.legend(
            loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False, fontsize=8.5, handletextpad=0.3
        )
    return figure


def _colours(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """The colour of each cell, RGB in [0, 1], (H, W, 3)."""
    n_classes = shares.shape[2]
    palette = np.array([to_rgb(LINES[index % len(LINES)]) for index in range(n_classes)])  # (C, 3)
    sure = np.clip((shares.max(2) * n_classes - 1) / (n_classes - 1), 0, 1)[:, :, None] if n_classes > 1 else 1.0
    weight = FAINTEST + (STRONGEST - FAINTEST) * sure
    return np.asarray(weight * palette[shares.argmax(2)] + (1 - weight) * np.array(to_rgb(PAPER)))


def _draw_lines(axes: Axes, shares: NDArray[np.float64], extent: tuple[float, float, float, float]) -> None:
    """Where the most probable class changes: the zero line of each class's lead over the best of the others."""
    height, width, n_classes = shares.shape
    if min(height, width) < 2 or n_classes < 2:
        return
    x = extent[0] + (np.arange(width) + 0.5) * (extent[1] - extent[0]) / width
    y = extent[2] + (np.arange(height) + 0.5) * (extent[3] - extent[2]) / height
    winners = np.unique(shares.argmax(2))
    if len(winners) < 2:
        return
    for index in winners[:1] if len(winners) == 2 else winners:
        lead = shares[:, :, index] - np.delete(shares, index, axis=2).max(2)
        axes.contour(x, y, lead, levels=[0.0], colors=[INK], linewidths=0.9)


def _draw_points(
    axes: Axes, places: NDArray[np.float64], truth: NDArray[np.int64], said: NDArray[np.int64], names: list[str]
) -> None:
    for index in range(len(names) if len(names) < MOST_NAMED else int(truth.max(initial=0)) + 1):
        chosen = places[truth == index]
        known = index < len(names)
        axes.scatter(
            chosen[:, 0], chosen[:, 1], s=17, marker=MARKS[index // len(LINES) % 3], linewidths=0.6, edgecolors=PAPER,
            color=LINES[index % len(LINES)] if known else GREY, label=names[index] if known else None, zorder=3,
        )  # fmt: skip
    wrong = places[truth != said]
    axes.scatter(wrong[:, 0], wrong[:, 1], s=34, marker="x", color=INK, linewidths=1.3, label="wrong", zorder=4)
