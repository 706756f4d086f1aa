"""A source record holds the code that ran, says what it lacks, and cannot be altered unnoticed."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from diva.errors import RecordError, SourceError
from diva.records import source

TASK = "tasks/cells/task.py"


@pytest.fixture
def project(tmp_path):
    """A clean repository with a task, a script, data that are ignored, and one commit on branch main."""
    root = tmp_path / "project"
    write(root, {TASK: "lr = 1\n", "run.sh": "#!/bin/sh\n", ".gitignore": "/data/\n", "old.py": "old\n"})
    write(root, {"data/big.bin": "never in a snapshot"})
    (root / "run.sh").chmod(0o755)
    git(root, "init", "-q", "-b", "main")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    return root


@pytest.fixture
def kept(tmp_path):
    """Where a run keeps its source."""
    return tmp_path / "run" / "source"


def git(folder, *arguments):
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def write(root, contents):
    for path, content in contents.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content if isinstance(content, bytes) else content.encode())


def tree(kept):
    """The files and links of a snapshot."""
    root = kept / "tree"
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_symlink() or path.is_file()}


def told(record, words):
    return any(words in note for note in record["notes"])


def test_a_clean_repository_is_its_commit_and_a_snapshot(project, kept):
    git(project, "remote", "add", "origin", "https://me:token@example.org/lab/project.git?key=1")
    record = source.record(project / TASK, kept, "clean")
    assert json.loads(json.dumps(record)) == record
    assert (record["kind"], record["name"], record["task"], record["dirty"]) == ("git", "project", TASK, False)
    assert (record["commit"], record["branch"]) == (git(project, "rev-parse", "HEAD"), "main")
    assert (record["remote"], record["describe"]) == ("https://example.org/lab/project.git", None)
    assert record["changed"] == record["untracked"] == record["left_out"] == record["notes"] == []
    assert record["submodules"] == record["links"] == {}
    assert tree(kept) == {TASK, "run.sh", ".gitignore", "old.py"}
    assert (record["n_files"], record["n_bytes"]) == (4, sum(len((project / path).read_bytes()) for path in tree(kept)))
    assert not (kept / "changes.patch").exists() and record["patch"] is None
    assert (kept / "tree/run.sh").stat().st_mode & 0o111 == 0o111 and not (kept / "tree/old.py").stat().st_mode & 0o111
    source.verify(kept, record)


def test_the_checksums_are_those_of_sha256sum(project, kept):
    write(project, {"two words.py": "a", "line\nfeed.py": "b", os.fsdecode(b"\xff.py"): "c"})
    write(project, {os.fsdecode("Zürich.py".encode()): "d"})
    (project / "link\nname").symlink_to("old.py")
    record = source.record(project, kept, "auto")
    done = subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=kept, capture_output=True)
    assert done.returncode == 0 and done.stdout.count(b": OK") == 8 and done.stderr == b""
    assert record["digest"] == "sha256:" + hashlib.sha256((kept / "SHA256SUMS").read_bytes()).hexdigest()
    source.verify(kept, json.loads(json.dumps(record)))


def test_a_dirty_tree_is_its_snapshot_and_a_patch(project, kept):
    (project / "old.py").unlink()
    write(project, {TASK: "lr = 2\n", "new.py": "new\n"})
    record = source.record(project / "tasks/cells", kept, "snapshot")
    assert record["dirty"] and record["task"] == "tasks/cells"
    assert record["changed"] == ["old.py", TASK] and record["untracked"] == ["new.py"]
    assert tree(kept) == {TASK, "run.sh", ".gitignore", "new.py"} and (kept / "tree" / TASK).read_text() == "lr = 2\n"
    assert record["patch"] == "sha256:" + hashlib.sha256((kept / "changes.patch").read_bytes()).hexdigest()
    git(project, "stash", "-q")
    git(project, "apply", str(kept / "changes.patch"))
    assert (project / TASK).read_text() == "lr = 2\n" and not (project / "old.py").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda root: write(root, {TASK: "lr = 2\n"}),
        lambda root: write(root, {"new.py": ""}),
        lambda root: (root / TASK).unlink() or write(root, {"tasks/cells/x.py": ""}),
        lambda root: (root / TASK).chmod(0o755),
    ],
)
def test_clean_refuses_any_change_and_writes_nothing(project, kept, change):
    change(project)
    with pytest.raises(SourceError, match=r"--code clean.*(task|new)\.py.*Commit") as caught:
        source.record(project / "tasks", kept, "clean")
    assert caught.value.exit_code == 3 and not kept.exists()


def test_clean_refuses_a_repository_without_a_commit(tmp_path, kept):
    write(tmp_path / "fresh", {"task.py": "a"})
    git(tmp_path, "init", "-q", "fresh")
    with pytest.raises(SourceError, match="no commit"):
        source.record(tmp_path / "fresh", kept, "clean")
    assert not kept.exists()


def test_changes_inside_submodules_are_in_the_snapshot_and_said(project, kept):
    git(project, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(project), "lib/inner")
    git(project, "commit", "-q", "-m", "with submodule")
    write(project, {"lib/inner/old.py": "y\n"})
    record = source.record(project / TASK, kept, "auto")
    assert record["submodules"] == {"lib/inner": git(project / "lib/inner", "rev-parse", "HEAD")}
    assert (kept / "tree/lib/inner/old.py").read_text() == "y\n" and told(record, "not in changes.patch: lib/inner")


def test_a_task_in_no_repository_is_its_folder(tmp_path, kept):
    folder = tmp_path / "cells"
    write(folder, {"task.py": "a", "net/layers.py": "b", "big.bin": b"x" * 2000})
    record = source.record(folder / "task.py", kept, "auto", max_file_bytes=1000)
    assert (record["kind"], record["name"], record["task"]) == ("folder", "cells", "task.py")
    assert record["commit"] is None and record["dirty"] and not (kept / "changes.patch").exists()
    assert tree(kept) == {"task.py", "net/layers.py"}
    assert told(record, "no git repository") and told(record, "big.bin: larger than 0.001 MB")
    with pytest.raises(SourceError, match="no git repository"):
        source.record(folder, tmp_path / "refused", "clean")


def test_without_a_git_executable_the_folder_is_recorded(project, kept, tmp_path):
    program = (
        "import json, sys; from pathlib import Path; from diva.records import source;"
        "print(json.dumps(source.record(Path(sys.argv[1]), Path(sys.argv[2]), 'auto')))"
    )
    root = Path(source.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program, project / TASK, kept],
        env={"PATH": str(tmp_path), "PYTHONPATH": str(root), "HOME": str(tmp_path / "nobody")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["kind"] == "folder" and told(record, "git is not installed") and tree(kept) == {"task.py"}
    source.verify(kept, record)


def test_files_above_the_cap_are_left_out_aloud(project, kept):
    write(project, {"weights.bin": b"w" * 300, "held.bin": b"h" * 200})
    git(project, "add", "held.bin")
    git(project, "commit", "-q", "-m", "held")
    record = source.record(project / TASK, kept, "auto", max_file_bytes=100)
    assert record["left_out"] == [
        {"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "why": why, "recoverable": held}
        for path, data, why, held in (
            ("held.bin", b"h" * 200, "larger than 0.0001 MB", True),
            ("weights.bin", b"w" * 300, "larger than 0.0001 MB", False),
        )
    ]
    assert told(record, "NOT in the snapshot, and in no commit: weights.bin") and told(record, "held.bin")
    assert not {"weights.bin", "held.bin"} & tree(kept)
    with pytest.raises(SourceError, match=r"weights\.bin.*\.gitignore"):
        source.record(project / TASK, kept / "refused", "snapshot", max_file_bytes=100)
    (project / "weights.bin").unlink()
    source.record(project / TASK, kept / "accepted", "snapshot", max_file_bytes=100)


def test_the_biggest_files_are_left_out_until_the_rest_fits(project, kept):
    write(project, {f"{n}.bin": b"x" * n for n in (100, 200, 300)})
    small = sum((project / path).stat().st_size for path in (TASK, "run.sh", ".gitignore", "old.py"))
    record = source.record(project / TASK, kept, "auto", max_total_bytes=small + 300)
    assert [item["path"] for item in record["left_out"]] == ["300.bin"]
    assert record["n_bytes"] == small + 300 and told(record, "would exceed")


def test_a_changed_file_above_the_cap_is_lost_and_not_in_the_patch(project, kept):
    write(project, {TASK: "lr = 2\n", "old.py": "y" * 500})
    record = source.record(project / TASK, kept, "auto", max_file_bytes=100)
    assert [(item["path"], item["recoverable"]) for item in record["left_out"]] == [("old.py", False)]
    patch = (kept / "changes.patch").read_text()
    assert "lr = 2" in patch and "yyy" not in patch


def test_a_patch_above_the_cap_is_not_written_and_said(project, kept):
    write(project, {"old.py": "".join(f"{n}\n" for n in range(2000))})
    git(project, "commit", "-q", "-a", "-m", "long")
    (project / "old.py").unlink()
    record = source.record(project / TASK, kept, "auto", max_total_bytes=5000)
    assert record["patch"] is None and not (kept / "changes.patch").exists() and told(record, "changes.patch")
    source.verify(kept, record)


def test_links_are_kept_only_within_the_tree(project, kept, tmp_path):
    write(tmp_path, {"outside/secret.py": "x"})
    for name, target in {
        "inside": "old.py",
        "folder": "tasks",
        "dangling": "nowhere",
        "out": "../outside",
        "absolute": str(project / "old.py"),
        "around": "../project/old.py",
        "through": "out/secret.py",
        "circle": "circle",
        "to_data": "data/big.bin",
    }.items():
        (project / name).symlink_to(target)
    git(project, "add", ".")
    git(project, "commit", "-q", "-m", "links")
    record = source.record(project / TASK, kept, "auto")
    assert record["links"] == {
        "circle": "circle",
        "dangling": "nowhere",
        "folder": "tasks",
        "inside": "old.py",
        "to_data": "data/big.bin",
    }
    assert {item["path"] for item in record["left_out"]} == {"absolute", "around", "out", "through"}
    assert not any(item["recoverable"] for item in record["left_out"])
    assert (kept / "tree/inside").readlink() == Path("old.py") and (kept / "tree/folder/cells/task.py").is_file()
    assert told(record, "leads outside the project") and told(record, "links to what is not in the snapshot")
    source.verify(kept, record)


def test_a_folder_replaced_by_a_link_is_recorded_as_the_link(project, kept):
    (project / "tasks").rename(project / "moved")
    (project / "tasks").symlink_to("moved")
    record = source.record(project / "moved", kept, "auto")
    assert tree(kept) >= {"tasks", "moved/cells/task.py"} and (kept / "tree/tasks").is_symlink()
    source.verify(kept, record)


def test_a_folder_replaced_by_a_link_in_a_circle_is_recorded_as_the_link(project, kept):
    (project / TASK).unlink()
    (project / TASK).parent.rmdir()
    (project / TASK).parent.symlink_to("cells")
    record = source.record(project, kept, "auto")
    assert record["links"] == {"tasks/cells": "cells"} and TASK not in tree(kept) and record["dirty"]


def test_a_pipe_and_an_unreadable_file_stay_out_aloud(tmp_path, kept, monkeypatch):
    write(tmp_path / "cells", {"task.py": "x", "locked.py": "x"})
    os.mkfifo(tmp_path / "cells/pipe")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "locked.py")  # root reads everything
    record = source.record(tmp_path / "cells/task.py", kept, "auto")
    assert [(item["path"], item["why"], item["sha256"]) for item in record["left_out"]] == [
        ("locked.py", "cannot be read", None),
        ("pipe", "not a plain file", None),
    ]


def test_untracked_files_that_may_hold_secrets_stay_out_aloud(project, kept):
    write(project, {".env": "TOKEN=1", "tasks/server.pem": "x"})
    record = source.record(project / TASK, kept, "auto")
    assert {item["path"] for item in record["left_out"]} == {".env", "tasks/server.pem"} and told(record, "secrets")


def test_a_snapshot_is_never_written_over(project, kept):
    source.record(project, kept, "auto")
    with pytest.raises(RecordError, match="already holds"):
        source.record(project, kept, "auto")


def test_a_missing_task_is_a_source_error(tmp_path, kept):
    with pytest.raises(SourceError, match="does not exist"):
        source.record(tmp_path / "gone.py", kept, "auto")


@pytest.mark.parametrize(
    ("alter", "named"),
    [
        (lambda kept: (kept / "tree" / TASK).write_text("lr = 9\n"), rf"altered: tree/{TASK}"),
        (lambda kept: (kept / "tree" / TASK).unlink(), rf"missing: tree/{TASK}"),
        (lambda kept: (kept / "tree/new.py").write_text(""), r"added: tree/new\.py"),
        (lambda kept: (kept / "tree/new").symlink_to("old.py"), r"added: tree/new"),
        (lambda kept: os.mkfifo(kept / "tree/pipe"), r"added: tree/pipe"),
        (lambda kept: (kept / "tree/link").unlink(), r"missing: tree/link"),
        (lambda kept: (kept / "tree/link").unlink() or (kept / "tree/link").symlink_to("run.sh"), "altered: tree/link"),
        (lambda kept: (kept / "changes.patch").write_text(""), r"altered: changes\.patch"),
        (lambda kept: (kept / "changes.patch").unlink(), r"missing: changes\.patch"),
        (lambda kept: (kept / "SHA256SUMS").write_text(""), "SHA256SUMS"),
        (lambda kept: (kept / "SHA256SUMS").unlink(), "SHA256SUMS"),
    ],
)
def test_every_alteration_of_a_snapshot_is_named(project, kept, alter, named):
    (project / "link").symlink_to("old.py")
    write(project, {"old.py": "changed\n"})
    record = source.record(project / TASK, kept, "auto")
    source.verify(kept, record)
    alter(kept)
    with pytest.raises(RecordError, match=named) as caught:
        source.verify(kept, record)
    assert caught.value.exit_code == 4


def test_a_snapshot_may_move(project, kept, tmp_path, monkeypatch):
    record = source.record(project / TASK, kept, "auto")
    kept.rename(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    source.verify(Path("elsewhere"), record)


def test_a_package_digest_follows_its_sources_and_nothing_else(tmp_path):
    folder = tmp_path / "diva"
    write(folder, {"a.py": "x", "kernels/CMakeLists.txt": "z", "kernels/k.cu": "y"})
    first = source.package_digest(folder)
    sums = subprocess.run(
        ["sha256sum", "a.py", "kernels/CMakeLists.txt", "kernels/k.cu"], cwd=folder, capture_output=True
    )
    assert first == "sha256:" + hashlib.sha256(sums.stdout).hexdigest()
    write(folder, {"__pycache__/a.py": "x", "notes.txt": "x", "kernels/k.so": b"\0"})
    folder.rename(tmp_path / "moved")
    assert source.package_digest(tmp_path / "moved") == first
    write(tmp_path / "moved", {"kernels/k.cu": "x"})
    assert source.package_digest(tmp_path / "moved") != first
    with pytest.raises(RecordError, match="no package"):
        source.package_digest(tmp_path / "gone")
