"""Items: the samples of a data set with what is needed to put each of them elsewhere: its files, or its row of a table."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from diva.data import layouts
from diva.data.layouts import Layout, multi_label, points, texts
from diva.data.layouts.listing import read_table
from diva.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping
    from pathlib import Path

    from diva.data.layouts import Samples

TABLES: dict[Layout, str] = {"points": points.TABLE, "texts": texts.TABLE}


@dataclass(frozen=True, slots=True)
class Item:
    """A sample: its name, the numbers of its classes, and either its files or its cells.

    files: for each its place in a split's folder, and where it is now, relative to the data set's folder.
    """

    name: str
    targets: tuple[int, ...]
    files: tuple[tuple[str, str], ...] = ()
    row: tuple[str, ...] | None = None

    @property
    def identity(self) -> str:
        """What names it whatever else there is: its name; the content of a row, whose number changes with the rows before it."""
        return self.name if self.row is None else table_of([self.row])


@dataclass(frozen=True)
class Whole:
    """All samples of a data set; `header` is that of its table, () without one; `kept` are the splits it had."""

    folder: Path
    layout: Layout
    classes: tuple[str, ...]
    items: tuple[Item, ...]
    header: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


def read_items(folder: Path, layout: str | None = None, merge: bool = False) -> Whole:
    """The samples of a folder, in the order of their names' bytes (rows of a table: as they stand).

    A folder that is split is refused unless `merge`: then a sample's name begins with its split, and so does the name of its file.
    """
    found = layouts.layout_of(folder, layout)
    if not layouts.is_split(folder):
        if merge:
            raise UsageError(f"--merge: {folder} has no train/, so there is nothing to merge")
        samples = layouts.read_whole(folder, found)
        items, header = items_of(samples, folder, found)
        return Whole(folder, found, samples.classes, tuple(items), header)
    if not merge:
        raise DataError(
            f"{folder}: is split already, it has train/. To divide all its samples anew, give --merge; "
            f"to divide its training samples alone, split {folder / 'train'}"
        )
    splits = layouts.read_splits(folder, found, required=("train",))
    merged: list[Item] = []
    header = ()
    for split, samples in splits.items():
        items, header_here = items_of(samples, folder / split, found, f"{split}/")
        if header and header != header_here:
            raise DataError(
                f"{folder / split}: its columns {','.join(header_here)[:60]} are not train's, {','.join(header)[:60]}"
            )
        header = header_here
        merged += [_carried(item, split, found) for item in items]
    if not header:
        merged.sort(key=lambda item: os.fsencode(item.name))
    return Whole(folder, found, splits["train"].classes, tuple(merged), header, tuple(splits))


def items_of(samples: Samples, folder: Path, layout: Layout, prefix: str = "") -> tuple[list[Item], tuple[str, ...]]:
    """The samples of one split's folder as items, and the header of their table, () without one.

    prefix: where the split's folder is in the data set's, `train/` or "".
    """
    table = folder / TABLES[layout] if layout in TABLES else None
    if table is not None and table.is_file():
        header, rows = read_table(table)
        return [Item(samples.name(i), samples.targets(i), (), rows[i]) for i in range(len(samples))], header
    top = str(folder)
    start = 0 if top == "." else len(os.path.join(top, ""))  # noqa: PTH118 - text, not Path objects: a tenth of the time
    items = []
    for i in range(len(samples)):
        places = [str(path)[start:] for path in samples.files(i)]
        items.append(Item(samples.name(i), samples.targets(i), tuple((place, prefix + place) for place in places)))
    return sorted(items, key=lambda item: os.fsencode(item.name)), ()


def tables(whole: Whole, items: Iterable[Item]) -> dict[str, bytes]:
    """The tables that belong to some of the samples, by name: none, or one with their rows in the order of the whole."""
    if whole.layout == "multi label":
        rows = [
            (item.files[0][0].partition("/")[2], *("01"[c in item.targets] for c in range(len(whole.classes))))
            for item in items
        ]
        return {multi_label.TABLE: table_of([("image", *whole.classes), *rows]).encode()}
    if whole.header:
        return {TABLES[whole.layout]: table_of([whole.header, *(item.row or () for item in items)]).encode()}
    return {}


def contents_of(whole: Whole, digests: Mapping[str, str]) -> dict[str, str]:
    """The digest of each sample's content by its name: equal where the files (of a pair, the images) or the rows are the same bytes.

    digests: SHA-256 by path, as the data set's footprint has them.
    """
    found = {}
    for item in whole.items:
        files = item.files[:1] if whole.layout == "pairs" else item.files
        told = (digest_of(source, whole.folder, digests) for _, source in files)
        found[item.name] = " ".join(told) if item.row is None else item.identity
    return found


def digest_of(source: str, folder: Path, digests: Mapping[str, str]) -> str:
    """The SHA-256 of a file, from the footprint of its data set."""
    if source not in digests:
        raise DataError(
            f"{folder / source}: was not there when the folder was hashed; it is being changed while it is read"
        )
    return digests[source]


def source_files(whole: Whole, names: Container[str]) -> set[str]:
    """The files that the samples of these names consist of, tables included, relative to the data set's folder."""
    found = {source for item in whole.items if item.name in names for _, source in item.files}
    table = multi_label.TABLE if whole.layout == "multi label" else TABLES[whole.layout] if whole.header else None
    if table is not None:
        found |= {f"{split}/{table}" for split in whole.kept} or {table}
    return found


def _carried(item: Item, split: str, layout: Layout) -> Item:
    """The item of a former split, with the split in its name and in the names of its files: no two can meet."""
    depth = 0 if layout == "images" else 1
    files = []
    for place, source in item.files:
        parts = place.split("/")
        parts[depth] = f"{split}-{parts[depth]}"
        files.append(("/".join(parts), source))
    return replace(item, name=f"{split}/{item.name}", files=tuple(files))


def table_of(rows: Iterable[tuple[str, ...]]) -> str:
    """A CSV file of these rows, header first."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
