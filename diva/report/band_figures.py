"""Figures of several runs: a metric over the steps as bands with every run's own curve, and strips of final scores."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from diva.report.bands import middle, since, thinned
from diva.report.style import GREY, INK, LINES, MARGIN, RULE, canvas, clean, headline, style, text_pixels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from diva.report.bands import Band, Line

MOST_COLOURED: Final = (
    6  # as many configurations are told apart; of more, those with the highest and the lowest numbers are coloured
)
MOST_WITH_RUNS: Final = 3  # of more configurations each run's own curve is left out
EXTREMES: Final = 3
DRAWN_STEPS: Final = 1000  # more than there are pixels
MOST_ROWS: Final = 40
LEAST_FOR_BOX: Final = 5
LABEL_PIXELS: Final = 260
LEFT, WIDTH, ZOOMED, HEIGHT = 78, 560, 400, 330
ZOOM_FROM: Final = 2.5  # times the range of the last half
LEAST_ZOOMED: Final = 4
ENDS: Final = (0, (3, 1.6))
TWIN: Final = (0, (2.4, 2.4))  # of a line that lies on another: both colours are seen
BEST, LAST = "best epoch", "last step"
IDENTITY: Final = re.compile(r"\b\d{8}-\d{6}-([0-9a-f]{6})\b")  # of a run or study


@dataclass(frozen=True)
class Runs:
    """The runs of one configuration: their band, the curve of each, and what finished ones have with their best epoch."""

    band: Band
    lines: Sequence[Line]
    scores: Sequence[float] = ()

    @property
    def at(self) -> str:
        """Of when `number` is: the best epoch, where a finished run has a score, or the last step."""
        return BEST if any(map(math.isfinite, self.scores)) else LAST

    @property
    def number(self) -> tuple[float, float, int]:
        """Mean and sd (NaN of one run) of what the runs came to, and of how many of them."""
        if self.at == LAST:
            return float(self.band.mean[-1]), float(self.band.sd[-1]), int(self.band.n[-1])
        values = np.array([value for value in self.scores if math.isfinite(value)], np.float64)
        return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else math.nan, len(values)

    def said(self) -> str:
        """The number in words; without a spread where all runs are equal at every step, as a planned learning rate is."""
        mean, sd, n = self.number
        of = f" of {self.band.n_runs}" if n < self.band.n_runs else ""
        return f"{plus_minus(mean, math.nan if _alike(self.band) else sd)}  (n = {n}{of})"


def band_figure(metric: str, configurations: Mapping[str, Runs], title: str = "") -> Figure:
    """The mean of each configuration, mean ± sd as a band, and each run as a thin line; dashed where not all of its runs have a number.

    A band that would reach below 0, where no run does, ends at the lowest number of any run. Learning rates, which hold for a whole
    epoch, are drawn as steps. Where the first steps dwarf the rest, a second panel shows the last half of the steps on a scale of its
    own. The label of each configuration says mean, sd and n with the best epoch of each run, as tables do, or of the last step where
    there is no such score. Of more than six configurations those with the three highest and the three lowest of these means are drawn
    so, the others are grey means; of more than three the runs' own lines are left out. A line that lies on another is dashed in both
    colours, and its label says on which.
    """
    shown = _chosen(configurations)
    names = shortened(shown, 8.5, LABEL_PIXELS)
    at = max((configurations[name].at for name in shown), key=[LAST, BEST].index, default=LAST)
    twins = _twins(configurations, shown)
    labels = {name: _label(configurations[name], name, names, at, twins) for name in shown}
    beside = max((text_pixels(label, 8.5) for label in labels.values()), default=60) + 64
    several = len(configurations) > 1
    late = _late(configurations)
    widths = (WIDTH,) if late is None else (ZOOMED, ZOOMED)
    right = MARGIN + (beside if several else 0)
    with style():
        figure, axes = canvas(LEFT, 58, sum(widths) + (len(widths) - 1) * LEFT, HEIGHT, above=66, right=right)
        panels = [axes] if late is None else _halved(figure, axes)
        for panel in panels:
            for name, runs in configurations.items():
                if name not in labels:
                    kept = thinned(len(runs.band.steps), DRAWN_STEPS)
                    panel.plot(runs.band.steps[kept], runs.band.mean[kept], color=RULE, linewidth=1)
            for place, name in enumerate(shown):
                look = Look(LINES[place], len(shown), staired=metric.startswith("optimizer/"), on_another=name in twins)
                _draw(panel, configurations[name], labels[name], look)
            panel.set_xlabel("step", size=9, labelpad=7)
            _plain(panel, "both")
            panel.margins(x=0.02)
            panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        if late is not None:
            panels[1].set(xlim=late[0], ylim=late[1])
            panels[1].set_xlabel("step, the last half", size=9, labelpad=7)
        headline(figure, clean(f"{metric} · {title}" if title else metric), _said(configurations, shown))
        if several:
            panels[-1].legend(
                loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0, frameon=False, fontsize=8.5,
                title=f"mean ± sd, {at}", title_fontsize=8.5, alignment="left",
            )  # fmt: skip
    return figure


def _halved(figure: Figure, axes: Axes) -> list[Axes]:
    """Two panels in the place of one, as far apart as the first is from the left."""
    box, gap = axes.get_position(), LEFT / (figure.get_size_inches()[0] * figure.dpi)
    width = (box.width - gap) / 2
    axes.set_position((box.x0, box.y0, width, box.height))
    return [axes, figure.add_axes((box.x0 + width + gap, box.y0, width, box.height))]


def _late(configurations: Mapping[str, Runs]) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """The limits of steps and values of the last half of the steps; None where it is no small part of all values, or has few steps."""
    bands = [runs.band for runs in configurations.values()]
    begin, last = middle(bands), max(int(band.steps[-1]) for band in bands)
    parts = [part for band in bands if len((part := since(band, begin)).steps)]
    if max(len(part.steps) for part in parts) < LEAST_ZOOMED:
        return None
    low, high = min(float(part.low.min()) for part in parts), max(float(part.high.max()) for part in parts)
    whole = max(float(band.high.max()) for band in bands) - min(float(band.low.min()) for band in bands)
    if not (0 < (high - low) * ZOOM_FROM < whole):
        return None
    edge = 0.05 * (high - low)
    return (begin - 0.02 * (last - begin), last + 0.02 * (last - begin)), (low - edge, high + edge)


def score_figure(metric: str, scores: Mapping[str, Sequence[float]], title: str = "") -> Figure:
    """A row per configuration: a dot per run, its mean with mean ± sd as a bar below, and from five runs on a box of the quartiles.

    Scores that are not finite are left out, and said. Of more than 40 configurations the 20 with the highest and the 20 with the lowest
    means are drawn.
    """
    finite = {name: np.array([v for v in values if math.isfinite(v)], np.float64) for name, values in scores.items()}
    names = _rows(finite)
    short = shortened(names, 8.5, LABEL_PIXELS)
    labels = [short[name] or "all" for name in names]
    told = [_summed_up(finite[name], len(scores[name])) for name in names]
    left = MARGIN + 14 + max((text_pixels(label, 8.5) for label in labels), default=20)
    right = MARGIN + 16 + max((text_pixels(text, 8.5) for text in told), default=20)
    with style():
        figure, axes = canvas(left, 34, 480, max(42 * len(names), 76), 66, right)
        for row, name in enumerate(names):
            _strip(axes, row, finite[name], LINES[row % MOST_COLOURED] if len(names) <= MOST_COLOURED else LINES[0])
        for row, text in enumerate(told):
            axes.annotate(
                text, (1, row), (12, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                size=8.5, color=INK, va="center", annotation_clip=False,
            )  # fmt: skip
        axes.set_yticks(range(len(names)), labels)
        axes.set_ylim(len(names) - 0.5, -0.5)
        _plain(axes, "x")
        axes.tick_params(axis="y", labelcolor=INK)
        axes.margins(x=0.06)
        boxes = any(len(finite[name]) >= LEAST_FOR_BOX for name in names)
        drawn = "a dot per run · diamond and bar: mean ± sd" + (" · box: quartiles and median" if boxes else "")
        of = f" · {len(names)} of {len(scores)} configurations" if len(names) < len(scores) else ""
        headline(figure, clean(f"{metric} · {title}" if title else metric), drawn + of)
    return figure


def _chosen(configurations: Mapping[str, Runs]) -> list[str]:
    """The configurations that are drawn in colour."""
    names = list(configurations)
    if len(names) <= MOST_COLOURED:
        return names
    ranked = sorted(names, key=lambda name: -configurations[name].number[0])
    return [*ranked[:EXTREMES], *ranked[-EXTREMES:]]


def shortened(names: Sequence[str], size: float, room: float) -> dict[str, str]:
    """Each name so that it fits into `room` pixels and still differs from the others.

    Of the identity of a study its last six digits stay; of what is still too long, beginning and end.
    """
    short = {name: IDENTITY.sub(r"\1", clean(name)) for name in names}
    if len(set(short.values())) < len(short):
        short = {name: clean(name) for name in names}
    return {name: _within(text, size, room) for name, text in short.items()}


def _within(text: str, size: float, room: float) -> str:
    """The text, its middle left out where it does not fit."""
    if text_pixels(text, size) <= room:
        return text
    kept = len(text)
    while kept > 2 and text_pixels(_ends(text, kept), size) > room:
        kept -= 1
    return _ends(text, kept)


def _ends(text: str, kept: int) -> str:
    return f"{text[: kept // 3].rstrip()}…{text[len(text) - (kept - kept // 3) :].lstrip()}"


def _label(runs: Runs, name: str, names: Mapping[str, str], at: str, twins: Mapping[str, str]) -> str:
    number = runs.said() if runs.at == at else f"{runs.at} {runs.said()}"
    return f"{names[name]}  {number}" + (f"  same as {names[twins[name]]}" if name in twins else "")


def _twins(configurations: Mapping[str, Runs], shown: Sequence[str]) -> dict[str, str]:
    """Configurations whose mean is, at every step, that of one before: name -> the first such."""
    found: dict[str, str] = {}
    first: dict[tuple[bytes, bytes], str] = {}
    for name in shown:
        band = configurations[name].band
        before = first.setdefault((band.steps.tobytes(), band.mean.tobytes()), name)
        if before != name:
            found[name] = before
    return found


@dataclass(frozen=True)
class Look:
    """How a configuration is drawn among `n` of them."""

    colour: str
    n: int
    staired: bool
    on_another: bool


def _draw(axes: Axes, runs: Runs, label: str, look: Look) -> None:
    band, colour, alone = runs.band, look.colour, look.n == 1
    kept = thinned(len(band.steps), DRAWN_STEPS)
    columns = [found[kept] for found in (band.steps, band.mean, lower_edge(band), band.mean + np.nan_to_num(band.sd))]
    columns.append(np.where(band.n == band.n_runs, band.mean, np.nan)[kept])
    own = [np.column_stack([line[thinned(len(line), DRAWN_STEPS)] for line in pair]) for pair in runs.lines]
    own = [points[np.isfinite(points[:, 1])] for points in own]
    if look.staired:
        columns, own = stairs(columns), [np.column_stack(stairs([*points.T])) for points in own]
    steps, mean, low, high, whole = columns
    if look.n <= MOST_WITH_RUNS:
        thin: dict[str, Any] = {
            "colors": GREY if alone else colour,
            "linewidths": 0.7,
            "alpha": min(1.4 / len(own) ** 0.6, 0.6),
        }
        axes.add_collection(LineCollection(own, zorder=1, **thin), autolim=True)
    alpha = 0.3 if alone else 0.18 if look.n <= MOST_WITH_RUNS else 0.07
    axes.fill_between(steps, low, high, color=colour, alpha=alpha, linewidth=0, zorder=2)
    if look.n > MOST_WITH_RUNS:
        for edge in (low, high):
            axes.plot(steps, edge, color=colour, linewidth=0.6, alpha=0.45, zorder=2, label="_edge")
    if (band.n < band.n_runs).any():
        axes.plot(steps, mean, color=colour, linewidth=1.4, linestyle=ENDS, zorder=3)
    line: dict[str, Any] = (
        {"linestyle": TWIN, "zorder": 5, "dash_capstyle": "butt"} if look.on_another else {"zorder": 4}
    )
    axes.plot(steps, whole, color=colour, linewidth=1.8, label=label, **line)


def lower_edge(band: Band) -> NDArray[np.float64]:
    """Mean - sd at each step (T,); not below the lowest number of any run where it would fall below 0 and no run does."""
    low = band.mean - np.nan_to_num(band.sd)
    lowest = float(band.low.min())
    return np.maximum(low, lowest) if low.min() < 0 <= lowest else low


def _alike(band: Band) -> bool:
    """Whether all runs have the same number at every step; their sd may still be a rounding error."""
    return bool((band.low == band.high).all())


def stairs(columns: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Steps and values (T,) -> (2 T,), each value from the step before, or 0, to its own."""
    steps, *values = columns
    edges = np.repeat(np.concatenate([np.zeros(1, steps.dtype), steps]), 2)[1:-1]
    return [edges, *(np.repeat(found, 2) for found in values)]


def _strip(axes: Axes, row: int, values: NDArray[np.float64], colour: str) -> None:
    if not len(values):
        return
    if len(values) >= LEAST_FOR_BOX:
        low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
        box: dict[str, Any] = {"facecolor": colour, "alpha": 0.18, "linewidth": 0, "zorder": 1}
        axes.add_patch(Rectangle((low, row - 0.36), high - low, 0.52, **box))
        axes.plot((middle, middle), (row - 0.36, row + 0.16), color=colour, linewidth=1.6, zorder=2)
    axes.plot(values, row - 0.1 + _apart(values), "o", color=colour, markersize=4.5, alpha=0.8, mew=0, zorder=3)
    if len(values) > 1:
        mean, sd = values.mean(), values.std(ddof=1)
        axes.plot((mean - sd, mean + sd), (row + 0.3, row + 0.3), color=INK, linewidth=1.4, zorder=4)
        axes.plot(mean, row + 0.3, "D", color=INK, markersize=4.5, zorder=5)


def _apart(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each dot is moved up or down so that near ones do not cover each other: within 32 bins of the range, 0, +, -, ++, ..."""
    span = float(values.max() - values.min()) or 1.0
    bins = np.floor((values - values.min()) / span * 31.999).astype(int)
    moved = np.zeros(len(values))
    counts: dict[int, int] = {}
    for index in np.argsort(values, kind="stable").tolist():
        k = counts.get(bins[index], 0)
        counts[bins[index]] = k + 1
        moved[index] = (k + 1) // 2 * (1 if k % 2 else -1)
    highest = max(float(abs(moved).max()), 1.0)
    return np.asarray(moved * min(0.11, 0.24 / highest))


def _rows(finite: Mapping[str, NDArray[np.float64]]) -> list[str]:
    if len(finite) <= MOST_ROWS:
        return list(finite)
    ranked = sorted(finite, key=lambda name: -finite[name].mean() if len(finite[name]) else math.inf)
    return [*ranked[: MOST_ROWS // 2], *ranked[-MOST_ROWS // 2 :]]


def _summed_up(values: NDArray[np.float64], n_runs: int) -> str:
    left_out = f", {n_runs - len(values)} not finite" if len(values) < n_runs else ""
    if not len(values):
        return f"no number in {n_runs} runs"
    sd = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    return f"{plus_minus(float(values.mean()), sd)}  (n = {len(values)}{left_out})"


def plus_minus(mean: float, sd: float) -> str:
    """Mean and sd with as many decimals as give the sd two digits; the mean alone where the sd is NaN."""
    if math.isnan(sd):
        return f"{mean:.4g}"
    if sd <= 1e-12 * abs(mean):  # all are equal, to the rounding of their mean
        return f"{mean:.6g} ± 0"
    if not 1e-7 < sd < 1e6 or abs(mean) >= 1e9:
        return f"{mean:.6g} ± {sd:.2g}"
    decimals = max(1 - math.floor(math.log10(sd)), 0)
    return f"{mean:.{decimals}f} ± {sd:.{decimals}f}"


def _said(configurations: Mapping[str, Runs], shown: Sequence[str]) -> str:
    drawn = [configurations[name] for name in shown]
    parts = ["mean, ± 1 sd, each run" if len(shown) <= MOST_WITH_RUNS else "mean, ± 1 sd"]
    if not all(_alike(runs.band) for runs in drawn):
        if any((lower_edge(runs.band) > runs.band.mean - np.nan_to_num(runs.band.sd)).any() for runs in drawn):
            parts[0] += " (not below the lowest run)"
    else:
        parts = ["mean, each run: no spread" if any(runs.band.n_runs > 1 for runs in drawn) else "one run each"]
    if len(configurations) == 1:
        (only,) = drawn
        parts.insert(0, f"{only.at} {only.said()}")
    if any((runs.band.n < runs.band.n_runs).any() for runs in drawn):
        parts.append("dashed: fewer runs")
    if len(shown) < len(configurations):
        parts.append(f"the {EXTREMES} highest and {EXTREMES} lowest of {len(configurations)}")
    return " · ".join(parts)


def _plain(axes: Axes, grid: Any) -> None:
    axes.tick_params(labelsize=8.5, length=0, pad=6, labelcolor=GREY)
    axes.grid(color=RULE, linewidth=0.7, axis=grid)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
