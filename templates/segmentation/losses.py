"""Losses per pixel; pixels that are ignored add nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from torch.nn import functional as F

from .coding import IGNORED

if TYPE_CHECKING:
    from torch import Tensor

Name = Literal["cross_entropy", "dice", "focal"]


def segmentation_loss(
    names: Sequence[Name], logits: Tensor, labels: Tensor, weight: Tensor | None = None, gamma: float = 2.0
) -> Tensor:
    """The sum of the losses that `names` says, a scalar; 0 where every pixel is ignored.

    logits: (B, C, H, W); labels: int64 (B, H, W), `IGNORED` among them; weight: (C,), of cross entropy and focal loss.
    """
    logits = logits.float()
    if not bool((labels != IGNORED).any()):
        return logits.sum() * 0
    losses = {
        "cross_entropy": lambda: cross_entropy(logits, labels, weight),
        "dice": lambda: dice(logits, labels),
        "focal": lambda: focal(logits, labels, weight, gamma),
    }
    total = losses[names[0]]()
    for name in names[1:]:
        total = total + losses[name]()
    return total


def class_weights(counts: Sequence[int], power: float) -> list[float]:
    """The weight of each class: its frequency to the power -`power`, 0 for one without pixels; the mean over pixels is 1.

    Square roots alone are the same on every machine, so the power is taken in steps of 1/16.
    """
    total = sum(counts)
    raw = [_power(total / n, power) if n else 0.0 for n in counts]
    mean = math.fsum(weight * n for weight, n in zip(raw, counts, strict=True)) / max(1, total)
    return [weight / mean if mean else 1.0 for weight in raw]


def _power(value: float, power: float) -> float:
    """`value` to the power `power` in [0, 1], rounded to sixteenths, by square roots and products."""
    result, root = 1.0, value
    sixteenths = round(power * 16)
    if sixteenths == 16:
        return value
    for bit in (8, 4, 2, 1):
        root = math.sqrt(root)
        if sixteenths & bit:
            result *= root
    return result


def learnt(labels: Tensor, boundary: Tensor, background: int) -> Tensor:
    """What is learnt, int64 (B, H, W): the class of each pixel, and background at boundaries, as in DeepDIVA."""
    return labels.long().masked_fill(boundary & (labels != IGNORED), background)


def cross_entropy(logits: Tensor, labels: Tensor, weight: Tensor | None) -> Tensor:
    """The weighted mean over pixels, pixel by pixel in one row: PyTorch's own for images is not deterministic on a GPU."""
    pixels = logits.movedim(1, 3).reshape(-1, logits.shape[1])
    return F.cross_entropy(pixels, labels.reshape(-1), weight, ignore_index=IGNORED)


def dice(logits: Tensor, labels: Tensor) -> Tensor:
    """One less the mean over classes of the soft Dice coefficient of all pixels of the batch, smoothed by one pixel.

    Source: Milletari et al. 2016, V-Net; with sums instead of sums of squares.
    """
    n_classes = logits.shape[1]
    valid = (labels != IGNORED)[:, None]
    probabilities = logits.softmax(1) * valid  # (B, C, H, W)
    known = labels.clamp(max=n_classes - 1)[:, None]
    truth = logits.new_zeros(logits.shape).scatter(1, known, 1.0) * valid
    shared, both = (probabilities * truth).sum((0, 2, 3)), (probabilities + truth).sum((0, 2, 3))  # (C,)
    return 1 - ((2 * shared + 1) / (both + 1)).mean()


def focal(logits: Tensor, labels: Tensor, weight: Tensor | None, gamma: float) -> Tensor:
    """Cross entropy times (1 - p) ** gamma: pixels that are right and certain count little; the mean over pixels.

    Source: Lin et al. 2017, Focal loss for dense object detection.
    """
    valid = labels != IGNORED
    known = labels.clamp(max=logits.shape[1] - 1)
    likelihood = logits.log_softmax(1).gather(1, known[:, None]).squeeze(1)  # (B, H, W), logarithms
    factor = (1 - likelihood.exp()).clamp(min=1e-6) ** gamma * valid
    if weight is not None:
        factor = factor * weight[known]
    return -(factor * likelihood).sum() / valid.sum()
