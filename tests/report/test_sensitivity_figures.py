"""The figures of sensitivity: every factor has its row, flagged ones their colour, and what is missing is said."""

from __future__ import annotations

from typing import Any

import pytest
from matplotlib.colors import to_hex

from diva.report.sensitivity_figures import MORE, NO_MORE, shares_figure, tornado_figure
from diva.report.style import png


def level(label: str, mean: float | None, *, base: bool = False) -> dict[str, Any]:
    values = [] if mean is None else [mean - 0.01, mean + 0.01]
    return {"label": label, "is_base": base, "mean": mean, "values": values}


def effect(name: str, *, exceeds: bool, means: tuple[float, ...]) -> dict[str, Any]:
    levels = [level(f"level {i}", mean, base=i == 0) for i, mean in enumerate(means)]
    spread = max(means) - min(means)
    return {
        "name": name, "levels": levels, "exceeds": exceeds, "range": spread, "ci_range": [0.0, 2 * spread], "p_adjusted": 0.01,
        "n_levels": len(means), "n_runs": 2,
    }  # fmt: skip


def random(name: str, values: list[float]) -> dict[str, Any]:
    mean = sum(values) / len(values) if values else None
    return {"name": name, "mean": mean, "sd": 0.02 if values else None, "n": len(values), "values": values}


@pytest.fixture
def found() -> dict[str, Any]:
    effects = [
        effect("a$b", exceeds=False, means=(0.9, 0.91)),
        effect("batch_size", exceeds=True, means=(0.9, 0.5, 0.88)),
    ]
    return {"effects": effects, "spread": [random("seed", [0.88, 0.9, 0.92]), random("stream:init", [0.89, 0.91])]}


def rows_of(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.axes[0].get_yticklabels()]


def texts_of(figure: Any) -> str:
    return "\n".join(text.get_text() for text in [*figure.texts, *figure.axes[0].texts])


def test_factors_stand_by_their_range_above_seeds_and_streams(found) -> None:
    figure = tornado_figure(found, "test/accuracy", "what moves it")
    assert rows_of(figure) == ["batch_size", "a$b", "seed (all streams)", "stream:init"]
    lines: list[Any] = [line for line in figure.axes[0].lines if line.get_linewidth() == 9]
    bars = {line.get_ydata()[0]: to_hex(line.get_color()) for line in lines}
    assert [bars[place] for place in sorted(bars)][:2] == [MORE, NO_MORE]
    assert sorted(bars) == figure.axes[0].get_yticks().tolist()


def test_the_runs_of_each_level_have_a_row_of_their_own_with_its_name(found) -> None:
    axes: Any = tornado_figure(found, "test/accuracy", "what moves it").axes[0]
    of_widest = [line for line in axes.lines if line.get_marker() == "o" and to_hex(line.get_color()) == MORE]
    rows = {line.get_ydata()[0]: line.get_xdata() for line in of_widest if len(line.get_xdata()) == 2}
    assert [pytest.approx(rows[place]) for place in sorted(rows)] == [[0.89, 0.91], [0.49, 0.51], [0.87, 0.89]]
    labels = {text.xy[1]: text.get_text() for text in axes.texts if text.get_text().startswith("level")}
    assert [labels[place] for place in sorted(rows)] == ["level 0", "level 1", "level 2"]


def test_ranges_intervals_and_numbers_of_runs_are_written_beside_the_rows(found) -> None:
    words = texts_of(tornado_figure(found, "test/accuracy", "what moves it"))
    assert "range 0.4 (0 to 0.8) · p 0.01 · 3 x 2 runs" in words
    assert "sd 0.02 · 3 runs" in words and "mean ± sd of 3 seeds" in words
    assert "level 1" in words and "level 0" in words


def test_what_has_no_result_is_said(found) -> None:
    found["effects"][0] |= {"levels": [level("x", None)], "range": None, "ci_range": [None, None], "p_adjusted": None}
    found["spread"] = [random("seed", [])]
    figure = tornado_figure(found, "test/accuracy", "what moves it")
    assert texts_of(figure).count("no result") == 2
    png(figure)


def test_shares_are_sorted_and_an_interval_does_not_stretch_the_axis() -> None:
    def share(value: float, high: float) -> dict[str, Any]:
        return {"share": value, "ci_f": [0.5 * value, high], "n": 5}

    shares = {
        "sources": {"stream:step": share(0.1, 0.4), "stream:init": share(0.7, 900.0)},
        "n": 10, "sd": 0.01, "remainder": 0.2, "ci_remainder": [None, None],
    }  # fmt: skip
    figure = shares_figure(shares, "test/accuracy", "where it comes from")
    assert rows_of(figure) == ["init", "step", "rest, and together"]
    assert "70 % (35 to 90000) · 5 runs" in texts_of(figure)
    assert figure.axes[0].get_xlim()[1] < 2.5
    arrows: list[Any] = [line for line in figure.axes[0].lines if line.get_marker() == ">"]
    assert [line.get_ydata()[0] for line in arrows] == [0]  # of init alone, whose interval ends beyond the axis


def test_equal_reports_give_equal_bytes(found) -> None:
    one, two = (png(tornado_figure(found, "test/accuracy", "what moves it")) for _ in range(2))
    assert one == two
