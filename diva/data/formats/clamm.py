"""ICDAR2017-CLaMM: pages of medieval manuscripts, and a table of their script and date beside them in the same zip.

Source: Cloppet et al., ICDAR 2017. The table is separated by semicolons; its columns have other names in each archive
(FILENAME and FILE_NAME, SCRIPT_TYPE and Script_type_ICDAR2017, DATE_TYPE and DATE_ICDAR), so they are told by the word in them.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from diva.data import archives
from diva.data.formats import Placed, deal
from diva.data.formats.streams import by_key, by_split, one, option, texts
from diva.data.layouts.listing import IMAGES
from diva.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from diva.data.catalogue import Card

OPTIONS = ("column", "unmatched")
_COLUMNS = ("script", "date")


def read(files: Mapping[str, Path], card: Card) -> Iterator[Placed]:
    """`<split>/<class>/<page>`; `val` is dealt within each class of train.

    Options: `column` ("script" or "date"), `unmatched` (names of the official archives that are known to be only in the
    table, or only a page; any other is an error).
    """
    column = option(card, "column", str, "")
    if column not in _COLUMNS:
        raise DataError(f"{card.name}: option 'column' is {column!r}; allowed: {', '.join(_COLUMNS)}")
    unmatched = set(texts(card, "unmatched"))
    for split, paths in by_split(files, card).items():
        for archive in paths:
            names = [member.name for member in archives.members(archive)]
            images = [name for name in names if PurePosixPath(name).suffix.lower() in IMAGES]
            pages = by_key(((PurePosixPath(name).name, name) for name in images), archive)
            table = one(names, lambda name: name.lower().endswith(".csv"), archive, "table (.csv)")
            labels = _labels(archive, table, column, card)
            alone = sorted((set(pages) ^ set(labels)) - unmatched)
            if alone:
                what = "is not in the table" if alone[0] in pages else "is in the table only"
                raise DataError(f"{archive.name}: {alone[0]} {what} {table} ({len(alone)} such)")
            by_class: dict[str, list[str]] = {}
            for page in pages:
                if page in labels:
                    by_class.setdefault(labels[page], []).append(page)
            for label, members in by_class.items():
                dealt = deal(card.name, members, card.val or 0.0) if split == "train" else dict.fromkeys(members, split)
                for page in members:
                    yield Placed(PurePosixPath(dealt[page], label, page), archive, pages[page])


def _labels(archive: Path, table: str, column: str, card: Card) -> dict[str, str]:
    """Class name by page."""
    with archives.open_member(archive, table) as content:
        lines = content.read().decode("utf-8-sig", "replace").splitlines()
    header = [cell.strip().lower() for cell in (lines or [""])[0].split(";")]
    columns = [i for word in ("file", column) for i, cell in enumerate(header) if word in cell]
    if len(columns) != 2:
        raise DataError(
            f"{archive.name}: {table} begins with {lines[:1]}; expected one column with 'file' and one with '{column}'"
        )
    classes = card.classes or []
    labels: dict[str, str] = {}
    for number, line in enumerate(lines[1:], 2):
        cells = [cell.strip() for cell in line.split(";")]
        if not any(cells):
            continue
        name, label = (cells[i] if i < len(cells) else "" for i in columns)
        if not label.isdecimal() or not 1 <= int(label) <= len(classes):
            raise DataError(
                f"{archive.name}: {table} line {number} is {line!r}; expected a {column} of 1 to {len(classes)}"
            )
        if name in labels:
            raise DataError(f"{archive.name}: {table} line {number} names {name} again")
        labels[name] = classes[int(label) - 1]
    return labels
