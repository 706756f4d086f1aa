"""The task contract: fields are knobs and nouns, methods are verbs.

A task is one experiment's science: which data, which model, what a step computes, what is measured and drawn. The loop (`loop.py`) and
the record of what happened live elsewhere and are the same for every task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler
    from torch.utils.data import Dataset

    from diva.learning.drawings import Drawing

Split = Literal["train", "val", "test"]
Outputs = Mapping[str, "Tensor"]
Change = Literal["go on", "changed", "finished"]


@dataclass(frozen=True)
class DataFolder:
    """A verified data set on disk: what `load_data` reads. `digest` is its footprint's, "sha256:<hex>"."""

    name: str
    path: Path
    digest: str
    statistics_file: Path


@dataclass(frozen=True)
class Data:
    """Three data sets, the facts about them that JSON can hold, and constants that `training_step` needs on the device.

    Each data set has `__len__` and `__getitem__(i)`; whatever randomness `__getitem__` draws from the global generators of Python,
    NumPy or torch is a pure function of (seed, epoch, i). A `torch.utils.data.TensorDataset` is read a batch at a time. What else a data
    set may have, none of which it needs: `collate`, `read_batch`, `pixels`, `labels`, `subset`, `epoch_order` (docs/how-to/loading.md).
    """

    train: Dataset[Any]
    val: Dataset[Any]
    test: Dataset[Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, Tensor] = field(default_factory=dict)

    def split(self, name: Split) -> Dataset[Any]:
        """The data set called `name`."""
        return {"train": self.train, "val": self.val, "test": self.test}[name]


@dataclass(frozen=True)
class Unseen:
    """Samples that a finished run is applied to, in the order of their names' bytes: what `read_unseen` returns.

    samples: gives the batches that `predict` takes. names: of each sample, a POSIX path within the folder. labels: the name of the class
    of each sample, "" where it is not known, a tuple of names where there can be several; () where none is. What else `samples` may
    have: `views(n)`, the (name, data set) of each of n views of the same samples, for `--crops`; `picture(i)`, uint8 (H, W) or
    (H, W, 3), for people to look at.
    """

    samples: Dataset[Any]
    names: Sequence[str]
    labels: Sequence[str | tuple[str, ...]] = ()


class Step(NamedTuple):
    """What one step gives: the mean loss of the batch, a scalar, and what the metrics need, each (B, ...), detached by the loop."""

    loss: Tensor
    outputs: Outputs = MappingProxyType({})


class Task(BaseModel, ABC):
    """Knobs of every experiment, and the verbs a task defines. Subclass it, add knobs, implement the abstract methods."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, ser_json_inf_nan="strings"
    )

    default_data: ClassVar[str | None] = None
    """Name of the data set used when `--data` is not given."""

    draws_every_epoch: ClassVar[bool] = False
    """Whether figures are drawn after every epoch, not only after 0, 1, 2, 4, 8, ... and the last."""

    animations: ClassVar[tuple[str, ...]] = ()
    """Names of pictures of "val" that are shown one after the other, as an animated GIF, when the run has ended."""

    streams: ClassVar[tuple[str, ...]] = ()
    """First names of the task's own streams, so that `--stream NAME=SEED` takes them as it takes diva's."""

    epochs: int = Field(20, ge=0, description="passes over the training data")
    batch_size: int = Field(64, ge=1, description="samples per step")
    drop_last: bool = Field(False, description="skip the last training batch of an epoch when it is short")
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop"] = Field(
        "adam", description="the optimizer, as in torch.optim"
    )
    lr: float = Field(1e-3, gt=0, description="step size")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of sgd and rmsprop")
    nesterov: bool = Field(False, description="Nesterov's momentum, for sgd")
    beta1: float = Field(0.9, ge=0, lt=1, description="decay of the first moment, for adam and adamw")
    beta2: float = Field(
        0.999, ge=0, lt=1, description="decay of the second moment, for adam, adamw and rmsprop (alpha)"
    )
    eps: float = Field(1e-8, gt=0, description="added to the denominator by adam, adamw and rmsprop")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty; decoupled for adamw")
    clip_norm: float | None = Field(None, gt=0, description="largest norm of the gradient of all parameters")
    schedule: Literal["constant", "step", "multistep", "exponential", "cosine", "plateau"] = Field(
        "constant", description="how lr changes from epoch to epoch, as in torch.optim.lr_scheduler"
    )
    gamma: float = Field(
        0.1, gt=0, description="factor of lr in the schedules step, multistep, exponential and plateau"
    )
    step_epochs: int = Field(
        10, ge=1, description="epochs between changes of lr, for step; epochs without progress, for plateau"
    )
    milestones: tuple[int, ...] = Field((), description="epochs after which lr changes, for multistep: 30,60")
    warmup_epochs: int = Field(0, ge=0, description="epochs over which lr grows linearly to its value")
    patience: int | None = Field(None, ge=1, description="stop after so many epochs without a better monitored metric")
    monitor: str = Field(
        "val/loss", description="metric that names the best epoch: less is better for loss and error, else more"
    )
    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16 is automatic mixed precision")

    @abstractmethod
    def load_data(self, folder: DataFolder | None) -> Data:
        """Read the data; DataError for what a user can mend. `folder` is None only where `default_data` is and --data was not given."""

    @abstractmethod
    def build_model(self, data: Data) -> nn.Module:
        """A freshly initialised model; the global generators are seeded from the stream "init"."""

    def build_optimizer(self, model: nn.Module) -> Optimizer:
        """The optimizer over the parameters that require a gradient."""
        from diva.learning.optim import build_optimizer

        return build_optimizer(self, model)

    def build_schedule(self, optimizer: Optimizer) -> LRScheduler | None:
        """The schedule of lr, stepped after each epoch; None when lr stays."""
        from diva.learning.optim import build_schedule

        return build_schedule(self, optimizer)

    @abstractmethod
    def training_step(self, model: nn.Module, batch: Any, data: Data) -> Step:
        """Loss and outputs of one batch. Also called to evaluate, with `model.training` False and gradients off."""

    def end_epoch(self, model: nn.Module, evaluate: Callable[[Split], Outputs], data: Data, epoch: int) -> Change:
        """Between `epoch`, whole and saved, and the next: for models that grow, shrink or thaw while they learn.

        "changed": parameters were added, removed, frozen or thawed; optimizer and schedule are built anew. "finished": training ends, the
        model being as it was; `epochs` is the upper bound. What this draws comes from a stream of its own.
        evaluate: outputs of a split in evaluation mode, without gradients, in the order of the data set.
        A model whose parameters are not those of `build_model` any more has `structure` and `restructure` (`checkpoints.Restructurable`).
        """
        return "go on"

    def compute_metrics(self, outputs: Outputs, data: Data) -> dict[str, float]:
        """Metrics of a batch or a split from its outputs, each (n, ...) on the CPU; names without the split: {"accuracy": 0.98}."""
        return {}

    def calibrate(self, outputs: Outputs, data: Data) -> Mapping[str, Tensor]:
        """Constants chosen on the outputs of val of the best model, such as thresholds; they join `data.constants` before val and test
        are measured and drawn for the last time, and `result.json` keeps them under `calibration`. A pure function: {} for none.
        """
        return {}

    def draw_figures(
        self, model: nn.Module, outputs: Outputs, data: Data, split: Split
    ) -> Iterator[tuple[str, Drawing]]:
        """Named figures, Markdown and other drawings of an evaluated split; for "train", before training, of the data (no outputs).

        `model` is in evaluation mode, with gradients off.
        """
        yield from ()

    def read_unseen(self, folder: Path, data: Data) -> Unseen:
        """Samples to apply a finished run to, read as its own were: with what `data.facts` say, and nothing computed from `folder`."""
        raise NotImplementedError

    def predict(self, model: nn.Module, batch: Any, data: Data) -> Outputs:
        """What the model says of a batch of unseen samples, each (B, ...); in evaluation mode, with gradients off.

        `probabilities` (B, C), of `data.facts["classes"]`; `features` (B, D), where the task has better ones than the input of the last
        linear layer; `chosen` (B, C), bool, where several classes can be predicted; others are kept under their names. The data sets are
        not there, nor `data.constants` but for those that `calibrate` chose.
        """
        raise NotImplementedError


def less_is_better(metric: str) -> bool:
    """Whether smaller values of a metric are better: of those whose name ends in loss or error."""
    return metric.endswith(("loss", "error"))


def is_better(monitor: str, value: float, best: float | None) -> bool:
    """Whether `value` of the metric `monitor` beats `best`: strictly, so the first of equals stays; NaN never does."""
    if value != value:
        return False
    if best is None or best != best:
        return True
    return value < best if less_is_better(monitor) else value > best
