"""Which runs there are: one factor at a time or all combinations, every run once, names that folders can have."""

from __future__ import annotations

from collections import Counter

import pytest

from diva.errors import UsageError
from diva.experiment.sensitivity.design import LONGEST_NAME, Design, design
from diva.experiment.sensitivity.factors import Factor, Level


def seeds(*values: int) -> Factor:
    return Factor("seed", "seed", tuple(Level(str(value), {"seed": value}) for value in values))


def knob(name: str, base: str, *labels: str) -> Factor:
    return Factor(name, "knob", tuple(Level(x, {} if x == base else {name: x}) for x in (base, *labels)), base)


def stream(root: str, *values: int) -> Factor:
    return Factor(f"stream:{root}", "stream", tuple(Level(str(x), {"stream": [f"{root}={x}"]}) for x in values))


def names(planned: Design) -> list[str]:
    return [member.name for member in planned.members]


def test_one_factor_at_a_time_runs_every_level_with_every_seed_and_the_base_once() -> None:
    planned = design((seeds(1, 2), knob("lr", "0.1", "0.2"), knob("size", "a", "b")), 7)
    assert names(planned) == [
        "seed-1", "seed-2", "lr-0.2-seed-1", "lr-0.2-seed-2", "size-b-seed-1", "size-b-seed-2",
    ]  # fmt: skip
    assert dict(planned.members[2].values) == {"lr": "0.2", "seed": 1}
    assert [member.configuration for member in planned.members] == ["base"] * 2 + ["lr=0.2"] * 2 + ["size=b"] * 2
    lr = [(cell.level, cell.block, cell.member) for cell in planned.of(knob("lr", "0.1"))]
    assert lr == [
        ("0.1", "1", "seed-1"), ("0.1", "2", "seed-2"), ("0.2", "1", "lr-0.2-seed-1"), ("0.2", "2", "lr-0.2-seed-2"),
    ]  # fmt: skip


def test_streams_vary_around_the_bases_own_seed() -> None:
    planned = design((seeds(1, 2), stream("init", 3, 4)), 7)
    assert names(planned) == ["seed-1", "seed-2", "stream-init-3-seed-7", "stream-init-4-seed-7"]
    assert dict(planned.members[2].values) == {"seed": 7, "stream": ["init=3"]}
    assert {member.configuration for member in planned.members[2:]} == {"stream:init"}


def test_fewer_seeds_for_each_level_are_the_first_ones_and_streams_take_them_too() -> None:
    planned = design((seeds(1, 2, 3), knob("lr", "0.1", "0.2"), stream("init", 4)), 7, runs=2)
    assert names(planned)[3:] == ["lr-0.2-seed-1", "lr-0.2-seed-2", "stream-init-4-seed-1", "stream-init-4-seed-2"]
    for runs in (0, 4):
        with pytest.raises(UsageError, match=r"--runs [04]: allowed are 1 to 3"):
            design((seeds(1, 2, 3),), 7, runs=runs)


def test_a_grid_has_every_combination_once() -> None:
    factors = (seeds(1, 2), knob("lr", "0.1", "0.2"), knob("size", "a", "b", "c"))
    planned = design(factors, 7, grid=True)
    assert len(planned.members) == 2 * 2 * 3 == len(set(names(planned)))
    assert "lr-0.2-size-c-seed-2" in names(planned) and "size-c-seed-1" in names(planned)
    sizes = planned.of(factors[2])
    assert Counter(cell.level for cell in sizes) == {"a": 4, "b": 4, "c": 4}
    assert len({(cell.level, cell.block) for cell in sizes}) == 12
    assert len({cell.block for cell in sizes}) == 4
    assert Counter(cell.block for cell in planned.of(factors[0]))["lr=0.2,size=c"] == 2


def test_streams_in_a_grid_are_joined_and_their_seed_is_no_yardstick() -> None:
    factors = (seeds(1, 2), stream("init", 3, 4), stream("step", 5, 6))
    planned = design(factors, 7, grid=True)
    joined = {tuple(member.values["stream"]) for member in planned.members[2:]}
    assert joined == {(f"init={i}", f"step={s}") for i in (3, 4) for s in (5, 6)}
    assert {cell.block for cell in planned.of(factors[0])} == {""}


def test_a_stream_of_the_base_gives_way_to_the_factor_of_its_name() -> None:
    kept = Factor("stream:init", "stream", tuple(Level(str(x), {"stream": [f"init={x}", "step=9"]}) for x in (1, 2)))
    for factors in ((kept, stream("step", 5)), (stream("step", 5), kept)):
        members = design((seeds(1, 2), *factors), 7, grid=True).members[2:]
        assert [member.values["stream"] for member in members] == [["init=1", "step=5"], ["init=2", "step=5"]]


def test_names_are_safe_in_a_path_and_never_the_same() -> None:
    planned = design((seeds(1), knob("nets", "x", "a/b", "a b", "../c", "é" * 300)), 7)
    assert len(set(names(planned))) == 5
    for name in names(planned):
        assert "/" not in name and not name.startswith(".") and len(name) <= LONGEST_NAME + 9 and name.isascii()


def test_too_many_runs_are_refused() -> None:
    many = tuple(knob(f"k{i}", "0", *map(str, range(1, 30))) for i in range(3))
    with pytest.raises(UsageError, match="more than 10,000 runs"):
        design((seeds(1), *many), 7, grid=True)
