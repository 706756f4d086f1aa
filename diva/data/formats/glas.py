"""GlaS: colon tissue and the glands in it; masks that number the glands become masks of two classes.

Source: Sirinukunwattana et al., Medical Image Analysis 2017; `Grade.csv`: name, patient ID, grade, grade.
"""

from __future__ import annotations

import csv
import io
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy

from diva.data import archives, png
from diva.data.formats import Placed, Text, deal
from diva.data.formats.streams import by_key, one, only
from diva.data.images import opened
from diva.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from diva.data.catalogue import Card

OPTIONS = ()
_SPLITS = {"train": "train", "testA": "test", "testB": "test"}


def read(files: Mapping[str, Path], card: Card) -> Iterator[Placed | Text]:
    """`<split>/data/<name>.bmp` as it is and `<split>/gt/<name>.png`: 0 background, 1 gland. No patient of `val` is in `train`."""
    archive = only(files, card)
    names = [member.name for member in archives.members(archive)]
    by_stem = by_key(((PurePosixPath(name).stem, name) for name in names if name.endswith(".bmp")), archive)
    patients = _patients(
        archive, one(names, lambda name: PurePosixPath(name).name == "Grade.csv", archive, "Grade.csv")
    )
    pictures = [stem for stem in by_stem if not stem.endswith("_anno")]
    for stem in pictures:
        if f"{stem}_anno" not in by_stem or stem not in patients or stem.partition("_")[0] not in _SPLITS:
            raise DataError(
                f"{archive.name}: {by_stem[stem]} has no mask, no patient in Grade.csv, or no split in its name"
            )
    if not pictures:
        raise DataError(f"{archive.name}: holds no pictures (.bmp); it is not the one that {card.name} describes")
    train = {patients[stem] for stem in pictures if _SPLITS[stem.partition("_")[0]] == "train"}
    dealt = deal(card.name, sorted(train), card.val or 0.0)
    splits = {s: "test" if s.startswith("test") else dealt[patients[s]] for s in pictures}
    for stem in pictures:
        yield Placed(PurePosixPath(splits[stem], "data", f"{stem}.bmp"), archive, by_stem[stem])
    masks = {by_stem[f"{stem}_anno"]: stem for stem in pictures}
    for member, content in archives.read_members(archive, masks):
        stem = masks[member.name]
        yield Text(PurePosixPath(splits[stem], "gt", f"{stem}.png"), _mask(content.read(), member.name))


def _patients(archive: Path, table: str) -> dict[str, str]:
    with archives.open_member(archive, table) as content:
        rows = list(csv.reader(io.StringIO(content.read().decode("utf-8-sig", "replace"))))
    return {row[0].strip(): row[1].strip() for row in rows[1:] if len(row) > 1}


def _mask(content: bytes, name: str) -> bytes:
    """A mask that numbers the glands -> one that says where there is one."""
    from PIL import Image, UnidentifiedImageError

    try:
        with opened(io.BytesIO(content)) as image:
            if image.mode not in ("L", "P", "1"):
                raise DataError(f"{name}: is of mode {image.mode}; expected a mask of one channel")
            numbers = numpy.asarray(image)
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{name}: cannot be decoded ({error}); delete the archive and get it again") from None
    return png.encode((numbers > 0).astype(numpy.uint8))
