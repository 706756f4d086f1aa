"""A batch in virtual shards: the same bits on any number of workers, and the gradient of the whole batch."""

from __future__ import annotations

import random
from typing import Any

import numpy
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from diva.data.loading import Batches
from diva.data.shards import Shards, split_of, tree_nodes
from diva.errors import DivaError, UsageError
from diva.learning.digests import digest_model, digest_optimizer
from diva.learning.events import EpochEnded, Evaluated, TrainEnded
from diva.learning.exchange import Alone, LostWorkerError, Sums, Together
from diva.learning.loop import Learner, fit
from diva.learning.sharded import outputs_of_all
from diva.learning.task import Data, DataFolder, Step, Task
from diva.seeding import Seeds

from .turns import Turns

SEEDS = Seeds(11)
CPU = torch.device("cpu")


class Shaken(Dataset[Any]):
    """Samples that draw from all three global generators when they are read."""

    def __init__(self, n: int, dtype: torch.dtype = torch.float32, *, calm: bool = False) -> None:
        self.inputs = torch.randn(n, 3, generator=torch.Generator().manual_seed(n), dtype=dtype)
        self.calm = calm

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> Any:
        noise = 0 if self.calm else torch.randn(3) * random.random() * numpy.random.rand()
        return self.inputs[index] + noise, int(self.inputs[index].sum() > 0)


class Net(nn.Module):
    """Everything that can go wrong: batch norm, dropout, a parameter that few batches use and one that none does, a counter."""

    mask: torch.Tensor
    seen: torch.Tensor
    odd: torch.Tensor

    def __init__(self, *, plain: bool = False) -> None:
        super().__init__()
        between = (nn.ReLU(),) if plain else (nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5))
        self.layers = nn.Sequential(nn.Linear(3, 8), *between, nn.Linear(8, 2))
        self.seldom = nn.Parameter(torch.ones(2))
        self.never = nn.Parameter(torch.ones(2))
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
        self.register_buffer("seen", torch.zeros(2, dtype=torch.int64))
        self.register_buffer("odd", torch.tensor(False))
        self.plain = plain

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (B, 3) -> (B, 2)."""
        logits: torch.Tensor = self.layers(x)
        if self.training and not self.plain:
            self.seen += torch.tensor([1, len(x)])
            self.odd = ~self.odd  # another tensor takes its place
            if float(x.sum()) > 0:
                logits = logits * self.seldom
        return logits


class Toy(Task):
    """Two classes, and what is left of 23 samples in batches of 10: 3, of which some shards get nothing."""

    epochs: int = 2
    batch_size: int = 10
    lr: float = 0.1
    momentum: float = 0.9
    clip_norm: float | None = 0.5
    schedule: Any = "plateau"
    optimizer: Any = "sgd"
    plain: bool = False
    n: int = 23
    dtype: Any = torch.float32

    def load_data(self, folder: DataFolder | None) -> Data:
        """Three splits of unlike sizes."""
        train, val, test = (Shaken(n, self.dtype, calm=self.plain) for n in (self.n, 21, 5))
        return Data(train, val, test)

    def build_model(self, data: Data) -> nn.Module:
        """The net above."""
        return Net(plain=self.plain).to(self.dtype)

    def training_step(self, model: nn.Module, batch: Any, data: Data) -> Step:
        """Cross entropy."""
        logits = model(batch[0])
        return Step(nn.functional.cross_entropy(logits, batch[1]), {"logits": logits, "labels": batch[1]})

    def compute_metrics(self, outputs: Any, data: Data) -> dict[str, float]:
        """A sum that notices the order of the samples."""
        return {"sum": float(outputs["logits"].double().cumsum(0).sum())}


class Normed(Toy):
    """Batch norm within a shard: no batch may leave one sample to a shard."""

    n: int = 24
    batch_size: int = 12
    schedule: Any = "constant"


def learner(task: Task, shards: Shards) -> Learner:
    data = task.load_data(None)
    SEEDS.reseed("init")
    model = task.build_model(data)
    batches: Any = {
        split: Batches(
            data.split(split), SEEDS, task.batch_size, shuffle=split == "train",
            shards=shards if split == "train" else Shards(),
        )
        for split in ("train", "val", "test")
    }  # fmt: skip
    optimizer = task.build_optimizer(model)
    made = Learner(task, data, model, optimizer, task.build_schedule(optimizer), SEEDS, batches, CPU)
    made.exchange = Alone(shards) if shards.workers == 1 else Together(shards, CPU)
    return made


def story(task: Task, shards: Shards) -> list[Any]:
    """All that a worker computes, comparable with ==."""
    made = learner(task, shards)
    told: list[Any] = []
    for event in fit(made):
        match event:
            case TrainEnded():
                told.append((event.order.tolist(), event.losses, dict(event.metrics), event.lr))
            case Evaluated():
                told.append((dict(event.metrics), event.outputs["logits"].tolist()))
            case EpochEnded():
                told.append((digest_model(made.model), digest_optimizer(made.optimizer), dict(event.metrics)))
    return told


def together(patch: pytest.MonkeyPatch, task: Task, n_shards: int, workers: int) -> list[list[Any]]:
    """The story of each of several workers."""
    turns = Turns(workers)
    with patch.context() as inner:
        turns.stand_in(inner)
        return turns.run(lambda rank: story(task, Shards(n_shards, workers, rank)))


def without_batch_norm(task: Toy) -> Toy:
    class Bare(Toy):
        def build_model(self, data: Data) -> nn.Module:
            net = super().build_model(data)
            assert isinstance(net, Net)
            net.layers[1] = nn.Identity()
            return net

    return Bare(**task.model_dump())


@pytest.mark.parametrize(("n_shards", "workers"), [(4, (2, 4)), (6, (2, 3)), (10, (2, 5))])
def test_any_number_of_workers_gives_the_same_bits(
    n_shards: int, workers: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = without_batch_norm(Toy())
    alone = story(task, Shards(n_shards))
    assert len(alone) == 2 * 3 + 2
    for number in workers:
        for told in together(monkeypatch, task, n_shards, number):
            assert told == alone


def test_batch_norm_keeps_its_statistics_on_any_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = story(Normed(), Shards(4))
    assert together(monkeypatch, Normed(), 4, 2) == [alone] * 2
    assert together(monkeypatch, Normed(), 4, 4) == [alone] * 4


def test_the_number_of_shards_is_part_of_the_experiment() -> None:
    assert story(Normed(), Shards(2)) != story(Normed(), Shards(4))


def test_the_gradient_is_that_of_the_whole_batch_where_samples_do_not_meet() -> None:
    task = Toy(plain=True, dtype=torch.float64, clip_norm=None, epochs=1, n=13, batch_size=13)
    whole, cut = learner(task, Shards()), learner(task, Shards(4))
    for made in (whole, cut):
        list(fit(made))
    for name, expected in whole.model.named_parameters():
        got = dict(cut.model.named_parameters())[name].grad
        if name in ("never", "seldom"):
            assert got is None and expected.grad is None
            continue
        assert got is not None and expected.grad is not None
        torch.testing.assert_close(got, expected.grad, rtol=1e-12, atol=1e-14)  # sums in another order


def test_buffers_are_the_mean_over_the_shards_and_counters_those_of_the_first() -> None:
    """By hand, of one step: a batch of 10 in shards of 3, 3, 2 and 2."""
    made = learner(Toy(n=10, epochs=1, clip_norm=None), Shards(4))
    assert isinstance(made.model, Net)
    linear, norm = made.model.layers[0], made.model.layers[1]
    with torch.no_grad():
        parts = [linear(inputs) for (inputs, _) in (batch for _, batch in next(made.batches["train"].sharded(1)))]
    assert [len(part) for part in parts] == [3, 3, 2, 2]
    list(fit(made))
    mean = sum(0.1 * part.mean(0) * len(part) / 10 for part in parts)
    variance = sum((0.9 + 0.1 * part.var(0)) * len(part) / 10 for part in parts)
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, variance)
    assert norm.num_batches_tracked == 1
    assert made.model.seen.tolist() == [1, 3]
    assert bool(made.model.odd) is True
    assert made.model.mask.tolist() == [0.0, -torch.inf]  # a mean of it would be no number


def test_outputs_of_a_batch_are_those_of_all_workers_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns(2)
    turns.stand_in(monkeypatch)

    def work(rank: int) -> Any:
        own = [{"x": torch.full((2,), rank)}, {} if rank else {"x": torch.tensor([9])}]
        return [part["x"].tolist() for part in outputs_of_all(Together(Shards(2, 2, rank), CPU), own)]

    assert turns.run(work) == [[[0, 0, 1, 1], [9]]] * 2


def test_workers_whose_weights_part_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Secretive(Toy):
        plain: bool = True

        def build_model(self, data: Data) -> nn.Module:
            net = super().build_model(data)
            with torch.no_grad():
                net.get_parameter("never").add_(next(ranks))
            return net

    ranks = iter(range(2))
    with pytest.raises(DivaError, match="after epoch 0 the weights of workers 1 are not those of worker 0"):
        together(monkeypatch, Secretive(), 2, 2)


def test_a_worker_that_leaves_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns(2)
    turns.stand_in(monkeypatch)
    with pytest.raises(LostWorkerError, match=r"does not answer any more \(Connection closed by peer\); diva resume"):
        turns.run(lambda rank: Together(Shards(2, 2, rank), CPU).gather(0) if rank == 0 else None)


def test_sparse_gradients_are_refused() -> None:
    class Sparse(Toy):
        def build_model(self, data: Data) -> nn.Module:
            return nn.Sequential(nn.Embedding(4, 3, sparse=True), nn.Linear(3, 2))

        def training_step(self, model: nn.Module, batch: Any, data: Data) -> Step:
            return Step(model((batch[0][:, 0] > 0).long()).square().mean())

    with pytest.raises(UsageError, match="sparse=False"):
        list(fit(learner(Sparse(clip_norm=None, schedule="constant"), Shards(2))))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 7, 8, 12, 13])
def test_the_sum_over_shards_has_one_order_for_any_number_of_workers(n: int) -> None:
    values = [torch.tensor([float(f"{(-1) ** s * (s + 1)}e{(5 * s) % 8}")]) for s in range(n)]
    for filled in range(1, n + 1):
        totals = []
        for workers in (w for w in range(1, n + 1) if n % w == 0):
            nodes: dict[tuple[int, int], torch.Tensor] = {}
            for rank in range(workers):
                shards = Shards(n, workers, rank)
                sums = Sums(shards)
                for shard in shards.own:
                    if shard < filled:
                        sums.add(shard, values[shard].clone())
                nodes |= sums.take(filled)
            totals.append(Alone(Shards(n)).total(nodes, filled, 1, torch.float32, CPU).tolist())
        assert totals == [[by_hand(values[:filled], n)]] * len(totals)


def by_hand(values: list[torch.Tensor], n: int) -> float:
    """The sum in pairs of neighbours, those beyond the last value left out."""

    def at(start: int, stop: int) -> torch.Tensor:
        if stop - start == 1:
            return values[start]
        middle = split_of(start, stop)
        return at(start, middle) if middle >= len(values) else at(start, middle) + at(middle, stop)

    return float(at(0, n))


def test_nodes_of_the_tree_cover_the_shards_of_a_worker() -> None:
    assert tree_nodes(0, 4, 4) == [(0, 4)]
    assert tree_nodes(2, 4, 4) == [(2, 4)]
    assert tree_nodes(3, 6, 6) == [(3, 4), (4, 6)]
    assert tree_nodes(5, 10, 10) == [(5, 6), (6, 8), (8, 10)]


def test_shards_share_a_batch_out_in_its_order() -> None:
    assert Shards(4).sizes(10) == [3, 3, 2, 2]
    assert Shards(4).sizes(3) == [1, 1, 1, 0]
    assert Shards(4, 2, 1).cut(10) == [(2, slice(6, 8)), (3, slice(8, 10))]
    assert Shards(4, 2, 1).cut(3) == [(2, slice(2, 3))]
    assert Shards(4, 4, 3).cut(3) == []
