"""Figures of sensitivity: a tornado of what factors do beside what seeds do, and the shares of variance by source of randomness."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from diva.report.style import BLUES, GREY, INK, LINES, MARGIN, RULE, canvas, clean, cut, headline, style, text_pixels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MORE, NO_MORE, RANDOM = LINES[1], LINES[0], GREY  # vermilion, blue: told apart with every kind of colour vision
ROW, LEVEL_ROW, LAST_GAP = 40, 15, 7  # pixels: of a bar, of a level's dots below it, and to the next
WIDTH: Final = 460
LONGEST_NAME: Final = 190
MOST_SHARE: Final = 2.0  # where the axis of shares ends: intervals of few runs are wide


def tornado_figure(found: Mapping[str, Any], metric: str, title: str, level: float = 0.95) -> Figure:
    """A row per factor, the widest range on top, over the band of what seeds alone do: mean plus and minus one standard deviation.

    found: the report of one metric: `spread` (seeds first) and `effects`, with their `values`. Of a factor a bar from its lowest to its
    highest mean, vermilion where it exceeds what seeds do, and below it a row for each level with a dot per run and their mean, a ring
    at the base. Of seeds and streams a dot per run.
    """
    effects = sorted(found["effects"], key=lambda row: -(row["range"] or 0))
    rows = [*effects, *found["spread"]]
    seeds = found["spread"][0]
    names = [cut(clean(_name(row)), 8.5, LONGEST_NAME) for row in rows]
    notes = [_note(row) for row in rows]
    places, levels, height = _placed(rows)
    below = [cut(clean(level["label"]), 7.5, LONGEST_NAME) for level in levels.values()]
    widths = [*(text_pixels(name, 8.5) for name in names), *(text_pixels(label, 7.5) for label in below)]
    right = MARGIN + 14 + max(text_pixels(note, 7.5) for note in notes)
    with style():
        figure, axes = canvas(MARGIN + max(widths) + 14, 84, WIDTH, height, above=70, right=right)
        if seeds["sd"] is not None:
            axes.axvspan(
                seeds["mean"] - seeds["sd"], seeds["mean"] + seeds["sd"], color=BLUES[0], linewidth=0, zorder=0
            )
            axes.axvline(seeds["mean"], color=BLUES[2], linewidth=1, zorder=1)
        for place, row, note in zip(places, rows, notes, strict=True):
            (_bar if "levels" in row else _strip)(axes, row, place)
            axes.annotate(note, (1.0, place), (10, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                          size=7.5, color=GREY, va="center")  # fmt: skip
        for place, label in zip(levels, below, strict=True):
            axes.annotate(label, (0, place), (-6, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                          size=7.5, color=GREY, va="center", ha="right", annotation_clip=False)  # fmt: skip
            axes.axhline(place, color=RULE, linewidth=0.5, zorder=0.5)
        axes.set_yticks(places, names)
        axes.set_ylim(height, 0)
        axes.margins(x=0.12)
        axes.set_xlabel(clean(metric), size=9, labelpad=7)
        _plain(axes)
        band = "" if seeds["sd"] is None else f"band: mean ± sd of {seeds['n']} seeds at the base, sd {seeds['sd']:.4g}"
        headline(figure, title, f"{band} · in parentheses: {100 * level:.0f} % intervals")
        legend = f"vermilion: more than seeds alone do (p ≤ {1 - level:.2g} after Holm) · blue: not shown · large dots: means, ring: base"
        figure.text(MARGIN / figure.bbox.width, 16 / figure.bbox.height, cut(legend, 7.5, figure.bbox.width - 2 * MARGIN), size=7.5,
                    color=GREY, va="center")  # fmt: skip
    return figure


def _placed(rows: Sequence[Mapping[str, Any]]) -> tuple[list[float], dict[float, Mapping[str, Any]], int]:
    """Where each row's bar is, in pixels from above, what level each row below a bar has, and how high all are together."""
    places: list[float] = []
    levels: dict[float, Mapping[str, Any]] = {}
    top = 0
    for row in rows:
        places.append(top + ROW / 2)
        top += ROW
        for index, level in enumerate(_measured(row)):
            levels[_level_place(places[-1], index)] = level
            top += LEVEL_ROW
    return places, levels, top


def _level_place(bar: float, index: int) -> float:
    """Where the dots of a level are, of a factor whose bar is at `bar`."""
    return bar + ROW / 2 - LAST_GAP + (index + 0.5) * LEVEL_ROW


def _measured(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The levels of a factor that have a result."""
    return [level for level in row.get("levels", ()) if level["mean"] is not None]


def _name(row: Mapping[str, Any]) -> str:
    return "seed (all streams)" if row["name"] == "seed" else str(row["name"])


def _note(row: Mapping[str, Any]) -> str:
    """What stands on the right: range and p of a factor, sd and number of runs of randomness."""
    if "levels" not in row:
        return "no result" if row["sd"] is None else f"sd {row['sd']:.3g} · {row['n']} runs"
    if row["range"] is None:
        return "no result"
    p = "" if row["p_adjusted"] is None else f" · p {row['p_adjusted']:.2g}"
    return f"range {row['range']:.3g}{_interval(row['ci_range'])}{p} · {row['n_levels']} x {row['n_runs']} runs"


def _interval(ends: Sequence[float | None], factor: float = 1.0, digits: str = ".2g") -> str:
    """The interval in parentheses."""
    low, high = ends
    return "" if low is None or high is None else f" ({factor * low:{digits}} to {factor * high:{digits}})"


def _bar(axes: Axes, row: Mapping[str, Any], place: float) -> None:
    levels = _measured(row)
    if not levels:
        return
    colour = MORE if row["exceeds"] else NO_MORE
    means = [level["mean"] for level in levels]
    axes.plot([min(means), max(means)], [place, place], color=colour, linewidth=9, alpha=0.35, zorder=2,
              solid_capstyle="butt")  # fmt: skip
    for index, level in enumerate(levels):
        own = _level_place(place, index)
        runs, base = level["values"], level["is_base"]
        axes.plot(runs, [own] * len(runs), "o", color=colour, markersize=3.2, alpha=0.5, zorder=3, mew=0)
        axes.plot([level["mean"]], [own], "o", color=colour, markersize=6, zorder=4,
                  mfc="white" if base else colour, mew=1.6 if base else 0)  # fmt: skip


def _strip(axes: Axes, row: Mapping[str, Any], place: float) -> None:
    """A dot per run, and a bar of one standard deviation to each side of their mean."""
    values = row["values"]
    if row["sd"] is not None:
        axes.plot([row["mean"] - row["sd"], row["mean"] + row["sd"]], [place, place], color=RANDOM, linewidth=9, alpha=0.25,
                  zorder=2, solid_capstyle="butt")  # fmt: skip
    axes.plot(values, [place] * len(values), "o", color=RANDOM, markersize=3.4, alpha=0.75, zorder=3, mew=0)


def shares_figure(shares: Mapping[str, Any], metric: str, title: str) -> Figure:
    """A bar per stream: its variance, alone, over that of all streams together, which is what seeds do; with 95 % intervals, an arrow
    where one goes on beyond the axis.

    shares: `variance_shares` as JSON. The last bar is what is left: streams not varied, and what streams do together only.
    """
    sources = sorted(shares["sources"].items(), key=lambda item: -(item[1]["share"] or 0))
    rows: list[tuple[str, float | None, Sequence[float | None], str]] = [
        (name.removeprefix("stream:"), one["share"], one["ci_f"], f" · {one['n']} runs") for name, one in sources
    ]
    rows.append(("rest, and together", shares["remainder"], shares["ci_remainder"], ""))
    names = [cut(clean(name), 8.5, LONGEST_NAME) for name, *_ in rows]
    notes = [
        "no result" if share is None else f"{100 * share:.0f} %{_interval(ends, 100, '.0f')}{n}"
        for _, share, ends, n in rows
    ]
    left = MARGIN + max(text_pixels(name, 8.5) for name in names) + 14
    right = MARGIN + 14 + max(text_pixels(note, 7.5) for note in notes)
    lowest = min([0.0, *(max(share or 0.0, -MOST_SHARE) for _, share, _, _ in rows)])
    with style():
        figure, axes = canvas(left, 52, WIDTH, 34 * len(rows), above=70, right=right)
        for place, (name, share, ends, _) in enumerate(rows):
            if share is not None:
                rest = name == rows[-1][0]
                axes.barh([place], [share], height=0.56, color=RULE if rest else LINES[4], zorder=2)
            low, high = ends
            if low is not None and high is not None:
                start, end = max(low, 1.05 * lowest), min(high, MOST_SHARE)
                axes.plot([start, end], [place, place], color=INK, linewidth=1.2, zorder=3)
                for beyond, where, mark in ((low < start, start, "<"), (high > end, end, ">")):
                    if beyond:
                        axes.plot([where], [place], mark, color=INK, markersize=5, zorder=3, clip_on=False)
            axes.annotate(notes[place], (1.0, place), (10, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                          size=7.5, color=GREY, va="center")  # fmt: skip
        highest = max([1.0, *(min(ends[1] or 0.0, MOST_SHARE) for _, _, ends, _ in rows)])
        axes.axvline(0, color=GREY, linewidth=0.8, zorder=1)
        axes.set_yticks(range(len(rows)), names)
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlim=(1.05 * lowest, 1.03 * highest))
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        _plain(axes)
        axes.set_xlabel(f"share of the variance of {clean(metric)} between seeds", size=9, labelpad=7)
        headline(
            figure,
            title,
            f"each stream varied alone, against {shares['n']} seeds (sd {_sd(shares['sd'])}); lines: 95 % intervals",
        )
    return figure


def _sd(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"


def _plain(axes: Axes) -> None:
    axes.tick_params(labelsize=8.5, length=0, pad=6)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.grid(color=RULE, linewidth=0.7, axis="x")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
