"""ICDAR2017 Historical-WI: pages whose writer is the part of the file name before the first dash.

Source: Fiel et al., ICDAR 2017.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from diva.data import archives
from diva.data.formats import Placed, deal
from diva.data.formats.streams import by_split
from diva.data.layouts.listing import IMAGES
from diva.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from diva.data.catalogue import Card

OPTIONS = ()


def read(files: Mapping[str, Path], card: Card) -> Iterator[Placed]:
    """`<split>/<writer>/<page>`; `card.val` is the share of the writers of train who become `val`, with all their pages.

    No writer is in two splits: a writer of the official test part who is also in train is an error.
    """
    seen: dict[str, str] = {}
    for split, paths in by_split(files, card).items():
        for archive in paths:
            pages = [m.name for m in archives.members(archive) if PurePosixPath(m.name).suffix.lower() in IMAGES]
            by_writer: dict[str, list[str]] = {}
            for name in pages:
                writer, dash, _ = PurePosixPath(name).name.partition("-")
                if not dash or not writer.isalnum():
                    raise DataError(
                        f"{archive.name}: {name} does not begin with a writer and a dash, as 1043-IMG_MAX_2.jpg does"
                    )
                by_writer.setdefault(writer, []).append(name)
            shares = (
                deal(card.name, by_writer, card.val or 0.0) if split == "train" else dict.fromkeys(by_writer, split)
            )
            for writer, members in by_writer.items():
                if seen.setdefault(writer, split) != split:
                    raise DataError(
                        f"{archive.name}: writer {writer} is in {seen[writer]} and in {split}; splits must share none"
                    )
                for name in members:
                    yield Placed(PurePosixPath(shares[writer], writer, PurePosixPath(name).name), archive, name)
