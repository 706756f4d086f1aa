"""Nearest neighbours: the right ones, equally near ones in their order, for any number of rows in memory."""

from __future__ import annotations

import numpy
import pytest
import torch

from diva.learning import neighbours
from diva.learning.neighbours import nearest_neighbours


def test_they_are_the_nearest_by_the_angle_between_features() -> None:
    features = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    indices, distances = nearest_neighbours(features, 7)
    units = features.double().numpy() / numpy.linalg.norm(features.double().numpy(), axis=1, keepdims=True)
    apart = 1 - units @ units.T
    numpy.fill_diagonal(apart, numpy.inf)
    assert (indices == apart.argsort(1)[:, :7]).all()
    assert distances == pytest.approx(numpy.sort(apart, 1)[:, :7], abs=1e-6)  # float32


def test_equally_near_ones_come_in_their_order_and_none_is_its_own() -> None:
    features = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [4.0, 0.0], [0.0, 0.0]])
    indices, distances = nearest_neighbours(features, 4)
    assert indices.tolist() == [[1, 3, 2, 4], [0, 3, 2, 4], [0, 1, 3, 4], [0, 1, 2, 4], [0, 1, 2, 3]]
    assert distances[0].tolist() == [0, 0, 1, 1]
    assert distances[4].tolist() == [1, 1, 1, 1]  # zeros point nowhere


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features = torch.randint(0, 3, (40, 3), generator=torch.Generator().manual_seed(0)).float()
    features[7] = numpy.nan
    whole = nearest_neighbours(features, 5)
    monkeypatch.setattr(neighbours, "ROWS", 7)
    parts = nearest_neighbours(features, 5)
    assert (whole[0] == parts[0]).all() and (whole[1] == parts[1]).all()
