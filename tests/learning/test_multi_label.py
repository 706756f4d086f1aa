"""Metrics of several labels equal scikit-learn's, also where labels are absent."""

import math

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn import metrics as sk

from diva.learning.multi_label import (
    exact_match,
    micro_f1,
    multi_label_counts,
    multi_label_f1,
    multi_label_jaccard,
    multi_label_report,
    sample_jaccard,
)

QUICK = settings(deadline=None, max_examples=60)


@st.composite
def answers(draw):
    """Predicted and true labels, bool (n, C), C > 1 as scikit-learn takes one column for another problem."""
    shape = draw(st.integers(1, 12)), draw(st.integers(2, 5))
    return tuple(draw(arrays.arrays(bool, shape)) for _ in range(2))


def tensors(given_):
    return tuple(torch.from_numpy(part) for part in given_)


@QUICK
@given(answers())
def test_counts_are_scikit_learns_and_sum_to_n(given_):
    counts = multi_label_counts(*tensors(given_))
    assert numpy.array_equal(counts, sk.multilabel_confusion_matrix(given_[1], given_[0]))
    assert (counts.sum((1, 2)) == len(given_[0])).all() and counts.dtype == numpy.int64


@QUICK
@given(answers())
def test_scores_per_class_are_scikit_learns(given_):
    predicted, truth = given_
    counts = multi_label_counts(*tensors(given_))
    f1 = sk.f1_score(truth, predicted, average=None, zero_division=numpy.nan)
    jaccard = sk.jaccard_score(truth, predicted, average=None, zero_division=0)
    numpy.testing.assert_allclose(multi_label_f1(counts), f1, rtol=1e-15)
    numpy.testing.assert_allclose(numpy.nan_to_num(multi_label_jaccard(counts)), jaccard, rtol=1e-15)
    assert (numpy.isnan(multi_label_jaccard(counts)) == numpy.isnan(f1)).all()


@QUICK
@given(answers())
def test_scores_of_all_labels_together_are_scikit_learns(given_):
    predicted, truth = given_
    counts = multi_label_counts(*tensors(given_))
    theirs = sk.f1_score(truth, predicted, average="micro", zero_division=numpy.nan)
    assert micro_f1(counts) == pytest.approx(theirs, rel=1e-15, nan_ok=True)


@QUICK
@given(answers())
def test_scores_of_samples_are_scikit_learns(given_):
    predicted, truth = given_
    theirs = sk.jaccard_score(truth, predicted, average="samples", zero_division=1)
    assert sample_jaccard(*tensors(given_)) == pytest.approx(theirs, rel=1e-14)
    assert exact_match(*tensors(given_)) == sk.accuracy_score(truth, predicted)


def test_no_samples_have_no_scores():
    none = torch.zeros(0, 3, dtype=torch.bool)
    counts = multi_label_counts(none, none)
    assert counts.tolist() == [[[0, 0], [0, 0]]] * 3
    assert math.isnan(micro_f1(counts)) and numpy.isnan(multi_label_f1(counts)).all()
    assert math.isnan(sample_jaccard(none, none)) and math.isnan(exact_match(none, none))


def test_the_report_has_a_row_per_class_and_a_dash_where_nothing_is():
    truth = torch.tensor([[True, False], [True, False], [False, False]])
    predicted = torch.tensor([[True, False], [False, False], [True, False]])
    lines = multi_label_report(multi_label_counts(predicted, truth), ["a|b", "c"], {"AP": numpy.array([1.0, math.nan])})
    assert lines.split("\n")[2:] == [
        "| a\\|b | 0.5000 | 0.5000 | 0.5000 | 0.3333 | 1.0000 | 2 |",
        "| c | - | - | - | - | - | 0 |",
    ]


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="several labels"):
        multi_label_counts(torch.ones(3, 2) > 0, torch.ones(3, 3) > 0)
