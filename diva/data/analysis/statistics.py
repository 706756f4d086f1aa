"""Statistics: one pass over many images, in parallel and in little memory; everything is counted in whole numbers, so order is nothing.

Of each image a row of 170 bytes is kept; of the pixels, how often each of the 256 values occurs in each channel, which gives sums and
sums of squares exactly.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import stat
from array import array
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any, final

import numpy

from diva.data.analysis.workers import over_ranges
from diva.data.images import decoded, is_grey, opened
from diva.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL import Image

    from diva.data.analysis.workers import Kind
    from diva.data.images import Mode

ROW = numpy.dtype(
    [
        ("sha256", numpy.uint8, 32),  # of JSON's shape and the pixels, as Images stand in memory
        ("rows", numpy.uint64),  # which of 8 x 8 neighbours, left to right, is the brighter one: a difference hash
        ("columns", numpy.uint64),  # the same, top to bottom
        ("grid", numpy.uint8, 81),  # the image as 9 x 9 grey levels
        ("n_bytes", numpy.uint64),
        ("height", numpy.uint32),
        ("width", numpy.uint32),
        ("n_frames", numpy.uint32),
        ("mode", "S8"),
        ("format", "S8"),
        ("readable", numpy.bool_),
    ]
)
MOST_AT_ONCE = 256  # images in a worker's turn
SMALL = 1 << 14  # bytes of pixels; images up to this size are counted together
GRID = 9  # the difference hash looks at 9 x 9 grey levels
MARGIN = 2  # a neighbour is brighter when it is so by as much: noise in a plain area says nothing


@final
class Files:
    """Many files in little memory: their names below a folder, as bytes behind one another."""

    def __init__(self, root: Path, names: Iterable[str]) -> None:
        self.root = root
        self._top = os.path.join(os.fsencode(root), b"")  # noqa: PTH118 - bytes, not Path objects
        self._names = bytearray()
        self._ends = array("q", [0])
        for name in names:
            self._names += os.fsencode(name)
            self._ends.append(len(self._names))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def name(self, index: int) -> str:
        """The POSIX path below the folder."""
        return os.fsdecode(bytes(self._names[self._ends[index] : self._ends[index + 1]]))

    def path(self, index: int) -> str:
        """The path, to open the file."""
        return os.fsdecode(self._top + self._names[self._ends[index] : self._ends[index + 1]])


@final
@dataclass(frozen=True)
class Way:
    """How to go about it: in how many workers of which kind, and whether difference hashes are made too."""

    jobs: int | None = None
    kind: Kind = "processes"
    similar: bool = True


@final
@dataclass(frozen=True)
class Moments:
    """How often each value occurs in each channel: whole numbers (channels, 256)."""

    counts: NDArray[numpy.uint64]

    @property
    def n_pixels(self) -> int:
        """The number of pixels."""
        return int(self.counts[0].sum())

    def mean_and_std(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel over all pixels, in [0, 1]; each is the exact value, rounded once.

        Every pixel counts the same, whatever image it is of. No pixels: empty lists.
        """
        means, stds = [], []
        for channel in self.counts.tolist():
            n = sum(channel)
            if not n:
                return [], []
            total = sum(value * count for value, count in enumerate(channel))
            squares = sum(value * value * count for value, count in enumerate(channel))
            means.append(float(Fraction(total, 255 * n)))
            stds.append(math.sqrt(Fraction(squares * n - total * total, n * n * 255 * 255)))
        return means, stds


@final
@dataclass(frozen=True)
class Measured:
    """What a pass over images found: a row per image, counts of values per group, and which images could not be read, with the reason."""

    rows: NDArray[Any]  # (N,) of ROW
    counts: NDArray[numpy.uint64]  # (groups, 2, 3, 256): grey images, colour images
    unreadable: list[tuple[int, str]]

    def sizes(self) -> Counter[tuple[int, int]]:
        """How many images have which (height, width)."""
        pairs = (self.rows["height"].astype(numpy.uint64) << numpy.uint64(32)) | self.rows["width"]
        pairs = pairs[self.rows["readable"]]
        values, counts = numpy.unique(pairs, return_counts=True)
        return Counter({(v >> 32, v & 0xFFFFFFFF): n for v, n in zip(values.tolist(), counts.tolist(), strict=True)})

    def tally(self, column: str, start: int = 0, stop: int | None = None) -> dict[str, int]:
        """How many images have which mode or format, the names in order."""
        part = self.rows[start:stop]
        values, counts = numpy.unique(part[column][part["readable"]], return_counts=True)
        return {value.decode("ascii"): n for value, n in zip(values.tolist(), counts.tolist(), strict=True)}

    @property
    def mode(self) -> Mode:
        """ "L" when every image is grey, else "RGB"."""
        return "L" if all(map(is_grey, self.tally("mode"))) else "RGB"

    def moments(self, groups: Sequence[int], mode: Mode) -> Moments:
        """The counts of some groups; where there is colour, a grey image counts as one whose channels are all the same."""
        counts = self.counts[list(groups)].sum(0)
        return Moments(counts[0, :1] if mode == "L" else counts[1] + counts[0, :1])


def measure(
    files: Files,
    groups: Sequence[int],
    way: Way,
    mode: Mode | None = None,
    progress: Callable[[int], None] | None = None,
) -> Measured:
    """Decode every image once. `groups` are the lengths of the groups of files whose pixels are counted together.

    mode: what images are decoded to; None: "L" what is grey, "RGB" the rest.
    """
    ends = list(accumulate(groups))
    rows = numpy.zeros(len(files), ROW)
    counts = numpy.zeros((len(groups), 2, 3, 256), numpy.uint64)
    bad: list[tuple[int, str]] = []

    def work(
        start: int, stop: int
    ) -> tuple[int, NDArray[Any], dict[int, NDArray[numpy.uint64]], list[tuple[int, str]]]:
        turn = Turn(stop - start, way.similar)
        reasons = []
        for index in range(start, stop):
            try:
                turn.add(index - start, bisect_right(ends, index), content_of(files.path(index)), mode)
            except Exception as error:  # Pillow's decoders raise a dozen kinds
                reasons.append((index, reason_of(error)))
        return start, *turn.end(), reasons

    for start, part, counted, reasons in over_ranges(work, len(files), MOST_AT_ONCE, way.jobs, way.kind):
        rows[start : start + len(part)] = part
        for group, values in counted.items():
            counts[group] += values
        bad += reasons
        if progress is not None:
            progress(len(part))
    return Measured(rows, counts, sorted(bad))


def content_of(path: str) -> bytes:
    """The bytes of a file, with as few calls of the system as there can be."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # which means something for pipes alone: they do not block
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError("is no regular file")
        size, parts = facts.st_size, []
        while size > 0 and (part := os.read(descriptor, size)):
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
    finally:
        os.close(descriptor)


def read_modes(files: Files, kind: Kind) -> set[str]:
    """The modes that occur, from the files' heads alone; DataError names one that is no image."""

    def work(start: int, stop: int) -> tuple[set[str], list[tuple[int, str]]]:
        found, bad = set(), []
        for index in range(start, stop):
            try:
                with opened(files.path(index)) as image:
                    found.add(image.mode)
            except Exception as error:  # as above
                bad.append((index, reason_of(error)))
        return found, bad

    modes: set[str] = set()
    bad: list[tuple[int, str]] = []
    for found, reasons in over_ranges(work, len(files), MOST_AT_ONCE, kind=kind):
        modes |= found
        bad += reasons
    if bad:
        index, reason = min(bad)
        raise DataError(f"{files.path(index)}: cannot be read as an image ({reason}); mend or remove it")
    return modes


def reason_of(error: Exception) -> str:
    """Why something could not be read, without the file's path or an object's address: the same on every machine."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).partition(" <_io.")[0]
    return " ".join((text or type(error).__name__).split())


@final
class Turn:
    """What one worker does at a time: a few hundred images, then everything that is cheaper for many at once."""

    def __init__(self, n: int, similar: bool) -> None:
        from PIL import Image

        self.rows = numpy.zeros(n, ROW)
        self.counts: dict[int, NDArray[numpy.uint64]] = {}
        self._grids = Image.new("RGB", (GRID, GRID * n)) if similar else None
        self._filter = Image.Resampling.BILINEAR
        self._small: dict[tuple[int, Mode], list[bytes]] = {}

    def add(self, place: int, group: int, content: bytes, mode: Mode | None) -> None:
        """Decode one image and note what there is to note."""
        with opened(io.BytesIO(content)) as source:
            own_mode, own_format = source.mode, source.format or ""
            image = decoded(source, mode or ("L" if is_grey(own_mode) else "RGB"))
            sha256 = self._count(group, image)
            width, height = image.size
            self._look(place, image)
        self._note(place, sha256, len(content), (height, width), 1, own_mode, own_format)

    def add_clip(self, place: int, group: int, frames: Iterator[Image.Image], n_bytes: int, suffix: str) -> None:
        """Note the frames of a clip, RGB; it has the size and the hashes of the first."""
        digests: list[bytes] = []
        size = 0, 0
        for frame in frames:
            if not digests:
                size = frame.height, frame.width
                self._look(place, frame)
            digests.append(self._count(group, frame))
        sha256 = hashlib.sha256(b"".join(digests)).digest()
        self._note(place, sha256, n_bytes, size, len(digests), "RGB", suffix)

    def end(self) -> tuple[NDArray[Any], dict[int, NDArray[numpy.uint64]]]:
        """The rows and the counts."""
        from PIL import Image

        for (group, mode), images in self._small.items():
            pixels = b"".join(images)
            n_pixels = len(pixels) // (1 if mode == "L" else 3)
            if n_pixels:
                self._add(group, Image.frombytes(mode, (n_pixels, 1), pixels))
        if self._grids is not None:
            grids = numpy.frombuffer(self._grids.convert("L").tobytes(), numpy.uint8)
            self.rows["grid"] = grids.reshape(-1, GRID * GRID)
            self.rows["rows"], self.rows["columns"] = difference_hashes(self.rows["grid"])
        return self.rows, self.counts

    def _count(self, group: int, image: Image.Image) -> bytes:
        """Count the values of an image; returns the digest of its pixels."""
        mode: Mode = "L" if image.mode == "L" else "RGB"
        shape = (image.height, image.width) if mode == "L" else (image.height, image.width, 3)
        pixels = image.tobytes()
        if len(pixels) <= SMALL:
            self._small.setdefault((group, mode), []).append(pixels)
        else:
            self._add(group, image)
        return hashlib.sha256(_shape(shape) + pixels).digest()

    def _add(self, group: int, image: Image.Image) -> None:
        counts = self.counts.setdefault(group, numpy.zeros((2, 3, 256), numpy.uint64))
        n_channels = 1 if image.mode == "L" else 3
        found = numpy.array(image.histogram(), numpy.uint64).reshape(n_channels, 256)
        counts[0 if n_channels == 1 else 1, :n_channels] += found

    def _look(self, place: int, image: Image.Image) -> None:
        """Keep an image as 9 x 9 pixels, each a mean of its part, for its difference hashes; whole-number arithmetic of Pillow."""
        if self._grids is not None:
            small = image.resize((GRID, GRID), self._filter, reducing_gap=4.0)
            self._grids.paste(small, (0, GRID * place))

    def _note(self, place: int, sha256: bytes, n_bytes: int, size: tuple[int, int], *rest: Any) -> None:
        n_frames, mode, kind = rest
        digest = numpy.frombuffer(sha256, numpy.uint8)
        self.rows[place] = (digest, 0, 0, 0, n_bytes, *size, n_frames, mode.encode(), kind.encode(), True)


@lru_cache(maxsize=4096)
def _shape(shape: tuple[int, ...]) -> bytes:
    return json.dumps(shape).encode()


def difference_hashes(grids: NDArray[numpy.uint8]) -> tuple[NDArray[numpy.uint64], NDArray[numpy.uint64]]:
    """Two hashes of 64 bits for each grid of 9 x 9 grey levels (N, 81): where the right, where the lower neighbour is clearly brighter."""
    grey = grids.reshape(-1, GRID, GRID).astype(numpy.int16)
    right = grey[:, :-1, 1:] >= grey[:, :-1, :-1] + MARGIN
    below = grey[:, 1:, :-1] >= grey[:, :-1, :-1] + MARGIN
    pack = partial(numpy.packbits, axis=1)
    rows, columns = (pack(bits.reshape(-1, 64)).view(">u8").astype(numpy.uint64).reshape(-1) for bits in (right, below))
    return rows, columns
