"""Confusions between classes, counted pixel by pixel, and what follows from them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy
import torch

from .coding import IGNORED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

MOST_CLASSES = 24  # of more, metrics do not list every class; the report does


def count_confusions(labels: Tensor, predicted: Tensor, boundary: Tensor, n_classes: int) -> Tensor:
    """How often each class (row) was taken for each (column), first away from boundaries, then at them: int64 (B, 2, C, C).

    labels, predicted: whole numbers (B, H, W); boundary: bool (B, H, W). Ignored pixels are not counted.
    """
    n = len(labels)
    sample = torch.arange(n, device=labels.device)[:, None, None]
    pairs = ((sample * 2 + boundary) * n_classes + labels) * n_classes + predicted
    counts = torch.bincount(pairs[labels != IGNORED], minlength=n * 2 * n_classes * n_classes)
    return counts.view(n, 2, n_classes, n_classes)


def forgiven(counts: numpy.ndarray, background: int) -> numpy.ndarray:
    """One table, int64 (C, C), of `count_confusions`' two, (2, C, C): at a boundary, background is never wrong."""
    table: numpy.ndarray = counts.sum(0)
    at_boundary = counts[1, :, background].copy()
    table[:, background] -= at_boundary
    table[background, background] += at_boundary.sum()
    return table


def slug(name: str) -> str:
    """A name of a class as a part of a metric's or a file's name."""
    return re.sub(r"\W+", "_", name).strip("_") or "class"


def class_ious(ious: Sequence[float], names: Sequence[str]) -> dict[str, float]:
    """`iou_<class>` for each class that occurs; nothing where there are very many classes."""
    if len(names) > MOST_CLASSES:
        return {}
    return {f"iou_{slug(name)}": float(iou) for name, iou in zip(names, ious, strict=True) if iou == iou}
