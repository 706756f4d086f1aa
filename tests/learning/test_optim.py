"""Knobs become PyTorch's optimizers and schedules, and every epoch has the lr that the knobs promise."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from diva.errors import UsageError
from diva.learning.optim import build_optimizer, build_schedule, freeze, set_training
from diva.learning.task import Step, Task


class Toy(Task):
    def load_data(self, folder):
        raise NotImplementedError

    def build_model(self, data):
        return nn.Linear(1, 1)

    def training_step(self, model, batch, data):
        return Step(batch)


def lrs(values=None, **knobs):
    """The lr of each epoch, from 1 on."""
    task = Toy(**{"lr": 1.0, "epochs": 6, "optimizer": "sgd", **knobs})
    optimizer = build_optimizer(task, nn.Linear(1, 1))
    schedule: Any = build_schedule(task, optimizer)
    found = []
    for epoch in range(task.epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if values is not None:
            schedule.step(values[epoch])
        elif schedule is not None:
            schedule.step()
    return found


def close(expected):
    return pytest.approx(expected, rel=1e-12, abs=1e-15)  # PyTorch multiplies step by step


# Optimizers


@pytest.mark.parametrize(
    ("knobs", "kind", "expected"),
    [
        (
            {"optimizer": "sgd", "momentum": 0.5, "nesterov": True},
            torch.optim.SGD,
            {"momentum": 0.5, "nesterov": True, "dampening": 0},
        ),
        (
            {"optimizer": "adam", "beta1": 0.8, "beta2": 0.9, "eps": 1e-6},
            torch.optim.Adam,
            {"betas": (0.8, 0.9), "eps": 1e-6, "amsgrad": False},
        ),
        (
            {"optimizer": "adamw", "beta1": 0.8, "beta2": 0.9, "eps": 1e-6},
            torch.optim.AdamW,
            {"betas": (0.8, 0.9), "eps": 1e-6},
        ),
        (
            {"optimizer": "rmsprop", "momentum": 0.5, "beta2": 0.75, "eps": 1e-6},
            torch.optim.RMSprop,
            {"momentum": 0.5, "alpha": 0.75, "eps": 1e-6, "centered": False},
        ),
    ],
)
def test_every_knob_reaches_its_optimizer(knobs, kind, expected):
    optimizer = build_optimizer(Toy(lr=0.25, weight_decay=0.125, **knobs), nn.Linear(2, 1))
    assert type(optimizer) is kind
    group = optimizer.param_groups[0]
    assert {name: group[name] for name in expected} == expected
    assert (group["lr"], group["weight_decay"]) == (0.25, 0.125)


def test_only_parameters_that_learn_are_given_to_the_optimizer():
    model = nn.Linear(2, 1)
    model.bias.requires_grad_(False)
    assert build_optimizer(Toy(), model).param_groups[0]["params"] == [model.weight]


def test_a_model_without_anything_to_learn_is_refused():
    model = nn.Linear(2, 1).requires_grad_(False)
    with pytest.raises(UsageError, match="--freeze"):
        build_optimizer(Toy(), model)


def test_nesterov_without_momentum_is_refused_in_a_users_words():
    with pytest.raises(UsageError, match="momentum"):
        build_optimizer(Toy(optimizer="sgd", nesterov=True, momentum=0), nn.Linear(1, 1))


# Schedules, by hand


def test_constant_stays():
    assert lrs() == [1] * 6


def test_step_falls_after_each_step_epochs_epochs():
    assert lrs(schedule="step", step_epochs=2, gamma=0.5) == [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert lrs(schedule="step", step_epochs=1, gamma=0.5, epochs=3) == [1, 0.5, 0.25]


def test_multistep_falls_after_the_epochs_named():
    assert lrs(schedule="multistep", milestones=(1, 4), gamma=0.5) == [1, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_exponential_falls_after_every_epoch():
    assert lrs(schedule="exponential", gamma=0.5, epochs=4) == [1, 0.5, 0.25, 0.125]


def test_cosine_begins_at_lr_and_would_reach_zero_after_the_last_epoch():
    expected = [(1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in range(4)]
    found = lrs(schedule="cosine", epochs=4)
    assert found == close(expected) and found[0] == 1 and found[-1] > 0


def test_warm_up_grows_linearly_from_the_first_epoch_on():
    assert lrs(warmup_epochs=3) == close([0.25, 0.5, 0.75, 1, 1, 1])


def test_after_the_warm_up_a_schedule_begins_at_lr():
    cosine = [(1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in range(4)]
    assert lrs(schedule="cosine", warmup_epochs=2) == close([1 / 3, 2 / 3, *cosine])
    assert lrs(schedule="step", step_epochs=2, gamma=0.5, warmup_epochs=2) == close([1 / 3, 2 / 3, 1, 1, 0.5, 0.5])
    assert lrs(schedule="exponential", gamma=0.5, warmup_epochs=1, epochs=4) == close([0.5, 1, 0.5, 0.25])


def test_milestones_are_epochs_of_the_run_also_after_a_warm_up():
    assert lrs(schedule="multistep", milestones=(3, 5), gamma=0.5, warmup_epochs=2) == close(
        [1 / 3, 2 / 3, 1, 0.5, 0.5, 0.25]
    )


def test_a_warm_up_as_long_as_the_run_is_no_error():
    assert lrs(schedule="cosine", warmup_epochs=6) == close([epoch / 7 for epoch in range(1, 7)])


def test_plateau_falls_after_step_epochs_epochs_without_progress():
    how = {"schedule": "plateau", "gamma": 0.5, "epochs": 7}
    flat = [1.0] * 7  # the first is the best; each later one is an epoch without progress
    assert lrs(flat, step_epochs=2, **how) == [1, 1, 1, 0.5, 0.5, 0.25, 0.25]
    assert lrs(flat, step_epochs=1, **how) == [1, 1, 0.5, 0.25, 0.125, 0.0625, 0.03125]


def test_plateau_knows_which_way_is_better():
    how = {"schedule": "plateau", "gamma": 0.5, "step_epochs": 1}
    rising = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert lrs(rising, monitor="val/accuracy", **how) == [1] * 6
    assert lrs(rising, monitor="val/loss", **how)[-1] < 1
    assert lrs(rising[::-1], monitor="val/error", **how) == [1] * 6


def test_the_smallest_progress_is_progress():
    values = [1 - i * 1e-12 for i in range(6)]
    assert lrs(values, schedule="plateau", step_epochs=1) == [1] * 6


def test_plateau_does_not_go_with_a_warm_up():
    with pytest.raises(UsageError, match="warmup_epochs"):
        lrs(schedule="plateau", warmup_epochs=2)


# Frozen parameters


def model():
    return nn.Sequential(
        nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)), nn.Sequential(nn.Linear(3, 3), nn.Dropout(), nn.Linear(3, 1))
    )


def test_freeze_stops_the_parameters_that_match():
    net = model()
    assert freeze(net, ["0.*", "1.0.bias"]) == ["0.0.bias", "0.0.weight", "0.1.bias", "0.1.weight", "1.0.bias"]
    assert [name for name, p in net.named_parameters() if p.requires_grad] == ["1.0.weight", "1.2.weight", "1.2.bias"]


def test_freeze_without_patterns_freezes_nothing():
    net = model()
    assert freeze(net, []) == [] and all(p.requires_grad for p in net.parameters())


def test_a_pattern_that_matches_nothing_is_refused_and_freezes_nothing():
    net = model()
    with pytest.raises(UsageError, match=r"--freeze 0\.0\.wieght: .*did you mean 0\.0\.weight\?"):
        freeze(net, ["1.*", "0.0.wieght"])
    assert all(p.requires_grad for p in net.parameters())


def test_frozen_leaf_modules_are_evaluated_and_all_others_trained():
    net = model()
    freeze(net, ["0.*", "1.0.bias"])
    net.eval()
    set_training(net)
    assert {name: module.training for name, module in net.named_modules()} == {
        "": True,
        "0": True,
        "0.0": False,
        "0.1": False,
        "1": True,
        "1.0": True,
        "1.1": True,
        "1.2": True,
    }


def test_a_frozen_parameter_of_a_whole_model_does_not_stop_its_parts():
    """As the class token of a vision transformer: `module.eval()` reaches all children."""

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(torch.zeros(3))
            self.dropout = nn.Dropout()
            self.head = nn.Linear(3, 1)

    net = Whole()
    freeze(net, ["token"])
    set_training(net)
    assert net.training and net.dropout.training and net.head.training
