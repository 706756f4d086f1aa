"""Images: how one is decoded, and the exact statistics of many."""

from __future__ import annotations

import hashlib
import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy

from diva.errors import DataError, RecordError
from diva.records.files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL import Image

    from diva.data.layouts.class_folders import ImageFolder

Mode = Literal["L", "RGB"]
SPLITS = ("train", "val", "test")


def open_image(path: Path, mode: Mode) -> Image.Image:
    """The decoded image in 8 bits per channel; transparency is dropped, 16-bit grey keeps its upper byte. DataError names the file."""
    from PIL import Image

    try:
        with Image.open(path) as opened:
            image: Image.Image = opened
            if opened.mode.startswith("I;16"):
                image = Image.fromarray((numpy.asarray(opened) >> 8).astype(numpy.uint8))
            return image.convert(mode) if image.mode != mode else image.copy()
    except Exception as error:  # Pillow's decoders raise a dozen kinds
        raise DataError(f"{path}: cannot be read as an image ({error}); mend or remove it") from None


def decoder() -> str:
    """Name and version of what decodes images: decoders differ in the bits they give, JPEG's above all."""
    from PIL import __version__, features

    parts = [f"{name} {features.version(name)}" for name in ("jpg", "zlib", "libtiff", "webp") if features.check(name)]
    return f"Pillow {__version__} ({', '.join(parts)})"


def image_statistics(folders: Mapping[str, ImageFolder], root: Path, digest: str, cache: Path) -> dict[str, Any]:
    """Facts that need every image decoded once; cached in the file `cache` under the footprint `digest` and the decoder's version.

    Returns `mode` ("L" when all are grey, else "RGB"), `size` ([height, width], None when they differ), `mean` and `std` per channel of
    the training split in [0, 1] (exact: integer sums, hence the same in any order), `decoder`, and `pixels`, the digest of all decoded
    pixels. Raises DataError naming an image that cannot be read.
    """
    key = {"footprint": digest, "decoder": decoder(), "schema": 1}
    if cache.is_file():
        try:
            stored = read_json(cache)
        except RecordError:
            stored = {}
        if isinstance(stored, dict) and stored.get("key") == key:
            return dict(stored["statistics"])
    statistics = _compute_statistics(folders, root)
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_json(cache, {"key": key, "statistics": statistics})
    except OSError:
        pass  # a cache is a convenience: a read-only place costs the time of computing again
    return statistics


def _compute_statistics(folders: Mapping[str, ImageFolder], root: Path) -> dict[str, Any]:
    paths = [path for name in SPLITS for path in folders[name].paths]
    n_train = len(folders["train"].paths)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        mode: Mode = "L" if all(pool.map(_is_grey, paths)) else "RGB"
        rows = list(pool.map(lambda path: _measure(path, mode), paths))
    sizes = {row.size for row in rows}
    lines = sorted(
        f"{row.sha256}  {path.relative_to(root).as_posix()}\n" for row, path in zip(rows, paths, strict=True)
    )
    mean, std = _mean_and_std(rows[:n_train])
    return {
        "mode": mode,
        "size": list(next(iter(sizes))) if len(sizes) == 1 else None,
        "mean": mean,
        "std": std,
        "decoder": decoder(),
        "pixels": "sha256:" + hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest(),
    }


@dataclass(frozen=True)
class _Measured:
    """One image: (height, width), pixels, and per channel the sums of values and of squares, as integers."""

    size: tuple[int, int]
    n: int
    sums: tuple[int, ...]
    squares: tuple[int, ...]
    sha256: str


def _is_grey(path: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;16")
    except Exception as error:
        raise DataError(f"{path}: cannot be read as an image ({error}); mend or remove it") from None


def _measure(path: Path, mode: Mode) -> _Measured:
    pixels = numpy.asarray(open_image(path, mode))
    channels = pixels.reshape(-1, 1 if mode == "L" else 3)
    wide = channels.astype(numpy.int64)
    digest = hashlib.sha256(json.dumps(pixels.shape).encode() + pixels.tobytes()).hexdigest()
    sums, squares = wide.sum(0).tolist(), (wide * wide).sum(0).tolist()
    return _Measured((pixels.shape[0], pixels.shape[1]), len(channels), tuple(sums), tuple(squares), digest)


def _mean_and_std(rows: list[_Measured]) -> tuple[list[float], list[float]]:
    n = sum(row.n for row in rows)
    means, stds = [], []
    for channel in range(len(rows[0].sums)):
        total = sum(row.sums[channel] for row in rows)
        squares = sum(row.squares[channel] for row in rows)
        means.append(float(Fraction(total, 255 * n)))
        stds.append(math.sqrt(Fraction(squares * n - total * total, n * n * 255 * 255)))
    return means, stds
