"""Figures of data sets: classes, sizes, pixel values, samples, duplicates, lengths of texts, points; numbers in, pictures out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator

from diva.report.figures import MOST_NAMED_CLASSES, curves
from diva.report.style import DASHES, GREY, INK, LINES, MARGIN, RULE, canvas, clean, cut, headline, style, text_pixels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

MOST_NAMED_POINTS: Final = 21  # classes of points with a colour of their own


def class_distribution(
    counts: Mapping[str, Sequence[int]], class_names: Sequence[str], what: str = "samples"
) -> Figure:
    """How many samples each class has, the splits stacked; names and numbers stand beside up to 60 classes.

    counts: split -> (C,) whole numbers.
    """
    n_classes = len(class_names)
    totals = np.sum([list(part) for part in counts.values()], axis=0) if counts else np.zeros(n_classes)
    named = n_classes <= MOST_NAMED_CLASSES
    names = [cut(clean(name), 8.5, 220) for name in class_names] if named else []
    widest = max((text_pixels(name, 8.5) for name in names), default=30)
    row = 24 if n_classes <= 20 else 19
    height = max(row * n_classes, 60) if named else 420
    told = [" + ".join(f"{part[i]:,}" for part in counts.values()) for i in range(n_classes)] if named else []
    beside = max((text_pixels(text, 7.5) for text in told), default=0) + 12
    with style():
        figure, axes = canvas(MARGIN + widest + 14, 50, 520, height, above=82, right=MARGIN + beside)
        if named:
            _stacked_rows(axes, counts, n_classes)
            axes.set_yticks(range(n_classes), names)
            axes.set_ylim(n_classes - 0.5, -0.5)
            for index, text in enumerate(told):
                axes.annotate(
                    text, (totals[index], index), (5, 0), textcoords="offset points", size=7.5, va="center", color=GREY
                )
            axes.set_xlim(0, max(totals.max(), 1))
        else:
            _stacked_steps(axes, counts, n_classes)
        _plain(axes, "x" if named else "y")
        axes.set_xlabel(what if named else "class, in the order of names", size=9, labelpad=7)
        absent = int((totals == 0).sum())
        note = f" · {absent} of them without {what}" if absent else ""
        few, many = (int(totals.min()), int(totals.max())) if n_classes else (0, 0)
        headline(figure, "Classes", f"{n_classes:,} classes · {few:,} to {many:,} {what} each{note}")
        if len(counts) > 1:
            axes.legend(
                loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.1, ncols=len(counts), frameon=False, fontsize=8.5,
                handlelength=1, handleheight=1,
            )  # fmt: skip
    return figure


def image_sizes(sizes: Sequence[tuple[int, int, int]], n_sizes: int) -> Figure:
    """Width against height, a dot per size, its area by the number of images. sizes: (height, width, number) each."""
    found = np.asarray(sizes, np.int64).reshape(-1, 3)
    with style():
        figure, axes = canvas(82, 58, 460, 460, above=64, right=MARGIN + 12)
        area = 14 + 260 * found[:, 2] / max(found[:, 2].max(initial=0), 20)
        axes.scatter(found[:, 1], found[:, 0], s=area, color=LINES[0], alpha=0.45, linewidths=0.6, edgecolors=LINES[0])
        limit = max(found[:, :2].max(initial=1) * 1.08, 1)
        axes.plot([0, limit], [0, limit], color=RULE, linewidth=1, zorder=0)
        axes.text(limit * 0.985, limit * 0.965, "square", size=7.5, color=GREY, ha="right", va="top", rotation=45)
        axes.set(xlim=(0, limit), ylim=(0, limit))
        _plain(axes, "both")
        axes.set_xlabel("width in pixels", size=9, labelpad=7)
        axes.set_ylabel("height in pixels", size=9, labelpad=7)
        n = int(found[:, 2].sum())
        listed = "" if n_sizes <= len(found) else f" · the {len(found):,} most frequent of {n_sizes:,} sizes"
        headline(figure, "Image sizes", f"{n:,} images · {n_sizes:,} different sizes{listed}")
    return figure


def pixel_values(counts: Sequence[Sequence[int]], where: str) -> Figure:
    """How often each value occurs in each channel. counts: (channels, 256)."""
    names = ["grey"] if len(counts) == 1 else ["red", "green", "blue"]
    total = [max(sum(channel), 1) for channel in counts]
    series: dict[str, tuple[ArrayLike, ArrayLike]] = {
        name: (np.arange(256), np.array(channel, np.float64) / n)
        for name, channel, n in zip(names, counts, total, strict=True)
    }
    figure = curves(series, f"Pixel values of {where}", "value", "share of the pixels")
    axes = figure.axes[0]
    colours = {"grey": INK, "red": "#c8321f", "green": "#1a7f4b", "blue": "#0072b2"}
    for line, name in zip(axes.lines, names, strict=False):
        line.set(color=colours[name], marker="")
    if axes.get_legend() is not None:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False, fontsize=8.5)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    return figure


def lengths(histograms: Mapping[str, tuple[Sequence[int], Sequence[int]]], what: str) -> Figure:
    """Histograms of whole numbers, a panel's height each, over one axis. histograms: split -> (edges, counts)."""
    with style():
        figure, axes = canvas(92, 58, 600, 340, above=82, right=MARGIN + 12)
        for index, (split, (edges, counts)) in enumerate(histograms.items()):
            share = np.asarray(counts, np.float64) / max(sum(counts), 1)
            look: Any = {
                "color": LINES[index % len(LINES)],
                "linewidth": 1.8,
                "linestyle": DASHES[index % len(DASHES)],
            }
            axes.stairs(share, edges, label=split, **look)
            axes.stairs(share, edges, color=LINES[index % len(LINES)], fill=True, alpha=0.12)
        _plain(axes, "y")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
        axes.set_xlabel(what, size=9, labelpad=7)
        axes.set_ylabel("share of the texts", size=9, labelpad=7)
        axes.set_ylim(bottom=0)
        headline(figure, f"Lengths of texts in {what}")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.1, ncols=3, frameon=False, fontsize=8.5)
    return figure


def point_scatter(
    points: NDArray[np.float64], labels: Sequence[int], class_names: Sequence[str], features: Sequence[str], note: str
) -> Figure:
    """Points in the plane of their first two features, or over their only one; a colour and a mark per class, up to 21.

    points: (N, D), D >= 1; note: which points these are.
    """
    numbers = np.asarray(labels)
    x = points[:, 0]
    y = points[:, 1] if points.shape[1] > 1 else np.zeros(len(points))
    shown = [cut(clean(name), 8.5, 160) for name in class_names[:MOST_NAMED_POINTS]]
    legend = max((text_pixels(name, 8.5) for name in shown), default=0) + 40
    with style():
        figure, axes = canvas(82, 58, 480, 440, above=64, right=MARGIN + legend)
        for index in range(len(class_names)):
            chosen = numbers == index
            known = index < MOST_NAMED_POINTS
            axes.scatter(
                x[chosen], y[chosen], s=16, marker="osD"[index // len(LINES) % 3], alpha=0.75, linewidths=0,
                color=LINES[index % len(LINES)] if known else GREY, label=shown[index] if known else None,
            )  # fmt: skip
        _plain(axes, "both")
        axes.set_xlabel(clean(features[0]), size=9, labelpad=7)
        axes.set_ylabel(clean(features[1]) if len(features) > 1 else "", size=9, labelpad=7)
        of = f"the first two of {len(features)} features · " if len(features) > 2 else ""
        headline(figure, "Points", f"{of}{note}")
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False, fontsize=8.5)
    return figure


def _stacked_rows(axes: Axes, counts: Mapping[str, Sequence[int]], n_classes: int) -> None:
    left = np.zeros(n_classes)
    for index, (split, part) in enumerate(counts.items()):
        axes.barh(range(n_classes), list(part), left=left, height=0.72, color=LINES[index % len(LINES)], label=split)
        left = left + np.asarray(part)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))


def _stacked_steps(axes: Axes, counts: Mapping[str, Sequence[int]], n_classes: int) -> None:
    below = np.zeros(n_classes)
    edges = np.arange(n_classes + 1) - 0.5
    for index, (split, part) in enumerate(counts.items()):
        top = below + np.asarray(part)
        axes.stairs(top, edges, baseline=below, fill=True, color=LINES[index % len(LINES)], label=split)
        below = top
    axes.set_xlim(-0.5, n_classes - 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))


def _plain(axes: Axes, grid: Any) -> None:
    axes.tick_params(labelsize=8.5, length=0, pad=6)
    axes.grid(color=RULE, linewidth=0.7, axis=grid)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    thousands = FuncFormatter(lambda value, _: f"{value:,.0f}" if value == round(value) else f"{value:g}")
    axes.xaxis.set_major_formatter(thousands)
    axes.yaxis.set_major_formatter(thousands)
