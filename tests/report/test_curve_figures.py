"""Figures of scores: which curves are drawn, what is said of them, and what is left out."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest

from diva.report.curve_figures import class_scores, precision_recall_figure, roc_figure
from diva.report.style import png

STEEP = (np.array([0, 0.0, 1]), np.array([0, 1.0, 1]))
FLAT = (np.array([0, 0.5, 1]), np.array([0, 0.5, 1]))


def _words(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def _legend(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


@pytest.mark.parametrize("draw", [roc_figure, precision_recall_figure])
def test_few_classes_are_drawn_in_their_order_with_their_mean(draw):
    figure = draw([FLAT, STEEP], [0.5, 1.0], ["a", "b"], "test")
    assert _legend(figure) == ["mean of 2  0.7500", "a  0.5000", "b  1.0000"]
    assert png(figure) == png(draw([FLAT, STEEP], [0.5, 1.0], ["a", "b"], "test"))


def test_of_many_classes_the_best_and_the_worst_are_named_and_the_others_grey():
    areas = np.arange(50) / 50
    figure = roc_figure([FLAT] * 50, areas, [f"class {k}" for k in range(50)])
    assert [line.split()[1] for line in _legend(figure)[1:]] == ["49", "48", "47", "2", "1", "0"]
    assert len(figure.axes[0].get_lines()) == 1 + 44 + 1 + 6  # chance, grey ones, mean, named ones


def test_a_thousand_classes_are_a_picture_too():
    figure = precision_recall_figure([FLAT] * 1000, np.linspace(0, 1, 1000), [str(k) for k in range(1000)])
    assert len(figure.axes[0].get_lines()) <= 1 + 60 + 6


def _mean_curve(figure):
    mean = next(line for line in figure.axes[0].get_lines() if str(line.get_label()).startswith("mean"))
    x, y = np.asarray(mean.get_data())
    return dict(zip(np.round(x, 3).tolist(), y.tolist(), strict=True))


def test_the_mean_lies_between_the_curves():
    figure = roc_figure([FLAT, STEEP], [0.5, 1.0], ["a", "b"])
    at = _mean_curve(figure)
    assert at[0.5] == 0.75 and at[1.0] == 1
    steps = precision_recall_figure([(np.array([0, 0.5, 1]), np.array([1, 0.8, 0.2]))] * 2, [0.5, 0.5], ["a", "b"])
    at = _mean_curve(steps)
    assert at[0.4] == at[0.5] == 0.8 and at[0.6] == at[1.0] == 0.2  # as average precision takes them


def test_a_class_without_an_area_is_left_out_and_said_so():
    absent = (np.full(2, np.nan), np.full(2, np.nan))
    figure = roc_figure([FLAT, absent], [0.5, np.nan], ["a", "b"])
    assert _legend(figure) == ["a  0.5000"]
    assert any("1 of 2 classes have none" in text for text in _words(figure))
    assert "no data" in _words(roc_figure([absent], [np.nan], ["b"]))


def test_each_class_has_a_bar_its_number_and_its_dots():
    figure = class_scores({"F1": [0.25, np.nan], "recall": [0.5, 1.0]}, ["cat", "dog"], "test")
    words = _words(figure)
    assert {"cat", "dog", "0.250", "-", "test", "mean of F1 0.2500"} <= set(words)
    assert _legend(figure) == ["F1", "recall"]
    (dots,) = figure.axes[0].get_lines()
    assert np.asarray(dots.get_xdata()).tolist() == [0.5, 1.0]


def test_of_very_many_classes_the_lowest_are_shown():
    figure = class_scores({"F1": np.arange(200)[::-1] / 200}, [f"c{k}" for k in range(200)])
    words = _words(figure)
    assert "c199" in words and "c140" in words and "c139" not in words
    assert any("the 60 lowest of 200 classes" in text for text in words)


@pytest.mark.parametrize("areas", [[0.5], [[0.5, 0.5]]])
def test_numbers_that_do_not_fit_are_refused(areas):
    with pytest.raises(ValueError, match="curves"):
        roc_figure([FLAT, FLAT], areas, ["a", "b"])
    with pytest.raises(ValueError, match="class scores"):
        class_scores({"F1": areas}, ["a", "b"])
