"""Numbers and intervals as text: what there is none of is said, whichever way it was given."""

from __future__ import annotations

import math

import pytest

from diva.statistics.numbers import NO_INTERVAL, Interval, to_json
from diva.statistics.table import interval_text, number_text

THIRDS = Interval(1 / 3, 2 / 3)


@pytest.mark.parametrize("ends", [THIRDS, to_json(THIRDS)])
def test_an_interval_is_the_same_text_from_memory_and_from_json(ends: tuple[float, float]) -> None:
    assert interval_text(ends) == "0.3333 to 0.6667"
    assert interval_text(ends, lambda end: f"{100 * end:.0f} %") == "33 % to 67 %"


@pytest.mark.parametrize("ends", [NO_INTERVAL, to_json(NO_INTERVAL), (0.5, math.nan)])
def test_an_interval_that_does_not_exist_has_no_ends(ends: tuple[float, float]) -> None:
    assert (interval_text(ends), interval_text(ends, missing="")) == ("-", "")


def test_numbers_are_shown_alike_and_none_is_no_nan() -> None:
    assert [number_text(value) for value in (1 / 3, None, math.nan, to_json(math.inf))] == ["0.3333", "-", "-", "inf"]
