"""Curves of scores that rank samples: ROC, precision and recall, their areas; from integer counts, the same bits everywhere.

A score says how sure a model is that a sample is positive; only its order matters. Samples of equal score are one step of a curve, so
the order of the samples never counts. A NaN ranks with minus infinity, below all else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy
import torch

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True)
class RankingCounts:
    """How many samples score at least each threshold: of the positive ones, and of the negative ones.

    thresholds: float64 (K,), the different scores, falling. true_positives, false_positives: int64 (K,), rising; the last are all.
    """

    thresholds: numpy.ndarray
    true_positives: numpy.ndarray
    false_positives: numpy.ndarray

    @property
    def n_positives(self) -> int:
        """Number of positive samples."""
        return int(self.true_positives[-1]) if len(self.true_positives) else 0

    @property
    def n_negatives(self) -> int:
        """Number of negative samples."""
        return int(self.false_positives[-1]) if len(self.false_positives) else 0


def ranking_counts(scores: ArrayLike | torch.Tensor, truth: ArrayLike | torch.Tensor) -> RankingCounts:
    """Counts at every threshold. scores: floats (n,); truth: (n,), True or not 0 for a positive sample."""
    values, positive = _flat(scores), _flat(truth) != 0
    if len(values) != len(positive):
        raise ValueError(f"ranking: {len(values)} scores ask for as many truths, got {len(positive)}")
    values = numpy.where(numpy.isnan(values), -numpy.inf, values) + 0.0  # -0.0 is 0.0
    order = numpy.argsort(-values, kind="stable")
    values, positive = values[order], positive[order]
    last = numpy.flatnonzero(numpy.append(values[1:] != values[:-1], True)) if len(values) else numpy.zeros(0, int)
    hits = numpy.cumsum(positive, dtype=numpy.int64)[last]
    return RankingCounts(values[last], hits, last + 1 - hits)


def roc_curve(
    scores: ArrayLike | torch.Tensor, truth: ArrayLike | torch.Tensor
) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """False positive rate, true positive rate and threshold, float64 (K + 1,) each, from (0, 0) at infinity to (1, 1).

    A rate is NaN where its class has no sample. Equal to scikit-learn's with `drop_intermediate=False`.
    """
    counts = ranking_counts(scores, truth)
    rates = (
        _from_zero(counts.false_positives, counts.n_negatives),
        _from_zero(counts.true_positives, counts.n_positives),
    )
    return *rates, numpy.append(numpy.inf, counts.thresholds)


def precision_recall_curve(
    scores: ArrayLike | torch.Tensor, truth: ArrayLike | torch.Tensor
) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """Precision, recall and threshold, float64 (K + 1,) each, from precision 1 and recall 0 at infinity to recall 1.

    Recall is NaN without a positive sample. scikit-learn gives the same points in the opposite order.
    """
    counts = ranking_counts(scores, truth)
    precision = counts.true_positives / (counts.true_positives + counts.false_positives)
    recall = _from_zero(counts.true_positives, counts.n_positives)
    return numpy.append(1.0, precision), recall, numpy.append(numpy.inf, counts.thresholds)


def roc_area(scores: ArrayLike | torch.Tensor, truth: ArrayLike | torch.Tensor) -> float:
    """Area under the ROC curve: the share of pairs of a positive and a negative sample in right order, equal scores half.

    One division of whole numbers (Mann and Whitney 1947). NaN where all samples are positive or all negative.
    """
    counts = ranking_counts(scores, truth)
    pairs = counts.n_positives * counts.n_negatives
    if not pairs:
        return math.nan
    true, false = counts.true_positives, counts.false_positives
    twice = int((numpy.diff(false, prepend=0) * (true + numpy.append(0, true[:-1]))).sum())  # trapezoids, doubled
    return twice / (2 * pairs)


def average_precision(scores: ArrayLike | torch.Tensor, truth: ArrayLike | torch.Tensor) -> float:
    """Mean over the positive samples of the precision at their score: the area under the steps of precision and recall.

    The sum is rounded once (`math.fsum`). NaN without a positive sample, where scikit-learn says 0.
    """
    counts = ranking_counts(scores, truth)
    if not counts.n_positives:
        return math.nan
    true, false = counts.true_positives, counts.false_positives
    terms = numpy.diff(true, prepend=0) * true / (true + false)
    return math.fsum(terms.tolist()) / counts.n_positives


def roc_areas(scores: ArrayLike | torch.Tensor, truth: ArrayLike | torch.Tensor) -> numpy.ndarray:
    """`roc_area` of each class against the rest, float64 (C,). scores: (n, C); truth: bool (n, C), or int labels (n,)."""
    return numpy.array([roc_area(*columns) for columns in _columns(scores, truth)], numpy.float64)


def average_precisions(scores: ArrayLike | torch.Tensor, truth: ArrayLike | torch.Tensor) -> numpy.ndarray:
    """`average_precision` of each class, float64 (C,); `mean_over_classes` of it is mAP. Arguments as of `roc_areas`."""
    return numpy.array([average_precision(*columns) for columns in _columns(scores, truth)], numpy.float64)


def roc_curves(
    scores: ArrayLike | torch.Tensor, truth: ArrayLike | torch.Tensor
) -> list[tuple[numpy.ndarray, numpy.ndarray]]:
    """False and true positive rates of each class against the rest, as `roc_figure` draws them. Arguments as of `roc_areas`."""
    return [roc_curve(*columns)[:2] for columns in _columns(scores, truth)]


def precision_recall_curves(
    scores: ArrayLike | torch.Tensor, truth: ArrayLike | torch.Tensor
) -> list[tuple[numpy.ndarray, numpy.ndarray]]:
    """Recalls and precisions of each class against the rest, as `precision_recall_figure` draws them. Arguments as of `roc_areas`."""
    return [precision_recall_curve(*columns)[1::-1] for columns in _columns(scores, truth)]


def best_thresholds(
    scores: ArrayLike | torch.Tensor, truth: ArrayLike | torch.Tensor, otherwise: float = 0.5
) -> numpy.ndarray:
    """For each class the threshold whose F1 is highest, float64 (C,): a sample that scores at least so much is positive.

    It lies half-way to the next lower score, so that it parts the samples with room on both sides. Of equal F1 the highest threshold; a
    class without a positive sample gets `otherwise`. Arguments as of `roc_areas`.
    """
    chosen = []
    for column, positive in _columns(scores, truth):
        counts = ranking_counts(column, positive)
        if not counts.n_positives:
            chosen.append(otherwise)
            continue
        true, false = counts.true_positives, counts.false_positives
        best = int(numpy.argmax(2 * true / (true + false + counts.n_positives)))
        here, below = counts.thresholds[best], counts.thresholds[min(best + 1, len(true) - 1)]
        middle = (here + below) / 2
        chosen.append(float(middle if below < middle <= here else here))
    return numpy.array(chosen, numpy.float64)


def ratios(part: numpy.ndarray, whole: numpy.ndarray) -> numpy.ndarray:
    """part / whole of counts, float64 of their shape, one division each; NaN where there is nothing to divide by."""
    return numpy.where(whole > 0, part / numpy.maximum(whole, 1), numpy.nan)


def mean_over_classes(values: ArrayLike) -> float:
    """Mean of those that are not NaN, its sum rounded once: classes that are absent are left out. NaN when all are."""
    present = [value for value in numpy.asarray(values, numpy.float64).tolist() if value == value]
    return math.fsum(present) / len(present) if present else math.nan


def _columns(
    scores: ArrayLike | torch.Tensor, truth: ArrayLike | torch.Tensor
) -> list[tuple[numpy.ndarray, numpy.ndarray]]:
    values, true = _array(scores), _array(truth)
    if values.ndim == 2 and true.shape == values.shape[:1]:
        true = true[:, None] == numpy.arange(values.shape[1])  # labels
    if values.ndim != 2 or true.shape != values.shape:
        raise ValueError(f"ranking: scores are (n, C) and truth (n, C) or (n,), got {values.shape} and {true.shape}")
    return [(values[:, k], true[:, k]) for k in range(values.shape[1])]


def _from_zero(counts: numpy.ndarray, total: int) -> numpy.ndarray:
    return numpy.append(0, counts) / total if total else numpy.full(len(counts) + 1, numpy.nan)


def _array(values: ArrayLike | torch.Tensor) -> numpy.ndarray[Any, Any]:
    """As float64, which holds every bool, half and single precision number exactly."""
    return numpy.asarray(values.detach().cpu().double() if isinstance(values, torch.Tensor) else values, numpy.float64)


def _flat(values: ArrayLike | torch.Tensor) -> numpy.ndarray[Any, Any]:
    array = _array(values)
    if array.ndim != 1:
        raise ValueError(f"ranking: scores and truth are of shape (n,), got {array.shape}")
    return array
