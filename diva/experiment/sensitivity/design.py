"""The design of a sensitivity study: which runs there are, and which of them tell of which factor."""

from __future__ import annotations

import hashlib
import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from diva.errors import UsageError
from diva.experiment.sensitivity.factors import STREAM, Level
from diva.records.study_folder import Member

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from diva.experiment.sensitivity.factors import Factor

BASE: Final = "base"
MOST_MEMBERS: Final = 10_000
LONGEST_NAME: Final = 120


@dataclass(frozen=True)
class Cell:
    """A run as one factor sees it: at which of its levels it is, and what else it has, which runs of other levels have too."""

    factor: str
    level: str
    block: str
    member: str


@dataclass(frozen=True)
class Design:
    """All runs, each once, and all that is to be learnt from them."""

    members: tuple[Member, ...]
    cells: tuple[Cell, ...]

    def of(self, factor: Factor) -> tuple[Cell, ...]:
        """The cells of a factor, level by level."""
        return tuple(cell for cell in self.cells if cell.factor == factor.name)


def design(factors: Sequence[Factor], seed: int, *, grid: bool = False, runs: int | None = None) -> Design:
    """The runs that vary one factor at a time around the base, or with `grid` all of them together.

    factors: the seeds first. seed: the base's. runs: how many seeds of the yardstick each level runs with; None: levels of knobs and
    options all of them, streams the base's seed alone. UsageError when there are too many runs, or too few seeds.
    """
    seeds = [int(level.values["seed"]) for level in factors[0].levels]
    if runs is not None and not 1 <= runs <= len(seeds):
        raise UsageError(
            f"--runs {runs}: allowed are 1 to {len(seeds)}, the number of seeds; vary more with --vary seed=0:{runs}"
        )
    rows = _grid(factors, seeds, seed, runs) if grid else _one_at_a_time(factors, seeds, seed, runs)
    members: dict[str, Member] = {}
    cells: dict[Cell, None] = {}
    for cell_of, member in rows:
        if members.setdefault(member.name, member) != member:
            raise AssertionError(f"two members are called {member.name}")
        if len(members) > MOST_MEMBERS:
            raise UsageError(f"more than {MOST_MEMBERS:,} runs would be needed; vary fewer values, or leave out --grid")
        cells.update(dict.fromkeys(Cell(*place, member.name) for place in cell_of))
    return Design(tuple(members.values()), tuple(cells))


Row = tuple[list[tuple[str, str, str]], Member]


def _one_at_a_time(factors: Sequence[Factor], seeds: Sequence[int], seed: int, runs: int | None) -> Iterator[Row]:
    for own in seeds:
        yield [("seed", str(own), "")], _member((), own)
    for factor in factors[1:]:
        blocks = seeds[:runs] if runs is not None or not factor.is_random else [seed]
        for level in factor.levels:
            for own in blocks:
                yield [(factor.name, level.label, str(own))], _member(((factor, level),), own)


def _grid(factors: Sequence[Factor], seeds: Sequence[int], seed: int, runs: int | None) -> Iterator[Row]:
    """Every combination of all levels, each with the same seeds; and the base with all seeds."""
    for own in seeds:
        yield [("seed", str(own), "")], _member((), own)
    others = factors[1:]
    if not others:
        return
    blocks = seeds[:runs] if runs is not None or not all(factor.is_random for factor in others) else [seed]
    varies_all = not any(factor.is_random for factor in others)  # a seed beside a stream of its own moves only the rest
    for combination in itertools.product(*(factor.levels for factor in others)):
        chosen = list(zip(others, combination, strict=True))
        settled = ",".join(f"{factor.name}={level.label}" for factor, level in chosen)
        for own in blocks:
            places = [("seed", str(own), settled)] if varies_all and not _is_base(chosen) else []
            for factor, level in chosen:
                rest = [f"{other.name}={value.label}" for other, value in chosen if other is not factor]
                places.append((factor.name, level.label, ",".join([*rest, str(own)])))
            yield places, _member(chosen, own)


def _is_base(chosen: Sequence[tuple[Factor, Level]]) -> bool:
    return not any(level.values for _, level in chosen)


def _member(chosen: Sequence[tuple[Factor, Level]], seed: int) -> Member:
    """The member with these levels and this seed; levels of the base leave no trace in it, so that it is one run for all factors."""
    moved = [(factor, level) for factor, level in chosen if level.values]
    fixed = [f"{factor.name}={level.label}" for factor, level in moved if not factor.is_random]
    drawn = [factor.name for factor, _ in moved if factor.is_random]
    configuration = ",".join([*fixed, *drawn]) or BASE
    words = [f"{factor.name}-{level.label}" for factor, level in moved]
    return Member(_safe("-".join([*words, f"seed-{seed}"])), configuration, {**_values(moved), "seed": seed})


def _values(moved: Sequence[tuple[Factor, Level]]) -> dict[str, Any]:
    """What the levels have over the base, together: streams joined; a factor's own value before what another one sets beside its own."""
    values: dict[str, Any] = {}
    for _, level in moved:
        values |= level.values
    for factor, level in moved:
        values |= {name: value for name, value in level.values.items() if name == factor.name}
    streams = _streams([(factor, level) for factor, level in moved if factor.kind == "stream"])
    return {**values, "stream": streams} if streams else values


def _streams(moved: Sequence[tuple[Factor, Level]]) -> list[str]:
    seeds: dict[str, str] = {}
    for _, level in moved:
        seeds |= _by_root(level.values["stream"])
    for factor, level in moved:
        root = factor.name.removeprefix(STREAM)
        seeds[root] = _by_root(level.values["stream"])[root]
    return [f"{root}={seed}" for root, seed in sorted(seeds.items())]


def _by_root(streams: Sequence[str]) -> Mapping[str, str]:
    return {root: seed for root, _, seed in (text.partition("=") for text in streams)}


def _safe(name: str) -> str:
    """A name for a folder; one that had to be changed or cut ends with a digest, so that no two become the same."""
    clean = re.sub(r"[^A-Za-z0-9_.+-]+", "_", name.replace(STREAM, "stream-")).lstrip(".-")
    if clean == name.replace(STREAM, "stream-") and len(clean) <= LONGEST_NAME:
        return clean
    return f"{clean[:LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
