"""Nearest neighbours among features, by cosine distance; the same on every machine under exact, ties by the lower index."""

from __future__ import annotations

import numpy
import torch

ROWS = 512  # of distances that are in memory at once


def nearest_neighbours(features: torch.Tensor, k: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    """The `k` nearest other samples of each sample, the nearest first, of equally near ones that of the lower index.

    features: float32 (n, D); k < n. Returns indices int64 (n, k) and cosine distances float32 (n, k), in [0, 2]: 1 less the product of the
    vectors divided by their lengths; a vector of zeros is at distance 1 from all others.
    """
    lengths = (features * features).sum(1, keepdim=True).sqrt()  # (n, 1)
    units = features / torch.where(lengths > 0, lengths, 1.0)
    n = len(units)
    indices, distances = numpy.empty((n, k), numpy.int64), numpy.empty((n, k), numpy.float32)
    for start in range(0, n, ROWS):
        block = (1 - units[start : start + ROWS] @ units.T).clamp(0, 2).cpu().numpy()  # (ROWS, n)
        block[numpy.isnan(block)] = 2  # of features that are not finite
        for row, values in enumerate(block):
            values[start + row] = numpy.inf  # no sample is its own neighbour
            limit = numpy.partition(values, k - 1)[k - 1]
            near = numpy.flatnonzero(values <= limit)
            near = near[numpy.argsort(values[near], kind="stable")][:k]
            indices[start + row], distances[start + row] = near, values[near]
    return indices, distances
