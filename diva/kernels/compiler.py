"""PyTorch's compiler stays out of a process that compiles nothing: importing it takes more than a second.

Optimizers and dispatch modes import it, to end a compiled graph before each step and to leave some methods out of one.
Neither does anything while nothing is compiled, and nothing is before the compiler is imported. Once it is, by whoever
wants it, all is as PyTorch has it. What this module does not find in an installed torch it leaves alone.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.optim import optimizer as _optimizer
from torch.utils._python_dispatch import TorchDispatchMode

_COMPILER = "torch._dynamo"
Function = Callable[..., Any]


def import_when_wanted() -> None:
    """The optimizers and dispatch modes that this process knows by now import the compiler no more."""
    breaking = _code_of(getattr(_optimizer, "_use_grad_for_differentiable", None))
    disabled = _code_of(getattr(torch, "_disable_dynamo", None))
    for kind in (*_kinds(torch.optim.Optimizer), *_kinds(TorchDispatchMode)):
        for name, function in list(vars(kind).items()):
            code = getattr(function, "__code__", None)
            if code is None or not hasattr(function, "__wrapped__"):
                continue
            if code is breaking:
                setattr(kind, name, _breaking_later(function))
            elif code is disabled:
                _disable_later(function)


def _code_of(decorator: Function | None) -> object:
    """What every function that the decorator returns has in common."""
    return decorator(lambda: None).__code__ if decorator is not None else object()


def _kinds(kind: type[Any]) -> Iterator[type[Any]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from _kinds(narrower)


def _breaking_later(step: Function) -> Function:
    """An optimizer's step without the breaks, as long as there is no graph that could be broken."""
    plain = step.__wrapped__  # type: ignore[attr-defined]

    @functools.wraps(step)
    def step_or_break(*args: Any, **kwargs: Any) -> Any:
        if _COMPILER in sys.modules:
            return step(*args, **kwargs)
        with torch.set_grad_enabled(args[0].defaults["differentiable"]):
            return plain(*args, **kwargs)

    return step_or_break


def _disable_later(method: Function) -> None:
    """Take the place of what the method keeps of the compiler, until the compiler is there."""
    plain: Any = method.__wrapped__  # type: ignore[attr-defined]
    if hasattr(plain, "__dynamo_disable"):
        return

    @functools.wraps(plain)
    def call(*args: Any, **kwargs: Any) -> Any:
        if _COMPILER not in sys.modules:
            return plain(*args, **kwargs)
        if getattr(plain, "__dynamo_disable", None) is call:
            del plain.__dynamo_disable
        return method(*args, **kwargs)

    plain.__dynamo_disable = call
