"""The training loop: a generator of events that holds no policy. Logging, saving and stopping belong to whoever iterates."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from diva.data.loading import Batches
from diva.errors import DivaError, UsageError, nearest
from diva.learning.digests import digest_model
from diva.learning.events import EpochEnded, Evaluated, Event, ModelChanged, StepEnded, TrainEnded
from diva.learning.exchange import ALONE, Exchange
from diva.learning.optim import set_training
from diva.learning.sharded import join, outputs_of_all, sharded_steps
from diva.learning.task import Change, Data, Outputs, Split, Task
from diva.seeding import Seeds, reseeder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from diva.learning.graphs import StepGraphs


@dataclass
class Learner:
    """Everything that learns: the task, its data (constants on the device), the objects whose state changes, and the seeds.

    `renew_optimizer` alone replaces optimizer and schedule, after a change of the model; `renewed_after` is the epoch of the last one.
    Every worker of a run has a learner of its own, `exchange` joins them: all make the same steps and hear of the same events.
    """

    task: Task
    data: Data
    model: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler | None
    seeds: Seeds
    batches: Mapping[Split, Batches]
    device: torch.device
    renewed_after: int | None = None
    exchange: Exchange = ALONE
    graphs: Callable[..., StepGraphs] | None = None  # how the steps of an epoch become CUDA graphs

    @property
    def leads(self) -> bool:
        """Whether this is worker 0, which alone writes."""
        return self.exchange.shards.rank == 0


def fit(learner: Learner, *, first_epoch: int = 0, step: int = 0) -> Iterator[Event]:
    """Train from `first_epoch` to the task's last, `step` steps having been made; epoch 0 is validation before any training."""
    for epoch in range(first_epoch, learner.task.epochs + 1):
        trained: Mapping[str, float] = {}
        if epoch > 0:
            change = end_epoch(learner, epoch - 1)
            if change == "finished":
                return
            if change == "changed":
                yield ModelChanged(epoch - 1, step)
            for event in train_epoch(learner, epoch, step):
                yield event
                if isinstance(event, TrainEnded):
                    step, trained = event.step, event.metrics
        validated = evaluate(learner, "val", epoch, step)
        yield validated
        metrics = {**trained, **validated.metrics}
        if epoch > 0:
            _step_schedule(learner, metrics)
        _refuse_other_weights(learner, epoch)
        yield EpochEnded(epoch, step, metrics)


def train_epoch(learner: Learner, epoch: int, step: int) -> Iterator[StepEnded | TrainEnded]:
    """One pass over the training data. The global generators are re-seeded for the epoch and before every step."""
    task, optimizer, batches = learner.task, learner.optimizer, learner.batches["train"]
    learner.seeds.reseed("epoch", epoch)
    set_training(learner.model)
    lr, mixed = optimizer.param_groups[0]["lr"], mixed_precision(task, learner.device)
    parameters = [p for group in optimizer.param_groups for p in group["params"]] if task.clip_norm else []
    losses: list[Tensor] = []
    kept: list[Outputs] = []
    steps = _whole_steps if learner.exchange.shards.n == 1 else sharded_steps
    for loss, outputs in steps(learner, epoch, mixed):
        if parameters:
            nn.utils.clip_grad_norm_(parameters, task.clip_norm or math.inf)
        optimizer.step()
        step += 1
        losses.append(loss)
        kept.append(outputs)
        yield StepEnded(epoch, step, loss, outputs)
    values = torch.stack(losses).double().tolist() if losses else []
    outputs = _join([outputs for outputs in outputs_of_all(learner.exchange, kept) if outputs])
    metrics = _metrics(learner, "train", epoch, values, batches.sizes(), outputs)
    yield TrainEnded(epoch, step, batches.order(epoch), values, metrics, lr)


def _whole_steps(
    learner: Learner, epoch: int, mixed: AbstractContextManager[Any]
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """For each batch of an epoch its loss and outputs, in one piece; its gradient stands in the parameters."""
    task, model, optimizer, data = learner.task, learner.model, learner.optimizer, learner.data
    batches, reseed = learner.batches["train"], reseeder()
    if learner.graphs is not None:
        yield from _graphed_steps(learner, epoch, learner.graphs)
        return
    for key, batch in zip(learner.seeds.keys(len(batches), "step", epoch), batches.epoch(epoch), strict=True):
        reseed(key)
        optimizer.zero_grad()
        with mixed:
            loss, outputs = task.training_step(model, batch, data)
        loss.backward()
        loss = loss.detach()
        yield loss, {name: value.detach() for name, value in outputs.items()}


def _graphed_steps(
    learner: Learner, epoch: int, graphs: Callable[..., StepGraphs]
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """The same, replayed as CUDA graphs, which are made anew in every epoch."""
    batches = learner.batches["train"]

    def step(batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        loss, outputs = learner.task.training_step(learner.model, batch, learner.data)
        loss.backward()
        return loss, dict(outputs)

    steps = graphs(learner.model, learner.optimizer, step, reseeder(), owners=(learner.task, learner.data))
    for key, batch in zip(learner.seeds.keys(len(batches), "step", epoch), batches.epoch(epoch), strict=True):
        yield steps.run(key, batch)
        if steps.refused:
            learner.graphs = None  # the next epoch need not try, nor say it, again


def end_epoch(learner: Learner, epoch: int) -> Change:
    """Let the task change its model after `epoch`; what it draws comes from the stream ("change", epoch), anew after each evaluation.

    This comes before the next epoch, not after the last, so that a checkpoint holds the very weights that were validated, and a run that
    is resumed from it makes the same change.
    """
    n_evaluated = 0

    def outputs_of(split: Split) -> Outputs:
        nonlocal n_evaluated
        n_evaluated += 1
        batches = learner.batches[split].in_order()
        keys = learner.seeds.keys(len(batches), "change", epoch, "evaluate", split)
        _, outputs = _evaluate(learner, batches, epoch, keys)
        learner.seeds.reseed("change", epoch, n_evaluated)
        return outputs

    learner.seeds.reseed("change", epoch)
    change = learner.task.end_epoch(learner.model, outputs_of, learner.data, epoch)
    if change not in get_args(Change):
        raise UsageError(f"end_epoch of {type(learner.task).__name__} gave {change!r}; allowed: {get_args(Change)}")
    if change == "changed":
        learner.model.to(learner.device)
        renew_optimizer(learner, epoch)
    return change


def renew_optimizer(learner: Learner, epoch: int | None) -> None:
    """A new optimizer and schedule for the model as it was changed after `epoch`, from the stream ("init", "optimizer", epoch).

    None: as it was before any change, from the stream of a new run.
    """
    learner.seeds.reseed("init", "optimizer", *(() if epoch is None else (epoch,)))
    learner.optimizer = learner.task.build_optimizer(learner.model)
    learner.schedule = learner.task.build_schedule(learner.optimizer)
    learner.renewed_after = epoch


def evaluate(learner: Learner, split: Split, epoch: int, step: int) -> Evaluated:
    """Loss and metrics of a split, in evaluation mode; the global generators are re-seeded before every batch."""
    batches = learner.batches[split]
    keys = learner.seeds.keys(len(batches), "evaluate", split, epoch)
    losses, outputs = _evaluate(learner, batches, epoch, keys)
    return Evaluated(split, epoch, step, _metrics(learner, split, epoch, losses, batches.sizes(), outputs), outputs)


def _evaluate(learner: Learner, batches: Batches, epoch: int, keys: Sequence[int]) -> tuple[list[float], Outputs]:
    """The loss of each batch and all outputs; before every batch the generators are seeded from its key."""
    learner.model.eval()
    reseed, exchange = reseeder(), learner.exchange
    which = slice(exchange.shards.rank, None, exchange.shards.workers)
    losses: list[Tensor] = []
    kept: list[Outputs] = []
    with torch.no_grad(), mixed_precision(learner.task, learner.device):
        for key, batch in zip(keys[which], batches.epoch(epoch, which), strict=True):
            reseed(key)
            result = learner.task.training_step(learner.model, batch, learner.data)
            losses.append(result.loss)
            kept.append(result.outputs)
        values = torch.stack(losses).double().tolist() if losses else []
    if exchange.shards.workers > 1:
        values, kept = _interleaved(exchange, values, kept)
    return values, _join(kept)


def _interleaved(exchange: Exchange, values: list[float], kept: Sequence[Outputs]) -> tuple[list[float], list[Outputs]]:
    """The losses and outputs of all batches, of which each worker has evaluated every `workers`-th; the same everywhere."""
    own = [(loss, {name: v.cpu() for name, v in outputs.items()}) for loss, outputs in zip(values, kept, strict=True)]
    said = exchange.gather(own)
    whole = [said[k % len(said)][k // len(said)] for k in range(sum(map(len, said)))]
    return [loss for loss, _ in whole], [outputs for _, outputs in whole]


def _refuse_other_weights(learner: Learner, epoch: int) -> None:
    """DivaError when the workers of a run do not hold the same weights after an epoch: its task is no function of seeds and data."""
    if learner.exchange.shards.workers == 1:
        return
    digests = learner.exchange.gather(digest_model(learner.model))
    other = [rank for rank, digest in enumerate(digests) if digest != digests[0]]
    if other:
        raise DivaError(
            f"after epoch {epoch} the weights of workers {', '.join(map(str, other))} are not those of worker 0: the task keeps "
            "state outside of its model, or draws from no stream of the seed; look for it, or use --workers-per-run 1"
        )


def calibrate(learner: Learner, outputs: Outputs) -> tuple[Learner, Mapping[str, Tensor]]:
    """The learner with the constants that its task chooses on these outputs of val, and the constants alone.

    They are float64, int64 or bool, whatever the task gave, as they come back from `result.json` when the run is applied.
    """
    learner.seeds.reseed("calibrate")
    chosen = {name: _widened(value) for name, value in learner.task.calibrate(outputs, learner.data).items()}
    constants = {**learner.data.constants, **{name: value.to(learner.device) for name, value in chosen.items()}}
    return replace(learner, data=replace(learner.data, constants=constants)), chosen


def _widened(value: Tensor) -> Tensor:
    return value if value.dtype == torch.bool else value.double() if value.is_floating_point() else value.long()


def mixed_precision(task: Task, device: torch.device) -> AbstractContextManager[Any]:
    """The autocast context that the knob `precision` asks for."""
    return nullcontext() if task.precision == "fp32" else torch.autocast(device.type, torch.bfloat16)


def monitored(task: Task, metrics: Mapping[str, float]) -> float:
    """The value of the metric that names the best epoch; UsageError when the task computes none of that name."""
    if task.monitor not in metrics:
        raise UsageError(
            f"monitor is {task.monitor!r}, which this task does not compute; {nearest(task.monitor, metrics)}"
        )
    return metrics[task.monitor]


def _metrics(
    learner: Learner, split: Split, epoch: int, losses: list[float], sizes: list[int], outputs: Outputs
) -> dict[str, float]:
    """The mean loss per sample, its sum exactly rounded, and the task's own metrics."""
    loss = math.fsum(x * n for x, n in zip(losses, sizes, strict=True)) / max(1, sum(sizes)) if losses else math.nan
    learner.seeds.reseed("metrics", split, epoch)
    own = learner.task.compute_metrics(outputs, learner.data) if outputs else {}
    return {f"{split}/{name}": float(value) for name, value in {"loss": loss, **own}.items()}


def _join(kept: Sequence[Outputs]) -> dict[str, Tensor]:
    return {name: value.cpu() for name, value in join(kept).items()}


def _step_schedule(learner: Learner, metrics: Mapping[str, float]) -> None:
    if isinstance(learner.schedule, ReduceLROnPlateau):
        learner.schedule.step(monitored(learner.task, metrics))
    elif learner.schedule is not None:
        learner.schedule.step()
