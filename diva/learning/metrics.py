"""Metrics of classification, from integer counts; the same whatever the order of the samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def label_ranks(logits: Tensor, labels: Tensor) -> Tensor:
    """Place of the true label in the classes sorted by falling logit, 0 the first; int64 (B,).

    logits: float (B, C); labels: int64 (B,) in [0, C). Of equal logits the lower class comes first, as in argmax; a NaN among the
    logits puts the label last.
    """
    own = logits.gather(1, labels[:, None])  # (B, 1)
    before = (logits == own) & (torch.arange(logits.shape[1], device=logits.device) < labels[:, None])
    ranks = ((logits > own) | before).sum(1)
    return torch.where(torch.isnan(logits).any(1), logits.shape[1] - 1, ranks)


def top_k_accuracy(ranks: Tensor, k: int) -> float:
    """Fraction of samples whose true label is among the `k` highest logits. ranks: (n,), from `label_ranks`."""
    return int((ranks < k).sum()) / max(1, len(ranks))


def confusion_counts(labels: Tensor, predictions: Tensor, n_classes: int) -> numpy.ndarray:
    """Number of samples of each true class (row) predicted as each class (column); int64 (C, C), summing to n."""
    pairs = (labels * n_classes + predictions).numpy()
    return numpy.bincount(pairs, minlength=n_classes * n_classes).reshape(n_classes, n_classes)


def precision_recall_f1(counts: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """Per class, float64 (C,) each, from confusion counts (C, C); 0 where a denominator is 0, as in scikit-learn."""
    hits, true, predicted = numpy.diag(counts), counts.sum(1), counts.sum(0)
    return (
        hits / numpy.maximum(predicted, 1),
        hits / numpy.maximum(true, 1),
        2 * hits / numpy.maximum(true + predicted, 1),
    )


def macro_f1(counts: numpy.ndarray) -> float:
    """Mean of the F1 of every class that occurs among labels or predictions; NaN without samples."""
    present = (counts.sum(0) + counts.sum(1)) > 0
    return float(precision_recall_f1(counts)[2][present].mean()) if present.any() else float("nan")


def class_report(counts: numpy.ndarray, class_names: Sequence[str]) -> str:
    """A Markdown table of precision, recall, F1 and number of samples per class, and their macro and weighted means."""
    precision, recall, f1 = precision_recall_f1(counts)
    support = counts.sum(1)
    rows = [[name, p, r, f, n] for name, p, r, f, n in zip(class_names, precision, recall, f1, support, strict=True)]
    weights = support / max(1, support.sum())
    rows.append(["macro mean", precision.mean(), recall.mean(), f1.mean(), support.sum()])
    rows.append(["weighted mean", precision @ weights, recall @ weights, f1 @ weights, support.sum()])
    lines = ["| class | precision | recall | F1 | samples |", "|---|---:|---:|---:|---:|"]
    lines += [
        f"| {str(name).replace('|', chr(92) + '|')} | {p:.4f} | {r:.4f} | {f:.4f} | {n} |" for name, p, r, f, n in rows
    ]
    return "\n".join(lines)


def classification_scores(labels: Tensor, predictions: Tensor, n_classes: int) -> dict[str, float]:
    """`accuracy` and `macro_f1` of one class per sample. labels, predictions: int64 (n,) in [0, n_classes)."""
    counts = confusion_counts(labels, predictions, n_classes)
    return {"accuracy": float(counts.trace() / counts.sum()), "macro_f1": macro_f1(counts)}


def surest_mistakes(logits: Tensor, labels: Tensor, most: int = 32) -> list[tuple[int, int, float]]:
    """The wrong answers given with the highest softmax: (sample, class that was said, softmax), ties in the order of the samples.

    logits: float (n, C); labels: int64 (n,).
    """
    confidence, said = logits.float().softmax(1).amax(1), logits.argmax(1)
    wrong = (labels != said).nonzero().flatten()
    order = wrong[confidence[wrong].argsort(descending=True, stable=True)][:most].tolist()
    return [(i, int(said[i]), float(confidence[i])) for i in order]
