"""Which classes a node of the tree confuses, and the groups that follow from it."""

from __future__ import annotations

import math
from bisect import bisect_left
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


def decisive_pair(asl: Sequence[Sequence[float]], pairs: Pairs, n_groups: int) -> tuple[int, int]:
    """The pair i < j at which a node that is not divided would be, the first of equals.

    Of one group its weakest link: without it, and those below it, the group falls apart. Of none, the pair that is most alike.
    """
    n = len(asl)
    every = [(i, j) for i in range(n) for j in range(i + 1, n)]
    ranked = sorted(every, key=lambda pair: -likeness(asl, pair[0], pair[1], pairs))
    if n_groups > 1:
        return ranked[0]
    return ranked[bisect_left(range(len(ranked)), True, key=lambda k: len(closure(n, ranked[: k + 1])) == 1)]


def degenerate(name: str, classes: Sequence[str], asl: Sequence[Sequence[float]], pairs: Pairs, n_groups: int) -> str:
    """What to say of a node whose classes make one group, or none of several classes, and which volatility would change that.

    classes: the names of those of the node; asl: its averaged softmax likelihood (n, n).
    """
    stays = "the tree is a single network" if name == "root" else "it stays a leaf"
    i, j = decisive_pair(asl, pairs, n_groups)
    limit = len(asl) * likeness(asl, i, j, pairs)
    if n_groups == 1:
        return (
            f"{name}: all its classes are one group, so {stays}; a --volatility above about {limit:.3g} would split them "
            f"(the weakest link is {classes[i]} and {classes[j]})"
        )
    alone = f"{name}: each of its classes is a group of its own, so {stays}"
    if limit == 0:
        return f"{alone}; none is ever taken for another"
    return f"{alone}; a --volatility below about {limit:.3g} would join {classes[i]} and {classes[j]}"
