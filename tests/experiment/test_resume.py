"""`diva resume`: an interrupted run ends with the bits of an uninterrupted one, however it was interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Diva

# Everything that has a state: momentum, a schedule with warm-up, early stopping, augmentation, batch norm.
KNOBS = (
    "--task", "image_classification", "--data", "shades", "--batch-size", "2", "--epochs", "80", "--seed", "3", "--optimizer", "adamw",
    "--schedule", "cosine", "--warmup-epochs", "3", "--patience", "79", "--workers", "1", "--no-tensorboard",
)  # fmt: skip
SAME = (
    "metrics",
    "best_epoch",
    "epochs",
    "steps",
    "initial_weights_digest",
    "weights_digest",
    "best_weights_digest",
    "test_outputs_digest",
    "trace_digest",
)
DEADLINE_S = 60.0


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "diva", "run", *KNOBS, *more]
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def wait_for_epoch(folder: Path, epoch: int) -> Path:
    """The run's folder, once its checkpoint of `epoch` or a later one is there."""
    until = time.monotonic() + DEADLINE_S
    while time.monotonic() < until:
        for state in folder.glob("runs/*/*/checkpoints/state.json"):
            if json.loads(state.read_text())["progress"]["epoch"] >= epoch:
                return state.parent.parent
        time.sleep(0.005)  # the run's own progress is what is waited for
    raise AssertionError(f"no checkpoint of epoch {epoch} after {DEADLINE_S} s")


def result(run: Path) -> dict[str, object]:
    found = json.loads((run / "result.json").read_text())
    return {name: found[name] for name in SAME}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, shades) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    shades(folder / "shades")
    process = start(folder)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, err
    return folder / out.splitlines()[-1]


@pytest.mark.parametrize(
    ("number", "code", "status"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "interrupted"), (signal.SIGKILL, -9, "unfinished")],
)
def test_an_interrupted_run_ends_with_the_bits_of_a_whole_one(
    diva: Diva, data: Path, tmp_path: Path, whole: Path, number: signal.Signals, code: int, status: str
) -> None:
    process = start(tmp_path)
    run = wait_for_epoch(tmp_path, 5)
    process.send_signal(number)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert not (run / "result.json").exists()
    listed = json.loads(diva("list", "runs", "--json").stdout)
    assert [row["status"] for row in listed] == [status]
    done = diva("resume", run)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(run)
    assert result(run) == result(whole)
    assert (run / "trace.jsonl").read_bytes() == (whole / "trace.jsonl").read_bytes()
    assert (run / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert (run / "tensors.jsonl").read_bytes() == (whole / "tensors.jsonl").read_bytes()


def test_a_run_is_resumed_when_it_was_stopped_again_and_again(
    diva: Diva, data: Path, tmp_path: Path, whole: Path
) -> None:
    process = start(tmp_path)
    for epoch in (3, 8, 15):
        run = wait_for_epoch(tmp_path, epoch)
        process.kill()
        process.communicate(timeout=DEADLINE_S)
        command = [sys.executable, "-m", "diva", "resume", str(run)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, err
    assert result(run) == result(whole)


def test_a_finished_run_a_running_one_and_a_damaged_checkpoint_are_refused(
    diva: Diva, data: Path, tmp_path: Path, whole: Path
) -> None:
    finished = diva("resume", whole)
    assert finished.returncode == 2 and "diva reproduce" in finished.stderr
    process = start(tmp_path, "--epochs", "100000", "--patience", "100000")
    run = wait_for_epoch(tmp_path, 2)
    busy = diva("resume", run)
    assert process.poll() is not None or (busy.returncode == 4 and "another process" in busy.stderr)
    process.kill()
    process.communicate(timeout=DEADLINE_S)
    state = json.loads((run / "checkpoints" / "state.json").read_text())
    with (run / "checkpoints" / state["weights"]).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    damaged = diva("resume", run)
    assert damaged.returncode == 4 and state["weights"] in damaged.stderr


def test_a_run_killed_before_its_first_checkpoint_starts_over(
    diva: Diva, data: Path, tmp_path: Path, whole: Path
) -> None:
    process = start(tmp_path)
    run = wait_for_epoch(tmp_path, 0)
    process.kill()
    process.communicate(timeout=DEADLINE_S)
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    assert diva("resume", run).returncode == 0
    assert result(run) == result(whole)
