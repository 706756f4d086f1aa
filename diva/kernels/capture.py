"""Randomness in a captured CUDA graph: its kernels read their nonces from memory, which is written anew before each replay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

FIRST_CODE = 1 << 63  # above all nonces, which have 62 bits: code FIRST_CODE + i means word i of the memory
MOST = 65536  # words; one for each call that draws

_taken: int | None = None  # codes given out by the capture that is under way


def code() -> int | None:
    """The next code, in place of a nonce; None when nothing is being captured."""
    global _taken
    if _taken is None:
        return None
    if _taken == MOST:
        raise RuntimeError(f"a captured step draws more than {MOST} times")
    _taken += 1
    return FIRST_CODE + _taken - 1


@contextmanager
def codes(words: Tensor) -> Iterator[list[int]]:
    """Inside, draws take codes that mean places in `words` (int64, MOST long, on the device); the list gets their number at the end."""
    global _taken
    from diva.kernels.library import native

    if _taken is not None:
        raise RuntimeError("two captures at once")
    n: list[int] = []
    native.on(words).cuda_nonces(FIRST_CODE, words.numel(), words.data_ptr())
    _taken = 0
    try:
        yield n
    finally:
        n.append(_taken)
        _taken = None
