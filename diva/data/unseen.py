"""What a finished run is applied to: images, texts, clips or points, in class folders, in a table, or without labels."""

from __future__ import annotations

import csv
import os
from typing import TYPE_CHECKING, NamedTuple

from diva.data.layouts import SPLITS, clips, describe, detect, read_whole, texts
from diva.data.layouts.listing import files_under, images_under, read_table, relative
from diva.data.layouts.points import TABLE, finite_numbers
from diva.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Found(NamedTuple):
    """Images in the order of their names' bytes; labels: the names of their classes, of several to an image all, () without labels."""

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    labels: tuple[str | tuple[str, ...], ...]


class FoundPoints(NamedTuple):
    """Rows of a table as they stand: the chosen columns' numbers, `points.csv:<row>` (the header is row 1), and their labels if any."""

    features: tuple[tuple[float, ...], ...]
    names: tuple[str, ...]
    labels: tuple[str, ...]


class FoundTexts(NamedTuple):
    """Texts in the order of their names' bytes; labels: the names of their classes, () without labels."""

    texts: tuple[str, ...]
    names: tuple[str, ...]
    labels: tuple[str, ...]


def find_points(folder: Path, columns: Sequence[str]) -> FoundPoints:
    """The rows of `points.csv` in a folder; its columns may stand in any order, and others beside them, `label` among these or not.

    Raises DataError when the table or a column is missing, and for a cell of these columns that is no finite number.
    """
    table = folder / TABLE
    if not table.is_file():
        raise DataError(
            f"{folder}: has no {TABLE}; the run was trained on points, the columns {', '.join(columns)[:200]}"
        )
    header, rows = read_table(table)
    missing = [column for column in columns if column not in header]
    if missing:
        raise DataError(
            f"{table}: has no column {', '.join(missing[:5])}; the run was trained on {', '.join(columns)[:200]}"
        )
    places = [header.index(column) for column in columns]
    numbers = _row_numbers(table)
    features = (finite_numbers(table, k, row, places) for k, row in zip(numbers, rows, strict=True))
    labels = tuple(row[header.index("label")] for row in rows) if "label" in header else ()
    return FoundPoints(tuple(features), tuple(f"{TABLE}:{k}" for k in numbers), labels)


def _row_numbers(table: Path) -> list[int]:
    """The number of each row below the header, as a spreadsheet counts them: blank ones too, one of several lines once."""
    with table.open(encoding="utf-8-sig", newline="") as file:
        return [number for number, row in enumerate(csv.reader(file, strict=True), 1) if row][1:]


class FoundClips(NamedTuple):
    """The files of each clip, in the order of the clips' names' bytes; labels: the names of their classes, () without labels."""

    files: tuple[tuple[Path, ...], ...]
    names: tuple[str, ...]
    labels: tuple[str, ...]


def find_images(folder: Path) -> Found:
    """The images of a folder, whatever classes there are. DataError when there is none.

    `<class>/**/<image>` is labelled by the class's folder; when an image lies in no folder, or `dataset.yaml` says `layout: images`, none
    is labelled.
    Of `images/` and `labels.csv` an image has the names of all its classes, in the order of the table's header.
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
        tuple(tuple(samples.classes[label] for label in samples.targets(i)) for i in order),
    )


def find_texts(folder: Path) -> FoundTexts:
    """The texts of a folder: the rows of `texts.csv`, text,label or text alone, else its .txt files at any depth.

    `<class>/**/<name>.txt` is labelled by the class's folder; when a text lies in no folder, none is labelled. DataError
    when there is none.
    """
    if (folder / texts.TABLE).is_file():
        header, rows = read_table(folder / texts.TABLE)
        if header not in (("text", "label"), ("text",)):
            raise DataError(
                f"{folder / texts.TABLE}: the header must be text,label or text, it is {','.join(header)[:60]}"
            )
        numbers = _row_numbers(folder / texts.TABLE)
        found = [(f"{texts.TABLE}:{k}", row[0], row[-1]) for k, row in zip(numbers, rows, strict=True)]
        labelled = len(header) == 2
    else:
        paths = files_under(folder, texts.SUFFIXES)
        if not paths:
            raise DataError(f"{folder}: holds neither {texts.TABLE} nor a .txt file")
        found = [
            (relative(path, folder), texts.text_of(path), relative(path, folder).partition("/")[0]) for path in paths
        ]
        labelled = all("/" in name for name, _, _ in found)
    found.sort(key=lambda text: os.fsencode(text[0]))
    return FoundTexts(
        tuple(text for _, text, _ in found),
        tuple(name for name, _, _ in found),
        tuple(label for _, _, label in found) if labelled else (),
    )


def find_clips(folder: Path) -> FoundClips:
    """The clips of a folder: `<class>/<clip>/<frames>` or `<class>/<clip>.gif` and the like, or files of several frames without labels."""
    alone = [path for path in images_under(folder) if path.parent == folder and path.suffix.lower() in clips.ANIMATED]
    if alone:
        return FoundClips(tuple((path,) for path in alone), tuple(path.name for path in alone), ())
    samples = read_whole(folder, "clips")
    order = sorted(range(len(samples)), key=lambda i: os.fsencode(samples.name(i)))
    return FoundClips(
        tuple(samples.files(i) for i in order),
        tuple(samples.name(i) for i in order),
        tuple(samples.classes[label] for i in order for label in samples.targets(i)),
    )
