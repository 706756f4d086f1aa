"""Losses that bring vectors of a class together and hold classes apart, and the distances and triplets they are made of."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from torch import Tensor

Mining = Literal["hard", "semi_hard", "all"]


def squared_distances(vectors: Tensor) -> Tensor:
    """Between all pairs of vectors of length 1, (B, D) -> (B, B): 2 - 2 cos, in [0, 4]."""
    return (2 - 2 * (vectors @ vectors.T)).clamp(0, 4)


def distances_of(vectors: Tensor) -> Tensor:
    """Between all pairs of vectors of length 1, (B, D) -> (B, B), in [0, 2]; its slope stays finite where two are equal."""
    return (squared_distances(vectors) + 1e-8).sqrt()


def triplet_loss(vectors: Tensor, labels: Tensor, margin: float, mining: Mining) -> tuple[Tensor, Tensor]:
    """Mean over the chosen triplets of max(0, d(anchor, positive) - d(anchor, negative) + margin); and which anchors it moves, (B,).

    vectors: (B, D) of length 1; labels: int64 (B,). An anchor without a positive or a negative is in no triplet; no triplet, no loss.
    hard: per anchor the farthest positive and the nearest negative (Hermans et al. 2017, eq. 5). semi_hard: per pair the nearest
    negative that is farther than the positive, else the farthest negative (Schroff et al. 2015). all: every triplet whose loss is above
    0, averaged over these (Hermans et al. 2017).
    """
    distances = distances_of(vectors)
    same = labels[:, None] == labels
    positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    if mining == "hard":
        farthest = distances.masked_fill(~positive, -math.inf).amax(1)
        nearest = distances.masked_fill(same, math.inf).amin(1)
        valid = positive.any(1) & (~same).any(1)
        losses = torch.where(valid, (farthest - nearest + margin).relu(), 0.0)  # (B,)
        return losses.sum() / valid.sum().clamp(min=1), losses > 0
    if mining == "semi_hard":
        beyond = ~same[:, None, :] & (distances[:, None, :] > distances[:, :, None])  # anchor, positive, negative
        nearest = distances[:, None, :].masked_fill(~beyond, math.inf).amin(2)
        farthest = distances.masked_fill(same, -math.inf).amax(1, keepdim=True)
        chosen = torch.where(beyond.any(2), nearest, farthest)
        valid = positive & (~same).any(1, keepdim=True)
        losses = torch.where(valid, (distances - chosen + margin).relu(), 0.0)  # (B, B)
        return losses.sum() / valid.sum().clamp(min=1), (losses > 0).any(1)
    valid = positive[:, :, None] & ~same[:, None, :]
    losses = torch.where(valid, (distances[:, :, None] - distances[:, None, :] + margin).relu(), 0.0)  # (B, B, B)
    return losses.sum() / (losses > 0).sum().clamp(min=1), (losses > 0).flatten(1).any(1)


def contrastive_loss(vectors: Tensor, labels: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Half the mean over same pairs of d^2 and half that over other pairs of max(0, margin - d)^2; and which vectors it moves, (B,).

    vectors: (B, D) of length 1; labels: int64 (B,). Source: Hadsell, Chopra and LeCun 2006; the two kinds of pairs weigh equally here,
    since a batch has many more pairs of different classes.
    """
    distances = distances_of(vectors)
    same = labels[:, None] == labels
    together = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    pulled = torch.where(together, squared_distances(vectors), 0.0)
    pushed = torch.where(same, 0.0, (margin - distances).relu().square())
    loss = pulled.sum() / together.sum().clamp(min=1) + pushed.sum() / (~same).sum().clamp(min=1)
    return loss / 2, (pushed > 0).any(1) | together.any(1)
