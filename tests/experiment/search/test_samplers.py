"""Samplers: suggestions follow from the space, the seed and earlier outcomes, and from nothing else."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import numpy
import pytest

from diva.errors import UsageError
from diva.experiment.search.samplers import N_STARTUP, Told, from_optuna, suggest
from diva.experiment.search.space import Dimension, key_of

LR = Dimension("lr", "float", (), 1e-4, 1e-1, 0, True)
SPACE = (LR, Dimension("batch_size", "choice", (16, 32)), Dimension("width", "int", (), 8, 64, 1))


def loss(point: dict[str, Any]) -> float:
    """Smallest, 0, at lr 0.01, batch size 32, width 30."""
    return (math.log10(point["lr"]) + 2) ** 2 + (point["batch_size"] != 32) + ((point["width"] - 30) / 30) ** 2


def search(sampler: str, seed: int, n: int, space: Sequence[Dimension] = SPACE) -> list[Told]:
    told: list[Told] = []
    for number in range(n):
        point = suggest(sampler, space, seed, told, less=True)
        told.append(Told(number, point, "finished", loss(point)))
    return told


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_suggestion_repeats_whoever_asks_and_whatever_was_drawn_before(sampler: str):
    told = search(sampler, 5, 14)
    for number in (0, 3, N_STARTUP, 13):
        numpy.random.random(number)
        assert suggest(sampler, SPACE, 5, told[:number], less=True) == told[number].point


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_another_seed_gives_other_trials(sampler: str):
    assert [t.point for t in search(sampler, 1, 3)] != [t.point for t in search(sampler, 2, 3)]


def test_tpe_begins_as_random_search_does():
    assert [t.point for t in search("tpe", 7, N_STARTUP)] == [t.point for t in search("random", 7, N_STARTUP)]


def test_another_knob_in_the_space_moves_no_random_value_of_the_others():
    wider = (*SPACE, Dimension("dropout", "float", (), 0, 0.5))
    for narrow, wide in zip(search("random", 3, 5), search("random", 3, 5, wider), strict=True):
        assert {name: wide.point[name] for name in narrow.point} == narrow.point


def test_tpe_follows_outcomes_random_search_does_not():
    told = search("tpe", 3, 12)
    upside_down = [replace(t, value=-(t.value or 0)) for t in told]
    assert suggest("tpe", SPACE, 3, told, less=True) != suggest("tpe", SPACE, 3, upside_down, less=True)
    assert suggest("random", SPACE, 3, told, less=True) == suggest("random", SPACE, 3, upside_down, less=True)


def test_tpe_takes_the_greatest_where_more_is_better():
    told = search("tpe", 3, 12)
    upside_down = [replace(t, value=-(t.value or 0)) for t in told]
    assert suggest("tpe", SPACE, 3, told, less=True) == suggest("tpe", SPACE, 3, upside_down, less=False)


def test_tpe_shuns_where_trials_failed():
    """All that finished are alike; those above 1e-2 failed. 0.46 of a logarithm that is drawn evenly would be there or near."""
    points = [Told(n, {"lr": LR.value((n + 0.5) / 30)}, "finished", 1.0) for n in range(30)]
    told = [t if t.point["lr"] < 1e-2 else replace(t, state="failed", value=None) for t in points]
    suggested = [suggest("tpe", [LR], seed, told, less=True)["lr"] for seed in range(20)]
    assert sum(lr > 2e-2 for lr in suggested) <= 2


def test_tpe_finds_a_planted_optimum_that_random_search_of_as_many_trials_does_not_come_near():
    reached = {
        s: median(min(t.value or 9 for t in search(s, seed, 35)) for seed in range(5)) for s in ("tpe", "random")
    }
    assert reached["tpe"] < reached["random"] / 3


@pytest.mark.parametrize("sampler", ["random", "tpe", "grid"])
def test_no_point_is_tried_twice_while_there_are_others(sampler: str):
    small = (
        Dimension("batch_size", "choice", (16, 32)),
        Dimension("lr", "choice", (0.1, 0.01)),
        Dimension("width", "int", (), 8, 12, 1),
    )
    told = search(sampler, 1, 20, small)
    assert len({key_of(t.point) for t in told}) == 20


def test_suggestions_lie_on_the_steps_of_the_space():
    lr, width = Dimension("lr", "float", (), 0.1, 0.5, 0.1), Dimension("width", "int", (), 8, 64, 8)
    for trial in search("tpe", 1, 16, (lr, Dimension("batch_size", "choice", (16, 32)), width)):
        assert trial.point["lr"] in (0.1, 0.2, 0.3, 0.4, 0.5)
        assert trial.point["width"] in range(8, 65, 8)


def test_truth_values_and_lists_come_back_from_optuna_as_they_were():
    flip, clip = Dimension("flip", "choice", (True, False)), Dimension("clip", "choice", (None, 1.0))
    space = (flip, Dimension("layers", "choice", ((16, 8), ())), clip)
    given = {"flip": True, "layers": "[16, 8]", "clip": None}
    assert from_optuna(space, given) == {"flip": True, "layers": (16, 8), "clip": None}
    points = [{"flip": n % 4 < 2, "layers": ((16, 8), ())[n % 2], "clip": (None, 1.0)[n // 4]} for n in range(7)]
    told = [Told(n, point, "finished", n / 10) for n, point in enumerate([*points, *points[:3]])]
    assert suggest("tpe", space, 0, told, less=True) == {"flip": False, "layers": (), "clip": 1.0}  # all that is left


def test_without_optuna_tpe_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    told = search("random", 0, N_STARTUP)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError, match=r"pip install 'diva\[hpo\]'"):
        suggest("tpe", SPACE, 0, told, less=True)
