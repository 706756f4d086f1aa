"""`diva run` as a user meets it: what it writes, what it refuses, and that nothing half-written stays behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy
import pytest
from PIL import Image

from diva.records.run_folder import open_run
from diva.records.trace import read_trace

from ..prepared import run_diva

if TYPE_CHECKING:
    from .conftest import Diva

RUN = ("run", "--task", "image_classification", "--data", "shades", "--batch-size", "4")


@pytest.fixture
def diva(tmp_path: Path) -> Diva:
    """`diva(*arguments)` runs the program from `tmp_path`, forked from a Python that has the libraries."""
    return lambda *arguments: run_diva(*arguments, cwd=tmp_path)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def made_runs(folder: Path) -> list[str]:
    return [str(path) for path in folder.glob("runs/**/*")]


def test_the_run_folder_holds_what_the_documentation_says(diva: Diva, data: Path, tmp_path: Path) -> None:
    run = tmp_path / last_line(diva(*RUN, "--seed", 1, "--epochs", 2))
    assert {path.name for path in run.iterdir()} == {
        "manifest.json", "manifest.sha256", "result.json", "metrics.jsonl", "trace.jsonl", "tensors.jsonl", "log.txt", "command.sh",
        "footprint.json", "source", "environment", "checkpoints", "tensorboard", "figures",
    }  # fmt: skip
    assert not list(run.rglob("*.pt")) and not list(run.rglob("*.pkl")) and not list(run.rglob("__pycache__"))
    assert (tmp_path / "runs" / ".gitignore").read_text() == "*\n"
    assert os.access(run / "command.sh", os.X_OK)
    result = json.loads((run / "result.json").read_text())
    assert result["initial_weights_digest"] == read_trace(run / "trace.jsonl")[0]["weights"]
    assert [entry["epoch"] for entry in read_trace(run / "trace.jsonl")] == [0, 1, 2]
    assert sorted(path.name for path in (run / "figures").glob("*.png"))


def test_json_prints_one_object(diva: Diva, data: Path) -> None:
    printed = json.loads(last_line(diva(*RUN, "--seed", 1, "--epochs", 1, "--json")))
    assert set(printed) == {"run", "status", "metrics", "weights_digest"}
    assert {"val/loss", "test/accuracy"} <= set(printed["metrics"])


def test_equal_runs_leave_equal_numbers(whole_diva: Diva, data: Path, tmp_path: Path) -> None:
    """From another folder, with worker processes and steps traced or not: the metrics file is the same, byte for byte."""
    (tmp_path / "elsewhere").mkdir()
    one = tmp_path / last_line(whole_diva(*RUN, "--seed", 1, "--epochs", 2))
    other = whole_diva(*RUN, "--seed", 1, "--epochs", 2, "--workers", 2, "--data", data, cwd=tmp_path / "elsewhere")
    two = tmp_path / "elsewhere" / last_line(other)
    assert (one / "metrics.jsonl").read_bytes() == (two / "metrics.jsonl").read_bytes()
    assert (one / "trace.jsonl").read_bytes() == (two / "trace.jsonl").read_bytes()


def test_a_seed_is_drawn_printed_and_recorded_when_none_is_given(diva: Diva, data: Path, tmp_path: Path) -> None:
    done = diva(*RUN, "--epochs", 0)
    manifest = open_run(tmp_path / last_line(done)).manifest()
    assert f"seed {manifest.seed} (drawn)" in done.stderr
    again = diva(*RUN, "--epochs", 0)
    assert open_run(tmp_path / last_line(again)).manifest().seed != manifest.seed


def test_every_value_says_where_it_came_from(diva: Diva, data: Path, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("task: image_classification\nlr: 1e-2\nepochs: 5\nbatch-size: 4\n")
    (tmp_path / "more.yaml").write_text("epochs: 1\nflip: true\n")
    done = diva(
        "run", "--config", "base.yaml", "--config", "more.yaml", "--data", "shades", "--seed", 3, "--lr", "0.02"
    )
    manifest = open_run(tmp_path / last_line(done)).manifest()
    assert manifest.task.knobs["lr"] == 0.02 and manifest.task.origins["lr"] == "command line"
    assert manifest.task.knobs["epochs"] == 1 and manifest.task.origins["epochs"] == "more.yaml"
    assert manifest.task.knobs["batch_size"] == 4 and manifest.task.origins["batch_size"] == "base.yaml"
    assert manifest.task.origins["gamma"] == "default"
    assert manifest.seed == 3 and manifest.origins["seed"] == "command line"


def test_help_and_dry_run_write_nothing(diva: Diva, tmp_path: Path) -> None:
    for arguments in (("--help",), ("run", "--help"), ("run", "--task", "image_classification", "--help")):
        assert diva(*arguments).returncode == 0
    done = diva("run", "--task", "image_classification", "--dry-run", "--lr", 0.5)
    assert done.returncode == 0 and "command line" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_help_does_not_load_torch_or_pydantic(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom diva.cli import cli\n"
        "cli.main(['run', '--help'], standalone_mode=False)\n"
        "print({m for m in ('torch', 'pydantic', 'numpy', 'yaml', 'git') if m in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, cwd=tmp_path)
    assert done.stderr.strip() == "set()"


def test_early_stopping_counts_epochs_without_progress(diva: Diva, data: Path, tmp_path: Path) -> None:
    """With a step size of nothing no epoch is better than epoch 0, so training ends after `patience` more."""
    run = tmp_path / last_line(
        diva(*RUN, "--seed", 1, "--epochs", 9, "--patience", 2, "--optimizer", "sgd", "--lr", "1e-30", "--model", "mlp")
    )
    result = json.loads((run / "result.json").read_text())
    assert (result["epochs"], result["best_epoch"]) == (2, 0)


def test_the_best_model_is_tested_not_the_last(diva: Diva, data: Path, tmp_path: Path) -> None:
    """Where the validation labels are swapped, every epoch of learning makes it worse: the untrained model is the best."""
    (data / "val" / "dark").rename(data / "val" / "swap")
    (data / "val" / "bright").rename(data / "val" / "dark")
    (data / "val" / "swap").rename(data / "val" / "bright")
    run = tmp_path / last_line(diva(*RUN, "--seed", 1, "--epochs", 3, "--model", "mlp", "--monitor", "val/loss"))
    result = json.loads((run / "result.json").read_text())
    assert result["best_epoch"] == 0
    assert result["best_weights_digest"] == result["initial_weights_digest"] != result["weights_digest"]


def test_check_runs_two_batches_of_every_stage(diva: Diva, data: Path, tmp_path: Path) -> None:
    run = tmp_path / last_line(diva(*RUN, "--seed", 1, "--check"))
    result = json.loads((run / "result.json").read_text())
    assert (result["epochs"], result["steps"]) == (1, 2)


def test_overfit_learns_one_batch_or_says_so(diva: Diva, data: Path, tmp_path: Path) -> None:
    assert diva(*RUN, "--seed", 1, "--overfit", "--model", "mlp", "--lr", 0.01).returncode == 0
    failed = diva(*RUN, "--seed", 1, "--overfit", "--model", "mlp", "--lr", "1e-20")
    assert failed.returncode == 1
    assert "one batch was not learnt" in failed.stderr


def test_weights_load_strictly_with_a_report_and_frozen_ones_stay(diva: Diva, data: Path, tmp_path: Path) -> None:
    first = last_line(diva(*RUN, "--seed", 1, "--epochs", 1))
    wrong = diva(*RUN, "--seed", 2, "--model", "mlp", "--load", first)
    assert wrong.returncode == 2 and "--load-skip" in wrong.stderr
    done = diva(
        *RUN, "--seed", 2, "--epochs", 1, "--load", first, "--load-skip", "classifier.*", "--freeze", "features.*"
    )
    run = open_run(tmp_path / last_line(done))
    assert "left as initialised: classifier.bias, classifier.weight" in done.stderr
    from diva.learning.checkpoints import load_tensors

    new = load_tensors(run.checkpoints / "epoch-0001.safetensors")
    features = [name for name in new if name.startswith("features.")]
    loaded = load_tensors(run.checkpoints / "loaded.safetensors")
    assert all((loaded[name] == new[name]).all() for name in features)
    assert (loaded["classifier.weight"] != new["classifier.weight"]).any()
    manifest = run.manifest()
    assert manifest.loaded is not None and manifest.model["trainable_parameters"] < manifest.model["parameters"]


def test_a_loss_that_is_not_finite_stops_the_run(diva: Diva, data: Path, tmp_path: Path) -> None:
    wild = ("--seed", 1, "--epochs", 4, "--model", "mlp", "--optimizer", "sgd", "--lr", 1e30)
    done = diva(*RUN, *wild)
    assert done.returncode == 1 and "not finite" not in done.stdout
    assert "--on-nan continue" in done.stderr and "Traceback" not in done.stderr
    assert diva(*RUN, *wild, "--on-nan", "continue").returncode == 0


def test_a_trace_of_steps_has_an_entry_for_each(diva: Diva, data: Path, tmp_path: Path) -> None:
    run = tmp_path / last_line(diva(*RUN, "--seed", 1, "--epochs", 2, "--trace", "step"))
    steps = [entry["step"] for entry in read_trace(run / "trace.jsonl")]
    assert steps == [0, 1, 2, 3, 3, 4, 5, 6, 6]


BAD_INPUT: dict[str, tuple[int, tuple[object, ...], str]] = {
    "unknown task": (2, ("run", "--task", "image_clasification"), "did you mean image_classification?"),
    "no task": (2, ("run", "--seed", 1), "no task is named"),
    "unknown knob": (2, (*RUN, "--learning-rate", 1), "--learning-rate"),
    "wrong type": (2, (*RUN, "--lr", "fast"), "lr is 'fast' (command line)"),
    "out of range": (2, (*RUN, "--epochs", -1), "greater than or equal to 0"),
    "unknown choice": (2, (*RUN, "--optimizer", "sdg"), "'sgd'"),
    "unknown model": (2, (*RUN, "--model", "resnet19"), "did you mean resnet"),
    "unknown metric": (2, (*RUN, "--monitor", "val/acuracy"), "did you mean val/accuracy?"),
    "seed out of range": (2, (*RUN, "--seed", -1), "allowed are 0 to"),
    "no such device": (2, (*RUN, "--device", "cuda:7"), "--device cpu"),
    "missing configuration": (2, (*RUN, "--config", "nowhere.yaml"), "nowhere.yaml"),
    "missing folder": (4, (*RUN, "--data", "nowhere"), "no such folder"),
    "no name of data": (2, (*RUN, "--data", ""), "--data: is empty"),
    "no such weights": (4, (*RUN, "--load", "nowhere.safetensors"), "nowhere.safetensors"),
    "nothing to train": (2, (*RUN, "--freeze", "*"), "--freeze"),
    "not a run": (2, ("resume", "shades"), "manifest.json"),
    "not a run either": (2, ("reproduce", "nowhere"), "no such folder"),
    "unknown command": (2, ("rum",), "rum"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_gets_one_line_and_its_exit_code(diva: Diva, data: Path, tmp_path: Path, case: str) -> None:
    code, arguments, expected = BAD_INPUT[case]
    done = diva(*arguments)
    assert done.returncode == code, done.stderr
    errors = [line for line in done.stderr.splitlines() if ": error: " in line]
    assert len(errors) == 1 and expected in errors[0]
    assert "Traceback" not in done.stderr
    assert made_runs(tmp_path) == []


def spoil_missing_split(data: Path) -> None:
    shutil.rmtree(data / "val")


def spoil_empty_class(data: Path) -> None:
    (data / "train" / "grey").mkdir()


def spoil_strange_class(data: Path) -> None:
    (data / "test" / "dark").rename(data / "test" / "drak")


def spoil_image(data: Path) -> None:
    (data / "test" / "dark" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")


def spoil_half_an_image(data: Path) -> None:
    image = data / "val" / "dark" / "3.png"
    image.write_bytes(image.read_bytes()[:60])


def spoil_sizes(data: Path) -> None:
    Image.fromarray(numpy.zeros((9, 8), numpy.uint8)).save(data / "train" / "dark" / "3.png")


@pytest.mark.parametrize(
    ("spoil", "code", "expected"),
    [
        (spoil_missing_split, 4, "no folder val"),
        (spoil_empty_class, 4, "grey: holds no image"),
        (spoil_strange_class, 4, "drak: this class has no folder in train/"),
        (spoil_image, 4, "3.png: cannot be read as an image"),
        (spoil_half_an_image, 4, "3.png: cannot be read as an image"),
        (spoil_sizes, 2, "--image-size"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_bad_data_are_named_and_nothing_stays(
    diva: Diva, data: Path, tmp_path: Path, spoil: object, code: int, expected: str
) -> None:
    spoil(data)  # type: ignore[operator]
    done = diva(*RUN, "--seed", 1)
    assert done.returncode == code, done.stderr
    assert expected in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    assert made_runs(tmp_path) == []


def test_a_full_disk_at_the_start_is_said_and_nothing_stays(data: Path, tmp_path: Path) -> None:
    """Also when it fills up while the run is prepared: the limit on file sizes plays the full disk, since root ignores permissions."""
    import diva
    from diva.errors import DivaError
    from diva.records import run_folder

    values = {"data": data, "output": tmp_path / "runs", "seed": 1, "epochs": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_folder.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2**30, 2**30, 0))  # type: ignore[attr-defined]
        with pytest.raises(DivaError, match="the disk has 0 MiB left"):
            diva.run("image_classification", values)
    assert made_runs(tmp_path) == []
    with pytest.MonkeyPatch.context() as patch:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(run_folder.RunFolder, "seal", full)
        with pytest.raises(DivaError, match="No space left on device"):
            diva.run("image_classification", values)
    assert made_runs(tmp_path) == []


def test_an_output_that_cannot_be_written_is_said(diva: Diva, data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = diva(*RUN, "--seed", 1, "--output", "file/runs")
    assert done.returncode == 1
    assert "choose another place with --output" in done.stderr and "Traceback" not in done.stderr


def test_a_mistake_in_the_users_task_shows_its_line(diva: Diva, data: Path, tmp_path: Path) -> None:
    assert diva("init", "image_classification", "own").returncode == 0
    task = tmp_path / "own" / "task.py"
    task.write_text(task.read_text().replace("model(images)", "model(imagse)"))
    done = diva("run", "--task", "./own", "--data", "shades", "--seed", 1)
    assert done.returncode == 1
    assert "imagse" in done.stderr and "Traceback" in done.stderr
    assert made_runs(tmp_path) == []


def test_a_batch_of_one_under_batch_norm_is_told_in_a_line(diva: Diva, data: Path) -> None:
    done = diva("run", "--task", "image_classification", "--data", "shades", "--seed", 1, "--model", "babyresnet18",
                "--image-size", 8, "--batch-size", 1)  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "Use --drop-last, another --batch-size" in done.stderr


def test_a_monitored_metric_that_is_no_number_is_said(diva: Diva, data: Path, tmp_path: Path) -> None:
    assert diva("init", "finetune", "own").returncode == 0
    task = tmp_path / "own" / "task.py"
    code = task.read_text().replace(
        "        return classification_scores(", '        return {"accuracy": float("nan")} or ('
    )
    task.write_text(code.replace("        from diva import classification_scores\n", ""))
    done = diva("run", "--task", "./own", "--data", "shades", "--seed", 1, "--epochs", 1)
    assert done.returncode == 0, done.stderr
    assert "val/accuracy was not a number in any epoch" in done.stderr


def test_a_folder_is_not_littered(whole_diva: Diva, data: Path, tmp_path: Path) -> None:
    assert whole_diva("init", "image_classification", "own").returncode == 0
    before = sorted(path.name for path in (tmp_path / "own").iterdir())
    assert (
        whole_diva(
            "run",
            "--task",
            "./own",
            "--data",
            "shades",
            "--seed",
            1,
            "--epochs",
            0,
            env={"PYTHONDONTWRITEBYTECODE": ""},
        ).returncode
        == 0
    )
    assert sorted(path.name for path in (tmp_path / "own").iterdir()) == before
