"""The loop does what a hand-written one does, to the bit, and says it in the documented order."""

import math
import random
from typing import Any

import numpy
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from diva.data.loading import Batches
from diva.errors import UsageError
from diva.learning.events import EpochEnded, Evaluated, StepEnded, TrainEnded
from diva.learning.loop import Learner, evaluate, fit, mixed_precision, monitored
from diva.learning.optim import freeze
from diva.learning.task import Data, Step, Task
from diva.seeding import Seeds

SEEDS = Seeds(7)
N = {"train": 11, "val": 5, "test": 6}


def tensors(n, dtype=torch.float32):
    inputs = torch.randn(n, 3, generator=torch.Generator().manual_seed(n), dtype=dtype)
    return inputs, (inputs.sum(1) > 0).long()


def splits(make):
    return Data(make(N["train"]), make(N["val"]), make(N["test"]))


class Toy(Task):
    """Two classes, dropout, and a metric that draws from the global generators as a bootstrap would."""

    epochs: int = 2
    batch_size: int = 4
    lr: float = 0.1
    optimizer: Any = "sgd"

    def load_data(self, folder):
        return splits(lambda n: TensorDataset(*tensors(n)))

    def build_model(self, data):
        return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))

    def training_step(self, model, batch, data):
        inputs, labels = batch
        logits = model(inputs)
        loss = nn.functional.cross_entropy(logits, labels)
        return Step(loss, {"labels": labels, "logits": logits})

    def compute_metrics(self, outputs, data):
        return {"accuracy": float((outputs["logits"].argmax(1) == outputs["labels"]).double().mean())}


class Augmented(Dataset):
    """The same samples, read one by one and shaken."""

    def __init__(self, n):
        self.inputs, self.labels = tensors(n)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.inputs[index] + torch.randn(3) * random.random() * numpy.random.rand(), self.labels[index]


def learner(task=None, data=None, *, seeds=SEEDS, model=None, frozen=()):
    task = task or Toy()
    data = data or task.load_data(None)
    seeds.reseed("init")
    model = model or task.build_model(data)
    freeze(model, frozen)
    batches: dict[Any, Batches] = {
        split: Batches(
            data.split(split),
            seeds,
            task.batch_size,
            shuffle=split == "train",
            drop_last=split == "train" and task.drop_last,
        )
        for split in N
    }
    optimizer = task.build_optimizer(model)
    return Learner(task, data, model, optimizer, task.build_schedule(optimizer), seeds, batches, torch.device("cpu"))


def weights(model):
    return {name: value.tolist() for name, value in model.state_dict().items()}


def numbers(events):
    """What a run computed, comparable with ==."""
    found: list = []
    for event in events:
        match event:
            case StepEnded():
                found.append((event.epoch, event.step, float(event.loss), event.outputs["logits"].tolist()))
            case TrainEnded():
                found.append((event.order.tolist(), event.losses, dict(event.metrics), event.lr))
            case Evaluated():
                found.append((event.split, dict(event.metrics), event.outputs["logits"].tolist()))
            case EpochEnded():
                found.append((event.epoch, event.step, dict(event.metrics)))
    return found


def poison():
    random.seed(13), numpy.random.seed(13), torch.manual_seed(13)


# Against a loop written by hand


def test_training_is_a_hand_written_loop_bit_for_bit():
    ours = learner()
    losses = [float(event.loss) for event in fit(ours) if isinstance(event, StepEnded)]

    inputs, labels = tensors(N["train"])
    SEEDS.reseed("init")
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    expected = []
    model.train()
    for epoch in (1, 2):
        order = torch.from_numpy(SEEDS.order(11, "shuffle", epoch))
        for key, batch in zip(SEEDS.keys(3, "step", epoch), order.split(4), strict=True):
            torch.manual_seed(key)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs[batch]), labels[batch])
            loss.backward()
            optimizer.step()
            expected.append(loss.item())

    assert losses == expected
    assert weights(ours.model) == weights(model)


def test_dropout_is_drawn_so_the_comparison_can_fail():
    one, two = learner(), learner(seeds=Seeds(8), model=learner().model)
    assert numbers(fit(one)) != numbers(fit(two))


# Events


def test_events_come_in_the_documented_order():
    kinds = [(type(event).__name__, event.epoch, event.step) for event in fit(learner())]
    assert kinds == [
        ("Evaluated", 0, 0),
        ("EpochEnded", 0, 0),
        *(("StepEnded", 1, step) for step in (1, 2, 3)),
        ("TrainEnded", 1, 3),
        ("Evaluated", 1, 3),
        ("EpochEnded", 1, 3),
        *(("StepEnded", 2, step) for step in (4, 5, 6)),
        ("TrainEnded", 2, 6),
        ("Evaluated", 2, 6),
        ("EpochEnded", 2, 6),
    ]


def test_no_epochs_is_the_validation_of_fresh_weights():
    ours = learner(Toy(epochs=0))
    before = weights(ours.model)
    assert [type(event) for event in fit(ours)] == [Evaluated, EpochEnded]
    assert weights(ours.model) == before


def test_events_tell_what_was_computed():
    ours = learner()
    events = list(fit(ours))
    steps = [event for event in events if isinstance(event, StepEnded)][:3]
    trained = next(event for event in events if isinstance(event, TrainEnded))
    assert trained.losses == [float(step.loss) for step in steps]
    assert trained.order.tolist() == SEEDS.order(11, "shuffle", 1).tolist()
    assert trained.lr == 0.1
    assert not any(step.loss.requires_grad or step.outputs["logits"].requires_grad for step in steps)
    validated = next(event for event in events if isinstance(event, Evaluated) and event.epoch == 1)
    ended = next(event for event in events if isinstance(event, EpochEnded) and event.epoch == 1)
    assert ended.metrics == {**trained.metrics, **validated.metrics}
    assert set(ended.metrics) == {"train/loss", "train/accuracy", "val/loss", "val/accuracy"}


def test_evaluation_gives_outputs_in_the_order_of_the_data():
    ours = learner()
    found = evaluate(ours, "val", 0, 0)
    ours.model.eval()
    inputs, labels = tensors(N["val"])
    assert torch.equal(found.outputs["labels"], labels)
    assert found.outputs["logits"].shape == (5, 2) and not ours.model.training
    with torch.no_grad():
        torch.testing.assert_close(found.outputs["logits"], ours.model(inputs))  # other batch sizes, other rounding


def test_evaluation_changes_nothing_that_learns():
    ours = learner(model=nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)))
    before = weights(ours.model)
    assert numbers([evaluate(ours, "test", 3, 9)]) == numbers([evaluate(ours, "test", 3, 9)])
    assert weights(ours.model) == before
    assert all(p.grad is None for p in ours.model.parameters())


# Seeds


def test_poisoned_generators_change_nothing():
    ours, theirs = learner(), learner()
    clean = numbers(fit(ours))
    poisoned = []
    poison()
    for event in fit(theirs):
        poison()
        poisoned += numbers([event])
    assert poisoned == clean
    assert weights(theirs.model) == weights(ours.model)


def test_poisoned_generators_change_no_augmentation():
    clean = numbers(fit(learner(data=splits(Augmented))))
    poisoned = []
    for event in fit(learner(data=splits(Augmented))):
        poison()
        poisoned += numbers([event])
    assert poisoned == clean


class Bootstrapped(Toy):
    """A metric that draws, as a bootstrap does."""

    def compute_metrics(self, outputs, data):
        return {"drawn": random.random() + float(numpy.random.rand()) + torch.rand(1).item()}


def test_poisoned_generators_change_no_metric_that_draws():
    clean = numbers(fit(learner(Bootstrapped())))
    poisoned = []
    for i, event in enumerate(fit(learner(Bootstrapped()))):
        random.seed(i), numpy.random.seed(i), torch.manual_seed(i)
        poisoned += numbers([event])
    assert poisoned == clean


def test_an_evaluation_left_out_moves_no_training():
    ours, theirs = learner(), learner()
    list(fit(ours))
    for event in fit(theirs):
        if isinstance(event, EpochEnded):
            evaluate(theirs, "test", event.epoch, event.step)
    assert weights(theirs.model) == weights(ours.model)


def test_training_goes_on_from_a_later_epoch_as_if_uninterrupted():
    ours, theirs = learner(Toy(epochs=3)), learner(Toy(epochs=3))
    whole = numbers(fit(ours))
    first = []
    for event in fit(theirs):
        first += numbers([event])
        if isinstance(event, EpochEnded) and event.epoch == 1:
            break
    poison()
    assert first + numbers(fit(theirs, first_epoch=2, step=3)) == whole
    assert weights(theirs.model) == weights(ours.model)


# Numbers


def test_loss_is_the_mean_over_samples_summed_exactly():
    losses = iter([3 * 2.0**50, 0.1, -4 * 2.0**50])  # times 4, 4, 3: one after the other they give 0

    class Told(Toy):
        def training_step(self, model, batch, data):
            return Step(model[0].weight.sum() * 0 + (next(losses) if model.training else 0.0))

    trained = next(event for event in fit(learner(Told(epochs=1))) if isinstance(event, TrainEnded))
    assert [len(trained.order), len(trained.losses)] == [11, 3]
    assert trained.metrics["train/loss"] == pytest.approx(0.4 / 11)
    assert (
        trained.metrics["train/loss"] == math.fsum(x * n for x, n in zip(trained.losses, [4, 4, 3], strict=True)) / 11
    )


def test_evaluated_loss_weighs_the_short_last_batch_by_its_size():
    ours = learner()
    found = evaluate(ours, "val", 0, 0)
    inputs, labels = tensors(5)
    ours.model.eval()
    with torch.no_grad():
        parts = [nn.functional.cross_entropy(ours.model(inputs[i]), labels[i]).item() for i in (slice(4), slice(4, 5))]
    assert found.metrics["val/loss"] == math.fsum([4 * parts[0], parts[1]]) / 5


def test_a_loss_in_double_precision_is_not_rounded():
    class Double(Toy):
        def load_data(self, folder):
            return splits(lambda n: TensorDataset(*tensors(n, torch.float64)))

        def build_model(self, data):
            return super().build_model(data).double()

    events = list(fit(learner(Double(epochs=1))))
    told = [event.loss.item() for event in events if isinstance(event, StepEnded)]
    assert next(event for event in events if isinstance(event, TrainEnded)).losses == told


def test_drop_last_leaves_the_short_batch_out():
    trained = next(event for event in fit(learner(Toy(epochs=1, drop_last=True))) if isinstance(event, TrainEnded))
    assert len(trained.losses) == 2 and trained.order.tolist() == SEEDS.order(11, "shuffle", 1)[:8].tolist()


def test_clip_norm_bounds_the_gradient_of_every_step():
    norms = []
    ours = learner(Toy(clip_norm=0.01))
    for event in fit(ours):
        if isinstance(event, StepEnded):
            norms.append(math.sqrt(sum(float(p.grad.double().pow(2).sum()) for p in ours.model.parameters())))
    assert len(norms) == 6 and all(0.0099 < norm <= 0.01 + 1e-6 for norm in norms)


def test_without_clip_norm_gradients_stay_as_they_are():
    clipped, plain = learner(Toy(clip_norm=1e9)), learner()
    list(fit(clipped)), list(fit(plain))
    assert weights(clipped.model) == weights(plain.model)


def test_bf16_trains_in_mixed_precision():
    seen = []

    class Seen(Toy):
        def training_step(self, model, batch, data):
            step = super().training_step(model, batch, data)
            seen.append(step.outputs["logits"].dtype)
            return step

    one, two = learner(Seen(precision="bf16")), learner(Seen(precision="bf16"))
    assert numbers(fit(one)) == numbers(fit(two))
    assert set(seen) == {torch.bfloat16}
    assert all(p.dtype == torch.float32 for p in one.model.parameters())
    assert not torch.is_autocast_enabled("cpu")


def test_fp32_is_no_mixed_precision():
    with mixed_precision(Toy(), torch.device("cpu")):
        assert not torch.is_autocast_enabled("cpu")


def test_a_task_without_outputs_has_its_loss_as_only_metric():
    class Silent(Toy):
        def training_step(self, model, batch, data):
            return Step(super().training_step(model, batch, data).loss)

    ended = list(fit(learner(Silent())))[-1]
    assert isinstance(ended, EpochEnded)
    assert set(ended.metrics) == {"train/loss", "val/loss"}


def test_a_metric_that_is_monitored_must_exist():
    assert monitored(Toy(), {"val/loss": 0.5}) == 0.5
    with pytest.raises(UsageError, match=r"'val/acuracy'.*did you mean val/accuracy\?"):
        monitored(Toy(monitor="val/acuracy"), {"val/accuracy": 1.0, "val/loss": 0.0})


# Schedules and frozen parts, as the loop applies them


def test_an_epoch_is_trained_with_the_lr_of_the_schedule_and_says_so():
    task = Toy(epochs=5, schedule="step", step_epochs=2, gamma=0.5)
    ours = learner(task)
    used, told = [], []
    for event in fit(ours):
        if isinstance(event, StepEnded):
            used.append((event.epoch, ours.optimizer.param_groups[0]["lr"]))
        if isinstance(event, TrainEnded):
            told.append(event.lr)
    assert told == [0.1, 0.1, 0.05, 0.05, 0.025]
    assert used == [(epoch, told[epoch - 1]) for epoch in range(1, 6) for _ in range(3)]


def test_plateau_follows_the_monitored_metric():
    values = iter([9.0, 5.0, 4.0, 4.0, 4.0, 4.0, 4.0, 3.0, 3.0])

    class Told(Toy):
        def compute_metrics(self, outputs, data):
            return {"error": next(values) if len(outputs["labels"]) == N["val"] else 0.0}

    task = Told(epochs=8, schedule="plateau", step_epochs=2, gamma=0.5, monitor="val/error", lr=0.8)
    told = [event.lr for event in fit(learner(task)) if isinstance(event, TrainEnded)]
    # best in epoch 2; epochs 3 and 4 without progress, so epoch 5 has half; 5 and 6 too, so epoch 7; progress in epoch 7
    assert told == [0.8, 0.8, 0.8, 0.8, 0.4, 0.4, 0.2, 0.2]


def test_frozen_batch_norm_keeps_its_statistics():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    ours = learner(model=model, frozen=["0.*", "1.*"])
    before = weights(model)
    list(fit(ours))
    after = weights(model)
    assert [name for name in after if after[name] != before[name]] == ["2.weight", "2.bias"]


def test_unfrozen_batch_norm_learns_its_statistics():
    norm = nn.BatchNorm1d(4)
    list(fit(learner(model=nn.Sequential(nn.Linear(3, 4), norm, nn.Linear(4, 2)), frozen=["0.*"])))
    assert norm.running_mean is not None and bool(norm.running_mean.any())
    assert norm.num_batches_tracked is not None and norm.num_batches_tracked.item() == 6
