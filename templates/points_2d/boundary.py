"""What the network makes of the plane: its answer and confidence at every place of a grid, as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy
import torch

from diva import decision_boundary, point_scatter

from .table import MOST_PROJECTED

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor, nn

    from diva import Data, Outputs, Split

SIDE = 100  # cells of the grid to a side
MARGIN = 0.12  # of the width of the training points, around them


def draw_points(data: Data) -> Figure:
    """The training points in the plane."""
    x = points_in_plane(data, data.train)
    note = f"{len(x):,} points to learn from" + ("; the rest of the columns is not seen" if _is_slice(data) else "")
    return point_scatter(in_units(data, x), labels_of(data.train), data.facts["classes"], axis_names(data), note)


def draw_boundary(model: nn.Module, data: Data, split: Split, outputs: Outputs) -> Figure:
    """The classes' regions in the plane, and the points of the split that were evaluated."""
    train = points_in_plane(data, data.train)
    low, high = train.min(0), train.max(0)
    room = numpy.where(high > low, (high - low) * MARGIN, 1.0)
    low, high = low - room, high + room
    probabilities = probabilities_in_plane(model, data, low, high)
    points = points_in_plane(data, data.split(split))[: len(outputs["labels"])]
    labels, predictions = outputs["labels"].tolist(), outputs["predictions"].tolist()
    n_right = sum(one == other for one, other in zip(labels, predictions, strict=True))
    (left, bottom), (right, top) = in_units(data, numpy.array([low, high])).tolist()
    title = f"{split}: {n_right:,} of {len(labels):,} points right ({n_right / max(1, len(labels)):.1%})"
    note = (
        "regions in the plane through the mean; points are projected onto it" if _is_slice(data) else "paler: less sure"
    )
    return decision_boundary(
        probabilities, (left, right, bottom, top), in_units(data, points), labels, predictions,
        data.facts["classes"], axis_names(data), title, note,
    )  # fmt: skip


def probabilities_in_plane(model: nn.Module, data: Data, low: numpy.ndarray, high: numpy.ndarray) -> numpy.ndarray:
    """The classes' probabilities at the centres of the grid's cells between two corners, float32 (SIDE, SIDE, C); row 0 at the bottom."""
    steps = (numpy.arange(SIDE) + 0.5) / SIDE
    x, y = (torch.from_numpy(low[k] + steps * (high[k] - low[k])).float() for k in range(2))
    grid = torch.stack([x.repeat(SIDE), y.repeat_interleave(SIDE)], 1)  # (SIDE * SIDE, 2), x runs fastest
    directions = data.constants["plane"]  # (2, D)
    inputs = (grid.to(directions.device)[:, :, None] * directions).sum(1)  # (SIDE * SIDE, D)
    probabilities: Tensor = model(inputs).float().softmax(1)  # over the classes
    return probabilities.cpu().numpy().reshape(SIDE, SIDE, -1)


def points_in_plane(data: Data, split: Any) -> numpy.ndarray:
    """The points of a split along the two directions of the plane, float64 (n, 2)."""
    points = split.tensors[0].double().numpy()  # (n, D)
    directions = data.constants["plane"].cpu().double().numpy()
    return numpy.stack([(points * direction).sum(1) for direction in directions], 1)


def labels_of(split: Any) -> list[int]:
    """The class of each point."""
    labels: list[int] = split.tensors[1].tolist()
    return labels


def in_units(data: Data, points: numpy.ndarray) -> numpy.ndarray:
    """Places of the plane in the units of the table, where its two directions are columns."""
    if _shows_components(data):
        return points
    mean, std = [*data.facts["mean"], 0.0], [*data.facts["std"], 1.0]  # a single column has no second one
    scaled: numpy.ndarray = points * numpy.array(std[:2]) + numpy.array(mean[:2])
    return scaled


def axis_names(data: Data) -> tuple[str, str]:
    """What the two directions of the plane are."""
    if _shows_components(data):
        return "first principal component", "second principal component"
    first, second = [*data.facts["columns"], ""][:2]
    return first, second


def _shows_components(data: Data) -> bool:
    return bool(data.facts["axes"]) or 2 < data.facts["n_features"] <= MOST_PROJECTED


def _is_slice(data: Data) -> bool:
    return int(data.facts["n_features"]) > 2
