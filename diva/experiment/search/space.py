"""The space of a search: which knobs vary and between what, from `lr=log:1e-4:1e-1` to points that samplers choose."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Literal

from diva.errors import UsageError
from diva.experiment.study.values import listed
from diva.params import build, check_names, knobs_of, text_of

if TYPE_CHECKING:
    from diva.learning.task import Task
    from diva.params import Layers, Param

DIGITS = 4  # significant decimal digits of a value that is drawn: it can be typed, and does not hang on a machine's logarithm
MOST_POINTS = 10_000  # of a grid
WORDS = ("uniform", "log", "int")
HOW = "write lr=log:1e-4:1e-1, dropout=uniform:0:0.5, width=int:8:64 or batch_size=16,32"

Assignment = Mapping[str, Any]


@dataclass(frozen=True)
class Dimension:
    """One knob that varies: among `choices`, or from `low` to `high`, both of them possible.

    step: the distance of the values from `low` on; 0 for any value between. log: as many values between 1 and 10 as between 10 and 100.
    """

    name: str
    kind: Literal["choice", "float", "int"]
    choices: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    step: float = 0
    log: bool = False

    @property
    def n_values(self) -> int | None:
        """How many values there are; None when they cannot be counted."""
        if self.kind == "choice":
            return len(self.choices)
        return 1 + _n_steps(self.low, self.high, self.step) if self.step else None

    def values(self) -> list[Any]:
        """All values, in their order; only where they can be counted."""
        assert self.n_values is not None
        return [self.at(index) for index in range(self.n_values)]

    def value(self, share: float) -> Any:
        """The value at `share` in [0, 1) of the way, ends included: equal shares hold equally many values."""
        if self.n_values is not None and not self.log:
            index = min(int(share * self.n_values), self.n_values - 1)
            return self.at(index)
        if not self.log:
            return rounded(self.low + share * (self.high - self.low), self.low, self.high)
        half = 0.5 if self.kind == "int" else 0.0  # each whole number has the share of the half numbers around it
        low, high = math.log(self.low - half), math.log(self.high + half)
        value = math.exp(low + share * (high - low))
        return rounded(value, self.low, self.high) if not half else int(min(max(round(value), self.low), self.high))

    def share(self, value: Any) -> float:
        """Where a value stands in [0, 1]; values of a choice stand at equal distances."""
        if self.kind == "choice":
            return self.choices.index(value) / max(1, len(self.choices) - 1)
        if self.low == self.high:
            return 0.0
        low, high, here = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return (here - low) / (high - low)

    def words(self) -> str:
        """The values as a reader takes them in."""
        if self.kind == "choice":
            lists = any(isinstance(choice, tuple) for choice in self.choices)
            return ("; " if lists else ", ").join(map(text_of, self.choices))
        step = f" in steps of {self.step:g}" if self.step and not (self.kind == "int" and self.step == 1) else ""
        return f"{self.low:g} to {self.high:g}{step}{', on the logarithm' if self.log else ''}"

    def to_json(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**asdict(self), "choices": [list(c) if isinstance(c, tuple) else c for c in self.choices]}

    def at(self, index: int) -> Any:
        """The value of that number, of those that can be counted."""
        if self.kind == "choice":
            return self.choices[index]
        if self.kind == "int":
            return int(self.low + index * self.step)
        return float(_decimal(self.low) + index * _decimal(self.step))


def dimension_of(record: Mapping[str, Any]) -> Dimension:
    """A dimension from what `to_json` gave."""
    return Dimension(**{**record, "choices": tuple(frozen(choice) for choice in record["choices"])})


def frozen(value: Any) -> Any:
    """A value as points hold it: a list of JSON is a tuple."""
    return tuple(value) if isinstance(value, list) else value


def rounded(value: float, low: float, high: float) -> float:
    """The value with four significant digits, inside its bounds."""
    return min(max(float(f"{value:.{DIGITS - 1}e}"), low), high)


def n_points(space: Sequence[Dimension]) -> int | None:
    """How many points the space has; None when they cannot be counted."""
    counts = [dimension.n_values for dimension in space]
    return math.prod(n for n in counts if n is not None) if None not in counts else None


def grid(space: Sequence[Dimension]) -> list[dict[str, Any]]:
    """All points, the last knob varying fastest; UsageError for a knob whose values cannot be counted, and for too many points."""
    for dimension in space:
        if dimension.n_values is None:
            raise UsageError(
                f"--over {dimension.name}: a grid needs values that can be counted; list them, as {dimension.name}=1e-3,1e-2, "
                f"or give a step, as {dimension.name}=uniform:0:0.5:0.1, or use --sampler random"
            )
    n = n_points(space) or 0
    if n > MOST_POINTS:
        raise UsageError(f"the grid has {n:,} points, at most {MOST_POINTS:,} are tried; use --sampler random")
    names = [dimension.name for dimension in space]
    points = itertools.product(*(dimension.values() for dimension in space))
    return [dict(zip(names, point, strict=True)) for point in points]


def grid_point(space: Sequence[Dimension], number: int) -> dict[str, Any]:
    """The point of that number in the grid."""
    point: dict[str, Any] = {}
    for dimension in reversed(space):
        assert dimension.n_values is not None
        number, index = divmod(number, dimension.n_values)
        point[dimension.name] = dimension.at(index)
    return {dimension.name: point[dimension.name] for dimension in space}


def key_of(assignment: Assignment) -> str:
    """A text that is the same for equal points."""
    return repr(sorted((name, repr(value)) for name, value in assignment.items()))


def read_space(overs: Sequence[str], task: type[Task], given: Layers) -> tuple[Dimension, ...]:
    """The space that `--over` options describe, every value and both ends of every range taken through the task's own knobs.

    given: the values of the other knobs. Raises UsageError for unknown and repeated names, values that the task refuses, and for
    `monitor`, since values of different metrics cannot be compared.
    """
    knobs = {knob.name: knob for knob in knobs_of(task)}
    space: list[Dimension] = []
    for over in overs:
        name, equals, text = over.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not text.strip():
            raise UsageError(f"--over {over}: says no values; {HOW}")
        if name in ("seed", "monitor"):
            why = "--runs and --seeds repeat each trial" if name == "seed" else "trials are compared by one metric"
            raise UsageError(f"--over {over}: {name} is not searched: {why}")
        check_names([name], knobs, "--over")
        if name in [dimension.name for dimension in space]:
            raise UsageError(f"--over {over}: {name} is there twice; give all its values in one --over")
        space.append(_dimension(knobs[name], text.strip(), task, given))
    if not space:
        raise UsageError(f"a sweep needs at least one --over; {HOW}")
    return tuple(space)


def _dimension(knob: Param, text: str, task: type[Task], given: Layers) -> Dimension:
    where = f"--over {knob.name}"
    word, *numbers = text.split(":")
    if word in WORDS and numbers:
        if knob.kind not in ("int", "float") or knob.listed:
            raise UsageError(f"{where}: {knob.name} is no number; list its values, as {knob.name}=a,b")
        dimension = _range(knob, word, numbers, where)
        for end in (dimension.low, dimension.high):
            _taken(knob, int(end) if dimension.kind == "int" else end, task, given)
        return dimension
    typed: list[Any] = _lists(text) if knob.listed else list(listed(text, where))
    choices = [_taken(knob, value, task, given) for value in typed]
    if len({repr(choice) for choice in choices}) < len(choices):
        raise UsageError(f"{where}={text}: two of the values are the same; name each once")
    return Dimension(knob.name, "choice", tuple(choices))


def _lists(text: str) -> list[Any]:
    """The lists of "16,8;none", each as a flag takes it."""
    return [[] if part.strip().lower() == "none" else part.strip() for part in text.split(";")]


def _range(knob: Param, word: str, numbers: Sequence[str], where: str) -> Dimension:
    kind: Literal["int", "float"] = "int" if word == "int" or knob.kind == "int" else "float"
    try:
        low, high, *rest = (Decimal(number) for number in numbers)
        if not all(number.is_finite() for number in (low, high, *rest)) or len(rest) > 1:
            raise ValueError
    except (InvalidOperation, ValueError):
        raise UsageError(f"{where}={':'.join((word, *numbers))}: is no range; {HOW}") from None
    step = rest[0] if rest else Decimal(1 if kind == "int" else 0)
    if not low < high:
        raise UsageError(f"{where}: from {low} to {high} is empty; give the lower end first")
    if word == "log" and (low <= 0 or rest):
        raise UsageError(f"{where}: log: takes two positive ends and no step; {HOW}")
    if rest and (step <= 0 or step > high - low):
        raise UsageError(f"{where}: the step {step} is not between 0 and {high - low}")
    if kind == "int" and any(number != int(number) for number in (low, high, step)):
        raise UsageError(f"{where}: takes whole numbers; {HOW}")
    if step:  # the last value that the steps reach
        high = low + step * _n_steps(low, high, step)
    number = int if kind == "int" else float
    return Dimension(knob.name, kind, (), number(low), number(high), number(step), word == "log")


def _taken(knob: Param, value: Any, task: type[Task], given: Layers) -> Any:
    """The value as the task takes it and JSON holds it."""
    origin = f"--over {knob.name}"
    built = build(task, given.over({knob.name: value}, origin))
    taken = built.model_dump(mode="json")[knob.name]
    return frozen(taken)


def _decimal(number: float | Decimal) -> Decimal:
    return Decimal(repr(number)) if isinstance(number, float) else Decimal(number)


def _n_steps(low: float | Decimal, high: float | Decimal, step: float | Decimal) -> int:
    return int((_decimal(high) - _decimal(low)) / _decimal(step))
