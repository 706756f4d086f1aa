"""Models that change while they learn: what `Task.end_epoch` is given, and what the loop makes of its answer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from diva.errors import UsageError
from diva.learning.checkpoints import load_model, save_model
from diva.learning.digests import digest_model
from diva.learning.events import EpochEnded, ModelChanged, StepEnded, TrainEnded
from diva.learning.loop import fit
from tests.learning.test_loop import Augmented, Toy, learner, numbers, poison, splits, weights


class Growing(nn.Module):
    """Layers one after the other, of which the last learns; `widths` are those between them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 4)])
        self.head = nn.Linear(4, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            inputs = nn.functional.dropout(layer(inputs).relu(), 0.2, self.training)
        return self.head(inputs)

    def grow(self) -> None:
        for layer in self.layers:
            layer.requires_grad_(False)
        self.layers.append(nn.Linear(4, 4))

    def structure(self) -> Any:
        return {"layers": len(self.layers)}

    def restructure(self, structure: Any) -> None:
        self.layers = nn.ModuleList([nn.Linear(3, 4), *(nn.Linear(4, 4) for _ in range(1, structure["layers"]))])


class Grows(Toy):
    """A layer more after epochs 1 and 2; the end after epoch 4."""

    epochs: int = 9
    schedule: Any = "step"
    step_epochs: int = 1
    look: bool = False

    def build_model(self, data):
        return Growing()

    def end_epoch(self, model, evaluate, data, epoch):
        if self.look:
            for split in ("train", "val", "train"):
                evaluate(split)
        if epoch in (1, 2):
            model.grow()
            return "changed"
        return "finished" if epoch == 4 else "go on"


def test_a_task_that_says_nothing_changes_nothing():
    assert [type(e) for e in fit(learner())].count(ModelChanged) == 0


def test_the_change_comes_between_two_whole_epochs_and_the_end_before_the_last():
    kinds = [(type(e).__name__, e.epoch) for e in fit(learner(Grows())) if not isinstance(e, StepEnded)]
    whole = [[("TrainEnded", n), ("Evaluated", n), ("EpochEnded", n)] for n in range(5)]
    assert kinds == [
        *whole[0][1:], *whole[1], ("ModelChanged", 1), *whole[2], ("ModelChanged", 2), *whole[3], *whole[4]
    ]  # fmt: skip


def test_after_a_change_optimizer_and_schedule_are_new_and_what_was_frozen_stays():
    ours = learner(Grows())
    for event in fit(ours):
        if isinstance(event, EpochEnded) and event.epoch == 1:
            first = weights(ours.model)
            old = ours.optimizer
    assert ours.optimizer is not old and ours.renewed_after == 2
    names = [name for name, p in ours.model.named_parameters() if p.requires_grad]
    assert names == ["layers.2.weight", "layers.2.bias", "head.weight", "head.bias"]
    assert [len(group["params"]) for group in ours.optimizer.param_groups] == [4]
    assert weights(ours.model)["layers.0.weight"] == first["layers.0.weight"]
    assert weights(ours.model)["head.weight"] != first["head.weight"]


def test_the_schedule_begins_anew_with_the_optimizer():
    told = [event.lr for event in fit(learner(Grows(gamma=0.5))) if isinstance(event, TrainEnded)]
    assert told == [0.1, 0.1, 0.1, 0.05]


def test_poisoned_generators_change_no_new_parameter():
    ours, theirs = learner(Grows()), learner(Grows())
    clean, poisoned = numbers(fit(ours)), []
    for event in fit(theirs):
        poisoned += numbers([event])
        poison()
    assert clean == poisoned
    assert weights(ours.model) == weights(theirs.model)


def test_what_an_evaluation_draws_moves_nothing_that_is_drawn_after_it():
    """However much the samples draw, new parameters come from the stream of the change alone."""
    for data in (splits(Augmented), None):
        ours = learner(Grows(look=True), data)
        next(event for event in fit(ours) if isinstance(event, ModelChanged))
        ours.seeds.reseed("change", 1, 3)  # three evaluations were made before the new layer
        assert torch.equal(ours.model.get_parameter("layers.1.weight"), nn.Linear(4, 4).weight)


class Watching(Toy):
    """Keeps what it saw of a split."""

    drop_last: bool = True

    def end_epoch(self, model, evaluate, data, epoch):
        if epoch == 1:
            seen = {split: evaluate(split) for split in ("train", "val", "test")}
            WATCHED.append((seen, model.training, torch.is_grad_enabled()))
        return "go on"


WATCHED: list[Any] = []


def test_end_epoch_sees_every_sample_of_a_split_in_its_order_without_dropout_and_gradient():
    WATCHED.clear()
    ours = learner(Watching())
    list(fit(ours))
    ((seen, training, grad),) = WATCHED
    for split in ("train", "val", "test"):
        assert torch.equal(seen[split]["labels"], ours.data.split(split).tensors[1])
        assert not seen[split]["logits"].requires_grad
    assert not training and grad


def test_looking_at_a_split_moves_no_training():
    ours, theirs = learner(Watching(epochs=3)), learner(Toy(epochs=3, drop_last=True))
    assert numbers(fit(ours)) == numbers(fit(theirs))


def test_an_unknown_answer_is_refused():
    class Forgetful(Toy):
        def end_epoch(self, model, evaluate, data, epoch):
            return None

    with pytest.raises(UsageError, match=r"Forgetful gave None; allowed: \('go on', 'changed', 'finished'\)"):
        list(fit(learner(Forgetful())))


def test_a_checkpoint_rebuilds_the_structure(tmp_path):
    ours = learner(Grows())
    list(fit(ours))
    save_model(tmp_path / "grown.safetensors", ours.model)
    other = Growing()
    load_model(tmp_path / "grown.safetensors", other)
    assert digest_model(other) == digest_model(ours.model)
    assert weights(other) == weights(ours.model)


def test_the_structure_is_part_of_the_digest():
    one, two = Growing(), Growing()
    two.load_state_dict(one.state_dict())
    assert digest_model(one) == digest_model(two)
    two.structure = lambda: {"layers": 1, "classes": "others"}  # type: ignore[method-assign]
    assert digest_model(one) != digest_model(two)
