"""`--stream NAME=SEED`: one stream comes from another seed, the rest stays; recorded, resumed and reproduced."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import pytest

from diva.errors import UsageError
from diva.experiment.reproduce import reproduce
from diva.experiment.request import resolve
from diva.experiment.resume import resume
from diva.experiment.run import start
from diva.records.run_folder import RunFolder
from diva.records.trace import read_trace
from diva.report.console import Console
from tests.experiment.test_resume_changes import TASK, Interrupting, essence


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a task of points, whose data, weights, order and dropout are drawn."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copy(TASK, folder)
    return folder


def run(lab: Path, output: str, stderr: io.StringIO | None = None, **values: Any) -> tuple[RunFolder, dict[str, Any]]:
    given = {"task": str(lab / TASK.name), "output": lab / output, "threads": 1, "tensorboard": False, "epochs": 2}
    request = resolve({**given, **values}, [], ("diva", "run"))
    return start(request, Console(io.StringIO(), stderr or io.StringIO()))


@pytest.fixture(scope="module")
def plain(lab: Path) -> dict[int, tuple[RunFolder, dict[str, Any]]]:
    return {seed: run(lab, "plain", seed=seed) for seed in (1, 2)}


def orders(run: RunFolder) -> list[str]:
    return [entry["order"] for entry in read_trace(run.trace_file) if entry["epoch"] > 0]


def test_only_the_weights_come_from_the_other_seed(lab, plain) -> None:
    mixed, result = run(lab, "mixed", seed=1, stream=["init=2"])
    (one, first), (two, second) = plain[1], plain[2]
    assert result["initial_weights_digest"] == second["initial_weights_digest"] != first["initial_weights_digest"]
    assert orders(mixed) == orders(one) != orders(two)
    assert mixed.manifest().options["stream"] == ["init=2"] and mixed.manifest().seed == 1


def test_all_streams_from_the_other_seed_are_a_run_of_that_seed(lab, plain) -> None:
    drawn = ["load_data=2", "init=2", "epoch=2", "step=2", "change=2", "shuffle=2"]
    _, result = run(lab, "all", seed=1, stream=drawn)
    assert essence(result) == essence(plain[2][1]) != essence(plain[1][1])


def test_an_interrupted_run_goes_on_with_its_streams_and_is_reproduced(lab) -> None:
    streams: dict[str, Any] = {"seed": 1, "stream": ["step=5", "shuffle=6"], "epochs": 4}
    whole, result = run(lab, "whole", **streams)
    with pytest.raises(KeyboardInterrupt):
        run(lab, "cut", Interrupting("epoch 3"), **streams)
    (cut,) = (RunFolder(path) for path in (lab / "cut").glob("*/*") if path.is_dir())
    console = Console(io.StringIO(), io.StringIO())
    assert essence(resume(cut, None, lab, console)) == essence(result)
    again, verdict = reproduce(whole, {"output": lab / "again"}, ("diva",), console)
    assert verdict.word == "IDENTICAL" and again.manifest().options["stream"] == ["step=5", "shuffle=6"]


def test_an_unknown_stream_is_refused_before_a_folder_is_made(lab) -> None:
    with pytest.raises(UsageError, match="no stream is called 'dropout'; allowed: augment"):
        run(lab, "refused", seed=1, stream=["dropout=3"])
    assert not (lab / "refused").exists()
