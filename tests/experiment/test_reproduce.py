"""`diva reproduce`: the same bits from the record alone, and a refusal of every record that is not what it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ..prepared import run_diva

if TYPE_CHECKING:
    from .conftest import Diva

KNOBS = ("--batch-size", "4", "--epochs", "2", "--seed", "5")


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", folder, "-c", "init.defaultBranch=main", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, shades: Callable[[Path], Path]) -> Path:
    """A repository with a task of its own, edited and not committed, and one run of it; the edit is thrown away afterwards."""
    lab = tmp_path_factory.mktemp("lab")
    shades(lab / "shades")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def diva(*arguments: str) -> str:
        command = [sys.executable, "-m", "diva", *arguments]
        done = subprocess.run(command, cwd=lab, env=environment, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    git(lab, "init")
    (lab / ".gitignore").write_text("shades/\n")
    diva("init", "image_classification", "cells")
    git(lab, "add", ".")
    git(lab, "commit", "-m", "a task")
    models = lab / "cells" / "models.py"
    models.write_text(
        models.read_text()
        .replace("nn.Linear(channels * height * width, 128)", "nn.Linear(channels * height * width, 24)")
        .replace("nn.Linear(128, n_classes)", "nn.Linear(24, n_classes)")
    )
    (lab / "cells" / "untracked.txt").write_text("part of the work\n")
    diva("run", "--task", "./cells", "--model", "mlp", "--data", "shades", *KNOBS)
    git(lab, "checkout", "--", ".")
    (lab / "cells" / "untracked.txt").unlink()
    return lab


@pytest.fixture
def lab(made: Path, tmp_path: Path) -> Path:
    """A copy of that repository, free to be damaged: run folders can be moved with what is around them."""
    return Path(shutil.copytree(made, tmp_path / "lab", symlinks=True))


def only_run(lab: Path) -> Path:
    (manifest,) = lab.glob("runs/cells/*/manifest.json")
    return manifest.parent


def test_an_uncommitted_edit_is_reproduced_after_it_is_thrown_away(diva: Diva, lab: Path, tmp_path: Path) -> None:
    assert "Linear(24" in (only_run(lab) / "source/project/tree/cells/models.py").read_text()
    assert "Linear(24" not in (lab / "cells/models.py").read_text()
    done = diva("reproduce", only_run(lab), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    verdict, run = done.stdout.splitlines()[-2:]
    assert verdict.startswith("IDENTICAL: 2 epochs, 6 steps")
    again = json.loads((tmp_path / run / "manifest.json").read_text())
    assert again["reproduces"]["id"] == only_run(lab).name
    assert (tmp_path / run / "metrics.jsonl").read_bytes() == (only_run(lab) / "metrics.jsonl").read_bytes()


def test_a_reproduction_can_be_reproduced_when_the_task_is_gone(diva: Diva, lab: Path, tmp_path: Path) -> None:
    shutil.rmtree(lab / "cells")
    first = diva("reproduce", only_run(lab), "--json")
    assert first.returncode == 0, first.stderr
    printed = json.loads(first.stdout.splitlines()[-1])
    assert printed["verdict"] == "IDENTICAL"
    second = diva("reproduce", printed["run"], "--workers", 2, "--trace", "step")
    assert second.returncode == 0, second.stderr
    assert second.stdout.splitlines()[-2].startswith(
        "IDENTICAL"
    )  # its trace, finer than the recorded one, has the same epochs


def test_moved_data_are_found_where_the_user_says(diva: Diva, lab: Path, tmp_path: Path) -> None:
    (lab / "shades").rename(tmp_path / "moved")
    lost = diva("reproduce", only_run(lab))
    assert lost.returncode == 4 and "--data FOLDER" in lost.stderr
    found = diva("reproduce", only_run(lab), "--data", tmp_path / "moved")
    assert found.returncode == 0, found.stderr


def change_a_byte(lab: Path) -> None:
    image = lab / "shades/train/dark/2.png"
    before = image.stat()
    content = bytearray(image.read_bytes())
    content[60] ^= 1
    image.write_bytes(content)
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))  # even when nobody can see it from outside


def remove_an_image(lab: Path) -> None:
    (lab / "shades/test/dark/2.png").unlink()


def add_an_image(lab: Path) -> None:
    shutil.copy(lab / "shades/test/dark/2.png", lab / "shades/test/dark/9.png")


def alter_the_source(lab: Path) -> None:
    with (only_run(lab) / "source/project/tree/cells/task.py").open("a") as file:
        file.write("# a comment\n")


def add_to_the_source(lab: Path) -> None:
    (only_run(lab) / "source/project/tree/sitecustomize.py").write_text("print('hello')\n")


def alter_the_manifest(lab: Path) -> None:
    path = only_run(lab) / "manifest.json"
    path.write_text(path.read_text().replace('"seed": 5', '"seed": 6'))


def alter_the_footprint(lab: Path) -> None:
    from diva.records import footprint

    remove_an_image(lab)
    footprint.write(only_run(lab) / "footprint.json", footprint.take(lab / "shades"), "shades")


def alter_the_result(lab: Path) -> None:
    path = only_run(lab) / "result.json"
    result = json.loads(path.read_text())
    result["weights_digest"] = "sha256:" + "0" * 64
    path.write_text(json.dumps(result))


def alter_the_trace(lab: Path) -> None:
    path = only_run(lab) / "trace.jsonl"
    path.write_text(path.read_text().replace('"epoch": 1', '"epoch": 7'))


def cut_the_trace(lab: Path) -> None:
    path = only_run(lab) / "trace.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def unfinish(lab: Path) -> None:
    (only_run(lab) / "result.json").unlink()


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (change_a_byte, "1 changed (train/dark/2.png)"),
        (remove_an_image, "test/dark/2.png"),
        (add_an_image, "test/dark/9.png"),
        (alter_the_source, "altered: tree/cells/task.py"),
        (add_to_the_source, "sitecustomize.py"),
        (alter_the_manifest, "manifest.json: was altered"),
        (alter_the_footprint, "footprint.json: is not the footprint that the manifest names"),
        (alter_the_result, "result.json: its weights_digest is not what the trace says"),
        (alter_the_trace, "trace.jsonl:2: the chain is broken"),
        (cut_the_trace, "trace.jsonl: does not end as the result says"),
        (unfinish, "diva resume"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_is_not_what_it_was_is_refused_and_named(
    lab: Path, tmp_path: Path, damage: Callable[[Path], None], expected: str
) -> None:
    damage(lab)
    done = run_diva("reproduce", only_run(lab), cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert expected in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_forged_record_is_found_out(diva: Diva, lab: Path) -> None:
    """A manifest with another step size, and a result made to fit it: whole to look at, but not what is computed."""
    from diva.records.manifest import manifest_digest

    run = only_run(lab)
    manifest = run / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"lr": 0.003', '"lr": 0.004'))
    (run / "manifest.sha256").write_text(manifest_digest(manifest).removeprefix("sha256:") + "  manifest.json\n")
    result = json.loads((run / "result.json").read_text())
    result["manifest_digest"] = manifest_digest(manifest)
    (run / "result.json").write_text(json.dumps(result))
    done = diva("reproduce", run)
    assert done.returncode == 5, done.stderr
    assert done.stdout.splitlines()[-2].startswith(
        "DIFFERENT: first seen after epoch 0, step 0, in optimizer; metrics differ by"
    )


def test_another_number_of_threads_may_change_bits_of_torch(diva: Diva, lab: Path) -> None:
    shutil.rmtree(lab / "runs")
    made = diva("run", "--task", "./cells", "--model", "mlp", "--data", "shades", "--backend", "torch", *KNOBS, cwd=lab)
    assert made.returncode == 0, made.stderr
    done = diva("reproduce", only_run(lab), "--threads", 2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2].startswith(("IDENTICAL", "EQUIVALENT"))
    (row,) = [line for line in done.stderr.splitlines() if line.startswith("option threads")]
    assert row.split() == ["option", "threads", "1", "2", "yes"]


def test_exact_bits_are_those_of_any_number_of_threads_and_instruction_set(diva: Diva, lab: Path) -> None:
    done = diva("reproduce", only_run(lab), "--threads", 2, env={"DIVA_KERNELS_ISA": "scalar"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2].startswith("IDENTICAL")
    (row,) = [line for line in done.stderr.splitlines() if line.startswith("option threads")]
    assert row.split() == ["option", "threads", "1", "2", "no"]


def test_an_operator_without_a_kernel_ends_the_run_with_its_name_and_line(diva: Diva, lab: Path) -> None:
    models = lab / "cells" / "models.py"
    models.write_text(models.read_text() + "\n\nimport torch\n\ntorch.linalg.svd(torch.eye(2))\n")
    done = diva("run", "--task", "./cells", "--model", "mlp", "--data", "shades", *KNOBS, cwd=lab)
    assert done.returncode == 6, done.stderr
    assert "linalg_svd" in done.stderr and "models.py:" in done.stderr and "--backend torch" in done.stderr


def test_the_recorded_diva_runs_not_todays(lab: Path, tmp_path: Path) -> None:
    """A run made with a diva from a checkout is repeated with that diva after the checkout's own code has changed."""
    import diva

    root = Path(diva.__file__).parent.parent
    tree = tmp_path / "checkout"
    for part in ("diva", "templates", "datasets"):
        shutil.copytree(root / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    git(tree, "init")
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "diva", *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True)

    first = run("run", "--task", "image_classification", "--data", lab / "shades", *KNOBS)
    assert first.returncode == 0, first.stderr
    loop = tree / "diva" / "learning" / "loop.py"
    changed = loop.read_text().replace("loss.backward()", "(2 * loss).backward()")
    assert changed != loop.read_text()
    loop.write_text(changed)
    again = run("reproduce", first.stdout.splitlines()[-1])
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-2].startswith("IDENTICAL")
    today = run("run", "--task", "image_classification", "--data", lab / "shades", *KNOBS)
    digests = [
        json.loads((tmp_path / p.stdout.splitlines()[-1] / "result.json").read_text())["weights_digest"]
        for p in (first, again, today)
    ]
    assert digests[0] == digests[1] != digests[2]


HELPED = """
import helpers
import torch
from torch.utils.data import TensorDataset

from diva import Data, Step, Task


class Helped(Task):
    epochs: int = 1

    def load_data(self, folder):
        data = TensorDataset(torch.arange(12.0).view(6, 2), torch.arange(6) % 2)
        return Data(data, data, data)

    def build_model(self, data):
        return torch.nn.Linear(2, helpers.N)

    def training_step(self, model, batch, data):
        from late import scale

        return Step(torch.nn.functional.cross_entropy(scale * model(batch[0]), batch[1]))
"""


@pytest.mark.parametrize("output", ["runs", "../elsewhere"])
def test_modules_at_the_root_of_the_project_come_from_the_snapshot(diva: Diva, tmp_path: Path, output: str) -> None:
    """Also those imported late, with runs kept inside the repository or not, and from whichever folder."""
    lab = tmp_path / "lab"
    (lab / "tasks" / "helped").mkdir(parents=True)
    git(lab, "init")
    (lab / "tasks" / "helped" / "task.py").write_text(HELPED)
    (lab / "helpers.py").write_text("N = 3\n")
    (lab / "late.py").write_text("scale = 1.0\n")
    first = diva("run", "--task", "tasks/helped", "--seed", 1, "--output", output, cwd=lab)
    assert first.returncode == 0, first.stderr
    (lab / "helpers.py").write_text("N = 7\n")
    (lab / "late.py").unlink()
    again = diva("reproduce", lab / first.stdout.splitlines()[-1])
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-2].startswith("IDENTICAL")


def test_runs_of_one_process_share_no_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a notebook: the second run has the file as it is then; and the process's generators are left as they were."""
    import random

    import torch

    import diva

    monkeypatch.chdir(tmp_path)
    (tmp_path / "helped").mkdir()
    (tmp_path / "helped" / "task.py").write_text(HELPED)
    (tmp_path / "helped" / "late.py").write_text("scale = 1.0\n")
    path, state = list(sys.path), (random.getstate(), torch.get_rng_state().tolist())
    sizes = []
    for n in (3, 7):
        (tmp_path / "helped" / "helpers.py").write_text(f"N = {n}\n")
        sizes.append(diva.run("./helped", {"seed": 1}).manifest().model["parameters"])
    assert sizes == [9, 21]
    assert path == sys.path and "helpers" not in sys.modules
    assert (random.getstate(), torch.get_rng_state().tolist()) == state
