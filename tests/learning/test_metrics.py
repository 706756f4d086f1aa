"""Metrics equal scikit-learn's, also with ties, absent classes and NaN."""

import math

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn import metrics as sk

from diva.learning.metrics import (
    class_report,
    classification_scores,
    confusion_counts,
    label_ranks,
    macro_f1,
    precision_recall_f1,
    surest_mistakes,
    top_k_accuracy,
)

pytestmark = pytest.mark.filterwarnings("ignore:A single label was found")  # scikit-learn's, of one class
QUICK = settings(deadline=None, max_examples=60)
NAMES = "abcdef"


@st.composite
def answers(draw):
    """Labels and predictions of some of the classes; classes may be absent from either or from both."""
    n_classes = draw(st.integers(1, 6))
    n = draw(st.integers(1, 40))
    classes = st.lists(st.integers(0, n_classes - 1), min_size=n, max_size=n)
    return n_classes, torch.tensor(draw(classes)), torch.tensor(draw(classes))


@st.composite
def scores(draw):
    """Logits of few different values, so that ties are common, and labels."""
    n, n_classes = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    value = st.sampled_from([0.0, -0.0, 1.0, 2.0, -1.5, math.inf, -math.inf])
    logits = draw(arrays.arrays(numpy.float32, (n, n_classes), elements=value))
    labels = draw(st.lists(st.integers(0, n_classes - 1), min_size=n, max_size=n))
    return torch.from_numpy(logits), torch.tensor(labels)


@QUICK
@given(answers())
def test_confusion_counts_are_scikit_learns_and_sum_to_n(given_):
    n_classes, labels, predictions = given_
    counts = confusion_counts(labels, predictions, n_classes)
    assert numpy.array_equal(counts, sk.confusion_matrix(labels, predictions, labels=range(n_classes)))
    assert counts.sum() == len(labels) and counts.shape == (n_classes, n_classes) and counts.dtype == numpy.int64


def test_no_samples_are_no_counts():
    none = torch.zeros(0, dtype=torch.int64)
    assert confusion_counts(none, none, 3).tolist() == [[0] * 3] * 3
    assert math.isnan(macro_f1(confusion_counts(none, none, 3)))
    assert top_k_accuracy(none, 1) == 0


@QUICK
@given(answers())
def test_precision_recall_and_f1_are_scikit_learns(given_):
    n_classes, labels, predictions = given_
    ours = precision_recall_f1(confusion_counts(labels, predictions, n_classes))
    theirs = sk.precision_recall_fscore_support(labels, predictions, labels=range(n_classes), zero_division=0)
    for left, right in zip(ours, theirs[:3], strict=True):
        numpy.testing.assert_allclose(left, right, rtol=1e-15)  # scikit-learn's F1 is rounded once more


@QUICK
@given(answers())
def test_macro_f1_is_scikit_learns_over_the_classes_that_occur(given_):
    n_classes, labels, predictions = given_
    ours = macro_f1(confusion_counts(labels, predictions, n_classes))
    assert ours == pytest.approx(sk.f1_score(labels, predictions, average="macro", zero_division=0), rel=1e-14)


@QUICK
@given(scores())
def test_rank_is_the_place_in_a_stable_sort_by_falling_logit(given_):
    logits, labels = given_
    order = numpy.argsort(-logits.numpy(), axis=1, kind="stable")
    expected = [list(row).index(label) for row, label in zip(order, labels.tolist(), strict=True)]
    assert label_ranks(logits, labels).tolist() == expected


@QUICK
@given(scores())
def test_rank_zero_is_argmax(given_):
    logits, labels = given_
    assert torch.equal(label_ranks(logits, labels) == 0, logits.argmax(1) == labels)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_top_k_accuracy_is_scikit_learns(seed, k):
    generator = numpy.random.default_rng(seed)
    logits, labels = generator.normal(size=(50, 6)), generator.integers(0, 6, 50)
    ours = top_k_accuracy(label_ranks(torch.from_numpy(logits), torch.from_numpy(labels)), k)
    assert ours == sk.top_k_accuracy_score(labels, logits, k=k, labels=range(6))


def test_as_many_answers_as_classes_hold_the_label():
    assert top_k_accuracy(torch.tensor([0, 5, 3]), 6) == 1
    assert top_k_accuracy(torch.tensor([0, 5, 3]), 99) == 1
    assert top_k_accuracy(torch.tensor([0, 5, 3]), 4) == 2 / 3


def test_nan_among_the_logits_puts_the_label_last():
    nan = math.nan
    logits = torch.tensor([[nan, 0.0, 1.0], [5.0, nan, 1.0], [nan, nan, nan], [9.0, 0.0, 1.0]])
    assert label_ranks(logits, torch.tensor([0, 0, 2, 0])).tolist() == [2, 2, 2, 0]


def test_ranks_of_half_precision_are_those_of_their_values():
    logits = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.bfloat16)
    assert label_ranks(logits, torch.tensor([1])).tolist() == [1]


@QUICK
@given(answers())
def test_class_report_has_scikit_learns_numbers(given_):
    n_classes, labels, predictions = given_
    names = NAMES[:n_classes]
    report = class_report(confusion_counts(labels, predictions, n_classes), names)
    theirs = sk.classification_report(
        labels, predictions, labels=range(n_classes), target_names=list(names), output_dict=True, zero_division=0
    )
    rows = {
        row[0]: row[1:] for row in ([cell.strip() for cell in line.split("|")[1:-1]] for line in report.split("\n"))
    }
    pairs = [*((name, name) for name in names), ("macro mean", "macro avg"), ("weighted mean", "weighted avg")]
    for ours, other in pairs:
        expected = [theirs[other][name] for name in ("precision", "recall", "f1-score")]
        assert [float(cell) for cell in rows[ours][:3]] == pytest.approx(expected, abs=0.5001e-4)  # four digits
        assert int(rows[ours][3]) == theirs[other]["support"]


def test_class_report_is_a_table_whatever_the_names():
    report = class_report(numpy.eye(2, dtype=int), ["a|b", "c"])
    unescaped = [line.replace("\\|", "").count("|") for line in report.split("\n")]
    assert set(unescaped) == {6}


def test_scores_are_those_of_the_counts():
    labels, predictions = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 1, 1])
    scores = classification_scores(labels, predictions, 4)
    assert scores["accuracy"] == 0.5
    assert scores["macro_f1"] == macro_f1(confusion_counts(labels, predictions, 4))


def test_mistakes_come_by_falling_confidence_and_ties_by_sample():
    logits = torch.tensor([[2.0, 0.0], [0.0, 3.0], [0.0, 1.0], [0.0, 3.0], [5.0, 0.0]])
    labels = torch.tensor([1, 0, 0, 0, 0])
    found = surest_mistakes(logits, labels)
    assert [(i, said) for i, said, _ in found] == [(1, 1), (3, 1), (0, 0), (2, 1)]
    assert found[0][2] == pytest.approx(1 / (1 + numpy.exp(-3)))
    assert surest_mistakes(logits, labels, most=1) == found[:1]
