"""What users install: the wheel, the source archive and the editable install, built as pip builds them, offline."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

pytestmark = pytest.mark.xdist_group("packaging")  # one worker builds, once


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    clean = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PYTHONHOME"}} | env
    done = subprocess.run(
        command, cwd=cwd, env=clean, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(kind: str, source: Path, folder: Path) -> Path:
    """Builds with pyproject.toml's own backend; kind: wheel, sdist or editable."""
    backend = pytest.importorskip("scikit_build_core.build", reason="needs: pip install scikit-build-core")
    folder.mkdir(parents=True)
    code = f"import {backend.__name__} as b, sys; b.build_{kind}(sys.argv[1])"
    run(sys.executable, "-c", code, str(folder), cwd=source)
    (built,) = folder.iterdir()
    return built


def install(wheel: Path, folder: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index", "--no-deps"]
    run(*pip, "--target", folder, wheel, cwd=folder.parent)
    return folder


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


def files_of_git() -> set[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout: this is an unpacked source archive")
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
    return {name for name in listed if (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as git holds it, in a folder with a space in its name: others may write in the checkout meanwhile."""
    folder = tmp_path_factory.mktemp("a b") / "diva"
    for name in files_of_git():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    for junk in (
        ".venv/lib/x.py",
        "runs/r/manifest.json",
        "data/d/1.png",
        "diva/__pycache__/a.pyc",
        ".mypy_cache/a.json",
    ):
        (folder / junk).parent.mkdir(parents=True, exist_ok=True)
        (folder / junk).write_text("generated")
    for source in (folder / "diva" / "kernels" / "native").glob("*.cpp"):
        if (
            source.name != "pool.cpp"
        ):  # what is packed is tested here, not what is computed; to compile it all takes minutes
            source.write_text("// emptied by the test\n")
    return folder


@pytest.fixture(scope="module")
def committed(workspace: Path) -> set[str]:
    junk = {".venv", "runs", "data", ".mypy_cache"}
    files = (path.relative_to(workspace) for path in workspace.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.as_posix() for path in files if path.parts[0] not in junk}


@pytest.fixture(scope="module")
def wheel(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", workspace, tmp_path_factory.mktemp("wheel") / "out")


@pytest.fixture(scope="module")
def sdist(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", workspace, tmp_path_factory.mktemp("sdist") / "out")


def test_wheel_holds_the_package_with_templates_and_datasets_inside(wheel: Path, committed: set[str]):
    expected = {name for name in committed if name.startswith("diva/")}
    expected |= {f"diva/{name}" for name in committed if name.startswith(("templates/", "datasets/"))}
    info = f"diva-{VERSION}.dist-info/"
    names = {name for name in contents(wheel) if not name.startswith(info)}
    libraries = {name for name in names if name.endswith((".so", ".dylib"))}
    assert names - libraries == expected
    assert {name.rpartition("_")[2].partition(".")[0] for name in libraries} >= {"scalar"}
    assert all(name.startswith("diva/kernels/native/libdiva_kernels_") for name in libraries)
    assert {"diva/py.typed", "diva/templates/image_classification/task.py", "diva/datasets/digits.yaml"} <= expected
    assert f"{info}licenses/LICENSE" in contents(wheel)


def test_sdist_holds_what_git_holds_and_nothing_generated(sdist: Path, committed: set[str]):
    with tarfile.open(sdist) as archive:
        names = {name.removeprefix(f"diva-{VERSION}/") for name in archive.getnames()}
    assert names == committed | {"PKG-INFO"}


def test_sdist_builds_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    again = build("wheel", tmp_path / f"diva-{VERSION}", tmp_path / "out")
    assert again.name == wheel.name
    assert contents(again) == contents(wheel)


def test_installed_wheel_runs_without_the_checkout(wheel: Path, tmp_path: Path):
    target = install(wheel, tmp_path / "site")
    code = "import diva; print(diva.__file__, diva.resources('templates'), diva.resources('datasets'), sep='\\n')"
    found = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(target)).split()
    assert found == [str(target / "diva" / name) for name in ("__init__.py", "templates", "datasets")]
    assert run(sys.executable, "-m", "diva", "--version", cwd=tmp_path, PYTHONPATH=str(target)) == f"diva {VERSION}\n"


def test_editable_install_uses_the_checkout_but_stands_behind_pythonpath(workspace: Path, wheel: Path, tmp_path: Path):
    """A run is repeated from its snapshot by putting the snapshot first: no import hook may come before it."""
    site = install(build("editable", workspace, tmp_path / "out"), tmp_path / "site")
    snapshot = install(wheel, tmp_path / "snapshot")
    code = (
        "import site, sys; sys.path[:0] = sys.argv[2:]; site.addsitedir(sys.argv[1]); import diva; print(diva.__file__)"
    )
    python = [sys.executable, "-S", "-c", code, str(site)]
    assert run(*python, cwd=tmp_path).strip() == str(workspace / "diva" / "__init__.py")
    assert run(*python, str(snapshot), cwd=tmp_path).strip() == str(snapshot / "diva" / "__init__.py")


def setup_environment(*arguments: str, cwd: Path, path: str) -> subprocess.CompletedProcess[str]:
    command = ["/bin/bash", str(ROOT / "setup_environment.sh"), *arguments]
    return subprocess.run(command, cwd=cwd, env={"PATH": path}, capture_output=True, text=True, timeout=60)


def test_setup_explains_itself_and_refuses_what_it_does_not_know(tmp_path: Path):
    path = os.environ["PATH"]
    assert "--dev" in setup_environment("--help", cwd=tmp_path, path=path).stdout
    refused = setup_environment("--frobnicate", cwd=tmp_path, path=path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "unknown option --frobnicate" in refused.stderr


def test_setup_says_what_to_do_when_no_python_is_recent_enough(workspace: Path, tmp_path: Path):
    """Pythons that do not run (pyenv's shims) or are too old are passed over; nothing is left behind."""
    for tool in ("dirname", "uname", "cat", "grep", "rm"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or pytest.skip(f"needs {tool}"))
    for name in ("python3.13", "python3", "python"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 127\n")
        (tmp_path / name).chmod(0o755)
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    shutil.copy2(workspace / "setup_environment.sh", fresh)
    done = subprocess.run(
        ["/bin/bash", str(fresh / "setup_environment.sh")], env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "no Python 3.11 or newer was found" in done.stderr
    assert "--python PATH" in done.stderr
    assert [path.name for path in fresh.iterdir()] == ["setup_environment.sh"]
