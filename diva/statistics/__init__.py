"""Statistics: what a set of numbers from several seeds says, and what it does not. Pure functions of numbers, always the same bits.

Whatever is drawn (bootstrap, permutations) comes from a stream of a fixed seed, and values are sorted first: neither their order nor the
machine changes a result. See docs/reference/statistics.md for each formula and its source.
"""

from diva.statistics.comparison import Comparison, compare_paired, compare_unpaired, corrected
from diva.statistics.multiplicity import holm
from diva.statistics.noise import Effect, exceeds_noise, fewest_seeds
from diva.statistics.numbers import Interval
from diva.statistics.shares import Share, Shares, variance_shares
from diva.statistics.summary import Summary, summarise
from diva.statistics.table import seed_table
from diva.statistics.verdict import Wording, verdict

__all__ = [
    "Comparison",
    "Effect",
    "Interval",
    "Share",
    "Shares",
    "Summary",
    "Wording",
    "compare_paired",
    "compare_unpaired",
    "corrected",
    "exceeds_noise",
    "fewest_seeds",
    "holm",
    "seed_table",
    "summarise",
    "variance_shares",
    "verdict",
]
