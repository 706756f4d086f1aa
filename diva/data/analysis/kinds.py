"""Kinds: the statistics of masks, clips and points; exact, hence the same in any order."""

from __future__ import annotations

import hashlib
import io
import math
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy

from diva.data.analysis.statistics import MOST_AT_ONCE, ROW, Measured, Turn, content_of, reason_of
from diva.data.analysis.workers import over_ranges
from diva.data.images import opened
from diva.data.layouts.clips import frames_of
from diva.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from diva.data.analysis.statistics import Files, Way
    from diva.data.layouts import Samples
    from diva.data.layouts.points import Points

MOST_CODES = 4096  # colours of one mask; a photograph in gt/ has more
_SCALE = 1074  # the least positive double is 2 to the power of -1074: times 2 to the power of 1074 every double is a whole number


def count_codes(
    masks: Files,
    sizes: Sequence[tuple[int, int]],
    groups: Sequence[int],
    way: Way,
    progress: Callable[[int], None],
) -> tuple[list[Counter[str]], list[Counter[str]], list[tuple[int, str]]]:
    """Pixels and masks of each code, per group of masks; then the masks that cannot be used, with the reason.

    A code is the number of a palette or a grey level, or a colour as #rrggbb. sizes: (height, width) that each mask must have; (0, 0):
    any.
    """
    starts = numpy.cumsum([0, *groups])

    def work(
        start: int, stop: int
    ) -> tuple[int, dict[int, Counter[str]], dict[int, Counter[str]], list[tuple[int, str]]]:
        pixels: dict[int, Counter[str]] = {}
        seen: dict[int, Counter[str]] = {}
        bad = []
        for index in range(start, stop):
            group = int(starts.searchsorted(index, "right")) - 1
            try:
                codes = _codes(masks.path(index), sizes[index])
            except Exception as error:  # Pillow's decoders raise a dozen kinds
                bad.append((index, reason_of(error)))
                continue
            pixels.setdefault(group, Counter()).update(codes)
            seen.setdefault(group, Counter()).update(codes.keys())
        return stop - start, pixels, seen, bad

    all_pixels: list[Counter[str]] = [Counter() for _ in groups]
    all_seen: list[Counter[str]] = [Counter() for _ in groups]
    all_bad: list[tuple[int, str]] = []
    for n, pixels, seen, bad in over_ranges(work, len(masks), MOST_AT_ONCE, way.jobs, way.kind):
        for group in pixels:
            all_pixels[group].update(pixels[group])
            all_seen[group].update(seen[group])
        all_bad += bad
        progress(n)
    return all_pixels, all_seen, sorted(all_bad)


def code_order(code: str) -> tuple[int, int, str]:
    """Order of codes: numbers by value, then colours."""
    return (1, 0, code) if code.startswith("#") else (0, int(code), "")


def _codes(path: str, size: tuple[int, int]) -> dict[str, int]:
    with opened(io.BytesIO(content_of(path))) as mask:
        if size != (0, 0) and (mask.height, mask.width) != size:
            raise DataError(f"is {mask.width} x {mask.height}, its image {size[1]} x {size[0]}")
        image = mask if mask.mode in ("1", "L", "P", "RGB") or mask.mode.startswith("I") else mask.convert("RGB")
        if image.mode.startswith("I"):
            values, counts = numpy.unique(numpy.asarray(image), return_counts=True)
            return {str(v): n for v, n in zip(values.tolist(), counts.tolist(), strict=True)}
        found: Any = image.getcolors(MOST_CODES)
    if found is None:
        raise DataError(f"has more than {MOST_CODES} colours: this is no mask")
    return {"#{:02x}{:02x}{:02x}".format(*code) if isinstance(code, tuple) else str(code): n for n, code in found}


def measure_clips(clips: Mapping[str, Samples], way: Way, progress: Callable[[int], None]) -> Measured:
    """A row per clip: its digest is that of its frames' digests, its size and hashes the first frame's; all frames' pixels are counted."""
    groups = [len(part) for part in clips.values()]
    starts = numpy.cumsum([0, *groups])
    parts = list(clips.values())
    rows = numpy.zeros(sum(groups), ROW)
    counts = numpy.zeros((len(groups), 2, 3, 256), numpy.uint64)
    bad: list[tuple[int, str]] = []

    def work(start: int, stop: int) -> tuple[int, Any, Any, list[tuple[int, str]]]:
        turn, reasons = Turn(stop - start, way.similar), []
        for index in range(start, stop):
            group = int(starts.searchsorted(index, "right")) - 1
            paths = parts[group].files(index - int(starts[group]))
            try:
                suffix = paths[0].suffix[1:].upper()
                turn.add_clip(
                    index - start, group, frames_of(paths), sum(path.stat().st_size for path in paths), suffix
                )
            except DataError as error:
                reasons.append((index, _relative_reason(str(error), paths)))
            except OSError as error:
                reasons.append((index, reason_of(error)))
        return start, *turn.end(), reasons

    for start, part, counted, reasons in over_ranges(work, len(rows), 16, way.jobs, way.kind):
        rows[start : start + len(part)] = part
        for group, values in counted.items():
            counts[group] += values
        bad += reasons
        progress(len(part))
    return Measured(rows, counts, sorted(bad))


def _relative_reason(message: str, paths: Sequence[Path]) -> str:
    for path in paths:
        message = message.replace(str(path), path.name)
    return message.replace("; mend or remove it", "")


def describe_points(points: Points) -> list[dict[str, Any]]:
    """Of each feature: its name, mean and standard deviation (exact, rounded once), least and greatest value."""
    described = []
    for place, name in enumerate(points.columns):
        values = [row[place] for row in points.features]
        mean, std = mean_and_std(values)
        described.append({"name": name, "mean": mean, "std": std, "min": min(values), "max": max(values)})
    return described


def point_digests(parts: Iterable[Points]) -> numpy.ndarray[Any, Any]:
    """Digests of the features of all points, uint8 (N, 32)."""
    found = bytearray()
    for part in parts:
        for row in part.features:
            found += hashlib.sha256(" ".join((value + 0.0).hex() for value in row).encode()).digest()
    return numpy.frombuffer(bytes(found), numpy.uint8).reshape(-1, 32)


def mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (of the population) of finite numbers: the exact value, rounded once."""
    n, total, squares = len(values), 0, 0
    for value in values:
        top, bottom = value.as_integer_ratio()
        whole = top << (_SCALE - bottom.bit_length() + 1)
        total += whole
        squares += whole * whole
    variance = Fraction(squares * n - total * total, n * n << (2 * _SCALE))
    return float(Fraction(total, n << _SCALE)), root_of(variance)


def root_of(value: Fraction) -> float:
    """The square root, also of what is too small or too great for a double."""
    shift = (value.numerator.bit_length() - value.denominator.bit_length()) // 2 if value else 0
    return math.ldexp(math.sqrt(value / Fraction(4) ** shift), shift)


def spread(values: Sequence[int] | Any) -> dict[str, int]:
    """The least, the middle (of two the lower) and the greatest of some whole numbers; {} of none."""
    ordered = numpy.sort(numpy.asarray(values))
    if not len(ordered):
        return {}
    return {"min": int(ordered[0]), "median": int(ordered[(len(ordered) - 1) // 2]), "max": int(ordered[-1])}
