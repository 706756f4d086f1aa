"""Images: how one is decoded, and the exact statistics of many."""

from __future__ import annotations

import hashlib
import os
import stat
import warnings
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy

from diva.errors import DataError, RecordError
from diva.records.files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL import Image

    from diva.data.layouts.class_folders import ImageFolder

Mode = Literal["L", "RGB"]
SPLITS = ("train", "val", "test")
FORMATS = ("PNG", "JPEG", "PPM", "BMP", "GIF", "TIFF", "WEBP")  # Pillow hands others, as EPS, to programs; its names
_BITS_PER_SAMPLE = 258  # tag of TIFF


def opened(file: str | Path | IO[bytes]) -> Image.Image:
    """An image, its head read and its pixels not yet, to be used in `with`: the only way in which diva opens one.

    Whatever its name, a file is looked at as one of `FORMATS`. Raises what Pillow raises, OSError for what is no regular file (a pipe
    would block), and ValueError above Pillow's limit of 178,956,970 pixels, since a small file can claim any number of them.
    """
    from PIL import Image

    _expect_large_images()
    if isinstance(file, str | Path) and not stat.S_ISREG(os.stat(file).st_mode):  # noqa: PTH116 - a third of the time
        raise OSError("is no regular file")
    try:
        return Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise ValueError(f"has more than {most:,} pixels, the most that are decoded; cut it into parts") from None


@lru_cache(maxsize=1)
def _expect_large_images() -> None:
    """Pillow warns from half its limit on; a scanned page may well be as large."""
    from PIL import Image

    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def open_image(path: Path, mode: Mode) -> Image.Image:
    """The decoded image in 8 bits per channel; transparency is dropped, 16-bit grey keeps its upper byte.

    The pixels are as they stand in the file: what EXIF says about turning them is ignored, as torchvision's ImageFolder does.
    DataError names the file.
    """
    try:
        with opened(path) as source:
            image = decoded(source, mode)
            return image.copy() if image is source else image
    except Exception as error:  # Pillow's decoders raise a dozen kinds
        raise unreadable(path, error) from None


def decoded(source: Image.Image, mode: Mode) -> Image.Image:
    """The pixels of an opened image in 8 bits per channel, as `open_image` gives them; `source` itself, loaded, when it is in that mode.

    DataError, without the file's name, for grey of 32 bits or with a fraction: nothing says which values are black and white.
    """
    image = source
    if source.mode.startswith("I;16") or (source.mode == "I" and _has_16_bits(source)):
        values = numpy.asarray(source)
        if values.dtype.kind == "i" and values.size and not 0 <= values.min() <= values.max() <= 0xFFFF:
            raise DataError(_out_of_range(source.mode))
        from PIL import Image

        image = Image.fromarray((values >> 8).astype(numpy.uint8))
    elif source.mode in ("I", "F"):
        raise DataError(_out_of_range(source.mode))
    if image.mode != mode:
        return image.convert(mode)
    image.load()
    return image


def _has_16_bits(source: Image.Image) -> bool:
    """Whether an image that Pillow decodes to 32 bits (mode I) has 16 in its file, as PNG and PGM always do, TIFF by its tag."""
    if source.format in ("PNG", "PPM"):
        return True
    bits: Any = getattr(source, "tag_v2", {}).get(_BITS_PER_SAMPLE)
    return bits in (16, (16,))


def _out_of_range(mode: str) -> str:
    what = "fractions" if mode == "F" else "values of 32 bits or below 0"
    return f"its mode is {mode}, grey with {what}, whose range nobody knows; save it with 8 or 16 bits per channel"


def is_grey(mode: str) -> bool:
    """Whether a mode of Pillow has no colour."""
    return mode in ("1", "L", "LA", "I", "F") or mode.startswith("I;16")


def unreadable(path: Path, reason: object) -> DataError:
    """The error of an image that cannot be decoded."""
    return DataError(f"{path}: cannot be read as an image ({reason}); mend or remove it")


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
        if isinstance(stored, dict) and stored.get("key") == key and _is_whole(stored.get("statistics")):
            return dict(stored["statistics"])
    statistics = _compute_statistics(folders, root)
    with suppress(OSError):  # a cache is a convenience: a read-only place costs the time of computing again
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_json(cache, {"key": key, "statistics": statistics})
    return statistics


def _is_whole(statistics: Any) -> bool:
    """Whether this is what `image_statistics` once wrote, not what somebody else made of it."""
    return (
        isinstance(statistics, dict)
        and statistics.get("mode") in ("L", "RGB")
        and all(isinstance(statistics.get(key), list) for key in ("mean", "std"))
        and all(isinstance(statistics.get(key), str) for key in ("decoder", "pixels"))
        and isinstance(statistics.get("size", 0), list | None)
    )


def _compute_statistics(folders: Mapping[str, ImageFolder], root: Path) -> dict[str, Any]:
    from diva.data.analysis import statistics

    names = (path.relative_to(root).as_posix() for name in SPLITS for path in folders[name].paths)
    files = statistics.Files(root, names)
    n_train = len(folders["train"].paths)
    groups = [n_train, len(files) - n_train]
    # Threads, not processes: torch may be loaded here, and its own threads do not survive a fork.
    modes = statistics.read_modes(files, kind="threads")
    mode: Mode = "L" if all(map(is_grey, modes)) else "RGB"
    found = statistics.measure(files, groups, statistics.Way(kind="threads", similar=False), mode)
    if found.unreadable:
        raise unreadable(Path(files.path(found.unreadable[0][0])), found.unreadable[0][1])
    sizes = found.sizes()
    lines = sorted(f"{bytes(row['sha256']).hex()}  {files.name(i)}\n" for i, row in enumerate(found.rows))
    mean, std = found.moments([0], mode).mean_and_std()
    return {
        "mode": mode,
        "size": list(next(iter(sizes))) if len(sizes) == 1 else None,
        "mean": mean,
        "std": std,
        "decoder": decoder(),
        "pixels": "sha256:" + hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest(),
    }
