"""What is said about a comparison: who is better and by how much, or that it is open and what would settle it."""

from __future__ import annotations

import pytest

from diva.statistics import Wording, compare_paired, compare_unpaired, corrected, verdict

A = [0.912, 0.934, 0.921, 0.940, 0.928, 0.935, 0.919]
B = [0.905, 0.933, 0.910, 0.921, 0.925, 0.924, 0.917]


def test_a_settled_comparison_says_who_is_better_by_how_much_and_why_that_is_believed():
    say = Wording.of("test/accuracy", "adam", "sgd", less_is_better=False)
    assert verdict(compare_paired(A, B), say) == (
        "adam is better than sgd by 0.771 points (95 % CI 0.175 to 1.37; p = 0.016, sign flips, 7 pairs of seeds)."
    )


def test_the_better_one_is_named_first_and_the_interval_is_seen_from_it():
    turned = verdict(compare_paired(B, A), Wording("sgd", "adam"))
    assert turned.startswith("adam is better than sgd by 0.00771 (95 % CI 0.00175 to 0.0137; p = 0.016,")


def test_of_a_loss_the_smaller_one_is_better():
    say = Wording.of("val/loss", "adam", "sgd", less_is_better=True)
    assert verdict(compare_paired(B, A), say).startswith("adam is better than sgd by 0.00771 (")


def test_an_open_comparison_says_what_would_settle_it():
    found = compare_unpaired(A[:5], B[:5])
    assert verdict(found) == (
        "Not settled: A is ahead of B by 0.0082 (95 % CI -0.00805 to 0.0245; p = 0.27, permutation, 5 and 5 runs); "
        "about 37 runs on each side would, if the true difference is this one."
    )
    assert found.more_seeds == 32


def test_so_few_pairs_that_no_difference_could_be_settled_are_called_so():
    assert verdict(compare_paired(A[:3], B[:3])).endswith(
        "; so few settle nothing, and about 5 more seeds would, if the true difference is this one."
    )


def test_a_correction_is_named():
    found = corrected({"x": compare_paired(A, B), "y": compare_paired(A, A)})["x"]
    assert "p = 0.031 after Holm for 2 tests, sign flips" in verdict(found)


def test_a_tiny_difference_is_told_as_one_that_nobody_will_settle():
    found = compare_unpaired([0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4001])
    assert verdict(found).endswith("; no practical number of seeds would settle a difference as small as this.")


def test_a_very_small_p_is_not_told_as_zero():
    found = compare_paired([1 + i / 100 for i in range(40)], [0.0] * 40)
    assert "p < 0.0001" in verdict(found)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (compare_paired(A, A), "No difference: A and B have the same value in every run (7 pairs of seeds)."),
        (
            compare_unpaired([1.0, 2.0, 3.0], [3.0, 1.0, 2.0]),
            "Not settled: the means are equal (95 % CI -2.27 to 2.27;",
        ),
        (
            compare_paired([0.9], [0.8]),
            "Not settled: A is ahead by 0.1 in the only pair; one seed says nothing about others.",
        ),
        (
            compare_unpaired([0.8], [0.9]),
            "Not settled: B is ahead by 0.1 in one run each; one seed says nothing about others.",
        ),
        (
            compare_unpaired([0.8], [0.8]),
            "Not settled: the values are equal in one run each; one seed says nothing about others.",
        ),
        (compare_paired([], []), "Nothing to compare: A has 0 finite values, B has 0."),
        (compare_unpaired([float("nan")], [1.0]), "Nothing to compare: A has 0 finite values, B has 1."),
    ],
)
def test_the_edges_are_said_in_words(found, said: str):
    assert verdict(found).startswith(said)


@pytest.mark.parametrize(
    ("metric", "unit"),
    [
        ("test/accuracy", "points"),
        ("val/mean_iou", "points"),
        ("test/precision_at_1", "points"),
        ("val/loss", ""),
        ("val/map_loss", ""),
        ("val/distance", ""),
    ],
)
def test_rates_are_told_in_points(metric: str, unit: str):
    assert Wording.of(metric, "a", "b", less_is_better=False).unit == unit
