"""PyTorch's own kernels, held as still as they can be: the same bits on the same machine with the same versions."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from diva.errors import KernelError, UsageError, place_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

WORKSPACE = ":4096:8"


def prepare_process() -> None:
    """Set what must stand before CUDA starts: cuBLAS is deterministic only with a fixed workspace."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = WORKSPACE  # no variable of the user's may change bits


def choose_device(asked: str) -> torch.device:
    """The device that `auto`, `cpu`, `cuda` or `cuda:<i>` names here; UsageError when there is none such."""
    import torch

    available = torch.cuda.is_available()
    if asked == "auto":
        return torch.device("cuda:0" if available else "cpu")
    if asked == "cpu":
        return torch.device("cpu")
    matched = re.fullmatch(r"cuda(?::([0-9]{1,3}))?", asked)
    if matched is None:
        raise UsageError(f"--device {asked}: allowed are auto, cpu, cuda and cuda:<number>")
    number = matched.group(1)
    n_devices = torch.cuda.device_count() if available else 0
    if int(number or 0) >= n_devices:
        raise UsageError(f"--device {asked}: PyTorch sees {n_devices} CUDA devices here; use --device cpu")
    return torch.device("cuda", int(number or 0))


def n_gpus() -> int:
    """How many CUDA devices PyTorch sees."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


@contextmanager
def deterministic(threads: int, *, tf32: bool = False) -> Iterator[None]:
    """Deterministic algorithms, a fixed number of threads, no TF32, no autotuning; what was set before is restored.

    Raises KernelError for an operator that has no deterministic form.
    """
    before = _settings()
    try:
        pin(threads, tf32=tf32)
        yield
    except RuntimeError as error:
        if "does not have a deterministic implementation" in str(error):
            first = str(error).split(". ")[0]
            raise KernelError(
                f"{first} ({place_of(error)}); use an equivalent operator, or run on --device cpu"
            ) from error
        raise
    finally:
        _apply(before)


def pin(threads: int, *, tf32: bool = False) -> None:
    """Set what `deterministic` holds; also after a task's own code has run, which may have set other things."""
    _apply(_pins(threads, tf32))


def loosened(threads: int, *, tf32: bool = False) -> list[str]:
    """Names of the pins that something has undone since."""
    wanted, now = _pins(threads, tf32), _settings()
    return sorted(name for name in wanted if wanted[name] != now[name])


def _pins(threads: int, tf32: bool) -> dict[str, Any]:
    # Filling fresh memory costs 50 times the allocation and protects only code that reads what it never wrote.
    held = {"deterministic": True, "warn_only": False, "fill": False, "threads": threads, "benchmark": False}
    return {**held, "cudnn_tf32": tf32, "matmul_tf32": tf32}


def _settings() -> dict[str, Any]:
    import torch

    return {
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "fill": torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        "threads": torch.get_num_threads(),
        "benchmark": torch.backends.cudnn.benchmark,
        "cudnn_tf32": torch.backends.cudnn.allow_tf32,
        "matmul_tf32": torch.backends.cuda.matmul.allow_tf32,
    }


def _apply(settings: dict[str, Any]) -> None:
    import torch

    # The same as use_deterministic_algorithms, which imports PyTorch's compiler, and that takes seconds.
    torch.set_deterministic_debug_mode(settings["deterministic"] and (1 if settings["warn_only"] else 2))
    torch.utils.deterministic.fill_uninitialized_memory = settings["fill"]  # type: ignore[attr-defined]
    torch.set_num_threads(settings["threads"])
    torch.backends.cudnn.benchmark = settings["benchmark"]
    torch.backends.cudnn.allow_tf32 = settings["cudnn_tf32"]
    torch.backends.cuda.matmul.allow_tf32 = settings["matmul_tf32"]


def describe(device: torch.device) -> dict[str, Any]:
    """What of PyTorch can change bits: versions, BLAS, instruction set, threads, and the GPU when it is used."""
    import torch

    config = dict(
        part.strip().split("=", 1)
        for part in torch.__config__.show().split("Build settings:")[-1].split(", ")
        if "=" in part
    )
    facts: dict[str, Any] = {
        "version": torch.__version__,
        "blas": config.get("BLAS_INFO", "unknown"),
        "mkl": torch.backends.mkl.is_available(),
        "onednn": torch.backends.mkldnn.is_available(),
        "openmp": torch.backends.openmp.is_available(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": str(device),
        "cuda": torch.version.cuda,
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts["gpu"] = (
            f"{properties.name}, {properties.major}.{properties.minor}, {properties.multi_processor_count} SMs"
        )
        facts["cudnn"] = torch.backends.cudnn.version()
        facts["cublas_workspace"] = os.environ.get("CUBLAS_WORKSPACE_CONFIG", "")
    return facts
