"""What the workers of a run tell each other: sums in the order of the shards' tree, and objects. One worker talks to nobody.

The sum over the shards of a batch is a tree over their numbers (`diva.data.shards.tree_nodes`). A worker adds up the nodes that lie
within its own shards; of those sums everyone gets a slice of every one, adds them in the same tree, and the slices are put together.
Hence each number is the same sum in the same order for any number of workers, and each worker sends and receives about twice the
tensor where its shards are one node, as with a power of two of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch

from diva.data.shards import WHOLE, Shards, split_of, tree_nodes
from diva.errors import DivaError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

Node = tuple[int, int]


class LostWorkerError(DivaError):
    """Another worker of the run does not answer any more (exit 1)."""


class Exchange(ABC):
    """How the workers of a run work together; `shards` says who has which part of a batch."""

    shards: Shards

    @abstractmethod
    def total(self, sums: dict[Node, Tensor], filled: int, n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """The sum over the first `filled` shards, the same bits on every worker; (n,).

        sums: the nodes of this worker that are not empty, each (n,), as `Sums` keeps them; they may be overwritten.
        """

    @abstractmethod
    def gather(self, own: Any) -> list[Any]:
        """What each worker has to say, in the order of the workers, tensors in it on the CPU; LostWorkerError."""


@final
@dataclass(frozen=True)
class Alone(Exchange):
    """One worker, which has all shards."""

    shards: Shards = WHOLE

    def total(self, sums: dict[Node, Tensor], filled: int, n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """The sum over the shards."""
        return _root(sums, filled, self.shards.n)

    def gather(self, own: Any) -> list[Any]:
        """What this one says."""
        return [own]


ALONE = Alone()


@final
@dataclass(frozen=True)
class Together(Exchange):
    """Several workers, joined by torch.distributed, whose process group is there already. `device` is where it takes tensors."""

    shards: Shards
    device: torch.device

    def total(self, sums: dict[Node, Tensor], filled: int, n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """The sum over the shards, of all workers."""
        import torch.distributed as dist

        workers, rank = self.shards.workers, self.shards.rank
        nodes = [_nodes(self.shards, r, filled) for r in range(workers)]
        each = -(-n // workers)
        sent = torch.zeros(workers, len(nodes[rank]), each, dtype=dtype, device=self.device)
        for place, node in enumerate(nodes[rank]):
            whole = torch.zeros(workers * each, dtype=dtype, device=self.device)
            whole[:n] = sums[node]
            sent[:, place] = whole.view(workers, each)
        received = torch.empty(sum(map(len, nodes)) * each, dtype=dtype, device=self.device)
        result = torch.empty(workers * each, dtype=dtype, device=self.device)
        with answering():
            taken, given = [len(found) * each for found in nodes], [len(nodes[rank]) * each] * workers
            dist.all_to_all_single(received, sent.view(-1), taken, given)
            flat = [node for found in nodes for node in found]
            slices = dict(zip(flat, received.split(each), strict=True))
            dist.all_gather(list(result.chunk(workers)), _root(slices, filled, self.shards.n).contiguous())
        return result[:n].to(device)

    def gather(self, own: Any) -> list[Any]:
        """What each says, in the order of the workers."""
        import torch.distributed as dist

        said: list[Any] = [None] * self.shards.workers
        with answering():
            dist.all_gather_object(said, own)
        return said


@contextmanager
def answering() -> Iterator[None]:
    """LostWorkerError for what torch.distributed raises when a connection breaks or nobody answers."""
    try:
        yield
    except RuntimeError as error:
        first = " ".join(str(error).splitlines()[0].split()) if str(error) else type(error).__name__
        raise LostWorkerError(
            f"another worker of this run does not answer any more ({first[:120]}); "
            "diva resume RUN continues it at its last whole epoch"
        ) from error


def _nodes(shards: Shards, rank: int, filled: int) -> list[Node]:
    own = shards.of(rank)
    return [node for node in tree_nodes(own.start, own.stop, shards.n) if node[0] < filled]


def _root(sums: dict[Node, Tensor], filled: int, n: int) -> Tensor:
    """The sum at the root from sums at some nodes below it that cover all filled shards."""

    def at(start: int, stop: int) -> Tensor | None:
        if (start, stop) in sums:
            return sums[start, stop]
        if start >= filled:
            return None
        middle = split_of(start, stop)
        left, right = at(start, middle), at(middle, stop)
        return left if left is None or right is None else left.add_(right)

    total = at(0, n)
    assert total is not None, "a batch has at least one sample"
    return total


@final
class Sums:
    """The sums of this worker at the nodes of the tree, each added up as soon as both its children are there.

    Only as many tensors are kept at a time as the tree is deep. `take` gives what `Exchange.total` wants.
    """

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._sums: dict[Node, Tensor] = {}

    def add(self, shard: int, value: Tensor) -> None:
        """Add what a shard gave, (n,); it may be overwritten."""
        sums = self._sums
        sums[shard, shard + 1] = value
        for start, stop in reversed(_way_to(shard, self._shards.n)):
            middle = split_of(start, stop)
            if (start, middle) not in sums or (middle, stop) not in sums:
                return
            sums[start, stop] = sums.pop((start, middle)).add_(sums.pop((middle, stop)))

    def take(self, filled: int) -> dict[Node, Tensor]:
        """The sum of each of this worker's nodes that have one of the first `filled` shards."""
        return {node: _below(self._sums, node, filled) for node in _nodes(self._shards, self._shards.rank, filled)}


def _below(sums: dict[Node, Tensor], node: Node, filled: int) -> Tensor:
    start, stop = node
    if node in sums:
        return sums[node]
    middle = split_of(start, stop)
    left = _below(sums, (start, middle), filled)
    return left if middle >= filled else left.add_(_below(sums, (middle, stop), filled))


def _way_to(shard: int, n: int) -> Sequence[Node]:
    """The inner nodes of the tree over range(n) that hold a leaf, the root first."""
    way, (start, stop) = [], (0, n)
    while stop - start > 1:
        way.append((start, stop))
        middle = split_of(start, stop)
        start, stop = (start, middle) if shard < middle else (middle, stop)
    return way
