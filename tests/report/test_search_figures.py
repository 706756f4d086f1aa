"""Figures of a search: what is drawn of which trial, and what is said of those without a value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex

from diva.report.search_figures import (
    BEST,
    FAN,
    KnobAxis,
    SearchTable,
    _value_ticks,
    contour_figure,
    history_figure,
    importance_figure,
    parallel_figure,
)
from diva.report.style import png

KNOBS = (
    KnobAxis("lr", ((0.0, "0.001"), (1.0, "0.1"))),
    KnobAxis("batch_size", ((0.0, "16"), (1.0, "32")), listed=True),
)
PLACES = [[0.0, 0.0], [0.5, 1.0], [1.0, 0.0], [0.2, 1.0], [0.8, 1.0]]
STATES = ["finished", "finished", "pruned", "failed", "finished"]


def table(values: Sequence[float] = (0.5, 0.9, math.nan, math.nan, 0.7), *, less: bool = False) -> SearchTable:
    return SearchTable(KNOBS, PLACES, values, STATES, "val/loss" if less else "val/accuracy", less)


def axes_of(figure: Any) -> Any:
    """The first axes; untyped, as what Matplotlib's artists hold is."""
    return figure.axes[0]


def test_the_best_so_far_never_falls_back_and_skips_trials_without_a_value():
    axes = axes_of(history_figure(table()))
    best = next(line for line in axes.lines if line.get_label() == "best so far")
    assert best.get_ydata().tolist() == [0.5, 0.9, 0.9, 0.9, 0.9]
    less = axes_of(history_figure(table(less=True)))
    assert next(line for line in less.lines if line.get_label() == "best so far").get_ydata()[-1] == 0.5


def test_trials_without_a_value_are_marked_below_all_others():
    axes = axes_of(history_figure(table()))
    marks = {line.get_label(): line for line in axes.lines if line.get_label() in ("pruned", "failed")}
    assert marks["pruned"].get_xdata().tolist() == [2] and marks["failed"].get_xdata().tolist() == [3]
    assert all(line.get_ydata()[0] < 0.5 for line in marks.values())


def test_the_subtitle_counts_trials_and_names_the_best():
    assert table().said() == "5 trials: 3 finished, 1 pruned, 1 failed · best: trial 1, 0.9"
    assert table(less=True).said().endswith("best: trial 0, 0.5")


def test_a_line_per_finished_trial_passes_through_its_knobs_to_its_value_and_the_best_stands_out():
    lines = [line for line in axes_of(parallel_figure(table())).lines if len(line.get_xdata()) == 3]
    found = {tuple(np.round(line.get_ydata(), 6)): to_hex(line.get_color()) for line in lines}
    side = FAN / 2  # lines through one value of a list lie side by side
    assert found.keys() == {(0.0, -side, 0.0), (0.5, 1.0 + side, 1.0), (0.8, 1.0, 0.5)}
    assert found[(0.5, 1.0 + side, 1.0)] == BEST


def test_darker_is_better_also_where_less_is():
    for less, better in ((False, 0.7), (True, 0.5)):
        values = [0.5, 0.9, math.nan, math.nan, 0.7] if not less else [0.5, 0.4, math.nan, math.nan, 0.7]
        lines = [
            line for line in axes_of(parallel_figure(table(values, less=less))).lines if len(line.get_xdata()) == 3
        ]
        shades = {
            round(line.get_ydata()[0], 6): sum(line.get_color()[:3]) for line in lines if len(line.get_color()) == 4
        }
        place = {0.5: 0.0, 0.7: 0.8}
        assert min(shades, key=lambda key: shades[key]) == place[better]


def test_importance_names_what_is_left_to_interactions():
    axes = axes_of(importance_figure({"lr": 0.6, "batch_size": 0.3}, "val/loss", 20))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["lr", "batch_size", "interactions"]
    assert [round(bar.get_width(), 6) for bar in axes.patches] == [0.6, 0.3, 0.1]


def test_the_map_rings_the_best_trial_and_crosses_those_without_a_value():
    figure = contour_figure(table(), (0, 1), ([0, 0.5, 1], [0, 1]), np.arange(6).reshape(3, 2))
    dots: list[Any] = [c for c in axes_of(figure).collections if isinstance(c, PathCollection)]
    ring = next(c for c in dots if len(c.get_offsets()) == 1)
    assert np.asarray(ring.get_offsets()).tolist() == [[0.5, 1.0]]
    crossed = [np.asarray(c.get_offsets()).tolist() for c in dots if len(c.get_offsets()) == 2]
    assert crossed == [[[1.0, 0.0], [0.2, 1.0]]] * 2


@pytest.mark.parametrize("values", [[math.nan] * 5, [0.5] * 5])
def test_searches_without_a_value_or_without_a_difference_are_drawn(values: list[float]):
    for figure in (history_figure(table(values)), parallel_figure(table(values))):
        assert png(figure) == png(figure)


def test_the_ticks_of_the_objective_are_round_numbers_within_its_range():
    found = _value_ticks(np.array([0.0241, 0.9623]), lambda value: value)
    assert [text for _, text in found] == ["0.2", "0.4", "0.6", "0.8"]
    narrow = _value_ticks(np.array([0.980012, 0.980047]), lambda value: value)
    assert [text for _, text in narrow] == ["0.98002", "0.98003", "0.98004"]
    assert [text for _, text in _value_ticks(np.array([0.5, 0.5]), lambda value: value)] == ["0.5"]


def test_the_line_of_the_worst_trial_stands_out_from_the_paper():
    figure = axes_of(parallel_figure(table()))
    shades = [line.get_color() for line in figure.lines if len(line.get_xdata()) == 3 and len(line.get_color()) == 4]
    lightest = max(0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b, _ in shades)
    assert lightest < 0.7
