"""What is set in PyTorch while exact kernels compute: everything that would take another route around them."""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from contextlib import ExitStack
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

from diva.errors import KernelError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec

    Switch = tuple[Callable[[], Any], Callable[[Any], Any], Any]  # how to read it, how to set it, its value here

_FILL: Any = torch.utils.deterministic


def pin() -> ExitStack:
    """Set every pin; closing what is returned restores what was found."""
    held = ExitStack()
    try:
        _refuse_autocast(held)
        for read, write, value in _switches():
            before = read()
            write(value)
            held.callback(write, before)
        _pin_deterministic(held)
        _when_imported("torch._dynamo", held, _force_eager)
        _when_imported("torch._decomp.decompositions", held, _keep_whole)
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
        # Libraries that would compute convolutions, LSTMs and batch normalization.
        (c._get_cudnn_enabled, c._set_cudnn_enabled, False),
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


def _refuse_autocast(held: ExitStack) -> None:
    """Mixed precision would bring float16 and bfloat16, which exact kernels do not compute in: say so where it begins."""
    for device in ("cpu", "cuda"):
        if torch.is_autocast_enabled(device):
            raise _no_autocast(f"the exact scope was opened inside torch.autocast({device!r})")
    enter: Any = torch.autocast.__enter__

    def refusing(self: Any) -> Any:
        if self._enabled:
            raise _no_autocast(f"torch.autocast({self.device!r}, {self.fast_dtype})")
        return enter(self)

    torch.autocast.__enter__ = refusing  # type: ignore[method-assign]
    held.callback(setattr, torch.autocast, "__enter__", enter)


def _no_autocast(what: str) -> KernelError:
    return KernelError(
        f"{what}: exact kernels compute in float32 and float64 throughout; leave autocast out (precision fp32), "
        "or use --backend torch"
    )


def _when_imported(name: str, held: ExitStack, then: Callable[[ExitStack], None]) -> None:
    """Do `then` to a module that takes seconds to import: now if it is there, else when it comes."""
    if name in sys.modules:
        then(held)
        return
    finder = _WhenImported(name, lambda: then(held))
    sys.meta_path.insert(0, finder)
    held.callback(finder.remove)


def _keep_whole(held: ExitStack) -> None:
    """On a GPU, PyTorch's deterministic mode computes some functions by others, in another order; ours are deterministic."""
    module: Any = sys.modules["torch._decomp.decompositions"]
    nn: Any = torch._C._nn
    interpolate = {3: nn.upsample_linear1d, 4: nn.upsample_bilinear2d, 5: nn.upsample_trilinear3d}
    whole = {
        "_upsample_linear_vec": lambda x, *arguments: interpolate[x.dim()](x, *arguments),
        "_replication_pad": lambda x, padding: nn.pad(x, padding, "replicate"),
        "max_pool3d_with_indices": nn.max_pool3d_with_indices,
    }
    for name, function in whole.items():
        held.callback(setattr, module, name, getattr(module, name))
        setattr(module, name, function)


def _force_eager(held: ExitStack) -> None:
    """Compiled functions run eagerly: under inductor most operators would not reach our kernels."""
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
