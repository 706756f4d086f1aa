"""Importance: the share of the variance that is each knob's own, and what a forest expects along it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from diva.experiment.search.importance import FEWEST, Forest, can_grow
from diva.experiment.search.report import axis_of
from diva.experiment.search.samplers import Told, suggest
from diva.experiment.search.space import Dimension

SPACE = (
    Dimension("lr", "float", (), 1e-4, 1e-1, 0, True),
    Dimension("optimizer", "choice", ("rmsprop", "adam", "sgd")),
    Dimension("noise", "float", (), 0, 1),
)


def trials(n: int) -> list[Told]:
    """lr over three powers of ten has the variance 9 / 12, adam against the others with 1.5 the variance 0.5, noise none."""
    told: list[Told] = []
    for number in range(n):
        point = suggest("random", SPACE, 1, told, less=True)
        told.append(Told(number, point, "finished", math.log10(point["lr"]) + 1.5 * (point["optimizer"] == "adam")))
    return told


def test_shares_of_the_variance_are_those_of_the_function_that_made_the_values():
    shares = Forest(SPACE, trials(150)).importances()
    assert shares["lr"] == pytest.approx(0.6, abs=0.1)
    assert shares["optimizer"] == pytest.approx(0.4, abs=0.1)
    assert shares["noise"] < 0.02


def test_the_same_trials_give_the_same_forest():
    told = trials(20)
    assert Forest(SPACE, told).importances() == Forest(SPACE, told).importances()


def test_what_is_expected_along_a_choice_is_in_the_order_of_its_values():
    surface = Forest(SPACE, trials(60)).along(1, 0)
    assert surface.values.shape == (3, 33)
    assert np.argmax(surface.values[:, 16]) == 1


def test_few_trials_or_equal_ones_grow_no_forest():
    told = trials(FEWEST)
    assert can_grow(told) and not can_grow(told[1:])
    assert not can_grow([Told(t.number, t.point, "finished", 0.1) for t in told])


@pytest.mark.parametrize(
    ("dimension", "texts"),
    [
        (SPACE[0], ["0.0001", "0.001", "0.01", "0.1"]),
        (SPACE[1], ["rmsprop", "adam", "sgd"]),
        (SPACE[2], ["0", "0.25", "0.5", "0.75", "1"]),
        (Dimension("width", "int", (), 8, 64, 1), ["8", "22", "36", "50", "64"]),
        (Dimension("lr", "float", (), 1e-3, 4e-3, 0, True), ["0.001", "0.00141", "0.002", "0.00283", "0.004"]),
        (Dimension("layers", "choice", ((16, 8), ())), ["16,8", "none"]),
    ],
)
def test_axes_have_ticks_that_can_be_read(dimension: Dimension, texts: list[str]):
    assert [text for _, text in axis_of(dimension).ticks] == texts
    assert axis_of(dimension).ticks[0][0] == 0 and axis_of(dimension).ticks[-1][0] == pytest.approx(1)
