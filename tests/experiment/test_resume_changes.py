"""A run whose model changes on the way: interrupted after any epoch, resumed and reproduced, it has the bits of a whole one."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import pytest

from diva.errors import RecordError
from diva.experiment.reproduce import reproduce
from diva.experiment.request import resolve
from diva.experiment.resume import resume
from diva.experiment.run import start
from diva.learning.checkpoints import load_model
from diva.records.files import read_json, write_json
from diva.records.run_folder import RunFolder
from diva.report.console import Console
from tests.experiment.changing_task import Growing

TASK = Path(__file__).parent / "changing_task.py"
LAST = 6  # epochs: two for each of three layers
TIMES = ("seconds", "manifest_digest")


class Interrupting(io.StringIO):
    """Raises KeyboardInterrupt, as Ctrl-C does, when a line begins so; the line of an epoch comes before it is saved."""

    def __init__(self, line: str = "never") -> None:
        super().__init__()
        self.line = line
        self.told: list[str] = []

    def write(self, text: str) -> int:
        """Keep the line, or stop here."""
        self.told.append(text)
        if text.startswith(self.line):
            raise KeyboardInterrupt
        return len(text)


def run(folder: Path, stderr: io.StringIO) -> tuple[RunFolder, dict[str, Any]]:
    task = folder / "changing_task.py"
    shutil.copy(TASK, task)  # away from the repository, of which every run would take a snapshot
    options = {"task": str(task), "seed": 5, "output": folder / "runs", "threads": 1, "tensorboard": False}
    return start(resolve(options, [], ("diva", "run")), Console(io.StringIO(), stderr))


def essence(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name not in TIMES}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, dict[str, Any], list[str]]:
    stderr = Interrupting()
    return *run(tmp_path_factory.mktemp("whole"), stderr), stderr.told


def test_training_ends_when_the_task_says_so_and_the_best_epoch_follows_the_last_change(whole) -> None:
    run_folder, result, told = whole
    assert (result["epochs"], result["steps"]) == (LAST, LAST * 5)
    assert result["best_epoch"] > 4
    assert [line for line in told if " added" in line] == [f"warning: layer {n} was added\n" for n in (2, 3)]
    assert "the model changed: 62 parameters, 38 of them learn\n" in told
    assert "warning: layer 2 was added" in run_folder.log_file.read_text()


def interrupted(folder: Path, line: str) -> RunFolder:
    with pytest.raises(KeyboardInterrupt):
        run(folder, Interrupting(line))
    (left,) = (path for path in (folder / "runs").glob("*/*") if path.is_dir())
    return RunFolder(left)


def resumed(left: RunFolder, folder: Path) -> dict[str, Any]:
    return resume(left, None, folder, Console(io.StringIO(), io.StringIO()))


# The last whole epoch is 0, that before a change, one in the life of the second layer, and the last of all.
@pytest.mark.parametrize("line", ["epoch  1", "epoch  3", "epoch  4", "best epoch"])
def test_interrupted_at_any_moment_it_ends_with_the_same_bits(whole, tmp_path: Path, line: str) -> None:
    undisturbed, result, _ = whole
    left = interrupted(tmp_path, line)
    assert essence(resumed(left, tmp_path)) == essence(result)
    for name in ("trace.jsonl", "metrics.jsonl"):
        assert (left.path / name).read_bytes() == (undisturbed.path / name).read_bytes()


def test_a_changing_run_is_reproduced(whole, tmp_path: Path) -> None:
    _, verdict = reproduce(
        whole[0], {"output": tmp_path / "again"}, ("diva", "reproduce"), Console(io.StringIO(), io.StringIO())
    )
    assert verdict.word == "IDENTICAL"


def test_the_checkpoint_of_the_best_epoch_holds_its_structure(whole) -> None:
    checkpoints = whole[0].checkpoints
    model = Growing()
    load_model(checkpoints / read_json(checkpoints / "state.json")["progress"]["best_weights"], model)
    assert len(model.layers) == 3 and len(model.seen) == 2


def test_parameters_rebuilt_in_another_order_are_refused(tmp_path: Path) -> None:
    """The optimizer knows its parameters by their places alone."""
    left = interrupted(tmp_path, "epoch  4")
    path = left.checkpoints / "state.json"
    state = read_json(path)
    assert state["trained"][-2:] == ["head.weight", "head.bias"]
    write_json(path, {**state, "trained": state["trained"][::-1]})
    with pytest.raises(RecordError, match="in their old order"):
        resumed(left, tmp_path)
