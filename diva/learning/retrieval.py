"""Retrieval: which items of a gallery are nearest to a query, and how many of them are right; the same numbers on every machine.

Vectors are rounded to multiples of a power of two before distances are taken. All products and sums are then whole numbers below
2 ** 53, which float64 holds exactly: a BLAS may add them in any order, on any processor, and give the same distances.

Items at equal distance have no order. Every score is its mean over all orders of such items (McSherry and Najork 2008, Computing
Information Retrieval Performance Measures Efficiently in the Presence of Tied Scores), so that a model that puts everything in one
place scores as if it guessed. A query without a relevant item has no score: it is NaN, and left out of every mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy

from diva.learning.ranking import mean_over_classes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike

Distance = Literal["cosine", "euclidean", "bray_curtis"]
_BITS = 25  # of a coordinate: squared lengths are below 2 ** 51, squared distances below 2 ** 53
_ENTRIES = 2**20  # distances that exist at a time


@dataclass(frozen=True)
class Retrieval:
    """The scores of each query, float64 (Q,), NaN for a query without a relevant item; and their means.

    k: how many items count in `average_precision_at_k`. hits: for each K, whether a relevant item is among the K nearest: 1 or 0, a
    share where a tie decides.
    """

    labels: numpy.ndarray
    k: int
    average_precision: numpy.ndarray
    average_precision_at_k: numpy.ndarray
    precision_at_1: numpy.ndarray
    hits: Mapping[int, numpy.ndarray]

    @property
    def n_queries(self) -> int:
        """Queries that have a relevant item."""
        return int((~numpy.isnan(self.average_precision)).sum())

    def metrics(self) -> dict[str, float]:
        """Means over the queries: `mAP`, `mAP_at_<k>`, `precision_at_1`, `recall_at_<K>`; NaN without any query."""
        return {
            "mAP": mean_over_classes(self.average_precision),
            f"mAP_at_{self.k}": mean_over_classes(self.average_precision_at_k),
            "precision_at_1": mean_over_classes(self.precision_at_1),
            **{f"recall_at_{k}": mean_over_classes(values) for k, values in self.hits.items()},
        }

    def class_report(self, class_names: Sequence[str]) -> str:
        """A Markdown table of the mean average precision and precision at 1 per class, and over all queries."""
        scored = ~numpy.isnan(self.average_precision)
        lines = ["| class | mAP | precision at 1 | queries |", "|---|---:|---:|---:|"]
        for name, chosen in [
            *((name, self.labels == label) for label, name in enumerate(class_names)),
            ("all", numpy.ones(len(self.labels), bool)),
        ]:
            ap, first = (mean_over_classes(values[chosen]) for values in (self.average_precision, self.precision_at_1))
            n_queries = int((chosen & scored).sum())
            lines.append(
                f"| {str(name).replace('|', chr(92) + '|')} | {ap:.4f} | {first:.4f} | {n_queries} |"
                if n_queries
                else f"| {str(name).replace('|', chr(92) + '|')} | | | 0 |"
            )
        return "\n".join(lines)


def pairwise_distances(
    queries: ArrayLike, gallery: ArrayLike | None = None, distance: Distance = "cosine"
) -> numpy.ndarray:
    """The distance of each query to each item, float64 (Q, N); `gallery` None: of all pairs of queries.

    queries: (Q, D), gallery: (N, D), numbers. cosine: 1 - cos, half the squared distance of the vectors at length 1; 1 where one of them
    is 0. euclidean: the length of the difference. bray_curtis: sum |q - g| / sum (q + g) of vectors without negative numbers, 0 where
    both are 0. Vectors that are not finite are infinitely far from all. Coordinates count up to 2 ** -25 of the longest vector's length
    (bray_curtis: of the largest coordinate). Source of the last: Bray and Curtis 1957; for word images Sudholt and Fink 2016.
    """
    blocks = [block for _, block in _blocks(queries, gallery, distance)]
    return numpy.concatenate(blocks)


def nearest_neighbours(
    queries: ArrayLike, gallery: ArrayLike | None = None, k: int = 10, distance: Distance = "cosine"
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """The numbers of the `k` nearest items of each query, int64 (Q, K), and their distances, float64 (Q, K); nearest first.

    Of items at equal distance the one with the lower number comes first. `gallery` None: the other queries. K is `k`, or as many items
    as there are.
    """
    numbers, distances = [], []
    for start, block in _blocks(queries, gallery, distance):
        if gallery is None:
            block[numpy.arange(len(block)), start + numpy.arange(len(block))] = numpy.nan  # sorted behind infinity
        order = numpy.argsort(block, axis=1, kind="stable")[:, : min(k, block.shape[1] - (gallery is None))]
        numbers.append(order)
        distances.append(numpy.take_along_axis(block, order, 1))
    return numpy.concatenate(numbers), numpy.concatenate(distances)


def score_retrieval(
    queries: ArrayLike,
    labels: ArrayLike,
    gallery: ArrayLike | None = None,
    gallery_labels: ArrayLike | None = None,
    *,
    distance: Distance = "cosine",
    k: int = 10,
    recall_at: Sequence[int] = (1, 5, 10),
) -> Retrieval:
    """Score the search for items of a query's class; `gallery` None: among the other queries, so that no query finds itself.

    queries: (Q, D) with labels (Q,), int; gallery: (N, D) with gallery_labels (N,). Memory is constant: a block of queries at a time.
    average_precision: mean over the relevant items of the precision at their place, as scikit-learn's `average_precision_score` where
    no two distances are equal. average_precision_at_k: the same sum over the first k places, divided by the relevant items there can be
    among them. precision_at_1: whether the nearest item is relevant. hits: recall at K as in metric learning (Jegou et al. 2011):
    whether any of the K nearest is.
    """
    return _score(_blocks(queries, gallery, distance), labels, gallery_labels, gallery is None, k, recall_at)


def _score(
    blocks: Iterator[tuple[int, numpy.ndarray]],
    labels: ArrayLike,
    gallery_labels: ArrayLike | None,
    among_themselves: bool,
    k: int,
    recall_at: Sequence[int],
) -> Retrieval:
    own = numpy.asarray(labels)
    others = own if gallery_labels is None else numpy.asarray(gallery_labels)
    if min([k, *recall_at]) < 1:
        raise ValueError(f"retrieval: k counts items, at least 1; got {k} and {tuple(recall_at)}")
    parts: list[dict[str, numpy.ndarray]] = []
    for start, block in blocks:
        relevant = own[start : start + len(block), None] == others[None, :]
        if relevant.shape != block.shape:
            raise ValueError(f"retrieval: {len(own)} and {len(others)} labels do not fit distances {block.shape}")
        if among_themselves:
            kept = numpy.arange(len(others)) != (start + numpy.arange(len(block)))[:, None]
            shape = len(block), max(0, len(others) - 1)
            block, relevant = block[kept].reshape(shape), relevant[kept].reshape(shape)
        parts.append(_score_block(block, relevant, k, recall_at))
    names = parts[0] if parts else {}
    joined = {name: numpy.concatenate([part[name] for part in parts]) for name in names}
    empty = numpy.zeros(0)
    return Retrieval(
        own,
        k,
        joined.get("ap", empty),
        joined.get("ap_at_k", empty),
        joined.get("first", empty),
        {one: joined.get(f"hit_{one}", empty) for one in recall_at},
    )


def _score_block(distances: numpy.ndarray, relevant: numpy.ndarray, k: int, recall_at: Sequence[int]) -> dict[str, Any]:
    """distances: float64 (B, N); relevant: bool (B, N). Each score float64 (B,), NaN in rows without a relevant item."""
    n_relevant = relevant.sum(1)
    places = _Places.ranked(distances, relevant)
    gains = places.gains()
    ap, ap_at_k, first = (numpy.full(len(distances), numpy.nan) for _ in range(3))
    for row in numpy.flatnonzero(n_relevant):
        ap[row] = math.fsum(gains[row, gains[row] > 0].tolist()) / int(n_relevant[row])
        ap_at_k[row] = math.fsum(gains[row, :k].tolist()) / min(k, int(n_relevant[row]))
        first[row] = int(places.inside[row, 0]) / int(places.size[row, 0])
    hits = {f"hit_{one}": numpy.where(n_relevant > 0, places.hit(one), numpy.nan) for one in recall_at}
    return {"ap": ap, "ap_at_k": ap_at_k, "first": first, **hits}


@dataclass(frozen=True)
class _Places:
    """The places 1 .. N of a ranking, int64 (B, N) each, and the group of equal distances that each place belongs to."""

    within: numpy.ndarray  # which place of its group, 1 the first
    size: numpy.ndarray  # places of the group
    before: numpy.ndarray  # relevant items before the group
    inside: numpy.ndarray  # relevant items in the group

    @classmethod
    def ranked(cls, distances: numpy.ndarray, relevant: numpy.ndarray) -> _Places:
        order = numpy.argsort(distances, axis=1, kind="stable")
        values = numpy.take_along_axis(distances, order, 1)
        n = values.shape[1]
        place = numpy.arange(n)
        differs = values[:, 1:] != values[:, :-1]
        edge = numpy.ones((len(values), min(1, n)), bool)
        first = numpy.maximum.accumulate(numpy.where(numpy.hstack([edge, differs]), place, 0), axis=1)
        ends = numpy.where(numpy.hstack([differs, edge]), place, n)
        last = numpy.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
        found = numpy.take_along_axis(relevant, order, 1).astype(numpy.int64)
        so_far = found.cumsum(1)
        before = numpy.take_along_axis(so_far - found, first, 1)
        inside = numpy.take_along_axis(so_far, last, 1) - before
        return cls(place - first + 1, last - first + 1, before, inside)

    def gains(self) -> numpy.ndarray:
        """The mean over all orders of equals of (relevant here) x (precision up to here), float64 (B, N)."""
        share = self.inside / self.size
        others = (self.within - 1) * (self.inside - 1) / numpy.maximum(self.size - 1, 1)
        gains: numpy.ndarray = share * (self.before + 1 + others) / numpy.arange(1, share.shape[1] + 1)
        return gains

    def hit(self, k: int) -> numpy.ndarray:
        """The probability of a relevant item among the first k places, float64 (B,)."""
        at = min(k, self.size.shape[1]) - 1
        if at < 0:
            return numpy.zeros(len(self.size))
        rows = zip(*(part[:, at].tolist() for part in (self.within, self.size, self.before, self.inside)), strict=True)
        return numpy.array([
            1.0 if before else 1 - math.comb(size - inside, drawn) / math.comb(size, drawn)
            for drawn, size, before, inside in rows
        ])  # fmt: skip


def _blocks(queries: ArrayLike, gallery: ArrayLike | None, distance: Distance) -> Iterator[tuple[int, numpy.ndarray]]:
    """(first query, distances float64 (B, N)) for one block of queries after the other."""
    left = _matrix(queries)
    right = left if gallery is None else _matrix(gallery)
    if left.shape[1] != right.shape[1]:
        raise ValueError(f"distances: queries have {left.shape[1]} coordinates, the gallery {right.shape[1]}")
    finite = numpy.isfinite(left).all(1), numpy.isfinite(right).all(1)
    left, right = (numpy.where(known[:, None], rows, 0.0) for known, rows in zip(finite, (left, right), strict=True))
    between = {"cosine": _cosine, "euclidean": _euclidean, "bray_curtis": _bray_curtis}[distance](left, right)
    rows = max(1, _ENTRIES // max(1, len(right)))
    for start in range(0, max(1, len(left)), rows):
        block = between(slice(start, start + rows))
        block[~finite[0][start : start + rows]] = numpy.inf
        block[:, ~finite[1]] = numpy.inf
        yield start, block


def _matrix(vectors: ArrayLike) -> numpy.ndarray:
    matrix = numpy.asarray(vectors).astype(numpy.float64)
    if matrix.ndim != 2:
        raise ValueError(f"distances: expected vectors (n, D), got {matrix.shape}")
    return matrix


def _scaled(*matrices: numpy.ndarray) -> tuple[numpy.ndarray, ...]:
    """Divided by the power of two that brings the largest number of all below 1: exact, and squares cannot overflow."""
    largest = max((float(numpy.abs(matrix).max()) for matrix in matrices if matrix.size), default=0.0)
    return tuple(numpy.ldexp(matrix, -math.frexp(largest)[1]) for matrix in matrices)


def _lengths(matrix: numpy.ndarray) -> numpy.ndarray:
    """Of each row, float64 (n,): squares added one coordinate after the other, each operation rounded by itself."""
    total = numpy.zeros(len(matrix))
    for column in matrix.T:
        total += column * column
    return numpy.sqrt(total)


def _squared(left: numpy.ndarray, right: numpy.ndarray) -> Callable[[slice], numpy.ndarray]:
    """Squared distances of rows no longer than 1, in units of 2 ** -_BITS: whole numbers, hence exact in any order."""
    left, right = (numpy.rint(numpy.ldexp(matrix, _BITS)) for matrix in (left, right))
    of_left, of_right = ((matrix * matrix).sum(1) for matrix in (left, right))
    transposed = right.T

    def between(rows: slice) -> numpy.ndarray:
        squares = of_left[rows, None] + of_right - 2 * (left[rows] @ transposed)
        scaled: numpy.ndarray = numpy.ldexp(squares, -2 * _BITS)
        return scaled

    return between


def _cosine(left: numpy.ndarray, right: numpy.ndarray) -> Callable[[slice], numpy.ndarray]:
    lengths = []
    rows = []
    for matrix in (left, right):
        exponents = numpy.frexp(numpy.abs(matrix).max(1, initial=0.0))[1]
        scaled = numpy.ldexp(matrix, -exponents[:, None])
        length = _lengths(scaled)
        lengths.append(length)
        rows.append(scaled / numpy.where(length > 0, length, 1.0)[:, None])
    squared = _squared(*rows)

    def between(chosen: slice) -> numpy.ndarray:
        halves: numpy.ndarray = squared(chosen) / 2
        halves[lengths[0][chosen] == 0] = 1.0
        halves[:, lengths[1] == 0] = 1.0
        return halves

    return between


def _euclidean(left: numpy.ndarray, right: numpy.ndarray) -> Callable[[slice], numpy.ndarray]:
    scaled = _scaled(left, right)
    longest = max((float(_lengths(matrix).max()) for matrix in scaled if len(matrix)), default=0.0)
    exponent = math.frexp(longest)[1]
    squared = _squared(*(numpy.ldexp(matrix, -exponent) for matrix in scaled))
    largest = max((float(numpy.abs(matrix).max()) for matrix in (left, right) if matrix.size), default=0.0)
    unit = math.frexp(largest)[1] + exponent
    return lambda rows: numpy.ldexp(numpy.sqrt(squared(rows)), unit)


def _bray_curtis(left: numpy.ndarray, right: numpy.ndarray) -> Callable[[slice], numpy.ndarray]:
    if (left < 0).any() or (right < 0).any():
        raise ValueError("bray_curtis: compares amounts, and some coordinates are negative")
    a, b = (numpy.rint(numpy.ldexp(matrix, _BITS)) for matrix in _scaled(left, right))
    of_a, of_b = a.sum(1), b.sum(1)
    from scipy.spatial.distance import cdist

    def between(rows: slice) -> numpy.ndarray:
        totals = of_a[rows, None] + of_b
        shares: numpy.ndarray = cdist(a[rows], b, "cityblock") / numpy.where(totals > 0, totals, 1.0)
        return shares

    return between
