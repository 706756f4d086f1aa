"""DIVA-HisDB: pages of a medieval manuscript and their ground truth, one zip of each per manuscript, inside one zip or in a folder.

Source: Simistira et al., ICFHR 2016. The masks are kept as they are: bits of the blue channel are classes, red 0x80 is a boundary.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from diva.data import archives
from diva.data.formats import Text
from diva.data.formats.streams import one, only, option, unpacked
from diva.data.layouts.listing import IMAGES
from diva.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from diva.data.catalogue import Card

OPTIONS = ("manuscript",)
_SPLITS = {"training": "train", "validation": "val", "public-test": "test"}


def read(files: Mapping[str, Path], card: Card) -> Iterator[Text]:
    """`<split>/data/<page>` and `<split>/gt/<page>` of one manuscript; the public test pages are `test`.

    Option: `manuscript`, as in the names of the files (CB55, CS18, CS863): `img-CB55.zip`, `pixel-level-gt-CB55.zip`.
    """
    outer = only(files, card)
    manuscript = option(card, "manuscript", str, "")
    names = [member.name for member in archives.members(outer)]
    pages: dict[str, set[PurePosixPath]] = {}
    for kind, target in (("img", "data"), ("pixel-level-gt", "gt")):
        with unpacked(outer, _zip_of(f"{kind}-{manuscript}.zip", names, outer)) as inner:
            places = {m.name: _place(m.name, target) for m in archives.members(inner)}
            found = {name: place for name, place in places.items() if place is not None}
            pages[target] = {PurePosixPath(place.parts[0], place.stem) for place in found.values()}
            for page, content in archives.read_members(inner, found):
                yield Text(found[page.name], content.read())
    alone = sorted(pages["data"] ^ pages["gt"])
    if alone or not pages["data"]:
        raise DataError(
            f"{outer.name}: {alone[0] if alone else manuscript} has no page and ground truth of the same name"
        )


def _zip_of(wanted: str, names: list[str], outer: Path) -> str:
    return one(names, lambda name: PurePosixPath(name).name == wanted, outer, wanted)


def _place(name: str, target: str) -> PurePosixPath | None:
    """Where a page goes: by the folder it lies in; ground truth of the private test part ends in `_gt`."""
    path = PurePosixPath(name)
    split = next((_SPLITS[part] for part in path.parts[:-1] if part in _SPLITS), None)
    if split is None or path.suffix.lower() not in IMAGES:
        return None
    return PurePosixPath(split, target, (re.sub(r"_gt$", "", path.stem) if target == "gt" else path.stem) + path.suffix)
