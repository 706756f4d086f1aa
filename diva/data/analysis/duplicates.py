"""Duplicates: samples that occur twice within a split, or in two splits, where they leak what is to be predicted.

Exact ones have the same digest. Candidates look alike: two difference hashes of 64 bits each that differ in a few bits; they are found
without comparing each image with each, by sorting.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Hashes = NDArray[numpy.uint64]
    Places = NDArray[numpy.int64]

MOST_DIFFERENT = 7  # bits of 128; so at least one of the two hashes differs in at most 3
PLAIN = 12  # an image with fewer set bits is next to plain: a blank page is like any other
BANDS = ((0, 11), (11, 11), (22, 11), (33, 11), (44, 10), (54, 10))  # first bit, number of bits
EQUAL_BANDS = 3  # 3 bits lie in at most 3 of 6 bands: the other 3 are equal
WINDOW = 32  # where very many hashes share their bands, each is compared with the next so many
MOST_CANDIDATES = 10_000
LEAST_CORRELATION = 99  # hundredths


def exact_groups(digests: NDArray[numpy.uint8], use: NDArray[numpy.bool_]) -> list[list[int]]:
    """The groups of two and more samples with the same digest (N, 32), among those to be used (N,); all in ascending order."""
    chosen = numpy.flatnonzero(use)
    words = numpy.ascontiguousarray(digests[chosen, :8]).view(numpy.uint64)[:, 0]  # 8 bytes find, 32 decide
    order = numpy.argsort(words, kind="stable")
    words = words[order]
    again = numpy.zeros(len(words) + 1, numpy.bool_)
    again[1:-1] = words[1:] == words[:-1]
    groups: dict[bytes, list[int]] = {}
    for index in numpy.sort(chosen[order[again[:-1] | again[1:]]]).tolist():
        groups.setdefault(digests[index].tobytes(), []).append(index)
    return sorted(group for group in groups.values() if len(group) > 1)


def similar_pairs(rows: Hashes, columns: Hashes, use: NDArray[numpy.bool_]) -> list[tuple[int, int, int]]:
    """(bits that differ, one, another) for pairs that look alike, the most alike first; at most 10,000.

    Of images with the same hashes, each is paired with the first. Images that are next to plain are left out.
    """
    set_bits = numpy.bitwise_count(rows).astype(numpy.int16) + numpy.bitwise_count(columns)
    chosen = numpy.flatnonzero(use & (set_bits >= PLAIN))
    order = chosen[numpy.lexsort((columns[chosen], rows[chosen]))]  # stable: the first of the same hashes comes first
    rows, columns = rows[order], columns[order]
    new = numpy.r_[True, (rows[1:] != rows[:-1]) | (columns[1:] != columns[:-1])][: len(rows)]
    first = order[new]  # who stands for each pair of hashes
    others = numpy.flatnonzero(~new)
    stands = first[numpy.cumsum(new)[others] - 1]
    found = {(0, int(a), int(b)) for a, b in zip(stands, order[others], strict=True)}
    rows, columns = rows[new], columns[new]
    pairs = _neighbours(rows, columns)
    one, two = _places(pairs)
    for bits, a, b in zip(_distance(rows, columns, one, two), first[one], first[two], strict=True):
        found.add((int(bits), int(min(a, b)), int(max(a, b))))
    return sorted(found)[:MOST_CANDIDATES]


def confirmed(pairs: list[tuple[int, int, int]], grids: NDArray[numpy.uint8]) -> list[tuple[int, int, int]]:
    """The pairs whose grids (N, grey levels) correlate by at least 0.99: with few pixels or strokes, equal hashes say little."""
    n = grids.shape[1]

    def product(one: int, two: int) -> int:
        return int((grids[one].astype(numpy.int64) * grids[two]).sum())

    def correlate(one: int, two: int) -> bool:
        sums = int(grids[one].sum(dtype=numpy.int64)), int(grids[two].sum(dtype=numpy.int64))
        shared = n * product(one, two) - sums[0] * sums[1]
        spreads = (n * product(one, one) - sums[0] ** 2) * (n * product(two, two) - sums[1] ** 2)
        return bool(shared > 0 and 10_000 * shared * shared >= LEAST_CORRELATION**2 * spreads)

    return [pair for pair in pairs if correlate(pair[1], pair[2])]


def _neighbours(rows: Hashes, columns: Hashes) -> Hashes:
    """Pairs of places (the lower one in the upper 32 bits) whose hashes differ in few bits, in order; of very many, the most alike."""
    pairs, most_different = numpy.zeros(0, numpy.uint64), MOST_DIFFERENT
    portions: list[Hashes] = []
    for one, two in _compared(rows, columns):
        near = _distance(rows, columns, one, two) <= most_different
        lower, upper = numpy.minimum(one, two)[near], numpy.maximum(one, two)[near]
        portions.append((lower.astype(numpy.uint64) << numpy.uint64(32)) | upper.astype(numpy.uint64))
        if sum(map(len, portions)) > 2 * MOST_CANDIDATES:
            pairs = numpy.unique(numpy.concatenate([pairs, *portions]))
            portions = []
            if len(pairs) > 2 * MOST_CANDIDATES:
                bits = _distance(rows, columns, *_places(pairs))
                pairs = numpy.sort(pairs[numpy.argsort(bits, kind="stable")[:MOST_CANDIDATES]])
                most_different = int(_distance(rows, columns, *_places(pairs)).max()) - 1
    return numpy.unique(numpy.concatenate([pairs, *portions]))


def _compared(rows: Hashes, columns: Hashes) -> Iterator[tuple[Places, Places]]:
    """Every pair of places that has three bands of one hash in common, some more than once, in portions."""
    for hashes in (rows, columns):
        for bands in combinations(BANDS, EQUAL_BANDS):
            mask = numpy.uint64(sum(((1 << n) - 1) << start for start, n in bands))
            keys = hashes & mask
            order = numpy.argsort(keys, kind="stable")
            keys = keys[order]
            for step in range(1, min(WINDOW, len(keys) - 1) + 1):
                places = numpy.flatnonzero(keys[step:] == keys[:-step])
                if not len(places):
                    break
                yield order[places], order[places + step]


def _places(pairs: Hashes) -> tuple[Places, Places]:
    return (pairs >> numpy.uint64(32)).astype(numpy.int64), (pairs & numpy.uint64(0xFFFFFFFF)).astype(numpy.int64)


def _distance(rows: Hashes, columns: Hashes, one: Places, two: Places) -> Places:
    across = numpy.bitwise_count(rows[one] ^ rows[two]).astype(numpy.int64)
    return numpy.asarray(across + numpy.bitwise_count(columns[one] ^ columns[two]))
