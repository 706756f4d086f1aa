"""IDX, the format of MNIST and its kin: big-endian header, then the bytes of all images or labels; plain, gzip, or many gzip in one zip.

Source: http://yann.lecun.com/exdb/mnist/, "the IDX file format".
"""

from __future__ import annotations

import struct
from contextlib import ExitStack
from typing import TYPE_CHECKING, cast

import numpy

from diva.data import archives
from diva.data.formats import Block
from diva.data.formats.streams import BLOCK, Source, by_split, only, opened, option, pixels
from diva.errors import DataError

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from diva.data.catalogue import Card

OPTIONS = ("transposed", "first_label", "members")
_TYPES = {8: "uint8", 9: "int8", 11: "int16", 12: "int32", 13: "float32", 14: "float64"}
_AT_ONCE = 1 << 27  # bytes of images to a block at most
_LARGEST_SIDE = 4096  # pixels; a header that says more is damaged, and memory is not to be asked for it


def read(files: Mapping[str, Path], card: Card) -> Iterator[Block]:
    """The images of every split with their labels.

    Options: `transposed` (EMNIST's images lie on their side), `first_label` (1 for EMNIST's letters), `members`
    (split -> names of its two files inside the one zip of the card).
    """
    with ExitStack() as stack:
        members = option(card, "members", dict, {})
        if not all(isinstance(names, list) and all(isinstance(n, str) for n in names) for names in members.values()):
            raise DataError(
                f"{card.name}: option 'members' is {members!r} in the card; expected the names of two files for each split"
            )
        if members:
            archive = only(files, card)
            pairs = {split: [_member(stack, archive, name) for name in names] for split, names in members.items()}
        else:
            pairs = {s: [stack.enter_context(opened(p)) for p in paths] for s, paths in by_split(files, card).items()}
        for split, pair in pairs.items():
            yield from _read_split(split, pair, card)


def _member(stack: ExitStack, archive: Path, name: str) -> Source:
    size = next((member.size for member in archives.members(archive) if member.name == name), None)
    stream = cast("io.BufferedReader", stack.enter_context(archives.open_member(archive, name)))
    return Source(stream, name, size or 0)


def _read_split(split: str, pair: list[Source], card: Card) -> Iterator[Block]:
    shapes = [_header(source) for source in pair]
    if sorted(len(shape) for shape in shapes) != [1, 3]:
        told = ", ".join(f"{source.name} {shape}" for source, shape in zip(pair, shapes, strict=True))
        raise DataError(f"{card.name}: {split} needs one file of images (N, H, W) and one of labels (N,), found {told}")
    (labels_in, (n_labels,)), (images_in, (n, height, width)) = sorted(
        zip(pair, shapes, strict=True), key=lambda found: len(found[1])
    )
    if n != n_labels:
        raise DataError(f"{card.name}: {images_in.name} has {n} images and {labels_in.name} {n_labels} labels")
    first_label = option(card, "first_label", int, 0)
    labels = pixels(labels_in.take(n), (n,))
    labels_in.end()
    at_once = max(1, min(BLOCK, _AT_ONCE // (height * width)))
    for start in range(0, n, at_once):
        count = min(at_once, n - start)
        images = pixels(images_in.take(count * height * width), (count, height, width))
        if option(card, "transposed", bool, False):
            images = images.transpose(0, 2, 1)
        yield Block(split, images, labels[start : start + count].astype(numpy.int64) - first_label, start)
    images_in.end()


def _header(source: Source) -> tuple[int, ...]:
    """The shape of what follows: (N,) or (N, H, W), of bytes."""
    zero, kind, n_dimensions = struct.unpack(">HBB", source.take(4))
    if zero or kind not in _TYPES or n_dimensions not in (1, 3):
        raise DataError(
            f"{source.name}: begins with {zero:04x}{kind:02x}{n_dimensions:02x} at byte 0, which is no IDX file"
        )
    if kind != 8:
        raise DataError(f"{source.name}: holds {_TYPES[kind]} (byte 2 is {kind:#04x}); expected uint8 (0x08)")
    shape: tuple[int, ...] = struct.unpack(f">{n_dimensions}I", source.take(4 * n_dimensions))
    if n_dimensions == 3 and not all(1 <= side <= _LARGEST_SIDE for side in shape[1:]):
        raise DataError(
            f"{source.name}: images of {shape[1]} x {shape[2]} at byte 8; allowed: sides of 1 to {_LARGEST_SIDE}"
        )
    return shape
