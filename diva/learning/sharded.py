"""A training step over virtual shards: each is a forward and a backward pass of its own, and what they give is put together.

With n_s samples in shard s of a batch of n: the gradient is the sum of n_s / n times that of each shard, as is the loss. Every shard
starts from the buffers as they were before the step. Those of floating point that any of them changed, as running statistics, become
the sum of n_s / n times what each made of them; others, as counters, what the first shard made of them.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, final

import torch

from diva.errors import UsageError
from diva.learning.exchange import Exchange, Sums
from diva.seeding import reseeder

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor, nn

    from diva.learning.loop import Learner
    from diva.learning.task import Outputs


def sharded_steps(
    learner: Learner, epoch: int, mixed: AbstractContextManager[Any]
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """For each batch of an epoch its loss, and the outputs of this worker's shards; the gradient of the batch stands in the parameters.

    The generators are seeded before every shard from the stream ("step", epoch, "shard", s).
    """
    batches, exchange = learner.batches["train"], learner.exchange
    shards, reseed = exchange.shards, reseeder()
    keys = {s: learner.seeds.keys(len(batches), "step", epoch, "shard", s) for s in shards.own}
    parameters = _trained(learner)
    state = _State(learner.model)
    gradients = _Gradients(parameters, len(state), exchange, learner.device)
    for step, (size, parts) in enumerate(zip(batches.sizes(), batches.sharded(epoch), strict=True)):
        kept: list[Outputs] = []
        made: dict[int, dict[int, Tensor]] = {}
        for shard, batch in parts:
            reseed(keys[shard][step])
            for parameter in parameters:
                parameter.grad = None
            with mixed:
                loss, outputs = learner.task.training_step(learner.model, batch, learner.data)
            loss = loss * (shards.sizes(size)[shard] / size)
            loss.backward()
            made[shard] = state.take()
            gradients.add(shard, loss.detach(), made[shard].keys())
            if outputs:
                kept.append({name: value.detach() for name, value in outputs.items()})
            del loss, outputs
        total, changed = gradients.spread(min(size, shards.n))
        if changed:
            state.combine(made, changed, size, exchange)
        yield total, join(kept)


def join(kept: Sequence[Outputs]) -> dict[str, Tensor]:
    """The outputs of several batches as those of one."""
    names = kept[0].keys() if kept else ()
    return {name: torch.cat([outputs[name] for outputs in kept]) for name in names}


def outputs_of_all(exchange: Exchange, kept: Sequence[Outputs]) -> list[Outputs]:
    """The outputs of each of several whole batches from those of this worker's shards; of several workers, on the CPU."""
    if exchange.shards.workers == 1:
        return list(kept)
    said = exchange.gather([{name: value.cpu() for name, value in outputs.items()} for outputs in kept])
    return [join([outputs for outputs in parts if outputs]) for parts in zip(*said, strict=True)]


def _trained(learner: Learner) -> list[nn.Parameter]:
    """The parameters that get a gradient: the model's, and any other that the optimizer has, each once."""
    in_optimizer = (p for group in learner.optimizer.param_groups for p in group["params"])
    found = {id(p): p for p in itertools.chain(learner.model.parameters(), in_optimizer) if p.requires_grad}
    return list(found.values())


@final
class _Gradients:
    """The gradients of a worker's shards on their way to the gradient of the batch, laid out as one vector for each dtype.

    Behind them, in the vector of `self._main`: the loss, whether each parameter got a gradient, and whether each buffer was changed.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], n_buffers: int, exchange: Exchange, device: torch.device
    ) -> None:
        self._parameters, self._n_buffers, self._exchange, self._device = parameters, n_buffers, exchange, device
        double = any(p.dtype == torch.float64 for p in parameters)
        self._main = torch.float64 if double else torch.float32
        self._groups: dict[torch.dtype, list[nn.Parameter]] = {self._main: []}
        for parameter in parameters:
            self._groups.setdefault(parameter.dtype, []).append(parameter)
        self._n_facts = 1 + len(parameters) + n_buffers
        self._sums = {dtype: Sums(exchange.shards) for dtype in self._groups}

    def add(self, shard: int, loss: Tensor, changed: Collection[int]) -> None:
        """Take the gradients that stand in the parameters, the loss, and which buffers this shard changed."""
        has = [float(p.grad is not None) for p in self._parameters]
        has += [float(index in changed) for index in range(self._n_buffers)]
        facts = [loss.to(self._main).reshape(1), torch.tensor(has, dtype=self._main, device=loss.device)]
        for dtype, parameters in self._groups.items():
            parts = [_flat(p) for p in parameters] + (facts if dtype == self._main else [])
            self._sums[dtype].add(shard, torch.cat(parts))

    def spread(self, filled: int) -> tuple[Tensor, list[int]]:
        """Put the batch's gradient into the parameters; its loss, and which buffers any shard changed."""
        found: dict[int, Tensor] = {}
        facts = torch.empty(0)
        for dtype, parameters in self._groups.items():
            sizes = [p.numel() for p in parameters] + ([self._n_facts] if dtype == self._main else [])
            own = self._sums[dtype].take(filled)
            total = self._exchange.total(own, filled, sum(sizes), dtype, self._device)
            parts = total.split(sizes)
            found |= {id(p): part.view(p.shape) for p, part in zip(parameters, parts, strict=False)}
            if dtype == self._main:
                facts = parts[-1]
            self._sums[dtype] = Sums(self._exchange.shards)
        flags = facts[1:].tolist()
        for parameter, has in zip(self._parameters, flags, strict=False):
            parameter.grad = found[id(parameter)] if has else None
        return facts[0].clone(), [i for i, has in enumerate(flags[len(self._parameters) :]) if has]


def _flat(parameter: nn.Parameter) -> Tensor:
    gradient = parameter.grad
    if gradient is None:
        return torch.zeros(parameter.numel(), dtype=parameter.dtype, device=parameter.device)
    if gradient.layout != torch.strided:
        raise UsageError("--shards above 1 does not take sparse gradients; use an embedding with sparse=False")
    return gradient.reshape(-1)


@final
class _State:
    """The buffers of a model during a step: what each shard makes of them, beginning from what they were before it."""

    def __init__(self, model: nn.Module) -> None:
        places = {
            id(b): (module, name) for module in model.modules() for name, b in module.named_buffers(recurse=False)
        }
        self._places = list(places.values())
        self._buffers = [module._buffers[name] for module, name in self._places]
        self._before = [buffer.clone() for buffer in self._buffers if buffer is not None]

    def __len__(self) -> int:
        return len(self._places)

    def take(self) -> dict[int, Tensor]:
        """The buffers that a shard changed, by their place, as it left them; all stand again as they were before the step."""
        now = [module._buffers[name] for module, name in self._places]
        if not now:
            return {}
        for (_, name), value, before in zip(self._places, now, self._before, strict=True):
            if value is None or value.shape != before.shape:
                raise UsageError(f"the buffer {name} changes its shape while it learns, which needs --shards 1")
        differ = torch.stack([(v != b).any() for v, b in zip(now, self._before, strict=True) if v is not None])
        made: dict[int, Tensor] = {}
        for index, changed in enumerate(differ.tolist()):
            (module, name), own, value = self._places[index], self._buffers[index], now[index]
            assert own is not None and value is not None
            if changed:
                made[index] = value.detach().clone()
                with torch.no_grad():
                    own.copy_(self._before[index])
            module._buffers[name] = own
        return made

    def combine(
        self, made: Mapping[int, Mapping[int, Tensor]], changed: Sequence[int], size: int, exchange: Exchange
    ) -> None:
        """Give the buffers at the places `changed` what the shards made of them, together."""
        shards = exchange.shards
        sizes = shards.sizes(size)
        for dtype in sorted({self._before[i].dtype for i in changed}, key=str):
            places = [i for i in changed if self._before[i].dtype == dtype]
            sums = Sums(shards)
            carried = torch.uint8 if dtype == torch.bool else dtype
            for shard, own in made.items():
                flat = torch.cat([own.get(i, self._before[i]).to(carried).reshape(-1) for i in places])
                mean = dtype.is_floating_point or dtype.is_complex
                sums.add(shard, flat * (sizes[shard] / size) if mean else flat if shard == 0 else flat * 0)
            lengths = [self._before[i].numel() for i in places]
            filled, device = min(size, shards.n), self._before[places[0]].device
            total = exchange.total(sums.take(filled), filled, sum(lengths), carried, device)
            with torch.no_grad():
                for i, part in zip(places, total.split(lengths), strict=True):
                    buffer = self._buffers[i]
                    assert buffer is not None
                    buffer.copy_(part.view(buffer.shape))
                    self._before[i].copy_(buffer)
