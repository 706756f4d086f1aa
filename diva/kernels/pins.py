"""What is set in PyTorch while exact kernels compute: everything that would take another route around them."""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from contextlib import ExitStack
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec

    Switch = tuple[Callable[[], Any], Callable[[Any], Any], Any]  # how to read it, how to set it, its value here

_FILL: Any = torch.utils.deterministic


def pin() -> ExitStack:
    """Set every pin; closing what is returned restores what was found."""
    held = ExitStack()
    try:
        for read, write, value in _switches():
            before = read()
            write(value)
            held.callback(write, before)
        _pin_deterministic(held)
        _pin_compiler(held)
    except BaseException:
        held.close()
        raise
    return held


def _switches() -> list[Switch]:
    cuda, c = torch.backends.cuda, torch._C
    return [
        # Attention by the math route: its products and its softmax are operators of ours.
        (cuda.flash_sdp_enabled, cuda.enable_flash_sdp, False),
        (cuda.mem_efficient_sdp_enabled, cuda.enable_mem_efficient_sdp, False),
        (cuda.cudnn_sdp_enabled, cuda.enable_cudnn_sdp, False),
        (cuda.math_sdp_enabled, cuda.enable_math_sdp, True),
        # One call for a whole encoder layer.
        (torch.backends.mha.get_fastpath_enabled, torch.backends.mha.set_fastpath_enabled, False),
        # Libraries that would compute convolutions and LSTMs.
        (c._get_mkldnn_enabled, c._set_mkldnn_enabled, False),
        (c._get_nnpack_enabled, c._set_nnpack_enabled, False),
        # The order of contractions in einsum must not depend on an installed package.
        (_einsum_optimised, _optimise_einsum, False),
        # Denormals are kept. Only this thread has the setting; our own threads see to theirs.
        (_flushes_denormals, torch.set_flush_denormal, False),
        # Fused loops that TorchScript would generate.
        (c._jit_can_fuse_on_cpu, c._jit_override_can_fuse_on_cpu, False),
        (c._jit_texpr_fuser_enabled, c._jit_set_texpr_fuser_enabled, False),
        (lambda: _FILL.fill_uninitialized_memory, lambda on: setattr(_FILL, "fill_uninitialized_memory", on), False),
    ]


def _einsum_optimised() -> bool:
    return bool(torch.backends.opt_einsum.enabled)


def _optimise_einsum(on: bool) -> None:
    torch.backends.opt_einsum.enabled = on


def _flushes_denormals() -> bool:
    """Whether this thread does, which PyTorch cannot say: the smallest normal number, halved by the processor."""
    return sys.float_info.min / torch.tensor(2.0).item() == 0.0


def _pin_deterministic(held: ExitStack) -> None:
    """Compositions choose by this setting: index_copy, index_put and the backward of interpolation take the serial way."""
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms sets the same, and imports the compiler
    held.callback(torch.set_deterministic_debug_mode, before)


def _pin_compiler(held: ExitStack) -> None:
    """Compiled functions run eagerly: under inductor most operators would not reach our kernels.

    The compiler takes seconds to import: where it is not there yet, it is pinned when it comes.
    """
    if "torch._dynamo" in sys.modules:
        _force_eager(held)
        return
    finder = _WhenImported("torch._dynamo", lambda: _force_eager(held))
    sys.meta_path.insert(0, finder)
    held.callback(finder.remove)


def _force_eager(held: ExitStack) -> None:
    stance: Any = torch.compiler.set_stance("force_eager")
    held.callback(stance.__exit__, None, None, None)


class _WhenImported(importlib.abc.MetaPathFinder):
    """Calls `then` after the module `name` was imported, once."""

    def __init__(self, name: str, then: Callable[[], None]):
        self.name, self.then = name, then

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != self.name:
            return None
        self.remove()
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            execute = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                self.then()

            loader.exec_module = exec_module
        return spec

    def remove(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)
