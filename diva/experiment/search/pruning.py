"""Pruning: which trials need not go on, decided for each epoch from curves alone, never from when somebody looked.

The rule is the median rule (Golovin et al. 2017, Google Vizier, section 3.1): after an epoch, a run whose best value so far is worse
than the median of what earlier trials had reached by then is stopped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

N_EARLIER = 5  # earlier trials, at least, before one is pruned by them


@dataclass(frozen=True)
class Curve:
    """A metric after epochs 0, 1, ...; ended: whether the run finished, so that it will never be better than it is."""

    values: Sequence[float]
    ended: bool

    def best_by(self, epoch: int, *, less: bool) -> float | None:
        """The best value up to `epoch`; None where the run was stopped before it."""
        if epoch >= len(self.values) and not self.ended:
            return None
        return best_value(self.values[: epoch + 1], less=less)


@dataclass(frozen=True)
class Verdict:
    """A run needs not go on after `epoch`."""

    epoch: int
    reason: str


def prune(values: Sequence[float], earlier: Sequence[Curve], after: int, metric: str, *, less: bool) -> Verdict | None:
    """The first epoch, `after` or later, at which the run is behind the median of the `earlier` ones; None while it is not.

    values: the run's metric after epochs 0, 1, ... as far as it has come; more of them never change a verdict that is there.
    """
    for epoch in range(after, len(values)):
        reached = [value for curve in earlier if (value := curve.best_by(epoch, less=less)) is not None]
        if len(reached) < N_EARLIER:
            continue
        own, middle = best_value(values[: epoch + 1], less=less), median(reached)
        if own > middle if less else own < middle:
            return Verdict(
                epoch,
                f"after epoch {epoch} the best {metric} was {own:.4g}, the median of {len(reached)} earlier trials {middle:.4g}",
            )
    return None


def best_value(values: Sequence[float], *, less: bool) -> float:
    """The best of some values, NaN aside; the worst there is when there is none."""
    there = [value for value in values if not math.isnan(value)]
    worst = math.inf if less else -math.inf
    return (min if less else max)(there, default=worst)
