"""Checkouts: what git says of the project that holds a task, and what stands in for it where git says nothing."""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from diva.records import files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import BinaryIO

    from git import Repo
    from git.exc import CommandError

_OUTPUT_ENDS = (".footprint.json", ".statistics.json", ".analysis.json", ".download.json")


@dataclass(frozen=True)
class Head:
    """Where a repository stands."""

    commit: str | None = None
    branch: str | None = None
    remote: str | None = None
    describe: str | None = None


@dataclass(frozen=True)
class Project:
    """The code that belongs to a task; all paths are relative to root, with `/`, sorted."""

    kind: Literal["git", "folder"]
    root: Path
    paths: tuple[str, ...]
    head: Head = Head()
    changed: tuple[str, ...] = ()
    untracked: tuple[str, ...] = ()
    unmodified: frozenset[str] = frozenset()  # what the commit gives back
    submodules: Mapping[str, str | None] = field(default_factory=dict)  # their commits
    notes: tuple[str, ...] = ()

    @property
    def dirty(self) -> bool:
        """Whether the commit alone does not give this code back."""
        return self.kind == "folder" or self.head.commit is None or bool(self.changed or self.untracked)


def examine(task: Path) -> Project:
    """The project that holds a task (a resolved path): its git repository or, without one, the task's folder."""
    try:
        from git.exc import CommandError
    except ImportError:  # GitPython refuses to load without a git executable
        return _folder(task, "git is not installed: commit and changes are unknown, the task's folder was copied.")
    repo = next((repo for repo in map(_open, (task, *task.parents)) if repo), None)
    if repo is None:
        return _folder(task, f"{task.name} lies in no git repository: there is no commit, its folder was copied.")
    try:
        project = _repository(repo)
    except CommandError as error:
        return replace(_folder(task, _refusal(Path(repo.working_dir), error)), head=_head(repo))
    inside = task.relative_to(project.root).as_posix()
    if inside == "." or any(f"{path}/".startswith(f"{inside}/") for path in project.paths):
        return project
    ignored = f"{inside} is ignored by the git repository {project.root.name}"
    return _folder(task, f"{ignored}: there is no commit, its folder was copied.")


def write_patch(project: Project, stream: BinaryIO, *, without: Iterable[str]) -> None:
    """Write what a repository's working tree changed since its commit (or nothing), in the form `git apply` takes."""
    repo = _open(project.root)
    assert repo is not None, "only a repository has a patch"
    base = "HEAD" if project.head.commit else _answer(repo, "hash-object", "-t", "tree", "--stdin")  # the empty tree
    # The user's own configuration must not change what a patch looks like.
    form = ("--binary", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames")
    prefixes = ("--src-prefix=a/", "--dst-prefix=b/", "--ignore-submodules=dirty")
    excluded = (f":(exclude,top,literal){path}" for path in without)
    _git(repo, "diff", *form, *prefixes, str(base), "--", ".", *excluded, into=stream)


def without_credentials(url: str) -> str:
    """An address without user, password, token, query or fragment: `git@host:path` becomes `host:path`."""
    if helper := re.match(r"[A-Za-z0-9]+::", url):
        return helper[0]  # what follows is a command line or anything else, secrets included
    bare = re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*://)?[^/]*@", r"\1", url)
    return files.hide_home(re.split("[?#]", bare)[0])


def _open(folder: Path) -> Repo | None:
    """The repository whose working tree a folder is, if it is one."""
    from git import Repo
    from git.exc import InvalidGitRepositoryError

    if not (folder / ".git").exists():
        return None
    try:
        repo = Repo(folder, expand_vars=False)
    except InvalidGitRepositoryError:
        return None
    if repo.bare:
        return None
    # Other runs may be reading the index. Inside git hooks, variables would lead to another repository.
    repo.git.update_environment(GIT_OPTIONAL_LOCKS="0")
    here = {"GIT_DIR": f"{repo.git_dir}", "GIT_WORK_TREE": f"{folder}", "GIT_INDEX_FILE": f"{repo.git_dir}/index"}
    if here.keys() & os.environ.keys():
        repo.git.update_environment(**here)
    return repo


def _git(repo: Repo, *command: str, into: BinaryIO | None = None) -> bytes:
    """What a git command prints, to the byte."""
    # -C, because GitPython expands $NAMES in the working folder
    output: bytes = repo.git.execute(
        ["git", "-C", str(repo.working_dir), *command],
        output_stream=into,
        stdout_as_string=False,
        strip_newline_in_stdout=False,
    )
    return output


def _entries(repo: Repo, *command: str) -> list[str]:
    """The entries that a git command ends with NUL bytes, as paths of this system."""
    return [os.fsdecode(entry) for entry in _git(repo, *command, "-z").split(b"\0") if entry]


def _answer(repo: Repo, *command: str) -> str | None:
    """What a git command that needs no working tree answers in one line, None when it has no answer.

    With --git-dir, git answers this much even where it mistrusts a repository that belongs to another user.
    """
    from git.exc import CommandError

    try:
        return _git(repo, f"--git-dir={repo.git_dir}", *command).decode("utf-8", "backslashreplace").strip() or None
    except CommandError:
        return None


def _head(repo: Repo) -> Head:
    url = _answer(repo, "config", "--get", "remote.origin.url")
    return Head(
        commit=_commit(repo),
        branch=_answer(repo, "symbolic-ref", "--short", "--quiet", "HEAD"),
        remote=without_credentials(url) if url else None,
        describe=_answer(repo, "describe", "--tags"),
    )


def _commit(repo: Repo) -> str | None:
    return _answer(repo, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")


@dataclass(frozen=True)
class _Tree:
    """One working tree of a project. Its path and those in it are relative to the outermost one, whose path is ""."""

    path: str
    role: Literal["outermost", "submodule", "nested", "absent"]
    commit: str | None
    tracked: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()
    untracked: frozenset[str] = frozenset()


def _repository(repo: Repo) -> Project:
    root, head, trees = Path(repo.working_dir), _head(repo), list(_trees(repo, "", "outermost"))
    tracked = frozenset[str]().union(*(tree.tracked for tree in trees))
    changed = frozenset[str]().union(*(tree.changed for tree in trees))
    untracked = frozenset[str]().union(*(tree.untracked for tree in trees))
    ours = _outputs(root, tracked | changed | untracked)
    return Project(
        kind="git",
        root=root,
        head=head,
        paths=tuple(sorted((tracked | untracked) - ours)),
        changed=tuple(sorted(changed - ours)),
        untracked=tuple(sorted(untracked - ours)),
        unmodified=tracked - changed if head.commit else frozenset(),
        submodules={tree.path: tree.commit for tree in trees if tree.role in ("submodule", "absent")},
        notes=tuple(_notes(root.name, head, trees)),
    )


def _trees(repo: Repo, path: str, role: Literal["outermost", "submodule", "nested"]) -> Iterator[_Tree]:
    """A working tree and, depth first, those inside it: submodules, and repositories that are not tracked at all."""
    prefix = f"{path}/" if path else ""
    index = [entry.partition("\t") for entry in _entries(repo, "ls-files", "--stage")]
    links = {name: facts.split()[1] for facts, _, name in index if facts.startswith("160000")}
    tracked = frozenset(prefix + name for _, _, name in index if name not in links)
    # What is dirty inside a submodule is told by the submodule itself, file by file.
    options = ("--porcelain=v1", "--untracked-files=all", "--no-renames", "--ignore-submodules=dirty")
    status = [(entry[:2], entry[3:]) for entry in _entries(repo, "status", *options)]
    changed = frozenset(prefix + name for state, name in status if state != "??")
    others = [name for state, name in status if state == "??"]
    untracked = frozenset(prefix + name for name in others if not name.endswith("/"))
    if role == "nested":  # nothing of it is known to the repository around it
        tracked, changed, untracked = frozenset(), frozenset(), tracked | untracked
    yield _Tree(path, role, _commit(repo), tracked, changed, untracked)
    inner: dict[str, Literal["submodule", "nested"]] = dict.fromkeys(links, "submodule")
    inner |= {name.rstrip("/"): "nested" for name in others if name.endswith("/")}
    for name in sorted(inner):
        within = _open(Path(repo.working_dir) / name)
        if within:
            yield from _trees(within, prefix + name, inner[name])
        else:
            yield _Tree(prefix + name, "absent", links.get(name))


def _notes(name: str, head: Head, trees: list[_Tree]) -> Iterator[str]:
    if head.commit is None:
        yield f"the git repository {name} has no commit yet: the snapshot is the only record of this code."
    elif head.branch is None:
        yield f"HEAD of {name} is detached: the commit is on no branch that git would name."
    for role, told in (
        ("submodule", "submodules are in the snapshot as they are checked out"),
        ("absent", "not checked out, so not in the snapshot"),
        ("nested", "repositories of their own, taken as untracked files"),
    ):
        if paths := [tree.path for tree in trees if tree.role == role]:
            yield f"{told}: {files.some_of(paths)}."


def _refusal(root: Path, error: CommandError) -> str:
    unknown = "changes are unknown, the task's folder was copied."
    if "dubious ownership" in str(error):
        trust = f"git config --global --add safe.directory {shlex.quote(files.hide_home(str(root)))}"
        return f"git does not read {root.name}, which belongs to another user: {unknown} To trust it: {trust}"
    reason = (error.stderr or str(error)).strip().removeprefix("stderr: ").strip("'").splitlines()
    return f"git cannot read {root.name} ({files.hide_home(reason[0]) if reason else 'no reason given'}): {unknown}"


def _folder(task: Path, note: str) -> Project:
    """The folder that holds a task, when git has nothing to say about it."""
    root = task if task.is_dir() else task.parent
    if task.is_file() and _is_shared(root):
        note = f"{note} Only {task.name} itself: its folder holds much else, so keep a task in a folder of its own."
        return Project("folder", root, (task.name,), notes=(note,))
    paths, environments = _walk(root)
    notes = [note]
    if environments:
        notes.append(f"virtual environments are not in the snapshot: {files.some_of(environments)}.")
    return Project("folder", root, tuple(sorted(paths - _outputs(root, paths))), notes=tuple(notes))


def _is_shared(folder: Path) -> bool:
    """A home directory, what holds it, or the place for temporary files: copying these would publish private files."""
    with suppress(RuntimeError):  # no home directory
        if Path.home().resolve().is_relative_to(folder):
            return True
    return folder == Path(tempfile.gettempdir()).resolve()


def _walk(root: Path) -> tuple[frozenset[str], list[str]]:
    """The visible files and links below a folder, and the virtual environments, which are skipped."""
    paths: set[str] = set()
    environments: set[str] = set()
    for place, folders, names in os.walk(root):
        inside = Path(place).relative_to(root)
        environments |= {
            (inside / name).as_posix() for name in folders if (root / inside / name / "pyvenv.cfg").exists()
        }
        folders[:] = [n for n in folders if not n.startswith(".") and (inside / n).as_posix() not in environments]
        links = [name for name in folders if (root / inside / name).is_symlink()]
        paths |= {(inside / name).as_posix() for name in (*names, *links) if not name.startswith(".")}
    return frozenset(paths), sorted(environments)


def _outputs(root: Path, paths: frozenset[str]) -> frozenset[str]:
    """What diva and Python write by themselves: footprints, byte code, and all below a folder that ignores itself."""
    folders = {path: frozenset(map(str, PurePosixPath(path).parents)) - {"."} for path in paths}
    marked = {folder for folder in frozenset().union(*folders.values()) if _ignores_itself(root / folder)}
    return frozenset(
        path
        for path in paths
        if path.endswith(_OUTPUT_ENDS) or "__pycache__" in path.split("/") or folders[path] & marked
    )


def _ignores_itself(folder: Path) -> bool:
    try:
        return (folder / ".gitignore").read_bytes().strip() == b"*"
    except OSError:
        return False
