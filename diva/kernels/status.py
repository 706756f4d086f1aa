"""What the kernels' status codes say, as exceptions."""

from __future__ import annotations

import sys

from diva.errors import KernelError

NO_MEMORY, BAD_ARGUMENT, CUDA_FAILED, EARLIER_FAULT = 1, 2, 3, 4  # diva_kernels.h, cuda/launch.h


def failed(status: int, operator: str, bad: Exception | None = None) -> Exception:
    """The error to raise for a status that is not 0; `bad` is the one for arguments that the kernel refused."""
    if status == NO_MEMORY:
        return MemoryError(f"{operator}: no memory for the kernel's scratch space{_on_gpu()}")
    if status == CUDA_FAILED:
        return KernelError(
            f"{operator}: the GPU did not run the kernel{_on_gpu()}; use --device cpu or --backend torch"
        )
    if status == EARLIER_FAULT:
        return KernelError(
            f"{operator}: an earlier call was given an index, a target or a probability out of range, and the GPU says so "
            "only now; set CUDA_LAUNCH_BLOCKING=1 to have it said where it happens"
        )
    return bad or KernelError(f"{operator}: the kernel refused its arguments (status {status})")


def _on_gpu() -> str:
    module = sys.modules.get("diva.kernels.gpu")  # who computes on the CPU has not imported it
    return f": {module.gpu.message()}" if module is not None else ""
