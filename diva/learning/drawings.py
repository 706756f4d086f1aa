"""What a task may draw besides matplotlib figures and Markdown; plain facts, rendered where the run is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy
    from matplotlib.figure import Figure
    from torch import Tensor


@dataclass(frozen=True)
class Picture:
    """An image in its full size: uint8 (H, W) or (H, W, 3). A PNG."""

    pixels: numpy.ndarray


@dataclass(frozen=True)
class Animation:
    """Frames of one size, uint8 (H, W, 3) each, shown one after the other for ever. An animated GIF, also in TensorBoard."""

    frames: Sequence[numpy.ndarray]
    seconds_per_frame: float = 0.2


@dataclass(frozen=True)
class Embedding:
    """Points in space for TensorBoard's projector: vectors (n, D), a label each, and small images, uint8 (H, W) or (H, W, 3) of one size.

    `figures/<name>.npz` holds vectors and labels.
    """

    vectors: Tensor
    labels: Sequence[str]
    thumbnails: Sequence[numpy.ndarray] | None = None


@dataclass(frozen=True)
class Histogram:
    """How the elements of a tensor of any shape are distributed; in TensorBoard alone."""

    values: Tensor


@dataclass(frozen=True)
class Table:
    """Rows under headers. A CSV in `figures/`, a table in TensorBoard's texts (the first hundred rows)."""

    headers: Sequence[str]
    rows: Sequence[Sequence[Any]]


Drawing: TypeAlias = "Figure | str | Picture | Animation | Embedding | Histogram | Table"
