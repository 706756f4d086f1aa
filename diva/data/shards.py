"""Virtual shards: the fixed parts of a batch that the bits of a run follow from, however many workers compute them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shards:
    """Every training batch is cut into `n` shards; worker `rank` of `workers` computes `n / workers` of them, in a row.

    `n` is part of the experiment, `workers` is not: `workers` divides `n`, and every number is the same for all that do.
    """

    n: int = 1
    workers: int = 1
    rank: int = 0

    @property
    def own(self) -> range:
        """The shards of this worker."""
        return self.of(self.rank)

    def of(self, rank: int) -> range:
        """The shards of worker `rank`."""
        each = self.n // self.workers
        return range(rank * each, (rank + 1) * each)

    def sizes(self, n_samples: int) -> list[int]:
        """Number of samples in each shard of a batch, in the order of the batch: as equal as can be, the larger ones first.

        A batch of fewer samples than shards leaves the last ones empty.
        """
        each, left = divmod(n_samples, self.n)
        return [each + (shard < left) for shard in range(self.n)]

    def cut(self, n_samples: int) -> list[tuple[int, slice]]:
        """This worker's shards of a batch that are not empty, and where in the batch their samples are."""
        sizes = self.sizes(n_samples)
        starts = [sum(sizes[:shard]) for shard in self.own]
        return [(s, slice(start, start + sizes[s])) for s, start in zip(self.own, starts, strict=True) if sizes[s]]


WHOLE = Shards()


def tree_nodes(first: int, last: int, n: int) -> list[tuple[int, int]]:
    """The largest nodes of the tree over range(n) that lie within range(first, last), from left to right, as (start, stop).

    The tree adds neighbours in pairs: the left child of a node of m leaves is the largest power of two below m, the right one the rest.
    """

    def within(start: int, stop: int) -> list[tuple[int, int]]:
        if first <= start and stop <= last:
            return [(start, stop)]
        if stop <= first or last <= start:
            return []
        middle = split_of(start, stop)
        return within(start, middle) + within(middle, stop)

    return within(0, n)


def split_of(start: int, stop: int) -> int:
    """Where the node (start, stop) of the tree parts into its two children; it has two leaves at least."""
    return int(start + (1 << (stop - start - 1).bit_length() - 1))
