"""Figures of a comparison: what is drawn, what is said, and that nothing odd breaks them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import matplotlib.text
import numpy
import pytest

from diva.report.comparison import Gap, curves_figure, gaps_figure, groups_figure
from diva.report.style import png

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

NAN = math.nan


def points(line: Line2D) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in numpy.asarray(line.get_xydata()).tolist()]


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def test_curves_are_named_and_the_parting_is_marked() -> None:
    figure = curves_figure({"A": ([0, 1, 2], [0.1, 0.5, NAN]), "B": ([0, 1], [0.1, 0.6])}, "val/accuracy", 1)
    assert [line.get_label() for line in figure.axes[0].get_lines()[:2]] == ["A", "B"]
    assert [x for x, _ in points(figure.axes[0].get_lines()[2])] == [1, 1]
    assert "first difference after epoch 1 (dotted)" in words(figure)


def test_identical_runs_have_no_mark() -> None:
    figure = curves_figure({"A": ([0, 1], [1.0, 2.0]), "B": ([0, 1], [1.0, 2.0])}, "val/loss", None)
    assert len(figure.axes[0].get_lines()) == 2 and "the same bits" in words(figure)


def test_a_strip_shows_every_run_and_joins_equal_seeds() -> None:
    groups = {"A": {1: 0.5, 2: 0.6}, "B": {1: 0.7, 2: NAN}}
    figure = groups_figure(groups, {"A": (0.55, 0.4, 0.7), "B": (0.7, NAN, NAN)}, "test/accuracy", True)
    drawn = [points(line) for line in figure.axes[0].get_lines()]
    assert [(0, 0.5), (0, 0.6)] in drawn and [(1, 0.7)] in drawn
    assert [(0, 0.5), (1, 0.7)] in drawn
    assert "A  n = 2" in words(figure) and any("lines join runs" in text for text in words(figure))


def test_a_settled_difference_is_told_by_more_than_its_colour() -> None:
    figure = gaps_figure([Gap("A - B", 0.1, 0.05, 0.15, True), Gap("A - C", 0.1, NAN, NAN, False)], "test/accuracy")
    markers = [line.get_marker() for line in figure.axes[0].get_lines() if line.get_marker() not in ("None", "")]
    assert markers == ["D", "o"]


@pytest.mark.parametrize("n", [1, 20])
def test_any_number_of_anything_is_a_picture_and_the_same_one_again(n: int) -> None:
    groups = {f"group {k}": {seed: float(seed * k) for seed in range(n)} for k in range(n)}
    means = dict.fromkeys(groups, (1.0, 0.0, 2.0))
    for draw in (
        lambda: groups_figure(groups, means, "a_$b$", False),
        lambda: gaps_figure([Gap(f"gap {k}", k, k - 1, k + 1, k % 2 == 0) for k in range(n)], "m"),
        lambda: curves_figure({f"run {k}": ([0], [NAN]) for k in range(n)}, "m", None),
    ):
        assert png(draw()) == png(draw())
