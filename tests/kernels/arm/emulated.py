"""The kernels compiled for ARM and run under qemu-aarch64, with the interface of a loaded library."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from diva.kernels import library

COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
DRIVER = Path(__file__).with_name("driver.c")
# No memset in place of loops: it clears by DC ZVA, which qemu 7.2 passes over where the page is not there yet.
FLAGS = [
    *("-O2", "-ffp-contract=off", "-fno-fast-math", "-fno-math-errno", "-fno-tree-slp-vectorize"),
    *("-fno-tree-loop-distribute-patterns", "-Wno-psabi", "-static", "-pthread"),
]
INTEGERS = (ctypes.c_int32, ctypes.c_int64, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_char_p)


def missing() -> str | None:
    """What is not installed of the two programs; None when both are."""
    absent = [name for name in (COMPILER, EMULATOR) if shutil.which(name) is None]
    return f"needs {' and '.join(absent)} (Debian: g++-aarch64-linux-gnu, qemu-user)" if absent else None


class EmulatedLibrary:
    """`EmulatedLibrary().mm_f32(...)` runs dk_mm_f32 on ARM, on this process's memory; only the main thread computes."""

    def __init__(self) -> None:
        self._program = build()
        self._process: subprocess.Popen[bytes] | None = None
        for name, result, arguments in library.prototypes():
            setattr(self, name, self._function(name, result, arguments))
        self.set_threads = lambda count: None  # the driver hands memory to one thread only

    def _function(self, name: str, result: Any, arguments: list[Any]) -> Any:
        def call(*values: Any) -> Any:
            assert len(values) == len(arguments), f"{name} takes {len(arguments)} arguments, got {len(values)}"
            request = _request(f"dk_{name}", arguments, values)
            for _ in range(20):  # an address may be taken in the emulator; the next process is laid out otherwise
                status, answer = self._ask(request, text=result is ctypes.c_char_p)
                if status == 0:
                    return answer if result is not ctypes.c_int32 else ctypes.c_int32(answer).value
            raise AssertionError(f"{name}: the emulator could not reach the memory it works on")

        return call

    def _ask(self, request: bytes, *, text: bool) -> tuple[int, Any]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [EMULATOR, str(self._program), str(os.getpid())], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(request)
        self._process.stdin.flush()
        head = self._process.stdout.read(4)
        if len(head) < 4 or struct.unpack("=i", head)[0] != 0:
            self._process.kill()
            self._process.wait()
            self._process = None
            return 1, None
        number = struct.unpack("=q", self._process.stdout.read(8))[0]
        return 0, self._process.stdout.read(number) if text else number


def _request(name: str, types: list[Any], values: tuple[Any, ...]) -> bytes:
    """The call as the ARM procedure call standard has it: eight integers and eight floats in registers, the rest in order."""
    integers, floats, stack = [], [], []
    for kind, value in zip(types, values, strict=True):
        word = _float_word(kind, value) if kind in (ctypes.c_float, ctypes.c_double) else _integer_word(value)
        registers = floats if kind in (ctypes.c_float, ctypes.c_double) else integers
        (registers if len(registers) < 8 else stack).append(word)
    encoded = name.encode()
    head = struct.pack("=i", len(encoded)) + encoded + struct.pack("=iii", len(integers), len(floats), len(stack))
    return head + b"".join(integers + floats + stack)


def _integer_word(value: Any) -> bytes:
    if value is None:
        number = 0
    elif isinstance(value, int):
        number = value
    else:  # a ctypes array or pointer
        number = ctypes.cast(value, ctypes.c_void_p).value or 0
    return struct.pack("=Q", number % 2**64)


def _float_word(kind: Any, value: float) -> bytes:
    return struct.pack("=d", value) if kind is ctypes.c_double else struct.pack("=fi", value, 0)


def build() -> Path:
    """Compile the kernels and the driver for ARM, once per state of the sources and the flags."""
    state = hashlib.sha256(" ".join([library.source_digest(), *FLAGS]).encode()).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"diva-kernels-arm-{os.getuid()}-{state[:16]}"
    program = folder / "kernels"
    if program.exists():
        return program
    folder.mkdir(mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        table = Path(work) / "table.cpp"
        table.write_text(_table())
        digest = f'-DDK_SOURCE_DIGEST="{library.source_digest()}"'
        common = [*FLAGS, "-DDK_NEON", digest, f"-I{library.SOURCES}"]
        objects = []
        for source in [*sorted(library.SOURCES.glob("*.cpp")), table, DRIVER]:
            objects.append(Path(work) / f"{source.name}.o")
            language = ["-x", "c"] if source.suffix == ".c" else ["-std=gnu++17"]
            _run(COMPILER, *language, *common, "-c", str(source), "-o", str(objects[-1]))
        _run(COMPILER, *FLAGS, *map(str, objects), "-o", str(Path(work) / "kernels"))
        (Path(work) / "kernels").rename(program)
    return program


def _table() -> str:
    rows = [
        f'  {{"dk_{name}", (void *)dk_{name}, {int(result is ctypes.c_char_p)}}},'
        for name, result, _ in library.prototypes()
    ]
    return "\n".join([
        '#include "diva_kernels.h"',
        "struct entry { const char *name; void *function; int returns_text; };",
        'extern "C" const entry table[] = {',
        *rows,
        "  {nullptr, nullptr, 0}};",
    ])  # fmt: skip


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
