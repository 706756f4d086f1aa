"""From rows of a table to what the network sees: chosen columns, normalised, projected; and the plane that pictures show.

Everything is computed from the training split alone, by exactly rounded sums and single operations of float64 in a fixed order:
the numbers are the same on every machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy

from diva import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST_PROJECTED = 128  # features: the work grows with their cube
LARGEST = 1e150  # beyond it squares overflow
NEGLIGIBLE = 1e-12  # of the largest deviation


@dataclass(frozen=True)
class Preparation:
    """What is done to a row: (value - mean) / std per column; with `axes` (2, columns) then the two principal components, normalised."""

    columns: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    axes: tuple[tuple[float, ...], ...] = ()
    axes_std: tuple[float, ...] = ()

    def apply(self, values: numpy.ndarray) -> numpy.ndarray:
        """values: float64 (n, columns). Returns what the network sees, float64 (n, features)."""
        scaled: numpy.ndarray = (values - numpy.array(self.mean)) / numpy.array(self.std)
        return coordinates(scaled, self.axes) / numpy.array(self.axes_std) if self.axes else scaled


def choose_columns(
    splits: Mapping[str, Any], chosen: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, numpy.ndarray]]:
    """The names of the chosen columns (all, where none is named), and each split's values, float64 (n, columns)."""
    there = splits["train"].columns
    for name, points in splits.items():
        if points.columns != there:
            raise DataError(
                f"{name}/points.csv: its columns are {_few(points.columns)}; those of train are {_few(there)}"
            )
    for column in chosen:
        if column not in there:
            raise UsageError(f"--features {column}: the table has no such column; it has {_few(there)}")
    columns = tuple(chosen) or there
    places = [there.index(column) for column in columns]
    values = {name: numpy.array(points.features, numpy.float64)[:, places] for name, points in splits.items()}
    for name, found in values.items():
        if (abs(found) > LARGEST).any():
            raise DataError(
                f"{name}/points.csv: has a number beyond {LARGEST:g}, which cannot be squared; rescale the column"
            )
    return columns, values


def prepare(columns: tuple[str, ...], train: numpy.ndarray, *, project: bool) -> Preparation:
    """The preparation that the training rows (n, columns) ask for. A constant column becomes 0."""
    if project and len(columns) > MOST_PROJECTED:
        raise UsageError(
            f"--projection pca takes up to {MOST_PROJECTED} columns, these are {len(columns)}; choose some with --features"
        )
    mean, std = moments(train)
    scaled = Preparation(columns, mean, std)
    if not project:
        return scaled
    if len(columns) < 2:
        raise UsageError("--projection pca needs two columns or more")
    axes = principal_axes(scaled.apply(train))
    return Preparation(columns, mean, std, axes, deviations_along(scaled.apply(train), axes))


def moments(values: numpy.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each column of (n, columns), from exactly rounded sums; the deviation of a constant is 1.

    The mean of a constant is its value: divided by n, the rounded sum of n equal values may be another number.
    """
    columns = values.T.tolist()
    constant = [min(column) == max(column) for column in columns]
    mean = tuple(c[0] if same else math.fsum(c) / len(c) for c, same in zip(columns, constant, strict=True))
    squares = ((values - numpy.array(mean)) ** 2).T.tolist()
    return mean, tuple(math.sqrt(math.fsum(column) / len(column)) or 1.0 for column in squares)


def deviations_along(values: numpy.ndarray, axes: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Standard deviation of rows (n, D) along each axis; 1 where it is nothing but rounding, as across a line of points."""
    found = moments(coordinates(values, axes))[1]
    return tuple(1.0 if value < NEGLIGIBLE * max(found) else value for value in found)


def coordinates(values: numpy.ndarray, axes: Sequence[Sequence[float]]) -> numpy.ndarray:
    """Coordinates along the axes: the exactly rounded scalar products of rows (n, D) and axes (k, D), float64 (n, k)."""
    products = [(values * numpy.array(axis)).tolist() for axis in axes]
    return numpy.array([[math.fsum(row) for row in rows] for rows in products]).T.reshape(len(values), len(axes))


def principal_axes(values: numpy.ndarray) -> tuple[tuple[float, ...], ...]:
    """The two directions of largest variance of rows (n, D) with mean 0, D >= 2.

    The largest entry of each, the first of equals, is positive. Of equal variances the lower column's comes first.
    Jacobi's rotations, row by row: Golub and Van Loan, Matrix Computations, 8.5.
    """
    n, size = values.shape
    columns = values.T
    matrix = numpy.array([[math.fsum((a * b).tolist()) / n for b in columns] for a in columns])
    vectors = numpy.eye(size)
    for _ in range(60):  # sweeps; six to ten are enough
        turned = [_rotate(matrix, vectors, p, q) for p in range(size - 1) for q in range(p + 1, size)]
        if not any(turned):
            break
    first = sorted(range(size), key=lambda i: (-matrix[i, i], i))[:2]
    found = [vectors[i] if vectors[i][abs(vectors[i]).argmax()] > 0 else -vectors[i] for i in first]
    return tuple(tuple(float(entry) for entry in vector) for vector in found)


def plane(inputs: numpy.ndarray) -> numpy.ndarray:
    """The plane that pictures show of inputs (n, D), as two directions, float64 (2, D): the first principal components when D > 2.

    Of one or two features, and of more than 128, the first two; the second direction of a single feature is 0.
    """
    size = inputs.shape[1]
    return numpy.array(principal_axes(inputs)) if 2 < size <= MOST_PROJECTED else numpy.eye(2, size)


def _rotate(matrix: numpy.ndarray, vectors: numpy.ndarray, p: int, q: int) -> bool:
    """Turn rows and columns p and q of a symmetric matrix, in place, so that its entry (p, q) vanishes; False where it is as good as 0."""
    entry, first, second = float(matrix[p, q]), float(matrix[p, p]), float(matrix[q, q])
    if abs(entry) <= 1e-15 * math.sqrt(abs(first * second)):
        return False
    theta = (second - first) / (2 * entry)
    tangent = math.copysign(1 / (abs(theta) + math.sqrt(theta * theta + 1)), theta)
    cosine = 1 / math.sqrt(tangent * tangent + 1)
    sine = tangent * cosine
    for rows in (matrix, matrix.T, vectors):
        one, other = rows[p].copy(), rows[q].copy()
        rows[p] = cosine * one - sine * other
        rows[q] = sine * one + cosine * other
    return True


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
