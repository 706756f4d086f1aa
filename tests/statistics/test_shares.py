"""Shares of variance by source: by hand, on planted ones, and how often the intervals are right."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from diva.statistics import Shares, variance_shares
from diva.statistics.shares import _bootstrap_variances

INIT, ORDER, ALL = [1.0, 3.0], [2.0, 3.0], [0.0, 1.0, 2.0, 3.0, 4.0]  # variances 2, 0.5 and 2.5


def test_a_share_is_a_ratio_of_variances():
    found = variance_shares({"init": INIT, "shuffle": ORDER}, ALL)
    assert {name: one.share for name, one in found.sources.items()} == {"init": 0.8, "shuffle": 0.2}
    assert found.remainder == 0
    assert (found.n, found.sources["init"].n, found.sources["init"].sd) == (5, 2, math.sqrt(2))
    assert found.sd == math.sqrt(2.5)


def test_the_f_interval_holds_every_ratio_that_an_f_test_would_not_reject():
    found = variance_shares({"init": [1.0, 2.0, 4.0, 7.0]}, ALL).sources["init"]
    for end, tail in zip(found.ci_f, (0.025, 0.975), strict=True):
        assert stats.f.sf(found.share / end, 3, 4) == pytest.approx(tail)


def test_variances_of_resamples_are_right_on_average_and_drawn_for_each_source_anew():
    values = [1.0, 2.0, 4.0, 9.0]
    first, second = (_bootstrap_variances(values, "source", name) for name in ("init", "shuffle"))
    assert first.mean() == pytest.approx(np.var(values, ddof=1), rel=0.03)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05


def test_planted_shares_are_found():
    random = np.random.default_rng(1)
    init, order, noise = random.normal(size=(3, 2, 200))
    whole = 2 * init[1] + order[1] + 0.5 * noise[1]  # variances 4, 1 and 0.25
    found = variance_shares({"init": 2 * init[0], "shuffle": order[0]}, whole)
    assert found.sources["init"].share == pytest.approx(4 / 5.25, abs=0.2)
    assert found.sources["shuffle"].share == pytest.approx(1 / 5.25, abs=0.05)
    assert found.ci_remainder.low < 0.25 / 5.25 < found.ci_remainder.high


def test_shares_move_neither_with_order_nor_offset_nor_company():
    values = [0.91, 0.93, 0.92, 0.95]
    alone = variance_shares({"init": values}, ALL).sources["init"]
    others = variance_shares({"shuffle": ORDER, "init": values[::-1]}, ALL[::-1]).sources["init"]
    assert alone == others
    moved = variance_shares({"init": [x + 1e6 for x in values]}, ALL).sources["init"]
    assert moved.ci_bootstrap == pytest.approx(alone.ci_bootstrap, rel=1e-6)


def test_a_source_that_does_nothing_has_no_share():
    found = variance_shares({"augment": [0.9, 0.9, 0.9]}, ALL).sources["augment"]
    assert (found.share, found.ci_bootstrap, found.ci_f) == (0, (0, 0), (0, 0))


@pytest.mark.parametrize("together", [[0.5, 0.5, 0.5], [0.5], []])
def test_without_variance_there_is_nothing_to_share(together: list[float]):
    found = variance_shares({"init": INIT}, together)
    assert math.isnan(found.sources["init"].share) and not found.sources["init"].ci_bootstrap.exists
    assert math.isnan(found.remainder) and not found.ci_remainder.exists


def test_values_that_are_not_finite_are_left_out():
    found = variance_shares({"init": [*INIT, math.nan]}, [*ALL, math.inf])
    assert found == variance_shares({"init": INIT}, ALL)


def test_shares_are_json():
    record = json.loads(json.dumps(variance_shares({"init": INIT}, []).to_json(), allow_nan=False))
    assert (record["remainder"], record["sources"]["init"]["ci_f"]) == (None, [None, None])


def test_intervals_of_shares_cover_the_truth_as_often_as_the_reference_page_says():
    random = np.random.default_rng(2)

    def study() -> Shares:
        init, order = random.normal(size=(2, 10)), random.normal(size=(2, 10))
        return variance_shares({"init": init[0], "shuffle": order[0]}, init[1] + order[1])

    found = [study() for _ in range(200)]
    shares = [one.sources["init"] for one in found]
    assert 0.87 <= sum(one.ci_bootstrap.low <= 0.5 <= one.ci_bootstrap.high for one in shares) / 200 <= 0.99
    assert 0.91 <= sum(one.ci_f.low <= 0.5 <= one.ci_f.high for one in shares) / 200 <= 0.99
    assert 0.87 <= sum(one.ci_remainder.low <= 0 <= one.ci_remainder.high for one in found) / 200 <= 0.99
