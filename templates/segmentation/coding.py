"""What the pixels of masks mean: from codes to class numbers and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy

from diva import DataError, UsageError, colour_codes, describe, hisdb_name, looks_like_hisdb, read_mask_and_boundary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Kind = Literal["index", "colour", "divahisdb"]
LOOKED_AT = 10  # masks; one of them may hold a code that is a mistake, which is to be named
IGNORED = 255  # in place of a class number: a pixel that nothing is learnt from and that is not counted


@dataclass(frozen=True)
class Coding:
    """The classes of masks: the code of each and its name, which of them is background, and the codes of pixels to be ignored."""

    kind: Kind | None
    codes: tuple[int, ...]
    names: tuple[str, ...]
    background: int
    ignored: tuple[int, ...] = ()

    def read(self, path: Path) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Class numbers, uint8 (H, W), `IGNORED` among them, and which pixels are at a boundary, bool (H, W). DataError: unknown codes."""
        numbers = {code: number for number, code in enumerate(self.codes)} | dict.fromkeys(self.ignored, IGNORED)
        labels, boundary = read_mask_and_boundary(path, numbers, self.kind)
        return labels.astype(numpy.uint8), boundary

    def count(self, found: Sequence[Sequence[int]]) -> list[int]:
        """Number of pixels of each class, from [code, pixels] for each code that occurs."""
        pixels = {int(code): int(n) for code, n in found}
        return [pixels.get(code, 0) for code in self.codes]

    def encode(self, labels: numpy.ndarray) -> numpy.ndarray:
        """Class numbers, uint8 (H, W), as masks have them: uint8 (H, W) of indices, or (H, W, 3) of colours or DIVA-HisDB's codes."""
        codes = numpy.array(self.codes, numpy.int64)[labels]
        if self.kind == "divahisdb":
            return numpy.stack([numpy.zeros_like(labels), numpy.zeros_like(labels), codes.astype(numpy.uint8)], axis=2)
        if self.kind == "colour":
            return numpy.stack([codes >> 16, codes >> 8 & 0xFF, codes & 0xFF], axis=2).astype(numpy.uint8)
        return codes.astype(numpy.uint8) if max(self.codes) < 256 else labels  # a PNG of 8 bits holds no larger ones


def find_kind(root: Path, masks: Sequence[Path], asked: str) -> Kind | None:
    """How masks are coded: as asked, else in colours where `dataset.yaml` names them, as DIVA-HisDB where one of the first masks is so.

    None: indices where masks have one channel, else colours without names.
    """
    if asked != "auto":
        found: dict[str, Kind] = {"index": "index", "colour": "colour", "divahisdb": "divahisdb"}
        return found[asked]
    if describe(root).colours:
        return "colour"
    return "divahisdb" if any(map(looks_like_hisdb, masks[:LOOKED_AT])) else None


def build_coding(root: Path, kind: Kind | None, found: Mapping[str, Sequence[Any]], ignored: Sequence[int]) -> Coding:
    """The classes: those that `dataset.yaml` names, else one for each code that occurs in a mask of any split.

    root: the folder of the data set. found: of each split, [code, pixels] for each code in its masks. DataError: names and codes do not
    go together.
    """
    codes = sorted({int(code) for pairs in found.values() for code, _ in pairs} - set(ignored))
    described = describe(root)
    names = described.classes
    if described.colours and kind == "colour":
        names = names or tuple(described.colours)
        known = colour_codes(described.colours, names)
        codes = sorted(known, key=lambda code: known[code])
    elif kind == "divahisdb":
        codes = sorted({1, *codes})
        names = tuple(hisdb_name(code) for code in codes)
    elif names is None:
        colours = kind == "colour" or max(codes, default=0) > 0xFFFF
        names = tuple(f"#{code:06x}" if colours else f"class {code}" for code in codes)
    elif not codes or max(codes) < len(names):
        codes = list(range(len(names)))
    elif len(codes) != len(names):
        raise DataError(
            f"{root}: dataset.yaml names {len(names)} classes, so masks hold 0 to {len(names) - 1}, or as many codes as there are names; "
            f"they hold {len(codes)}, from {codes[0]} to {codes[-1]}. Name all, or leave codes out with --ignored-codes {codes[-1]}"
        )
    if not 2 <= len(codes) <= IGNORED:
        raise UsageError(
            f"{root}: masks have {len(codes)} classes; 2 to {IGNORED} can be told apart. --mask-kind says how masks are coded"
        )
    background = next((i for i, name in enumerate(names) if name.lower() == "background"), 0)
    return Coding(kind, tuple(codes), names, background, tuple(ignored))
