"""The evaluation of DIVA-HisDB and of the competition of ICDAR 2017: pixels have several labels, the bits of their code.

Source: Alberti et al. 2017, Open evaluation tool for layout analysis of document images, and the rules of the tool itself. At a boundary,
background is right as well: the truth has it besides its own labels, and a prediction that has one of them is given the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy

if TYPE_CHECKING:
    from collections.abc import Sequence

BACKGROUND = 1  # the bit of background


@dataclass(frozen=True)
class LayoutScores:
    """Scores of a page or several; those per bit are NaN where they are 0 / 0, and such bits are left out of the means.

    exact_match: share of pixels all of whose labels are right. hamming: share of right labels. pixels: how many have each bit.
    """

    exact_match: float
    hamming: float
    iou: tuple[float, ...]
    precision: tuple[float, ...]
    recall: tuple[float, ...]
    f1: tuple[float, ...]
    pixels: tuple[int, ...]

    def mean(self, values: Sequence[float]) -> float:
        """The mean of scores per bit."""
        known = [value for value in values if not math.isnan(value)]
        return math.fsum(known) / len(known) if known else math.nan

    def weighted(self, values: Sequence[float]) -> float:
        """The mean of scores per bit, weighted by how often the bit occurs in the truth."""
        known = [(value, n) for value, n in zip(values, self.pixels, strict=True) if not math.isnan(value)]
        total = sum(n for _, n in known)
        return math.fsum(value * n for value, n in known) / total if total else math.nan

    def metrics(self) -> dict[str, float]:
        """The scores by name, without what is not defined."""
        found = {
            "exact_match": self.exact_match,
            "hamming_score": self.hamming,
            "mean_iou": self.mean(self.iou),
            "weighted_iou": self.weighted(self.iou),
            "mean_f1": self.mean(self.f1),
            "mean_precision": self.mean(self.precision),
            "mean_recall": self.mean(self.recall),
        }
        return {f"layout_{name}": value for name, value in found.items() if not math.isnan(value)}


def evaluate_layout(counts: numpy.ndarray, codes: Sequence[int]) -> LayoutScores:
    """The scores of counted pixels.

    counts: int64 (2, C, C), how often the code of each row was taken for that of each column, away from boundaries and at them; codes: of
    each class. There are as many labels as bits in the largest code, as the tool has it.
    """
    n_bits = max(codes).bit_length()
    hits, true, predicted = ([0] * n_bits for _ in range(3))
    n_exact, n_wrong_labels = 0, 0
    for at_boundary, row, column in zip(*(places.tolist() for places in numpy.nonzero(counts)), strict=True):
        n = int(counts[at_boundary, row, column])
        truth, answer = codes[row], codes[column]
        if at_boundary:
            truth |= BACKGROUND
            answer |= truth if truth & answer else 0
        n_exact += n if truth == answer else 0
        n_wrong_labels += n * (truth ^ answer).bit_count()
        for bit in range(n_bits):
            has, says = truth >> bit & 1, answer >> bit & 1
            hits[bit] += n * (has & says)
            true[bit] += n * has
            predicted[bit] += n * says
    total = int(counts.sum())
    each = list(zip(hits, true, predicted, strict=True))
    return LayoutScores(
        _share(n_exact, total),
        1 - _share(n_wrong_labels, total * n_bits),
        tuple(_share(h, t + p - h) for h, t, p in each),
        tuple(_share(h, p) for h, _, p in each),
        tuple(_share(h, t) for h, t, _ in each),
        tuple(_share(2 * h, t + p) for h, t, p in each),
        tuple(true),
    )


def layout_report(scores: LayoutScores, names: Sequence[str]) -> str:
    """A Markdown table: a row per bit, then means and weighted means."""
    rows = [
        (name, *values)
        for name, *values in zip(names, scores.iou, scores.f1, scores.precision, scores.recall, strict=False)
    ]
    columns = (scores.iou, scores.f1, scores.precision, scores.recall)
    rows.append(("mean", *(scores.mean(values) for values in columns)))
    rows.append(("mean weighted by pixels", *(scores.weighted(values) for values in columns)))
    lines = [f"exact match {scores.exact_match:.4f}, Hamming score {scores.hamming:.4f}", ""]
    lines += ["| label | IoU | F1 | precision | recall |", "|---|---:|---:|---:|---:|"]
    lines += [f"| {name} | " + " | ".join(f"{value:.4f}" for value in values) + " |" for name, *values in rows]
    return "\n".join(lines)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
