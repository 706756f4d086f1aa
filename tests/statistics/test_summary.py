"""What several seeds gave for one metric: against NumPy and SciPy, at the edges, and how often the intervals are right."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from diva.errors import UsageError
from diva.records.files import read_json, write_json
from diva.statistics import Summary, seed_table, summarise
from diva.statistics.resampling import acceleration_of, bca

ACCURACIES = [0.9216, 0.9148, 0.9305, 0.9182, 0.9277, 0.9241]


def test_the_numbers_are_those_of_numpy():
    found = summarise(ACCURACIES)
    assert found.mean == pytest.approx(np.mean(ACCURACIES), rel=1e-15)
    assert found.sd == pytest.approx(np.std(ACCURACIES, ddof=1), rel=1e-14)
    quartiles = (found.min, found.quartile_1, found.median, found.quartile_3, found.max)
    assert quartiles == pytest.approx(np.quantile(ACCURACIES, [0, 0.25, 0.5, 0.75, 1]), rel=1e-15)


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_the_t_interval_is_that_of_scipy(level: float):
    theirs = stats.t.interval(level, 5, np.mean(ACCURACIES), stats.sem(ACCURACIES))
    assert summarise(ACCURACIES, level=level).ci_t == pytest.approx(theirs, rel=1e-12)


def test_the_bootstrap_interval_is_that_of_scipy_up_to_chance():
    skewed = np.random.default_rng(3).exponential(size=25)
    theirs = stats.bootstrap((skewed,), np.mean, n_resamples=30_000, rng=np.random.default_rng(0)).confidence_interval
    error = stats.sem(skewed)
    # A quantile of 9,999 resamples has a standard error of about 0.03 of the bootstrap's own spread.
    assert summarise(skewed.tolist()).ci_bootstrap == pytest.approx((theirs.low, theirs.high), abs=0.12 * error)


def test_bca_moves_both_ends_towards_the_long_tail():
    values = [1.0, 1.1, 1.2, 1.3, 1.4, 4.0]
    found, middle = summarise(values), sum(values) / 6
    assert found.ci_bootstrap.high - middle > middle - found.ci_bootstrap.low


def test_bca_with_neither_bias_nor_acceleration_is_the_percentile_interval():
    drawn = np.linspace(-1, 1, 2001)
    assert bca(drawn, 0.0, 0.0, 0.9) == pytest.approx((-0.9, 0.9), abs=1e-12)


def test_bca_by_hand():
    drawn = np.linspace(0, 1, 10_001)  # 0.6 of it below 0.6: a bias of 0.2533
    low, high = bca(drawn, 0.6, 0.05, 0.95)
    bias, reach = 0.2533471, 1.9599640
    by_hand = [bias + (bias + z) / (1 - 0.05 * (bias + z)) for z in (-reach, reach)]
    assert (low, high) == pytest.approx(stats.norm.cdf(by_hand), abs=1e-4)  # the grid of `drawn`


def test_the_acceleration_is_a_sixth_of_the_skewness_of_the_jackknife():
    values = [1.0, 2.0, 4.0, 9.0]
    left_out = np.array([np.mean(np.delete(values, i)) for i in range(4)])
    gaps = left_out.mean() - left_out
    assert acceleration_of([values]) == pytest.approx((gaps**3).sum() / (6 * (gaps**2).sum() ** 1.5), rel=1e-12)


def test_the_order_of_the_values_changes_no_bit():
    assert summarise(ACCURACIES[::-1]) == summarise(ACCURACIES)


def test_equal_values_have_that_very_mean_and_no_spread():
    found = summarise([0.1] * 3)  # 0.1 + 0.1 + 0.1 is not 0.3
    assert (found.mean, found.sd) == (0.1, 0.0)
    assert found.ci_t == found.ci_bootstrap == (0.1, 0.1)
    assert "All 3 values are equal" in found.notes[0]


def test_a_large_offset_costs_no_digits():
    offset = summarise([1e9 + x for x in (1.0, 2.0, 4.0)])
    assert offset.sd == summarise([1.0, 2.0, 4.0]).sd
    assert offset.ci_bootstrap.low - 1e9 == pytest.approx(summarise([1.0, 2.0, 4.0]).ci_bootstrap.low, abs=1e-6)


def test_values_that_are_not_finite_are_left_out_and_counted():
    found = summarise([*ACCURACIES, math.nan, math.inf])
    assert (found.n, found.n_left_out, found.mean) == (6, 2, summarise(ACCURACIES).mean)
    assert found.notes == ("2 of 8 values are not finite and left out: the rest is a selection.",)


def test_one_value_has_a_mean_and_nothing_that_needs_two():
    found = summarise([0.9])
    assert (found.n, found.mean, found.median, found.min, found.max) == (1, 0.9, 0.9, 0.9, 0.9)
    assert math.isnan(found.sd) and not found.ci_t.exists and not found.ci_bootstrap.exists
    assert found.notes == ("One value has no spread: run more seeds.",)


@pytest.mark.parametrize("values", [[], [math.nan]])
def test_no_value_at_all_is_no_error(values: list[float]):
    found = summarise(values)
    assert (found.n, found.line()) == (0, "no finite value")
    assert math.isnan(found.mean)


def test_huge_values_do_not_overflow():
    found = summarise([1e200, -1e200, 3.0])
    assert found.sd == pytest.approx(1e200)
    assert all(map(math.isfinite, [*found.ci_t, *found.ci_bootstrap]))


@pytest.mark.parametrize("level", [0.0, 1.0, 95, math.nan])
def test_a_level_outside_0_and_1_is_refused(level: float):
    with pytest.raises(UsageError, match=r"such as 0\.95"):
        summarise(ACCURACIES, level=level)


@pytest.mark.parametrize("values", [ACCURACIES, [0.5], [], [0.5, math.nan]])
def test_a_summary_survives_json(values: list[float], tmp_path):
    found = summarise(values)
    write_json(tmp_path / "summary.json", found.to_json())
    again = Summary.from_json(read_json(tmp_path / "summary.json"))
    assert json.dumps(again.to_json()) == json.dumps(found.to_json())
    assert (again.n, again.ci_t.exists) == (found.n, len(values) > 2)


def test_a_line_says_mean_spread_interval_and_n():
    assert summarise([0.5, 0.6, 0.7]).line(unit="points", scale=100) == (
        "60 points, sd 10, 95 % CI 35.16 to 84.84, n = 3"
    )
    assert summarise([0.5]).line() == "0.5, n = 1"


def covered(n: int, trials: int, truth: float, draw) -> tuple[float, float]:
    found = [summarise(draw(n)) for _ in range(trials)]
    return (
        sum(one.ci_t.low <= truth <= one.ci_t.high for one in found) / trials,
        sum(one.ci_bootstrap.low <= truth <= one.ci_bootstrap.high for one in found) / trials,
    )


def test_intervals_cover_the_truth_as_often_as_the_reference_page_says():
    # Standard errors of the shares: 0.011 and less. The bootstrap of few values is known to be too narrow.
    random = np.random.default_rng(5)
    t, bootstrap = covered(5, 400, 0.0, lambda n: random.normal(size=n))
    assert 0.92 <= t <= 0.98 and 0.80 <= bootstrap <= 0.91
    t, bootstrap = covered(20, 400, 0.0, lambda n: random.normal(size=n))
    assert 0.92 <= t <= 0.98 and 0.90 <= bootstrap <= 0.97


def test_the_table_has_a_row_per_run_and_what_they_come_to():
    runs = {"1": {"accuracy": 0.91, "loss": 0.1}, "2": {"accuracy": 0.93}, "3": {"accuracy": math.nan, "loss": 0.3}}
    headers, rows = seed_table(runs)
    assert headers == ["seed", "accuracy", "loss"]
    assert rows[:3] == [["1", "0.91", "0.1"], ["2", "0.93", ""], ["3", "nan", "0.3"]]
    assert rows[3:7] == [
        ["n", "2", "2"],
        ["mean", "0.92", "0.2"],
        ["sd", "0.014142", "0.14142"],
        ["median", "0.92", "0.2"],
    ]
    assert [row[0] for row in rows[7:]] == ["min to max", "95 % CI (t)"]
    eight = {str(seed): {"accuracy": seed / 10} for seed in range(8)}
    assert [row[0] for row in seed_table(eight)[1][8:]][-1] == "95 % CI (BCa)"


def test_the_table_shows_the_columns_that_were_asked_for():
    headers, rows = seed_table({"7": {"b": 1.0, "a": 2.0}}, ["b"], first="run")
    assert (headers, rows[0], rows[-1]) == (["run", "b"], ["7", "1"], ["95 % CI (t)", "-"])
