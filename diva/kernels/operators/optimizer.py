"""Optimizer steps, D8: whole lists of parameters in one call; PyTorch's fused operators are made of them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from diva.errors import KernelError
from diva.kernels.library import native
from diva.kernels.status import failed
from diva.kernels.table import kernel

_WEIGHT_DECAY, _MAXIMIZE, _VARIANT, _DECOUPLED = 1, 2, 4, 8  # flags of native/optimizer.h
_FLOATING = (torch.float32, torch.float64)

Tensors = Sequence[Tensor]


def _dense(tensors: Tensors) -> bool:
    """Whether the tensors lie in memory alike, without holes: element i of one is beside element i of the others."""
    first = tensors[0]
    if all(t.is_contiguous() for t in tensors):
        return True
    stride = first.stride()
    if any(t.stride() != stride for t in tensors):
        return False
    expected = 1
    for step, size in sorted((step, size) for step, size in zip(stride, first.shape, strict=True) if size != 1):
        if step != expected:
            return False
        expected *= size
    return True


class _Run(NamedTuple):
    """Tensors that one call serves: their type and indices, the addresses of each list, the numbers of elements."""

    dtype: torch.dtype
    indices: Sequence[int]
    addresses: list[Any]
    sizes: Any


def _runs(lists: Sequence[Tensors]) -> tuple[list[_Run], list[int]]:
    """Runs that the kernels can serve, one per type, and indices of what they cannot: mixed types, differing strides."""
    dtype, sizes = lists[0][0].dtype, list(map(Tensor.numel, lists[0]))
    if dtype in _FLOATING and all(
        {t.dtype for t in tensors} == {dtype}
        and all(map(Tensor.is_contiguous, tensors))
        and (tensors is lists[0] or list(map(Tensor.numel, tensors)) == sizes)
        for tensors in lists
    ):
        return [_run(dtype, range(len(sizes)), lists, sizes)], []
    served: dict[torch.dtype, list[int]] = {}
    others: list[int] = []
    for i, together in enumerate(zip(*lists, strict=True)):
        dtype = together[0].dtype
        alike = dtype in _FLOATING and all(t.dtype is dtype and t.shape == together[0].shape for t in together)
        (served.setdefault(dtype, []) if alike and _dense(together) else others).append(i)
    runs = []
    for of, indices in served.items():
        picked = [[tensors[i] for i in indices] for tensors in lists]
        runs.append(_run(of, indices, picked, list(map(Tensor.numel, picked[0]))))
    return runs, others


def _run(dtype: torch.dtype, indices: Sequence[int], lists: Sequence[Tensors], sizes: list[int]) -> _Run:
    array = ctypes.c_int64 * len(indices)
    return _Run(dtype, indices, [array(*map(Tensor.data_ptr, tensors)) for tensors in lists], array(*sizes))


def _numbers(values: Sequence[float]) -> Any:
    return (ctypes.c_double * len(values))(*values)


def _check(status: int) -> None:
    if status:
        raise failed(status, "optimizer step")


def _refuse_scaling(grad_scale: Tensor | None, found_inf: Tensor | None) -> None:
    if grad_scale is not None or found_inf is not None:
        raise KernelError("exact kernels have no gradient scaling: float32 needs none; remove the GradScaler")


def sgd(
    params: Tensors, grads: Tensors, buffers: Tensors, *, lr: float, momentum: float, dampening: float,
    weight_decay: float, nesterov: bool, maximize: bool, first: bool,
) -> None:  # fmt: skip
    """One step of SGD in place. `first`: the buffers are written, not read; with momentum == 0 there are none."""
    flags = (weight_decay != 0) * _WEIGHT_DECAY | maximize * _MAXIMIZE | nesterov * _VARIANT
    runs, others = _runs([params, grads, buffers] if momentum else [params, grads])
    for run in runs:
        p, g, b = run.addresses if momentum else (*run.addresses, None)
        count, kept = len(run.indices), 1 - dampening
        _check(
            native.of(params[run.indices[0]]).sgd(
                p, g, b, run.sizes, count, lr, momentum, kept, weight_decay, flags, first
            )
        )
    for i in others:
        p, g = params[i], -grads[i] if maximize else grads[i]
        if weight_decay != 0:
            g = g.add(p, alpha=weight_decay)
        if momentum:
            b = buffers[i].copy_(g) if first else buffers[i].mul_(momentum).add_(g, alpha=1 - dampening)
            g = g.add(b, alpha=momentum) if nesterov else b
        p.add_(g, alpha=-lr)


def adam(
    params: Tensors, grads: Tensors, means: Tensors, squares: Tensors, maxima: Tensors, steps: Sequence[float], *,
    lr: float, beta1: float, beta2: float, weight_decay: float, eps: float, amsgrad: bool, maximize: bool,
    decoupled: bool,
) -> None:  # fmt: skip
    """One step of Adam, or of AdamW (`decoupled`), in place; `steps` counts from 1 and includes this one."""
    flags = (weight_decay != 0) * _WEIGHT_DECAY | maximize * _MAXIMIZE | amsgrad * _VARIANT | decoupled * _DECOUPLED
    sizes_of_step = {s: (-(lr / (1 - beta1**s)), (1 - beta2**s) ** 0.5) for s in set(steps)}
    runs, others = _runs([params, grads, means, squares, *([maxima] if amsgrad else [])])
    for run in runs:
        lists = run.addresses if amsgrad else [*run.addresses, None]
        step_sizes, roots = (_numbers([sizes_of_step[steps[i]][k] for i in run.indices]) for k in (0, 1))
        _check(
            native.of(params[run.indices[0]]).adam(
                *lists, run.sizes, len(run.indices), step_sizes, roots, 1 - beta1, beta2, 1 - beta2, eps, weight_decay,
                1 - lr * weight_decay, flags,
            )
        )  # fmt: skip
    for i in others:
        p, g, m, v = params[i], -grads[i] if maximize else grads[i], means[i], squares[i]
        step_size, root = sizes_of_step[steps[i]]
        if weight_decay != 0 and decoupled:
            p.mul_(1 - lr * weight_decay)
        elif weight_decay != 0:
            g = g.add(p, alpha=weight_decay)
        m.lerp_(g, 1 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        if amsgrad:
            v = torch.maximum(maxima[i], v, out=maxima[i])
        p.addcdiv_(m, (v.sqrt() / root).add_(eps), value=step_size)


def adagrad(
    params: Tensors, grads: Tensors, sums: Tensors, steps: Sequence[float], *,
    lr: float, lr_decay: float, weight_decay: float, eps: float, maximize: bool,
) -> None:  # fmt: skip
    """One step of Adagrad in place; `steps` counts from 1 and includes this one."""
    flags = (weight_decay != 0) * _WEIGHT_DECAY | maximize * _MAXIMIZE
    step_sizes = [-(lr / (1 + (s - 1) * lr_decay)) for s in steps]
    runs, others = _runs([params, grads, sums])
    for run in runs:
        numbers, count = _numbers([step_sizes[i] for i in run.indices]), len(run.indices)
        _check(
            native.of(params[run.indices[0]]).adagrad(
                *run.addresses, run.sizes, count, numbers, eps, weight_decay, flags
            )
        )
    for i in others:
        p, g = params[i], -grads[i] if maximize else grads[i]
        if weight_decay != 0:
            g = g.add(p, alpha=weight_decay)
        sums[i].addcmul_(g, g, value=1)
        p.addcdiv_(g, sums[i].sqrt().add_(eps), value=step_sizes[i])


def steps_of(state_steps: Tensors) -> list[float]:
    """The counters of PyTorch's optimizers as numbers."""
    if state_steps and all(step.is_cuda for step in state_steps):
        return [float(step) for step in torch.stack(list(state_steps)).tolist()]  # waits for the GPU once
    return [step.item() for step in state_steps]


@kernel("_fused_sgd_", "_fused_sgd_.tensor_lr")
def fused_sgd_(
    self: Tensors, grads: Tensors, momentum_buffer_list: Tensors, *, weight_decay: float, momentum: float,
    lr: float | Tensor, dampening: float, nesterov: bool, maximize: bool, is_first_step: bool,
    grad_scale: Tensor | None = None, found_inf: Tensor | None = None,
) -> None:  # fmt: skip
    """torch.optim.SGD(fused=True): `sgd` above. Gradient scaling is refused."""
    _refuse_scaling(grad_scale, found_inf)
    sgd(
        self, grads, momentum_buffer_list, lr=float(lr), momentum=momentum, dampening=dampening,
        weight_decay=weight_decay, nesterov=nesterov, maximize=maximize, first=is_first_step,
    )  # fmt: skip


def _fused_adam(decoupled: bool) -> Callable[..., None]:
    def fused(
        self: Tensors, grads: Tensors, exp_avgs: Tensors, exp_avg_sqs: Tensors, max_exp_avg_sqs: Tensors,
        state_steps: Tensors, *, lr: float | Tensor, beta1: float, beta2: float, weight_decay: float, eps: float,
        amsgrad: bool, maximize: bool, grad_scale: Tensor | None = None, found_inf: Tensor | None = None,
    ) -> None:  # fmt: skip
        _refuse_scaling(grad_scale, found_inf)
        adam(
            self, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps_of(state_steps), lr=float(lr), beta1=beta1,
            beta2=beta2, weight_decay=weight_decay, eps=eps, amsgrad=amsgrad, maximize=maximize, decoupled=decoupled,
        )  # fmt: skip

    return fused


kernel("_fused_adam_", "_fused_adam_.tensor_lr")(_fused_adam(decoupled=False))
kernel("_fused_adamw_", "_fused_adamw_.tensor_lr")(_fused_adam(decoupled=True))


@kernel("_fused_adagrad_", "_fused_adagrad_.tensor_lr")
def fused_adagrad_(
    self: Tensors, grads: Tensors, state_sums: Tensors, state_steps: Tensors, *, lr: float | Tensor, lr_decay: float,
    weight_decay: float, eps: float, maximize: bool, grad_scale: Tensor | None = None, found_inf: Tensor | None = None,
) -> None:  # fmt: skip
    """torch.optim.Adagrad(fused=True): `adagrad` above."""
    _refuse_scaling(grad_scale, found_inf)
    adagrad(
        self, grads, state_sums, steps_of(state_steps), lr=float(lr), lr_decay=lr_decay, weight_decay=weight_decay,
        eps=eps, maximize=maximize,
    )  # fmt: skip
