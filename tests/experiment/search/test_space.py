"""The space of a search: what --over means, which values it takes, and what it refuses."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from pydantic import Field
from torch import nn

from diva import Data, DataFolder, Step
from diva.errors import UsageError
from diva.experiment.search.space import Dimension, dimension_of, grid, grid_point, n_points, read_space
from diva.learning.task import Task
from diva.params import Layers, text_of

NOTHING = Layers({}, {})


class Toy(Task):
    """Knobs of every kind; it is never run."""

    width: int = Field(8, ge=1, le=512, description="units")
    dropout: float = Field(0.0, ge=0, lt=1, description="share")
    flip: bool = Field(False, description="flip")
    layers: tuple[int, ...] = Field((), description="units of each layer")
    activation: Literal["relu", "gelu"] = Field("relu", description="activation")
    name: str = Field("a", description="a text")

    def load_data(self, folder: DataFolder | None) -> Data:
        raise NotImplementedError

    def build_model(self, data: Data) -> nn.Module:
        raise NotImplementedError

    def training_step(self, model: nn.Module, batch: Any, data: Data) -> Step:
        raise NotImplementedError


def one(over: str) -> Dimension:
    (dimension,) = read_space([over], Toy, NOTHING)
    return dimension


@pytest.mark.parametrize(
    ("over", "values"),
    [
        ("batch-size=16,32", (16, 32)),
        ("batch_size=16:64:16", (16, 32, 48)),
        ("lr=1e-3,0.1", (0.001, 0.1)),
        ("dropout=0.1:0.4:0.1", (0.1, 0.2, 0.3)),
        ("flip=yes,no", (True, False)),
        ("activation=gelu,relu", ("gelu", "relu")),
        ("layers=16,8;none", ((16, 8), ())),
        ("clip_norm=none,1", (None, 1.0)),
    ],
)
def test_listed_values_are_of_the_knobs_type(over: str, values: tuple[object, ...]):
    assert one(over).choices == values
    assert [type(value) for value in one(over).choices] == [type(value) for value in values]


@pytest.mark.parametrize(
    "over", ["flip=yes,no", "layers=16,8;none", "clip_norm=none,1", "lr=1e-7,0.12345678", "name=a"]
)
def test_values_are_shown_as_they_are_typed(over: str):
    dimension = one(over)
    assert one(f"{dimension.name}={dimension.words()}") == dimension
    between = ";" if dimension.name == "layers" else ","
    assert over == f"{dimension.name}={between.join(map(text_of, dimension.choices))}".replace("1e-07", "1e-7")


def test_a_range_gives_both_ends_and_nothing_outside():
    for over, low, high in (("lr=log:1e-4:1e-1", 1e-4, 1e-1), ("width=int:8:64", 8, 64), ("width=log:8:64", 8, 64)):
        dimension = one(over)
        assert (dimension.value(0.0), dimension.value(1 - 1e-16)) == (low, high)
        assert all(low <= dimension.value(i / 1000) <= high for i in range(1000))


def test_a_logarithm_gives_each_power_of_ten_the_same_share():
    lr = one("lr=log:1e-4:1e-1")
    values = [lr.value((i + 0.5) / 3000) for i in range(3000)]
    assert [sum(low <= value < 10 * low for value in values) for low in (1e-4, 1e-3, 1e-2)] == pytest.approx(
        [1000] * 3, abs=2
    )


def test_whole_numbers_stay_whole_and_each_comes_equally_often():
    width = one("width=int:8:11")
    values = [width.value((i + 0.5) / 400) for i in range(400)]
    assert [values.count(number) for number in (8, 9, 10, 11)] == [100] * 4
    assert all(type(value) is int for value in values)


def test_drawn_values_can_be_typed():
    value = one("lr=log:1e-4:1e-1").value(0.5)
    assert value == 0.003162 and float(f"{value:g}") == value


def test_steps_are_decimal():
    assert one("dropout=uniform:0:0.5:0.1").values() == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert one("width=int:8:60:16").values() == [8, 24, 40, 56]


def test_a_grid_has_every_point_once_the_last_knob_fastest():
    space = read_space(["batch_size=16,32", "dropout=uniform:0:0.4:0.2"], Toy, NOTHING)
    points = [(p["batch_size"], p["dropout"]) for p in grid(space)]
    assert points == [(16, 0.0), (16, 0.2), (16, 0.4), (32, 0.0), (32, 0.2), (32, 0.4)]
    assert n_points(space) == 6
    assert [grid_point(space, number) for number in range(6)] == grid(space)
    with pytest.raises(UsageError, match="can be counted"):
        grid(read_space(["lr=log:1e-4:1"], Toy, NOTHING))
    with pytest.raises(UsageError, match="the grid has 261,121 points"):
        grid(read_space(["width=int:1:511", "batch_size=int:1:511"], Toy, NOTHING))


def test_places_run_from_0_to_1_and_follow_the_logarithm():
    lr, layers = one("lr=log:1e-4:1"), one("layers=1;2;3")
    assert [lr.share(value) for value in (1e-4, 1e-2, 1)] == pytest.approx([0, 0.5, 1])
    assert [layers.share(choice) for choice in layers.choices] == [0, 0.5, 1]


@pytest.mark.parametrize("over", ["lr=log:1e-4:1e-1", "layers=16,8;none", "flip=yes,no", "dropout=uniform:0:0.5:0.1"])
def test_a_dimension_survives_json(over: str):
    assert dimension_of(json.loads(json.dumps(one(over).to_json()))) == one(over)


@pytest.mark.parametrize(
    ("overs", "message"),
    [
        ([], "at least one --over"),
        (["lr"], "says no values"),
        (["lr="], "says no values"),
        (["rl=1,2"], "no parameter is called 'rl'"),
        (["lr=1,2", "lr=3,4"], "is there twice"),
        (["seed=1,2"], "--runs and --seeds"),
        (["monitor=val/loss,val/accuracy"], "one metric"),
        (["batch_size=16,x"], "batch_size is 'x'"),
        (["batch_size=0,16"], "batch_size is '0'"),
        (["batch_size=16,16.0"], "16.0"),
        (["lr=1e-3,0.001"], "the same"),
        (["lr=log:0:1"], "two positive ends"),
        (["lr=log:-1:1"], "two positive ends"),
        (["lr=log:1:1e-3"], "is empty"),
        (["lr=uniform:0:1"], "lr is 0"),
        (["lr=uniform:a:b"], "is no range"),
        (["lr=uniform:nan:1"], "is no range"),
        (["dropout=uniform:0:1"], "dropout is 1"),
        (["dropout=uniform:0:0.5:0.7"], "the step 0.7"),
        (["width=int:8.5:64"], "whole numbers"),
        (["width=int:8:1024"], "width is 1024"),
        (["name=int:1:2"], "no number"),
    ],
)  # fmt: skip
def test_what_makes_no_space_is_refused(overs: list[str], message: str):
    with pytest.raises(UsageError, match=message):
        read_space(overs, Toy, NOTHING)
