"""Batches of a few classes with several images each, so that every image meets others of its class and of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy
from torch.utils.data import Dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from diva import Images, Pixels, Seeds


class ClassBatches(Dataset[tuple["Tensor", "Tensor"]]):
    """Images of which an epoch reads runs of `n_images` of one class: a batch of P x `n_images` has P classes.

    Every image is read in an epoch. A class that the runs do not divide is filled up with images of it that are read twice, augmented
    afresh.
    """

    def __init__(self, images: Images, n_images: int) -> None:
        self.images, self.n_images = images, n_images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index]

    def read_batch(self, indices: Sequence[int], seed: Callable[[int], None]) -> tuple[Tensor, Tensor]:
        """Images float32 (B, C, H, W) and labels int64 (B,)."""
        return self.images.read_batch(indices, seed)

    @property
    def pixels(self) -> Pixels:
        """What `--cache` keeps in memory."""
        return self.images.pixels

    @property
    def labels(self) -> Sequence[int]:
        """The class of each image."""
        return [int(label) for label in self.images.labels]

    def subset(self, indices: Sequence[int]) -> ClassBatches:
        """The data set of these images, in this order."""
        return ClassBatches(self.images.subset(indices), self.n_images)

    def epoch_order(self, seeds: Seeds, epoch: int) -> numpy.ndarray:
        """The images of an epoch, int64; the number i + k n is the k-th repetition of image i.

        The runs of a class are spread over the epoch: the j-th of m lies at (j + u) / m, u drawn for each. Hence a batch has few runs of
        one class, whatever the sizes of classes, and other company each time.
        """
        labels = numpy.asarray(self.labels)
        n, size = len(labels), self.n_images
        runs: list[tuple[float, int, numpy.ndarray]] = []
        for label in numpy.unique(labels).tolist():
            members = numpy.flatnonzero(labels == label)
            shuffled = members[seeds.order(len(members), "shuffle", epoch, label)]
            n_runs = -(-len(members) // size)
            again = numpy.arange(n_runs * size)
            order = shuffled[again % len(members)] + again // len(members) * n
            drawn = seeds.numpy("deal", epoch, label).random(n_runs).tolist()
            runs += [((j + u) / n_runs, label, order[j * size : (j + 1) * size]) for j, u in enumerate(drawn)]
        whole: numpy.ndarray = numpy.concatenate([run for _, _, run in sorted(runs, key=lambda run: run[:2])])
        return whole.astype(numpy.int64)
