"""What is drawn: means of resamples, indices and orders from words of fixed streams."""

from __future__ import annotations

import numpy as np

from diva.statistics.resampling import RESAMPLES, bootstrap_means, orders, picks


def test_means_of_resamples_have_the_distribution_that_they_must():
    means = bootstrap_means([0.0, 1.0], "coins")
    values, counts = np.unique(means, return_counts=True)
    assert values.tolist() == [0.0, 0.5, 1.0]
    # Two coins: a quarter, a half, a quarter of 9,999, within 4 standard errors
    assert np.abs(counts / RESAMPLES - [0.25, 0.5, 0.25]).max() < 0.02


def test_resamples_of_one_name_repeat_and_those_of_another_differ():
    first, again, other = (bootstrap_means([0.0, 1.0, 5.0], name) for name in ("a", "a", "b"))
    assert first.tobytes() == again.tobytes() != other.tobytes()


def test_the_bits_of_resamples_are_golden():
    # They are behind the interval in every summary that was ever written.
    found = bootstrap_means([1.0, 10.0, 100.0], "golden")[:6] * 3
    assert found.round().tolist() == [12.0, 12.0, 210.0, 12.0, 111.0, 120.0]


def test_indices_reach_from_first_to_last():
    raw = np.array([0, 2**32 - 1, 2**63, 2**64 - 1], dtype=np.uint64)
    assert picks(raw, 3).tolist() == [0, 0, 1, 2]


def test_orders_are_permutations_and_each_comes_as_often():
    drawn = np.concatenate(list(orders(6_000, 3, "test")))
    found, counts = np.unique(drawn, axis=0, return_counts=True)
    assert found.tolist() == [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
    assert np.abs(counts - 1_000).max() < 120  # 4 standard errors
