"""How well areas overlap, from confusion counts of pixels: intersection over union, Dice, accuracy.

Counts are int64 (C, C), rows true and columns predicted, from `confusion_counts`; those of several images are added up, so that
no image need stay in memory. Each ratio is one division of whole numbers, each mean over classes a sum rounded once.
"""

from __future__ import annotations

import math

import numpy

from diva.learning.ranking import mean_over_classes, ratios


def iou_per_class(counts: numpy.ndarray) -> numpy.ndarray:
    """Intersection over union, float64 (C,); NaN for a class that is neither present nor predicted.

    Source: Everingham et al. 2010, "The PASCAL Visual Object Classes Challenge", eq. 3.
    """
    hits, either = numpy.diag(counts), counts.sum(0) + counts.sum(1) - numpy.diag(counts)
    return ratios(hits, either)


def dice_per_class(counts: numpy.ndarray) -> numpy.ndarray:
    """Dice coefficient, which is F1, float64 (C,); NaN for a class that is neither present nor predicted."""
    return ratios(2 * numpy.diag(counts), counts.sum(0) + counts.sum(1))


def mean_iou(counts: numpy.ndarray) -> float:
    """Mean of `iou_per_class`; a class neither present nor predicted is left out, one only predicted counts 0. NaN without pixels."""
    return mean_over_classes(iou_per_class(counts))


def mean_dice(counts: numpy.ndarray) -> float:
    """Mean of `dice_per_class`, classes left out as in `mean_iou`: the macro F1 of pixels."""
    return mean_over_classes(dice_per_class(counts))


def pixel_accuracy(counts: numpy.ndarray) -> float:
    """Share of pixels whose class is right; NaN without pixels."""
    total = int(counts.sum())
    return int(numpy.trace(counts)) / total if total else math.nan
