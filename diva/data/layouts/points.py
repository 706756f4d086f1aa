"""Points: `points.csv`, a row per sample, a column per feature, the last column the label."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diva.data.layouts.listing import class_number, read_table
from diva.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

TABLE = "points.csv"


@dataclass(frozen=True)
class Points:
    """The points of one split, in the order of the table: `features[i]` are D numbers, `labels[i]` a class number."""

    features: tuple[tuple[float, ...], ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    columns: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """`points.csv:<row>`; the header is row 1."""
        return f"{TABLE}:{index + 2}"

    def files(self, index: int) -> tuple[Path, ...]:
        """None: a point is a row."""
        return ()

    def targets(self, index: int) -> tuple[int, ...]:
        """Its class."""
        return (self.labels[index],)


def read(folder: Path, classes: tuple[str, ...] | None = None) -> Points:
    """The rows of `points.csv`; classes are those of train, else the labels found, in the order of their names (numbers by value).

    Raises DataError for a last column that is not `label`, a cell that is no finite number, and a label that train does not have.
    """
    table = folder / TABLE
    header, rows = read_table(table)
    if header[-1] != "label" or len(header) < 2:
        raise DataError(f"{table}: the header must be <feature>,...,label, it is {','.join(header)[:60]}")
    known = classes if classes is not None else tuple(sorted({row[-1] for row in rows}, key=natural))
    numbers = class_number(table, known)
    features: list[tuple[float, ...]] = []
    for number, row in enumerate(rows, 2):
        values = finite_numbers(table, number, row, range(len(row) - 1))
        if row[-1] not in numbers:
            raise DataError(f"{table}: row {number} has the label {row[-1]!r}, which train does not have")
        features.append(values)
    return Points(tuple(features), tuple(numbers[row[-1]] for row in rows), known, header[:-1])


def finite_numbers(table: Path, number: int, row: tuple[str, ...], places: Sequence[int]) -> tuple[float, ...]:
    """The cells at some places of a row as numbers; DataError when one is none, or not finite."""
    try:
        values = tuple(float(row[place]) for place in places)
    except ValueError:
        values = (math.nan,)
    if not all(map(math.isfinite, values)):
        raise DataError(f"{table}: row {number} has a cell that is no finite number: {','.join(row)[:60]}")
    return values


def natural(label: str) -> tuple[int, float, bytes]:
    """Order of labels: whole numbers by value (01 just before 1: no two are equal), then names by their bytes."""
    return (0, int(label), label.encode()) if label.isdecimal() and label.isascii() else (1, 0, label.encode())
