"""Sources: which code ran, kept so that it runs again after today's tree has moved on."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from diva.errors import RecordError, SourceError
from diva.records import files
from diva.records.checkout import examine, without_credentials, write_patch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from diva.records.checkout import Project

__all__ = ["Policy", "package_digest", "record", "verify", "without_credentials"]

Policy = Literal["auto", "clean", "snapshot"]

MAX_FILE_BYTES = 10_000_000
MAX_TOTAL_BYTES = 50_000_000
TREE, SUMS, PATCH = "tree", "SHA256SUMS", "changes.patch"

_SECRETS = (".env", ".env.*", ".netrc", ".pypirc", "*.pem", "*.key", "id_rsa", "id_ed25519", "credentials*.json")
_PACKAGE_SUFFIXES = (".cpp", ".cu", ".h", ".py", ".yaml")


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
    project = examine(task)
    plan = _plan(project, max_file_bytes, max_total_bytes)
    _enforce(policy, project, plan)
    _copy(project, plan, destination)
    sums = _sums(destination)
    files.write_atomic(destination / SUMS, sums)
    patch_notes = _write_patch(project, plan, destination, max_total_bytes)
    return {
        "kind": project.kind,
        "name": project.root.name,
        **asdict(project.head),
        "dirty": project.dirty,
        "changed": list(project.changed),
        "untracked": list(project.untracked),
        "submodules": dict(project.submodules),
        "task": task.relative_to(project.root).as_posix(),
        "digest": f"sha256:{files.sha256_bytes(sums)}",
        "patch": _patch_digest(destination),
        "links": dict(plan.links),
        "n_files": len(plan.sizes),
        "n_bytes": sum(plan.sizes.values()),
        "left_out": [asdict(item) for item in plan.left_out],
        "notes": [*project.notes, *_notes(plan, destination), *patch_notes],
    }


def verify(destination: Path, record: dict[str, Any]) -> None:
    """Recompute a snapshot's checksums; RecordError names every altered, missing or added file."""
    listing = destination / SUMS
    try:
        sums = listing.read_bytes()
    except OSError as error:
        raise RecordError(f"{listing} cannot be read ({error.strerror}): the record is incomplete.") from error
    if f"sha256:{files.sha256_bytes(sums)}" != record.get("digest"):
        raise RecordError(f"{listing} is not the list that the record tells of: it was altered.")
    then, now = _by_path(sums, record.get("patch")), _by_path(_sums(destination), _patch_digest(destination))
    wrong = {
        "altered": [path for path in then if path in now and then[path] != now[path]],
        "missing": [path for path in then if path not in now],
        "added": [path for path in now if path not in then],
    }
    told = [f"{kind}: {files.some_of(paths)}" for kind, paths in wrong.items() if paths]
    if told:
        raise RecordError(f"the source recorded in {destination} is not what ran. {'; '.join(told)}.")


def package_digest(folder: Path) -> str:
    """The digest of a package: sha256 over the sorted checksum lines of its sources.

    What is compiled from them differs with the compiler and does not count: a library knows the digest of its own sources.
    """
    found = sorted(
        (os.fsencode(path.relative_to(folder).as_posix()), path)
        for path in folder.rglob("*")
        if (path.suffix in _PACKAGE_SUFFIXES or path.name == "CMakeLists.txt")
        and "__pycache__" not in path.parts
        and path.is_file()
    )
    if not found:
        raise RecordError(f"{folder} holds no package: no file ends in {', '.join(_PACKAGE_SUFFIXES)}.")
    lines = (files.checksum_line(files.sha256_file(path), name) for name, path in found)
    return f"sha256:{files.sha256_bytes(b''.join(lines))}"


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
    """What a snapshot will hold: files with their sizes, links with their targets; and what it will not."""

    sizes: Mapping[str, int]
    links: Mapping[str, str]
    left_out: tuple[_LeftOut, ...]


def _plan(project: Project, max_file_bytes: int, max_total_bytes: int) -> _Plan:
    sizes: dict[str, int] = {}
    links: dict[str, str] = {}
    reasons: dict[str, str] = {}
    folders = {(project.root / path).parent for path in project.paths}
    # Where a link replaced a folder, git takes the files for deleted and the link for what is there.
    real = {folder for folder in folders if os.path.realpath(folder) == str(folder)}
    for path in project.paths:
        place = project.root / path
        if place.parent not in real or not os.path.lexists(place) or (place.is_dir() and not place.is_symlink()):
            continue  # deleted in the working tree
        if reason := _reason_against(project, path, max_file_bytes):
            reasons[path] = reason
        elif place.is_symlink():
            links[path] = str(place.readlink())
        else:
            sizes[path] = place.stat().st_size
    for path in _excess(sizes, max_total_bytes):
        reasons[path] = f"the snapshot would exceed {_megabytes(max_total_bytes)}"
        del sizes[path]
    return _Plan(sizes, links, tuple(_left_out(project, path, why) for path, why in sorted(reasons.items())))


def _reason_against(project: Project, path: str, max_file_bytes: int) -> str | None:
    """Why a path cannot enter the snapshot, if so."""
    place = project.root / path
    if place.is_symlink():
        return None if _leads_inside(project.root, path) else "a link that leads outside the project"
    if not place.is_file():
        return "not a plain file"
    if not os.access(place, os.R_OK):
        return "cannot be read"
    if path in project.untracked and any(fnmatchcase(place.name, pattern) for pattern in _SECRETS):
        return "by its name it may hold secrets"
    return f"larger than {_megabytes(max_file_bytes)}" if place.stat().st_size > max_file_bytes else None


def _leads_inside(root: Path, path: str) -> bool:
    """Whether a link stays within the tree, whatever the tree is called and wherever it is moved to."""
    place = root / path
    on_paper = Path(os.path.normpath(Path(path).parent / place.readlink()))
    if on_paper.is_absolute() or ".." in on_paper.parts:
        return False
    return Path(os.path.realpath(place)).is_relative_to(root)


def _excess(sizes: Mapping[str, int], max_total_bytes: int) -> list[str]:
    """The biggest files, as many as must go until the rest fits; ties by path."""
    total, excess = sum(sizes.values()), []
    for path in sorted(sizes, key=lambda path: (-sizes[path], path)):
        if total <= max_total_bytes:
            break
        total -= sizes[path]
        excess.append(path)
    return excess


def _left_out(project: Project, path: str, why: str) -> _LeftOut:
    place = project.root / path
    is_file = place.is_file() and not place.is_symlink()
    sha256 = files.sha256_file(place) if is_file and os.access(place, os.R_OK) else None
    return _LeftOut(path, place.lstat().st_size, sha256, why, recoverable=is_file and path in project.unmodified)


def _enforce(policy: Policy, project: Project, plan: _Plan) -> None:
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


def _copy(project: Project, plan: _Plan, destination: Path) -> None:
    tree = destination / TREE
    if tree.exists():
        raise RecordError(f"{destination} already holds a snapshot; take a new folder.")
    tree.mkdir(parents=True)
    for path in (*plan.sizes, *plan.links):
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(project.root / path, tree / path, follow_symlinks=False)


def _sums(destination: Path) -> bytes:
    """The checksum lines of a snapshot as it is on disk, sorted by the bytes of the paths.

    A link is a comment with the checksum of the path that it leads to.
    """
    lines = {}
    for path in (destination / TREE).rglob("*"):
        name = os.fsencode(path.relative_to(destination).as_posix())
        if path.is_symlink():
            lines[name] = b"# link " + files.checksum_line(files.sha256_bytes(os.fsencode(path.readlink())), name)
        elif path.is_file():
            lines[name] = files.checksum_line(files.sha256_file(path), name)
        elif not path.is_dir():
            lines[name] = files.checksum_line("0" * 64, name)  # a pipe or socket: can only be an addition
    return b"".join(line for _, line in sorted(lines.items()))


def _by_path(sums: bytes, patch: str | None) -> dict[str, bytes]:
    """The lines of a checksum list, and the digest of the patch, by what they are about."""
    named = {line.partition(b"  ")[2].decode("utf-8", "surrogateescape"): line for line in sums.splitlines()}
    return named | ({PATCH: patch.encode()} if patch else {})


def _write_patch(project: Project, plan: _Plan, destination: Path, max_bytes: int) -> list[str]:
    """Write what the working tree changed since the commit, unless that is nothing or too much; notes."""
    if project.kind == "folder" or not project.dirty:
        return []
    patch = destination / PATCH
    with patch.open("wb") as stream:
        write_patch(project, stream, without=(item.path for item in plan.left_out if item.path in project.changed))
    if patch.stat().st_size > max_bytes:
        patch.unlink()
        return [f"{PATCH} would exceed {_megabytes(max_bytes)} and was not written; the tree holds the files."]
    inside = [path for path in project.submodules if any(name.startswith(f"{path}/") for name in project.changed)]
    return [f"changes inside submodules are in the tree, not in {PATCH}: {files.some_of(inside)}."] if inside else []


def _patch_digest(destination: Path) -> str | None:
    patch = destination / PATCH
    return f"sha256:{files.sha256_file(patch)}" if patch.exists() else None


def _notes(plan: _Plan, destination: Path) -> Iterator[str]:
    lost = [item for item in plan.left_out if not item.recoverable]
    held = [item for item in plan.left_out if item.recoverable]
    if lost:
        yield f"NOT in the snapshot, and in no commit: {_with_reasons(lost)}."
    if held:
        yield f"not in the snapshot, but unmodified since the commit: {_with_reasons(held)}."
    loose = [path for path in plan.links if not (destination / TREE / path).exists()]
    if loose:
        yield f"links to what is not in the snapshot: {files.some_of(loose)}."


def _with_reasons(items: Sequence[_LeftOut]) -> str:
    by_reason: dict[str, list[str]] = {}
    for item in items:
        by_reason.setdefault(item.why, []).append(item.path)
    return "; ".join(f"{files.some_of(paths)}: {why}" for why, paths in by_reason.items())


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:g} MB"
