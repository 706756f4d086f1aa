"""Archives that hold a folder of images per class, with official splits as folders or without any."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from diva.data import archives
from diva.data.formats import Placed, Text, deal
from diva.data.formats.streams import by_key, only, option, texts, unpacked
from diva.data.layouts import SPLITS
from diva.data.layouts.listing import IMAGES
from diva.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from diva.data.catalogue import Card

OPTIONS = ("inner", "prefix", "drop", "test", "splits")


def read(files: Mapping[str, Path], card: Card) -> Iterator[Placed | Text]:
    """Every image as `<split>/<class>/<its name>`.

    Options: `inner` (an archive inside the archive that holds the images), `prefix` (the folder of the class folders),
    `drop` (folders that are no class), `test` (without official splits: share of each class that becomes `test`), `splits`
    (official ones: folder below `prefix` -> split). Without official splits each class is dealt by the hash of its names.
    """
    archive = only(files, card)
    inner = option(card, "inner", str, "")
    with unpacked(archive, inner) if inner else nullcontext(archive) as source:
        targets = _targets([member.name for member in archives.members(source)], card, source.name)
        if inner:
            for member, content in archives.read_members(source, targets):
                yield Text(targets[member.name], content.read())
        else:
            yield from (Placed(target, source, name) for name, target in targets.items())


def _targets(names: list[str], card: Card, archive: str) -> dict[str, PurePosixPath]:
    prefix = PurePosixPath(option(card, "prefix", str, ""))
    drop = set(texts(card, "drop"))
    splits = _splits(card)
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}  # (official split or "", class) -> (class/name, member)
    for name in names:
        path = PurePosixPath(name)
        if path.suffix.lower() not in IMAGES or not path.is_relative_to(prefix):
            continue
        parts = path.relative_to(prefix).parts
        split, parts = (splits.get(parts[0]), parts[1:]) if splits else ("", parts)
        if split is not None and len(parts) > 1 and parts[0] not in drop:
            found.setdefault((split, parts[0]), []).append(("/".join(parts), name))
    if not found:
        raise DataError(
            f"{archive}: holds no <class>/<image> below {str(prefix)!r}; it is not the one that {card.name} describes"
        )
    targets: dict[str, PurePosixPath] = {}
    for (split, _), pairs in found.items():
        members = by_key(pairs, archive)
        if split in ("", "train"):
            test = 0.0 if splits else float(option(card, "test", float, 0.0))
            val = 0.0 if "val" in splits.values() else card.val or 0.0
            dealt = deal(card.name, members, val, test)
        for inside, member in members.items():
            chosen = split if split not in ("", "train") else dealt[inside]
            targets[member] = PurePosixPath(chosen, inside)
    return targets


def _splits(card: Card) -> dict[str, str]:
    """The option `splits`: folder -> split."""
    splits: dict[Any, Any] = option(card, "splits", dict, {})
    for folder, split in splits.items():
        if not isinstance(folder, str) or split not in SPLITS:
            raise DataError(
                f"{card.name}: option 'splits' says {folder!r}: {split!r} in the card; expected the name of a folder "
                f"and one of {', '.join(SPLITS)}"
            )
    return splits
