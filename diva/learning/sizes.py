"""Sizes: parameters, multiply-accumulate operations (MACs) and output shapes of a model, layer by layer.

One MAC is one multiplication and one addition of a product sum. Counted are convolutions (plain, grouped, transposed), linear layers,
matrix products, attention and recurrent layers: what costs in a network. Not counted are additions of a bias, normalisation,
activation functions, pooling, interpolation, embeddings and element-wise products. Papers that say "FLOPs" often mean this number,
others mean twice it; here it is always called MACs.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from diva.seeding import preserved_generators

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


@dataclass(frozen=True)
class Layer:
    """A module: `output` is the shape of the first tensor it returned, None if it never ran; the numbers are its own.

    Parameters and MACs of modules inside it are theirs, so that sums over layers count nothing twice; a module that runs `calls` times
    has the MACs of all calls. The name of the model itself is "".
    """

    name: str
    kind: str
    output: tuple[int, ...] | None
    parameters: int
    macs: int
    calls: int


@dataclass(frozen=True)
class Sizes:
    """What a model weighs and costs: parameters, those with a gradient, MACs of the forward pass that was watched, and its layers."""

    parameters: int
    trainable_parameters: int
    macs: int
    layers: tuple[Layer, ...]


def count_macs(model: nn.Module, inputs: Tensor | tuple[Any, ...]) -> int:
    """Multiply-accumulate operations of `model(*inputs)` in evaluation mode; give one sample to count those of a sample.

    Model and inputs may be on the device "meta", where nothing is computed. The model is left as it was found.
    """
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    return measure(model, lambda: model(*given)).macs


def measure(model: nn.Module, forward: Callable[[], Any]) -> Sizes:
    """Sizes of the model while `forward()` uses it, in evaluation mode and without gradients.

    Only what happens inside the model or its modules is counted: not a loss, not what another network computes. Modes, buffers and the
    global generators are given back as they were.
    """
    watch = _Watch(model)
    with left_as_found(model), torch.no_grad(), watch.hooked(), watch:
        forward()
    parameters = list(model.parameters())
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    layers = watch.layers()
    return Sizes(sum(p.numel() for p in parameters), trainable, sum(layer.macs for layer in layers), layers)


@contextmanager
def left_as_found(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode; afterwards its modes, its buffers and all global generators are what they were."""
    modes = {module: module.training for module in model.modules()}
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        with preserved_generators():
            torch.backends.mha.set_fastpath_enabled(False)  # it would hide the products of an attention in one operator
            model.eval()
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        if on_gpus is not None:
            torch.cuda.set_rng_state_all(on_gpus)
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for buffer, kept in buffers:
                if not buffer.is_meta and not torch.equal(buffer, kept):
                    buffer.copy_(kept)


def first_tensor(output: Any) -> Tensor | None:
    """The tensor that a module returned, the first of several, looked for in tuples, lists and dictionaries."""
    if isinstance(output, Tensor):
        return output
    inner = list(output.values()) if isinstance(output, dict) else output if isinstance(output, (tuple, list)) else []
    found = (first_tensor(part) for part in inner)
    return next((tensor for tensor in found if tensor is not None), None)


class _Watch(TorchDispatchMode):
    """Counts the MACs of every operator that runs inside the model, for the innermost module that is running."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._modules = {module: name for name, module in model.named_modules()}
        self._macs = dict.fromkeys(self._modules, 0)
        self._calls = dict.fromkeys(self._modules, 0)
        self._outputs: dict[nn.Module, tuple[int, ...]] = {}
        self._running: list[nn.Module] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if self._running:
            self._macs[self._running[-1]] += macs_of(func, args, kwargs or {}, output)
        return output

    @contextmanager
    def hooked(self) -> Iterator[None]:
        handles = [
            handle
            for module in self._modules
            for handle in (
                module.register_forward_pre_hook(lambda module, inputs: self._running.append(module)),
                module.register_forward_hook(self._ended),
            )
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _ended(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._running.pop()
        self._calls[module] += 1
        tensor = first_tensor(output)
        if tensor is not None:
            self._outputs.setdefault(module, tuple(tensor.shape))

    def layers(self) -> tuple[Layer, ...]:
        seen: set[int] = set()
        layers = []
        for module, name in self._modules.items():
            own = [p for p in module.parameters(recurse=False) if id(p) not in seen]
            seen.update(map(id, own))
            n_own = sum(p.numel() for p in own)
            output = self._outputs.get(module)
            kind = type(module).__name__
            layers.append(Layer(name, kind, output, n_own, self._macs[module], self._calls[module]))
        return tuple(layers)


def macs_of(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> int:
    """MACs of one call of an operator as PyTorch's dispatcher sees it; 0 for what is not counted."""
    packet = func._overloadpacket
    if packet in _OWN_FORMULAS:
        return _OWN_FORMULAS[packet](*args)
    if packet in flop_registry:
        return (
            int(flop_registry[packet](*args, **kwargs, out_val=output)) // 2
        )  # its formulas count two operations per MAC
    return 0


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any) -> int:
    """query (..., L, E), key (..., S, E), value (..., S, V): the products with all keys, then with all values."""
    return math.prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _recurrent(sequence: Tensor, weight_in: Tensor, weight_hidden: Tensor, *_: Any) -> int:
    """sequence (T, B, inputs): both weight matrices are applied at each of its places."""
    return math.prod(sequence.shape[:-1]) * (weight_in.numel() + weight_hidden.numel())


_OWN_FORMULAS: dict[Any, Callable[..., int]] = {
    torch.ops.aten.dot: lambda one, other: one.numel(),
    torch.ops.aten.mv: lambda matrix, vector: matrix.numel(),
    torch.ops.aten.addmv: lambda bias, matrix, vector, *_: matrix.numel(),
    torch.ops.aten.addbmm: lambda bias, one, other, *_: one.numel() * other.shape[-1],
    torch.ops.aten._trilinear: lambda one, weight, other, *_: one.shape[0] * weight.numel(),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten.mkldnn_rnn_layer: _recurrent,
}
