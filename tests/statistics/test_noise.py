"""Whether a factor does more than seeds: each test by SciPy or brute force, false alarms and planted effects counted."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from itertools import combinations, permutations, product

import numpy as np
import pytest
from scipy import stats

from diva.errors import UsageError
from diva.statistics import Effect, exceeds_noise, fewest_seeds, resampling
from diva.statistics.noise import BASE

Runs = Mapping[int, float]
Draw = Callable[[int], np.ndarray]


def runs(values, first: int = 0) -> dict[int, float]:
    return {first + i: float(value) for i, value in enumerate(values)}


def only(levels: Mapping[str, Runs], yardstick: Runs | None = None) -> Effect:
    return exceeds_noise({"batch_size": levels}, yardstick)["batch_size"]


YARDSTICK = runs([0.91, 0.93, 0.92, 0.90, 0.94, 0.92, 0.91, 0.93])


# --- The three tests --------------------------------------------------------------------------------------------------


def test_levels_are_permuted_within_seeds_as_by_brute_force():
    table = np.array([[1, 2, 4], [2, 2, 5], [0, 3, 2], [1, 1, 3], [0, 4, 4]])
    found = only({name: runs(column) for name, column in zip("abc", table.T, strict=True)})
    shuffled = product(*(permutations(row) for row in table))
    sums = [(np.sum(rows, axis=0) ** 2).sum() for rows in shuffled]
    observed = (table.sum(axis=0) ** 2).sum()
    assert found.p == sum(one >= observed for one in sums) / 6**5
    assert found.method == "permutation within 5 seeds, exact"
    assert (found.n_levels, found.n_runs, found.low, found.high) == (3, 5, "a", "c")


def test_two_levels_with_the_same_seeds_are_flipped_signs():
    a, b = [3.0, 5, 2, 4, 6, 5, 9], [2.0, 3, 3, 1, 2, 4, 4]
    theirs = stats.permutation_test((a, b), lambda x, y: np.mean(x - y), permutation_type="samples")
    assert only({"a": runs(a), "b": runs(b)}).p == pytest.approx(theirs.pvalue)


def test_many_rearrangements_are_drawn_and_close_to_exact(monkeypatch):
    table = np.array([[1, 2, 4], [2, 2, 5], [0, 3, 2], [1, 1, 3], [0, 4, 4]])
    levels = {name: runs(column) for name, column in zip("abc", table.T, strict=True)}
    exact = only(levels).p
    monkeypatch.setattr("diva.statistics.noise.EXACT_UP_TO", 1_000)
    found = only(levels)
    assert found.method == "permutation within 5 seeds, 999 draws"
    assert found.p == pytest.approx(exact, abs=4 * math.sqrt(exact / 1_000))


def test_runs_without_common_seeds_are_permuted_over_two_levels_as_by_brute_force():
    base, other = [1.0, 2, 2, 3, 5, 4], [4.0, 6, 7]
    found = only({"64": runs(other, 100)}, runs(base))
    pool = np.array(base + other)

    def between(chosen: tuple[int, ...]) -> float:
        first = pool[list(chosen)].sum()
        return first**2 / 6 + (pool.sum() - first) ** 2 / 3

    splits = [between(chosen) for chosen in combinations(range(9), 6)]
    assert found.p == sum(one >= between(tuple(range(6))) - 1e-9 for one in splits) / 84
    assert found.method == "permutation of runs, exact"


def test_runs_without_common_seeds_are_drawn_for_three_levels():
    random = np.random.default_rng(1)
    a, b, c = random.normal(size=5), random.normal(size=5) + 1, random.normal(size=5)
    found = only({"a": runs(a), "b": runs(b, 10), "c": runs(c, 20)})
    theirs = stats.permutation_test((a, b, c), lambda *x: stats.f_oneway(*x).statistic, alternative="greater",
                                    n_resamples=2_000, vectorized=False, rng=np.random.default_rng(0))  # fmt: skip
    assert found.p == pytest.approx(theirs.pvalue, abs=0.04)
    assert found.method == "permutation of runs, 65535 draws"


def test_too_few_runs_without_common_seeds_take_the_f_test_of_scipy():
    a, b = [1.0, 2.0, 4.0], [5.0, 6.0]
    found = only({"a": runs(a), "b": runs(b, 10)})
    assert found.p == pytest.approx(stats.f_oneway(a, b).pvalue)
    assert found.method.startswith("F test between runs")


def test_one_seed_per_level_is_judged_by_the_other_seeds_of_the_base():
    found = only({"16": {0: 0.93}, "64": {0: 0.99}}, YARDSTICK)
    others = [value for seed, value in YARDSTICK.items() if seed != 0]
    f = np.var([0.91, 0.93, 0.99], ddof=1) / np.var(others, ddof=1)
    assert found.p == pytest.approx(stats.f.sf(f, 2, 6), rel=1e-9)
    assert found.noise_sd == pytest.approx(np.std(others, ddof=1))
    assert found.method.startswith("F test against 7 seeds")


def test_few_common_seeds_without_a_yardstick_take_the_f_test_of_a_two_way_table():
    table = np.array([[1.0, 2, 6], [2, 2, 7]])
    found = only({name: runs(column) for name, column in zip("abc", table.T, strict=True)})
    residual = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    noise = (residual**2).sum() / 2
    f = 2 * np.var(table.mean(axis=0), ddof=1) / noise
    assert found.p == pytest.approx(stats.f.sf(f, 2, 2), rel=1e-9)


def test_the_interval_of_the_range_is_that_of_tukey_and_kramer():
    a, b, c = [1.0, 2, 4, 3], [5.0, 6, 7], [2.0, 3, 3, 5]
    found = only({"a": runs(a), "b": runs(b, 10), "c": runs(c, 20)})
    theirs = stats.tukey_hsd(a, b, c).confidence_interval()
    assert found.range == pytest.approx(6 - 2.5)
    assert found.ci_range == pytest.approx((theirs.low[1, 0], theirs.high[1, 0]), rel=1e-6)


def test_the_interval_of_a_range_does_not_go_below_zero():
    assert only({"16": {0: 0.92}}, YARDSTICK).ci_range.low == 0


# --- Which test is taken, and many factors ----------------------------------------------------------------------------


def test_the_choice_of_the_test_depends_on_the_seeds_and_not_on_the_values():
    random = np.random.default_rng(0)

    def method(n_seeds: int, n_factors: int) -> str:
        levels = {name: runs(random.normal(size=n_seeds)) for name in ("16", "64")}
        found = exceeds_noise({str(i): levels for i in range(n_factors)}, runs(random.normal(size=10)))
        return found["0"].method.partition(" ")[0]

    assert fewest_seeds(3, 1) == 4 and [method(n, 1) for n in (3, 4)] == ["F", "permutation"]
    assert fewest_seeds(3, 3) == 5 and [method(n, 3) for n in (4, 5)] == ["F", "permutation"]


def test_one_level_is_no_factor():
    with pytest.raises(UsageError, match="at least 2"):
        fewest_seeds(1)


def test_the_p_values_of_all_factors_are_corrected_together():
    found = exceeds_noise({"a": {"1": {0: 0.95}}, "b": {"1": {0: 0.91}}}, YARDSTICK)
    assert found["a"].p_adjusted == pytest.approx(2 * found["a"].p)
    assert found["b"].p_adjusted == found["b"].p == 1


def test_a_factor_that_changes_no_bit_is_not_flagged():
    found = only({"2": dict(YARDSTICK), "4": dict(YARDSTICK)}, YARDSTICK)
    assert (found.p, found.range, found.exceeds) == (1, 0, False)


def test_where_seeds_do_nothing_any_difference_exceeds_them():
    found = only({"64": {0: 0.8}}, runs([0.9] * 6))
    assert (found.p, found.exceeds, found.noise_sd) == (0, True, 0)


def test_where_nothing_varies_nothing_is_flagged():
    for levels in ({"64": runs([0.9] * 6)}, {"64": runs([0.9] * 6, 10)}, {"64": {0: 0.9}}):
        assert only(levels, runs([0.9] * 6)).p == 1


@pytest.mark.parametrize(
    ("levels", "yardstick", "said"),
    [
        ({}, YARDSTICK, "one level"),
        ({"16": {0: math.nan}}, YARDSTICK, "one level"),
        ({}, {}, "one level"),
        ({"16": {0: 0.9}}, {0: 0.8}, "no seeds to measure the noise with"),
        ({"16": {0: 0.9}}, {1: 0.8}, "no seeds to measure the noise with"),
    ],
)
def test_too_few_runs_are_no_error_and_never_flagged(levels: Mapping[str, Runs], yardstick: Runs, said: str):
    found = only(levels, yardstick)
    assert said in found.method and math.isnan(found.p) and not found.exceeds


def test_values_that_are_not_finite_are_left_out():
    gaps = {name: {**values, 99: math.nan} for name, values in {"16": runs([0.9] * 5), "64": runs([0.8] * 5)}.items()}
    assert only(gaps, YARDSTICK) == only({"16": runs([0.9] * 5), "64": runs([0.8] * 5)}, YARDSTICK)


def test_the_order_of_levels_and_seeds_changes_no_bit(monkeypatch):
    monkeypatch.setattr("diva.statistics.noise.EXACT_UP_TO", 500)
    monkeypatch.setattr(resampling, "EXACT_UP_TO", 500)
    random = np.random.default_rng(1)
    for first in (0, 50):  # with common seeds, without
        levels = {name: runs(random.normal(size=6), first * (i + 1)) for i, name in enumerate("abcd")}
        turned = {name: dict(reversed(levels[name].items())) for name in reversed(levels)}
        assert only(levels) == only(turned)


def test_a_level_may_not_be_called_as_the_yardstick_is():
    with pytest.raises(UsageError, match="rename it"):
        only({BASE: {0: 0.9}}, YARDSTICK)


def test_an_effect_is_json():
    record = json.loads(json.dumps(only({}, {}).to_json(), allow_nan=False))
    assert (record["p"], record["ci_range"], record["exceeds"]) == (None, [None, None], False)


def test_an_effect_says_whether_it_took_the_noise_to_be_normal():
    few, many = ({name: runs([0.9, 0.8, 0.95, 0.85, 0.9][:n]) for name in ("16", "64")} for n in (1, 5))
    assert only(few, YARDSTICK).assumes_normal and not only(many, YARDSTICK).assumes_normal


# --- False alarms and planted effects ---------------------------------------------------------------------------------


def study(random: np.random.Generator, n_seeds: int, draw: Draw, planted: float = 0.0, seed_sd: float = 0.0):
    """Three factors of three levels around a base with ten seeds; one level of the first is worse by `planted`.

    seed_sd: of what a seed does to every run that has it.
    """
    of_seed = seed_sd * random.normal(size=10)
    levels = [{name: draw(n_seeds) + of_seed[:n_seeds] for name in ("16", "64")} for _ in range(3)]
    levels[0]["64"] = levels[0]["64"] - planted
    factors = {f"f{i}": {name: runs(values) for name, values in one.items()} for i, one in enumerate(levels)}
    return exceeds_noise(factors, runs(draw(10) + of_seed))


@pytest.fixture
def without_intervals(monkeypatch):
    monkeypatch.setattr("diva.statistics.noise._tukey", lambda *_: (0.0, 0.0))  # a tenth of a second each


@pytest.mark.usefixtures("without_intervals")
@pytest.mark.parametrize(("n_seeds", "seed_sd"), [(1, 0.0), (5, 0.0), (5, 2.0)])
def test_at_most_alpha_of_studies_flag_any_absent_effect(n_seeds: int, seed_sd: float):
    # 300 studies at 0.05: more than 0.09 happens once in 1,000 times; the seeds are fixed.
    random = np.random.default_rng(n_seeds)
    draw: Draw = (lambda n: random.normal(size=n)) if n_seeds == 1 else (lambda n: random.exponential(size=n))
    flagged = sum(
        any(one.exceeds for one in study(random, n_seeds, draw, seed_sd=seed_sd).values()) for _ in range(300)
    )
    assert 0.01 <= flagged / 300 <= 0.09


@pytest.mark.usefixtures("without_intervals")
@pytest.mark.parametrize(("n_seeds", "planted"), [(1, 8.0), (5, 4.0)])
def test_a_planted_effect_is_flagged_and_no_other(n_seeds: int, planted: float):
    random = np.random.default_rng(10 + n_seeds)
    found = [study(random, n_seeds, lambda n: random.normal(size=n), planted) for _ in range(100)]
    assert sum(one["f0"].exceeds for one in found) >= 90
    assert sum(one["f1"].exceeds or one["f2"].exceeds for one in found) <= 12


@pytest.mark.usefixtures("without_intervals")
def test_an_effect_smaller_than_what_seeds_do_is_seen_within_seeds():
    random = np.random.default_rng(20)
    found = [study(random, 6, lambda n: 0.3 * random.normal(size=n), 1.5, seed_sd=3.0)["f0"] for _ in range(50)]
    assert sum(one.exceeds for one in found) >= 45
