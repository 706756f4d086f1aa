"""The options of a run that are not a task's knobs: which seed, which data, who computes, what is recorded."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from diva.params import option
from diva.seeding import Seeds, other_seeds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from diva.learning.task import Task

# What tells where things are, who waits for whom, and what is written down; every other option can change bits.
CHANGES_NO_BITS: Final = frozenset({
    "activations", "cache", "code", "cuda_graph", "data", "data_root", "log_every", "output", "tensorboard", "trace", "verify", "workers",
    "workers_per_run",
})  # fmt: skip


@dataclass(frozen=True)
class RunOptions:
    """One declaration each: the flag of `diva run`, the key of a configuration file, the entry in the manifest."""

    seed: int | None = option(None, "seed of all randomness; drawn and recorded when not given")
    stream: tuple[str, ...] = option(
        (), "a stream of randomness from a seed of its own, as init=7: the rest stays as the seed has it"
    )
    data: str | None = option(None, "a data set's name (diva list datasets) or a folder; default: the task's own")
    data_root: Path = option(Path("data"), "where named data sets are kept; also DIVA_DATA")
    output: Path = option(Path("runs"), "where run folders are made; also DIVA_OUTPUT")
    backend: Literal["auto", "exact", "torch"] = option(
        "auto",
        "whose kernels compute; exact: the same bits on every machine; torch: PyTorch's, the same bits on the same "
        "machine and versions; auto: exact on the CPU, torch on a GPU",
    )
    device: str = option("auto", "auto, cpu, cuda or cuda:<number>; auto takes a GPU when there is one")
    threads: int | None = option(
        None, "threads of the CPU kernels; default: all cores with backend exact; 1 with torch, where they change bits"
    )
    tf32: bool = option(False, "let CUDA round to TF32 inside fp32 products")
    cuda_graph: Literal["off", "auto"] = option(
        "off",
        "auto: with backend exact on a GPU, capture a step as a CUDA graph and replay it where the task allows; changes no bits",
    )
    workers: int = option(0, "processes that read data; changes no bits")
    shards: int = option(
        1,
        "parts of every training batch that are computed on their own, batch norm within each; part of the experiment",
    )
    workers_per_run: int = option(
        1, "processes, on GPUs one each, that compute the shards of the run together; divides --shards; changes no bits"
    )
    cache: Literal["auto", "on", "off"] = option(
        "auto",
        "keep decoded images in memory; auto does when they fit into a quarter of what is available; changes no bits",
    )
    subset: str | None = option(
        None,
        "train on so many samples, as 1000, or a share, as 0.1: drawn from the seed, classes in proportion where samples have labels",
    )
    verify: Literal["quick", "deep"] = option(
        "quick", "check of the data's footprint: quick trusts untouched files, deep hashes all"
    )
    code: Literal["auto", "clean", "snapshot"] = option(
        "auto",
        "clean refuses uncommitted changes; snapshot refuses sources too large to keep; auto records what there is",
    )
    load: str | None = option(
        None, "start from the weights of a run's folder, a .safetensors file or a .pth state dict"
    )
    load_skip: tuple[str, ...] = option((), "names of tensors, as fc.*, that --load leaves as initialised")
    freeze: tuple[str, ...] = option((), "names of parameters, as features.*, that are not trained")
    trace: Literal["epoch", "step"] = option("epoch", "how often digests of weights and optimizer are recorded")
    activations: int = option(
        0,
        "record what every layer makes of so many validation samples after epochs 0, 1, 2, 4, 8, ... and the last; "
        "changes no bits",
    )
    log_every: int | None = option(None, "steps between logged batches; default: about 50 logged batches an epoch")
    on_nan: Literal["stop", "continue"] = option("stop", "what to do when the training loss is not finite")
    tensorboard: bool = option(True, "write TensorBoard events and figures")
    check: bool = option(False, "a quick look: two batches of every stage, one epoch")
    overfit: bool = option(False, "train on one batch until its loss is near zero")

    @property
    def n_threads(self) -> int:
        """The number of threads, once it is chosen."""
        assert self.threads is not None
        return self.threads

    def seeds(self, task: type[Task]) -> Seeds:
        """All randomness of a run of `task`, once the seed is chosen; UsageError for a stream that neither diva nor the task has."""
        assert self.seed is not None
        return Seeds(self.seed, other_seeds(self.stream, task.streams))


def changes_no_bits(name: str, *, exact: bool) -> bool:
    """Whether a run has the same bits for any value of this option; under the exact kernels the number of threads is one of them."""
    return name in CHANGES_NO_BITS or (exact and name == "threads")


def as_recorded(options: Mapping[str, Any]) -> dict[str, Any]:
    """All options by name as a manifest holds them; one that an older diva did not have is as if it was not given."""
    unset = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(RunOptions()).items()}
    return {**unset, **options}
