"""Masks: from the pixels of a ground-truth image to class numbers.

The code of a pixel is its value in a mask of indices (grey, palette, 1 bit), `0xRRGGBB` in one of colours, and the blue channel in
DIVA-HisDB's, where the bits of blue are classes and the bit 0x80 of red marks a pixel at a boundary.
Source of the latter: Simistira et al. 2016, DIVA-HisDB: a precisely annotated large dataset of challenging medieval manuscripts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy

from diva.data.images import opened
from diva.errors import DataError, UsageError
from diva.records.files import some_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

Kind = Literal["index", "colour", "divahisdb"]
KINDS: tuple[Kind, ...] = get_args(Kind)
BOUNDARY = 0x80
HISDB_BITS = {0x1: "background", 0x2: "comment", 0x4: "decoration", 0x8: "main text"}
_SMALL = 1 << 16  # codes below are looked up in a table, not sorted
_LOSSY = ("JPEG", "MPO")  # MPO: several JPEGs in a file
_COLOUR = re.compile(r"#?([0-9a-f]{6})", re.IGNORECASE)


class _Lossy(Exception):
    """A file that does not hold the pixels that were saved."""


def read_mask(path: Path, codes: Mapping[int, int], kind: Kind | None = None) -> NDArray[numpy.int64]:
    """Class numbers of a mask's pixels, (H, W).

    codes: the class number of each code. kind: None is index for masks of one channel, else colour.
    Raises DataError for a code that is not in `codes`, with the file, and for a file that is no mask; a JPEG is none.
    """
    return read_mask_and_boundary(path, codes, kind)[0]


def read_mask_and_boundary(
    path: Path, codes: Mapping[int, int], kind: Kind | None = None
) -> tuple[NDArray[numpy.int64], NDArray[numpy.bool_]]:
    """Class numbers of a mask's pixels, (H, W), and which pixels are at a boundary, (H, W): none unless kind is divahisdb."""
    found, boundary, kind = _decoded(path, kind)
    values, places = _values(found)
    unknown = [int(value) for value in values if int(value) not in codes]
    if unknown:
        known = some_of([shown(code, kind) for code in sorted(codes)])
        n = int(numpy.isin(found, unknown).sum())
        lossy = "; WebP may have altered colours: save masks as PNG" if path.suffix.lower() == ".webp" else ""
        raise DataError(
            f"{path}: {n:,} pixels have a code that no class has, the first {shown(unknown[0], kind)}; known are {known}{lossy}"
        )
    numbers = numpy.array([codes[int(value)] for value in values], numpy.int64)
    return numbers[places], boundary


def count_codes(path: Path, kind: Kind | None = None) -> tuple[dict[int, int], int, tuple[int, int]]:
    """How many pixels of a mask have each code that occurs, by rising code; how many are at a boundary; its height and width."""
    found, boundary, _ = _decoded(path, kind)
    values, places = _values(found)
    counts = numpy.bincount(places.reshape(-1), minlength=len(values)).tolist()
    height, width = found.shape
    return dict(zip(values.tolist(), counts, strict=True)), int(boundary.sum()), (height, width)


def mask_codes(path: Path, kind: Kind | None = None) -> list[int]:
    """The codes that occur in a mask, ascending."""
    return [int(code) for code in numpy.unique(_decoded(path, kind)[0])]


def colour_codes(colours: Mapping[str, str], classes: Sequence[str]) -> dict[int, int]:
    """The code of each class from what `colours` of `dataset.yaml` says, as in `text: "#ff0000"`.

    Raises DataError for a class without colour, a colour without class, one that is no `#rrggbb`, and one that two classes have.
    """
    codes: dict[int, int] = {}
    for name, colour in colours.items():
        match = _COLOUR.fullmatch(colour)
        if name not in classes:
            raise DataError(f"dataset.yaml: colours names the class {name!r}; classes are {', '.join(classes)[:80]}")
        if match is None:
            raise DataError(f'dataset.yaml: the colour {colour!r} of {name} is none; expected "#rrggbb"')
        code = int(match[1], 16)
        if code in codes:
            raise DataError(f"dataset.yaml: {name} and {classes[codes[code]]} have the same colour {colour}")
        codes[code] = list(classes).index(name)
    if without := [name for name in classes if name not in colours]:
        raise DataError(f"dataset.yaml: colours has none for the class {without[0]!r}")
    return codes


def hisdb_name(code: int) -> str:
    """What a code of DIVA-HisDB means: `main text`, `comment + decoration`, ..."""
    names = [name for bit, name in HISDB_BITS.items() if code & bit]
    return " + ".join(names) if names and code < 2 * max(HISDB_BITS) else f"code {code}"


def looks_like_hisdb(path: Path) -> bool:
    """Whether a mask is coded as DIVA-HisDB's: green 0, red 0 or 0x80, blue one or more of the four bits, everywhere."""
    pixels, kind = _pixels(path, None)
    if kind == "index":
        return False
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    return bool(
        (green == 0).all() and numpy.isin(red, (0, BOUNDARY)).all() and (blue > 0).all() and (blue < 0x10).all()
    )


def shown(code: int, kind: Kind) -> str:
    """A code as a person reads it: `#ff0000` for a colour, otherwise the number."""
    return f"#{code:06x}" if kind == "colour" else str(code)


def _values(found: NDArray[numpy.int64]) -> tuple[NDArray[numpy.int64], NDArray[numpy.int64]]:
    """The codes that occur, rising, and for each pixel the place of its code among them: `numpy.unique`, faster for small codes."""
    if found.size and 0 <= found.min() <= found.max() < _SMALL:
        values = numpy.flatnonzero(numpy.bincount(found.reshape(-1)))
        places = numpy.zeros(int(values[-1]) + 1, numpy.int64)
        places[values] = numpy.arange(len(values))
        return values, places[found]
    values, inverse = numpy.unique(found, return_inverse=True)
    return values, inverse.reshape(found.shape)


def _decoded(path: Path, kind: Kind | None) -> tuple[NDArray[numpy.int64], NDArray[numpy.bool_], Kind]:
    """The codes of a mask's pixels, (H, W), which are at a boundary, (H, W), and of what kind the mask is."""
    if kind is not None and kind not in KINDS:
        raise UsageError(f"no masks are {kind!r}; allowed: {', '.join(KINDS)}")
    pixels, kind = _pixels(path, kind)
    none = numpy.zeros(pixels.shape[:2], numpy.bool_)
    if kind == "index":
        return pixels.astype(numpy.int64), none, kind
    red, green, blue = (pixels[..., channel].astype(numpy.int64) for channel in range(3))
    if kind == "colour":
        return red << 16 | green << 8 | blue, none, kind
    if green.any():
        raise DataError(f"{path}: is not coded as DIVA-HisDB's masks are: its green channel is not 0")
    return blue, (red & BOUNDARY) > 0, kind


def _pixels(path: Path, kind: Kind | None) -> tuple[NDArray[Any], Kind]:
    """The pixels of a mask, (H, W) for indices, else (H, W, 3); the indices of a palette are not its colours."""
    try:
        with opened(path) as image:
            if image.format in _LOSSY:
                raise _Lossy
            one_channel = image.mode in ("1", "L", "P", "LA", "I") or image.mode.startswith("I;16")
            kind = kind or ("index" if one_channel else "colour")
            if kind != "index":
                return numpy.asarray(image.convert("RGB")), kind
            if one_channel:
                return numpy.asarray(image.convert("L") if image.mode == "LA" else image), kind
            mode = image.mode
    except _Lossy:
        raise DataError(
            f"{path}: is a JPEG, which alters pixels at every edge, and so what they mean; masks must be without loss: save it as PNG"
        ) from None
    except Exception as error:  # Pillow's decoders raise a dozen kinds
        raise DataError(f"{path}: cannot be read as an image ({error}); mend or remove it") from None
    raise DataError(
        f"{path}: is an image in colours ({mode}), a mask of indices has one channel; state colours in dataset.yaml"
    )
