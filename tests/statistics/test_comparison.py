"""Two sets of runs compared: against SciPy, textbooks and brute force, at the edges, and how often there is a false alarm."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from fractions import Fraction
from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats

from diva.errors import UsageError
from diva.statistics import Comparison, compare_paired, compare_unpaired, corrected, holm, resampling
from diva.statistics.comparison import hedges_g, with_ties
from diva.statistics.power import fewest_for_permutation, power_of_t, seeds_needed

# Heights of 15 pairs of maize plants, crossed less self-fertilised, in eighths of an inch: Darwin 1876, in Fisher 1935, sec. 21
MAIZE = [49.0, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
ZEROS = [0.0] * len(MAIZE)
A = [0.912, 0.934, 0.921, 0.940, 0.928, 0.935, 0.919]
B = [0.905, 0.936, 0.910, 0.921, 0.925, 0.924, 0.917]


# --- Pairs ------------------------------------------------------------------------------------------------------------


def test_sign_flips_are_those_of_fisher():
    found = compare_paired(MAIZE, ZEROS)
    assert (found.p_permutation, found.exact) == (1726 / 2**15, True)  # twice the 863 that Fisher counted
    assert found.p_t == pytest.approx(0.0497, abs=5e-5)  # as in Fisher


def test_the_tests_of_pairs_are_those_of_scipy():
    found = compare_paired(A, B)
    moves = np.subtract(A, B)
    theirs = stats.permutation_test((A, B), lambda a, b: np.mean(a - b), permutation_type="samples")
    assert found.p_permutation == pytest.approx(theirs.pvalue, rel=1e-12)
    assert found.p_rank == pytest.approx(stats.wilcoxon(A, B, method="exact").pvalue, rel=1e-12)
    assert found.p_t == pytest.approx(stats.ttest_rel(A, B).pvalue, rel=1e-9)
    assert found.ci_t == pytest.approx(tuple(stats.ttest_rel(A, B).confidence_interval()), rel=1e-9)
    assert found.effect == pytest.approx(moves.mean() / moves.std(ddof=1), rel=1e-9)
    assert found.difference == pytest.approx(moves.mean(), rel=1e-12)
    assert found.cliffs_delta == pytest.approx((6 - 1) / 7)


def test_pairs_in_another_order_change_no_bit():
    assert compare_paired(A[::-1], B[::-1]) == compare_paired(A, B)


def test_differences_that_rounding_tells_apart_are_ties():
    # 0.2 - 0.1, 0.3 - 0.2 and 0.4 - 0.3 are three floats.
    a, b = [0.2, 0.2, 0.4, 0.9], [0.1, 0.3, 0.3, 0.8]
    assert len({abs(x - y) for x, y in zip(a, b, strict=True)}) == 3
    found = compare_paired(a, b)
    assert found.p_permutation == found.p_rank == 10 / 16  # all sums but the 6 that are 0


def test_zeros_move_nothing():
    with_zeros = compare_paired([*MAIZE, 5.0, 5.0], [*ZEROS, 5.0, 5.0])
    assert with_zeros.p_permutation == 1726 / 2**15
    assert with_zeros.p_rank == compare_paired(MAIZE, ZEROS).p_rank


def test_signed_ranks_with_ties_are_those_of_brute_force():
    moves = [1.0, 2.0, 2.0, -1.0, 3.0, 3.0]
    ranks = stats.rankdata(np.abs(moves)) * np.sign(moves)
    sums = [abs(sum(s * r for s, r in zip(signs, np.abs(ranks), strict=True))) for signs in product((1, -1), repeat=6)]
    expected = sum(one >= abs(ranks.sum()) for one in sums) / 64
    assert compare_paired(moves, [0.0] * 6).p_rank == expected


def test_many_pairs_are_drawn_and_close_to_exact(monkeypatch):
    monkeypatch.setattr(resampling, "EXACT_UP_TO", 20_000)
    found = compare_paired(MAIZE, ZEROS)
    assert not found.exact
    assert found.p_permutation == pytest.approx(1726 / 2**15, abs=0.006)  # 4 standard errors


def test_a_p_value_that_was_drawn_is_never_zero():
    found = compare_paired([1.0 + i / 100 for i in range(70)], [0.0] * 70)
    assert (found.p_permutation, found.exact) == (1 / 2**16, False)


def test_a_pair_with_a_value_that_is_not_finite_is_left_out():
    found = compare_paired([*A, math.nan, 0.9], [*B, 0.9, math.inf])
    assert found == replace(compare_paired(A, B), n_left_out=2)


def test_unequal_lengths_are_no_pairs():
    with pytest.raises(UsageError, match="2 and 3 values are not pairs"):
        compare_paired([1, 2], [1, 2, 3])


def test_equal_runs_have_no_difference():
    found = compare_paired(A, A)
    assert (found.difference, found.p_permutation, found.p_rank, found.p_t, found.effect) == (0, 1, 1, 1, 0)
    assert [*found.ci_t, *found.ci_bootstrap] == [0, 0, 0, 0]
    assert not found.settled and found.more_seeds is None


def test_the_same_step_in_every_pair_is_certain_for_t_and_as_sure_as_flips_can_be():
    found = compare_paired([1.5, 2.5, 3.5, 4.5], [1.0, 2.0, 3.0, 4.0])
    assert (found.p_t, found.p_permutation, found.effect, found.cliffs_delta) == (0, 1 / 8, math.inf, 1)
    assert found.more_seeds == 2  # six pairs are the fewest that flips can settle


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_pairs_give_what_they_can(n: int):
    found = compare_paired(A[:n], B[:n])
    assert math.isnan(found.p_permutation) and math.isnan(found.p_rank) and math.isnan(found.p_t)
    assert not found.ci_t.exists and not found.settled and found.more_seeds is None


# --- No pairs ---------------------------------------------------------------------------------------------------------


def test_the_tests_without_pairs_are_those_of_scipy():
    a, b = [x + 0.0004 for x in A[:5]], [*B, 0.931]  # without ties, which SciPy's exact test cannot have
    found = compare_unpaired(a, b)
    welch = stats.ttest_ind(a, b, equal_var=False)
    assert found.p_rank == pytest.approx(stats.mannwhitneyu(a, b, method="exact").pvalue, rel=1e-12)
    assert found.p_t == pytest.approx(welch.pvalue, rel=1e-9)
    assert found.ci_t == pytest.approx(tuple(welch.confidence_interval()), rel=1e-9)
    above = sum(np.sign(x - y) for x in a for y in b)
    assert found.cliffs_delta == pytest.approx(above / 40)


def test_splits_are_those_of_exact_arithmetic():
    # In floats, ties of Welch's t are lost: SciPy's permutation_test counts one of the 1,287 splits less.
    a, b = [912, 934, 921, 940, 928], [905, 936, 910, 921, 925, 924, 917, 931]
    pool = [Fraction(x) for x in a + b]
    whole = set(range(len(pool)))

    def welch(first: tuple[int, ...]) -> Fraction:
        sides = [[pool[i] for i in first], [pool[i] for i in whole - set(first)]]
        means = [sum(side, Fraction()) / len(side) for side in sides]
        squares = [sum(((x - mean) ** 2 for x in side), Fraction()) for side, mean in zip(sides, means, strict=True)]
        return (means[0] - means[1]) ** 2 / (squares[0] / 20 + squares[1] / 56)

    observed = welch(tuple(range(5)))
    as_extreme = sum(welch(first) >= observed for first in combinations(range(13), 5))
    found = compare_unpaired([x / 1000 for x in a], [x / 1000 for x in b])
    assert (found.p_permutation, found.exact) == (as_extreme / 1287, True)


def test_the_bootstrap_interval_of_a_difference_is_that_of_scipy_up_to_chance():
    random = np.random.default_rng(1)
    a, b = random.exponential(size=20), random.normal(size=30)
    theirs = stats.bootstrap((a, b), lambda x, y, axis: x.mean(axis) - y.mean(axis), n_resamples=30_000,
                             rng=np.random.default_rng(0)).confidence_interval  # fmt: skip
    error = math.hypot(stats.sem(a), stats.sem(b))
    assert compare_unpaired(a.tolist(), b.tolist()).ci_bootstrap == pytest.approx(
        (theirs.low, theirs.high), abs=0.12 * error
    )


def test_hedges_g_by_hand():
    # means 2 and 5, pooled sd 1, 4 degrees of freedom: J = gamma(2) / (sqrt(2) gamma(3/2))
    assert hedges_g([1, 2, 3], [4, 5, 6]) == pytest.approx(-3 * 1 / (math.sqrt(2) * math.gamma(1.5)), rel=1e-12)


def test_rank_sums_with_ties_are_those_of_brute_force():
    a, b = [1.0, 2.0, 2.0], [2.0, 3.0, 3.0, 4.0]
    theirs = stats.permutation_test((a, b), lambda x, y: abs(stats.mannwhitneyu(x, y).statistic - 6),
                                    alternative="greater", vectorized=False)  # fmt: skip
    assert compare_unpaired(a, b).p_rank == pytest.approx(theirs.pvalue, rel=1e-12)


def test_values_in_another_order_change_no_bit():
    assert compare_unpaired(A[::-1], B[::-1]) == compare_unpaired(A, B)


def test_many_splits_are_drawn_and_close_to_exact(monkeypatch):
    exact = compare_unpaired(A, B).p_permutation
    monkeypatch.setattr(resampling, "EXACT_UP_TO", 3_000)
    found = compare_unpaired(A, B)
    assert not found.exact
    assert found.p_permutation == pytest.approx(exact, abs=4 * math.sqrt(exact / 3_000))


def test_without_any_spread_only_the_split_itself_is_as_extreme():
    found = compare_unpaired([1.0, 1.0, 1.0], [2.0, 2.0, 2.0])
    assert (found.p_permutation, found.p_t, found.effect) == (2 / 20, 0, -math.inf)
    rounded = compare_unpaired(
        [0.4354406175944898] * 3, [0.8714107315087972] * 3
    )  # sums of squares leave a rest of 1e-17
    assert rounded.p_permutation == 2 / 20
    same = compare_unpaired([1.0, 1.0], [1.0, 1.0, 1.0])
    assert (same.p_permutation, same.p_rank, same.p_t, same.effect, same.difference) == (1, 1, 1, 0, 0)


def test_one_run_against_several_is_judged_by_their_spread():
    several = [0.90, 0.91, 0.92, 0.93, 0.94]
    found = compare_unpaired([0.99], several)
    t = (0.99 - 0.92) / (np.std(several, ddof=1) * math.sqrt(1 + 1 / 5))
    assert found.p_t == pytest.approx(2 * stats.t.sf(t, 4), rel=1e-9)
    assert found.p_permutation == pytest.approx(1 / 6)
    assert found.ci_t.exists and not found.ci_bootstrap.exists


def test_one_run_against_one_says_nothing():
    found = compare_unpaired([0.9], [0.8])
    assert found.difference == pytest.approx(0.1)
    assert all(map(math.isnan, [found.p_permutation, found.p_rank, found.p_t, found.effect]))


def test_huge_and_tiny_values_neither_overflow_nor_vanish():
    small = compare_unpaired(A, B)
    for scale in (1e200, 1e-200):
        scaled = compare_unpaired([x * scale for x in A], [x * scale for x in B])
        assert scaled.p_permutation == small.p_permutation
        assert scaled.p_t == pytest.approx(small.p_t, rel=1e-9)
        assert scaled.effect == pytest.approx(small.effect, rel=1e-9)


# --- False alarms -----------------------------------------------------------------------------------------------------


def alarms(trials: int, make) -> float:
    return sum(make().settled for _ in range(trials)) / trials


def test_absent_differences_are_found_in_about_alpha_of_comparisons():
    # 400 trials at 0.05: more than 0.085 happens once in 1,000 times; the seeds are fixed.
    random = np.random.default_rng(2)
    paired = alarms(
        400, lambda: compare_paired(random.exponential(size=8).tolist(), random.exponential(size=8).tolist())
    )
    unpaired = alarms(400, lambda: compare_unpaired(random.normal(size=5).tolist(), random.normal(size=5).tolist()))
    assert 0.02 <= paired <= 0.085 and 0.02 <= unpaired <= 0.085


def test_planted_differences_are_found():
    random = np.random.default_rng(3)

    def pairs() -> Comparison:  # A is ahead by one sd of the seeds; within a pair there is less noise than that
        seeds = random.normal(size=8)
        return compare_paired(*(seeds + 0.4 * random.normal(size=(2, 8)) + [[1], [0]]).tolist())

    assert alarms(60, pairs) >= 0.9


# --- Many at once, and how many more ----------------------------------------------------------------------------------


def test_holm_by_hand():
    assert holm([0.04, 0.01, 0.03, 0.2]) == pytest.approx([0.09, 0.04, 0.09, 0.2])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_leaves_out_what_could_not_be_tested():
    adjusted = holm([0.02, math.nan, 0.5])
    assert adjusted[0] == 0.04 and math.isnan(adjusted[1]) and adjusted[2] == 0.5


def test_holm_refuses_what_is_no_p_value():
    with pytest.raises(UsageError, match=r"p value 1\.5"):
        holm([1.5])


def test_many_comparisons_are_judged_together():
    alone = compare_paired(A, B)
    assert alone.settled and alone.more_seeds == 0
    together = corrected({"x": alone, "y": compare_paired(B, B), "z": compare_paired(A, A)})["x"]
    assert together.p_adjusted == pytest.approx(3 * alone.p_permutation)
    assert (together.settled, together.n_tests) == (False, 3)
    assert together.more_seeds == (seeds_needed(alone.effect, paired=True, alpha=0.05 / 3) or 0) - 7 > 0


@pytest.mark.parametrize(
    ("effect", "paired", "n"), [(0.5, False, 64), (0.8, False, 26), (0.2, False, 394), (0.5, True, 34)]
)
def test_the_power_is_that_of_the_tables(effect: float, paired: bool, n: int):
    """Cohen 1988, table 2.4.1 (0.2: 393 there, by an approximation); G*Power 3 for pairs."""
    assert seeds_needed(effect, paired=paired) == n


def test_the_power_is_the_share_of_experiments_that_succeed():
    random = np.random.default_rng(4)
    a, b = random.normal(size=(2, 4000, 10))
    found = np.mean(stats.ttest_ind(a + 1.2, b, axis=1).pvalue <= 0.05)
    assert power_of_t(1.2, 10, paired=False, alpha=0.05) == pytest.approx(found, abs=0.03)


@pytest.mark.parametrize("effect", [0.0, 0.01, math.nan])
def test_a_difference_that_no_practical_number_of_seeds_would_show(effect: float):
    assert seeds_needed(effect, paired=False) is None


def test_an_infinite_effect_needs_the_fewest():
    assert seeds_needed(math.inf, paired=True) == 2 and seeds_needed(-math.inf, paired=False) == 2


def test_how_few_a_permutation_can_settle():
    assert fewest_for_permutation(paired=True, alpha=0.05) == 6  # 2 / 2**6
    assert fewest_for_permutation(paired=False, alpha=0.05) == 4  # 2 / 70


def test_more_seeds_is_what_the_power_asks_beyond_those_there_are():
    found = compare_unpaired([0.0, 1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0])
    needed = seeds_needed(found.effect, paired=False)
    assert needed and found.more_seeds == needed - 4


# --- Ties and JSON ----------------------------------------------------------------------------------------------------


def test_only_what_rounding_tells_apart_is_tied():
    assert with_ties([0.1 + 1e-17, 0.2, -0.1, 1e-18], 1e-15) == [-0.1, 0.0, 0.1, 0.2]
    assert with_ties([0.1, 0.1 + 1e-12], 1e-15) == [0.1, 0.1 + 1e-12]


@pytest.mark.parametrize(
    "found", [compare_paired(A, B), compare_unpaired([1.0, 1.0], [2.0, 2.0]), compare_paired([], [])]
)
def test_a_comparison_survives_json(found: Comparison):
    text = json.dumps(found.to_json(), allow_nan=False)
    assert json.dumps(Comparison.from_json(json.loads(text)).to_json()) == text
