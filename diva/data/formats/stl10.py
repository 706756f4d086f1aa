"""STL-10's binary files: each image is three planes of 96 x 96 bytes, each plane column by column; labels count from 1.

Source: https://cs.stanford.edu/~acoates/stl10/.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING

import numpy

from diva.data import archives
from diva.data.formats import Block
from diva.data.formats.streams import only, option, pixels
from diva.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from diva.data.catalogue import Card

OPTIONS = ("unlabelled",)
_SIDE = 96
_SIZE = 3 * _SIDE * _SIDE
_AT_ONCE = 1000  # images to a block


def read(files: Mapping[str, Path], card: Card) -> Iterator[Block]:
    """The labelled images of train and test, and with the option `unlabelled` the others, in the folder `unlabelled`."""
    archive = only(files, card)
    with_unlabelled = option(card, "unlabelled", bool, False)
    wanted = {f"{split}_{kind}.bin" for split in ("train", "test") for kind in "Xy"} | {"class_names.txt"}
    if with_unlabelled:
        wanted.add("unlabeled_X.bin")
    waiting: dict[str, bytes] = {}
    seen = set()
    for member, stream in archives.read_once(archive, lambda member: PurePosixPath(member).name in wanted):
        name = PurePosixPath(member).name
        if name in seen:
            raise DataError(f"{archive.name}: holds {name} twice, the second as {member}; it is not the official one")
        seen.add(name)
        if name == "unlabeled_X.bin":
            yield from _unlabelled(stream, member)
            continue
        waiting[name] = stream.read()
        if name == "class_names.txt" and waiting[name].decode("utf-8", "replace").split() != card.classes:
            raise DataError(f"{member}: does not name the classes that the card {card.name} names")
        split = name.partition("_")[0]
        if {f"{split}_X.bin", f"{split}_y.bin"} <= set(waiting):
            yield from _labelled(split, waiting.pop(f"{split}_X.bin"), waiting.pop(f"{split}_y.bin"))
    missing = sorted(wanted - {"class_names.txt"} - seen)
    if missing:
        raise DataError(f"{archive.name}: has no file {', '.join(missing)}, which {card.name} consists of")


def _labelled(split: str, content: bytes, numbers: bytes) -> Iterator[Block]:
    n = len(numbers)
    if len(content) != n * _SIZE:
        raise DataError(
            f"{split}_X.bin: has {len(content)} bytes; expected {n * _SIZE}, {_SIZE} for each of {n} labels"
        )
    labels = pixels(numbers, (n,)).astype(numpy.int64)
    if n and not 1 <= labels.min() <= labels.max():
        raise DataError(f"{split}_y.bin: byte {int(labels.argmin())} is {labels.min()}; labels count from 1")
    for start in range(0, n, _AT_ONCE):
        part = content[start * _SIZE : (start + _AT_ONCE) * _SIZE]
        yield Block(split, _images(part), labels[start : start + _AT_ONCE] - 1, start)


def _unlabelled(stream: IO[bytes], member: str) -> Iterator[Block]:
    first = 0
    while content := stream.read(_AT_ONCE * _SIZE):
        if len(content) % _SIZE:
            raise DataError(f"{member}: {len(content) % _SIZE} bytes at its end are no whole image of {_SIZE}")
        images = _images(content)
        yield Block("unlabelled", images, None, first)
        first += len(images)


def _images(content: bytes) -> numpy.ndarray:
    """Planes stored column by column -> (N, 96, 96, 3)."""
    return pixels(content, (-1, 3, _SIDE, _SIDE)).transpose(0, 3, 2, 1)
