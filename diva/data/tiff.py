"""TIFF files of several pages whose bytes are the same on every machine: written without compression, as clips of a few frames are."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHORT, _LONG = 3, 4


def encode_pages(pages: Sequence[numpy.ndarray]) -> bytes:
    """Pages, uint8 (H, W, 3) of one size or several, as one file (baseline TIFF 6.0, little-endian, one strip a page)."""
    parts, at = [struct.pack("<2sHI", b"II", 42, 8)], 8
    for number, page in enumerate(pages):
        height, width, channels = page.shape
        pixels = numpy.ascontiguousarray(page).tobytes() + b"\0" * (
            page.size % 2
        )  # a directory begins at an even place
        n_entries = 9
        bits = at + 2 + 12 * n_entries + 4
        strip = bits + 2 * channels
        entries = [
            (256, _LONG, 1, width),
            (257, _LONG, 1, height),
            (258, _SHORT, channels, bits),  # where the bits of each channel stand
            (259, _SHORT, 1, 1),  # no compression
            (262, _SHORT, 1, 2),  # RGB
            (273, _LONG, 1, strip),
            (277, _SHORT, 1, channels),
            (278, _LONG, 1, height),
            (279, _LONG, 1, page.size),
        ]
        after = strip + len(pixels)
        directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
        last = number == len(pages) - 1
        parts += [struct.pack("<H", n_entries), directory, struct.pack("<I", 0 if last else after)]
        parts += [struct.pack("<H", 8) * channels, pixels]
        at = after
    return b"".join(parts)
