"""Scores of areas equal scikit-learn's over the pixels, and hand-made ones; classes may be absent."""

import math

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from diva.learning.metrics import confusion_counts, macro_f1
from diva.learning.overlap import (
    dice_per_class,
    iou_per_class,
    mean_dice,
    mean_iou,
    pixel_accuracy,
)

QUICK = settings(deadline=None, max_examples=60)
pytestmark = [  # scikit-learn's
    pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true"),
    pytest.mark.filterwarnings("ignore:A single label was found"),
]


@st.composite
def pixels(draw):
    """Number of classes, true and predicted class of each pixel; classes may be absent from either or from both."""
    n_classes, n = draw(st.integers(1, 5)), draw(st.integers(1, 40))
    classes = st.lists(st.integers(0, n_classes - 1), min_size=n, max_size=n)
    return n_classes, torch.tensor(draw(classes)), torch.tensor(draw(classes))


@QUICK
@given(pixels())
def test_overlaps_per_class_are_scikit_learns(given_):
    n_classes, true, predicted = given_
    counts = confusion_counts(true, predicted, n_classes)
    kinds = {"labels": range(n_classes), "average": None, "zero_division": 0}
    numpy.testing.assert_allclose(
        numpy.nan_to_num(iou_per_class(counts)), sk.jaccard_score(true, predicted, **kinds), rtol=1e-15
    )
    numpy.testing.assert_allclose(
        numpy.nan_to_num(dice_per_class(counts)), sk.f1_score(true, predicted, **kinds), rtol=1e-15
    )
    absent = counts.sum(0) + counts.sum(1) == 0
    assert (numpy.isnan(iou_per_class(counts)) == absent).all()


@QUICK
@given(pixels())
def test_means_are_scikit_learns_over_the_classes_that_occur(given_):
    n_classes, true, predicted = given_
    counts = confusion_counts(true, predicted, n_classes)
    theirs = sk.jaccard_score(true, predicted, average="macro", zero_division=0)
    assert mean_iou(counts) == pytest.approx(theirs, rel=1e-14)
    assert mean_dice(counts) == pytest.approx(macro_f1(counts), rel=1e-14)
    assert pixel_accuracy(counts) == sk.accuracy_score(true, predicted)


def test_a_page_by_hand():
    counts = numpy.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]])  # background, text, and a class that is on no page
    assert iou_per_class(counts)[:2].tolist() == [6 / 9, 3 / 6] and math.isnan(iou_per_class(counts)[2])
    assert mean_iou(counts) == (6 / 9 + 3 / 6) / 2
    assert pixel_accuracy(counts) == 9 / 12


def test_a_class_that_is_only_predicted_counts_as_missed():
    counts = numpy.array([[3, 1], [0, 0]])
    assert iou_per_class(counts).tolist() == [0.75, 0] and mean_iou(counts) == 0.375


def test_no_pixels_have_no_scores():
    none = numpy.zeros((2, 2), numpy.int64)
    scores = [mean_iou(none), mean_dice(none), pixel_accuracy(none)]
    assert all(math.isnan(score) for score in scores)
