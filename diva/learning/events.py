"""What the loop says: frozen facts. Whoever iterates over them logs, saves or stops; nothing flows back."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy
    from torch import Tensor

    from diva.learning.task import Outputs, Split


class StepEnded(NamedTuple):
    """One optimizer step: `step` counts from 1 over the whole run; `loss` is a detached scalar; `outputs` are those of the batch.

    Where several workers share the batch, `outputs` are those of this worker's part.
    """

    epoch: int
    step: int
    loss: Tensor
    outputs: Outputs


class TrainEnded(NamedTuple):
    """One pass over the training data: the order it took, the loss of each step, and the metrics over all its steps."""

    epoch: int
    step: int
    order: numpy.ndarray
    losses: list[float]
    metrics: Mapping[str, float]
    lr: float


class Evaluated(NamedTuple):
    """A split, evaluated: metrics with their split's name, and all outputs in the data set's order, on the CPU."""

    split: Split
    epoch: int
    step: int
    metrics: Mapping[str, float]
    outputs: Outputs


class EpochEnded(NamedTuple):
    """An epoch is whole: the state of model, optimizer and schedule is now what the next epoch, or a resumed run, starts from."""

    epoch: int
    step: int
    metrics: Mapping[str, float]


class ModelChanged(NamedTuple):
    """The task changed its model after `epoch`; optimizer and schedule are new. Nothing is saved before the next epoch is whole."""

    epoch: int
    step: int


Event = StepEnded | TrainEnded | Evaluated | EpochEnded | ModelChanged
