"""From the frames of a clip to what the network sees: a fixed number of frames, evenly spaced, as one array."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy
import torch
from torch.utils.data import Dataset

from diva import frame_pixels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor


def choose_frames(n: int, frames: int, stride: int, start: int | None = None) -> list[int]:
    """Which of the n frames of a clip are seen: every `stride`-th from `start`, by default so that they lie in the middle.

    A clip that is too short is seen from its first frame, and its last one is repeated.
    """
    spare = room(n, frames, stride)
    first = spare // 2 if start is None else start
    return [min(first + k * stride, n - 1) for k in range(frames)]


def room(n: int, frames: int, stride: int) -> int:
    """By how many frames the first one that is seen may lie after the first of the clip."""
    return max(0, n - (frames - 1) * stride - 1)


class Clips(Dataset[Any]):
    """One split as (clip, label) pairs: float32 (3, frames, H, W) in [-1, 1], and an int. `--cache` keeps its decoded frames.

    In training (`moving`) the first frame is drawn from torch's global generator; else the frames are those in the middle of the clip.
    """

    def __init__(self, files: Sequence[tuple[Path, ...]], labels: Sequence[int], frames: int, stride: int, size: int, *,
                 moving: bool = False) -> None:  # fmt: skip
        self.files, self.labels, self.frames, self.stride, self.size = files, labels, frames, stride, size
        self.moving = moving
        self.pixels, self.numbers = frame_pixels(files, "RGB", (size, size))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        clips, labels = self.read_batch([index], lambda k: None)
        return clips[0], int(labels[0])

    def read_batch(self, indices: Sequence[int], seed: Callable[[int], None]) -> tuple[Tensor, Tensor]:
        """Clips float32 (B, 3, frames, H, W) and labels (B,). `seed(k)` seeds the generators for the k-th clip."""
        wanted: list[int] = []
        for k, index in enumerate(indices):
            n, start = len(self.numbers[index]), None
            if self.moving:
                seed(k)
                start = int(torch.randint(0, room(n, self.frames, self.stride) + 1, ()))
            wanted += [self.numbers[index][i] for i in choose_frames(n, self.frames, self.stride, start)]
        pixels = self.pixels.read(wanted).reshape(len(indices), self.frames, self.size, self.size, 3)
        clips = numpy.ascontiguousarray(pixels.transpose(0, 4, 1, 2, 3), numpy.float32)
        clips /= numpy.float32(127.5)
        clips -= numpy.float32(1)
        return torch.from_numpy(clips), torch.tensor([self.labels[i] for i in indices])

    def subset(self, indices: Sequence[int]) -> Clips:
        """The data set of these clips, in this order."""
        files, labels = [self.files[i] for i in indices], [self.labels[i] for i in indices]
        return Clips(files, labels, self.frames, self.stride, self.size, moving=self.moving)

    def picture(self, index: int) -> numpy.ndarray:
        """The frame in the middle, for people to look at: uint8 (H, W, 3)."""
        middle: numpy.ndarray = self.strip(index)[self.frames // 2]
        return middle

    def strip(self, index: int) -> numpy.ndarray:
        """The frames that an evaluation sees, for people to look at: uint8 (frames, H, W, 3)."""
        numbers = self.numbers[index]
        return self.pixels.read([numbers[i] for i in choose_frames(len(numbers), self.frames, self.stride)])
