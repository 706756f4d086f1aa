"""Which samples are read: a part of a split with its classes in proportion (`--subset`), and classes in equal numbers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy

from diva.errors import UsageError

if TYPE_CHECKING:
    from diva.seeding import Seeds


def part_size(asked: str, n: int) -> int:
    """How many of `n` samples `--subset` asks for: "1000" is a number of samples, "0.1" a share, of at least one sample."""
    if re.fullmatch(r"[0-9]+", asked) and int(asked) >= 1:
        if int(asked) > n:
            raise UsageError(f"--subset {asked}: the training split has {n:,} samples; ask for so many or fewer")
        return int(asked)
    if re.fullmatch(r"0?\.[0-9]+", asked) and float(asked) > 0:
        return max(1, round(float(asked) * n))
    raise UsageError(f"--subset {asked}: allowed are a number of samples, as 1000, or a share below one, as 0.1")


def stratified_order(labels: Any, seeds: Seeds) -> numpy.ndarray:
    """All samples in an order, int64 (n,), of which every beginning has the classes in proportion: a larger part contains a smaller one.

    labels: int (n,). Within a class the order is that of the stream "subset". The classes take turns as seats are given by the
    Sainte-Lague method, the j-th sample of a class of m at (j + 1/2) / m, but each class has one before any has two.
    """
    classes = numpy.unique(numpy.asarray(labels), return_inverse=True)[1].reshape(-1)
    order = seeds.order(len(classes), "subset")
    sizes = numpy.bincount(classes)
    turns = numpy.empty(len(classes))
    for label in range(len(sizes)):
        members = order[classes[order] == label]
        turns[members] = (numpy.arange(len(members)) + 0.5) / sizes[label]
        turns[members[:1]] = 0.0
    chosen: numpy.ndarray = order[numpy.argsort(turns[order], kind="stable")]
    return chosen


def balanced_order(labels: Any, seeds: Seeds, epoch: int) -> numpy.ndarray:
    """The order of an epoch that reads every class as often as the largest one, int64 (classes x samples of the largest,).

    labels: int (n,). The number i + k n is the k-th repetition of sample i, which is augmented afresh. Each sample of a class is read
    equally often or once more; which ones once more, the stream ("balance", epoch, class) says.
    """
    labels = numpy.asarray(labels)
    n = len(labels)
    names, sizes = numpy.unique(labels, return_counts=True)
    parts = []
    for name, size in zip(names.tolist(), sizes.tolist(), strict=True):
        members = numpy.flatnonzero(labels == name)
        rounds, rest = divmod(int(sizes.max()), size)
        parts += [members + k * n for k in range(rounds)]
        parts.append(members[seeds.order(size, "balance", epoch, name)[:rest]] + rounds * n)
    numbers: numpy.ndarray = numpy.concatenate(parts).astype(numpy.int64)
    order: numpy.ndarray = numbers[seeds.order(len(numbers), "shuffle", epoch)]
    return order
