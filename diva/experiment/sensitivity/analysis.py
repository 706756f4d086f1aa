"""What the runs of a sensitivity study say: the spread that randomness makes, whose share of it is whose, and which factors do more."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from diva.statistics import Interval, compare_paired, exceeds_noise, summarise, variance_shares
from diva.statistics.numbers import NO_INTERVAL, mean, to_json, variance

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from diva.experiment.sensitivity.design import Design
    from diva.experiment.sensitivity.factors import Factor
    from diva.statistics import Effect

    Table = dict[str, dict[str, float]]

LEVEL: Final = 0.95
FEWEST_FOR_SHARES: Final = (
    10  # runs of the seeds and of each stream: there the interval of a share ends at a quarter and at four times it
)


def analyse(
    factors: Sequence[Factor], design: Design, metrics: Mapping[str, Mapping[str, float]], *, grid: bool
) -> dict[str, Any]:
    """The report on every metric of a split as a whole, as JSON holds it. metrics: of the members that finished, by name.

    Per metric: `spread`, an entry for the seeds and one for each stream; `shares` of the variance, where streams were varied; `effects`,
    an entry per knob and option. The same metrics give the same report.
    """
    names = sorted({name for values in metrics.values() for name in values if name.count("/") == 1})
    return {"level": LEVEL, "metrics": {name: _of_metric(factors, design, metrics, name, grid) for name in names}}


def _of_metric(
    factors: Sequence[Factor], design: Design, metrics: Mapping[str, Mapping[str, float]], metric: str, grid: bool
) -> dict[str, Any]:
    tables = {factor.name: _table(factor, design, metrics, metric) for factor in factors}
    drawn = {factor.name: _centred(tables[factor.name]) for factor in factors if factor.is_random}
    planned = {factor.name: Counter(cell.level for cell in design.of(factor)) for factor in factors}
    spread = [
        _spread(factor, tables[factor.name], drawn[factor.name], planned[factor.name].total())
        for factor in factors
        if factor.is_random
    ]
    streams = {name: _values(blocks) for name, blocks in drawn.items() if name != factors[0].name}
    shares = variance_shares(streams, _values(drawn[factors[0].name]), level=LEVEL).to_json() if streams else None
    fixed = [factor for factor in factors if not factor.is_random]
    yardstick: dict[Hashable, float] | None = (
        None if grid else {level: value for level, of in tables[factors[0].name].items() for value in of.values()}
    )
    tested = _tested(fixed, tables, yardstick)
    effects = [
        _effect(factor, tested[factor.name], tables[factor.name], planned[factor.name], spread[0]["sd"])
        for factor in fixed
    ]
    return dict(to_json({"spread": spread, "shares": shares, "effects": effects}))


def enough_for_shares(shares: Mapping[str, Any] | None) -> bool:
    """Whether shares of variance, as JSON holds them, are of runs enough to be told."""
    return shares is not None and min(one["n"] for one in (shares, *shares["sources"].values())) >= FEWEST_FOR_SHARES


def _table(factor: Factor, design: Design, metrics: Mapping[str, Mapping[str, float]], metric: str) -> Table:
    """Level -> block -> value, of the runs that have one that is finite."""
    table: Table = {level.label: {} for level in factor.levels}
    for cell in design.of(factor):
        value = metrics.get(cell.member, {}).get(metric, math.nan)
        if math.isfinite(value):
            table[cell.level][cell.block] = value
    return table


def _centred(table: Table) -> dict[str, dict[str, float]]:
    """Block -> level -> value of a random factor; of several blocks, each moved to the mean of all: what blocks do is not the factor's."""
    blocks: dict[str, dict[str, float]] = {}
    for level, values in table.items():
        for block, value in values.items():
            blocks.setdefault(block, {})[level] = value
    whole = {block: values for block, values in blocks.items() if len(values) > 1}
    if len(whole) <= 1:
        return whole
    grand = mean([value for values in whole.values() for value in values.values()])
    n = sum(map(len, whole.values()))
    scale = math.sqrt((n - 1) / (n - len(whole)))  # so that the variance over n - 1 is the pooled one within blocks
    moved = {}
    for block, values in whole.items():
        middle = mean(list(values.values()))
        moved[block] = {level: grand + (value - middle) * scale for level, value in values.items()}
    return moved


def _values(blocks: Mapping[str, Mapping[str, float]]) -> list[float]:
    return [value for values in blocks.values() for value in values.values()]


def _spread(factor: Factor, table: Table, drawn: Mapping[str, Mapping[str, float]], n_planned: int) -> dict[str, Any]:
    """What seeds, or one stream alone, do: sd within blocks, with its interval; the range of runs, of several blocks as `_centred`."""
    blocks = drawn if len(drawn) > 1 else {"": {level: value for level, of in table.items() for value in of.values()}}
    single = [(value, level) for of in blocks.values() for level, value in of.items()]
    values = _values(drawn)
    df = len(values) - len(drawn)
    sd = math.sqrt(variance(values)) if len(values) > 1 else math.nan
    low, high = (min(single), max(single)) if single else ((math.nan, ""), (math.nan, ""))
    return {
        "name": factor.name,
        "kind": factor.kind,
        "n": len(single),
        "n_blocks": max(1, len(drawn)),
        "n_missing": n_planned - sum(map(len, table.values())),
        "mean": mean([value for value, _ in single]),
        "low": low[0],
        "low_at": low[1],
        "high": high[0],
        "high_at": high[1],
        "range": high[0] - low[0],
        "sd": sd,
        "ci_sd": _interval_of_sd(sd, df),
        "values": [value for value, _ in single],
    }


def _interval_of_sd(sd: float, df: int) -> Interval:
    """The interval of a standard deviation of normal values. Source: Snedecor and Cochran 1989, sec. 5.11."""
    from scipy.special import chdtri

    if df < 1 or math.isnan(sd):
        return NO_INTERVAL
    low, high = (sd * math.sqrt(df / float(chdtri(df, tail))) for tail in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(low, high)


def _tested(
    factors: Sequence[Factor], tables: Mapping[str, Table], yardstick: Mapping[Hashable, float] | None
) -> dict[str, Effect]:
    """The test of each factor; levels go by their number, since any text may be a label. yardstick: seed -> value at the base; None in a
    grid, where the base is a level like the others."""
    numbered: dict[str, dict[str, dict[Hashable, float]]] = {
        factor.name: {
            str(number): {block: value for block, value in tables[factor.name][level.label].items()}  # noqa: C416 - other keys
            for number, level in enumerate(factor.levels)
            if yardstick is None or level.label != factor.base
        }
        for factor in factors
    }
    return exceeds_noise(numbered, yardstick, level=LEVEL) if factors else {}


def _effect(
    factor: Factor, effect: Effect, table: Table, planned: Mapping[str, int], seeds_sd: float
) -> dict[str, Any]:
    """What the levels of a knob or option do, and whether that is more than seeds alone do."""
    labels = {str(number): level.label for number, level in enumerate(factor.levels)}
    return {
        "name": factor.name,
        "kind": factor.kind,
        **effect.to_json(),
        "low": labels.get(effect.low, factor.base),
        "high": labels.get(effect.high, factor.base),
        "range_over_seeds": effect.range / seeds_sd if seeds_sd else math.nan,
        "levels": [_level(factor, label, table, planned[label]) for label in labels.values()],
    }


def _level(factor: Factor, label: str, table: Table, n_planned: int) -> dict[str, Any]:
    """The runs of a level, and their difference to those of the base that share all else."""
    runs, base = table[label], table[str(factor.base)]
    summary = summarise(list(runs.values()), level=LEVEL)
    shared = [block for block in runs if block in base]
    found = {
        "label": label,
        "is_base": label == factor.base,
        "n": summary.n,
        "n_missing": n_planned - summary.n,
        "mean": summary.mean,
        "sd": summary.sd,
        "ci_t": summary.ci_t,
        "values": [runs[block] for block in sorted(runs)],
    }
    if label == factor.base:
        return found
    paired = compare_paired([runs[block] for block in shared], [base[block] for block in shared], level=LEVEL)
    return {**found, "n_pairs": paired.n_a, "difference": paired.difference, "ci_difference": paired.ci_t}
