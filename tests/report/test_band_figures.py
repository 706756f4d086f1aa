"""Figures of several runs say what they show: which runs, how many, how far apart."""

from __future__ import annotations

import math
import multiprocessing

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from diva.report import style
from diva.report.band_figures import Runs, band_figure, lower_edge, plus_minus, score_figure, shortened
from diva.report.bands import band_of
from diva.report.style import png, text_pixels


def runs(n: int, level: float = 0.0, stop: int = 40) -> Runs:
    draw = np.random.Generator(np.random.Philox(n))
    steps = np.arange(40)
    lines = [(steps, level + np.exp(-steps / 5) + 0.01 * draw.standard_normal(40)) for _ in range(n)]
    lines = [*lines[:-1], (steps[:stop], lines[-1][1][:stop])]
    return Runs(band_of(lines), lines)


def texts(figure) -> list[str]:
    legends = [text for axes in figure.axes if axes.get_legend() for text in axes.get_legend().get_texts()]
    own = [text for axes in figure.axes for text in axes.texts]
    return [text.get_text() for text in [*figure.texts, *legends, *own]]


def test_the_band_of_one_configuration_shows_every_run_and_says_how_many():
    figure = band_figure("val/loss", {"": runs(6)}, "digits")
    title, said = texts(figure)[:2]
    assert title == "val/loss · digits"
    assert "(n = 6)" in said and "± 1 sd" in said
    (lines,) = [c for c in figure.axes[0].collections if isinstance(c, LineCollection)]
    assert len(lines.get_segments()) == 6


def test_the_last_half_has_a_panel_of_its_own_where_the_first_steps_dwarf_it():
    whole, late = band_figure("val/loss", {"": runs(4)}).axes
    assert late.get_xlim()[0] == pytest.approx(19.5, abs=1)
    assert np.ptp(late.get_ylim()) < np.ptp(whole.get_ylim()) / 2.5
    flat = [(np.arange(40), np.sin(np.arange(40) + i)) for i in range(3)]
    assert len(band_figure("val/loss", {"": Runs(band_of(flat), flat)}).axes) == 1


def test_where_runs_have_stopped_the_mean_is_dashed_and_the_number_is_said():
    figure = band_figure("val/loss", {"": runs(3, stop=10)})
    said = texts(figure)[1]
    assert "(n = 2 of 3)" in said and "dashed: fewer runs" in said
    assert [line.get_linestyle() for line in figure.axes[0].get_lines()] == ["--", "-"]


def test_each_configuration_has_a_line_in_the_legend_with_its_last_numbers():
    figure = band_figure("val/loss", {f"lr={lr}": runs(3, level=lr) for lr in (0.1, 0.2)})
    labels = texts(figure)[2:]
    assert [label.split()[0] for label in labels] == ["lr=0.1", "lr=0.2"]
    assert all("±" in label and "(n = 3)" in label for label in labels)


def test_of_many_configurations_the_highest_and_the_lowest_are_coloured():
    figure = band_figure("val/loss", {f"{i}": runs(2, level=float(i)) for i in range(9)})
    assert [label.split()[0] for label in texts(figure)[2:]] == ["8", "7", "6", "2", "1", "0"]
    assert "the 3 highest and 3 lowest of 9" in texts(figure)[1]


def test_scores_show_every_run_and_leave_out_what_is_not_finite():
    figure = score_figure("test/accuracy", {"a": [0.9, 0.8, 0.7, 0.6, 0.5], "b": [0.3, math.nan], "c": [math.nan]})
    dots = [line for line in figure.axes[0].get_lines() if line.get_marker() == "o"]
    assert [sorted(np.asarray(line.get_xdata()).tolist()) for line in dots] == [[0.5, 0.6, 0.7, 0.8, 0.9], [0.3]]
    said = texts(figure)
    assert "0.70 ± 0.16  (n = 5)" in said
    assert "0.3  (n = 1, 1 not finite)" in said
    assert "no number in 1 runs" in said
    assert "box: quartiles and median" in said[1]


def test_of_too_many_configurations_the_extremes_are_drawn():
    figure = score_figure("test/accuracy", {f"{i}": [float(i), i + 0.5] for i in range(50)})
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [f"{i}" for i in (*range(49, 29, -1), *range(19, -1, -1))]
    assert "40 of 50 configurations" in texts(figure)[1]


def test_equal_scores_do_not_hide_each_other():
    figure = score_figure("test/accuracy", {"a": [0.5] * 9})
    (dots,) = [line for line in figure.axes[0].get_lines() if line.get_marker() == "o"]
    heights = np.asarray(dots.get_ydata(), float)
    assert len(set(heights.tolist())) == 9
    assert np.ptp(heights) < 0.6


@pytest.mark.parametrize(("mean", "sd", "said"), [
    (0.98654, 0.0037, "0.9865 ± 0.0037"),
    (0.98, 0.00099, "0.98000 ± 0.00099"),
    (12.3456, 3.21, "12.3 ± 3.2"),
    (1234.5, 456.0, "1234 ± 456"),
    (0.1, 3e-18, "0.1 ± 0"),
    (0.0, 0.0, "0 ± 0"),
    (0.98654, math.nan, "0.9865"),
])  # fmt: skip
def test_the_spread_has_two_digits_and_the_mean_as_many_decimals(mean: float, sd: float, said: str):
    assert plus_minus(mean, sd) == said


def test_equal_figures_are_equal_bytes():
    pictures = [(png(band_figure("a", {"": runs(3)})), png(score_figure("b", {"": [0.1, 0.2]}))) for _ in range(2)]
    assert pictures[0] == pictures[1]


def test_a_forked_process_opens_the_font_anew():
    text_pixels("both processes would read from one place in the file", 9)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert style._font.cache_info().currsize == 1
        assert pool.apply(fonts_open) == 0


def fonts_open() -> int:
    return style._font.cache_info().currsize


def of_scores(n: int, level: float, scores: list[float]) -> Runs:
    found = runs(n, level)
    return Runs(found.band, found.lines, scores)


def test_the_numbers_in_the_legend_are_those_of_the_best_epochs_and_rank_the_configurations():
    few = {"a": of_scores(2, 9.0, [0.1, 0.3]), "b": runs(2, 0.0)}
    figure = band_figure("val/loss", few)
    legend = figure.axes[-1].get_legend()
    assert legend is not None
    assert legend.get_title().get_text() == "mean ± sd, best epoch"
    a, b = (text.get_text() for text in legend.get_texts())
    assert a == "a  0.20 ± 0.14  (n = 2)" and b.startswith("b  last step -0.0064 ± ")
    assert texts(band_figure("val/loss", {"": few["a"]}))[1].startswith("best epoch 0.20 ± 0.14  (n = 2)")
    many = {f"{i}": of_scores(2, float(i), [100.0 - i] * 2) for i in range(9)}
    assert [label.split()[0] for label in texts(band_figure("val/loss", many))[2:]] == ["0", "1", "2", "6", "7", "8"]


def test_names_that_do_not_fit_keep_what_tells_them_apart():
    found = [f"20261121-161307-a759e2 {'very ' * 20}long trial-{i:04}" for i in range(3)]
    short = short_names(found)
    assert len(set(short)) == 3 and all(name.startswith("a759e2") for name in short)
    assert [name[-10:] for name in short] == ["trial-0000", "trial-0001", "trial-0002"]
    assert short_names(["20261121-161307-a759e2 x", "20261122-161307-a759e2 x"]) == [
        "20261121-161307-a759e2 x",
        "20261122-161307-a759e2 x",
    ]


def short_names(names: list[str]) -> list[str]:
    return list(shortened(names, 8.5, 260).values())


def test_a_line_that_lies_on_another_is_dashed_and_named():
    figure = band_figure("val/loss", {"base": runs(3), "threads=2": runs(3)})
    below, above = [line for line in figure.axes[0].get_lines() if not str(line.get_label()).startswith("_")]
    assert below.get_linestyle() == "-" and above.get_linestyle() == "--"
    assert str(above.get_label()).endswith("same as base")


def test_a_band_does_not_fall_below_zero_where_no_run_does():
    steps = np.arange(3)
    lines = [
        (steps, np.array([1.0, 0.5, 0.01])),
        (steps, np.array([1.0, 0.6, 0.02])),
        (steps, np.array([1.0, 0.7, 3.0])),
    ]
    band = band_of(lines)
    assert (band.mean - band.sd).min() < 0
    assert lower_edge(band).tolist() == pytest.approx([1.0, 0.5, 0.01])
    assert "not below the lowest run" in texts(band_figure("val/loss", {"": Runs(band, lines)}))[1]
    below = band_of([(steps, values - 1) for _, values in lines])
    assert lower_edge(below).tolist() == (below.mean - below.sd).tolist()


def test_learning_rates_are_steps_without_a_spread():
    lines = [(np.array([10, 20, 30]), np.array([0.3, 0.2, 0.1]))] * 3
    figure = band_figure("optimizer/lr", {"": Runs(band_of(lines), lines)})
    mean = figure.axes[0].get_lines()[-1]
    assert np.asarray(mean.get_xdata()).tolist() == [0, 10, 10, 20, 20, 30]
    assert np.asarray(mean.get_ydata()).tolist() == pytest.approx([0.3, 0.3, 0.2, 0.2, 0.1, 0.1])
    assert texts(figure)[1] == "last step 0.1  (n = 3) · mean, each run: no spread"


def test_of_more_than_three_configurations_the_runs_own_lines_are_left_out():
    for n, said in ((3, "each run"), (4, "± 1 sd")):
        figure = band_figure("val/loss", {f"{i}": runs(2, level=float(i)) for i in range(n)})
        drawn = [c for c in figure.axes[0].collections if isinstance(c, LineCollection)]
        assert len(drawn) == (n if n <= 3 else 0)
        assert texts(figure)[1].endswith(said)
