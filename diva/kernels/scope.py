"""The scope in which every number comes from a kernel whose order of operations is fixed."""

from __future__ import annotations

import multiprocessing.spawn
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from diva.kernels import operators, pins, table
from diva.kernels.library import native

_lock = threading.RLock()
_depth = 0
_held: ExitStack | None = None
_libraries: list[torch.library.Library] = []


@contextmanager
def exact(seed: int | None = None) -> Iterator[None]:
    """Inside, operators on CPU and CUDA tensors are served by exact kernels, and those that have none raise KernelError.

    It holds for the whole process, all its threads and its forked or spawned children, and may be nested. With `seed`,
    PyTorch's CPU generator starts from it, and is afterwards what it was.
    """
    before = torch.get_rng_state() if seed is not None else None
    enter()
    try:
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        yield
    finally:
        leave()
        if before is not None:
            torch.set_rng_state(before)


def enter() -> None:
    """Open the scope, or count one more that is in it."""
    global _depth, _held
    with _lock:
        if _depth == 0:
            operators.load()  # before anything is overridden: families fetch PyTorch's own kernels when they are imported
            _held = _open()
        _depth += 1


def leave() -> None:
    """Count one less; the last one restores PyTorch as it was found."""
    global _depth, _held
    with _lock:
        if _depth == 0:
            raise RuntimeError("leave() without enter(): the exact scope is not open")
        _depth -= 1
        if _depth == 0 and _held is not None:
            _held.close()
            _held = None


def is_open() -> bool:
    """Whether exact kernels compute now."""
    return _depth > 0


def renew() -> None:
    """Install the table again, after it changed or a library brought new operators; nothing when the scope is not open."""
    with _lock:
        if _depth:
            old = _libraries[:]
            _libraries[:] = _install()
            for library in old:
                library._destroy()


def _open() -> ExitStack:
    held = ExitStack()
    try:
        held.callback(_set_native_threads, native.threads())
        native.set_threads(torch.get_num_threads())
        held.push(pins.pin())
        _replace(held, torch, "set_num_threads", _with_native_threads)
        _replace(held, torch.ops, "load_library", _with_renewal)
        _replace(held, multiprocessing.spawn, "get_preparation_data", _with_scope)
        for owner, name, replacement in operators.replacements():
            _replace(held, owner, name, _always(replacement))
        _libraries[:] = _install()
        held.callback(_uninstall)
    except BaseException:
        held.close()
        raise
    return held


def _has_gpu() -> bool:
    return torch.cuda.is_available()


def _install() -> list[torch.library.Library]:
    opened: dict[str, torch.library.Library] = {}
    cuda = _has_gpu()
    if cuda:
        table.fetch_stock_of_cuda()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns of the first override
        for entry in table.entries(cuda):
            if entry.kernel is None:
                continue
            namespace, _, name = entry.operator.partition("::")
            if namespace not in opened:
                opened[namespace] = torch.library.Library(namespace, "IMPL")
            opened[namespace].impl(name, entry.kernel, entry.key, allow_override=True)
    return list(opened.values())


def _uninstall() -> None:
    for library in _libraries:
        library._destroy()
    _libraries.clear()


def _replace(
    held: ExitStack, owner: Any, name: str, around: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> None:
    found = getattr(owner, name)
    in_dictionary = name in vars(owner)
    setattr(owner, name, around(found))
    held.callback(lambda: setattr(owner, name, found) if in_dictionary else delattr(owner, name))


def _always(replacement: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return lambda _: replacement


def _set_native_threads(count: int) -> None:
    native.set_threads(count)


def _with_native_threads(set_num_threads: Callable[[int], None]) -> Callable[[int], None]:
    def set_both(int: int) -> None:
        set_num_threads(int)
        native.set_threads(torch.get_num_threads())

    return set_both


def _with_renewal(load_library: Callable[[Any], None]) -> Callable[[Any], None]:
    def load(path: Any) -> None:
        load_library(path)
        renew()

    return load


def _with_scope(get_preparation_data: Callable[[str], dict[str, Any]]) -> Callable[[str], dict[str, Any]]:
    """A spawned child opens the scope before it does anything; a forked one has it."""

    def prepare(name: str) -> dict[str, Any]:
        return {**get_preparation_data(name), "diva_kernels": _InChild()}

    return prepare


class _InChild:
    """Opens the scope where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return enter, ()


def _forget_lock() -> None:
    """A forked child has no other thread that could hold the lock."""
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_forget_lock)
