"""Small tables of measurements that come with scikit-learn, as points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from diva.data.bundled.rows import deal_rows
from diva.data.bundled.rows import write_table as write_rows

if TYPE_CHECKING:
    from pathlib import Path

TABLES: Final = ("breast_cancer", "iris", "wine")


def write_table(name: str, folder: Path) -> None:
    """`<split>/points.csv`: a column per measurement, then the class by its name; dealt 60, 20, 20 % within each class.

    Numbers are written with as many digits as tell them apart, which is the same on every machine.
    """
    from sklearn import datasets

    loaded = getattr(datasets, f"load_{name}")()
    labels = [str(loaded.target_names[label]) for label in loaded.target]
    rows = [(*(repr(float(value)) for value in row), label) for row, label in zip(loaded.data, labels, strict=True)]
    write_rows(folder, (*loaded.feature_names, "label"), rows, deal_rows(name, labels), "points.csv")
