"""Forward and backward pass captured once as a CUDA graph and replayed for every batch of the same shape.

The GPU then launches the kernels itself: a small model no longer waits for Python. The optimizer's step stays outside, one launch whose
numbers (learning rate, bias corrections) change with each step. A graph repeats what was captured: tensors are read and written where
they were, and Python is not asked again. So it is made anew in every epoch, and its first replay is compared to the bit with the same
step launched one by one. A step is not captured when it draws random numbers elsewhere than on the GPU, or when it changes what a model or
task keeps outside of buffers: a replay would do neither.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
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
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            with torch.cuda.graph(
                graph, capture_error_mode="thread_local"
            ):  # a loader's thread may pin memory meanwhile
                result = function()
        except Exception as error:
            raise _first(error) from error
        finally:
            torch.cuda.set_stream(stream)  # which a capture that fails does not do
        return result, graph.replay


class NotCapturable(DivaError):
    """Why a step cannot be a graph."""


class OtherBits(DivaError):
    """A step that was taken twice gave other bits: training cannot go on from where it was before."""


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


@dataclass
class State:
    """What a step may change and a replay does not see, as it was at some moment."""

    generators: Any
    buffers: list[tuple[Tensor, Tensor]]  # each with a copy
    kept: dict[str, Any]  # what modules and task keep, by name; holds the objects, so that none takes another's place

    def restore(self) -> None:
        """Generators and buffers as they were."""
        torch_state, python_state, numpy_state = self.generators
        torch.set_rng_state(torch_state)
        random.setstate(python_state)
        numpy.random.set_state(numpy_state)
        for buffer, value in self.buffers:
            buffer.copy_(value)


class StepGraphs:
    """The steps of one epoch. `run(key, batch)` is the step itself, or its replay, with the same bits.

    Where a step cannot be captured, all go on without graphs, and `say` is told why. `owners`: what else than the model a step might
    keep something in, the task.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, step: Step, reseed: Callable[[int], None], *,
        owners: Sequence[Any] = (), say: Callable[[str], None], recorder: Recorder | None = None,
    ) -> None:  # fmt: skip
        self.model, self.optimizer, self.step, self.reseed, self.say = model, optimizer, step, reseed, say
        self.owners = owners
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
        before = self._state()
        loss, outputs = self._launched(key, batch)
        after = self._state()
        gradients = [parameter.grad for parameter in self.parameters]
        wanted = self._bits_of(loss, outputs)
        try:
            changed = [name for name, value in after.kept.items() if not _same(value, before.kept.get(name, _NOTHING))]
            if changed:
                raise NotCapturable(f"it changes {changed[0]}, which is no buffer: a replay would not change it again")
            before.restore()
            made = self._record(batch, tensors)
            if not same_bits(wanted, self._bits_of(*self._replayed(made, key, tensors))):
                before.restore()
                if not same_bits(wanted, self._bits_of(*self._launched(key, batch))):
                    raise OtherBits(
                        "--cuda-graph auto: taken again, this task's step has other bits, so that it hangs on more than weights, "
                        "buffers, batch and seed; look for what it keeps between steps, or use --cuda-graph off"
                    )
                raise NotCapturable("its replay has other bits than its launches")
            self.captured[shape] = made
        except OtherBits:
            raise
        except Exception as error:  # whatever a capture cannot have: no memory for it, a wait for the GPU
            self.say(f"cuda graph: off, since this task's step cannot be captured: {_sentence(error)}")
            self.refused = True
            self.captured.clear()
            after.restore()
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        return loss, outputs

    def _bits_of(self, loss: Tensor, outputs: Mapping[str, Tensor]) -> list[Tensor]:
        """All that a step leaves: copies of the buffers, which the next one writes over, and the rest as it is."""
        buffers = [buffer.clone() for buffer in self.model.buffers()]
        return [loss, *outputs.values(), *_gradients(self.parameters), *buffers]

    def _state(self) -> State:
        generators = torch.get_rng_state(), random.getstate(), numpy.random.get_state()
        buffers = [(buffer, buffer.clone()) for buffer in self.model.buffers()]
        return State(generators, buffers, dict(_kept(self.model, self.owners)))

    def _record(self, batch: Any, tensors: list[Tensor]) -> Captured:
        from diva.kernels import capture

        inputs = [tensor.clone() for tensor in tensors]
        where = dict(zip(map(id, tensors), inputs, strict=True))
        still = replaced(batch, where)
        words = torch.zeros(capture.MOST, dtype=torch.int64, device=tensors[0].device)
        for parameter in self.parameters:
            parameter.grad = None  # made by the graph, not added to
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

            fresh = torch.tensor([nonce() for _ in range(made.n_words)], pin_memory=made.words.is_cuda)
            made.words[: made.n_words].copy_(
                fresh, non_blocking=True
            )  # who gives out pinned memory sees that it is not reused
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
    """What two batches share that one graph can serve; None when the batch has no tensor or more than tensors."""
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


_NOTHING = object()
_PLAIN = (int, float, str, bytes)


def _kept(model: nn.Module, owners: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """(name, what it is now) of everything that the modules and the owners keep in attributes."""
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if name == "_buffers":
                yield from ((f"{path}.{key}".lstrip("."), (buffer, None)) for key, buffer in value.items())
            elif name not in ("_parameters", "_modules"):
                yield f"{path}.{name}".lstrip("."), _now(value)
    for owner in owners:
        for name, value in {**vars(owner), **(getattr(owner, "__pydantic_private__", None) or {})}.items():
            yield f"{type(owner).__name__}.{name}", _now(value)


def _now(value: Any, depth: int = 3) -> Any:
    """What tells later whether this was changed: tensors with their version, the elements of containers, other things as they are."""
    if isinstance(value, torch.Tensor):
        return value, None if value.is_inference() else value._version
    if isinstance(value, numpy.ndarray):
        return value, value.tobytes() if value.size < 4096 else None
    if depth and isinstance(value, dict | list | tuple | set | frozenset | deque):
        parts = [*value.keys(), *value.values()] if isinstance(value, dict) else list(value)
        return value, [_now(part, depth - 1) for part in parts]
    return value, None


def _same(now: Any, before: Any) -> bool:
    if before is _NOTHING:
        return False
    (a, how), (b, then) = now, before
    if a is not b and not (type(a) is type(b) and (isinstance(a, tuple) or (isinstance(a, _PLAIN) and a == b))):
        return False
    if isinstance(how, list):
        return isinstance(then, list) and len(how) == len(then) and all(map(_same, how, then))
    return bool(how == then)


def _first(error: BaseException) -> Exception:
    """The error that others came of: a capture that ends in one says only that it ended."""
    while isinstance(error.__context__, Exception) and not error.__suppress_context__:
        error = error.__context__
    return error if isinstance(error, Exception) else RuntimeError(str(error))


def _sentence(error: Exception) -> str:
    """The error without the advice that follows it in PyTorch's."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
