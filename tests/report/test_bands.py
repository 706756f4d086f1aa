"""Bands: NumPy's numbers where all curves have the same steps, stated rules where they have not."""

from __future__ import annotations

import numpy as np
import pytest

from diva.report.bands import band_of, thinned

NAN, INF = float("nan"), float("inf")


def test_equal_steps_give_the_numbers_of_numpy_bit_for_bit():
    draw = np.random.Generator(np.random.Philox(0))
    values = draw.standard_normal((6, 40))
    band = band_of([(np.arange(40) * 17, row) for row in values])
    assert band.steps.tolist() == (np.arange(40) * 17).tolist()
    assert band.mean.tobytes() == values.mean(axis=0).tobytes()
    assert band.sd.tobytes() == values.std(axis=0, ddof=1).tobytes()
    assert band.low.tobytes() == values.min(axis=0).tobytes()
    assert band.high.tobytes() == values.max(axis=0).tobytes()
    assert set(band.n.tolist()) == {6} == {band.n_runs}


def test_ragged_steps_are_joined_by_straight_lines_within_each_curve():
    band = band_of([([0, 10, 20], [0.0, 1.0, 3.0]), ([5, 10], [1.0, 3.0])])
    assert band.steps.tolist() == [0, 5, 10, 20]
    assert band.mean.tolist() == [0.0, 0.75, 2.0, 3.0]
    assert band.n.tolist() == [1, 2, 2, 1]
    assert band.low.tolist() == [0.0, 0.5, 1.0, 3.0]
    assert band.high.tolist() == [0.0, 1.0, 3.0, 3.0]


def test_a_run_that_stopped_early_counts_as_far_as_it_went():
    band = band_of([([0, 1, 2, 3], [1.0, 2.0, 3.0, 4.0]), ([0, 1], [3.0, 6.0])])
    assert band.mean.tolist() == [2.0, 4.0, 3.0, 4.0]
    assert band.n.tolist() == [2, 2, 1, 1]
    assert band.n_runs == 2
    np.testing.assert_array_equal(np.isnan(band.sd), [False, False, True, True])


def test_what_is_not_finite_does_not_count_and_no_line_is_drawn_across_it():
    band = band_of([([0, 1, 2], [1.0, NAN, 3.0]), ([0, 1, 2], [5.0, 6.0, INF]), ([0, 2], [3.0, 5.0])])
    assert band.mean.tolist() == [3.0, 5.0, 4.0]
    assert band.n.tolist() == [3, 2, 2]
    across = band_of([([0, 4], [1.0, NAN]), ([0, 2, 4], [1.0, 2.0, 3.0])])
    assert across.n.tolist() == [2, 1, 1]


def test_a_step_without_any_number_is_left_out():
    band = band_of([([0, 1, 2], [1.0, NAN, 3.0]), ([0, 1, 2], [1.0, NAN, 5.0])])
    assert band.steps.tolist() == [0, 2]
    assert band_of([([0, 1], [NAN, NAN])]).steps.tolist() == []
    assert band_of([([], [])]).steps.tolist() == []
    assert band_of([]).n_runs == 0


def test_scores_of_different_best_epochs_are_one_point():
    band = band_of([([68], [0.9]), ([34], [0.7]), ([51], [0.8])])
    assert band.steps.tolist() == [68]
    assert band.mean.tolist() == [pytest.approx(0.8, abs=1e-15)]
    assert band.n.tolist() == [3]


def test_one_run_has_a_band_without_width():
    band = band_of([([0, 1], [1.0, 2.0])])
    mean, lower, upper, low, high, n = band.columns()
    assert np.isnan(band.sd).all()
    for found in (mean, lower, upper, low, high):
        assert found.tolist() == [1.0, 2.0]
    assert n.tolist() == [1.0, 1.0]


def test_columns_are_mean_less_and_more_sd():
    band = band_of([([0], [1.0]), ([0], [3.0])])
    sd = 2**0.5
    assert [column.tolist() for column in band.columns()] == [[2.0], [2.0 - sd], [2.0 + sd], [1.0], [3.0], [2.0]]


@pytest.mark.parametrize("ragged", [False, True])
def test_thinned_bands_have_the_numbers_of_whole_ones(ragged: bool):
    draw = np.random.Generator(np.random.Philox(1))
    lines = [(np.arange(i if ragged else 0, 1000), draw.standard_normal(1000 - (i if ragged else 0))) for i in range(3)]
    whole, thin = band_of(lines), band_of(lines, 30)
    assert len(thin.steps) == 30
    assert (thin.steps[0], thin.steps[-1]) == (0, 999)
    kept = np.searchsorted(whole.steps, thin.steps)
    assert thin.mean.tobytes() == whole.mean[kept].tobytes()
    assert thin.n.tolist() == whole.n[kept].tolist()


@pytest.mark.parametrize("n", [0, 1, 2, 3, 29, 30, 31, 1000])
def test_thinning_keeps_both_ends_and_no_index_twice(n: int):
    kept = thinned(n, 30).tolist()
    assert len(kept) == min(n, 30)
    assert kept == sorted(set(kept))
    assert not n or (kept[0], kept[-1]) == (0, n - 1)
