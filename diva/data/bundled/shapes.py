"""Points in the unit square whose classes form a shape that can be seen: what one tries a classifier on first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from diva.data.bundled.random import Stream, circle
from diva.data.bundled.rows import deal_rows, write_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

N_POINTS: Final = 1000

Point = tuple[float, float, str]


def _diagonal(stream: Stream) -> Point:
    x, y = stream.uniform(), stream.uniform()
    return x, y, "above" if y > x else "below"


def _circle(stream: Stream) -> Point:
    x, y = stream.uniform(), stream.uniform()
    return x, y, "inside" if _squared(x, y) < 0.16 else "outside"


def _donut(stream: Stream) -> Point:
    x, y = stream.uniform(), stream.uniform()
    return x, y, "ring" if 0.04 < _squared(x, y) < 0.16 else "rest"


def _stripes(stream: Stream) -> Point:
    x, y = stream.uniform(), stream.uniform()
    return x, y, f"stripe {int(5 * x) + 1}"


def _xor(stream: Stream) -> Point:
    x, y = stream.uniform(), stream.uniform()
    return x, y, "same side" if (x < 0.5) == (y < 0.5) else "other side"


def _flag(stream: Stream) -> Point:
    """A cross off the middle, as on the flags of the north, and the fields around it."""
    x, y = stream.uniform(), stream.uniform()
    if 0.3 <= x < 0.45 or 0.4 <= y < 0.6:
        return x, y, "cross"
    return x, y, "left" if x < 0.3 else "upper right" if y > 0.5 else "lower right"


def _moons(stream: Stream) -> Point:
    upper = stream.below(2) == 0
    cosine, sine = circle(stream.uniform() / 2)
    x, y = (cosine, sine) if upper else (1 - cosine, 0.5 - sine)
    x, y = (x + 1.5) / 4, (y + 1.25) / 3
    return x + 0.025 * stream.normal(), y + 0.025 * stream.normal(), "upper" if upper else "lower"


def _arm(stream: Stream, arm: int, n_arms: int, names: tuple[str, ...]) -> Point:
    """A point near one arm of a spiral: the radius grows with the angle over one and a half turns."""
    t = stream.uniform()
    cosine, sine = circle(1.5 * t + arm / n_arms)
    radius = 0.05 + 0.4 * t
    return 0.5 + radius * cosine + 0.01 * stream.normal(), 0.5 + radius * sine + 0.01 * stream.normal(), names[arm]


def _spiral(stream: Stream) -> Point:
    return _arm(stream, stream.below(2), 2, ("first", "second"))


def _spiral_multi(stream: Stream) -> Point:
    return _arm(stream, stream.below(4), 4, ("first", "second", "third", "fourth"))


def _squared(x: float, y: float) -> float:
    return (x - 0.5) * (x - 0.5) + (y - 0.5) * (y - 0.5)


SHAPES: Final[dict[str, Callable[[Stream], Point]]] = {
    "circle": _circle,
    "diagonal": _diagonal,
    "donut": _donut,
    "flag": _flag,
    "moons": _moons,
    "spiral": _spiral,
    "spiral_multi": _spiral_multi,
    "stripes": _stripes,
    "xor": _xor,
}


def points_of(shape: str) -> list[Point]:
    """All points of a shape with their classes: always the same thousand."""
    stream = Stream(f"shapes {shape}")
    return [SHAPES[shape](stream) for _ in range(N_POINTS)]


def write_shape(shape: str, folder: Path) -> None:
    """`<split>/points.csv` with the columns x, y, label; coordinates with six decimals, dealt 60, 20, 20 % within each class."""
    points = points_of(shape)
    rows = [(f"{x:.6f}", f"{y:.6f}", label) for x, y, label in points]
    splits = deal_rows(f"shapes {shape}", [label for _, _, label in points])
    write_table(folder, ("x", "y", "label"), rows, splits, "points.csv")
