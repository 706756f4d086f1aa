"""The two backends: `exact`, the same bits on every machine, and `torch`, PyTorch's own kernels held still."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

from diva.errors import UsageError
from diva.kernels import stock

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

Backend = Literal["auto", "exact", "torch"]  # auto: not chosen yet
SPECIFICATION = "DKS-1"  # docs/reference/numerics.md


def choose_backend(asked: Backend, device: torch.device) -> Backend:
    """`auto` is exact on the CPU, and torch on a GPU until a GPU has been seen to reach the recorded digests."""
    if asked == "exact" and device.type not in ("cpu", "cuda"):
        raise UsageError(
            f"--backend exact computes on the CPU and on CUDA devices, not on {device}; use --device cpu or --backend torch"
        )
    if asked == "auto":
        return "exact" if device.type == "cpu" else "torch"
    return asked


def choose_threads(asked: int | None, backend: Backend) -> int:
    """The number of threads: under exact as many as PyTorch would take, for it changes no bits; else 1."""
    import torch

    if asked is not None:
        return asked
    return torch.get_num_threads() if backend == "exact" else 1


@contextmanager
def computing(backend: Backend, threads: int, *, tf32: bool = False) -> Iterator[None]:
    """The scope in which numbers come from `backend`; everything it sets is restored."""
    with stock.deterministic(threads, tf32=tf32), _exact() if backend == "exact" else nullcontext():
        yield


def _exact() -> Any:
    from diva.kernels.exact import exact

    return exact()


def describe(backend: Backend, device: torch.device) -> dict[str, Any]:
    """What of the libraries that compute can change bits, and how: facts of PyTorch, and of our kernels when they compute."""
    facts = stock.describe(device)
    if backend == "exact":
        from diva.kernels import table
        from diva.kernels.library import native, source_digest

        facts["kernels"] = {
            "specification": SPECIFICATION,
            "digest": f"sha256:{source_digest()}",
            "instruction_set": native.instruction_set().decode(),
            "declared": {said.operator: said.reason for said in table.declared()},  # a task's own word, declare_safe
        }
        if device.type == "cuda":
            from diva.kernels import nvrtc

            facts["kernels"]["cuda"] = {"digest": f"sha256:{source_digest(on_gpu=True)}", "nvrtc": nvrtc.version()}
    return facts
