"""Partitions: quotas are exact, classes are in every part, and a new sample moves as few others as possible."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diva.data.splits import partition
from diva.data.splits.partition import Unit, grouped, iterated, key_of, quotas, stratified

RATIOS = [Fraction(1, 5), Fraction(1, 5), Fraction(3, 5)]


def singles(counts: list[int], seed: int = 42, prefix: str = "") -> list[Unit]:
    return [
        Unit(key_of(seed, f"{prefix}{label}/{i}"), 1, ((label, 1),)) for label, n in enumerate(counts) for i in range(n)
    ]


def table(units: list[Unit], parts: list[int], n_classes: int, n_parts: int = 3) -> list[list[int]]:
    found = [[0] * n_parts for _ in range(n_classes)]
    for unit, part in zip(units, parts, strict=True):
        for label, count in unit.classes:
            found[label][part] += count
    return found


def cuts(*points: Fraction) -> list[Fraction]:
    ends = sorted({Fraction(0), *points, Fraction(1)})
    return [b - a for a, b in pairwise(ends)]


shares = st.lists(st.fractions(0, 1, max_denominator=20), max_size=4).map(lambda points: cuts(*points))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), shares)
def test_every_quota_is_rounded_down_or_up_and_classes_are_used_up(totals: list[int], ratios: list[Fraction]) -> None:
    found = quotas(totals, ratios)
    for total, row in zip(totals, found, strict=True):
        assert sum(row) == total
        assert all(abs(n - total * ratio) < 1 for n, ratio in zip(row, ratios, strict=True))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(20, 60), min_size=1, max_size=12), st.permutations(RATIOS))
def test_the_ratios_hold_for_the_whole_as_exactly_as_for_each_class(totals: list[int], ratios: list[Fraction]) -> None:
    sums = [sum(column) for column in zip(*quotas(totals, ratios), strict=True)]
    assert all(abs(n - sum(totals) * ratio) < 1 for n, ratio in zip(sums, ratios, strict=True))


def test_ratios_hold_for_the_whole_where_rounding_each_class_alone_is_far_off() -> None:
    found = quotas([7] * 100, RATIOS)  # 1.4, 1.4, 4.2 each: the nearest whole numbers would give test 100, not 140
    assert [sum(column) for column in zip(*found, strict=True)] == [140, 140, 420]


@pytest.mark.parametrize("n", [3, 4, 5, 9, 10])
def test_a_class_with_enough_samples_is_in_every_part(n: int) -> None:
    assert 0 not in quotas([n, 50], RATIOS)[0]


def test_a_single_sample_goes_to_train() -> None:
    assert quotas([1], RATIOS, may_lack=True) == [[0, 0, 1]]


def test_the_counts_are_the_quotas() -> None:
    units = singles([50, 31, 5])
    assert table(units, stratified(units, RATIOS), 3) == quotas([50, 31, 5], RATIOS)


def test_the_order_in_which_samples_are_listed_does_not_matter() -> None:
    units = singles([20, 9])
    there = dict(zip(units, stratified(units, RATIOS), strict=True))
    assert dict(zip(units[::-1], stratified(units[::-1], RATIOS), strict=True)) == there


def test_a_new_sample_moves_at_most_one_other_between_any_two_parts() -> None:
    units = singles([200, 100])
    before = dict(zip(units, stratified(units, RATIOS), strict=True))
    for extra in range(20):
        more = [*units, Unit(key_of(42, f"new {extra}"), 1, ((0, 1),))]
        after = dict(zip(more, stratified(more, RATIOS), strict=True))
        assert sum(after[unit] != before[unit] for unit in units) <= 2 + 2, "two per class whose quotas changed"


def test_units_of_several_samples_are_not_divided_and_the_counts_stay_exact() -> None:
    units = [
        *singles([40]),
        Unit(key_of(1, "pair"), 2, ((0, 2),)),
        Unit(key_of(1, "eight"), 8, ((0, 8),)),
        *[Unit(key_of(1, f"mixed {i}"), 2, ((0, 1), (1, 1))) for i in range(5)],
        *singles([0, 45]),
    ]
    assert table(units, stratified(units, RATIOS), 2) == quotas([55, 50], RATIOS)


def test_groups_of_one_size_give_exact_shares() -> None:
    units = [Unit(key_of(7, f"writer {i}"), 4, ((i % 2, 2), (2, 2))) for i in range(20)]
    assert table(units, grouped(units, RATIOS), 3) == [[4, 4, 12], [4, 4, 12], [8, 8, 24]]


def test_groups_of_many_sizes_come_near_the_shares() -> None:
    units = [Unit(key_of(3, f"writer {i}"), 1 + i * i % 23, ((0, 1 + i * i % 23),)) for i in range(60)]
    total = sum(unit.size for unit in units)
    for n, ratio in zip(table(units, grouped(units, RATIOS), 1)[0], RATIOS, strict=True):
        assert abs(n - total * ratio) <= 2


def test_the_seed_decides_about_groups_too() -> None:
    def parts(seed: int) -> list[int]:
        return grouped([Unit(key_of(seed, f"group {i}"), 3 + i % 3, ((0, 3 + i % 3),)) for i in range(20)], RATIOS)

    assert parts(1) == parts(1)
    assert parts(1) != parts(2)


def test_a_class_of_few_groups_is_in_every_part_where_that_is_possible() -> None:
    common = [Unit(key_of(5, f"common {i}"), 10, ((0, 10),)) for i in range(12)]
    rare = [Unit(key_of(5, f"rare {i}"), 10, ((0, 9), (1, 1))) for i in range(3)]
    units = [*common, *rare]
    assert table(units, grouped(units, RATIOS), 2)[1] == [1, 1, 1]


def test_every_label_of_a_multi_label_set_is_divided_in_proportion() -> None:
    units = []
    for i in range(200):
        labels = tuple((label, 1) for label, every in ((0, 2), (1, 3), (2, 7), (3, 50)) if i % every == 0)
        units.append(Unit(key_of(42, f"images/{i}"), 1, labels))
    parts = iterated(units, RATIOS)
    assert abs(parts.count(2) - 120) <= 3
    for label, row in enumerate(table(units, parts, 4)):
        total = sum(row)
        assert all(n >= 1 and abs(n - total * ratio) <= 2 for n, ratio in zip(row, RATIOS, strict=True)), (label, row)


def test_the_rarest_label_is_divided_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition, "PASSES", 0)  # nothing is mended afterwards
    for seed in range(10):
        units = [Unit(key_of(seed, f"{i}"), 1, ((0, 1), (1, 1)) if i < 5 else ((0, 1),)) for i in range(100)]
        assert table(units, iterated(units, RATIOS), 2)[1] == [1, 1, 3]


small = st.lists(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=3, unique_by=lambda pair: pair[0]),
    min_size=3,
    max_size=8,
)


def lacking(units: list[Unit], parts: Sequence[int], wanted: list[tuple[int, int]]) -> bool:
    there = {(label, part) for unit, part in zip(units, parts, strict=True) for label, _ in unit.classes}
    return not there.issuperset(wanted)


@settings(max_examples=300, deadline=None)
@given(
    small,
    st.sampled_from([RATIOS, [Fraction(1, 2), Fraction(1, 2)], [Fraction(1, 10), Fraction(9, 10)]]),
    st.integers(0, 99),
)
def test_what_some_partition_gives_every_part_all_three_ways_give(
    drawn: list[list[tuple[int, int]]], ratios: list[Fraction], seed: int
) -> None:
    units = [
        Unit(key_of(seed, str(i)), sum(n for _, n in classes), tuple(sorted(classes)))
        for i, classes in enumerate(drawn)
    ]
    totals = partition._totals(units)
    labels = sorted(totals)
    quota = quotas([totals[label] for label in labels], ratios)
    by_quota = [(c, p) for c, row in zip(labels, quota, strict=True) for p, n in enumerate(row) if n]
    everywhere = [(c, p) for c in labels for p in range(len(ratios))]
    for divide, wanted in ((stratified, by_quota), (grouped, everywhere), (iterated, everywhere)):
        if lacking(units, divide(units, ratios), wanted):
            every = product(range(len(ratios)), repeat=len(units))
            assert all(lacking(units, parts, wanted) for parts in every), divide.__name__


def test_sets_of_identical_samples_are_spread_over_all_parts() -> None:
    units = [Unit(key_of(42, f"{n} {i}"), n, ((0, n),)) for i, n in enumerate((3, 3, 1))]
    assert sorted(row for row in table(units, stratified(units, RATIOS), 1)[0]) == [1, 3, 3]
