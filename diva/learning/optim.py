"""Optimizers, schedules and frozen parameters, as torch.optim has them."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn
from torch.optim import lr_scheduler

from diva.errors import UsageError, nearest
from diva.learning.task import less_is_better

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from diva.learning.task import Task


def build_optimizer(task: Task, model: nn.Module) -> Optimizer:
    """The optimizer that the knobs name, over the parameters that require a gradient."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise UsageError("no parameter of the model is left to train; freeze fewer with --freeze")
    if task.nesterov and task.momentum == 0:
        raise UsageError("nesterov needs a momentum above 0; set --momentum or --no-nesterov")
    lr, decay = task.lr, task.weight_decay
    match task.optimizer:
        case "sgd":
            return torch.optim.SGD(parameters, lr, momentum=task.momentum, nesterov=task.nesterov, weight_decay=decay)
        case "adam":
            return torch.optim.Adam(parameters, lr, betas=(task.beta1, task.beta2), eps=task.eps, weight_decay=decay)
        case "adamw":
            return torch.optim.AdamW(parameters, lr, betas=(task.beta1, task.beta2), eps=task.eps, weight_decay=decay)
        case "rmsprop":
            return torch.optim.RMSprop(
                parameters, lr, alpha=task.beta2, eps=task.eps, momentum=task.momentum, weight_decay=decay
            )


def build_schedule(task: Task, optimizer: Optimizer) -> LRScheduler | None:
    """The schedule that the knobs name, after a linear warm-up; None when lr stays. Epoch 1 already uses the warm-up's first value."""
    main = _main_schedule(task, optimizer)
    if task.warmup_epochs == 0:
        return main
    if task.schedule == "plateau":
        raise UsageError("warmup_epochs does not go with schedule plateau; choose another schedule or warmup_epochs 0")
    warmup = lr_scheduler.LinearLR(optimizer, start_factor=1 / (task.warmup_epochs + 1), total_iters=task.warmup_epochs)
    if main is None:
        return warmup
    return lr_scheduler.SequentialLR(optimizer, [warmup, main], milestones=[task.warmup_epochs])


def _main_schedule(task: Task, optimizer: Optimizer) -> LRScheduler | None:
    match task.schedule:
        case "constant":
            return None
        case "step":
            return lr_scheduler.StepLR(optimizer, task.step_epochs, task.gamma)
        case "multistep":
            early = [epoch for epoch in task.milestones if epoch <= task.warmup_epochs]
            if early:
                raise UsageError(
                    f"milestones {early} lie in the warm-up of {task.warmup_epochs} epochs; choose later ones"
                )
            after = [
                epoch - task.warmup_epochs for epoch in task.milestones
            ]  # a chained schedule counts from its own start
            return lr_scheduler.MultiStepLR(optimizer, after, task.gamma)
        case "exponential":
            return lr_scheduler.ExponentialLR(optimizer, task.gamma)
        case "cosine":
            return lr_scheduler.CosineAnnealingLR(optimizer, max(1, task.epochs - task.warmup_epochs))
        case "plateau":
            mode: Literal["min", "max"] = "min" if less_is_better(task.monitor) else "max"
            return lr_scheduler.ReduceLROnPlateau(
                optimizer, mode, task.gamma, patience=task.step_epochs - 1, threshold=0.0
            )


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Stop the training of parameters whose names match a shell pattern, as `features.*`; their names are returned.

    Leaf modules all of whose parameters are frozen also stay in evaluation mode (see `set_training`), so that a frozen batch norm keeps
    its running statistics.
    """
    frozen: list[str] = []
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        matched = [name for name in names if fnmatchcase(name, pattern)]
        if not matched:
            raise UsageError(
                f"--freeze {pattern}: no parameter of the model has such a name; {nearest(pattern, names)}"
            )
        frozen += matched
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    return sorted(set(frozen))


def set_training(model: nn.Module) -> None:
    """Put the model in training mode, but leaf modules all of whose parameters are frozen in evaluation mode."""
    model.train()
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        is_leaf = next(module.children(), None) is None
        if own and is_leaf and not any(p.requires_grad for p in own):
            module.eval()
