"""Figures that several tasks draw of what they measure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diva.learning.metrics import class_report, confusion_counts
from diva.report.figures import confusion_matrix

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from diva.learning.drawings import Drawing


def classification_figures(
    labels: Tensor, predictions: Tensor, classes: Sequence[str], split: str
) -> Iterator[tuple[str, Drawing]]:
    """The confusion matrix, and the report per class, of one class per sample. labels, predictions: int64 (n,)."""
    counts = confusion_counts(labels, predictions, len(classes))
    yield "confusion_matrix", confusion_matrix(counts, classes, title=f"{split}: rows are true classes")
    yield "report", class_report(counts, classes)
