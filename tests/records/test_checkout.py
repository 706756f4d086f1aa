"""A checkout tells which code belongs to a task, where it stands, and what git does not know."""

import os
import subprocess

import pytest

from diva.records import checkout

TASK = "tasks/cells/task.py"


@pytest.fixture
def project(tmp_path):
    """A clean repository with a task, data that are ignored, and one commit on branch main."""
    root = tmp_path / "project"
    write(root, {TASK: "lr = 1\n", ".gitignore": "/data/\n", "old.py": "old\n", "data/big.bin": "x"})
    commit(root)
    return root


def git(folder, *arguments):
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def commit(root):
    git(root, "init", "-q", "-b", "main")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")


def write(root, contents):
    for path, content in contents.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content if isinstance(content, bytes) else content.encode())


def patch(found, place, without=()):
    with place.open("wb") as stream:
        checkout.write_patch(found, stream, without=without)
    return place.read_bytes()


def told(found, words):
    return any(words in note for note in found.notes)


def test_a_clean_repository_is_its_commit(project):
    git(project, "remote", "add", "origin", "https://me:token@example.org/lab/project.git?key=1")
    git(project, "tag", "v1")
    found = checkout.examine(project / TASK)
    assert found.head == checkout.Head(
        git(project, "rev-parse", "HEAD"), "main", "https://example.org/lab/project.git", "v1"
    )
    assert (found.kind, found.root, found.dirty) == ("git", project, False)
    assert found.paths == (".gitignore", "old.py", TASK) and found.unmodified == set(found.paths)
    assert found.changed == found.untracked == found.notes == () and found.submodules == {}


def test_a_dirty_tree_is_told_file_by_file_and_patched(project, tmp_path):
    (project / "old.py").unlink()
    write(project, {TASK: "lr = 2\n", "new.py": "new\n", "staged.bin": b"\0\1\2", "big.txt": "long"})
    git(project, "add", "staged.bin", "big.txt")
    found = checkout.examine(project / "tasks/cells")
    assert found.dirty and found.untracked == ("new.py",) and found.unmodified == {".gitignore"}
    assert found.changed == ("big.txt", "old.py", "staged.bin", TASK)
    patch(found, tmp_path / "patch", without=["big.txt"])
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(project), str(clone))
    git(clone, "apply", str(tmp_path / "patch"))
    assert (clone / TASK).read_text() == "lr = 2\n" and not (clone / "old.py").exists()
    assert (clone / "staged.bin").read_bytes() == b"\0\1\2" and not (clone / "big.txt").exists()
    assert git(project, "status", "--porcelain", "--", "staged.bin") == "A  staged.bin", "the index was touched"


@pytest.mark.parametrize(
    "option",
    [
        "diff.noprefix=true",
        "diff.external=false",
        "color.ui=always",
        "status.showUntrackedFiles=no",
        "status.relativePaths=false",
        "status.branch=true",
        "diff.renames=copy",
    ],
)
def test_the_users_git_configuration_changes_nothing(project, tmp_path, option):
    git(project, "mv", "old.py", "moved.py")
    write(project, {TASK: "lr = 2\n", "new.py": "x", "folder/new.py": "x"})
    expected = checkout.examine(project)
    expected_patch = patch(expected, tmp_path / "patch")
    git(project, "config", *option.split("="))
    assert checkout.examine(project) == expected and patch(expected, tmp_path / "again") == expected_patch
    assert expected.changed == ("moved.py", "old.py", TASK) and expected.untracked == ("folder/new.py", "new.py")


def test_a_git_hooks_variables_do_not_lead_to_another_repository(project, tmp_path, monkeypatch):
    expected = checkout.examine(project / TASK)
    git(tmp_path, "init", "-q", "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other/.git/index"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "other"))
    assert checkout.examine(project / TASK) == expected


def test_divas_own_outputs_are_no_dirt_and_no_part_of_it(project):
    expected = checkout.examine(project / TASK).paths
    write(project, {"runs/.gitignore": "*\n", "runs/cells/1/task.py": "x", "digits.footprint.json": "{}"})
    write(
        project,
        {"sets/.gitignore": "*", "sets/a.png": "x", "tasks/a.statistics.json": "{}", "tasks/a.analysis.json": "{}"},
    )
    write(project, {"tasks/cells/__pycache__/task.pyc": "x"})
    git(project, "add", "-f", "runs/cells/1/task.py", "digits.footprint.json")
    found = checkout.examine(project / TASK)
    assert not found.dirty and found.paths == expected


def test_a_repository_that_ignores_itself_is_still_told(project):
    write(project, {".gitignore": "*\n"})
    assert TASK in checkout.examine(project / TASK).paths


def test_an_unborn_head_has_a_branch_and_a_patch_since_nothing(project, tmp_path):
    fresh = tmp_path / "fresh"
    write(fresh, {"task.py": "a\n", "notes.txt": "b\n"})
    git(fresh, "init", "-q", "-b", "trunk")
    git(fresh, "add", "task.py")
    found = checkout.examine(fresh)
    assert (found.kind, found.head, found.dirty) == ("git", checkout.Head(branch="trunk"), True)
    assert found.paths == ("notes.txt", "task.py") and found.unmodified == set() and told(found, "no commit yet")
    patch(found, tmp_path / "patch")
    git(project, "apply", str(tmp_path / "patch"))
    assert (project / "task.py").read_text() == "a\n"


def test_a_detached_head_has_a_commit_and_no_branch(project):
    git(project, "checkout", "-q", "--detach")
    found = checkout.examine(project)
    assert found.head.commit and found.head.branch is None and told(found, "detached")


def test_a_linked_worktree_is_a_repository(project, tmp_path):
    git(project, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    write(tmp_path / "side", {TASK: "lr = 3\n"})
    found = checkout.examine(tmp_path / "side" / TASK)
    assert (found.root.name, found.head.branch, found.changed) == ("side", "side", (TASK,))


@pytest.fixture
def nested(project, tmp_path):
    """The project with a submodule at lib/layers, committed and checked out."""
    other = tmp_path / "layers"
    write(other, {"layers.py": "x\n"})
    commit(other)
    git(project, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other), "lib/layers")
    git(project, "commit", "-q", "-m", "with submodule")
    return project


def test_submodules_belong_to_the_project(nested):
    found = checkout.examine(nested / TASK)
    assert found.submodules == {"lib/layers": git(nested / "lib/layers", "rev-parse", "HEAD")} and not found.dirty
    assert "lib/layers/layers.py" in found.unmodified & set(found.paths) and told(found, "lib/layers")


def test_changes_inside_submodules_are_dirt(nested, tmp_path):
    write(nested, {"lib/layers/layers.py": "y\n", "lib/layers/new.py": "z\n"})
    found = checkout.examine(nested / TASK)
    assert found.changed == ("lib/layers/layers.py",) and found.untracked == ("lib/layers/new.py",)
    assert patch(found, tmp_path / "patch") == b"", "git cannot apply a commit that is called dirty"


def test_a_submodule_at_another_commit_is_dirt(nested):
    git(nested / "lib/layers", "commit", "-q", "--allow-empty", "-m", "moved")
    found = checkout.examine(nested / TASK)
    assert found.dirty and found.changed == ("lib/layers",)


def test_a_submodule_that_is_not_checked_out_is_said(nested, tmp_path):
    git(tmp_path, "clone", "-q", str(nested), "copy")
    found = checkout.examine(tmp_path / "copy" / TASK)
    assert told(found, "not checked out") and not found.dirty
    assert found.submodules == {"lib/layers": git(nested / "lib/layers", "rev-parse", "HEAD")}


@pytest.mark.parametrize("committed", [True, False])
def test_an_untracked_repository_inside_is_untracked_files(project, committed):
    write(project, {"vendor/x.py": "x\n"})
    if committed:
        commit(project / "vendor")
    else:
        git(project / "vendor", "init", "-q")
    found = checkout.examine(project)
    assert found.untracked == ("vendor/x.py",) and "vendor/x.py" in found.paths
    assert "vendor/x.py" not in found.unmodified and told(found, "vendor")


def test_a_task_in_no_repository_is_its_folder(tmp_path):
    folder = tmp_path / "cells"
    write(folder, {"task.py": "a", "net/layers.py": "b", ".env": "SECRET=1", ".cache/x": "x", "venv/pyvenv.cfg": "x"})
    write(folder, {"__pycache__/task.pyc": "x", "runs/.gitignore": "*\n", "runs/x": "x"})
    (folder / "link").symlink_to("net")
    found = checkout.examine(folder / "task.py")
    assert (found.kind, found.root, found.head, found.dirty) == ("folder", folder, checkout.Head(), True)
    assert found.paths == ("link", "net/layers.py", "task.py")
    assert told(found, "no git repository") and told(found, "venv")


@pytest.mark.parametrize("place", ["home", "home/.."])
def test_a_task_file_in_the_home_directory_does_not_take_the_home_along(tmp_path, monkeypatch, place):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write(tmp_path / "home", {"diary.txt": "private"})
    write(tmp_path / place, {"task.py": "a", "letter.txt": "private"})
    found = checkout.examine((tmp_path / place / "task.py").resolve())
    assert found.paths == ("task.py",) and told(found, "folder of its own")


def test_a_task_that_its_repository_ignores_is_its_folder(project):
    write(project, {"data/cells/task.py": "a"})
    found = checkout.examine(project / "data/cells/task.py")
    assert (found.kind, found.head.commit, found.paths) == ("folder", None, ("task.py",))
    assert told(found, "ignored by the git repository project")


def test_a_folder_that_only_looks_like_a_repository_belongs_to_the_one_around_it(project):
    write(project, {"lib/task.py": "a", "lib/.git/notes": "no repository"})
    found = checkout.examine(project / "lib/task.py")
    assert (found.root, found.untracked) == (project, ("lib/task.py",))


def test_a_repository_that_git_mistrusts_tells_its_commit_and_why(project, monkeypatch):
    git(project, "remote", "add", "origin", "git@example.org:lab/project.git")
    head = checkout.Head(git(project, "rev-parse", "HEAD"), "main", "example.org:lab/project.git")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    found = checkout.examine(project / TASK)
    assert (found.kind, found.head, found.dirty, found.paths) == ("folder", head, True, ("task.py",))
    assert told(found, "safe.directory")


def test_a_broken_repository_is_said_and_its_folder_taken(project):
    (project / ".git/index").write_bytes(b"no index")
    found = checkout.examine(project / TASK)
    assert (found.kind, found.paths) == ("folder", ("task.py",))
    assert told(found, "git cannot read project (fatal: .git/index: index file smaller than expected): changes")


def test_a_path_with_variables_and_spaces_is_only_a_path(tmp_path):
    root = tmp_path / "a $HOME ~ b"
    write(root, {"task.py": "x"})
    commit(root)
    found = checkout.examine(root / "task.py")
    assert (found.kind, found.root, found.dirty) == ("git", root, False)


def test_names_that_are_no_text_are_kept(project):
    write(project, {"two words.py": "a", "line\nfeed.py": "b", os.fsdecode(b"\xff.py"): "c", "Zürich.py": "d"})
    assert checkout.examine(project).untracked == (
        "Zürich.py",
        "line\nfeed.py",
        "two words.py",
        os.fsdecode(b"\xff.py"),
    )


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.org/lab/x.git", "https://example.org/lab/x.git"),
        ("https://me:token@example.org:8443/x?private_token=1#f", "https://example.org:8443/x"),
        ("https://me:to#ken?@example.org/x", "https://example.org/x"),
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
    assert checkout.without_credentials(url) == shown
