"""Train a sealed run to its end: follow the events, write, save, stop; then test the best model and write the result."""

from __future__ import annotations

import fcntl
import math
import time
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diva.errors import DivaError, RecordError, UsageError
from diva.experiment.activations import ActivationWriter
from diva.experiment.assemble import OVERFIT_LOSS
from diva.experiment.tensor_writer import TensorWriter
from diva.experiment.workers import together
from diva.experiment.writers import (
    BoardWriter,
    ConsoleWriter,
    MetricsWriter,
    TraceWriter,
    Writer,
    diverged,
    is_drawn,
    step_numbers,
)
from diva.kernels import stock
from diva.learning.checkpoints import (
    load_model,
    load_tensors,
    pack_optimizer,
    pack_schedule,
    save_model,
    save_tensors,
    unpack,
)
from diva.learning.digests import digest_model, digest_tensors
from diva.learning.events import EpochEnded, Evaluated, StepEnded, TrainEnded
from diva.learning.loop import Learner, calibrate, evaluate, fit, monitored, renew_optimizer
from diva.learning.task import is_better
from diva.records.files import read_json, sha256_file, write_json
from diva.records.manifest import manifest_digest
from diva.records.run_folder import Journal
from diva.records.trace import START

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from diva.experiment.options import RunOptions
    from diva.learning.task import DataFolder
    from diva.records.run_folder import RunFolder
    from diva.report.console import Console


@dataclass(frozen=True)
class Progress:
    """Where a run stands after a whole epoch; `checkpoints/state.json` in memory. Epoch -1: nothing has happened."""

    epoch: int = -1
    step: int = 0
    best_epoch: int = -1
    best_value: float | None = None
    best_weights: str = ""
    metrics_bytes: int = 0
    trace_bytes: int = 0
    trace_head: str = START
    initial_weights: str = ""


def train(
    run: RunFolder, learner: Learner, options: RunOptions, console: Console, data: DataFolder | None = None
) -> dict[str, Any]:
    """Train from where the checkpoints stand to the end; returns the result, which is also written by the worker that leads.

    data: where the run's other workers find its data. Raises DivaError when the run fails, and lets KeyboardInterrupt through; both
    leave a run that `diva resume` continues.
    """
    started = time.perf_counter()
    if not learner.leads:
        return _train(run, learner, options, console, restore(run, learner), started)
    with locked(run), told(console):
        progress = restore(run, learner)
        stopped = run.path / "stopped.json"
        stopped.unlink(missing_ok=True)
        try:
            with together(run, learner, options, data, console):
                return _train(run, learner, options, console, progress, started)
        except BaseException as error:
            what = "failed" if isinstance(error, Exception) else "interrupted"
            with suppress(OSError):  # a full disk takes no note either
                write_json(stopped, {"status": what, "error": f"{type(error).__name__}: {error}".rstrip(": ")})
            raise


class _Book:
    """Everything that is written of a run while it trains: its journals, and the writers of all kinds."""

    def __init__(
        self, run: RunFolder, learner: Learner, options: RunOptions, console: Console, progress: Progress
    ) -> None:
        self._metrics = Journal(run.metrics_file, progress.metrics_bytes)
        self._trace = Journal(run.trace_file, progress.trace_bytes)
        self._tracer = TraceWriter(self._trace, learner, steps=options.trace == "step", previous=progress.trace_head)
        self.shown = ConsoleWriter(console, learner)
        self.writers: list[Writer] = [MetricsWriter(self._metrics), self._tracer, self.shown]
        board = None
        if options.tensorboard:
            purge_step = None if progress.epoch < 0 else progress.step + 1
            board = BoardWriter(run, learner, console, purge_step=purge_step, figures=not options.overfit)
            self.writers.append(board)
            if progress.epoch < 0:
                board.draw("train", 0, 0, {})
        if options.activations:
            board = None if options.overfit else board
            self.writers.append(ActivationWriter(run, learner, options.activations, board, console))

    def at(self) -> tuple[int, int, str]:
        """Where metrics and trace end by now, in bytes, and the head of the trace."""
        return self._metrics.offset(), self._trace.offset(), self.head

    @property
    def head(self) -> str:
        """The digest of the last entry of the trace."""
        return self._tracer.head


def _train(
    run: RunFolder, learner: Learner, options: RunOptions, console: Console, progress: Progress, started: float
) -> dict[str, Any]:
    book = _Book(run, learner, options, console, progress) if learner.leads else None
    writers = book.writers if book else []
    every = options.log_every or max(1, len(learner.batches["train"]) // 50)
    stop_on_nan = options.on_nan == "stop"
    initial = progress.initial_weights or digest_model(learner.model)
    over, last = _has_stopped(learner, progress), None
    writers.append(TensorWriter(run, learner, steps=options.trace == "step", done=progress.epoch))
    try:
        events = () if over else fit(learner, first_epoch=progress.epoch + 1, step=progress.step)
        for event in events:
            numbers = None
            if type(event) is StepEnded:
                if book:
                    book.shown.advance(event)
                if event.step % every == 0:
                    numbers = step_numbers(learner, event, stop_on_nan=stop_on_nan)
                elif options.trace == "epoch":
                    continue
            for writer in writers:
                writer.write(event, numbers)
            if isinstance(event, TrainEnded) and stop_on_nan:
                _refuse_nan(event)
            if isinstance(event, EpochEnded):
                _refuse_loosened_pins(options)
                progress = _reached(learner, event, progress, initial)
                if book:
                    progress = save(run, learner, progress, book.at())
                last = event
                if _has_stopped(learner, progress) or (options.overfit and _has_learnt(event)):
                    break
        if options.tensorboard or options.activations:
            _draw_last(learner, progress, writers)
        last_weights = digest_model(learner.model)
        tested, scores, chosen = _test_best(run, learner, progress, writers)
        if options.overfit and last is not None and not _has_learnt(last):
            raise _not_learnt(last)
    except ValueError as error:
        if "Expected more than 1 value per channel" in str(error):
            raise _single_sample() from error
        raise
    finally:
        for writer in writers:
            writer.close()
    if book is None:
        return {}
    _tell(console, learner, progress, tested)
    result = {
        "status": "finished",
        "metrics": scores,
        **({"calibration": chosen} if chosen else {}),
        "best_epoch": progress.best_epoch,
        "epochs": progress.epoch,
        "steps": progress.step,
        "seconds": round(time.perf_counter() - started, 3),
        "initial_weights_digest": progress.initial_weights,
        "weights_digest": last_weights,
        "best_weights_digest": digest_model(learner.model),
        "test_outputs_digest": digest_tensors(tested.outputs),
        "trace_digest": book.head,
        "manifest_digest": manifest_digest(run.manifest_file),
    }
    write_json(run.result_file, result)
    return result


def _single_sample() -> UsageError:
    return UsageError(
        "batch norm has only one value per channel to learn from: a batch, as the last of an epoch, or a shard of one has a single sample. "
        "Use --drop-last, another --batch-size, or fewer --shards"
    )


def _tell(console: Console, learner: Learner, progress: Progress, tested: Evaluated) -> None:
    """Say which epoch was tested, with which outcome, and warn where no epoch could be called the best."""
    if progress.best_value is not None and math.isnan(progress.best_value):
        console.warn(
            f"{learner.task.monitor} was not a number in any epoch, so it names no best one; the epoch tested is {progress.best_epoch}. "
            "Choose another metric with --monitor, as val/loss"
        )
    scores = "  ".join(f"{name} {value:.4f}" for name, value in tested.metrics.items())
    console.say(f"best epoch {progress.best_epoch}, tested once:  {scores}")


def _draw_last(learner: Learner, progress: Progress, writers: list[Writer]) -> None:
    """Draw what is drawn after the last epoch where nobody knew that it was the last: training ended before `epochs` were over.

    `val` is evaluated once more, so that a run that was interrupted right before this draws the same.
    """
    if not is_drawn(progress.epoch, learner.task.epochs):
        validated = evaluate(learner, "val", progress.epoch, progress.step)
        for writer in writers:
            if isinstance(writer, (BoardWriter, ActivationWriter)):
                writer.draw_last(validated)


def _test_best(
    run: RunFolder, learner: Learner, progress: Progress, writers: list[Writer]
) -> tuple[Evaluated, dict[str, float], dict[str, Any]]:
    """Test the best model, once; its metrics on val and test, and what its task chose on val, go to the writers and the result."""
    learner.exchange.gather(None)  # by now worker 0 has written the file
    load_model(run.checkpoints / progress.best_weights, learner.model)
    validated = evaluate(learner, "val", progress.best_epoch, progress.step)
    learner, chosen = calibrate(learner, validated.outputs)
    if chosen:
        validated = evaluate(learner, "val", progress.best_epoch, progress.step)
    tested = evaluate(learner, "test", progress.best_epoch, progress.step)
    scores = {**validated.metrics, **tested.metrics}
    for writer in writers:
        if isinstance(writer, BoardWriter):
            writer.follow(learner)
        writer.write(tested, None)
        if isinstance(writer, BoardWriter):
            writer.conclude(scores)
    return tested, scores, {name: value.tolist() for name, value in chosen.items()}


def _refuse_loosened_pins(options: RunOptions) -> None:
    undone = stock.loosened(options.n_threads, tf32=options.tf32)
    if undone:
        raise DivaError(
            f"the task's code changed what keeps bits the same: {', '.join(undone)}; "
            "take the line out of it, --threads and --tf32 are options of the run"
        )


def _has_learnt(event: EpochEnded) -> bool:
    return event.metrics["val/loss"] < OVERFIT_LOSS  # with --overfit, val is the batch that is trained on


def _not_learnt(event: EpochEnded) -> DivaError:
    return DivaError(
        f"one batch was not learnt: its loss is {event.metrics['val/loss']:.4g} after {event.epoch} epochs, "
        f"wanted below {OVERFIT_LOSS}; look for a mistake in the model, the loss or the labels, or raise --lr"
    )


def _has_stopped(learner: Learner, progress: Progress) -> bool:
    """Early stopping: `patience` epochs have passed without a better one."""
    patience = learner.task.patience
    return patience is not None and progress.epoch >= 0 and progress.epoch - progress.best_epoch >= patience


def _refuse_nan(event: TrainEnded) -> None:
    for number, loss in enumerate(event.losses):
        if not math.isfinite(loss):
            raise diverged(event.epoch, event.step - len(event.losses) + number + 1, loss)


def _reached(learner: Learner, event: EpochEnded, before: Progress, initial: str) -> Progress:
    """Where a run stands after a whole epoch, but for what is written of it."""
    value = monitored(learner.task, event.metrics)
    # What was best of a model that has changed since is no measure for what it has become.
    anew = before.best_epoch < 0 or before.best_epoch <= (
        -1 if learner.renewed_after is None else learner.renewed_after
    )
    better = anew or is_better(learner.task.monitor, value, before.best_value)
    weights = _weights_file(event.epoch)
    best = (event.epoch, value, weights) if better else (before.best_epoch, before.best_value, before.best_weights)
    return Progress(event.epoch, event.step, *best, initial_weights=initial)


def _weights_file(epoch: int) -> str:
    return f"epoch-{epoch:04}.safetensors"


def save(run: RunFolder, learner: Learner, reached: Progress, journals: tuple[int, int, str]) -> Progress:
    """Write the checkpoint of a whole epoch. `state.json`, renamed into place, decides which tensor files count."""
    folder = run.checkpoints
    weights, optimizer = _weights_file(reached.epoch), f"epoch-{reached.epoch:04}.optimizer.safetensors"
    state, tensors = pack_optimizer(learner.optimizer)
    save_model(folder / weights, learner.model)
    save_tensors(folder / optimizer, tensors)
    metrics_bytes, trace_bytes, trace_head = journals
    after = replace(reached, metrics_bytes=metrics_bytes, trace_bytes=trace_bytes, trace_head=trace_head)
    files = {name: sha256_file(folder / name) for name in {weights, optimizer, after.best_weights}}
    write_json(
        folder / "state.json",
        {
            "progress": {name: getattr(after, name) for name in Progress.__dataclass_fields__},
            "weights": weights,
            "optimizer": optimizer,
            "optimizer_state": state,
            "schedule": pack_schedule(learner.schedule),
            "renewed_after": learner.renewed_after,
            "trained": trained_parameters(learner.model),
            "files": files,
        },
    )
    for path in folder.glob("epoch-*.safetensors"):
        if path.name not in files:
            path.unlink()
    return after


def restore(run: RunFolder, learner: Learner) -> Progress:
    """Put the learner where the last checkpoint left it; RecordError when a file is not what `state.json` says."""
    path = run.checkpoints / "state.json"
    if not path.exists():
        return Progress()
    state = read_json(path)
    try:
        progress = dict(state["progress"])
        files = dict(state["files"])
    except (KeyError, TypeError):
        raise RecordError(f"{path}: cannot be read; the checkpoint was altered or cut off") from None
    for name, digest in files.items():
        file = run.checkpoints / name
        if not file.is_file() or sha256_file(file) != digest:
            raise RecordError(f"{file}: missing or altered since it was written; the run cannot be resumed")
    load_model(run.checkpoints / state["weights"], learner.model)
    trained = state.get("trained", trained_parameters(learner.model))
    for name, parameter in learner.model.named_parameters():
        parameter.requires_grad_(name in trained)
    if trained_parameters(learner.model) != trained:
        raise RecordError(f"{path}: the task's restructure() does not give the model its parameters in their old order")
    renew_optimizer(learner, state.get("renewed_after"))  # a rebuilt model has other tensors
    learner.optimizer.load_state_dict(
        unpack(state["optimizer_state"], load_tensors(run.checkpoints / state["optimizer"]))
    )
    if learner.schedule is not None:
        learner.schedule.load_state_dict(unpack(state["schedule"], {}))
    if isinstance(progress["best_value"], str):
        progress["best_value"] = float(progress["best_value"])
    return Progress(**progress)


def trained_parameters(model: nn.Module) -> list[str]:
    """The names of the parameters that require a gradient, in the model's order, which is the optimizer's."""
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


@contextmanager
def told(console: Console) -> Iterator[None]:
    """Python's warnings, a task's own among them, go to the console, and with it to the run's log, a line each."""

    def show(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
        place = "" if category is UserWarning else f" ({category.__name__}, {Path(filename).name}:{lineno})"
        console.warn(" ".join(str(message).split()) + place)

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]  # whose last two arguments nobody names
        yield


@contextmanager
def locked(run: RunFolder) -> Iterator[None]:
    """Hold the run: RecordError when another process works on it. The lock goes with the process, however it ends.

    A lock of POSIX, which forked loader workers do not inherit: those of a killed run would hold it for a while.
    """
    run.checkpoints.mkdir(exist_ok=True)
    with (run.checkpoints / "lock").open("a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise RecordError(f"{run.path}: another process is working on this run") from None
        yield


def best_weights(run: RunFolder) -> str:
    """The name of the file in `checkpoints/` that holds the weights of the best epoch."""
    path = run.checkpoints / "state.json"
    if not path.exists():
        raise RecordError(f"{run.path}: has no checkpoint yet")
    return str(read_json(path)["progress"]["best_weights"])
