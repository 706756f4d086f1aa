"""Partitions: which samples go into which part; a function of their classes, groups and keys and of the ratios, of nothing else.

Samples that must stay together form a unit. A unit's key is a hash of the seed and its name, so the order of keys is the only lot drawn.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

PASSES = 10  # over all units, at most, to make a greedy partition better
IMPROVED_UP_TO = 50_000  # units; with more, one unit more or less here or there is no longer seen
TRIED = 20_000  # units at most that are looked at to give a part a class that it lacks
TRIED_IN_ALL = 500_000
DEEP = 200  # moves at most in a chain
ANY = -1  # in place of a class: samples at all


@dataclass(frozen=True, slots=True)
class Unit:
    """Samples that stay together: their key, how many they are, and how many of them each class has."""

    key: bytes
    size: int
    classes: tuple[tuple[int, int], ...]


def key_of(seed: int, name: str) -> bytes:
    r"""SHA-256 of `<seed>\n<name>`: what decides about a sample, or a group, of this name."""
    return hashlib.sha256(f"{seed}\n".encode() + name.encode("utf-8", "surrogateescape")).digest()


def stratified(units: Sequence[Unit], ratios: Sequence[Fraction], may_lack: bool = False) -> list[int]:
    """The number of the part of each unit: within each class the quotas are filled in the order of the keys.

    A unit whose samples are of several classes is placed first, where it is needed most. Each unit has classes.
    """
    parts = [-1] * len(units)
    mixed = [number for number, unit in enumerate(units) if len(unit.classes) > 1]
    totals = _totals(units)
    state = _State(totals, sum(unit.size for unit in units), ratios)
    for number in _largest_first(units, mixed):
        parts[number] = state.place(units[number])
    wanted = dict(zip(sorted(totals), quotas([totals[c] for c in sorted(totals)], ratios, may_lack), strict=True))
    of_class: dict[int, list[int]] = {}
    for number in sorted(range(len(units)), key=lambda number: units[number].key):
        if parts[number] < 0:
            of_class.setdefault(units[number].classes[0][0], []).append(number)
    for label, members in of_class.items():
        n = sum(units[number].size for number in members)
        left = _fitted([q - state.have[label][p] for p, q in enumerate(wanted[label])], n)
        for part, room in enumerate(left):
            last = part == len(left) - 1
            rest = []
            for number in members:
                if last or units[number].size <= room:
                    parts[number], room = part, room - units[number].size
                else:
                    rest.append(number)
            members = rest
    return _mended(units, parts, ratios, {(label, p) for label, row in wanted.items() for p, n in enumerate(row) if n})


def grouped(units: Sequence[Unit], ratios: Sequence[Fraction]) -> list[int]:
    """The number of the part of each unit: large units first, each where it is needed most; then moves that make it better."""
    state = _State(_totals(units), sum(unit.size for unit in units), ratios)
    parts = [-1] * len(units)
    for number in _largest_first(units, range(len(units))):
        parts[number] = state.place(units[number])
    return _mended(units, _improved(units, parts, state), ratios, _everywhere(units, len(ratios)))


def iterated(units: Sequence[Unit], ratios: Sequence[Fraction]) -> list[int]:
    """The number of the part of each unit, for samples of several classes or none: the rarest class first.

    Source: Sechidis, Tsoumakas and Vlahavas 2011, On the stratification of multi-label data; ties by the order of the parts.
    """
    totals, n = _totals(units), sum(unit.size for unit in units)
    shares = [float(ratio) for ratio in ratios]
    need = {label: [share * total for share in shares] for label, total in totals.items()}
    room = [share * n for share in shares]
    members: dict[int, list[int]] = {label: [] for label in totals}
    order = sorted(range(len(units)), key=lambda number: units[number].key)
    for number in order:
        for label, _ in units[number].classes:
            members[label].append(number)
    parts, left = [-1] * len(units), Counter(totals)

    def place(number: int, wanted: Sequence[float]) -> None:
        part = max(range(len(shares)), key=lambda p: (wanted[p], room[p], -p))
        parts[number] = part
        room[part] -= units[number].size
        for label, count in units[number].classes:
            need[label][part] -= count
            left[label] -= count

    open_labels = set(totals)
    while open_labels:
        label = min(open_labels, key=lambda label: (left[label], label))
        open_labels.remove(label)
        for number in members[label]:
            if parts[number] < 0:
                place(number, need[label])
    for number in order:
        if parts[number] < 0:
            place(number, room)
    state = _State(totals, n, ratios)
    for unit, part in zip(units, parts, strict=True):
        state.add(unit, part)
    return _mended(units, _improved(units, parts, state), ratios, _everywhere(units, len(ratios)))


def quotas(totals: Sequence[int], ratios: Sequence[Fraction], may_lack: bool = False) -> list[list[int]]:
    """How many samples of each class go to each part, (C, P): every number is `total * ratio` rounded down or up.

    Rounded up are first the parts that would have none of the class (with `may_lack` the last part only, which is train); then those for
    which the sums over classes are `sum(totals) * ratio` rounded as well, as far as the first rule permits it.
    """
    n_parts = len(ratios)
    exact = [[total * ratio for ratio in ratios] for total in totals]
    given = [[int(value) for value in row] for row in exact]
    may = [frozenset(p for p, value in enumerate(row) if value > int(value)) for row in exact]
    extra = [total - sum(row) for total, row in zip(totals, given, strict=True)]
    must = []
    for row in range(len(totals)):
        none = [part for part in reversed(range(n_parts)) if given[row][part] == 0 and part in may[row]]
        must.append(frozenset([p for p in none if not may_lack or p == n_parts - 1][: extra[row]]))
    sums = _rounded([sum(totals) * ratio for ratio in ratios], sum(totals))
    wanted = [n - sum(row[p] for row in given) - sum(p in taken for taken in must) for p, n in enumerate(sums)]
    up = [set(taken) for taken in must]
    for row, taken in enumerate(up):
        while len(taken) < extra[row]:
            free = sorted(may[row] - taken, key=lambda p, row=row: (given[row][p] - exact[row][p], p))  # type: ignore[misc]
            if not _augment(row, free, wanted, up, [m - f for m, f in zip(may, must, strict=True)]):
                taken.add(free[0])  # the parts that had to have one took it
    return [[n + (p in taken) for p, n in enumerate(row)] for row, taken in zip(given, up, strict=True)]


def _augment(row: int, free: list[int], wanted: list[int], up: list[set[int]], may: list[frozenset[int]]) -> bool:
    """Round one more number of `row` up, in a part that still wants one; rows before it give way where they can (an augmenting path)."""
    came: dict[int, tuple[int, int] | None] = dict.fromkeys(free)
    queue = sorted(free, key=lambda part: wanted[part] <= 0)
    for part in queue:
        if wanted[part] > 0:
            wanted[part] -= 1
            while (step := came[part]) is not None:
                before, other = step
                up[other].remove(before)
                up[other].add(part)
                part = before
            up[row].add(part)
            return True
        for other in range(row):
            if part in up[other] and part in may[other]:
                for to in sorted(may[other] - up[other] - came.keys()):
                    came[to] = (part, other)
                    queue.append(to)
    return False


def _rounded(exact: Sequence[Fraction], n: int) -> list[int]:
    """Whole numbers that sum to `n`: rounded down, then the largest remainders up; of equal ones the last parts first."""
    floors = [int(value) for value in exact]
    order = sorted(range(len(exact)), key=lambda p: (floors[p] - exact[p], -p))
    for part in order[: n - sum(floors)]:
        floors[part] += 1
    return floors


def _fitted(room: Sequence[int], n: int) -> list[int]:
    """The room in each part, scaled to hold `n` in all where units placed before took more or less than their share."""
    left = [max(0, value) for value in room]
    total = sum(left)
    if total == 0:
        return [0] * (len(left) - 1) + [n]
    return left if total == n else _rounded([Fraction(value * n, total) for value in left], n)


def _totals(units: Sequence[Unit]) -> dict[int, int]:
    totals: Counter[int] = Counter()
    for unit in units:
        totals.update(dict(unit.classes))
    return dict(totals)


def _largest_first(units: Sequence[Unit], chosen: Iterable[int]) -> list[int]:
    """Larger units first, by powers of two, so that the keys, not the sizes alone, decide the order."""
    return sorted(chosen, key=lambda number: (-units[number].size.bit_length(), units[number].key))


class _State:
    """How many samples of each class each part has, and how far that is from its share: the sum of (have - share)^2 / share.

    Floats, but only + - * / in one order: the same on every machine.
    """

    def __init__(self, totals: dict[int, int], n: int, ratios: Sequence[Fraction]) -> None:
        self.have = {label: [0] * len(ratios) for label in totals}
        self.sizes = [0] * len(ratios)
        self._shares = {label: [float(total * ratio) for ratio in ratios] for label, total in totals.items()}
        self._sizes = [float(n * ratio) for ratio in ratios]

    def add(self, unit: Unit, part: int, sign: int = 1) -> None:
        self.sizes[part] += sign * unit.size
        for label, count in unit.classes:
            self.have[label][part] += sign * count

    def cost(self, unit: Unit, part: int) -> float:
        """What it adds to the distance when the unit comes to a part that does not have it."""
        x = unit.size
        cost = x * (2 * (self.sizes[part] - self._sizes[part]) + x) / self._sizes[part]
        for label, x in unit.classes:
            share = self._shares[label][part]
            cost += x * (2 * (self.have[label][part] - share) + x) / share
        return cost

    def lacking(self, unit: Unit, part: int) -> int:
        """How many classes of the unit, and samples at all, the part has none of."""
        return sum(self.have[label][part] == 0 for label, _ in unit.classes) + (self.sizes[part] == 0)

    def place(self, unit: Unit) -> int:
        part = min(range(len(self.sizes)), key=lambda part: (self.cost(unit, part), part))
        self.add(unit, part)
        return part


def _improved(units: Sequence[Unit], parts: list[int], state: _State) -> list[int]:
    """Moves of single units, while they leave fewer classes out of a part or, that being equal, come nearer to the shares."""
    order = _largest_first(units, range(len(units) if len(units) <= IMPROVED_UP_TO else 0))
    for _ in range(PASSES):
        moved = False
        for number in order:
            unit, here = units[number], parts[number]
            state.add(unit, here, -1)
            costs = [(-state.lacking(unit, part), state.cost(unit, part), part) for part in range(len(state.sizes))]
            best = min(costs)
            if (best[0], best[1] + 1e-9) < costs[here][:2]:
                parts[number], moved = best[2], True
            state.add(unit, parts[number])
        if not moved:
            break
    return parts


def _everywhere(units: Sequence[Unit], n_parts: int) -> set[tuple[int, int]]:
    """Each class, and samples at all, in each part, where there are enough units for it."""
    n_units = Counter(label for unit in units for label in _labels(unit))
    return {(label, part) for label, n in n_units.items() if n >= n_parts for part in range(n_parts)}


def _labels(unit: Unit) -> tuple[int, ...]:
    """The classes of a unit, and ANY."""
    return (*(label for label, _ in unit.classes), ANY)


def _mended(
    units: Sequence[Unit], parts: list[int], ratios: Sequence[Fraction], wanted: Collection[tuple[int, int]]
) -> list[int]:
    """Chains of moves that give a part a (class, part) of `wanted` that it lacks, and take none of them away from another.

    With few units every possible chain is tried, so what can be had is had. Units of other classes are left alone.
    """
    n_units = {label: [0] * len(ratios) for label in {*_totals(units), ANY}}
    for unit, part in zip(units, parts, strict=True):
        for label in _labels(unit):
            n_units[label][part] += 1
    goals = sorted((sum(n_units[c]), c, p) for c, p in wanted if not n_units.get(c, [0] * len(ratios))[p])
    if not goals:
        return parts
    state = _State(_totals(units), sum(unit.size for unit in units), ratios)
    members: dict[int, list[int]] = {}
    for number, unit in enumerate(units):
        state.add(unit, parts[number])
        for label in _labels(unit):
            members.setdefault(label, []).append(number)
    locked: set[int] = set()

    def move(number: int, to: int) -> None:
        here, parts[number] = parts[number], to
        state.add(units[number], here, -1)
        state.add(units[number], to)
        for label in _labels(units[number]):
            n_units[label][here] -= 1
            n_units[label][to] += 1

    def lost(number: int) -> list[tuple[int, int]]:
        """What the part of a unit lacks without it."""
        here = parts[number]
        return [(c, here) for c in _labels(units[number]) if n_units[c][here] == 1 and (c, here) in wanted]

    def fill(open_goals: list[tuple[int, int]], left: list[int]) -> bool:
        """Moves that reach all the goals; False, and nothing moved, when there are none or too much was tried."""
        open_goals = [(c, p) for c, p in open_goals if not n_units[c][p]]
        if not open_goals:
            return True
        free = {c: [number for number in members.get(c, ()) if number not in locked] for c, _ in open_goals}
        label, part = min(open_goals, key=lambda goal: (len(free[goal[0]]), goal))
        left[0] -= sum(map(len, free.values()))
        tried = sorted(
            free[label],
            key=lambda number: (
                len(lost(number)),
                _added(state, units[number], parts[number], part),
                units[number].key,
            ),
        )
        for number in tried:
            if left[0] < 0 and lost(number):
                return False
            here, more = parts[number], lost(number)
            move(number, part)
            locked.add(number)
            if len(locked) < DEEP and fill([*open_goals, *more], left):
                return True
            locked.remove(number)
            move(number, here)
        return False

    in_all = TRIED_IN_ALL
    for _, label, part in goals:
        left = [min(TRIED, in_all)]
        before = left[0]
        fill([(label, part)], left)
        locked.clear()
        in_all = max(0, in_all - (before - left[0]))
    return parts


def _added(state: _State, unit: Unit, here: int, to: int) -> float:
    """How much farther from the shares the parts are when a unit moves."""
    state.add(unit, here, -1)
    difference = state.cost(unit, to) - state.cost(unit, here)
    state.add(unit, here)
    return difference
