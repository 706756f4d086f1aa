"""Readers of official formats: from the files that a provider publishes to what goes where in the standard layout."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal, TypeVar

from diva.errors import DataError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import ModuleType

    import numpy

    from diva.data.catalogue import Card

Split = Literal["train", "val", "test"]
Key = TypeVar("Key", int, str)


@dataclass(frozen=True, eq=False)
class Block:
    """Samples of one split, in their official order: written as `<split>/<class>/<index:05>.png`.

    images: uint8 (N, H, W) grey or (N, H, W, 3) RGB; labels: int (N,), numbers of `card.classes`, or None for images
    without a label, which are written as `<split>/<index:05>.png`. `first` is the official index of the first sample.
    """

    split: str
    images: numpy.ndarray
    labels: numpy.ndarray | None
    first: int = 0


@dataclass(frozen=True)
class Placed:
    """A file to be copied, unchanged, from an archive (or a folder) to `target`, relative to the data set's folder."""

    target: PurePosixPath
    archive: Path
    member: str


@dataclass(frozen=True)
class Text:
    """A file whose content is in memory, such as a table of labels. Text is written as UTF-8."""

    target: PurePosixPath
    content: str | bytes


Item = Block | Placed | Text


def deal(name: str, keys: Iterable[Key], val: float, test: float = 0.0) -> dict[Key, Split]:
    """The split of each member of one class, for sets without official ones: ranked by the SHA-256 of "<name> <key>".

    Of n members the first round(test * n) are `test`, the next round(val * rest) `val`, the others `train`; with shares below
    1 the last one stays `train`, however few there are. `keys` are official indices or names; no generator is involved, and no order.
    """
    ranked = sorted(keys, key=lambda key: hashlib.sha256(f"{name} {key}".encode("utf-8", "surrogateescape")).digest())
    most = len(ranked) - (test < 1 and val < 1)
    n_test = min(round(test * len(ranked)), most)
    n_val = min(n_test + round(val * (len(ranked) - n_test)), most)
    return {k: "test" if i < n_test else "val" if i < n_val else "train" for i, k in enumerate(ranked)}


if TYPE_CHECKING:
    Reader = Callable[[Mapping[str, Path], Card], Iterator[Item]]

# A format's name in a card -> the module here whose `read` reads it; modules are imported when a card asks for them.
_MODULES = {
    "idx": "idx",
    "cifar": "cifar",
    "svhn": "svhn",
    "stl10": "stl10",
    "class folders": "folders",
    "oxford pet": "pet",
    "divahisdb": "hisdb",
    "clamm": "clamm",
    "historical wi": "writers",
    "miml": "miml",
    "glas": "glas",
}


_EVERYWHERE = ("colours",)  # options that no reader needs: the colours of masks go into dataset.yaml


def _module(name: str) -> ModuleType:
    """The module of a reader: `read`, and `OPTIONS`, the names of the options that it knows."""
    return import_module(f"diva.data.formats.{name}")


def _reader(module: str) -> Reader:
    def read(files: Mapping[str, Path], card: Card) -> Iterator[Item]:
        found: Reader = _module(module).read
        return found(files, card)

    return read


READERS: dict[str, Reader] = {name: _reader(module) for name, module in _MODULES.items()}


def reader_of(card: Card) -> Reader:
    """The reader of a card's format; DataError names the nearest when there is none, or when it has no such option."""
    if card.format not in READERS:
        raise DataError(f"{card.name}: no reader for the format {card.format!r}; {nearest(str(card.format), READERS)}")
    known = (*_module(_MODULES[card.format]).OPTIONS, *_EVERYWHERE)
    for name in card.options:
        if name not in known:
            raise DataError(
                f"{card.name}: unknown option {name!r} of the format {card.format!r}; {nearest(str(name), known)}"
            )
    return READERS[card.format]
