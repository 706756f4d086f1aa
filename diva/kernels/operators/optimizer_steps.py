"""torch.optim's steps in one call for all parameters, pinned in place of PyTorch's single-tensor, foreach and fused ones.

The elementwise operators that PyTorch's functions call give the same bits, at several passes over memory and a Python
call for each parameter and operator. What is not plain (a tensor for a scalar, autograd, complex or sparse gradients,
tensors of a subclass) goes on to PyTorch's function. A function whose parameters are not those known here is left alone.
"""

from __future__ import annotations

import ctypes
import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from diva.kernels.operators.optimizer import Tensors, adagrad, adam, sgd, steps_of

PINS: list[tuple[Any, str, Any]] = []  # (object, attribute, replacement), to be set while the scope is open

Step = Callable[..., None]


def _pin(module_name: str, optimizer: str) -> Callable[[Callable[[Step], Step]], None]:
    """Pin make(PyTorch's function) over each form of an optimizer's step that takes the parameters known here."""

    def add(make: Callable[[Step], Step]) -> None:
        module = importlib.import_module(module_name)  # torch.optim deletes these names from itself
        for form in ("single_tensor", "multi_tensor", "fused"):
            stock = getattr(module, f"_{form}_{optimizer}", None)
            if stock is None:
                continue
            replacement = make(stock)
            if list(inspect.signature(stock).parameters) == list(inspect.signature(replacement).parameters):
                PINS.append((module, f"_{form}_{optimizer}", replacement))

    return add


def _plain(params: Tensors, *scalars: object) -> bool:
    """Whether nothing is asked but what our steps do: plain tensors on one device, no autograd, numbers for scalars."""
    return (
        bool(params)
        and not torch.is_grad_enabled()
        and not any(isinstance(scalar, Tensor) for scalar in scalars)
        and {type(t) for t in params} <= {Tensor, torch.nn.Parameter}
        and (all(t.is_cpu for t in params) or (params[0].is_cuda and len({t.device for t in params}) == 1))
    )


def _advance(state_steps: Tensors) -> list[float]:
    """Add 1 to each counter, in place, and return them."""
    if all(step.dtype is torch.float32 and step.is_cpu for step in state_steps):
        counters = [ctypes.c_float.from_address(step.data_ptr()) for step in state_steps]
        for counter in counters:
            counter.value += 1
        return [counter.value for counter in counters]
    for step in state_steps:
        step += 1
    return steps_of(state_steps)


def _pick(tensors: Sequence[Any], indices: list[int]) -> Any:
    return tensors if len(indices) == len(tensors) else [tensors[i] for i in indices]


@_pin("torch.optim.sgd", "sgd")
def _sgd(stock: Step) -> Step:
    def step(
        params: list[Tensor], grads: list[Tensor], momentum_buffer_list: list[Tensor | None],
        grad_scale: Tensor | None, found_inf: Tensor | None, *, weight_decay: float, momentum: float, lr: float,
        dampening: float, nesterov: bool, maximize: bool, has_sparse_grad: bool,
    ) -> None:  # fmt: skip
        options: dict[str, Any] = {
            "weight_decay": weight_decay, "momentum": momentum, "lr": lr, "dampening": dampening,
            "nesterov": nesterov, "maximize": maximize,
        }  # fmt: skip
        scaled = grad_scale is not None or found_inf is not None
        if scaled or has_sparse_grad or not _plain(params, lr, weight_decay):
            stock(
                params, grads, momentum_buffer_list, grad_scale, found_inf, has_sparse_grad=has_sparse_grad, **options
            )
            return
        if momentum == 0:
            sgd(params, grads, (), first=False, **options)
            torch.autograd.graph.increment_version(params)
            return
        fresh = [i for i, buffer in enumerate(momentum_buffer_list) if buffer is None]
        for i in fresh:
            momentum_buffer_list[i] = torch.empty_like(grads[i])
        kept = [i for i in range(len(params)) if i not in set(fresh)] if fresh else list(range(len(params)))
        for indices, first in ((fresh, True), (kept, False)):
            if indices:
                lists = [_pick(tensors, indices) for tensors in (params, grads, momentum_buffer_list)]
                sgd(*lists, first=first, **options)
        torch.autograd.graph.increment_version([*params, *(b for b in momentum_buffer_list if b is not None)])

    return step


@_pin("torch.optim.adam", "adam")
def _adam(stock: Step) -> Step:
    def step(
        params: list[Tensor], grads: list[Tensor], exp_avgs: list[Tensor], exp_avg_sqs: list[Tensor],
        max_exp_avg_sqs: list[Tensor], state_steps: list[Tensor], grad_scale: Tensor | None, found_inf: Tensor | None,
        *, amsgrad: bool, has_complex: bool, beta1: float, beta2: float, lr: float, weight_decay: float, eps: float,
        maximize: bool, capturable: bool, differentiable: bool, decoupled_weight_decay: bool,
    ) -> None:  # fmt: skip
        options: dict[str, Any] = {
            "amsgrad": amsgrad, "beta1": beta1, "beta2": beta2, "lr": lr, "weight_decay": weight_decay, "eps": eps,
            "maximize": maximize,
        }  # fmt: skip
        unusual = grad_scale is not None or found_inf is not None or has_complex or capturable or differentiable
        if unusual or not _plain(params, lr, beta1, beta2, weight_decay, eps):
            stock(
                params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, state_steps, grad_scale, found_inf,
                has_complex=has_complex, capturable=capturable, differentiable=differentiable,
                decoupled_weight_decay=decoupled_weight_decay, **options,
            )  # fmt: skip
            return
        steps = _advance(state_steps)
        adam(params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps, decoupled=decoupled_weight_decay, **options)
        state = (*exp_avgs, *exp_avg_sqs, *max_exp_avg_sqs) if amsgrad else (*exp_avgs, *exp_avg_sqs)
        torch.autograd.graph.increment_version([*params, *state, *state_steps])

    return step


@_pin("torch.optim.adagrad", "adagrad")
def _adagrad(stock: Step) -> Step:
    def step(
        params: list[Tensor], grads: list[Tensor], state_sums: list[Tensor], state_steps: list[Tensor],
        grad_scale: Tensor | None, found_inf: Tensor | None, *, lr: float, weight_decay: float, lr_decay: float,
        eps: float, has_sparse_grad: bool, maximize: bool, differentiable: bool, has_complex: bool,
    ) -> None:  # fmt: skip
        options: dict[str, Any] = {
            "lr": lr,
            "weight_decay": weight_decay,
            "lr_decay": lr_decay,
            "eps": eps,
            "maximize": maximize,
        }
        unusual = grad_scale is not None or found_inf is not None or has_sparse_grad or differentiable or has_complex
        if unusual or not _plain(params, *options.values()):
            stock(
                params, grads, state_sums, state_steps, grad_scale, found_inf, has_sparse_grad=has_sparse_grad,
                differentiable=differentiable, has_complex=has_complex, **options,
            )  # fmt: skip
            return
        adagrad(params, grads, state_sums, _advance(state_steps), **options)
        torch.autograd.graph.increment_version([*params, *state_sums, *state_steps])

    return step
