"""Curves and areas equal scikit-learn's, also with ties, absent classes and NaN."""

import math

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from diva.learning.ranking import (
    average_precision,
    average_precisions,
    best_thresholds,
    mean_over_classes,
    precision_recall_curve,
    precision_recall_curves,
    ranking_counts,
    roc_area,
    roc_areas,
    roc_curve,
    roc_curves,
)

QUICK = settings(deadline=None, max_examples=60)
TIES = st.sampled_from([0.0, -0.0, 0.25, 0.5, 1.0, -1.5, 7.0])


@st.composite
def ranked(draw):
    """Scores of few different values, so that ties are common, and truths of which both kinds occur."""
    n = draw(st.integers(2, 40))
    scores = draw(st.lists(TIES, min_size=n, max_size=n))
    truth = draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(lambda row: 0 < sum(row) < len(row)))
    return numpy.array(scores), numpy.array(truth)


@QUICK
@given(ranked())
def test_roc_curve_is_scikit_learns(given_):
    scores, truth = given_
    for ours, theirs in zip(
        roc_curve(scores, truth), sk.roc_curve(truth, scores, drop_intermediate=False), strict=True
    ):
        numpy.testing.assert_array_equal(ours, theirs)


@QUICK
@given(ranked())
def test_precision_recall_curve_is_scikit_learns_in_the_opposite_order(given_):
    scores, truth = given_
    precision, recall, thresholds = precision_recall_curve(scores, truth)
    theirs = sk.precision_recall_curve(truth, scores)
    numpy.testing.assert_array_equal(precision[::-1], theirs[0])
    numpy.testing.assert_array_equal(recall[::-1], theirs[1])
    numpy.testing.assert_array_equal(thresholds[::-1][:-1], theirs[2])


@QUICK
@given(ranked())
def test_areas_are_scikit_learns(given_):
    scores, truth = given_
    assert roc_area(scores, truth) == pytest.approx(sk.roc_auc_score(truth, scores), rel=1e-14)
    assert average_precision(scores, truth) == pytest.approx(sk.average_precision_score(truth, scores), rel=1e-14)


@QUICK
@given(ranked(), st.randoms(use_true_random=False))
def test_the_order_of_the_samples_changes_no_bit(given_, random):
    scores, truth = given_
    order = list(range(len(scores)))
    random.shuffle(order)
    assert roc_area(scores[order], truth[order]) == roc_area(scores, truth)
    assert average_precision(scores[order], truth[order]) == average_precision(scores, truth)


def test_many_samples_give_scikit_learns_areas():
    generator = numpy.random.default_rng(0)
    scores, truth = generator.normal(size=5000).round(2), generator.random(5000) < 0.1
    assert roc_area(scores, truth) == pytest.approx(sk.roc_auc_score(truth, scores), rel=1e-13)
    assert average_precision(scores, truth) == pytest.approx(sk.average_precision_score(truth, scores), rel=1e-13)


def test_a_class_that_is_absent_has_no_area_and_is_left_out_of_the_mean():
    scores, labels = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1]]), torch.tensor([0, 1, 0])
    areas, precisions = roc_areas(scores, labels), average_precisions(scores, labels)
    assert areas[:2].tolist() == precisions[:2].tolist() == [1, 1]
    assert math.isnan(areas[2]) and math.isnan(precisions[2])
    assert mean_over_classes(precisions) == 1
    assert math.isnan(mean_over_classes([math.nan]))
    assert math.isnan(roc_area([0.1, 0.2], [True, True])) and average_precision([0.1, 0.2], [True, True]) == 1
    assert math.isnan(roc_area([], [])) and math.isnan(average_precision([], []))
    assert (
        numpy.isnan(roc_curve([0.5], [True])[0]).all() and numpy.isnan(precision_recall_curve([0.5], [False])[1]).all()
    )


def test_labels_and_their_indicators_give_the_same_areas():
    generator = numpy.random.default_rng(1)
    scores, labels = generator.random((30, 4)).round(1), generator.integers(0, 4, 30)
    indicators = labels[:, None] == numpy.arange(4)
    assert roc_areas(scores, labels).tolist() == roc_areas(torch.tensor(scores), torch.tensor(indicators)).tolist()
    assert mean_over_classes(average_precisions(scores, labels)) == pytest.approx(
        sk.average_precision_score(indicators, scores, average="macro"), rel=1e-14
    )


def test_curves_of_all_classes_are_those_of_each():
    generator = numpy.random.default_rng(2)
    scores, labels = generator.random((30, 3)).round(1), generator.integers(0, 3, 30)
    for k, (rates, points) in enumerate(
        zip(roc_curves(scores, labels), precision_recall_curves(scores, labels), strict=True)
    ):
        false, true, _ = roc_curve(scores[:, k], labels == k)
        precision, recall, _ = precision_recall_curve(scores[:, k], labels == k)
        assert [part.tolist() for part in rates] == [false.tolist(), true.tolist()]
        assert [part.tolist() for part in points] == [recall.tolist(), precision.tolist()]


def test_nan_ranks_last_as_one_tie():
    counts = ranking_counts([math.nan, 0.5, math.nan, -1.0], [True, True, False, False])
    assert counts.thresholds.tolist() == [0.5, -1.0, -math.inf]
    assert counts.true_positives.tolist() == [1, 1, 2] and counts.false_positives.tolist() == [0, 1, 2]


def test_half_precision_ranks_as_its_values_do():
    scores, truth = torch.tensor([1.0, 2.0, 3.0, 2.0], dtype=torch.bfloat16), torch.tensor([0, 1, 1, 0])
    assert roc_area(scores, truth) == roc_area(scores.double(), truth) == 3.5 / 4


@pytest.mark.parametrize(("scores", "truth"), [([0.1], [True, False]), ([[0.1]], [[True]])])
def test_shapes_that_do_not_fit_are_refused(scores, truth):
    with pytest.raises(ValueError, match="ranking"):
        roc_area(scores, truth)
    with pytest.raises(ValueError, match="ranking"):
        roc_areas(scores, [[True, False, True]])


@QUICK
@given(ranked())
def test_no_threshold_has_a_higher_f1_than_the_best(given_):
    scores, truth = given_
    best = best_thresholds(scores[:, None], truth[:, None])[0]

    def f1(threshold):
        predicted = scores >= threshold
        return 2 * (predicted & truth).sum() / (predicted.sum() + truth.sum())

    assert f1(best) == max(f1(threshold) for threshold in scores)


def test_the_best_threshold_lies_between_the_samples_that_it_parts():
    scores = numpy.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.3], [0.1, 0.4]])
    truth = numpy.array([[True, False], [True, False], [False, False], [False, False]])
    assert best_thresholds(scores, truth, otherwise=0.7).tolist() == [pytest.approx(0.6), 0.7]
