"""What is done with the loop's events: rows, trace, TensorBoard, figures, console. Writers read events; they never steer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

import numpy
import torch

from diva.errors import DivaError, place_of
from diva.learning.digests import digest_losses, digest_model, digest_optimizer, digest_order
from diva.learning.drawings import Animation, Embedding, Histogram, Picture, Table
from diva.learning.events import EpochEnded, Evaluated, Event, ModelChanged, StepEnded, TrainEnded
from diva.learning.sharded import outputs_of_all
from diva.records.trace import START, entry
from diva.report.animation import epoch_frames
from diva.report.pictures import gif_of, png_of
from diva.report.projector import write_embedding
from diva.report.style import png
from diva.report.tables import csv_of, markdown_table
from diva.report.tensorboard import TensorBoardWriter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from diva.learning.drawings import Drawing
    from diva.learning.loop import Learner
    from diva.learning.task import Split
    from diva.records.run_folder import Journal, RunFolder
    from diva.report.console import Console


class Writer(Protocol):
    """Anything that takes events; `numbers` are the values of a logged step, None where it is not logged."""

    def write(self, event: Event, numbers: Mapping[str, float] | None) -> None:
        """Take one event."""

    def close(self) -> None:
        """Write out what is held back."""


SECONDS_PER_EPOCH = 0.2  # of an animation
SHOWN_ROWS = 100


def is_drawn(epoch: int, last: int) -> bool:
    """Whether figures and histograms are made after this epoch: 0, 1, 2, 4, 8, ... and the last, since each costs 0.1 s."""
    return epoch & (epoch - 1) == 0 or epoch == last


class MetricsWriter:
    """`metrics.jsonl`: a row per number, without times, so that equal runs give equal files."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def write(self, event: Event, numbers: Mapping[str, float] | None) -> None:
        """Rows of a logged step, and of every evaluated split."""
        match event:
            case StepEnded() if numbers is not None:
                self._rows("step", event.epoch, event.step, numbers)
            case TrainEnded():
                self._rows("epoch", event.epoch, event.step, {**event.metrics, "optimizer/lr": event.lr})
            case Evaluated():
                self._rows("epoch", event.epoch, event.step, event.metrics)

    def _rows(self, per: str, epoch: int, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            number: Any = value if abs(value) < float("inf") else str(value)  # JSON has neither NaN nor infinities
            self._journal.write({"per": per, "epoch": epoch, "step": step, "name": name, "value": number})

    def close(self) -> None:
        """Write out and close."""
        self._journal.close()


class TraceWriter:
    """`trace.jsonl`: an entry per epoch, and per step when `steps` is asked for, each chained to the one before."""

    def __init__(self, journal: Journal, learner: Learner, *, steps: bool, previous: str = START) -> None:
        self._journal, self._learner, self._steps = journal, learner, steps
        self._trained: TrainEnded | None = None
        self._taken = 0  # samples of this epoch that the steps so far have read
        self._steps_done = 0
        self.head = previous

    def write(self, event: Event, numbers: Mapping[str, float] | None) -> None:
        """Chain the digests of a step or a whole epoch."""
        if isinstance(event, StepEnded):
            if self._steps:
                self._step(event)
        elif isinstance(event, TrainEnded):
            self._trained = event
        elif isinstance(event, EpochEnded):
            self._epoch(event)

    def _step(self, event: StepEnded) -> None:
        batches = self._learner.batches["train"]
        size = batches.sizes()[self._steps_done]
        order = batches.order(event.epoch)[self._taken : self._taken + size]
        self._taken, self._steps_done = self._taken + size, self._steps_done + 1
        self._append(event.epoch, event.step, order=digest_order(order), losses=digest_losses([float(event.loss)]))

    def _epoch(self, event: EpochEnded) -> None:
        trained, self._trained, self._taken, self._steps_done = self._trained, None, 0, 0
        learnt = {"order": digest_order(trained.order), "losses": digest_losses(trained.losses)} if trained else {}
        values = [event.metrics[name] for name in sorted(event.metrics)]
        self._append(event.epoch, event.step, **learnt, metrics=digest_losses(values))

    def _append(self, epoch: int, step: int, **digests: str) -> None:
        learner = self._learner
        state = {"weights": digest_model(learner.model), "optimizer": digest_optimizer(learner.optimizer)}
        row = entry(self.head, {"epoch": epoch, "step": step, **state, **digests})
        self._journal.write(row)
        self.head = row["digest"]

    def close(self) -> None:
        """Write out and close."""
        self._journal.close()


class BoardWriter:
    """TensorBoard, and every picture as PNG too."""

    def __init__(
        self, run: RunFolder, learner: Learner, console: Console, *, purge_step: int | None = None, figures: bool = True
    ) -> None:
        self._run, self._learner, self._console, self._figures = run, learner, console, figures
        self._board = TensorBoardWriter(run.tensorboard, purge_step)
        self._since = time.perf_counter()
        self.conclude({})

    def write(self, event: Event, numbers: Mapping[str, float] | None) -> None:
        """Scalars at once; figures and histograms after some epochs."""
        match event:
            case StepEnded():
                if numbers is not None:
                    self._board.scalars(numbers, event.step)
            case TrainEnded():
                seconds = time.perf_counter() - self._since
                speed = {"time/epoch_s": seconds, "time/samples_per_s": len(event.order) / seconds}
                self._board.scalars({**event.metrics, "optimizer/lr": event.lr, **speed}, event.step)
                self._board.flush()  # before validation, which may be long and silent
            case Evaluated():
                self._board.scalars(event.metrics, event.step)
                task = self._learner.task
                if event.split == "test" or task.draws_every_epoch or is_drawn(event.epoch, task.epochs):
                    self.draw(event.split, event.epoch, event.step, event.outputs)
                if event.split == "test":
                    self._animate(event)
            case EpochEnded():
                if self._learner.task.draws_every_epoch or is_drawn(event.epoch, self._learner.task.epochs):
                    self._histograms(event)
                self._board.flush()
                self._since = time.perf_counter()

    def draw_last(self, event: Evaluated) -> None:
        """Figures and histograms of the last epoch, where `write` did not know that it was the last."""
        if not self._learner.task.draws_every_epoch:
            self.draw(event.split, event.epoch, event.step, event.outputs)
            self._histograms(event)

    def follow(self, learner: Learner) -> None:
        """Draw with the constants of this learner from now on."""
        self._learner = learner

    def draw(self, split: Split, epoch: int, step: int, outputs: Mapping[str, Any]) -> None:
        """The task's figures and texts of a split, to TensorBoard and to files. A mistake in drawing them costs a warning, no run."""
        if not self._figures:
            return
        self._learner.seeds.reseed("figures", split, epoch)
        self._learner.model.eval()
        self._run.figures.mkdir(exist_ok=True)
        try:
            with torch.no_grad():
                for name, drawn in self._learner.task.draw_figures(
                    self._learner.model, outputs, self._learner.data, split
                ):
                    self.keep(name, drawn, split, epoch, step)
        except OSError:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {error} ({place_of(error)})"
            self._console.warn(f"figures of {split} after epoch {epoch} were not drawn: {what}")

    def keep(self, name: str, drawn: Drawing, split: Split, epoch: int, step: int) -> None:
        """Put a drawing into TensorBoard and, as a file that anything opens, into `figures/`."""
        board, tag = self._board, f"{split}/{name}"
        stem = f"{split}_{name}" if split in ("train", "test") else f"{split}_{name}_epoch{epoch:04}"
        file = self._run.figures / stem
        match drawn:
            case str():
                board.text(tag, drawn, step)
                file.with_name(f"{stem}.md").write_text(drawn + "\n", encoding="utf-8")
            case Animation():
                gif = gif_of(drawn.frames, drawn.seconds_per_frame)
                board.animation(tag, gif, step)
                file.with_name(f"{stem}.gif").write_bytes(gif)
            case Embedding():
                vectors = drawn.vectors.detach().cpu().float().numpy()
                write_embedding(self._run.tensorboard, tag, vectors, drawn.labels, drawn.thumbnails)
                numpy.savez(file.with_name(f"{stem}.npz"), vectors=vectors, labels=numpy.array(drawn.labels, str))
            case Histogram():
                board.histogram(tag, drawn.values, step)
            case Table():
                board.text(tag, markdown_table(drawn.headers, drawn.rows[:SHOWN_ROWS]), step)
                file.with_name(f"{stem}.csv").write_text(csv_of(drawn.headers, drawn.rows), encoding="utf-8")
            case _:
                picture = png_of(drawn.pixels) if isinstance(drawn, Picture) else png(drawn)
                board.figure(tag, picture, step)
                file.with_name(f"{stem}.png").write_bytes(picture)

    def _animate(self, event: Evaluated) -> None:
        """Join the pictures of all epochs, as they lie in `figures/`: those of a resumed run are those of an uninterrupted one."""
        for name in self._learner.task.animations:
            files = {int(f.stem.rpartition("epoch")[2]): f for f in self._run.figures.glob(f"val_{name}_epoch*.png")}
            if files:
                frames = epoch_frames({epoch: files[epoch].read_bytes() for epoch in sorted(files)})
                gif = gif_of(frames, SECONDS_PER_EPOCH)
                self._board.animation(f"val/{name}_by_epoch", gif, event.step)
                (self._run.figures / f"val_{name}.gif").write_bytes(gif)

    def _histograms(self, event: EpochEnded | Evaluated) -> None:
        for name, parameter in self._learner.model.named_parameters():
            self._board.histogram(f"weights/{name}", parameter.detach(), event.step)
            if parameter.grad is not None:
                self._board.histogram(f"gradients/{name}", parameter.grad.detach(), event.step)

    def conclude(self, metrics: Mapping[str, float]) -> None:
        """The run's row in the HParams tab: its knobs, and its metrics once they are known."""
        knobs = self._learner.task.model_dump()
        plain = {k: v if isinstance(v, (bool, int, float, str)) or v is None else str(v) for k, v in knobs.items()}
        self._board.hyperparameters(plain, metrics)

    def close(self) -> None:
        """Write out and close."""
        self._board.close()


class ConsoleWriter:
    """A progress bar over the steps of an epoch on a terminal, and a line per epoch everywhere."""

    def __init__(self, console: Console, learner: Learner) -> None:
        self._console, self._learner = console, learner
        self._bar: Any = None

    def advance(self, event: StepEnded) -> None:
        """Move the bar by one step; next to nothing without a terminal."""
        if self._bar is None:
            total = len(self._learner.batches["train"])
            self._bar = self._console.progress(total, f"epoch {event.epoch}/{self._learner.task.epochs}").__enter__()
        self._bar.update(1)

    def write(self, event: Event, numbers: Mapping[str, float] | None) -> None:
        """Say the epoch's line when it is whole."""
        match event:
            case StepEnded() if numbers is not None:
                self._bar.update(0, loss=numbers["batch/loss"])
            case TrainEnded():
                self._close_bar()
            case EpochEnded():
                width = len(str(self._learner.task.epochs))
                shown = "  ".join(f"{name} {value:.4g}" for name, value in event.metrics.items() if _is_shown(name))
                self._console.say(f"epoch {event.epoch:{width}}/{self._learner.task.epochs}  {shown}")
            case ModelChanged():
                sizes = [(p.numel(), p.requires_grad) for p in self._learner.model.parameters()]
                learning = sum(n for n, learns in sizes if learns)
                self._console.say(
                    f"the model changed: {sum(n for n, _ in sizes):,} parameters, {learning:,} of them learn"
                )

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None

    def close(self) -> None:
        """Take the bar away."""
        self._close_bar()


def _is_shown(name: str) -> bool:
    split, _, metric = name.partition("/")
    return "/" not in metric and (metric in ("loss", "accuracy") or split == "val")  # not the score of each class


def step_numbers(learner: Learner, event: StepEnded, *, stop_on_nan: bool) -> dict[str, float]:
    """Loss and metrics of one batch under `batch/`; DivaError when the loss is not finite and that is to stop the run."""
    loss = float(event.loss)
    if (stop_on_nan and abs(loss) >= float("inf")) or (loss != loss and stop_on_nan):
        raise diverged(event.epoch, event.step, loss)
    (outputs,) = outputs_of_all(learner.exchange, [event.outputs])
    own = learner.task.compute_metrics({k: v.cpu() for k, v in outputs.items()}, learner.data) if outputs else {}
    return {"batch/loss": loss, **{f"batch/{name}": float(value) for name, value in own.items()}}


def diverged(epoch: int, step: int, loss: float) -> DivaError:
    """The error of a loss that is not finite."""
    return DivaError(
        f"the training loss is {loss} at step {step} in epoch {epoch}; lower --lr, set --clip-norm, or go on with --on-nan continue"
    )
