"""MIML: natural scenes with several labels each. The provider packs rar in rar, so the reader takes the folder that `unrar x` made.

Source: Zhou and Zhang, NIPS 2006; `miml data.mat` holds targets (classes, images) of 1 and -1 and the names of the classes.
"""

from __future__ import annotations

import io
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy

from diva.data import archives
from diva.data.formats import Placed, Text, deal
from diva.data.formats.matlab import load
from diva.data.formats.streams import by_key, one, only, option
from diva.data.layouts.listing import IMAGES
from diva.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from diva.data.catalogue import Card

OPTIONS = ("test",)
_TABLE = "miml data.mat"


def read(files: Mapping[str, Path], card: Card) -> Iterator[Placed | Text]:
    """`<split>/images/<number>.jpg` and `<split>/labels.csv`. Option: `test`, the share of all images, dealt by their names."""
    archive = only(files, card)
    names = [member.name for member in archives.members(archive)]
    table = one(names, lambda name: PurePosixPath(name).name == _TABLE, archive, _TABLE)
    with archives.open_member(archive, table) as content:
        found = load(io.BytesIO(content.read()), {"targets": "", "class_name": "cell"}, table)
    classes = [_text(cell) for cell in found["class_name"].reshape(-1)]
    targets = found["targets"]
    images = by_key(
        ((int(p.stem), str(p)) for p in map(PurePosixPath, names) if p.suffix.lower() in IMAGES and p.stem.isdecimal()),
        archive,
    )
    if classes != card.classes or targets.shape != (len(classes), len(images)):
        raise DataError(
            f"{archive.name}: {table} has targets {targets.shape} for the classes {', '.join(classes)}; expected "
            f"({len(card.classes or [])}, {len(images)} images) for {', '.join(card.classes or [])}"
        )
    if sorted(images) != list(range(1, len(images) + 1)) or not numpy.isin(targets, (-1, 0, 1)).all():
        raise DataError(f"{archive.name}: images must be numbered from 1 without a gap, and targets be 1 or -1")
    dealt = deal(card.name, sorted(images), card.val or 0.0, float(option(card, "test", float, 0.0)))
    for split in ("train", "val", "test"):
        members = [number for number in sorted(images) if dealt[number] == split]
        if not members:
            continue
        rows = [",".join(["image", *classes])]
        for number in members:
            name = PurePosixPath(images[number]).name
            rows.append(",".join([name, *("1" if value > 0 else "0" for value in targets[:, number - 1])]))
            yield Placed(PurePosixPath(split, "images", name), archive, images[number])
        yield Text(PurePosixPath(split, "labels.csv"), "\n".join(rows) + "\n")


def _text(cell: Any) -> str:
    """The text in a cell, which scipy gives as an array of one text, perhaps within another array."""
    while type(cell) is numpy.ndarray and cell.size == 1:
        cell = cell.reshape(-1)[0]
    return str(cell).strip()
