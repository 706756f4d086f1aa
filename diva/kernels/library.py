"""The compiled kernels: finds the library of this processor, loads it, and declares its functions from the C headers."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from diva.errors import KernelError, UsageError

SOURCES = Path(__file__).parent / "native"
CUDA_SOURCES = Path(__file__).parent / "cuda"
INSTRUCTION_SETS = ("avx512", "avx2", "neon", "scalar")  # the first that is built and that the processor has is used
GPU_LIBRARIES = ("cuda", "emulated")  # the GPU's kernels: on a GPU, and in an emulator on the CPU, for tests
_ALLOWED = f"allowed are {', '.join(INSTRUCTION_SETS)} and emulated"
SUFFIX = ".dylib" if sys.platform == "darwin" else ".so"

_TYPES: dict[str, Any] = {
    "void": None,
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "uint64_t": ctypes.c_uint64,
    "float": ctypes.c_float,
    "double": ctypes.c_double,
}
_PROTOTYPE = re.compile(r"^\s*((?:const\s+)?\w+)\s*(\*?)\s*dk_(\w+)\s*\(([^)]*)\)\s*;", re.MULTILINE)


class Library:
    """One compiled library: `dk_mm_f32` of the headers is the attribute `mm_f32`; every call releases the GIL."""

    def __init__(self, path: Path, *headers: Path):
        self.path = path
        handle = ctypes.CDLL(str(path))
        for name, result, arguments in prototypes(*headers):
            function = getattr(handle, f"dk_{name}", None)
            if function is None:
                raise KernelError(f"{path}: has no function dk_{name}; it was built from other sources. {_BUILD}")
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)

    def __getattr__(self, name: str) -> Any:  # only for names that are not there
        raise AttributeError(f"the kernels have no function dk_{name} (see {SOURCES}/*.h)")


class Native:
    """The library in use. `native.threads()`, and by type: `native[torch.float32].mm(...)` is `dk_mm_f32`.

    Operators ask for the functions of a tensor's type and device: `native.of(x).mm(...)`, `native.on(x).permutation(...)`.
    `use` changes the library for the whole process: functions are looked up here at every call, never kept.
    """

    def __init__(self) -> None:
        self._library: Library | None = None
        self._by_type: dict[Any, _OfType] = {}

    def use(self, instruction_set: str | None = None) -> Library:
        """Load the library of `instruction_set`, or the best one that this processor has, and use it from now on."""
        import torch

        compile_here()
        threads = self._library.threads() if self._library else torch.get_num_threads()
        chosen = load(instruction_set or choose())
        chosen.set_threads(threads)
        self._library = chosen
        self._by_type = {torch.float32: _OfType(chosen, "f32"), torch.float64: _OfType(chosen, "f64")}
        return chosen

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # who only looks at this object (pytest does) loads, and compiles, nothing
            raise AttributeError(name)
        return getattr(self._library or self.use(), name)

    def of(self, x: Any) -> _OfType:
        """The functions for numbers of x's type on x's device."""
        if x.is_cuda:
            from diva.kernels.gpu import gpu

            return gpu.of(x)
        return self[x.dtype]

    def on(self, x: Any) -> Any:
        """The functions that are of no type, on x's device."""
        if x.is_cuda:
            from diva.kernels.gpu import gpu

            return gpu.on(x)
        return self

    def __getitem__(self, dtype: Any) -> _OfType:
        if self._library is None:
            self.use()
        try:
            return self._by_type[dtype]
        except KeyError:
            raise KernelError(
                f"exact kernels compute in float32 and float64, not in {dtype}; convert the tensor, or use --backend torch"
            ) from None


class _OfType:
    """The functions of a library for one type: `mm` is `dk_mm_f32`."""

    def __init__(self, library: Library, suffix: str):
        for name in vars(library):
            if name.endswith(f"_{suffix}"):
                setattr(self, name.removesuffix(f"_{suffix}"), getattr(library, name))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the kernels have no function dk_{name} for this type (see {SOURCES}/*.h)")


native = Native()

_BUILD = (
    "Build it: pip install . (needs a C++17 compiler, such as g++ or clang++), or scripts/build_kernels in a checkout"
)


@cache
def prototypes(*headers: Path) -> list[tuple[str, Any, list[Any]]]:
    """(name without dk_, result type, argument types) of every function that the kernels' headers, and these, declare."""
    found = []
    for header in (*sorted(SOURCES.glob("*.h")), *headers):
        text = re.sub(r"/\*.*?\*/|//[^\n]*", "", header.read_text(), flags=re.DOTALL)
        for result, star, name, arguments in _PROTOTYPE.findall(text):
            listed = [] if arguments.strip() in ("", "void") else arguments.split(",")
            found.append((name, _type_of(result, star), [_argument_type(a) for a in listed]))
    return found


def _argument_type(declaration: str) -> Any:
    if "*" in declaration:
        return ctypes.c_void_p  # tensors travel as data_ptr(), sizes and strides as ctypes arrays
    return _TYPES[declaration.split()[0]]


def _type_of(name: str, star: str) -> Any:
    if star:
        return ctypes.c_char_p
    return _TYPES[name]


@cache
def load(instruction_set: str) -> Library:
    """The library of one instruction set; KernelError when it is not built, or was built from other sources."""
    on_gpu = instruction_set in GPU_LIBRARIES
    if instruction_set not in INSTRUCTION_SETS and not on_gpu:
        raise UsageError(f"DIVA_KERNELS_ISA={instruction_set}: {_ALLOWED}")
    path = _find(instruction_set)
    if path is None:
        raise KernelError(
            f"the compiled kernels ({instruction_set}) are not installed. {_BUILD}, or use --backend torch"
        )
    library = Library(path, *([CUDA_SOURCES / "launch.h"] if on_gpu else []))
    if library.source_digest().decode() != source_digest(on_gpu):
        raise KernelError(f"{path}: was built from other sources than those in {SOURCES}. {_BUILD}")
    if not library.supported() and instruction_set == "cuda":
        raise KernelError(
            "the NVIDIA driver's library libcuda.so.1 could not be loaded, or is too old; use --device cpu or --backend torch"
        )
    if not library.supported():
        raise UsageError(f"DIVA_KERNELS_ISA={instruction_set}: this processor has no {instruction_set}")
    return library


def choose() -> str:
    """The instruction set to use: what DIVA_KERNELS_ISA says, or the widest that is built and that this processor has."""
    asked = os.environ.get("DIVA_KERNELS_ISA")
    if asked == "cuda":  # its functions take memory of a GPU
        raise UsageError(f"DIVA_KERNELS_ISA=cuda: {_ALLOWED}; a GPU is chosen with --device cuda")
    if asked:
        return asked
    for name in INSTRUCTION_SETS:
        path = _find(name)
        if path is not None and _supported(path):
            return name
    raise KernelError(f"the compiled kernels are not installed. {_BUILD}, or use --backend torch")


def available() -> list[str]:
    """Instruction sets that are built and that this processor has, widest first."""
    return [name for name in INSTRUCTION_SETS if (path := _find(name)) is not None and _supported(path)]


@cache
def source_digest(on_gpu: bool = False) -> str:
    """SHA-256 over the sources, by the rule of CMakeLists.txt: what a CPU's library, or the GPU's, must have been built from."""
    if on_gpu:
        files = [path for path in CUDA_SOURCES.iterdir() if path.suffix in (".cu", ".cpp", ".h")]
        files += SOURCES.glob("*.h")
    else:
        files = [path for path in SOURCES.iterdir() if path.suffix in (".cpp", ".h") or path.name == "CMakeLists.txt"]
    files.sort(key=lambda path: str(path.resolve()))
    listing = "".join(f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in files)
    return hashlib.sha256(listing.encode()).hexdigest()


def _supported(path: Path) -> bool:
    try:
        return bool(ctypes.CDLL(str(path)).dk_supported())
    except OSError:  # built on a newer system, or cut short
        return False


def _find(instruction_set: str) -> Path | None:
    """The library built from these sources: beside them, in an installed diva, or compiled for a recorded one."""
    found = [path for folder in _folders() if (path := folder / f"libdiva_kernels_{instruction_set}{SUFFIX}").is_file()]
    wanted = source_digest(instruction_set in GPU_LIBRARIES)
    return next((path for path in found if _digest_of(path) == wanted), found[0] if found else None)


def _folders() -> list[Path]:
    """Where libraries may lie: beside the sources, then in each place of the path, as an editable install puts them."""
    installed = [Path(entry) / "diva" / "kernels" / "native" for entry in sys.path if entry]
    return [SOURCES, *installed, cache_folder()]


def cache_folder() -> Path:
    """Where libraries are kept that were compiled for the recorded sources of a run."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "diva" / "kernels" / source_digest()[:16]


@cache
def _digest_of(path: Path) -> str:
    try:
        function = ctypes.CDLL(str(path)).dk_source_digest
    except OSError:
        return ""  # no library that can be used here
    function.restype = ctypes.c_char_p
    return str(function().decode())


def compile_here(*names: str) -> None:
    """Compile these sources into the cache when no library of theirs (one of `names`: the CPU's) is to be found.

    The diva that a run recorded brings sources only; and who edits a kernel in a checkout need not think of building.

    KernelError when CMake or a compiler is missing.
    """
    wanted = names or INSTRUCTION_SETS
    if any(
        _digest_of(path) == source_digest(name in GPU_LIBRARIES) for name in wanted if (path := _find(name)) is not None
    ):
        return
    took = "some seconds" if names else "a minute or two"
    print(f"diva: compiling the kernels from these sources, once; it takes {took}", file=sys.stderr)
    cmake = shutil.which("cmake")
    if cmake is None:
        raise KernelError(
            f"{SOURCES}: no library was built from these sources, and to build one takes CMake: pip install cmake"
        )
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KernelError(f"{cache_folder()}: {error.strerror}; compiled kernels are kept there. {_BUILD}") from error
    only = [f"--target=diva_kernels_{name}" for name in names]
    with tempfile.TemporaryDirectory() as build:
        for command in ([cmake, "-S", str(SOURCES), "-B", build], [cmake, "--build", build, "--parallel", *only]):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise KernelError(f"{SOURCES}: could not be compiled: {(done.stderr or done.stdout).strip()[-600:]}")
        for library in Path(build).glob(f"libdiva_kernels_*{SUFFIX}"):
            arriving = cache_folder() / f"{library.name}.{os.getpid()}"
            shutil.copy2(library, arriving)
            arriving.rename(cache_folder() / library.name)
