"""The kernels on a GPU: which stream they run on, where their memory comes from, and how they are compiled and kept."""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
import threading
from pathlib import Path
from typing import Any

import torch

from diva.errors import KernelError
from diva.kernels import library, nvrtc

OLDEST = 75  # compute capability 7.5: the first with the memory model and the shuffles that the kernels are written for
MOST_DEVICES = 16

_COMPILE = ctypes.CFUNCTYPE(
    ctypes.c_int32,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_int32,
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.POINTER(ctypes.c_void_p),
)
_ALLOCATE = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_int64)
_RELEASE = ctypes.CFUNCTYPE(None, ctypes.c_uint64)
_FAILED = 3


class Gpu:
    """`gpu.of(x).mm(...)` is `dk_mm_f32` on x's device and its current stream; `gpu.on(x)` has the functions of no type."""

    def __init__(self) -> None:
        self._library: library.Library | None = None
        self._by_type: dict[torch.dtype, library._OfType] = {}
        self._thread = threading.local()  # .place: the device and stream that the library was told on this thread
        self._kept: list[Any] = []  # images, symbols and callbacks that the library holds addresses of
        self._opening = threading.Lock()
        self.failure = ""  # why the last kernel could not be compiled, or memory not be had

    def of(self, x: torch.Tensor) -> library._OfType:
        """The functions for numbers of x's type on x's device."""
        self.on(x)
        try:
            return self._by_type[x.dtype]
        except KeyError:
            raise KernelError(
                f"exact kernels compute in float32 and float64, not in {x.dtype}; convert the tensor, or use --backend torch"
            ) from None

    def on(self, x: torch.Tensor) -> library.Library:
        """The library, told x's device and the stream that PyTorch uses there now."""
        found = self._library or self._open()
        index = x.get_device()
        if index >= MOST_DEVICES:
            raise KernelError(
                f"exact kernels know {MOST_DEVICES} GPUs, not {x.device}; name others in CUDA_VISIBLE_DEVICES"
            )
        stream = torch._C._cuda_getCurrentRawStream(index)  # as torch.cuda.current_stream, without making an object
        if getattr(self._thread, "place", None) != (index, stream):
            found.cuda_use(index, stream)
            self._thread.place = (index, stream)
        return found

    def message(self) -> str:
        """What went wrong on this thread: the reason for status 3, or for no memory."""
        said = self._library.cuda_message().decode() if self._library else ""
        return " ".join(part for part in (said, self.failure) if part) or "the GPU refused the call"

    def fault(self) -> bool:
        """Whether a kernel that has run since was given an index or a probability out of range; asking forgets it."""
        return self._library is not None and bool(self._library.cuda_fault())

    def _open(self) -> library.Library:
        with self._opening:
            if self._library is not None:
                return self._library
            library.compile_here("cuda")
            found = library.load("cuda")
            callbacks = (
                _COMPILE(self._compile),
                _ALLOCATE(self._allocate),
                _RELEASE(torch.cuda.caching_allocator_delete),
            )
            self._kept += callbacks
            found.cuda_connect(*(ctypes.cast(callback, ctypes.c_void_p) for callback in callbacks))
            self._by_type = {torch.float32: library._OfType(found, "f32"), torch.float64: library._OfType(found, "f64")}
            self._library = found
            return found

    def _compile(self, file: bytes, kernel: bytes, device: int, image: Any, symbol: Any) -> int:
        try:
            made, name = cubin(file.decode(), kernel.decode(), target_of(device))
        except Exception as error:  # no exception passes through C: the status says that there was one
            self.failure = str(error)
            return _FAILED
        kept = ctypes.create_string_buffer(made), ctypes.create_string_buffer(name.encode())
        self._kept += kept
        image[0], symbol[0] = (ctypes.addressof(buffer) for buffer in kept)
        return 0

    def _allocate(self, size: int) -> int:
        index, stream = self._thread.place
        try:
            return int(torch.cuda.caching_allocator_alloc(size, index, stream))
        except Exception as error:  # the same
            self.failure = str(error)
            return 0


gpu = Gpu()


def target_of(device: int) -> str:
    """What to compile for: "sm_90", or PTX for the newest that NVRTC knows where the GPU is newer.

    KernelError for a GPU that is too old.
    """
    major, minor = torch.cuda.get_device_capability(device)
    capability = 10 * major + minor
    if capability < OLDEST:
        raise KernelError(
            f"{torch.cuda.get_device_name(device)} has compute capability {major}.{minor}; exact kernels take 7.5 or newer: "
            "use --device cpu or --backend torch"
        )
    known = nvrtc.architectures()
    return f"sm_{capability}" if capability in known else f"compute_{max(a for a in known if a < capability)}"


def cubin(file: str, kernel: str, target: str) -> tuple[bytes, str]:
    """The image and symbol of one kernel for "sm_90": kept from before, or compiled now and kept."""
    place = cache_folder() / target / f"{Path(file).stem}-{hashlib.sha256(kernel.encode()).hexdigest()[:24]}.kernel"
    found = _kept(place)
    if found is None:
        made = nvrtc.compile_kernels(file, [kernel], target)
        found = made.image, made.symbols[kernel]
        _keep(place, *found)
    return found


def cache_folder() -> Path:
    """Where compiled kernels lie: by the sources, NVRTC's version and the flags they were compiled from."""
    made_of = f"{library.source_digest(on_gpu=True)} {nvrtc.version()} {' '.join(nvrtc.FLAGS)}"
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "diva" / "cuda" / hashlib.sha256(made_of.encode()).hexdigest()[:16]


def _kept(place: Path) -> tuple[bytes, str] | None:
    """Symbol, digest and image, as `_keep` wrote them; None when there is no such file, or it was cut short or altered."""
    try:
        symbol, digest, image = place.read_bytes().split(b"\n", 2)
    except (OSError, ValueError):
        return None
    return (image, symbol.decode()) if hashlib.sha256(image).hexdigest().encode() == digest else None


def _keep(place: Path, image: bytes, symbol: str) -> None:
    arriving = place.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        arriving.write_bytes(f"{symbol}\n{hashlib.sha256(image).hexdigest()}\n".encode() + image)
        arriving.replace(place)
    except OSError as error:
        _say_once(
            f"diva: compiled kernels cannot be kept in {place.parent} ({error.strerror}); each run compiles them again"
        )


_said: set[str] = set()


def _say_once(text: str) -> None:
    if text not in _said:
        _said.add(text)
        print(text, file=sys.stderr)
