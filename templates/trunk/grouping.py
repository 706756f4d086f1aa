"""Which classes a node of the tree confuses, and the groups that follow from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

Pairs = Literal["upper", "mean", "max"]
Groups = tuple[tuple[int, ...], ...]


def averaged_likelihoods(
    likelihoods: Sequence[Sequence[float]], labels: Sequence[int], classes: Sequence[int]
) -> list[list[float]]:
    """Averaged softmax likelihood (n, n): row i is the mean of the likelihoods (n,) of the samples of class `classes[i]`.

    likelihoods: (n_samples, n); labels: of all samples, those of other classes are left out. Sums are exactly rounded, so that their
    order is no matter. A class without samples has a row of zeros.
    """
    rows: dict[int, list[Sequence[float]]] = {label: [] for label in classes}
    for label, row in zip(labels, likelihoods, strict=True):
        if label in rows:
            rows[label].append(row)
    return [
        [math.fsum(row[j] for row in found) / max(1, len(found)) for j in range(len(classes))]
        for found in rows.values()
    ]


def likeness(asl: Sequence[Sequence[float]], i: int, j: int, pairs: Pairs) -> float:
    """How much two classes, i < j, are taken for each other, from the averaged softmax likelihood (n, n).

    upper: how much i is taken for j, as published, which depends on how the classes are numbered; mean and max: of both directions.
    """
    one, other = asl[i][j], asl[j][i]
    return {"upper": one, "mean": (one + other) / 2, "max": max(one, other)}[pairs]


def similar_pairs(asl: Sequence[Sequence[float]], volatility: float, pairs: Pairs) -> list[tuple[int, int]]:
    """The pairs i < j of classes whose likeness is above volatility / n: above `volatility` times blind chance."""
    n = len(asl)
    return [(i, j) for i in range(n) for j in range(i + 1, n) if likeness(asl, i, j, pairs) > volatility / n]


def closure(n: int, pairs: Sequence[tuple[int, int]]) -> Groups:
    """The groups of range(n) that the pairs join, directly or through others: each rising, in the order of their smallest members."""
    group_of = list(range(n))
    for one, other in pairs:
        low, high = sorted((group_of[one], group_of[other]))
        group_of = [low if group == high else group for group in group_of]
    return tuple(tuple(i for i in range(n) if group_of[i] == first) for first in sorted(set(group_of)))


def group(asl: Sequence[Sequence[float]], volatility: float, pairs: Pairs) -> Groups:
    """The groups of classes that a node with this averaged softmax likelihood (n, n) hands on to one child each.

    Lu, Goel et al. 2022 ("TRUNK") draw a Bernoulli variable 100,000 times around the threshold volatility / n; this is its limit.
    """
    return closure(len(asl), similar_pairs(asl, volatility, pairs))


def degenerate(name: str, n_groups: int) -> str:
    """What to say of a node whose classes make one group, or none of several classes."""
    stays = "the tree is a single network" if name == "root" else "it stays a leaf"
    if n_groups == 1:
        return f"{name}: all its classes are one group, so {stays}; a higher --volatility would split them"
    return f"{name}: each of its classes is a group of its own, so {stays}; a lower --volatility would join some"
