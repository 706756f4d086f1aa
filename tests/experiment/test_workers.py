"""`--workers-per-run`: processes that share a run give the bits of one, and one that is lost costs no more than an epoch."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

import diva
from diva.data.shards import Shards
from diva.errors import DivaError, UsageError
from diva.experiment import workers
from diva.experiment.launch import Job, Lost
from diva.experiment.options import RunOptions
from diva.experiment.resume import resume
from diva.learning.exchange import LostWorkerError
from diva.records.run_folder import RunFolder, find_runs
from diva.report.console import Console

TASK = '''"""Two classes of points, learnt with batch norm and dropout; worker 1 can be made to die."""
import os
import signal

import torch
from torch import nn
from torch.utils.data import TensorDataset

from diva import Data, Step, Task


class Points(Task):
    epochs: int = 3
    batch_size: int = 16

    def load_data(self, folder):
        x = torch.randn(72, 3)
        return Data(*(TensorDataset(x[i:j], (x[i:j].sum(1) > 0).long()) for i, j in ((0, 40), (40, 60), (60, 72))))

    def build_model(self, data):
        return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))

    def training_step(self, model, batch, data):
        if model.training and os.environ.get("RANK") == "1" and int(model[1].num_batches_tracked) == 4 and "DIE" in os.environ:
            os.kill(os.getpid(), signal.SIGKILL)
        logits = model(batch[0])
        return Step(nn.functional.cross_entropy(logits, batch[1]), {"logits": logits, "labels": batch[1]})

    def compute_metrics(self, outputs, data):
        return {"accuracy": float((outputs["logits"].argmax(1) == outputs["labels"]).double().mean())}
'''
VARIABLES = {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture
def points(tmp_path: Path) -> Path:
    path = tmp_path / "points.py"
    path.write_text(TASK)
    return path


def run(points: Path, **values: Any) -> RunFolder:
    folder = points.parent
    fixed = {"seed": 5, "threads": 1, "shards": 4, "tensorboard": False, "log_every": 1, "trace": "step"}
    return diva.run(points, {"output": folder / "runs", "data_root": folder / "data", **fixed, **values})


def outcome(run: RunFolder) -> tuple[dict[str, Any], str, str]:
    """All that must not depend on the number of workers."""
    found = run.result()
    assert found is not None
    del found["seconds"], found["manifest_digest"]
    return found, run.metrics_file.read_text(), run.trace_file.read_text()


def test_two_processes_give_the_bits_of_one_also_when_one_is_lost_on_the_way(
    points: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time the run is continued by two again; scripts/check_parallel has other numbers."""
    alone = outcome(run(points))
    assert alone[0]["steps"] == 9

    with monkeypatch.context() as deadly:
        deadly.setenv("DIE", "yes")
        with pytest.raises(DivaError, match=r"worker 1 of 2 ended: its process was ended by SIGKILL.*diva resume RUN$"):
            run(points, workers_per_run=2)
    (lost,) = [found for found in find_runs(points.parent / "runs") if found.result() is None]
    noted = json.loads((lost.path / "stopped.json").read_text())
    assert noted["status"] == "failed" and noted["error"].startswith("DivaError: worker 1 of 2 ended: its process")
    resume(lost, None, points.parent / "data", Console(io.StringIO(), io.StringIO()))
    assert outcome(lost) == alone
    assert lost.manifest().options["workers_per_run"] == 2


def test_more_shards_than_samples_in_a_batch_are_refused(points: Path) -> None:
    with pytest.raises(UsageError, match="--shards 4: more than --batch-size 3"):
        run(points, batch_size=3)
    assert find_runs(points.parent / "runs") == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (RunOptions(workers_per_run=2), "must divide --shards, which is 1; allowed are 1, or another experiment"),
        (RunOptions(shards=4, workers_per_run=3), "allowed are 1, 2, 4, or"),
        (RunOptions(shards=0), "--shards 0, --workers-per-run 1: both must be at least 1"),
    ],
)
def test_a_number_of_workers_that_does_not_divide_the_shards_is_refused(options: RunOptions, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        workers.with_workers(options, given=True)


def test_the_number_of_workers_is_how_many_torchrun_started(monkeypatch: pytest.MonkeyPatch) -> None:
    assert workers.seat() is None and not workers.follows()
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    assert workers.seat() == workers.Seat(1, 4, 1, 4)
    assert workers.follows()
    options = workers.with_workers(RunOptions(shards=8), given=False)
    assert workers.shards_of(options) == Shards(8, 4, 1)
    with pytest.raises(UsageError, match="--workers-per-run 2: but 4 workers were started"):
        workers.with_workers(RunOptions(shards=8, workers_per_run=2), given=True)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert workers.seat() == workers.Seat(1, 4, 0, 2)
    assert workers.threads_each(16, options) == 8
    for name, value in (("RANK", "first"), ("RANK", "4"), ("MASTER_PORT", "0")):
        with monkeypatch.context() as odd:
            odd.setenv(name, value)
            with pytest.raises(UsageError, match=f"{name}={value}.*: workers cannot meet so; start diva with torchrun"):
                workers.seat()
    monkeypatch.setenv("WORLD_SIZE", "1")  # as some clusters set it for every process
    assert workers.seat() is None


class Ended(Job):
    """A process that is over."""

    def __init__(self, code: int | str | None) -> None:
        self.code = code

    def exit_code(self) -> int | None:
        if isinstance(self.code, str):
            raise Lost(self.code)
        return self.code

    def stop(self) -> None:
        raise AssertionError

    def kill(self) -> None:
        raise AssertionError


def test_the_worker_that_is_blamed_is_the_one_that_failed_first(tmp_path: Path) -> None:
    """Worker 1 missed another and left without a word; worker 2 says what it could not read; worker 3 is still at it."""
    (tmp_path / "1.txt").write_text("")
    (tmp_path / "2.txt").write_text("something\ndiva: error: a.png: cannot be read\n")
    others: dict[int, Job] = {1: Ended(1), 2: Ended(4), 3: Ended(None)}
    err = io.StringIO()
    found = workers._mourned(LostWorkerError("gone"), others, tmp_path, 4, Console(io.StringIO(), err))
    assert str(found) == "worker 2 of 4 ended: a.png: cannot be read"
    assert found.exit_code == 4
    assert err.getvalue() == ""


def test_the_traceback_of_a_workers_bug_is_shown(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("Traceback (most recent call last):\n  File x\nKeyError: 'logits'\n")
    err = io.StringIO()
    found = workers._mourned(LostWorkerError("gone"), {1: Ended(1)}, tmp_path, 2, Console(io.StringIO(), err))
    assert str(found) == "worker 1 of 2 ended: KeyError: 'logits'"
    assert "Traceback (most recent call last)" in err.getvalue()
