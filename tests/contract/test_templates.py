"""What every template keeps besides the contract of tasks: it is short, repeats no loop, states a result, and its copy's test passes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from diva import resources
from diva.experiment.copying import copy_template
from diva.experiment.find import template_names

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 200
LOOP = re.compile(r"\.backward\(|zero_grad\(|optimizer\.step\(|for epoch in")
CHECKED = re.compile(r"<!-- checked: (val|test)/\S+ (>=|<=) [0-9.e-]+ -->")

pytestmark = pytest.mark.parametrize("name", template_names())


def files_of(name: str) -> list[Path]:
    return sorted((resources("templates") / name).rglob("*.py"))


def test_a_template_is_a_task_a_readme_and_a_test(name: str) -> None:
    folder = resources("templates") / name
    assert {"task.py", "README.md", "test_task.py"} <= {path.name for path in folder.iterdir()}
    assert not list(folder.rglob("__init__.py"))


def test_no_task_is_long(name: str) -> None:
    assert len((resources("templates") / name / "task.py").read_text(encoding="utf-8").splitlines()) <= LONGEST


def test_no_template_repeats_the_loop(name: str) -> None:
    found = {path.name: LOOP.findall(path.read_text(encoding="utf-8")) for path in files_of(name)}
    assert {file: loops for file, loops in found.items() if loops} == {}


def test_the_readme_states_a_result_that_a_script_checks(name: str) -> None:
    text = (resources("templates") / name / "README.md").read_text(encoding="utf-8")
    assert f"diva run --task {name}" in text
    assert CHECKED.search(text), "scripts/check_templates wants a line such as <!-- checked: test/accuracy >= 0.98 -->"


def test_the_page_of_templates_says_what_was_measured(name: str) -> None:
    page = (ROOT / "docs/reference/templates.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| `{name}` \| test/.* \| IDENTICAL \|$", page, re.MULTILINE)
    assert row, "bring the table up to date: scripts/check_templates --write"


def test_a_copy_passes_its_own_test(name: str, tmp_path: Path) -> None:
    """The tests of templates run here, in copies, and nowhere else: a copy is what a user has."""
    copy_template(name, tmp_path / "mine")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "mine"]
    environment = {**kept, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout) and "skipped" not in done.stdout
