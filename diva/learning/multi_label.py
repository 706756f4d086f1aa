"""Metrics of samples that have any number of labels, from integer counts; the same whatever the order of the samples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy

from diva.learning.ranking import ratios

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def multi_label_counts(predicted: Tensor, truth: Tensor) -> numpy.ndarray:
    """Per class the samples by truth (row: without, with the label) and prediction (column); int64 (C, 2, 2), each summing to n.

    predicted, truth: bool (n, C). As scikit-learn's `multilabel_confusion_matrix`: [[true -, false +], [false -, true +]].
    """
    yes, true = _pairs(predicted, truth)
    pairs = 2 * true.astype(numpy.int64) + yes
    return numpy.stack([(pairs == kind).sum(0) for kind in range(4)], 1).reshape(-1, 2, 2)


def multi_label_f1(counts: numpy.ndarray) -> numpy.ndarray:
    """F1 per class, float64 (C,), of counts (C, 2, 2): 2 TP / (2 TP + FP + FN); NaN for a class neither present nor predicted."""
    hits, wrong = counts[:, 1, 1], counts[:, 0, 1] + counts[:, 1, 0]
    return ratios(2 * hits, 2 * hits + wrong)


def multi_label_jaccard(counts: numpy.ndarray) -> numpy.ndarray:
    """Jaccard index per class, float64 (C,), of counts (C, 2, 2): TP / (TP + FP + FN); NaN for a class neither present nor predicted."""
    hits, wrong = counts[:, 1, 1], counts[:, 0, 1] + counts[:, 1, 0]
    return ratios(hits, hits + wrong)


def micro_f1(counts: numpy.ndarray) -> float:
    """F1 of all labels of all samples taken together; NaN when none is present or predicted. counts: (C, 2, 2)."""
    return float(multi_label_f1(counts.sum(0, keepdims=True))[0])


def sample_jaccard(predicted: Tensor, truth: Tensor) -> float:
    """Mean over samples of labels right / labels present or predicted, its sum rounded once; NaN without samples.

    predicted, truth: bool (n, C). A sample that has no label and is given none counts 1.
    """
    yes, true = _pairs(predicted, truth)
    both, either = (yes & true).sum(1), (yes | true).sum(1)
    values = numpy.where(either > 0, both / numpy.maximum(either, 1), 1.0).tolist()
    return math.fsum(values) / len(values) if values else math.nan


def exact_match(predicted: Tensor, truth: Tensor) -> float:
    """Share of samples all of whose labels are right, and no other is given; NaN without samples. predicted, truth: bool (n, C)."""
    yes, true = _pairs(predicted, truth)
    return int((yes == true).all(1).sum()) / len(yes) if len(yes) else math.nan


def multi_label_report(
    counts: numpy.ndarray, class_names: Sequence[str], further: dict[str, numpy.ndarray] | None = None
) -> str:
    """A Markdown table of precision, recall, F1, Jaccard and number of samples per class; `further` adds columns, float (C,) each.

    A dash stands where there is nothing to divide by. counts: (C, 2, 2).
    """
    hits = counts[:, 1, 1]
    columns = {
        "precision": ratios(hits, counts[:, :, 1].sum(1)),
        "recall": ratios(hits, counts[:, 1].sum(1)),
        "F1": multi_label_f1(counts),
        "Jaccard": multi_label_jaccard(counts),
        **(further or {}),
    }
    lines = [f"| class | {' | '.join(columns)} | samples |", "|---|" + "---:|" * (len(columns) + 1)]
    for k, name in enumerate(class_names):
        cells = ("-" if math.isnan(values[k]) else f"{values[k]:.4f}" for values in columns.values())
        escaped = str(name).replace("|", "\\|")
        lines.append(f"| {escaped} | {' | '.join(cells)} | {counts[k, 1].sum()} |")
    return "\n".join(lines)


def _pairs(predicted: Tensor, truth: Tensor) -> tuple[numpy.ndarray, numpy.ndarray]:
    yes, true = predicted.cpu().bool().numpy(), truth.cpu().bool().numpy()
    if yes.ndim != 2 or yes.shape != true.shape:
        raise ValueError(f"several labels: predicted and truth are (n, C) both, got {yes.shape} and {true.shape}")
    return yes, true
