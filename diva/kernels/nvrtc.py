"""The GPU kernels' text compiled by NVRTC, NVIDIA's compiler at run time; it needs no GPU and no CUDA toolkit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from diva.errors import KernelError
from diva.kernels.library import CUDA_SOURCES, SOURCES

# Part of the numeric contract: no contraction, no flushing, divisions and roots rounded to nearest.
FLAGS = (
    "--std=c++17", "--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true", "-default-device",
    "--device-int128", "--no-source-include",
)  # fmt: skip
_STANDARD = ("cstdint", "cstring", "cstdlib", "cmath", "utility", "type_traits", "stdint.h")  # what device.h stands for
_INSTALL = "pip install 'diva[cuda]' brings it"

# What PTX must not hold: the bits would be the hardware's or the assembler's choice.
_FORBIDDEN = {
    "flushes denormals": re.compile(r"\.ftz\b"),
    "approximates": re.compile(r"\.approx\b|\bdiv\.full\b"),
    "may be contracted": re.compile(r"\b(?:add|sub|mul)(?:\.sat)?\.f(?:32|64)\b|\bmad\.(?:rn\.)?f(?:32|64)\b"),
    "adds floating-point numbers in no order": re.compile(r"\b(?:atom|red)\b[\w.:]*\.(?:f16|f32|f64|bf16)"),
}
# NVRTC makes `min` of x < 0 ? x : 0, which is +0 for -0 where the least of both is -0; and `max` of the like with -0. (It leaves
# x <= 0 ? x : 0, 0 > x ? 0 : x, and two variables as they are.) An immediate shows it; a zero in a register does not.
_ZERO = re.compile(r"\bmin\.f(?:32\b.*\b0f0{8}|64\b.*\b0d0{16})\b|\bmax\.f(?:32\b.*\b0f80{7}|64\b.*\b0d80{15})\b")
_ZERO_IS_LOST = ("LogSigmoid",)  # ln 2 is then taken from it
_ENTRY = re.compile(r"\.entry (\w+)")


class Compiled(NamedTuple):
    """What NVRTC made of some kernels of a file."""

    image: bytes  # a cubin, or PTX
    symbols: dict[str, str]  # the kernel's name as it is written -> as it is in the image
    log: str


def compile_kernels(file: str, kernels: Sequence[str], target: str) -> Compiled:
    """Compile `kernels` ("dk::softmax_rows<float, true>") of cuda/`file` for "sm_90" (a cubin) or "compute_90" (PTX).

    KernelError when NVRTC is not installed, does not know the target, or finds an error in the text.
    """
    nvrtc = _nvrtc()
    names = [name.encode() for name in _STANDARD]
    program = _done(
        nvrtc.nvrtcCreateProgram(
            (CUDA_SOURCES / file).read_bytes(), file.encode(), len(names), [b""] * len(names), names
        )
    )
    try:
        for kernel in kernels:
            _done(nvrtc.nvrtcAddNameExpression(program, kernel.encode()))
        options = [
            *FLAGS,
            f"--gpu-architecture={target}",
            f"--include-path={CUDA_SOURCES}",
            f"--include-path={SOURCES}",
        ]
        status, *_ = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
        log = (
            _text(program, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog)
            .decode(errors="replace")
            .strip("\0\n ")
        )
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise KernelError(f"{CUDA_SOURCES / file}: NVRTC {version()} for {target}: {log or status.name}")
        symbols = {kernel: _done(nvrtc.nvrtcGetLoweredName(program, kernel.encode())).decode() for kernel in kernels}
        if target.startswith("sm_"):
            image = _text(program, nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)
        else:
            image = _text(program, nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX).rstrip(b"\0")
        return Compiled(image, symbols, log)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def forbidden(ptx: str) -> list[str]:
    """The lines of PTX whose bits would not be fixed, each with the reason."""
    found = []
    kernel = ""
    for number, line in enumerate(ptx.splitlines(), 1):
        code = line.partition("//")[0]
        if entry := _ENTRY.search(code):
            kernel = entry[1]
        if _ZERO.search(code) and not any(name in kernel for name in _ZERO_IS_LOST):
            found.append(f"line {number}: may give the other zero: {code.strip()}")
        found += [
            f"line {number}: {why}: {code.strip()}" for why, pattern in _FORBIDDEN.items() if pattern.search(code)
        ]
    return found


@cache
def version() -> str:
    """NVRTC's version, "13.0"."""
    major, minor = _done(_nvrtc().nvrtcVersion(), 2)
    return f"{major}.{minor}"


def architectures() -> list[int]:
    """The compute capabilities that this NVRTC knows, 75 for 7.5; sorted."""
    return sorted(_done(_nvrtc().nvrtcGetSupportedArchs()))


@cache
def _nvrtc() -> Any:
    try:
        from cuda.bindings import nvrtc

        nvrtc.nvrtcVersion()  # loads the library
    except ImportError as error:
        raise KernelError(
            f"kernels for a GPU take NVIDIA's cuda-bindings: {error}; {_INSTALL}, or use --backend torch"
        ) from error
    except RuntimeError as error:
        raise KernelError(
            f"kernels for a GPU take NVIDIA's NVRTC: {error}; {_INSTALL}, or use --backend torch"
        ) from error
    return nvrtc


def _done(answer: tuple[Any, ...], n: int = 1) -> Any:
    status, *rest = answer
    if status.value:
        raise KernelError(f"NVRTC: {status.name}")
    return rest[0] if len(rest) == 1 and n == 1 else rest


def _text(program: Any, size: Any, get: Any) -> bytes:
    buffer = b" " * int(_done(size(program)))
    _done(get(program, buffer), 0)
    return buffer
