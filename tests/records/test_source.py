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


@pytest.fixture(autouse=True)
def plain_git(monkeypatch, tmp_path):
    """A git that knows no one's configuration, and whose repositories end below the test's folder."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Ann")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "ann@example.org")


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


def git(folder, *arguments, config=()):
    done = subprocess.run(["git", *config, *arguments], cwd=folder, capture_output=True, text=True)
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
    git(project, "tag", "v1")
    record = source.record(project / TASK, kept, "clean")
    assert json.loads(json.dumps(record)) == record
    assert record["commit"] == git(project, "rev-parse", "HEAD") and record["branch"] == "main"
    assert record["remote"] == "https://example.org/lab/project.git" and record["describe"] == "v1"
    assert (record["kind"], record["name"], record["task"], record["dirty"]) == ("git", "project", TASK, False)
    assert record["changed"] == record["untracked"] == record["left_out"] == record["notes"] == []
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


def test_a_dirty_tree_is_told_file_by_file_and_patched(project, kept, tmp_path):
    (project / "old.py").unlink()
    write(project, {TASK: "lr = 2\n", "new.py": "new\n", "staged.bin": b"\0\1\2"})
    git(project, "add", "staged.bin")
    record = source.record(project / "tasks/cells", kept, "snapshot")
    assert record["dirty"] and record["task"] == "tasks/cells"
    assert record["changed"] == ["old.py", "staged.bin", TASK] and record["untracked"] == ["new.py"]
    assert tree(kept) == {TASK, "run.sh", ".gitignore", "new.py", "staged.bin"}
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(project), str(clone))
    git(clone, "apply", str(kept / "changes.patch"))
    assert (clone / TASK).read_text() == "lr = 2\n" and not (clone / "old.py").exists()
    assert (clone / "staged.bin").read_bytes() == b"\0\1\2"
    assert git(project, "status", "--porcelain", "--", "staged.bin") == "A  staged.bin", "the index was touched"


@pytest.mark.parametrize(
    "option",
    [
        "diff.noprefix=true",
        "diff.external=false",
        "color.ui=always",
        "status.showUntrackedFiles=no",
        "diff.renames=copy",
    ],
)
def test_the_users_git_configuration_changes_nothing(project, kept, tmp_path, option):
    write(project, {TASK: "lr = 2\n", "new.py": "x"})
    expected = source.record(project, tmp_path / "plain", "auto")
    git(project, "config", *option.split("="))
    assert source.record(project, kept, "auto") == expected


def test_a_git_hooks_variables_do_not_lead_to_another_repository(project, kept, tmp_path, monkeypatch):
    git(tmp_path, "init", "-q", "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other/.git/index"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "other"))
    record = source.record(project / TASK, kept, "clean")
    monkeypatch.undo()
    assert record["commit"] == git(project, "rev-parse", "HEAD") and record["name"] == "project"


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


def test_divas_own_outputs_are_no_dirt_and_in_no_snapshot(project, kept):
    write(project, {"runs/.gitignore": "*\n", "runs/cells/1/task.py": "x", "digits.footprint.json": "{}"})
    write(project, {"sets/.gitignore": "*", "sets/a.png": "x", "tasks/a.statistics.json": "{}"})
    write(project, {"tasks/cells/__pycache__/task.pyc": "x"})
    git(project, "add", "-f", "runs/cells/1/task.py", "digits.footprint.json")
    record = source.record(project / TASK, kept, "clean")
    assert not record["dirty"] and tree(kept) == {TASK, "run.sh", ".gitignore", "old.py"}


def test_a_repository_that_ignores_itself_is_still_recorded(project, kept):
    write(project, {".gitignore": "*\n"})
    source.record(project / TASK, kept, "auto")
    assert TASK in tree(kept)


def test_an_unborn_head_is_recorded_and_refused_by_clean(project, kept, tmp_path):
    fresh = tmp_path / "fresh"
    write(fresh, {"task.py": "a\n", "notes.txt": "b\n"})
    git(fresh, "init", "-q", "-b", "trunk")
    git(fresh, "add", "task.py")
    with pytest.raises(SourceError, match="no commit"):
        source.record(fresh, kept, "clean")
    record = source.record(fresh, kept, "auto")
    assert (record["kind"], record["commit"], record["branch"], record["dirty"]) == ("git", None, "trunk", True)
    assert tree(kept) == {"task.py", "notes.txt"} and told(record, "no commit yet")
    git(project, "apply", str(kept / "changes.patch"))
    assert (project / "task.py").read_text() == "a\n"


def test_a_detached_head_has_a_commit_and_no_branch(project, kept):
    git(project, "checkout", "-q", "--detach")
    record = source.record(project, kept, "clean")
    assert record["commit"] and record["branch"] is None and told(record, "detached")


def test_a_linked_worktree_is_a_repository(project, kept, tmp_path):
    git(project, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    write(tmp_path / "side", {TASK: "lr = 3\n"})
    record = source.record(tmp_path / "side" / TASK, kept, "auto")
    assert (record["name"], record["branch"], record["changed"]) == ("side", "side", [TASK])
    assert (kept / "tree" / TASK).read_text() == "lr = 3\n"


@pytest.fixture
def nested(project, tmp_path):
    """The project with a submodule at lib/layers, committed and checked out."""
    other = tmp_path / "layers"
    write(other, {"layers.py": "x\n"})
    git(other, "init", "-q", "-b", "main")
    git(other, "add", ".")
    git(other, "commit", "-q", "-m", "layers")
    allowed = ("-c", "protocol.file.allow=always")
    git(project, "submodule", "--quiet", "add", str(other), "lib/layers", config=allowed)
    git(project, "commit", "-q", "-m", "with submodule")
    return project


def test_submodules_are_in_the_snapshot(nested, kept):
    record = source.record(nested / TASK, kept, "clean")
    commit = git(nested / "lib/layers", "rev-parse", "HEAD")
    assert record["submodules"] == {"lib/layers": commit} and "lib/layers/layers.py" in tree(kept)
    assert told(record, "lib/layers")


def test_changes_inside_submodules_are_dirt_and_in_the_snapshot(nested, kept):
    write(nested, {"lib/layers/layers.py": "y\n", "lib/layers/new.py": "z\n"})
    record = source.record(nested / TASK, kept, "auto")
    assert record["changed"] == ["lib/layers/layers.py"] and record["untracked"] == ["lib/layers/new.py"]
    assert (kept / "tree/lib/layers/layers.py").read_text() == "y\n" and told(record, "not in changes.patch")
    assert (kept / "changes.patch").read_bytes() == b"", "git cannot apply a commit that is called dirty"


def test_a_submodule_at_another_commit_is_dirt(nested, kept):
    git(nested / "lib/layers", "commit", "-q", "--allow-empty", "-m", "moved")
    record = source.record(nested / TASK, kept, "auto")
    assert record["dirty"] and record["changed"] == ["lib/layers"]


def test_a_submodule_that_is_not_checked_out_is_said(nested, kept, tmp_path):
    git(tmp_path, "clone", "-q", str(nested), "copy")
    record = source.record(tmp_path / "copy" / TASK, kept, "clean")
    assert told(record, "not checked out") and record["submodules"] == {
        "lib/layers": git(nested / "lib/layers", "rev-parse", "HEAD")
    }


def test_an_untracked_repository_inside_is_in_the_snapshot(project, kept):
    write(project, {"vendor/x.py": "x\n"})
    git(project / "vendor", "init", "-q")
    git(project / "vendor", "add", ".")
    record = source.record(project, kept, "auto")
    assert record["untracked"] == ["vendor/x.py"] and "vendor/x.py" in tree(kept) and told(record, "vendor")


def test_a_task_in_no_repository_is_its_folder(tmp_path, kept):
    folder = tmp_path / "cells"
    write(folder, {"task.py": "a", "net/layers.py": "b", ".env": "SECRET=1", ".cache/x": "x", "big.bin": b"x" * 2000})
    write(folder, {"__pycache__/task.pyc": "x", "runs/.gitignore": "*\n", "runs/x": "x", "venv/pyvenv.cfg": "x"})
    record = source.record(folder / "task.py", kept, "auto", max_file_bytes=1000)
    assert (record["kind"], record["name"], record["task"]) == ("folder", "cells", "task.py")
    assert record["commit"] is None and record["dirty"] and not (kept / "changes.patch").exists()
    assert tree(kept) == {"task.py", "net/layers.py"}
    for words in ("no git repository", "venv", "big.bin: larger than 0.001 MB"):
        assert told(record, words), words
    with pytest.raises(SourceError, match="no git repository"):
        source.record(folder, tmp_path / "refused", "clean")


@pytest.mark.parametrize("place", ["home", "home/.."])
def test_a_task_file_in_the_home_directory_does_not_take_the_home_along(tmp_path, kept, monkeypatch, place):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write(tmp_path / "home", {"diary.txt": "private"})
    write(tmp_path / place, {"task.py": "a", "letter.txt": "private"})
    record = source.record(tmp_path / place / "task.py", kept, "auto")
    assert tree(kept) == {"task.py"} and told(record, "folder of its own")


def test_a_task_that_its_repository_ignores_is_its_folder(project, kept):
    write(project, {"data/cells/task.py": "a"})
    record = source.record(project / "data/cells/task.py", kept, "auto")
    assert (record["kind"], record["commit"], record["task"]) == ("folder", None, "task.py")
    assert tree(kept) == {"task.py"} and told(record, "ignored by the git repository project")


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


def test_a_repository_that_git_mistrusts_tells_its_commit_and_why(project, kept, tmp_path, monkeypatch):
    git(project, "remote", "add", "origin", "git@example.org:lab/project.git")
    commit = git(project, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    record = source.record(project / TASK, kept, "auto")
    assert (record["kind"], record["commit"], record["branch"], record["dirty"]) == ("folder", commit, "main", True)
    assert record["remote"] == "example.org:lab/project.git" and tree(kept) == {"task.py"}
    assert told(record, "safe.directory")
    with pytest.raises(SourceError, match=r"safe\.directory"):
        source.record(project / TASK, tmp_path / "refused", "clean")


def test_a_broken_repository_is_said_and_its_folder_recorded(project, kept):
    (project / ".git/index").write_bytes(b"no index")
    record = source.record(project / TASK, kept, "auto")
    assert record["kind"] == "folder" and told(record, "git cannot read project") and tree(kept) == {"task.py"}


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


def test_untracked_files_that_may_hold_secrets_stay_out_aloud(project, kept):
    write(project, {".env": "TOKEN=1", "tasks/server.pem": "x"})
    record = source.record(project / TASK, kept, "auto")
    assert {item["path"] for item in record["left_out"]} == {".env", "tasks/server.pem"} and told(record, "secrets")


def test_a_path_with_variables_and_spaces_is_only_a_path(tmp_path, kept):
    root = tmp_path / "a $HOME ~ b"
    write(root, {"task.py": "x"})
    git(root, "init", "-q", "-b", "main")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "x")
    assert source.record(root / "task.py", kept, "clean")["name"] == "a $HOME ~ b"


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


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.org/lab/x.git", "https://example.org/lab/x.git"),
        ("https://me:token@example.org:8443/x?private_token=1#f", "https://example.org:8443/x"),
        ("https://token@example.org/x@v1", "https://example.org/x@v1"),
        ("ssh://git@example.org:22/x.git", "ssh://example.org:22/x.git"),
        ("git@example.org:lab/x.git", "example.org:lab/x.git"),
        ("example.org:lab/x.git", "example.org:lab/x.git"),
        ("/home/ann/x.git", "~/x.git"),
        ("file:///home/ann/x.git", "file://~/x.git"),
        ("ext::ssh -i key me@host %S x", "ext::"),
    ],
)
def test_addresses_lose_their_credentials(monkeypatch, url, shown):
    monkeypatch.setenv("HOME", "/home/ann")
    assert source.without_credentials(url) == shown


def test_a_package_digest_follows_its_sources_and_nothing_else(tmp_path):
    folder = tmp_path / "diva"
    write(folder, {"a.py": "x", "kernels/k.cu": "y", "kernels/k.so": b"\0"})
    first = source.package_digest(folder)
    sums = subprocess.run(["sha256sum", "a.py", "kernels/k.cu", "kernels/k.so"], cwd=folder, capture_output=True)
    assert first == "sha256:" + hashlib.sha256(sums.stdout).hexdigest()
    write(folder, {"__pycache__/a.py": "x", "notes.txt": "x"})
    folder.rename(tmp_path / "moved")
    assert source.package_digest(tmp_path / "moved") == first
    write(tmp_path / "moved", {"kernels/k.so": b"\1"})
    assert source.package_digest(tmp_path / "moved") != first
    with pytest.raises(RecordError, match="no package"):
        source.package_digest(tmp_path / "gone")
