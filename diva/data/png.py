"""PNG images whose bytes are the same on every machine: written without compression, read by everything that reads PNG.

Compressed bytes depend on the library behind zlib (zlib, zlib-ng, Chromium's) and on its version; a footprint over them would only hold
where they were made. Deflate also knows *stored* blocks, which hold the bytes as they are: there is one way to write them, it is the
fastest to write and to read, and photographs of 32 x 32 pixels would hardly shrink anyway.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy

from diva.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_STORED = 65535  # the largest number of bytes that one stored block of deflate holds
_COLOUR = {1: 0, 3: 2}  # channels -> PNG's colour type: grey, RGB
_GROUP_BYTES = 1 << 23  # images are laid out in memory in groups of about this size


def encode(pixels: numpy.ndarray) -> bytes:
    """One image, uint8 (H, W) grey or (H, W, 3) RGB, as the bytes of a PNG file."""
    return bytes(next(encode_all(pixels[None])))


def encode_all(images: numpy.ndarray) -> Iterator[memoryview]:
    """Images of one size, uint8 (N, H, W) or (N, H, W, 3), as PNG files. Each is valid until the next one is asked for.

    All files of one size differ only in pixels and checksums; the rest is filled in for a whole group by one copy.
    """
    if (
        images.dtype != numpy.uint8
        or images.ndim not in (3, 4)
        or (images.ndim == 4 and images.shape[3] not in _COLOUR)
    ):
        raise DataError(f"images of shape {images.shape} and type {images.dtype} are no grey or RGB images of 8 bits")
    n, height, width = images.shape[:3]
    if not (height and width):
        raise DataError(f"images of {height} x {width} pixels hold nothing")
    form = _Form(height, width, 1 if images.ndim == 3 else images.shape[3])
    step = max(1, _GROUP_BYTES // form.n_bytes)
    for start in range(0, n, step):
        yield from form.files(images[start : start + step])


class _Form:
    """The file of an image of one size with everything but pixels and checksums."""

    def __init__(self, height: int, width: int, channels: int) -> None:
        self.rows, self.columns = height, 1 + width * channels
        n_raw = self.rows * self.columns  # each row begins with a zero, the number of PNG's filter "none"
        sizes = [min(_STORED, n_raw - start) for start in range(0, n_raw, _STORED)]
        head = struct.pack(">IIBBBBB", width, height, 8, _COLOUR[channels], 0, 0, 0)
        self.data = len(_SIGNATURE) + 25 + 4  # where the type of the chunk of image data stands, behind its length
        n_data = 2 + sum(5 + size for size in sizes) + 4
        content = bytearray(_SIGNATURE + _chunk(b"IHDR", head) + struct.pack(">I", n_data) + b"IDAT\x78\x01")
        self.blocks: list[
            tuple[int, int, int]
        ] = []  # of each stored block: place in the file, place in the image, size
        for start, size in zip(range(0, n_raw, _STORED), sizes, strict=True):
            content += struct.pack("<BHH", start + size == n_raw, size, size ^ 0xFFFF)
            self.blocks.append((len(content), start, size))
            content += bytes(size)
        self.adler = len(content)
        content += bytes(8) + _chunk(b"IEND", b"")
        self.n_bytes = len(content)
        self.template = numpy.frombuffer(bytes(content), numpy.uint8)

    def files(self, images: numpy.ndarray) -> Iterator[memoryview]:
        n = len(images)
        raw = numpy.zeros((n, self.rows, self.columns), numpy.uint8)
        raw[:, :, 1:] = images.reshape(n, self.rows, self.columns - 1)
        flat = raw.reshape(n, self.rows * self.columns)
        files = numpy.empty((n, self.n_bytes), numpy.uint8)
        files[:] = self.template
        for place, start, size in self.blocks:
            files[:, place : place + size] = flat[:, start : start + size]
        pixels, content = flat.reshape(-1).data, files.reshape(-1).data
        for i in range(n):
            file = content[i * self.n_bytes : (i + 1) * self.n_bytes]
            image = pixels[i * flat.shape[1] : (i + 1) * flat.shape[1]]
            file[self.adler : self.adler + 4] = zlib.adler32(image).to_bytes(4, "big")
            crc = zlib.crc32(file[self.data : self.adler + 4])
            file[self.adler + 4 : self.adler + 8] = crc.to_bytes(4, "big")
            yield file


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
