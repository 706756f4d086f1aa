"""Facts about masks that need every one decoded: which codes occur how often, and how large the pages are."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from diva.data.images import decoder, opened, unreadable
from diva.data.masks import count_codes
from diva.errors import DataError, RecordError
from diva.records.files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from diva.data.layouts.pairs import ImagePairs
    from diva.data.masks import Kind

_N_THREADS = 4  # a decoded page of 12 million pixels takes some 300 MB for a moment


def mask_statistics(splits: Mapping[str, ImagePairs], kind: Kind | None, digest: str, cache: Path) -> dict[str, Any]:
    """Facts of all pairs; cached in the file `cache` under the footprint `digest`, the kind and the decoder's version.

    Returns `codes` (of each split, how many pixels have each code, as lists [code, pixels] by rising code), `boundary` (how many pixels of
    each split are at a boundary) and `sizes` (of each split, [height, width] of each page). Raises DataError for a mask that cannot be
    read, or whose size is not its image's.
    """
    key = {"footprint": digest, "decoder": decoder(), "kind": kind or "auto", "schema": 1}
    if cache.is_file():
        with suppress(RecordError):
            stored = read_json(cache)
            if isinstance(stored, dict) and stored.get("key") == key and isinstance(stored.get("statistics"), dict):
                return dict(stored["statistics"])
    statistics: dict[str, Any] = {"codes": {}, "boundary": {}, "sizes": {}}
    for name, pairs in splits.items():
        codes: dict[int, int] = {}
        boundary, sizes = 0, []
        with ThreadPoolExecutor(_N_THREADS) as pool:
            found = pool.map(_count, pairs.images, pairs.masks, [kind] * len(pairs))
            for counts, at_boundary, size in found:
                for code, n in counts.items():
                    codes[code] = codes.get(code, 0) + n
                boundary += at_boundary
                sizes.append(list(size))
        statistics["codes"][name] = [list(pair) for pair in sorted(codes.items())]
        statistics["boundary"][name], statistics["sizes"][name] = boundary, sizes
    with suppress(OSError):  # a cache is a convenience: a read-only place costs the time of computing again
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_json(cache, {"key": key, "statistics": statistics})
    return statistics


def _count(image: Path, mask: Path, kind: Kind | None) -> tuple[dict[int, int], int, tuple[int, int]]:
    counts, boundary, (height, width) = count_codes(mask, kind)
    try:
        with opened(image) as source:
            size = source.size
    except Exception as error:  # Pillow's decoders raise a dozen kinds
        raise unreadable(image, error) from None
    if size != (width, height):
        raise DataError(
            f"{mask}: is {height} x {width} pixels, its image {size[1]} x {size[0]}; each pixel of a page needs its own"
        )
    return counts, boundary, (height, width)
