"""From knobs, data and seed to something that can learn. The same for a new run, a resumed one and a reproduced one."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy
import torch
from torch.utils.data import Subset, TensorDataset

from diva.data.loading import Batches, collate_of, to_device
from diva.data.pixels import keep_in_memory
from diva.data.sampling import part_size, stratified_order
from diva.data.shards import WHOLE, Shards
from diva.errors import DivaError, UsageError, place_of
from diva.experiment.workers import shards_of
from diva.learning.exchange import Alone
from diva.learning.graphs import StepGraphs
from diva.learning.loop import Learner, monitored
from diva.learning.optim import freeze
from diva.learning.task import Data, DataFolder, Split, Task
from diva.learning.weights import start_from

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn
    from torch.utils.data import Dataset

    from diva.experiment.options import RunOptions
    from diva.seeding import Seeds

CHECKED_BATCHES = 2
OVERFIT_EPOCHS, OVERFIT_STEPS, OVERFIT_LOSS = 50, 20, 0.01


def assemble(
    task: Task,
    folder: DataFolder | None,
    seeds: Seeds,
    options: RunOptions,
    device: torch.device,
    weights: Mapping[str, Tensor] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Learner, str]:
    """Load the data, build model, optimizer and schedule from the stream "init"; also what `--load` matched, "" without it.

    `say` is told what becomes of `--cache`, and of `--subset` where the classes are not known.
    """
    task = _shortened(task, options)
    if options.shards > task.batch_size:
        raise UsageError(
            f"--shards {options.shards}: more than --batch-size {task.batch_size}; some would have no sample"
        )
    seeds.reseed("load_data")
    data = _part(task.load_data(folder), options.subset, seeds, say)
    data = _overfitted(data, task, seeds) if options.overfit else data
    data = Data(data.train, data.val, data.test, data.facts, {k: v.to(device) for k, v in data.constants.items()})
    _refuse_empty(data)
    kept = keep_in_memory([data.train, data.val, data.test], options.cache)
    if kept:
        say(kept)
    seeds.reseed("init")
    model = task.build_model(data)
    report = start_from(model, weights, options.load_skip, options.load or "the record") if weights is not None else ""
    model.to(device)
    freeze(model, options.freeze)
    batches = _batches(task, data, seeds, options, device)
    _refuse_hidden_state(model)
    _try_one_batch(task, model, data, device)
    seeds.reseed("init", "optimizer")
    optimizer = task.build_optimizer(model)
    learner = Learner(task, data, model, optimizer, task.build_schedule(optimizer), seeds, batches, device)
    learner.exchange = Alone(Shards(options.shards))
    if options.cuda_graph == "auto" and device.type == "cuda" and options.backend == "exact" and options.shards == 1:
        learner.graphs = partial(StepGraphs, say=say)
    elif options.cuda_graph == "auto":
        say("cuda graph: off, since it takes --device cuda, --backend exact and --shards 1")
    return learner, report


def _shortened(task: Task, options: RunOptions) -> Task:
    if options.check:
        return task.model_copy(update={"epochs": min(1, task.epochs)})
    if options.overfit:
        changes = {"epochs": OVERFIT_EPOCHS, "schedule": "constant", "warmup_epochs": 0, "patience": None}
        return task.model_copy(update=changes)
    return task


def _part(data: Data, asked: str | None, seeds: Seeds, say: Callable[[str], None]) -> Data:
    """The data with a part of the training split, as `--subset` asks, its samples in the order of `stratified_order`."""
    if asked is None:
        return data
    n = len(data.train)  # type: ignore[arg-type]
    size = part_size(asked, n)
    labels = _labels(data.train, n)
    if labels is None:
        say("subset: the training split has no labels, hence drawn without regard to classes")
    chosen = stratified_order(numpy.zeros(n, int) if labels is None else labels, seeds)[:size].tolist()
    own: Callable[[list[int]], Dataset[Any]] | None = getattr(data.train, "subset", None)
    if own is not None:
        train = own(chosen)
    elif type(data.train) is TensorDataset:
        train = TensorDataset(*(tensor[chosen] for tensor in data.train.tensors))
    else:
        train = Subset(data.train, chosen)
    return replace(data, train=train, facts={**data.facts, "subset": {"samples": size, "of": n}})


def _labels(train: Dataset[Any], n: int) -> numpy.ndarray | None:
    """The class of each sample: the data set's `labels`; of tensors in memory, the last one with a whole number per sample."""
    found: Any = getattr(train, "labels", None)
    if found is None and isinstance(train, TensorDataset):
        whole = [t for t in train.tensors if t.ndim == 1 and not (t.is_floating_point() or t.is_complex())]
        found = whole[-1].cpu() if whole else None
    labels = numpy.asarray(() if found is None else found)
    return labels if labels.shape == (n,) else None


def _overfitted(data: Data, task: Task, seeds: Seeds) -> Data:
    """The first batch of the first epoch in place of every split; an epoch repeats it."""
    size = len(data.train)  # type: ignore[arg-type]
    chosen = seeds.order(size, "shuffle", 1)[: task.batch_size].tolist()
    repeated: Subset[Any] = Subset(data.train, chosen * OVERFIT_STEPS)
    once: Subset[Any] = Subset(data.train, chosen)
    return Data(repeated, once, once, data.facts, data.constants)


def _refuse_empty(data: Data) -> None:
    for name in ("train", "val", "test"):
        if len(data.split(name)) == 0:  # type: ignore[arg-type]
            raise UsageError(f"the task's {name} data are empty; every split needs at least one sample")


def _batches(task: Task, data: Data, seeds: Seeds, options: RunOptions, device: torch.device) -> dict[Split, Batches]:
    limit = CHECKED_BATCHES if options.check else None

    def batches(split: Split) -> Batches:
        train = split == "train"
        return Batches(
            data.split(split),
            seeds,
            task.batch_size,
            shuffle=train and not options.overfit,
            drop_last=train and task.drop_last,
            workers=options.workers,
            device=device,
            limit=limit,
            shards=shards_of(options) if train else WHOLE,
        )

    return {"train": batches("train"), "val": batches("val"), "test": batches("test")}


def _try_one_batch(task: Task, model: nn.Module, data: Data, device: torch.device) -> None:
    """The first batch of val through the model in evaluation mode: what does not fit together is found before training."""
    size = min(task.batch_size, len(data.val))  # type: ignore[arg-type]
    batch = to_device(collate_of(data.val)([data.val[i] for i in range(size)]), device)
    model.eval()
    try:
        with torch.no_grad():
            outputs = task.training_step(model, batch, data).outputs
    except (RuntimeError, ValueError) as error:
        if isinstance(error, DivaError) or "deterministic implementation" in str(error):
            raise
        first = str(error).splitlines()[0]
        raise UsageError(f"the model does not take these data: {first} ({place_of(error)})") from error
    own = task.compute_metrics({name: value.cpu() for name, value in outputs.items()}, data) if outputs else {}
    monitored(task, {f"val/{name}": 0.0 for name in ("loss", *own)})


def _refuse_hidden_state(model: nn.Module) -> None:
    """A checkpoint keeps tensors; what a module hides elsewhere would be lost on the way."""
    hidden = [name for name in model.state_dict() if name.endswith("_extra_state")]
    if hidden:
        raise UsageError(f"the model keeps state that is no tensor, {', '.join(hidden[:3])}; register it as a buffer")
