"""Figures of a comparison: the curves of runs until and after they part; the scores of groups and what lies between them."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from matplotlib.ticker import MaxNLocator

from diva.report.style import DASHES, GREY, INK, LINES, MARGIN, RULE, canvas, clean, cut, headline, style, text_pixels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH: Final = 560
MOST_LINKED: Final = 40  # pairs joined by a line; more would be a grey surface


class Gap(NamedTuple):
    """The difference between two groups, with its interval; `settled` when it is more than seeds explain."""

    name: str
    difference: float
    low: float
    high: float
    settled: bool


def curves_figure(
    curves: Mapping[str, tuple[Sequence[int], Sequence[float]]], metric: str, parts_after: int | None
) -> Figure:
    """One metric of several runs over the epochs; a dotted line where the first of them parts from the first run.

    Runs that are the same lie on one another, the later ones thinner.
    curves: label -> (epochs, values), of equal length; values that are not finite leave a gap.
    """
    beside = max((text_pixels(clean(label), 9) for label in curves), default=0) + 64
    with style():
        figure, axes = canvas(78, 58, WIDTH, 300, above=66, right=MARGIN + beside)
        for place, (label, (epochs, values)) in enumerate(curves.items()):
            colour, dash = LINES[place % len(LINES)], DASHES[place // len(LINES) % len(DASHES)]
            finite = [value if math.isfinite(value) else math.nan for value in values]
            axes.plot(
                epochs, finite, color=colour, linestyle=dash, linewidth=max(1.4, 4.6 - 1.6 * place), label=clean(label)
            )
        if parts_after is not None:
            axes.axvline(parts_after, color=GREY, linewidth=1, linestyle=(0, (2, 3)), zorder=1)
        axes.set_xlabel("epoch", size=9, labelpad=7)
        axes.set_ylabel(clean(metric), size=9, labelpad=7)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _plain(axes, "y")
        said = "the same bits" if parts_after is None else f"first difference after epoch {parts_after} (dotted)"
        headline(figure, f"{metric} by epoch", said)
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0, frameon=False, fontsize=9)
    return figure


def groups_figure(
    groups: Mapping[str, Mapping[Any, float]],
    means: Mapping[str, tuple[float, float, float]],
    metric: str,
    linked: bool,
) -> Figure:
    """A strip per group: a dot per run, the mean with its interval beside it; runs of the same seed joined where they are pairs.

    groups: label -> {what the runs of a pair share, as the seed: value}; means: label -> (mean, low, high), NaN where there is no interval.
    """
    labels = list(groups)
    with style():
        figure, axes = canvas(78, 44, max(WIDTH, 90 * len(labels)), 300, above=66, right=MARGIN + 8)
        if linked:
            _link(axes, groups)
        for place, label in enumerate(labels):
            values = [value for _, value in sorted(groups[label].items()) if math.isfinite(value)]
            colour = LINES[place % len(LINES)]
            axes.plot([place] * len(values), values, "o", color=colour, markersize=5, alpha=0.75, zorder=3)
            mean, low, high = means[label]
            if math.isfinite(mean):
                axes.plot([place + 0.14], [mean], "D", color=INK, markersize=5, zorder=4)
            if math.isfinite(low) and math.isfinite(high):
                axes.plot([place + 0.14] * 2, [low, high], color=INK, linewidth=1.6, zorder=4)
        names = [f"{cut(clean(label), 9, 80)}  n = {len(groups[label])}" for label in labels]
        axes.set_xticks(range(len(labels)), names)
        axes.set_xlim(-0.5, len(labels) - 0.5)
        _plain(axes, "y")
        axes.tick_params(axis="x", labelcolor=INK)
        joined = " · lines join runs of the same seed" if linked else ""
        headline(figure, metric, f"dots: runs · diamond: mean with 95 % interval{joined}")
    return figure


def gaps_figure(gaps: Sequence[Gap], metric: str) -> Figure:
    """A row per pair of groups: the difference of their means with its interval, against no difference."""
    widest = max((text_pixels(clean(gap.name), 9) for gap in gaps), default=30)
    with style():
        figure, axes = canvas(MARGIN + widest + 14, 58, WIDTH, max(30 * len(gaps), 60), above=66, right=MARGIN + 8)
        axes.axvline(0, color=GREY, linewidth=1, zorder=1)
        for place, gap in enumerate(gaps):
            colour = LINES[1] if gap.settled else LINES[0]
            if math.isfinite(gap.low) and math.isfinite(gap.high):
                axes.plot([gap.low, gap.high], [place, place], color=colour, linewidth=2)
            marker = "D" if gap.settled else "o"
            axes.plot([gap.difference], [place], marker, color=colour, markersize=6)
        axes.set_yticks(range(len(gaps)), [clean(gap.name) for gap in gaps])
        axes.set_ylim(len(gaps) - 0.5, -0.5)
        axes.set_xlabel(f"difference of {clean(metric)}", size=9, labelpad=7)
        _plain(axes, "x")
        axes.tick_params(axis="y", labelcolor=INK)
        alone = "each of its difference alone · " if len(gaps) > 1 else ""
        headline(figure, "Differences of means with 95 % intervals", f"{alone}diamond: settled · circle: not settled")
    return figure


def _link(axes: Axes, groups: Mapping[str, Mapping[Any, float]]) -> None:
    """Grey lines between runs of the same seed in neighbouring groups."""
    labels = list(groups)
    for place, (left, right) in enumerate(pairwise(labels)):
        for key in [key for key in groups[left] if key in groups[right]][:MOST_LINKED]:
            pair = [groups[left][key], groups[right][key]]
            axes.plot([place, place + 1], pair, color=RULE, linewidth=1, zorder=1)


def _plain(axes: Axes, grid: str) -> None:
    axes.tick_params(labelsize=9, length=0, pad=6)
    axes.grid(color=RULE, linewidth=0.7, axis=grid)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
