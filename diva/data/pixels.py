"""Decoded images: read by number, and kept in memory once for all processes when they fit (`--cache`).

What is kept is what decoding and resizing give, uint8, before anything random happens: keeping it changes time and no bits. An image is
decoded when it is first asked for, by whichever process asks; the memory is shared with the loader workers that are forked later.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy

from diva.data.images import decoded, opened, unreadable
from diva.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from PIL import Image

    from diva.data.images import Mode

Cache = Literal["auto", "on", "off"]
SHARE = 4  # `auto` takes at most one part in so many of the memory that is available
WORTH_A_THREAD_S = 1e-3  # of computing: small images hold Python's lock most of the time, and threads slow them down


class Pixels:
    """Image files as arrays of one shape: `read(indices)` is uint8 (B, height, width, channels), 1 channel for "L", 3 for "RGB".

    An image of another size is resized by Pillow's bilinear filter. `pad` keeps its proportions: it is brought to the height, as wide as
    `padded_width` says, and what is left over to the right is filled with its median. DataError names a file that cannot be decoded.
    frames: which image of its file each one is, where files hold several; by default the first.
    """

    def __init__(
        self, paths: Sequence[Path], mode: Mode, size: Sequence[int], *, pad: bool = False, frames: Sequence[int] = ()
    ) -> None:
        self.paths, self.mode, self.size, self.pad = tuple(paths), mode, (size[0], size[1]), pad
        self.frames = tuple(frames)
        self._kept: _Kept | None = None
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        return (*self.size, 1 if self.mode == "L" else 3)

    @property
    def n_bytes(self) -> int:
        """What all images take in memory."""
        height, width, channels = self.shape
        return len(self.paths) * (height * width * channels + 1)

    @property
    def is_kept(self) -> bool:
        """Whether decoded images stay in memory."""
        return self._kept is not None

    def decode(self, index: int) -> numpy.ndarray:
        """One image, decoded from its file and resized, whatever is kept: uint8 (height, width, channels)."""
        from PIL import Image

        path, (height, width) = self.paths[index], self.size
        try:
            with opened(path) as source:
                if self.frames:
                    source.seek(self.frames[index])
                image = decoded(source, self.mode)
                if self.pad:
                    return _padded(image, self.shape)
                if image.size != (width, height):
                    image = image.resize((width, height), Image.Resampling.BILINEAR)
                return numpy.asarray(image).reshape(self.shape)
        except Exception as error:  # Pillow's decoders raise a dozen kinds
            raise unreadable(path, error) from None

    def read(self, indices: Sequence[int]) -> numpy.ndarray:
        """A batch, uint8 (B, height, width, channels), in an array of its own."""
        kept = self._kept
        if kept is None:
            batch = numpy.empty((len(indices), *self.shape), numpy.uint8)
            self._decode_into(batch, range(len(indices)), indices)
            return batch
        missing = kept.missing(indices)
        if missing:
            self._decode_into(kept.images, missing, missing)
            kept.mark(missing)
        return kept.images[numpy.asarray(indices, numpy.int64)]

    def keep(self) -> None:
        """Keep what is decoded from now on. OSError when the memory is not to be had."""
        if self._kept is None:
            self._kept = _Kept(len(self.paths), self.shape)

    def _decode_into(self, target: numpy.ndarray, places: Sequence[int], indices: Sequence[int]) -> None:
        """Decode images to their places in `target`; large ones by a thread per core that is free for it."""

        def decode(pair: tuple[int, int]) -> None:
            place, index = pair
            target[place] = self.decode(index)

        pairs = list(zip(places, indices, strict=True))
        while pairs:
            started = time.thread_time()
            decode(pairs.pop(0))
            if time.thread_time() - started > WORTH_A_THREAD_S and len(pairs) > 1 and _free_cores() > 1:
                for _ in self._threads().map(
                    decode, pairs
                ):  # the first error in the order of the batch is the one raised
                    pass
                return

    def _threads(self) -> ThreadPoolExecutor:
        """The pool of this process: a forked worker inherits the object, but not its threads."""
        if self._pool is None or self._pool[0] != os.getpid():
            self._pool = os.getpid(), ThreadPoolExecutor(_free_cores())
        return self._pool[1]

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles start without memory and threads: both belong to this process and its children."""
        return {**self.__dict__, "_kept": None, "_pool": None}


def padded_width(path: Path, size: Sequence[int]) -> int:
    """How many columns of (height, width) an image fills that is padded: as its proportions ask for, at least 1, at most all.

    Reads the file's header alone. DataError names a file that is no image.
    """
    try:
        with opened(path) as source:
            return _width(source.size, size)
    except Exception as error:
        raise unreadable(path, error) from None


def _width(found: tuple[int, int], size: Sequence[int]) -> int:
    """Of an image of (width, height) pixels at the height size[0]; half a column is rounded up."""
    return min(size[1], max(1, (2 * found[0] * size[0] + found[1]) // (2 * found[1])))


def _padded(image: Image.Image, shape: tuple[int, int, int]) -> numpy.ndarray:
    from PIL import Image

    height, _, channels = shape
    filled = _width(image.size, shape)
    if image.size != (filled, height):
        image = image.resize((filled, height), Image.Resampling.BILINEAR)
    pixels = numpy.asarray(image).reshape(height, filled, channels)
    whole = numpy.empty(shape, numpy.uint8)
    whole[:] = numpy.sort(pixels.reshape(-1, channels), axis=0)[height * filled // 2]
    whole[:, :filled] = pixels
    return whole


class _Kept:
    """Memory that forked processes share: images, and a flag for each that is there."""

    def __init__(self, n: int, shape: tuple[int, int, int]) -> None:
        height, width, channels = shape
        memory = mmap.mmap(-1, max(1, n * (height * width * channels + 1)))
        self.flags = numpy.frombuffer(memory, numpy.uint8, n)
        self.images = numpy.frombuffer(memory, numpy.uint8, n * height * width * channels, n).reshape(n, *shape)
        # No lock: one who is killed inside would leave it locked. A flag is set after its image, and two that decode the same image
        # write the same bytes.

    def missing(self, indices: Sequence[int]) -> list[int]:
        """Those of the indices whose images are not there yet, each once."""
        there = self.flags[numpy.asarray(indices, numpy.int64)]
        _order_memory()
        return [] if there.all() else list(dict.fromkeys(i for i, flag in zip(indices, there, strict=True) if not flag))

    def mark(self, indices: Sequence[int]) -> None:
        """These images are there now."""
        _order_memory()
        self.flags[numpy.asarray(indices, numpy.int64)] = 1


def _order_memory() -> None:
    """What this process reads and writes before comes before what it reads and writes after, for other cores too.

    On ARM a flag could otherwise be seen before its image. Two turns of a lock that nobody else has: its release and the next
    acquisition are instructions that nothing passes.
    """
    lock = threading.Lock()
    for _ in range(2):
        with lock:
            pass


def frame_pixels(clips: Sequence[Sequence[Path]], mode: Mode, size: Sequence[int]) -> tuple[Pixels, tuple[range, ...]]:
    """The frames of all clips, and for each clip the numbers of its frames among them. clips: the files of each, as `Clips.frames`.

    DataError names a file that cannot be opened.
    """
    paths: list[Path] = []
    frames: list[int] = []
    numbers: list[range] = []
    for files in clips:
        first = len(paths)
        for path in files:
            n = _n_frames(path) if len(files) == 1 else 1
            paths += [path] * n
            frames += range(n)
        numbers.append(range(first, len(paths)))
    return Pixels(paths, mode, size, frames=frames), tuple(numbers)


def _n_frames(path: Path) -> int:
    try:
        with opened(path) as source:
            return int(getattr(source, "n_frames", 1))
    except Exception as error:  # Pillow's decoders raise a dozen kinds
        raise unreadable(path, error) from None


def keep_in_memory(data_sets: Iterable[Any], cache: Cache) -> str:
    """Carry out `--cache` for data sets that have `pixels`; returns a line that says what was done, "" when nothing was to be.

    `auto` keeps the images of all of them when they fit into a quarter of the available memory. `on` raises UsageError when it cannot.
    """
    found = {id(pixels): pixels for pixels in map(pixels_of, data_sets) if pixels is not None}
    if cache == "off" or not found:
        if cache == "on":
            raise UsageError("--cache on: this task reads no images through diva.Pixels; leave the option out")
        return ""
    n_images, n_bytes = (sum(values) for values in zip(*((len(p), p.n_bytes) for p in found.values()), strict=True))
    available = available_memory()
    needed = f"{n_images:,} decoded images take {_in_units(n_bytes)}"
    room = f"{_in_units(available)} of memory are available"
    if n_bytes > (available if cache == "on" else available // SHARE):
        if cache == "on":
            raise UsageError(f"--cache on: {needed}, and {room}; use --cache auto, smaller images or --subset")
        return f"cache: off, {needed}, more than a quarter of what is there: {room}"
    try:
        for pixels in found.values():
            pixels.keep()
    except OSError as error:
        if cache == "on":
            raise UsageError(f"--cache on: {needed}, which cannot be had ({error}); use --cache auto") from None
        return f"cache: off, {needed}, which cannot be had ({error})"
    return f"cache: {n_images:,} images are decoded once and kept in memory, {_in_units(n_bytes)}"


def pixels_of(data_set: Any) -> Pixels | None:
    """The `pixels` of a data set, or of the one that it is a `Subset` of."""
    from torch.utils.data import Subset

    if isinstance(data_set, Subset):
        return pixels_of(data_set.dataset)
    pixels = getattr(data_set, "pixels", None)
    return pixels if isinstance(pixels, Pixels) else None


def available_memory(root: Path = Path("/")) -> int:
    """Bytes that this process may still take: of the machine, and within the limits of its control groups (a container's)."""
    limits: list[int | None] = [_of_machine(root / "proc/meminfo")]
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            home, names = root / "sys/fs/cgroup", ("memory.max", "memory.current")
        elif controllers == "memory":
            home, names = root / "sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        place = home / group.strip("/")
        limits += [_of_group(folder, *names) for folder in (place, *place.parents) if folder.is_relative_to(home)]
    return min(limit for limit in limits if limit is not None)


def _of_machine(meminfo: Path) -> int:
    for line in _lines(meminfo):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # macOS has no /proc


def _of_group(folder: Path, limit_name: str, usage_name: str) -> int | None:
    """What a control group leaves: its limit less what is used, files that the kernel would give back not counted."""
    limit, usage = _lines(folder / limit_name), _lines(folder / usage_name)
    if not limit or not usage or not limit[0].strip().isdigit():
        return None  # no such group here, or no limit ("max")
    counted = {name: int(n) for name, n in (line.split() for line in _lines(folder / "memory.stat"))}
    files = counted.get("inactive_file", 0) + counted.get("active_file", 0)
    return max(0, int(limit[0]) - max(0, int(usage[0]) - files))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _free_cores() -> int:
    """Cores for the threads of this process: all of them, divided among the loader workers in one of these."""
    from torch.utils.data import get_worker_info

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    worker = get_worker_info()
    return max(1, cores // (worker.num_workers if worker else 1))


def _in_units(n_bytes: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{n_bytes / 1000:.0f} kB"
