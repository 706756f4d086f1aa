"""Oxford-IIIT Pet: photographs and trimaps (1 the animal, 2 the background, 3 the border between), with official lists of splits.

Source: https://www.robots.ox.ac.uk/~vgg/data/pets/, annotations/README.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from diva.data import archives
from diva.data.formats import Placed, deal
from diva.data.formats.streams import by_key, one, only
from diva.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from diva.data.catalogue import Card

OPTIONS = ()


def read(files: Mapping[str, Path], card: Card) -> Iterator[Placed]:
    """`<split>/data/<name>.jpg` and `<split>/gt/<name>.png`, both as they are; `val` is dealt within each breed."""
    images, annotations = only(files, card, "images.tar.gz"), only(files, card, "annotations.tar.gz")
    jpgs = [member.name for member in archives.members(images) if member.name.endswith(".jpg")]
    photographs = by_key(((PurePosixPath(name).stem, name) for name in jpgs), images)
    names = [member.name for member in archives.members(annotations)]
    found = [
        (PurePosixPath(name).stem, name)
        for name in names
        if PurePosixPath(name).parent.name == "trimaps"
        and name.endswith(".png")
        and not PurePosixPath(name).name.startswith(".")
    ]
    trimaps = by_key(found, annotations)
    splits: dict[str, str] = {}
    for official in ("trainval", "test"):
        of_breed: dict[str, list[str]] = {}
        for name in _listed(annotations, _list(names, official, annotations)):
            if name not in photographs or name not in trimaps:
                kind = "photograph" if name not in photographs else "trimap"
                raise DataError(f"{annotations.name}: {official}.txt names {name}, of which there is no {kind}")
            of_breed.setdefault(name.rpartition("_")[0], []).append(name)
        for members in of_breed.values():
            dealt = (
                deal(card.name, members, card.val or 0.0) if official == "trainval" else dict.fromkeys(members, "test")
            )
            both = sorted(set(dealt) & set(splits))
            if both:
                raise DataError(f"{annotations.name}: {both[0]} is in trainval.txt and in test.txt")
            splits.update(dealt)
    for name, split in splits.items():
        yield Placed(PurePosixPath(split, "data", f"{name}.jpg"), images, photographs[name])
        yield Placed(PurePosixPath(split, "gt", f"{name}.png"), annotations, trimaps[name])


def _listed(archive: Path, member: str) -> list[str]:
    """The first word of each line that is no comment."""
    with archives.open_member(archive, member) as content:
        lines = content.read().decode("utf-8", "replace").splitlines()
    return [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]


def _list(names: list[str], official: str, archive: Path) -> str:
    return one(names, lambda name: PurePosixPath(name).name == f"{official}.txt", archive, f"{official}.txt")
