"""The contract of a task, and what "better" means."""

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from diva.learning.optim import build_schedule
from diva.learning.task import Data, Step, Task, is_better


class Toy(Task):
    def load_data(self, folder):
        sets: Any = ([1], [2], [3])
        return Data(*sets)

    def build_model(self, data):
        return torch.nn.Linear(1, 1)

    def training_step(self, model, batch, data):
        return Step(torch.zeros(()))


@pytest.mark.parametrize("left_out", ["load_data", "build_model", "training_step"])
def test_a_task_needs_its_three_verbs(left_out):
    verbs = {name: getattr(Toy, name) for name in ("load_data", "build_model", "training_step") if name != left_out}
    incomplete = type("Incomplete", (Task,), verbs)
    with pytest.raises(TypeError, match=left_out):
        incomplete()


def test_the_other_verbs_have_defaults():
    task = Toy()
    assert task.compute_metrics({}, task.load_data(None)) == {}
    assert list(task.draw_figures(torch.nn.Linear(1, 1), {}, task.load_data(None), "val")) == []
    optimizer = task.build_optimizer(torch.nn.Linear(1, 1))
    assert type(optimizer) is torch.optim.Adam and task.build_schedule(optimizer) is None
    assert build_schedule(task, optimizer) is None


def test_unknown_knobs_and_wrong_defaults_are_refused():
    unknown: dict = {"unknown": 1}
    with pytest.raises(ValidationError):
        Toy(**unknown)

    class Wrong(Toy):
        lr: float = "fast"  # type: ignore[assignment]

    with pytest.raises(ValidationError):
        Wrong()


def test_fields_and_verbs_never_share_a_name():
    assert not set(Task.model_fields) & {name for name in vars(Task) if callable(getattr(Task, name))}


def test_data_are_found_by_split():
    data = Toy().load_data(None)
    assert [data.split(name) for name in ("train", "val", "test")] == [[1], [2], [3]]


@pytest.mark.parametrize(
    ("monitor", "value", "best", "expected"),
    [
        ("val/loss", 1.0, 2.0, True),
        ("val/loss", 2.0, 1.0, False),
        ("val/loss", 1.0, 1.0, False),
        ("val/top1_error", 0.1, 0.2, True),
        ("val/accuracy", 0.9, 0.8, True),
        ("val/accuracy", 0.8, 0.8, False),
        ("val/accuracy", 0.7, 0.8, False),
        ("val/loss", 3.0, None, True),
        ("val/loss", math.nan, None, False),
        ("val/loss", math.nan, 1.0, False),
        ("val/loss", -math.inf, 1.0, True),
    ],
)
def test_better_is_strict_and_never_nan(monitor, value, best, expected):
    assert is_better(monitor, value, best) is expected
