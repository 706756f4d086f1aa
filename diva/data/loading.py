"""Batches: the same samples in the same order with the same augmentation, for any number of loader workers.

Before a sample is read, the global generators of Python, NumPy and torch are seeded from the stream ("augment", epoch, index); so any
augmentation library becomes a pure function of (seed, epoch, index).

A data set that knows a faster way may have `read_batch(indices, seed)`: it returns the batch of these samples, and calls `seed(k)` before
it draws anything for the k-th of them. `seed(k)` does what is done before a sample is read; samples that draw nothing need no call.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy
import torch
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, default_collate

from diva.data.shards import WHOLE, Shards
from diva.errors import DivaError
from diva.seeding import Seeds, reseeder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType


class Batches:
    """The batches of one split. `shuffle` draws a new order for each epoch from the stream ("shuffle", epoch).

    `limit` is the largest number of batches an epoch has (None: all). `shards` are what `sharded` cuts batches into.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        seeds: Seeds,
        batch_size: int,
        *,
        shuffle: bool = False,
        drop_last: bool = False,
        workers: int = 0,
        device: torch.device | None = None,
        limit: int | None = None,
        shards: Shards = WHOLE,
    ) -> None:
        self.dataset, self.seeds, self.batch_size = dataset, seeds, batch_size
        self.shuffle, self.device, self.workers, self.limit = shuffle, device or torch.device("cpu"), workers, limit
        self.shards = shards
        self._order: tuple[int, numpy.ndarray] | None = None
        n = len(self._whole_order(1) if hasattr(dataset, "epoch_order") else dataset)  # type: ignore[arg-type]
        sizes = [min(batch_size, n - start) for start in range(0, n, batch_size)]
        if drop_last and len(sizes) > 1 and sizes[-1] < batch_size:
            sizes.pop()
        self._sizes = sizes[:limit]
        self._loader: DataLoader[Any] | None = None
        self._queue: list[Any] = []

    def __len__(self) -> int:
        return len(self._sizes)

    def in_order(self) -> Batches:
        """The same samples, each once and in the order of the data set, also the last ones that `drop_last` skips."""
        if not self.shuffle:
            return self
        return Batches(
            self.dataset, self.seeds, self.batch_size, workers=self.workers, device=self.device, limit=self.limit
        )

    def sizes(self) -> list[int]:
        """Number of samples in each batch of an epoch."""
        return self._sizes

    def order(self, epoch: int) -> numpy.ndarray:
        """Indices of the samples of an epoch in the order in which they are read, int64 (n,).

        From a data set of n samples with an `epoch_order` of its own, the index i + k n is the k-th repetition of sample i.
        """
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, self._whole_order(epoch)[: sum(self._sizes)]
        return self._order[1]

    def _whole_order(self, epoch: int) -> numpy.ndarray:
        n = len(self.dataset)  # type: ignore[arg-type]
        if not self.shuffle:
            return numpy.arange(n)
        own: Callable[[Seeds, int], numpy.ndarray] | None = getattr(self.dataset, "epoch_order", None)
        return own(self.seeds, epoch) if own else self.seeds.order(n, "shuffle", epoch)

    def epoch(self, epoch: int, which: slice = slice(None)) -> Iterator[Any]:
        """The batches of an epoch, or those of them that are wanted, on the device."""
        return self._on_device(self._read(epoch, self._indices(epoch)[which]))

    def sharded(self, epoch: int) -> Iterator[list[tuple[int, Any]]]:
        """For each batch of an epoch this worker's shards that are not empty, each a batch of its own: (shard, samples)."""
        cuts = [self.shards.cut(size) for size in self._sizes]
        indices = [batch[part] for batch, cut in zip(self._indices(epoch), cuts, strict=True) for _, part in cut]
        parts = self._on_device(self._read(epoch, indices))
        return ([(shard, next(parts)) for shard, _ in cut] for cut in cuts)

    def _on_device(self, batches: Iterator[Any]) -> Iterator[Any]:
        return batches if self.device.type == "cpu" else (to_device(batch, self.device) for batch in batches)

    def _indices(self, epoch: int) -> Sequence[torch.Tensor]:
        indices: Sequence[torch.Tensor] = torch.from_numpy(self.order(epoch)).split(self._sizes)
        return indices

    def _read(self, epoch: int, indices: Sequence[torch.Tensor]) -> Iterator[Any]:
        if type(self.dataset) is TensorDataset:  # a subclass may read its samples otherwise
            tensors = self.dataset.tensors
            return ([t.index_select(0, i) for t in tensors] for i in indices)
        parts = [(epoch, batch.tolist()) for batch in indices]
        if self.workers == 0:
            read = _Reader(self.dataset, self.seeds)
            return (read.batch(*part) for part in parts)
        self._queue[:] = parts
        return (_checked(batch) for batch in self._workers())

    def _workers(self) -> DataLoader[Any]:
        """One pool of worker processes for all epochs; it reads whatever list of batches stands in the queue."""
        if self._loader is None:
            self._loader = DataLoader(
                _Reader(self.dataset, self.seeds),
                batch_sampler=self._queue,
                num_workers=self.workers,
                collate_fn=_as_it_is,
                pin_memory=self.device.type == "cuda",
                worker_init_fn=_start_worker,
                multiprocessing_context="fork",  # tasks are loaded by path: a spawned worker could not import them
                persistent_workers=True,
                generator=torch.Generator(),
            )
        return self._loader


class _Reader(Dataset[Any]):
    """The batches of a data set, addressed by (epoch, indices), the randomness of each sample seeded from (epoch, index)."""

    def __init__(self, dataset: Dataset[Any], seeds: Seeds) -> None:
        self.dataset, self.seeds = dataset, seeds

    def batch(self, epoch: int, indices: list[int]) -> Any:
        """A batch. An index beyond the data set is a repetition: the sample is found by what is left after division by n."""
        n, reseed, key = len(self.dataset), reseeder(), self.seeds.branch("augment", epoch)  # type: ignore[arg-type]

        def seed(k: int) -> None:
            reseed(key(indices[k]) >> 65)

        return _read_batch(self.dataset, [index % n for index in indices], seed)

    def __getitems__(self, part: tuple[int, list[int]]) -> Any:
        """What a worker sends: a batch, or an error that a user can mend."""
        try:
            return self.batch(*part)
        except DivaError as error:
            return _Refusal(error)


def _read_batch(dataset: Dataset[Any], indices: list[int], seed: Callable[[int], None]) -> Any:
    """The batch of these samples: the data set's own `read_batch`, else sample by sample."""
    if type(dataset) is Subset:  # a subclass may read its samples otherwise
        return _read_batch(dataset.dataset, [dataset.indices[i] for i in indices], seed)
    own: Callable[[list[int], Callable[[int], None]], Any] | None = getattr(dataset, "read_batch", None)
    if own is not None:
        return own(indices, seed)
    samples = []
    for k, index in enumerate(indices):
        seed(k)
        samples.append(dataset[index])
    return collate_of(dataset)(samples)


class _Refusal:
    """An error on its way from a worker: raised there, torch would wrap it into a page of traceback."""

    def __init__(self, error: DivaError) -> None:
        self.error = error


def _as_it_is(batch: Any) -> Any:
    return batch


def _checked(batch: Any) -> Any:
    if isinstance(batch, _Refusal):
        raise batch.error
    return batch


def _start_worker(worker: int) -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # and a worker that is told to end ends, without a word
    sys.excepthook = _but_for_a_lost_connection
    torch.set_num_threads(1)


def _but_for_a_lost_connection(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Report as Python does, unless the main process ended while the thread that hands out tensors was serving it."""
    if not issubclass(kind, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, trace)


def collate_of(dataset: Dataset[Any]) -> Callable[[Sequence[Any]], Any]:
    """How samples become a batch: the data set's own `collate`, else torch's."""
    if isinstance(dataset, Subset):
        return collate_of(dataset.dataset)
    collate: Callable[[Any], Any] = getattr(dataset, "collate", default_collate)
    return collate


def to_device(batch: Any, device: torch.device) -> Any:
    """The same nest of tuples, lists and dicts with its tensors on the device."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(to_device(value, device) for value in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(to_device(value, device) for value in batch)
    return batch
