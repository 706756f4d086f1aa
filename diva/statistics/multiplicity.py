"""Many tests at once: p values corrected so that the chance of a single false alarm among them stays what it should be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from diva.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given: reject where one is <= alpha, whatever the dependence between the tests.

    NaN is a test that could not be made: it stays NaN and does not count. Source: Holm 1979.
    """
    for p in p_values:
        if not (math.isnan(p) or 0 <= p <= 1):
            raise UsageError(f"p value {p}: allowed is a number from 0 to 1, or NaN for a test that could not be made.")
    ascending = sorted((index for index, p in enumerate(p_values) if not math.isnan(p)), key=lambda i: p_values[i])
    adjusted, largest = [math.nan] * len(p_values), 0.0
    for rank, index in enumerate(ascending):
        largest = max(largest, min(1.0, (len(ascending) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
