"""The commands that look, copy and check: list, show, init, verify, doctor, and what is common to all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

import diva
from diva.cli import cli

from ..prepared import run_diva

COMMANDS = (
    "run", "resume", "reproduce", "sweep", "sensitivity", "aggregate", "apply", "compare", "list", "show", "init", "download", "split",
    "analyze", "verify", "data", "tensorboard", "doctor",
)  # fmt: skip


def invoke(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return run_diva(*arguments, cwd=cwd)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which one run was made, of one epoch on the digits."""
    folder = tmp_path_factory.mktemp("finished")
    done = invoke("run", "--task", "image_classification", "--seed", 4, "--epochs", 1, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def only_run(folder: Path) -> Path:
    (manifest,) = folder.glob("runs/*/*/manifest.json")
    return manifest.parent


def test_every_command_has_help_with_an_example() -> None:
    assert set(cli.commands) == set(COMMANDS)
    for name in COMMANDS:
        shown = CliRunner().invoke(cli, [name, "--help"])
        assert shown.exit_code == 0
        assert f"diva {name}" in shown.output.partition("Example")[2]


def test_the_version_is_the_packages() -> None:
    assert invoke("--version").stdout == f"diva {diva.__version__}\n"


def test_listed_runs_have_seed_status_and_score(finished: Path) -> None:
    (row,) = json.loads(invoke("list", "runs", "--json", cwd=finished).stdout)
    assert (row["status"], row["seed"], row["metric"]) == ("finished", 4, "test/accuracy")
    assert 0 < row["value"] <= 1
    table = invoke("list", cwd=finished).stdout
    assert row["run"] in table and "finished" in table


def test_a_damaged_run_is_listed_as_such(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "toy" / "20260101-000000-abcdef"
    run.mkdir(parents=True)
    (run / "manifest.json").write_text("{")
    (row,) = json.loads(invoke("list", "--json", cwd=tmp_path).stdout)
    assert row["status"] == "damaged"


def test_tasks_and_datasets_are_listed(tmp_path: Path) -> None:
    assert "image_classification" in invoke("list", "tasks").stdout
    rows = json.loads(invoke("list", "datasets", "--json", cwd=tmp_path).stdout)  # where nothing is here yet
    (digits,) = [row for row in rows if row["dataset"] == "digits"]
    assert {"where": "bundled", "download": "none", "licence": "CC BY 4.0"}.items() <= digits.items()


def test_data_sets_that_are_here_are_listed_as_such(tmp_path: Path) -> None:
    (tmp_path / "mine" / "digits").mkdir(parents=True)
    rows = json.loads(invoke("list", "datasets", "--json", "--data-root", str(tmp_path / "mine")).stdout)
    assert {row["dataset"]: row["where"] for row in rows}["digits"] == "here"


def test_models_are_those_that_the_task_takes() -> None:
    names = [row["model"] for row in json.loads(invoke("list", "models", "--json").stdout)]
    assert {"small_cnn", "mlp", "resnet18", "vit_b_16", "efficientnet_b0"} <= set(names)
    assert not any(name.startswith("quantized") for name in names)


def test_no_runs_is_said_and_is_no_error(tmp_path: Path) -> None:
    done = invoke("list", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "") and "no runs" in done.stderr


@pytest.mark.parametrize("style", ["text", "markdown", "html", "json"])
def test_a_card_shows_what_matters_in_every_format(finished: Path, style: str) -> None:
    run = only_run(finished)
    card = invoke("show", run, "--format", style).stdout
    result = json.loads((run / "result.json").read_text())
    for expected in (run.name, result["weights_digest"], "digits", "small_cnn", "diva reproduce"):
        assert expected in card
    if style == "json":
        json.loads(card)
    if style == "html":
        HTMLParser().feed(card)
        assert "<script" not in card and "http" not in card.replace("http://www.w3.org", "")


def test_init_copies_a_task_into_an_empty_folder_alone(tmp_path: Path) -> None:
    done = invoke("init", "image_classification", "cells", cwd=tmp_path)
    assert done.returncode == 0
    assert "diva run --task ./cells" in done.stdout
    template = diva.resources("templates") / "image_classification"
    committed = {path.name for path in template.iterdir() if path.is_file()}
    assert (
        {path.name for path in (tmp_path / "cells").iterdir()} == committed >= {"task.py", "README.md", "test_task.py"}
    )
    again = invoke("init", "image_classification", "cells", cwd=tmp_path)
    assert again.returncode == 2 and "not empty" in again.stderr


def test_init_of_an_unknown_template_names_the_nearest(tmp_path: Path) -> None:
    done = invoke("init", "image_clasification", "cells", cwd=tmp_path)
    assert done.returncode == 2 and "did you mean image_classification?" in done.stderr
    assert not (tmp_path / "cells").exists()


def test_verify_creates_checks_and_names_what_changed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    (folder / "b.txt").write_text("b")
    created = invoke("verify", "data", cwd=tmp_path)
    assert created.returncode == 0 and created.stdout.startswith("created: 2 files, 2 bytes, sha256:")
    assert invoke("verify", "data", "--deep", cwd=tmp_path).stdout.startswith("verified: ")
    before = (folder / "a.txt").stat()
    (folder / "a.txt").write_text("c")
    os.utime(folder / "a.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert invoke("verify", "data", cwd=tmp_path).returncode == 0  # from outside the file looks untouched
    deep = invoke("verify", "data", "--deep", cwd=tmp_path)
    assert deep.returncode == 4 and "a.txt" in deep.stderr and "b.txt" not in deep.stderr
    assert invoke("verify", "data", "--update", cwd=tmp_path).stdout.startswith("updated: ")
    assert invoke("verify", "data", "--deep", cwd=tmp_path).returncode == 0


def test_verify_against_the_footprint_of_a_run(finished: Path) -> None:
    run, data = only_run(finished), finished / "data" / "digits"
    assert invoke("verify", data, "--against", run / "footprint.json").returncode == 0
    spare = data / "train" / "3" / "extra.png"
    spare.write_bytes(b"x")
    done = invoke("verify", data, "--against", run / "footprint.json")
    spare.unlink()
    assert done.returncode == 4 and "train/3/extra.png" in done.stderr


def test_doctor_says_who_serves_an_operator() -> None:
    done = invoke("doctor", "--operators", "log_softmax")
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert any(line.startswith("ours    _log_softmax ") for line in lines)
    assert all(len(line) <= 80 for line in lines)
    assert "refused" in lines[-1]


def test_doctor_proves_the_kernels_on_this_machine() -> None:
    done = invoke("doctor", "--matrix", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0, found
    assert len(found) >= 4 and all(part["ok"] for part in found.values())


def test_doctor_finds_this_machine_well() -> None:
    done = invoke("doctor", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    findings = json.loads(done.stdout)
    assert findings["self-test"]["ok"] and findings["torch"]["ok"] and findings["torchvision"]["ok"]


def test_a_pipe_that_closes_early_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "diva", "list", "models"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.wait(timeout=60)
    assert errors == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_that_cannot_be_written_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "diva", "list", "datasets"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "diva: error: the output cannot be written (No space left on device)\n"


def test_a_closed_stdout_is_no_error() -> None:
    shell = ["sh", "-c", '"$0" -m diva list tasks >&-', sys.executable]
    assert subprocess.run(shell, stderr=subprocess.PIPE, text=True).stderr == ""


def test_task_names_and_knobs_complete_in_the_shell(tmp_path: Path) -> None:
    def complete(words: str) -> str:
        environment = {
            **os.environ,
            "_DIVA_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        }
        command = [sys.executable, "-c", "from diva.cli import main; main()"]
        return subprocess.run(command, env=environment, cwd=tmp_path, text=True, capture_output=True).stdout

    assert "image_classification" in complete("diva run --task im")
    assert "--label-smoothing" in complete("diva run --task image_classification --lab")
    assert "digits" in complete("diva run --data di")


def test_no_terminal_means_no_colour_and_no_bar(finished: Path) -> None:
    log = (only_run(finished) / "log.txt").read_text()
    assert "\x1b" not in log and "%|" not in log and "epoch 1/1" in log
