"""One seed -> named, independent, counter-based streams of randomness.

A stream is named by a path such as ("augment", epoch, index). Its key is a hash of the seed and that path, so that adding a stream
moves no other one, and the numbers at a place depend neither on what was drawn before nor on which process draws them.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from diva.errors import UsageError, nearest

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Sequence

    import numpy
    import torch
    from numpy.random import Philox

MAX_SEED = 2**63 - 1
# The first names of diva's streams that can move a result, and what each decides; see docs/reference/streams.md.
STREAMS: Final = {
    "load_data": "what the task draws while it loads data",
    "subset": "which samples --subset keeps",
    "init": "the initial weights",
    "shuffle": "the order of the training samples",
    "balance": "which samples of smaller classes are read once more",
    "augment": "the augmentation of each sample",
    "epoch": "what is drawn at the start of an epoch",
    "step": "dropout, and all else that a step draws",
    "change": "what a task draws while it changes its model",
    "evaluate": "what is drawn while a split is evaluated",
    "metrics": "what is drawn while metrics are computed",
    "calibrate": "what is drawn while constants are chosen on validation",
}


@dataclass(frozen=True)
class Seeds:
    """All randomness of a run: `seed` in [0, 2**63) and a name give a generator.

    others: streams that come from a seed of their own, by the first word of their name: with (("init", 7),) every stream ("init", ...)
    is that of Seeds(7), and all others are those of Seeds(seed).
    """

    seed: int
    others: tuple[tuple[str, int], ...] = ()

    def seed_of(self, *name: str | int) -> int:
        """The seed that the stream `name` comes from."""
        root = str(name[0]).partition(" ")[0] if self.others and name else ""
        return next((seed for other, seed in self.others if other == root), self.seed)

    def key(self, *name: str | int) -> int:
        """The 128-bit key of the stream `name`: BLAKE2b of the JSON list [seed, *name], personalised "diva-stream"."""
        path = json.dumps([self.seed_of(*name), *name], separators=(",", ":")).encode()
        return int.from_bytes(hashlib.blake2b(path, digest_size=16, person=b"diva-stream").digest(), "little")

    def branch(self, *name: str | int) -> Callable[[int], int]:
        """The key of the stream (*name, i) as a function of i: what these names have in common is hashed once."""
        path = json.dumps([self.seed_of(*name), *name], separators=(",", ":")).encode()[:-1]
        shared = hashlib.blake2b(path, digest_size=16, person=b"diva-stream")

        def key(i: int) -> int:
            whole = shared.copy()
            whole.update(b",%d]" % i)
            return int.from_bytes(whole.digest(), "little")

        return key

    def keys(self, n: int, *name: str | int) -> list[int]:
        """The first `n` words of the stream `name`, each in [0, 2**63): one seed per step, made at once."""
        return (self._philox(*name).random_raw(n) >> 1).tolist()  # type: ignore[no-any-return]

    def order(self, n: int, *name: str | int) -> numpy.ndarray:
        """A permutation of range(n), int64 (n,): the stable sort of `n` random words, hence the same in every NumPy."""
        import numpy

        return numpy.argsort(self._philox(*name).random_raw(n), kind="stable").astype(numpy.int64)

    def python(self, *name: str | int) -> random.Random:
        """A generator of Python's for the stream `name`."""
        import random

        return random.Random(self.key(*name))

    def numpy(self, *name: str | int) -> numpy.random.Generator:
        """A NumPy generator (Philox) for the stream `name`."""
        import numpy

        return numpy.random.Generator(self._philox(*name))

    def torch(self, *name: str | int) -> torch.Generator:
        """A torch CPU generator for the stream `name`."""
        import torch

        return torch.Generator().manual_seed(self.key(*name) >> 65)

    def reseed(self, *name: str | int) -> None:
        """Seed the global generators of Python, NumPy and torch (all devices) from the stream `name`."""
        reseeder()(self.key(*name) >> 65)

    def _philox(self, *name: str | int) -> Philox:
        import numpy

        return numpy.random.Philox(key=self.key(*name))


def reseeder() -> Callable[[int], None]:
    """A function that seeds the global generators of Python, NumPy and torch from a key in [0, 2**63); about 7 us a call.

    Layers, dropout, augmentation libraries and even an unshuffled DataLoader draw from them, so every step of a run starts with it.
    CUDA's generators are among them when CUDA has started by now.
    """
    import random

    import numpy
    import torch

    # The module's functions are methods of a hidden instance; asking that one spares each call the wrapping, half of its cost.
    python: Any = getattr(random.seed, "__self__")  # noqa: B009 - typed as a function without one
    state: Any = getattr(numpy.random.rand, "__self__")  # noqa: B009
    seed_python, seed_numpy, seed_torch = (
        super(random.Random, python).seed,
        state.seed,
        torch.default_generator.manual_seed,
    )
    on_gpus = torch.cuda.default_generators if torch.cuda.is_initialized() else ()

    def reseed(key: int) -> None:
        seed_python(key)
        python.gauss_next = None  # the second of a pair of normal numbers, kept for the next call
        seed_numpy(key & 0xFFFFFFFF)
        seed_torch(key)
        for generator in on_gpus:
            generator.manual_seed(key)

    return reseed


@contextmanager
def preserved_generators() -> Iterator[None]:
    """Give the global generators of Python, NumPy and torch back as they were: a run in a notebook disturbs nothing around it."""
    import random

    import numpy
    import torch

    python, state, cpu = random.getstate(), numpy.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        numpy.random.set_state(state)
        torch.set_rng_state(cpu)


def other_seeds(given: Sequence[str], own: Sequence[str] = (), where: str = "--stream") -> tuple[tuple[str, int], ...]:
    """Streams with a seed of their own from texts such as "init=7", as `Seeds.others`, sorted by name.

    own: names that the task has for streams of its own. UsageError for an unknown name, a seed out of range, a name that is there twice.
    """
    found: dict[str, int] = {}
    for text in given:
        name, equals, seed = text.partition("=")
        if not equals or not (seed.isascii() and seed.isdigit()) or int(seed) > MAX_SEED:
            raise UsageError(f"{where} {text}: allowed is NAME=SEED, as init=7, with a seed from 0 to {MAX_SEED}")
        if name not in (*STREAMS, *own):
            raise UsageError(f"{where} {text}: no stream is called {name!r}; {nearest(name, (*STREAMS, *own))}")
        if name in found:
            raise UsageError(f"{where} {text}: the stream {name} is there twice; give it one seed")
        found[name] = int(seed)
    return tuple(sorted(found.items()))


def draw_seed() -> int:
    """A fresh seed from the operating system, short enough to quote: in [0, 2**31)."""
    import secrets

    return secrets.randbelow(2**31)
