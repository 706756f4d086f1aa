"""Lists of values as they are typed: "16,32,64", "0:10" (0 to 9), "0.1:0.5:0.1" (0.1 to 0.4), in decimals, so that none is off by a bit."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from diva.errors import UsageError

MOST_VALUES = 10_000


def listed(text: str, where: str) -> list[str]:
    """The values that `text` lists, each as it would be typed alone; a range start:stop[:step] leaves out its stop, as Python's does.

    where: the option, for errors. Raises UsageError for an empty value, a value that is there twice, and a range that gives none.
    """
    values = [value for part in text.split(",") for value in _values(part.strip(), where)]
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise UsageError(f"{where} {text}: {twice[0]} is there twice; name each value once")
    return values


def _values(part: str, where: str) -> list[str]:
    if not part:
        raise UsageError(f"{where}: a value is empty; write them as 16,32,64 or as a range 0:10")
    if ":" not in part:
        return [part]
    try:
        start, stop, step = (*map(Decimal, part.split(":")), Decimal(1))[:3]
        n = int((stop - start) / step) if step > 0 else 0
    except (InvalidOperation, ValueError, OverflowError):
        return [part]
    values = [start + i * step for i in range(min(n + 1, MOST_VALUES + 1)) if start + i * step < stop]
    if not values or len(values) > MOST_VALUES or part.count(":") > 2:
        why = f"more than {MOST_VALUES:,} values" if values else "no value"
        raise UsageError(f"{where}: the range {part} has {why}; write start:stop[:step], stop left out")
    return [f"{value:f}" for value in values]
