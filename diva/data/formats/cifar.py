"""CIFAR-10 and CIFAR-100 in both of their archives: records of bytes, or Python pickles, which are read and never run.

Source: https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING

import numpy

from diva.data import archives
from diva.data.formats import Block, pickles
from diva.data.formats.streams import BLOCK, only, option, pixels
from diva.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from diva.data.catalogue import Card

OPTIONS = ("batches", "label_bytes")
_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE
_LARGEST = 200 << 20  # bytes; the largest official member has 154 MB
_NAMES = {
    "batches.meta": "label_names",
    "meta": "fine_label_names",
}  # file of the class names -> the key they have there
_TEXTS = ("batches.meta.txt", "fine_label_names.txt")


def read(files: Mapping[str, Path], card: Card) -> Iterator[Block]:
    """The images of both splits; the archive is read through once, in whatever order its members have.

    Options: `batches` (file, without `.bin` -> the official index of its first image; the rest of `train`'s come
    from here too), `label_bytes` (of a binary record: 1, or 2 with the coarse class first, of CIFAR-100).
    """
    archive = only(files, card)
    batches = option(card, "batches", dict, {})
    if not batches or not all(isinstance(stem, str) and type(first) is int for stem, first in batches.items()):
        raise DataError(
            f"{card.name}: option 'batches' is {batches!r} in the card; expected the files of images, each with the official "
            "index of its first one, as in {data_batch_1: 0, data_batch_2: 10000, test_batch: 0}"
        )
    found: dict[str, int] = {}
    known = {*_NAMES, *_TEXTS, *batches, *(f"{stem}.bin" for stem in batches)}
    for member, stream in archives.read_once(archive, lambda member: PurePosixPath(member).name in known):
        name = PurePosixPath(member).name
        if name in _NAMES or name in _TEXTS:
            _check_names(_names(stream.read(_LARGEST), name, member), card, member)
        else:
            stem = name.removesuffix(".bin")
            blocks = _records if name.endswith(".bin") else _pickle
            if stem in found:
                raise DataError(
                    f"{archive.name}: holds {stem} twice, the second as {member}; it is not the official one"
                )
            found[stem] = 0
            for images, labels in blocks(stream, member, card):
                split = "test" if stem.startswith("test") else "train"
                yield Block(split, images, labels, batches[stem] + found[stem])
                found[stem] += len(images)
    _check_batches(found, batches, card, archive)


def _check_batches(found: dict[str, int], batches: dict[str, int], card: Card, archive: Path) -> None:
    missing = sorted(set(batches) - set(found))
    if missing:
        raise DataError(f"{archive.name}: has no file {', '.join(missing)}, which {card.name} consists of")
    for kind in ("test", ""):
        train = sorted((start, stem) for stem, start in batches.items() if stem.startswith("test") == bool(kind))
        for (start, stem), (following, _) in pairwise(train):
            if start + found[stem] != following:
                raise DataError(f"{archive.name}: {stem} has {found[stem]} images; expected {following - start}")


def _pickle(stream: IO[bytes], member: str, card: Card) -> Iterator[tuple[numpy.ndarray, numpy.ndarray]]:
    found = pickles.load(stream.read(_LARGEST), member)
    data, stored = found.get("data"), found.get("labels", found.get("fine_labels"))
    if not isinstance(data, numpy.ndarray) or data.ndim != 2 or data.shape[1] != _PIXELS:
        shape = getattr(data, "shape", "nothing")
        raise DataError(f"{member}: 'data' is {shape}; expected an array (N, {_PIXELS})")
    labels = pickles.integers(stored, member)
    if len(labels) != len(data):
        raise DataError(f"{member}: has {len(data)} images and {len(labels)} labels")
    for start in range(0, len(data), BLOCK):
        yield _images(data[start : start + BLOCK]), labels[start : start + BLOCK]


def _records(stream: IO[bytes], member: str, card: Card) -> Iterator[tuple[numpy.ndarray, numpy.ndarray]]:
    n_labels = option(card, "label_bytes", int, 1)
    size, offset = n_labels + _PIXELS, 0
    while content := stream.read(size * BLOCK):
        if len(content) % size:
            raise DataError(
                f"{member}: {len(content) % size} bytes at byte {offset + len(content) // size * size} "
                f"are no whole record of {size}; it is damaged or was cut off"
            )
        records = pixels(content, (-1, size))
        offset += len(content)
        yield _images(records[:, n_labels:]), records[:, n_labels - 1].astype(numpy.int64)


def _images(rows: numpy.ndarray) -> numpy.ndarray:
    """(N, 3072), one plane after the other -> (N, 32, 32, 3)."""
    return rows.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)


def _names(content: bytes, name: str, member: str) -> list[str]:
    if name in _TEXTS:
        return content.decode("utf-8", "replace").split()
    stored = pickles.load(content, member).get(_NAMES[name])
    return [pickles.text(item, member) for item in stored] if isinstance(stored, list) else []


def _check_names(names: list[str], card: Card, member: str) -> None:
    if names != card.classes:
        raise DataError(
            f"{member}: names the classes {', '.join(names[:12])}; the card {card.name} says {', '.join((card.classes or [])[:12])}"
        )
