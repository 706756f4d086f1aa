"""Sources: which code ran, kept so that it runs again after today's tree has moved on."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from diva.errors import RecordError, SourceError
from diva.records import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from git import Repo

Policy = Literal["auto", "clean", "snapshot"]

MAX_FILE_BYTES = 10_000_000
MAX_TOTAL_BYTES = 50_000_000
TREE, SUMS, PATCH = "tree", "SHA256SUMS", "changes.patch"

_OUTPUT_ENDS = (".footprint.json", ".statistics.json")
_SECRETS = (".env", ".env.*", ".netrc", ".pypirc", "*.pem", "*.key", "id_rsa", "id_ed25519", "credentials*.json")
_PACKAGE_SUFFIXES = frozenset({".py", ".yaml", ".so", ".cu", ".h", ".cpp"})
# The user's own configuration must not change what a patch looks like.
_PATCH_FORM = (
    "--binary --full-index --no-color --no-ext-diff --no-textconv --no-renames --src-prefix=a/ --dst-prefix=b/"
)
_REDIRECTIONS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")  # set inside git hooks; they would point elsewhere


@dataclass(frozen=True)
class _Head:
    """Where a repository stands."""

    commit: str | None = None
    branch: str | None = None
    remote: str | None = None
    describe: str | None = None


@dataclass(frozen=True)
class _Checkout:
    """One working tree; paths are relative to the outermost one, which has the empty prefix."""

    prefix: str
    role: Literal["root", "submodule", "nested", "absent"]
    commit: str | None
    tracked: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()
    untracked: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Project:
    """The code that belongs to a task, before anything is copied. All paths are relative to root, sorted."""

    kind: Literal["git", "folder"]
    root: Path
    paths: tuple[str, ...]
    head: _Head = _Head()
    changed: tuple[str, ...] = ()
    untracked: tuple[str, ...] = ()
    unmodified: frozenset[str] = frozenset()
    submodules: tuple[tuple[str, str | None], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def dirty(self) -> bool:
        """Whether the commit alone does not give this code back."""
        return self.kind == "folder" or self.head.commit is None or bool(self.changed or self.untracked)


@dataclass(frozen=True)
class _LeftOut:
    """A path that does not enter the snapshot; recoverable when the commit holds it unmodified."""

    path: str
    size: int
    sha256: str | None
    why: str
    recoverable: bool


@dataclass(frozen=True)
class _Plan:
    """What a snapshot will hold."""

    copied: tuple[str, ...]
    links: tuple[tuple[str, str], ...]  # (path, target)
    left_out: tuple[_LeftOut, ...]


def record(
    task_path: Path,
    destination: Path,
    policy: Policy,
    *,
    max_file_bytes: int = MAX_FILE_BYTES,
    max_total_bytes: int = MAX_TOTAL_BYTES,
) -> dict[str, Any]:
    """Take a snapshot of the project that holds a task into `destination/tree` and describe it.

    The project is the task's git repository (tracked files, untracked files that are not ignored, checked-out
    submodules) or, without one, the task's folder. Also writes `SHA256SUMS` (for `sha256sum -c`; links are told in
    comments) and, when a repository is dirty, `changes.patch`. `dirty` says that the commit alone does not give this
    code. `clean` refuses a dirty project, `snapshot` one whose code would be lost (SourceError); then nothing is
    written. Every sentence of `notes` deserves to be shown to the user.
    """
    task = task_path.resolve()
    if not task.exists():
        raise SourceError(f"{task_path} does not exist: there is no source to record.")
    project = _examine(task)
    plan = _plan(project, max_file_bytes, max_total_bytes)
    _enforce(policy, project, plan)
    _copy(project, plan, destination)
    sums = _sums(destination)
    files.write_atomic(destination / SUMS, sums)
    patch, patch_notes = _write_patch(project, plan, destination, max_total_bytes)
    return {
        "kind": project.kind,
        "name": project.root.name,
        "commit": project.head.commit,
        "branch": project.head.branch,
        "remote": project.head.remote,
        "describe": project.head.describe,
        "dirty": project.dirty,
        "changed": list(project.changed),
        "untracked": list(project.untracked),
        "submodules": dict(project.submodules),
        "task": task.relative_to(project.root).as_posix(),
        "digest": f"sha256:{files.sha256_bytes(sums)}",
        "patch": patch,
        "links": dict(plan.links),
        "n_files": len(plan.copied),
        "n_bytes": sum((destination / TREE / path).stat().st_size for path in plan.copied),
        "left_out": [asdict(item) for item in plan.left_out],
        "notes": [*project.notes, *_notes_on(plan, destination), *patch_notes],
    }


def verify(destination: Path, record: dict[str, Any]) -> None:
    """Recompute a snapshot's checksums; RecordError names every altered, missing or added file."""
    recorded = _read_part(destination / SUMS)
    if f"sha256:{files.sha256_bytes(recorded)}" != record.get("digest"):
        raise RecordError(f"{destination / SUMS} is not the list that the record tells of: it was altered.")
    patch = destination / PATCH
    found = f"sha256:{files.sha256_bytes(_read_part(patch))}" if patch.exists() else None
    then, now = _by_path(recorded), _by_path(_sums(destination))
    wrong = {
        "altered": [path for path in then if path in now and then[path] != now[path]],
        "missing": [path for path in then if path not in now],
        "added": [path for path in now if path not in then],
    }
    if found != record.get("patch"):
        kind = "missing" if found is None else "added" if record.get("patch") is None else "altered"
        wrong[kind].append(PATCH)
    told = [f"{kind}: {files.some_of(paths)}" for kind, paths in wrong.items() if paths]
    if told:
        raise RecordError(f"the source recorded in {destination} is not what ran. {'; '.join(told)}.")


def package_digest(folder: Path) -> str:
    """The digest of an installed package: sha256 over the sorted checksum lines of its sources and native parts."""
    found = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.suffix in _PACKAGE_SUFFIXES and "__pycache__" not in path.parts and path.is_file()
    }
    if not found:
        raise RecordError(f"{folder} holds no package: no file ends in {', '.join(sorted(_PACKAGE_SUFFIXES))}.")
    encoded = sorted((os.fsencode(name), path) for name, path in found.items())
    lines = (files.checksum_line(files.sha256_file(path), name) for name, path in encoded)
    return f"sha256:{files.sha256_bytes(b''.join(lines))}"


def without_credentials(url: str) -> str:
    """An address without user, password, token, query or fragment: `git@host:path` becomes `host:path`."""
    transport, helper, _ = url.partition("::")
    if helper and transport.isalnum():
        return f"{transport}::"  # what follows is a command line or anything else, secrets included
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*://)(?:[^/?#]*@)?([^?#]*)", url)
    if match:
        return files.hide_home(match[1] + match[2])
    return files.hide_home(re.sub(r"^[^/:]*@(?=[^/]*:)", "", url))


def _examine(task: Path) -> _Project:
    try:
        from git.exc import CommandError
    except ImportError:  # GitPython refuses to load without a git executable
        return _folder(task, "git is not installed: commit and changes are unknown, the task's folder was copied.")
    repo = _repository(task)
    if repo is None:
        return _folder(task, f"{task.name} lies in no git repository: there is no commit, its folder was copied.")
    with repo:
        try:
            project = _git_project(repo)
        except CommandError as error:
            return replace(_folder(task, _refusal(repo, error)), head=_head_from_files(repo))
    inside = task.relative_to(project.root).as_posix()
    if inside == "." or any(path == inside or path.startswith(f"{inside}/") for path in project.paths):
        return project
    return _folder(
        task,
        f"{inside} is ignored by the git repository {project.root.name}: there is no commit, its folder was copied.",
    )


def _repository(task: Path) -> Repo | None:
    """The innermost repository with a working tree that holds the task."""
    from git import Repo
    from git.exc import InvalidGitRepositoryError

    for folder in (task, *task.parents) if task.is_dir() else task.parents:
        if (folder / ".git").exists():
            with suppress(InvalidGitRepositoryError):
                repo = Repo(folder, expand_vars=False)
                if not repo.bare:
                    return _settled(repo, folder)
    return None


def _settled(repo: Repo, root: Path) -> Repo:
    """Make git look at this repository only, and leave its index as it is, since other runs may be reading it."""
    repo.git.update_environment(GIT_OPTIONAL_LOCKS="0")
    repo.git.set_persistent_git_options(C=str(root))  # GitPython's working folder has $NAMES in it expanded
    if any(name in os.environ for name in _REDIRECTIONS):
        git_dir = str(Path(repo.git_dir).resolve())
        repo.git.update_environment(GIT_DIR=git_dir, GIT_WORK_TREE=str(root), GIT_INDEX_FILE=f"{git_dir}/index")
    return repo


def _root(repo: Repo) -> Path:
    return Path(str(repo.working_tree_dir)) if repo.working_tree_dir else Path(repo.working_dir)


def _refusal(repo: Repo, error: Exception) -> str:
    root = _root(repo)
    if "dubious ownership" in str(error):
        place = shlex.quote(files.hide_home(str(root)))
        return (
            f"git does not read {root.name}, which belongs to another user: changes are unknown, the task's folder was "
            f"copied. To trust it: git config --global --add safe.directory {place}"
        )
    reason = str(getattr(error, "stderr", "") or error).strip().replace("stderr: '", "").splitlines()
    told = files.hide_home(reason[0]) if reason else "no reason given"
    return f"git cannot read {root.name} ({told}): changes are unknown, the task's folder was copied."


def _git_project(repo: Repo) -> _Project:
    checkouts = list(_checkouts(repo, "", "root"))
    root = _root(repo)
    tracked, changed, untracked = (
        frozenset().union(*(getattr(checkout, kind) for checkout in checkouts))
        for kind in ("tracked", "changed", "untracked")
    )
    ours = _outputs(root, tracked | changed | untracked)
    head = _head(repo)
    return _Project(
        kind="git",
        root=root,
        head=head,
        paths=_sorted((tracked | untracked) - ours),
        changed=_sorted(changed - ours),
        untracked=_sorted(untracked - ours),
        unmodified=frozenset[str]() if head.commit is None else tracked - changed,
        submodules=tuple((c.prefix[:-1], c.commit) for c in checkouts if c.role in ("submodule", "absent")),
        notes=tuple(_notes_on_git(root.name, head, checkouts)),
    )


def _head(repo: Repo) -> _Head:
    url = _answer(repo.git.config, "--get", "remote.origin.url")
    return _Head(
        commit=_answer(repo.git.rev_parse, "--verify", "--quiet", "HEAD^{commit}"),
        branch=_answer(repo.git.symbolic_ref, "--short", "--quiet", "HEAD"),
        remote=without_credentials(url) if url else None,
        describe=_answer(repo.git.describe, "--tags"),
    )


def _head_from_files(repo: Repo) -> _Head:
    """What the repository's files say by themselves, for when git does not want to read them."""
    from git import SymbolicReference

    commit = branch = url = None
    with suppress(Exception):  # any of these may be absent or broken, and the rest is still worth having
        branch = repo.active_branch.name
    with suppress(Exception):
        commit = SymbolicReference.dereference_recursive(repo, "HEAD")
    with suppress(Exception):
        url = str(repo.config_reader("repository").get_value('remote "origin"', "url"))
    return _Head(commit, branch, without_credentials(url) if url else None)


def _checkouts(repo: Repo, prefix: str, role: Literal["root", "submodule", "nested"]) -> Iterator[_Checkout]:
    """A working tree and, depth first, those inside it: submodules, and repositories that are not tracked at all."""
    entries = [line.partition("\t") for line in _lines(_output(repo.git.ls_files, "--stage", "-z"))]
    links = {path: facts.split()[1] for facts, _, path in entries if facts.startswith("160000")}
    others = _lines(_output(repo.git.ls_files, "--others", "--exclude-standard", "-z"))
    # What is dirty inside a submodule is told by the submodule itself, file by file.
    status = ("--porcelain=v1", "-z", "--untracked-files=no", "--no-renames", "--ignore-submodules=dirty")
    here = _Checkout(
        prefix=prefix,
        role=role,
        commit=_answer(repo.git.rev_parse, "--verify", "--quiet", "HEAD^{commit}"),
        tracked=frozenset(prefix + path for _, _, path in entries if path not in links),
        changed=frozenset(prefix + line[3:] for line in _lines(_output(repo.git.status, *status))),
        untracked=frozenset(prefix + path for path in others if not path.endswith("/")),
    )
    if role == "nested":  # nothing of it is known to the repository around it
        everything = here.tracked | here.untracked
        here = replace(here, tracked=frozenset(), changed=frozenset(), untracked=everything)
    yield here
    for path in sorted(links):
        yield from _inner(repo, path, prefix, "submodule", links[path])
    for path in sorted(other.rstrip("/") for other in others if other.endswith("/")):
        yield from _inner(repo, path, prefix, "nested", None)


def _inner(
    outer: Repo, path: str, prefix: str, role: Literal["submodule", "nested"], commit: str | None
) -> Iterator[_Checkout]:
    from git import Repo
    from git.exc import InvalidGitRepositoryError, NoSuchPathError

    folder = _root(outer) / path
    try:
        with Repo(folder, expand_vars=False) as repo:
            yield from _checkouts(_settled(repo, folder), f"{prefix}{path}/", role)
    except (InvalidGitRepositoryError, NoSuchPathError):
        yield _Checkout(f"{prefix}{path}/", "absent", commit)


def _notes_on_git(name: str, head: _Head, checkouts: list[_Checkout]) -> Iterator[str]:
    if head.commit is None:
        yield f"the git repository {name} has no commit yet: the snapshot is the only record of this code."
    elif head.branch is None:
        yield f"HEAD of {name} is detached: the commit is on no branch that git would name."
    inner: dict[str, list[str]] = {}
    for checkout in checkouts:
        inner.setdefault(checkout.role, []).append(checkout.prefix.rstrip("/"))
    if "submodule" in inner:
        yield f"submodules are in the snapshot as they are checked out: {files.some_of(inner['submodule'])}."
    if "absent" in inner:
        yield f"not checked out, so not in the snapshot: {files.some_of(inner['absent'])}."
    if "nested" in inner:
        yield f"repositories of their own, taken as untracked files: {files.some_of(inner['nested'])}."


def _folder(task: Path, note: str) -> _Project:
    """The folder that holds a task, when git has nothing to say about it."""
    root = task if task.is_dir() else task.parent
    if task.is_file() and _is_shared_place(root):
        note = f"{note} Only {task.name} itself: its folder holds much else, so keep a task in a folder of its own."
        return _Project("folder", root, (task.name,), notes=(note,))
    found, skipped = _walk(root)
    notes = (note, f"virtual environments are not in the snapshot: {files.some_of(skipped)}.") if skipped else (note,)
    return _Project("folder", root, _sorted(found), notes=notes)


def _is_shared_place(folder: Path) -> bool:
    """A home directory, what holds it, or the place for temporary files: copying these would publish private files."""
    with suppress(RuntimeError):
        home = Path.home().resolve()
        if folder == home or folder in home.parents:
            return True
    return folder == Path(tempfile.gettempdir()).resolve()


def _walk(root: Path) -> tuple[frozenset[str], list[str]]:
    """The visible files below a folder that are no outputs, links included, and the virtual environments skipped."""
    found: set[str] = set()
    environments = []
    for place, folders, names in os.walk(root):
        inside = Path(place).relative_to(root)
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        environments += [str(inside / name) for name in folders if (Path(place) / name / "pyvenv.cfg").exists()]
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and name not in links and str(inside / name) not in environments
        ]
        found.update((inside / name).as_posix() for name in (*names, *links) if not name.startswith("."))
    return frozenset(found) - _outputs(root, frozenset(found)), sorted(environments)


def _outputs(root: Path, paths: frozenset[str]) -> frozenset[str]:
    """What diva and Python write by themselves: footprints, byte code, and all below a folder that ignores itself."""
    marked = {"": False}

    def is_marked(folder: str) -> bool:
        if folder not in marked:
            marked[folder] = is_marked(folder.rpartition("/")[0]) or _ignores_itself(root / folder)
        return marked[folder]

    return frozenset(
        path
        for path in paths
        if path.endswith(_OUTPUT_ENDS) or "__pycache__" in path.split("/") or is_marked(path.rpartition("/")[0])
    )


def _ignores_itself(folder: Path) -> bool:
    try:
        return (folder / ".gitignore").read_bytes().strip() == b"*"
    except OSError:
        return False


def _plan(project: _Project, max_file_bytes: int, max_total_bytes: int) -> _Plan:
    sizes: dict[str, int] = {}
    links: dict[str, str] = {}
    reasons: dict[str, str] = {}
    real_folders: dict[str, bool] = {}
    for path in project.paths:
        place = project.root / path
        try:
            facts = place.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue  # deleted in the working tree
        if stat.S_ISDIR(facts.st_mode) or _is_behind_link(project.root, path, real_folders):
            continue
        reason = _reason_against(project, path, facts, max_file_bytes)
        if reason:
            reasons[path] = reason
        elif stat.S_ISLNK(facts.st_mode):
            links[path] = os.readlink(place)  # noqa: PTH115 - as text: Path would tidy it
        else:
            sizes[path] = facts.st_size
    for path in _excess(sizes, max_total_bytes):
        reasons[path] = f"the snapshot would exceed {_megabytes(max_total_bytes)}"
        del sizes[path]
    left_out = tuple(_left_out(project, path, why) for path, why in sorted(reasons.items()))
    return _Plan(tuple(sizes), tuple(links.items()), left_out)


def _reason_against(project: _Project, path: str, facts: os.stat_result, max_file_bytes: int) -> str | None:
    """Why a path cannot enter the snapshot, if so."""
    place = project.root / path
    if stat.S_ISLNK(facts.st_mode):
        return None if _leads_inside(project.root, path) else "a link that leads outside the project"
    if not stat.S_ISREG(facts.st_mode):
        return "not a plain file"
    if not os.access(place, os.R_OK):
        return "cannot be read"
    name = path.rpartition("/")[2]
    if path in project.untracked and any(fnmatchcase(name, pattern) for pattern in _SECRETS):
        return "by its name it may hold secrets"
    return f"larger than {_megabytes(max_file_bytes)}" if facts.st_size > max_file_bytes else None


def _leads_inside(root: Path, path: str) -> bool:
    """Whether a link stays within the tree, whatever the tree is called and wherever it is moved to."""
    target = os.readlink(root / path)  # noqa: PTH115
    on_paper = os.path.normpath(os.path.join(os.path.dirname(path), target))  # noqa: PTH118, PTH120
    if on_paper.startswith("/") or on_paper.split("/")[0] == "..":
        return False
    try:
        return (root / path).resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # links in a circle: harmless, kept as they are
        return True


def _is_behind_link(root: Path, path: str, known: dict[str, bool]) -> bool:
    """Whether a folder on the way is a link: git then takes the file for deleted and the link for what is there."""
    folder = path.rpartition("/")[0]
    if folder not in known:
        known[folder] = bool(folder) and ((root / folder).is_symlink() or _is_behind_link(root, folder, known))
    return known[folder]


def _excess(sizes: dict[str, int], max_total_bytes: int) -> Iterator[str]:
    """The biggest files, as many as must go until the rest fits; ties by path."""
    total = sum(sizes.values())
    for path in sorted(sizes, key=lambda path: (-sizes[path], path)):
        if total <= max_total_bytes:
            return
        total -= sizes[path]
        yield path


def _left_out(project: _Project, path: str, why: str) -> _LeftOut:
    place = project.root / path
    facts = place.lstat()
    if not stat.S_ISREG(facts.st_mode):
        return _LeftOut(path, facts.st_size, None, why, recoverable=False)
    try:
        sha256 = files.sha256_file(place)
    except OSError:
        sha256 = None
    return _LeftOut(path, facts.st_size, sha256, why, recoverable=path in project.unmodified)


def _enforce(policy: Policy, project: _Project, plan: _Plan) -> None:
    name = project.root.name
    if policy == "clean" and (project.kind == "folder" or project.head.commit is None):
        raise SourceError(f"--code clean: {project.notes[0]} Commit the code, or use --code auto.")
    if policy == "clean" and project.dirty:
        differing = [*project.changed, *project.untracked]
        raise SourceError(
            f"--code clean: {name} differs from its commit in {len(differing)} files ({files.some_of(differing)}). "
            "Commit or stash them, or use --code auto."
        )
    lost = [item for item in plan.left_out if not item.recoverable]
    if policy == "snapshot" and lost:
        raise SourceError(
            f"--code snapshot: the snapshot of {name} would lack {len(lost)} files that no commit holds "
            f"({_with_reasons(lost)}). Name them in .gitignore, keep data under the data root, or use --code auto."
        )


def _copy(project: _Project, plan: _Plan, destination: Path) -> None:
    tree = destination / TREE
    if tree.exists():
        raise RecordError(f"{destination} already holds a snapshot; take a new folder.")
    tree.mkdir(parents=True)
    for path in plan.copied:
        source, copy = project.root / path, tree / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(source.read_bytes())
        if source.stat().st_mode & stat.S_IXUSR:
            copy.chmod(copy.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    for path, target in plan.links:
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).symlink_to(target)


def _sums(destination: Path) -> bytes:
    """The checksum lines of a snapshot as it is on disk, sorted by the bytes of the paths, then a comment per link."""
    root = os.fsencode(destination)
    sums, links = [], []
    for place, folders, names in os.walk(os.path.join(root, TREE.encode())):  # noqa: PTH118
        for name in (*folders, *names):
            path = Path(os.fsdecode(os.path.join(place, name)))  # noqa: PTH118
            shown = os.fsencode(path.relative_to(destination).as_posix())
            if path.is_symlink():
                told = (json.dumps(shown.decode("utf-8", "surrogateescape")), json.dumps(os.readlink(path)))  # noqa: PTH115
                links.append((shown, f"# link {told[0]} -> {told[1]}\n".encode("ascii")))
            elif path.is_file():
                sums.append((shown, files.checksum_line(files.sha256_file(path), shown)))
            elif not path.is_dir():
                sums.append((shown, files.checksum_line("0" * 64, shown)))  # a pipe or socket: can only be an addition
    return b"".join(line for _, line in (*sorted(sums), *sorted(links)))


def _by_path(sums: bytes) -> dict[str, bytes]:
    """The lines of a checksum list by what they are about."""
    lines = [line for line in sums.split(b"\n") if line]
    return {_about(line): line for line in lines}


def _about(line: bytes) -> str:
    if line.startswith(b"# link "):
        decoder = json.JSONDecoder()
        return str(decoder.raw_decode(line.decode("ascii"), len("# link "))[0])
    return line.partition(b"  ")[2].decode("utf-8", "surrogateescape")


def _write_patch(
    project: _Project, plan: _Plan, destination: Path, max_bytes: int
) -> tuple[str | None, tuple[str, ...]]:
    """Write what the working tree changed since the commit, unless that is nothing or too much; digest and notes."""
    if project.kind == "folder" or not project.dirty:
        return None, ()
    from git import Repo

    patch = destination / PATCH
    excluded = [f":(exclude,top,literal){item.path}" for item in plan.left_out if item.path in project.changed]
    with Repo(project.root, expand_vars=False) as repo, patch.open("wb") as stream:
        _settled(repo, project.root)
        base = (
            "HEAD" if project.head.commit else _output(repo.git.hash_object, "-t", "tree", "--stdin").decode().strip()
        )
        repo.git.diff(
            *_PATCH_FORM.split(), "--ignore-submodules=dirty", base, "--", ".", *excluded, output_stream=stream
        )
    if patch.stat().st_size > max_bytes:
        patch.unlink()
        return None, (f"{PATCH} would exceed {_megabytes(max_bytes)} and was not written; the tree holds the files.",)
    inside = [path for path, _ in project.submodules if any(name.startswith(f"{path}/") for name in project.changed)]
    notes = (f"changes inside submodules are in the tree, not in {PATCH}: {files.some_of(inside)}.",) if inside else ()
    return f"sha256:{files.sha256_file(patch)}", notes


def _notes_on(plan: _Plan, destination: Path) -> Iterator[str]:
    lost = [item for item in plan.left_out if not item.recoverable]
    held = [item for item in plan.left_out if item.recoverable]
    if lost:
        yield f"NOT in the snapshot, and in no commit: {_with_reasons(lost)}."
    if held:
        yield f"not in the snapshot, but unmodified since the commit: {_with_reasons(held)}."
    loose = [path for path, _ in plan.links if not (destination / TREE / path).exists()]
    if loose:
        yield f"links to what is not in the snapshot: {files.some_of(loose)}."


def _with_reasons(items: Sequence[_LeftOut]) -> str:
    by_reason: dict[str, list[str]] = {}
    for item in items:
        by_reason.setdefault(item.why, []).append(item.path)
    return "; ".join(f"{files.some_of(paths)}: {why}" for why, paths in by_reason.items())


def _read_part(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path} cannot be read ({error.strerror}): the record is incomplete.") from error


def _output(command: Callable[..., Any], *arguments: str) -> bytes:
    """What a git command prints, to the byte."""
    output: bytes = command(*arguments, stdout_as_string=False, strip_newline_in_stdout=False)
    return output


def _answer(command: Callable[..., Any], *arguments: str) -> str | None:
    """What a git command answers in one line, None when it has no answer."""
    from git.exc import GitCommandError

    try:
        return _output(command, *arguments).decode("utf-8", "backslashreplace").strip() or None
    except GitCommandError:
        return None


def _lines(output: bytes) -> list[str]:
    """The entries that git ended with NUL bytes, as paths of this system."""
    return [os.fsdecode(entry) for entry in output.split(b"\0") if entry]


def _sorted(paths: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(paths, key=os.fsencode))


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:g} MB"
