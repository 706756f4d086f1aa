"""Who may import whom, read from the imports themselves. The table is docs/explanation/architecture.md in one dict."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import diva

ROOT = Path(__file__).resolve().parents[2]

BASE = {"seeding", "params", "errors", "torchvision_shim"}
MIDDLE = {"records", "data", "learning", "kernels", "report"}

# unit of diva -> the units it may import (besides itself). A unit that is missing here may not exist.
MAY_IMPORT: dict[str, set[str]] = {
    "__main__": {"cli"},
    "__init__": MIDDLE | BASE | {"experiment"},  # the public names
    "cli": MIDDLE | BASE | {"experiment", "statistics"},
    "experiment": MIDDLE | BASE | {"statistics"},
    "statistics": BASE,
    "records": BASE,
    "report": BASE,
    "kernels": {"errors"},
    "data": BASE | {"records"},
    "learning": BASE | {"data", "kernels"},
    "seeding": {"errors"},
    "params": {"errors"},
    "torchvision_shim": {"errors"},
    "errors": set(),
}
# unit -> libraries it must not import anywhere, not even inside a function, and why
FORBIDDEN = {
    "records": ({"torch", "torchvision"}, "records are files, git and hashes; pass plain numbers and bytes in"),
    "learning": (
        {"git", "tensorboard"},
        "learning knows no folders and no git; yield an Event and let experiment write it",
    ),
}
# what diva/__init__.py defines itself; inside diva everything else is imported from where it is defined
OWN_NAMES = {"resources", "__version__", "__file__"}
PUBLIC = set(dir(diva))
# `diva.cli` must answer --help at once
HEAVY = {"torch", "torchvision", "matplotlib", "pydantic", "numpy", "sklearn"}


def imports_of(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[tuple[int, str]]:
    """Each (line, dotted name) that the code imports, at any depth; relative imports made absolute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".") if is_package else module.split(".")[:-1]
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"import_module", "__import__"} and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def violations(path: Path, source: str) -> list[str]:
    """What one file of diva/ or templates/ imports although it may not; path is relative to the project."""
    is_package = path.name == "__init__.py"
    module = ".".join(path.with_suffix("").parts[: -1 if is_package else None])
    tree = ast.parse(source)
    if path.parts[0] == "templates":
        return list(_template_violations(path, tree, module))
    unit = path.with_suffix("").parts[1]
    if unit not in MAY_IMPORT:
        return [f"{path}: diva/{unit} is not in the plan; move it into a unit, or add it to MAY_IMPORT and to the docs"]
    found = []
    libraries, reason = FORBIDDEN.get(unit, (set(), ""))
    for line, name in imports_of(tree, module, is_package=is_package):
        top, *rest = name.split(".")
        if top in libraries:
            found.append(f"{path}:{line}: {unit} must not import {top}: {reason}")
        if top in {"templates", "tests", "datasets"}:
            found.append(f"{path}:{line}: diva must not import {top}/; templates are loaded by path")
        if (
            top != "diva" or name == "diva" or rest[0] in OWN_NAMES
        ):  # `import diva` alone is for diva.resources and the like
            continue
        if rest[0] not in MAY_IMPORT:
            found.append(
                f"{path}:{line}: import {name} goes through the public names; import the module that defines it"
            )
        elif rest[0] != unit and rest[0] not in MAY_IMPORT[unit]:
            allowed = ", ".join(sorted(MAY_IMPORT[unit])) or "nothing of ours"
            found.append(
                f"{path}:{line}: {unit} must not import {rest[0]} (allowed: {allowed}); let experiment join them"
            )
    return found


def _template_violations(path: Path, tree: ast.AST, module: str) -> Iterator[str]:
    """A template is what a user copies: it uses the names that `diva` exports and the files of its own folder."""
    folder = f"templates.{path.parts[1]}"
    for line, name in imports_of(tree, module, is_package=False):
        if name.partition(".")[0] == "templates" and name != folder and not name.startswith(f"{folder}."):
            yield f"{path}:{line}: {name} is another template's; copy what you need, or offer it in diva"
        if name.startswith("diva.") and name.removeprefix("diva.") not in PUBLIC:
            yield f"{path}:{line}: {name} is not exported; use, or add, a public name of diva/__init__.py"
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "diva"):
            continue
        if node.attr not in PUBLIC and not node.attr.startswith("__"):
            yield f"{path}:{node.lineno}: diva.{node.attr} is not exported; use, or add, a public name"


MODULES = sorted(path.relative_to(ROOT) for folder in ("diva", "templates") for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_point_downward(path: Path):
    found = violations(path, (ROOT / path).read_text(encoding="utf-8"))
    assert not found, "\n" + "\n".join(found)


def test_the_suite_has_looked_at_every_unit():
    units = {path.with_suffix("").parts[1] for path in MODULES if path.parts[0] == "diva"}
    assert {"__init__", "__main__", "cli", "experiment", "records", "learning", "report", *BASE} <= units
    assert len(MODULES) >= 30, f"only {len(MODULES)} modules were found under {ROOT}"


@pytest.mark.parametrize(
    ("path", "source", "message"),
    [
        ("diva/records/a.py", "from diva.learning import events", "records must not import learning"),
        (
            "diva/learning/a.py",
            "def f():\n    from diva.records.source import git",
            ":2: learning must not import records",
        ),
        ("diva/learning/sub/a.py", "from ...report import figures", "learning must not import report"),
        ("diva/learning/__init__.py", "from ..cli import main", "learning must not import cli"),
        ("diva/kernels/a.py", "import diva.seeding", "kernels must not import seeding (allowed: errors)"),
        ("diva/report/a.py", "from diva import records", "report must not import records"),
        ("diva/data/a.py", "from diva.learning import loop", "data must not import learning"),
        ("diva/experiment/a.py", "import diva.cli.main", "experiment must not import cli"),
        ("diva/errors.py", "from diva.params import knob", "(allowed: nothing of ours)"),
        ("diva/records/a.py", "from diva import Task", "goes through the public names"),
        ("diva/records/a.py", "def f():\n    import torch.nn as nn", ":2: records must not import torch"),
        ("diva/records/a.py", "import importlib\nimportlib.import_module('torch')", "records must not import torch"),
        ("diva/cli/a.py", "from templates.t import task", "diva must not import templates/"),
        ("diva/utils/a.py", "", "diva/utils is not in the plan"),
        ("diva/helpers.py", "", "diva/helpers is not in the plan"),
        ("templates/t/task.py", "from diva.learning.task import Task", "is not exported"),
        ("templates/t/task.py", "from diva import no_such_name", "is not exported"),
        ("templates/t/task.py", "import diva\ndiva.learning", "diva.learning is not exported"),
        ("templates/t/task.py", "from ..u import models", "another template's"),
    ],
)
def test_the_checker_sees(path: str, source: str, message: str):
    found = violations(Path(path), source)
    assert len(found) == 1
    assert message in found[0]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "diva/records/a.py",
            "import hashlib\nfrom diva import __version__\nfrom diva.errors import DataError\nfrom . import b",
        ),
        ("diva/experiment/a.py", "import torch\nfrom diva.records import manifest\nfrom diva.learning import loop"),
        ("diva/cli/__init__.py", "def main():\n    from diva.experiment import execute"),
        ("diva/data/a.py", "from diva.records.footprint import footprint"),
        (
            "templates/t/task.py",
            "import torch\nimport diva\nfrom . import models\nfrom .models import small_cnn\ndiva.__version__",
        ),
    ],
)
def test_the_checker_allows(path: str, source: str):
    assert violations(Path(path), source) == []


def test_the_command_line_loads_nothing_heavy():
    code = f"import sys, diva.cli; print(*sorted({HEAVY!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [], "import these inside the function that needs them"
