"""Power: how many seeds a t test would need to see a difference as large as the observed one."""

from __future__ import annotations

import math

MOST_SEEDS = 10_000
POWER = 0.8


def power_of_t(effect: float, n: int, *, paired: bool, alpha: float) -> float:
    """The chance that a two-sided t test at `alpha` sees a true standardised difference `effect` with n pairs, or n on each side.

    Sees: in its direction; the wrong one, below alpha / 2, does not count.
    Source: Cohen 1988, ch. 2; the noncentral t distribution.
    """
    from scipy.special import nctdtr, stdtrit

    df, shift = (n - 1, effect * math.sqrt(n)) if paired else (2 * n - 2, effect * math.sqrt(n / 2))
    shift = min(abs(shift), 30.0)  # beyond, the power is 1 and the noncentral t is not accurate
    critical = float(stdtrit(df, 1 - alpha / 2))
    return 1 - float(nctdtr(df, shift, critical))


def seeds_needed(effect: float, *, paired: bool, alpha: float = 0.05, power: float = POWER) -> int | None:
    """The fewest pairs (or runs on each side) with `power_of_t` >= power; None when 10,000 are too few or the effect is no number."""
    if math.isnan(effect) or power_of_t(effect, MOST_SEEDS, paired=paired, alpha=alpha) < power:
        return None
    low, high = 1, MOST_SEEDS  # too few, enough
    while high - low > 1:
        middle = (low + high) // 2
        enough = power_of_t(effect, middle, paired=paired, alpha=alpha) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def fewest_for_permutation(*, paired: bool, alpha: float) -> int:
    """The fewest pairs (or runs on each side) with which a two-sided permutation test can reach p <= alpha at all."""
    n = 1
    while (2 / 2**n if paired else 2 / math.comb(2 * n, n)) > alpha:
        n += 1
    return n
