"""Figures of scores: ROC, precision over recall, and scores per class, legible for two classes and for a thousand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from diva.report.style import GREY, INK, LINES, MARGIN, RULE, canvas, clean, cut, headline, style, text_pixels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

    Curve = tuple[NDArray[np.float64], NDArray[np.float64]]

MOST_COLOURED_CLASSES: Final = 6  # as many lines are told apart; of more classes the best and the worst are coloured
EXTREMES: Final = 3
MOST_GREY_LINES: Final = 60
MOST_ROWS: Final = 60
_GRID: Final = np.linspace(0, 1, 501)  # where curves are averaged


def roc_figure(
    curves: Sequence[tuple[ArrayLike, ArrayLike]], areas: ArrayLike, class_names: Sequence[str], title: str = ""
) -> Figure:
    """ROC curves of classes against the rest: their mean, and each of up to 6 classes; of more, the 3 best and the 3 worst in colour.

    curves: of each class its false and true positive rates, (K,) each, any K; areas: (C,). A class whose area is NaN is left out.
    """
    return _draw(curves, areas, class_names, title or "ROC", "roc")


def precision_recall_figure(
    curves: Sequence[tuple[ArrayLike, ArrayLike]], areas: ArrayLike, class_names: Sequence[str], title: str = ""
) -> Figure:
    """Precision over recall of classes against the rest, as steps; which are drawn is as in `roc_figure`.

    curves: of each class its recalls and precisions, (K,) each, any K; areas: the average precisions, (C,).
    """
    return _draw(curves, areas, class_names, title or "Precision and recall", "recall")


def class_scores(scores: Mapping[str, ArrayLike], class_names: Sequence[str], title: str = "") -> Figure:
    """A row per class: the first score is a bar, the others are dots. Of more than 60 classes the 60 lowest by the first score.

    scores: name -> (C,) in [0, 1]; NaN is said as a dash.
    """
    values = {name: np.asarray(found, np.float64) for name, found in scores.items()}
    n_classes = len(class_names)
    if not values or any(found.shape != (n_classes,) for found in values.values()):
        raise ValueError(f"class scores: {n_classes} class names need scores of as many")
    first = next(iter(values.values()))
    rows: list[int] = list(range(n_classes))
    if n_classes > MOST_ROWS:
        rows = np.argsort(first, kind="stable")[:MOST_ROWS].tolist()
    names = [cut(clean(class_names[row]), 8.5, 200) for row in rows]
    widest = max((text_pixels(name, 8.5) for name in names), default=30)
    beside = 44 + max(text_pixels(clean(name), 8.5) for name in values)
    with style():
        height = 26 if len(rows) <= 20 else 19
        figure, axes = canvas(MARGIN + widest + 14, 48, 460, max(height * len(rows), 70), 66, MARGIN + 44 + beside)
        places = np.arange(len(rows))
        for index, (name, found) in enumerate(values.items()):
            shown, label = found[rows], clean(name)
            if index == 0:
                axes.barh(places, np.nan_to_num(shown), height=0.62, color=LINES[4], label=label)
            else:
                axes.plot(
                    shown,
                    places,
                    "o",
                    color=LINES[(0, 1, 2, 3)[(index - 1) % 4]],
                    markersize=4.5,
                    label=label,
                    alpha=0.9,
                )
        for place, value in zip(places, first[rows], strict=True):
            text = "-" if math.isnan(value) else f"{value:.3f}"
            axes.annotate(text, (1.0, place), (9, 0), textcoords="offset points", size=7.5, color=GREY, va="center")
        axes.set_yticks(places, names)
        axes.set(xlim=(0, 1.01), ylim=(len(rows) - 0.5, -0.5))
        _plain(axes, "x")
        axes.tick_params(axis="y", labelcolor=INK)
        of = f" · the {MOST_ROWS} lowest of {n_classes:,} classes" if n_classes > MOST_ROWS else ""
        mean = first[~np.isnan(first)]
        told = f"mean of {next(iter(values))} {mean.mean():.4f}" if mean.size else "no class has a score"
        headline(figure, title or "Scores per class", clean(told) + of)
        right = 1 + (44 + 12) / 460
        handles, labels = axes.get_legend_handles_labels()
        order = [labels.index(clean(name)) for name in values]  # Matplotlib puts bars last
        axes.legend(
            [handles[k] for k in order], [labels[k] for k in order], loc="upper left", bbox_to_anchor=(right, 1),
            borderaxespad=0, frameon=False, fontsize=8.5,
        )  # fmt: skip
    return figure


def _draw(
    curves: Sequence[tuple[ArrayLike, ArrayLike]],
    areas: ArrayLike,
    class_names: Sequence[str],
    title: str,
    kind: Literal["roc", "recall"],
) -> Figure:
    sizes = np.asarray(areas, np.float64)
    if not len(curves) == len(class_names) == sizes.size or sizes.ndim != 1:
        raise ValueError(f"curves: {len(class_names)} class names need as many curves and areas, got {len(curves)}")
    lines: list[Curve] = [(np.asarray(x, np.float64), np.asarray(y, np.float64)) for x, y in curves]
    there = [index for index in np.argsort(-sizes, kind="stable").tolist() if not math.isnan(sizes[index])]
    few = len(there) <= MOST_COLOURED_CLASSES
    coloured = sorted(there) if few else [*there[:EXTREMES], *there[-EXTREMES:]]
    short = {index: f"{cut(clean(class_names[index]), 8.5, 180)}  {sizes[index]:.4f}" for index in coloured}
    mean = f"mean of {len(there)}  {np.mean(sizes[there]) if there else math.nan:.4f}"
    beside = max((text_pixels(label, 8.5) for label in [mean, *short.values()]), default=60) + 64
    with style():
        figure, axes = canvas(78, 58, 420, 420, above=66, right=MARGIN + beside)
        if kind == "roc":
            axes.plot((0, 1), (0, 1), color=GREY, linewidth=1, linestyle=(0, (2, 3)))
        grey = [] if few else [index for index in there if index not in short]
        for index in grey[:: -(-len(grey) // MOST_GREY_LINES) or 1]:
            _line(axes, lines[index], kind, color=RULE, linewidth=1)
        if len(there) > 1:
            across = np.mean([_resampled(lines[index], kind) for index in there], axis=0)
            axes.plot(_GRID, across, color=INK, linewidth=2.6, label=mean, zorder=3)
        for place, (index, label) in enumerate(short.items()):
            dash = "-" if few or place < EXTREMES else (0, (4, 1.5))
            colour = LINES[place if few else (2, 0, 4)[place] if place < EXTREMES else (5, 3, 1)[place - EXTREMES]]
            _line(axes, lines[index], kind, color=colour, linewidth=1.6, linestyle=dash, label=label, zorder=4)
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.015), aspect="equal")
        axes.set_xlabel("false positive rate" if kind == "roc" else "recall", size=9, labelpad=7)
        axes.set_ylabel("true positive rate" if kind == "roc" else "precision", size=9, labelpad=7)
        _plain(axes, "both")
        headline(figure, title, _said(len(there), len(lines), kind))
        if there:
            axes.legend(loc="upper left", bbox_to_anchor=(1.03, 1), borderaxespad=0, frameon=False, fontsize=8.5)
        else:
            axes.text(0.5, 0.5, "no data", size=11, color=GREY, ha="center", va="center")
    return figure


def _said(n_drawn: int, n_classes: int, kind: str) -> str:
    """What the numbers are, and which classes are not seen."""
    parts = [f"against the rest, with {'area' if kind == 'roc' else 'average precision'}"]
    if n_drawn > MOST_COLOURED_CLASSES:
        parts.append(f"best {EXTREMES}, worst {EXTREMES} dashed")
    if n_drawn < n_classes:
        parts.append(f"{n_classes - n_drawn} of {n_classes:,} classes have none")
    return " · ".join(parts)


def _line(axes: Axes, curve: Curve, kind: str, **style: Any) -> None:
    axes.plot(*curve, drawstyle="default" if kind == "roc" else "steps-pre", **style)


def _resampled(curve: Curve, kind: str) -> NDArray[np.float64]:
    """The curve's height over `_GRID`: between the points of ROC a straight line, between those of recall a step."""
    x, y = curve
    if kind == "roc":
        return np.interp(_GRID, x, y)
    return np.asarray(y[np.minimum(np.searchsorted(x, _GRID, side="left"), len(y) - 1)])


def _plain(axes: Axes, grid: Literal["x", "both"]) -> None:
    axes.tick_params(labelsize=8.5, length=0, pad=6)
    axes.grid(color=RULE, linewidth=0.7, axis=grid)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
