"""Digests of single tensors in the order in which a step computes them: what goes in, what each layer makes of it, gradients, weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from diva.learning.digests import digest_tensors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn
    from torch.optim import Optimizer

DIGITS = 16


def short_digest(tensor: Tensor) -> str:
    """The first 16 hex digits of `digest_tensors` of the tensor alone, under no name."""
    dense = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor
    return digest_tensors({"": dense}).removeprefix("sha256:")[:DIGITS]


def weight_digests(model: nn.Module) -> dict[str, str]:
    """`weight:<name>` of every parameter, then `buffer:<name>` of every buffer, in the model's order."""
    weights = {f"weight:{name}": short_digest(value) for name, value in model.named_parameters()}
    return weights | {f"buffer:{name}": short_digest(value) for name, value in model.named_buffers()}


def step_digests(model: nn.Module, optimizer: Optimizer) -> dict[str, str]:
    """After a step: `gradient:<name>`, of the last parameter first, as backward comes to them; weights; `optimizer:<name>/<key>`."""
    found = dict(model.named_parameters())
    gradients = {f"gradient:{n}": short_digest(p.grad) for n, p in reversed(found.items()) if p.grad is not None}
    states = ((name, optimizer.state.get(parameter, {})) for name, parameter in found.items())
    state = {
        f"optimizer:{name}/{key}": short_digest(value)
        for name, of_parameter in states
        for key, value in sorted(of_parameter.items())
        if isinstance(value, Tensor)
    }
    return gradients | weight_digests(model) | state


@final
class ForwardRecord:
    """Digests of what a model's forward passes compute while gradients are on: `input:<module>` of the module that is called first,
    `output:<module>` of every module in the order in which they return; of the second call on with `#2`, `#3`.

    It only looks. Its hooks are those for all modules, since hooks on a module would take PyTorch's fast paths away from it and with
    them change bits. `close` takes them away.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._names: dict[int, str] = {}
        self._found: dict[str, str] = {}
        self._calls: dict[str, int] = {}
        self._depth = 0
        self._handles = [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave, always_call=True),
        ]

    def take(self) -> dict[str, str]:
        """What was seen since the last call."""
        found, self._found, self._calls, self._depth = self._found, {}, {}, 0
        self._names = {}  # the model may grow between steps
        return found

    def close(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()

    def _name(self, module: nn.Module) -> str | None:
        if not self._names:
            self._names = {id(part): name or "model" for name, part in self._model.named_modules()}
        return self._names.get(id(module)) if torch.is_grad_enabled() else None

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        name = self._name(module)
        if name is None:
            return
        if self._depth == 0:
            self._note("input", name, inputs[0] if isinstance(inputs, tuple) and len(inputs) == 1 else inputs)
        self._depth += 1

    def _leave(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        name = self._name(module)
        if name is None:
            return
        self._depth = max(0, self._depth - 1)
        self._note("output", name, outputs)

    def _note(self, kind: str, module: str, value: Any) -> None:
        name = f"{kind}:{module}"
        self._calls[name] = call = self._calls.get(name, 0) + 1
        with torch.no_grad():
            for place, tensor in _tensors(value):
                self._found[name + place + (f"#{call}" if call > 1 else "")] = short_digest(tensor)


def _tensors(value: Any, place: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors in nested tuples, lists and dicts, each with its place."""
    if isinstance(value, Tensor):
        yield place, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _tensors(inner, f"{place}/{key}")
    elif isinstance(value, (tuple, list)):
        for number, inner in enumerate(value):
            yield from _tensors(inner, f"{place}/{number}")
