"""Forward and backward pass captured once as a CUDA graph and replayed for every batch of the same shape.

The GPU then launches the kernels itself: a small model no longer waits for Python. The optimizer's step stays outside, one launch whose
numbers (learning rate, bias corrections) change with each step. A graph repeats what was captured: tensors are read and written where
they were, and Python is not asked again. So it is made anew in every epoch, its first replay is compared to the bit with the same step
launched one by one, and a step that draws random numbers elsewhere than on the GPU is not captured.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy
import torch

from diva.errors import DivaError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

Step = Callable[
    [Any], tuple["Tensor", dict[str, "Tensor"]]
]  # a batch -> loss and outputs, the gradient in the parameters


class Recorder(Protocol):
    """Records what a function launches; what it returns is written again at each replay."""

    def record(self, function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        """The function's result, to be valid after a replay, and the replay."""


class CudaRecorder:
    """CUDA graphs as PyTorch has them."""

    def record(self, function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        """Capture on a stream of its own; memory comes from a pool that the graph keeps."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = function()
        return result, graph.replay


class NotCapturable(DivaError):
    """Why a step cannot be a graph."""


@dataclass
class Captured:
    """A recorded step: where it reads its batch and its nonces, and where it leaves what it makes."""

    inputs: list[Tensor]
    words: Tensor
    n_words: int
    replay: Callable[[], None]
    loss: Tensor
    outputs: dict[str, Tensor]
    gradients: list[Tensor | None]


class StepGraphs:
    """The steps of one epoch. `run(key, batch)` is the step itself, or its replay, with the same bits.

    Where a step cannot be captured, all go on without graphs, and `say` is told why.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, step: Step, reseed: Callable[[int], None], *,
        say: Callable[[str], None], recorder: Recorder | None = None,
    ) -> None:  # fmt: skip
        self.model, self.optimizer, self.step, self.reseed, self.say = model, optimizer, step, reseed, say
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.recorder = recorder or CudaRecorder()
        self.seen: set[Any] = set()
        self.captured: dict[Any, Captured] = {}
        self.refused = False

    def run(self, key: int, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and outputs of this batch; the gradient stands in the parameters."""
        tensors = list(tensors_of(batch))
        shape = None if self.refused else signature(batch, tensors)
        if shape in self.captured:
            return self._replayed(self.captured[shape], key, tensors)
        if shape is None or shape not in self.seen:  # the first of its shape warms the allocator and loads the kernels
            self.seen.add(shape)
            return self._launched(key, batch)
        return self._captured(key, batch, tensors, shape)

    def _launched(self, key: int, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        self.reseed(key)
        self.optimizer.zero_grad()
        loss, outputs = self.step(batch)
        return loss.detach(), {name: value.detach() for name, value in outputs.items()}

    def _captured(self, key: int, batch: Any, tensors: list[Tensor], shape: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Take the step launch by launch, then again as a graph; from now on replay it, if both gave the same bits."""
        buffers = list(self.model.buffers())
        before = [buffer.clone() for buffer in buffers]
        loss, outputs = self._launched(key, batch)
        wanted = [loss, *outputs.values(), *_gradients(self.parameters), *(buffer.clone() for buffer in buffers)]
        gradients = [parameter.grad for parameter in self.parameters]
        after = wanted[len(wanted) - len(buffers) :]
        try:
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
            made = self._record(batch, tensors)
            again, repeated = self._replayed(made, key, tensors)
            found = [again, *repeated.values(), *_gradients(self.parameters), *buffers]
            if not same_bits(wanted, found):
                raise NotCapturable(
                    "its replay has other bits than its launches: what it computes hangs on more than its batch"
                )
            self.captured[shape] = made
        except (DivaError, RuntimeError) as error:
            self.say(f"cuda graph: off, since this task's step cannot be captured: {error}")
            self.refused = True
            self.captured.clear()
            for buffer, value in zip(buffers, after, strict=True):
                buffer.copy_(value)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        return loss, outputs

    def _record(self, batch: Any, tensors: list[Tensor]) -> Captured:
        from diva.kernels import capture

        inputs = [tensor.clone() for tensor in tensors]
        where = dict(zip(map(id, tensors), inputs, strict=True))
        still = replaced(batch, where)
        words = torch.zeros(capture.MOST, dtype=torch.int64, device=tensors[0].device)
        self.optimizer.zero_grad()
        state = _generators()
        with capture.codes(words) as n:
            (loss, outputs), replay = self.recorder.record(lambda: self.step(still))
        if _generators() != state:
            raise NotCapturable("it draws random numbers on the CPU, which a replay would not draw again")
        gradients = [parameter.grad for parameter in self.parameters]
        outputs = {name: value.detach() for name, value in outputs.items()}
        return Captured(inputs, words, n[0], replay, loss.detach(), outputs, gradients)

    def _replayed(self, made: Captured, key: int, tensors: list[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        self.reseed(key)
        for place, tensor in zip(made.inputs, tensors, strict=True):
            place.copy_(tensor, non_blocking=True)
        if made.n_words:
            from diva.kernels.operators.randomness import nonce

            made.words[: made.n_words].copy_(torch.tensor([nonce() for _ in range(made.n_words)]))
        made.replay()
        for parameter, gradient in zip(self.parameters, made.gradients, strict=True):
            parameter.grad = gradient
        return made.loss.clone(), {name: value.clone() for name, value in made.outputs.items()}


def tensors_of(batch: Any) -> list[Tensor]:
    """The tensors of a batch, however nested in tuples, lists and dictionaries, in order."""
    if isinstance(batch, torch.Tensor):
        return [batch]
    if isinstance(batch, dict):
        return [tensor for value in batch.values() for tensor in tensors_of(value)]
    if isinstance(batch, tuple | list):
        return [tensor for value in batch for tensor in tensors_of(value)]
    return []


def replaced(batch: Any, where: dict[int, Tensor]) -> Any:
    """The batch with other tensors in the places of its own, which `where` names by id."""
    if isinstance(batch, torch.Tensor):
        return where[id(batch)]
    if isinstance(batch, dict):
        return type(batch)({name: replaced(value, where) for name, value in batch.items()})
    if isinstance(batch, tuple | list):
        values = [replaced(value, where) for value in batch]
        return type(batch)(*values) if hasattr(batch, "_fields") else type(batch)(values)
    return batch


def signature(batch: Any, tensors: list[Tensor]) -> Any:
    """What two batches share that one graph can serve; None when the batch has no tensor on a GPU or more than tensors."""
    if not tensors or not _only_tensors(batch):
        return None
    return tuple((tuple(t.shape), t.stride(), t.dtype, t.device) for t in tensors)


def _only_tensors(batch: Any) -> bool:
    if isinstance(batch, dict):
        return all(map(_only_tensors, batch.values()))
    if isinstance(batch, tuple | list):
        return all(map(_only_tensors, batch))
    return isinstance(batch, torch.Tensor)


def same_bits(wanted: Sequence[Tensor], found: Sequence[Tensor]) -> bool:
    """Whether the tensors are equal to the bit."""
    if len(wanted) != len(found):
        return False
    return all(
        a.shape == b.shape and a.dtype == b.dtype and torch.equal(_bits(a), _bits(b))
        for a, b in zip(wanted, found, strict=True)
    )


def _bits(x: Tensor) -> Tensor:
    whole = {torch.float32: torch.int32, torch.float64: torch.int64}.get(x.dtype)
    return x.detach().contiguous().view(whole) if whole is not None else x.detach()


def _gradients(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _generators() -> tuple[object, ...]:
    """The state of the generators of PyTorch's CPU, Python and NumPy."""
    _, words, *rest = numpy.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), numpy.asarray(words).tobytes(), *rest
