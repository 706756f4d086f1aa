"""Random numbers for what is made by rules: integers of one named stream, and circles without a machine's own sine."""

from __future__ import annotations

import hashlib
from typing import Final, final

import numpy

_ONE: Final = 1 << 60
_TURN: Final = 7244019458077122842  # 2 pi in units of 2 ** -60, rounded


@final
class Stream:
    """Integers from the raw output of Philox, keyed by a name: the same on every machine and for every version of NumPy."""

    def __init__(self, name: str) -> None:
        key = numpy.frombuffer(hashlib.sha256(name.encode()).digest()[:16], "<u8")
        self._bits = numpy.random.Philox(key=key)

    def below(self, n: int) -> int:
        """An integer in [0, n); n is at most 2 ** 31, so the bias of the remainder is below 2 ** -32."""
        return int(self._bits.random_raw()) % n

    def between(self, low: int, high: int) -> int:
        """An integer in [low, high]."""
        return low + self.below(high - low + 1)

    def uniform(self) -> float:
        """A multiple of 2 ** -24 in [0, 1)."""
        return self.below(1 << 24) / (1 << 24)

    def normal(self) -> float:
        """About normal, mean 0 and standard deviation 1: the sum of twelve uniform numbers, exact in binary."""
        return sum(self.uniform() for _ in range(12)) - 6.0

    def grid(self, *shape: int) -> numpy.ndarray:
        """Bytes, uint8 of this shape."""
        n = int(numpy.prod(shape))
        raw = self._bits.random_raw(-(-n // 8)).astype("<u8").view(numpy.uint8)
        return raw[:n].reshape(shape)


def circle(turns: float) -> tuple[float, float]:
    """Cosine and sine of an angle given in turns, from its series in whole numbers; the C libraries' own differ in their last bits."""
    angle = int((turns % 1.0) * (1 << 24)) * _TURN >> 24
    cosine, sine, term = 0, 0, _ONE
    for k in range(60):
        sign = -1 if k // 2 % 2 else 1
        if k % 2:
            sine += sign * term
        else:
            cosine += sign * term
        term = term * angle // (_ONE * (k + 1))
    return cosine / _ONE, sine / _ONE
