"""What a finished run is applied to: images in class folders, with several labels or without labels, at any depth; points of a table."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from diva.data.layouts import SPLITS, describe, detect, read_whole
from diva.data.layouts.listing import images_under, read_table, relative
from diva.data.layouts.points import TABLE, finite_numbers
from diva.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SEVERAL = "|"  # between the names of several labels


class Found(NamedTuple):
    """Images in the order of their names' bytes; labels: the names of their classes, () without labels."""

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    labels: tuple[str, ...]


class FoundPoints(NamedTuple):
    """Rows of a table as they stand: the chosen columns' numbers, `points.csv:<row>` (the header is row 1), and their labels if any."""

    features: tuple[tuple[float, ...], ...]
    names: tuple[str, ...]
    labels: tuple[str, ...]


def find_points(folder: Path, columns: Sequence[str]) -> FoundPoints:
    """The rows of `points.csv` in a folder; its columns may stand in any order, and others beside them, `label` among these or not.

    Raises DataError when the table or a column is missing, and for a cell of these columns that is no finite number.
    """
    table = folder / TABLE
    header, rows = read_table(table)
    missing = [column for column in columns if column not in header]
    if missing:
        raise DataError(
            f"{table}: has no column {', '.join(missing[:5])}; the run was trained on {', '.join(columns)[:200]}"
        )
    places = [header.index(column) for column in columns]
    features = (finite_numbers(table, k, row, places) for k, row in enumerate(rows, 2))
    labels = tuple(row[header.index("label")] for row in rows) if "label" in header else ()
    return FoundPoints(tuple(features), tuple(f"{TABLE}:{k}" for k in range(2, len(rows) + 2)), labels)


def find_images(folder: Path) -> Found:
    """The images of a folder, whatever classes there are. DataError when there is none.

    `<class>/**/<image>` is labelled by the class's folder; when an image lies in no folder, or `dataset.yaml` says `layout: images`, none
    is labelled.
    Of `images/` and `labels.csv` an image has the names of all its classes, joined by "|".
    """
    said = describe(folder).layout or (describe(folder.parent).layout if folder.name in SPLITS else None)
    layout = said or detect(folder)
    if layout == "multi label":
        return _several_labels(folder)
    if layout == "pairs":
        raise DataError(
            f"{folder}: holds data/ and gt/, pairs of images; give the folder of the images: {folder / 'data'}"
        )
    paths = images_under(folder)
    if not paths:
        raise DataError(f"{folder}: holds no image")
    names = [relative(path, folder) for path in paths]
    order = sorted(range(len(names)), key=lambda i: os.fsencode(names[i]))
    labelled = layout != "images" and all("/" in name for name in names)
    return Found(
        tuple(paths[i] for i in order),
        tuple(names[i] for i in order),
        tuple(names[i].partition("/")[0] for i in order) if labelled else (),
    )


def _several_labels(folder: Path) -> Found:
    samples = read_whole(folder, "multi label")
    order = sorted(range(len(samples)), key=lambda i: os.fsencode(samples.name(i)))
    return Found(
        tuple(samples.files(i)[0] for i in order),
        tuple(samples.name(i) for i in order),
        tuple(SEVERAL.join(samples.classes[label] for label in samples.targets(i)) for i in order),
    )
