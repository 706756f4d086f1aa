"""Figures of a search: how it went, which knobs matter, and where the good values are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.ticker import MaxNLocator

from diva.report.style import (
    BLUES,
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
    headline,
    style,
    text_pixels,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

BEST: Final = LINES[1]
BAD_TO_GOOD: Final = LinearSegmentedColormap.from_list("bad to good", BLUES)
LINES_BAD_TO_GOOD: Final = LinearSegmentedColormap.from_list(
    "lines, bad to good", ("#8fb3cf", *BLUES[2:])
)  # thin lines on white
FAN: Final = 0.1  # lines through one value of a list lie side by side over so much of the axis
_LABEL_BOX: Final = {"boxstyle": "square,pad=0.15", "facecolor": PAPER, "edgecolor": "none", "alpha": 0.85}


@dataclass(frozen=True)
class KnobAxis:
    """A knob as an axis: its name, and texts at places in [0, 1]. listed: whether it has no values but those at the ticks."""

    name: str
    ticks: tuple[tuple[float, str], ...]
    listed: bool = False


@dataclass(frozen=True)
class SearchTable:
    """A search in numbers. places: (N, D), each in [0, 1]; values: (N,) the objective, NaN where a trial gave none.

    states: "finished", "pruned" or "failed" of each trial. n_runs: of which a value is the mean.
    """

    knobs: Sequence[KnobAxis]
    places: ArrayLike
    values: ArrayLike
    states: Sequence[str]
    metric: str
    less_is_better: bool
    n_runs: int = 1

    @property
    def objective(self) -> NDArray[np.float64]:
        """The values as an array, (N,)."""
        return np.asarray(self.values, np.float64)

    @property
    def best(self) -> int | None:
        """The number of the best trial, the first of equals; None when none finished."""
        values = self.objective
        if np.isnan(values).all():
            return None
        return int(np.nanargmin(values) if self.less_is_better else np.nanargmax(values))

    def said(self) -> str:
        """How many trials there are and what became of them."""
        counts = [f"{self.states.count(s)} {s}" for s in ("finished", "pruned", "failed") if s in self.states]
        runs = f" · each the mean of {self.n_runs} runs" if self.n_runs > 1 else ""
        best = f" · best: trial {self.best}, {self.objective[self.best]:.4g}" if self.best is not None else ""
        n = len(self.states)
        return f"{n} trial{'s' if n != 1 else ''}: {', '.join(counts)}{runs}{best}"


def history_figure(table: SearchTable) -> Figure:
    """The objective of each trial in their order, and the best so far; trials without one are marks below."""
    values = table.objective
    numbers = np.arange(len(values))
    with style():
        figure, axes = canvas(92, 62, 600, 300, 66, MARGIN + 122)
        there = ~np.isnan(values)
        axes.plot(numbers[there], values[there], "o", color=LINES[0], markersize=5, alpha=0.75, label="a trial")
        if there.any():
            so_far = (np.fmin if table.less_is_better else np.fmax).accumulate(values)
            axes.step(numbers, so_far, where="post", color=INK, linewidth=1.6, label="best so far", zorder=1)
            best = table.best or 0
            axes.plot([best], [values[best]], "o", color=BEST, markersize=8, label="the best", zorder=4)
            low, high = _limits(values[there])
        else:
            low, high = 0.0, 1.0
        gone = {"pruned": ("|", GREY), "failed": ("x", RED)}
        floor = low - 0.07 * (high - low) if set(gone) & set(table.states) else low
        for state, (mark, colour) in gone.items():
            at = [number for number, s in enumerate(table.states) if s == state]
            if at:
                axes.plot(at, [floor] * len(at), mark, color=colour, markersize=6, label=state)
        axes.set(
            xlim=(-0.6, max(len(values), 2) - 0.4), ylim=(floor - (0.06 * (high - low) if floor < low else 0), high)
        )
        axes.set_xlabel("trial", size=9, labelpad=7)
        axes.set_ylabel(clean(table.metric), size=9, labelpad=7)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _plain(axes)
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False, fontsize=8.5)
        headline(figure, "How the search went", table.said())
    return figure


def parallel_figure(table: SearchTable) -> Figure:
    """Parallel coordinates: a line per finished trial through its knobs' values to its objective; darker is better, orange the best.

    Lines through one of few values lie side by side, in the order of their objectives.
    """
    values, places = table.objective, np.asarray(table.places, np.float64)
    there = [int(i) for i in np.flatnonzero(~np.isnan(values))]
    n_axes = len(table.knobs) + 1
    widest = max([text_pixels(t, 8) for knob in table.knobs for _, t in knob.ticks], default=30)
    gap = max(96, min(400, 780 // n_axes), widest + 40)
    with style():
        figure, axes = canvas(MARGIN + max(46, widest + 8), 26, gap * (n_axes - 1), 330, 104, MARGIN + 84)
        colour = _colours(values[there], less=table.less_is_better, shades=LINES_BAD_TO_GOOD)
        level = _levels(values)
        across, listed = np.arange(n_axes), np.array([knob.listed for knob in table.knobs])
        ascending = sorted(there, key=lambda i: (values[i], i))
        beside = {i: rank / max(1, len(there) - 1) for rank, i in enumerate(ascending)}
        order = sorted(there, key=lambda i: (values[i] if not table.less_is_better else -values[i], i))
        for i in order:
            is_best = i == table.best
            fanned = np.where(listed, places[i] + FAN * (beside[i] - 0.5), places[i])
            line = [*fanned.tolist(), level(values[i])]
            axes.plot(
                across, line, color=BEST if is_best else colour(values[i]), linewidth=2.6 if is_best else 1.3,
                alpha=1.0 if is_best else 0.8, solid_joinstyle="round", zorder=3 if is_best else 2,
            )  # fmt: skip
        for at, knob in enumerate(table.knobs):
            _upright(axes, at, knob.name, knob.ticks, gap)
        _upright(axes, n_axes - 1, table.metric, _value_ticks(values[there], level), gap, last=True)
        axes.set(xlim=(0, n_axes - 1), ylim=(-0.06, 1.06))
        axes.axis("off")
        if not there:
            axes.text(0.5, 0.5, "no trial finished", size=11, color=GREY, ha="center", transform=axes.transAxes)
        headline(figure, "Parallel coordinates: darker is better, orange the best", table.said())
    return figure


def importance_figure(shares: Mapping[str, float], metric: str, n_trials: int) -> Figure:
    """Each knob's share of the variance of the objective over the space, the greatest first; (by name, in [0, 1])."""
    names = sorted(shares, key=lambda name: (-shares[name], name))
    rest = max(0.0, 1 - math.fsum(shares.values()))
    labels = [cut(clean(name), 9, 200) for name in names] + ["interactions"]
    widths = [shares[name] for name in names] + [rest]
    with style():
        left = MARGIN + max(text_pixels(text, 9) for text in labels) + 12
        figure, axes = canvas(left, 56, 440, 30 * len(labels), 66, MARGIN + 52)
        at = np.arange(len(labels))
        axes.barh(at, widths, height=0.6, color=[LINES[0]] * len(names) + [RULE])
        for place, width in zip(at, widths, strict=True):
            text = f"{100 * width:.0f} %"
            axes.annotate(text, (width, place), (6, 0), textcoords="offset points", size=8.5, color=GREY, va="center")
        axes.set_yticks(at, labels)
        axes.set(xlim=(0, 1), ylim=(len(labels) - 0.5, -0.5), xticks=(0, 0.25, 0.5, 0.75, 1))
        axes.set_xticklabels(["0 %", "25 %", "50 %", "75 %", "100 %"])
        axes.set_xlabel(clean(f"share of the variance of {metric}"), size=9, labelpad=7)
        _plain(axes, "x")
        axes.tick_params(axis="y", labelcolor=INK, labelsize=9)
        headline(figure, "Which knobs matter", f"functional ANOVA of a random forest on {n_trials} trials")
    return figure


def contour_figure(
    table: SearchTable, axes_of: tuple[int, int], places: tuple[ArrayLike, ArrayLike], expected: ArrayLike
) -> Figure:
    """What a forest expects along two knobs, averaged over the others, and the trials themselves.

    axes_of: the numbers of the knobs across and up; places: (n,) and (m,) in [0, 1]; expected: (n, m).
    """
    across, up = (table.knobs[axis] for axis in axes_of)
    values, points = table.objective, np.asarray(table.places, np.float64)
    surface = np.asarray(expected, np.float64)
    there = ~np.isnan(values)
    colour = _colours(np.concatenate([values[there], surface.ravel()]), less=table.less_is_better)
    with style():
        left = MARGIN + 34 + max(text_pixels(text, 8.5) for _, text in up.ticks)
        figure, axes = canvas(left, 62, 430, 360, 66, MARGIN + 96)
        x, y = (np.asarray(p, np.float64) for p in places)
        axes.pcolormesh(_edges(x), _edges(y), surface.T, cmap=colour.cmap, norm=colour.norm, rasterized=True)
        if not across.listed and not up.listed and min(surface.shape) > 2 and np.ptp(surface) > 0:
            axes.contour(x, y, surface.T, levels=7, colors=PAPER, linewidths=0.8, alpha=0.8)
        _dots(axes, points[:, axes_of[0]], points[:, axes_of[1]], table, colour)
        for axis, knob, edges in ((axes.xaxis, across, _edges(x)), (axes.yaxis, up, _edges(y))):
            axis.set_ticks([place for place, _ in knob.ticks], [text for _, text in knob.ticks])
            (axes.set_xlim if axis is axes.xaxis else axes.set_ylim)(edges[0], edges[-1])
        axes.set_xlabel(clean(across.name), size=9, labelpad=7)
        axes.set_ylabel(clean(up.name), size=9, labelpad=7)
        axes.tick_params(labelsize=8.5, length=0, pad=6)
        axes.spines[:].set_visible(False)
        _scale(figure, axes, colour)
        crosses = " · crosses: no value" if np.isnan(values).any() else ""
        title = f"{table.metric} over {across.name} and {up.name}"
        headline(figure, title, f"a forest's expectation · dots: trials, the best ringed{crosses}")
    return figure


@dataclass(frozen=True)
class Colours:
    """Which colour a value has: dark where it is good."""

    norm: Normalize
    cmap: Colormap

    def __call__(self, value: float) -> Any:
        """The colour of one value."""
        return self.cmap(self.norm(value))


def _colours(values: NDArray[np.float64], *, less: bool, shades: Colormap = BAD_TO_GOOD) -> Colours:
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    return Colours(Normalize(low, high if high > low else low + 1), shades.reversed() if less else shades)


def _dots(axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64], table: SearchTable, colour: Colours) -> None:
    """The trials: their values as colours, crosses for those without, a ring around the best."""
    values, best = table.objective, table.best
    there = ~np.isnan(values)
    axes.scatter(
        x[there], y[there], c=values[there], cmap=colour.cmap, norm=colour.norm, s=34, edgecolors=PAPER, linewidths=1.2, zorder=3
    )  # fmt: skip
    for shade, width in ((PAPER, 3.0), (INK, 1.3)):
        axes.scatter(x[~there], y[~there], marker="x", color=shade, s=24, linewidths=width, zorder=2.5)
    if best is not None:
        axes.scatter(
            x[best : best + 1], y[best : best + 1], s=130, facecolors="none", edgecolors=BEST, linewidths=2.4, zorder=4
        )


def _levels(values: NDArray[np.float64]) -> Any:
    there = values[~np.isnan(values)]
    low, high = (float(there.min()), float(there.max())) if there.size else (0.0, 1.0)
    return lambda value: 0.5 if high == low else (value - low) / (high - low)


def _value_ticks(values: NDArray[np.float64], level: Any) -> tuple[tuple[float, str], ...]:
    """Round numbers within the range of the values, each with its place."""
    if not values.size:
        return ()
    low, high = float(values.min()), float(values.max())
    if low == high:
        return ((0.5, f"{low:.4g}"),)
    ticks = np.asarray(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high))
    decimals = max(0, 1 - math.floor(math.log10(float(ticks[1] - ticks[0]))))
    return tuple((level(v), f"{round(float(v), decimals):.10g}") for v in ticks if low <= v <= high)


def _upright(
    axes: Axes, at: int, name: str, ticks: Sequence[tuple[float, str]], gap: int, *, last: bool = False
) -> None:
    """An axis of parallel coordinates, its name above it."""
    axes.plot((at, at), (0, 1), color=GREY, linewidth=1, zorder=4)
    label = cut(clean(name), 9, gap - 10)
    axes.annotate(label, (at, 1), (0, 15), textcoords="offset points", size=9, ha="center", va="bottom", color=INK)
    for place, text in ticks:
        axes.annotate(
            text, (at, place), (7 if last else -7, 0), textcoords="offset points", size=8, color=GREY,
            ha="left" if last else "right", va="center", bbox=_LABEL_BOX, zorder=5,
        )  # fmt: skip
        axes.plot((at,), (place,), marker="_", markersize=5, color=GREY, zorder=5)


def _scale(figure: Figure, axes: Axes, colour: Colours) -> None:
    """A bar that says which colour is which value."""
    box = axes.get_position()
    bar = figure.add_axes((box.x1 + 0.025, box.y0, 0.02, box.height))
    steps = np.asarray(colour.norm.inverse(np.linspace(0, 1, 128)))
    bar.pcolormesh([0, 1], _edges(steps), steps[:, None], cmap=colour.cmap, norm=colour.norm, rasterized=True)
    bar.set_xticks([])
    bar.yaxis.tick_right()
    bar.tick_params(labelsize=8, length=0, pad=4)
    bar.spines[:].set_visible(False)


def _edges(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """The borders of cells around points in order, (n,) -> (n + 1,)."""
    if centres.size == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


def _limits(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    room = 0.06 * (high - low) or max(abs(high), 1.0) * 0.05
    return low - room, high + room


def _plain(axes: Axes, grid: Literal["x", "y"] = "y") -> None:
    axes.tick_params(labelsize=8.5, length=0, pad=6)
    axes.grid(color=RULE, linewidth=0.7, axis=grid)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
