"""Staging: a folder that appears whole or not at all, made of linked, copied and written files; and whether it is there already.

It is built in a hidden sibling and renamed, one process at a time (`places`).
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from diva.data import places
from diva.errors import DataError, RecordError, UsageError
from diva.records import files, footprint
from diva.records.files import read_json, sha256_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Mode = Literal["link", "copy"]
SCHEMA = 1  # of the records
_NO_HARD_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES)


@dataclass(frozen=True)
class Contents:
    """What a folder is to hold, by POSIX relative path: files from elsewhere with the SHA-256 of each, and small files by their bytes."""

    files: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, bytes] = field(default_factory=dict)


def check_place(source: Path, out: Path) -> None:
    """Refuse an output folder that is the source, lies in it or around it, or is a file."""
    if not source.is_dir():
        raise DataError(f"{source}: {'is not a folder' if source.exists() else 'no such folder'}")
    inner, outer = out.resolve(), source.resolve()
    if inner == outer or outer in inner.parents or inner in outer.parents:
        where = "the data set itself" if inner == outer else "inside" if outer in inner.parents else "around"
        raise UsageError(
            f"--to {out}: is {where}{'' if inner == outer else f' {source}'}; the originals stay as they are: name a folder elsewhere"
        )
    if out.is_symlink() and not is_there(
        out
    ):  # it would be found out at the end, when nothing can take the place of a link
        raise DataError(
            f"--to {out}: is a link to {'an empty folder' if out.is_dir() else 'nowhere'}; name a folder that does not exist yet"
        )
    if out.exists() and not out.is_dir():
        raise DataError(f"--to {out}: is a file; name a folder that does not exist yet")


def is_there(out: Path) -> bool:
    """Whether a folder has anything in it."""
    return out.is_dir() and any(out.iterdir())


def build(out: Path, contents: Contents, mode: Mode, progress: Callable[[int, int], None] | None = None) -> None:
    """Make the folder `out`; FileExistsError when another process was first."""
    with appearing(out) as place:
        fill(place, out, contents, mode, progress)


def fill(
    place: Path, out: Path, contents: Contents, mode: Mode, progress: Callable[[int, int], None] | None = None
) -> None:
    """Put files and texts into the folder `place`, which will be `out`."""
    made: set[str] = set()
    for number, (name, source) in enumerate(contents.files.items(), 1):
        target = os.path.join(place, name)  # noqa: PTH118 - text, not Path objects: a third of the time
        parent = os.path.dirname(target)  # noqa: PTH120
        if parent not in made:
            os.makedirs(parent, exist_ok=True)  # noqa: PTH103
            made.add(parent)
        if mode == "copy":
            shutil.copyfile(source, target)
        else:
            link(source, target, os.path.join(out, name))  # noqa: PTH118
        if progress is not None:
            progress(number, len(contents.files))
    for name, content in contents.texts.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def link(source: str, target: str, final: str) -> None:
    """A hard link, or where there can be none a relative symbolic link that holds once `target` has become `final`."""
    try:
        os.link(os.path.realpath(source) if os.path.islink(source) else source, target)  # noqa: PTH114
    except OSError as error:
        if error.errno not in _NO_HARD_LINK:
            raise
        real = os.path.realpath(source, strict=True)
        os.symlink(os.path.relpath(real, os.path.realpath(os.path.dirname(final))), target)  # noqa: PTH120, PTH211


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with its own `digest`: SHA-256 of all else as JSON, keys sorted, no blanks."""
    unsealed = {key: value for key, value in record.items() if key != "digest"}
    text = json.dumps(unsealed, sort_keys=True, separators=(",", ":"))
    return {**unsealed, "digest": "sha256:" + sha256_bytes(text.encode())}


def as_bytes(record: Mapping[str, Any]) -> bytes:
    """The file of a record: always the same bytes."""
    return (json.dumps(record, indent=1, sort_keys=True) + "\n").encode()


def read_record(path: Path, kind: str) -> dict[str, Any]:
    """The record in a file; RecordError when it is damaged, altered, of another kind or of a newer diva."""
    record = read_json(path)
    if not isinstance(record, dict) or record.get("kind") != kind:
        raise RecordError(f"{path}: is no record of a {kind} made by diva")
    if record.get("schema") != SCHEMA:
        raise RecordError(f"{path}: has schema {record.get('schema')!r}, this diva reads {SCHEMA}: update diva")
    if record.get("digest") != sealed(record)["digest"]:
        raise RecordError(f"{path}: contradicts its own digest: it was edited. Make it anew, or take the original")
    return record


def stored_record(out: Path, name: str, kind: str) -> dict[str, Any]:
    """The record of a folder that is there already; DataError when it has none: then it is something else."""
    if not (out / name).is_file():
        raise DataError(f"--to {out}: holds files, but no {name}; name a folder that does not exist yet")
    return read_record(out / name, kind)


def refuse_other(out: Path, told: str) -> None:
    """Refuse a folder that was made otherwise than asked for now; `told` is what differs, "" when nothing does."""
    if told:
        raise DataError(f"--to {out}: is there already and differs: {told}. Name another folder, or remove this one")


def refuse_changed(out: Path, contents: Contents) -> None:
    """Refuse a folder that no longer holds what it was made of; reads every file."""
    found = differences(out, contents)
    if found:
        raise DataError(
            f"--to {out}: is not as it was made: {found.text()}. Restore these files, or remove the folder and run again"
        )


def refuse_linked(out: Path, contents: Contents, mode: str) -> None:
    """Refuse, where copies are wanted, a folder that is there already with links to the originals."""
    if mode != "copy":
        return
    for name, source in contents.files.items():
        if (out / name).samefile(source):
            raise DataError(
                f"--to {out}: is there already with links, not copies ({files.printable(name)}). "
                "Name another folder, or remove this one; --mode link only checks it"
            )


def unlike(then: Mapping[str, Any], now: Mapping[str, Any], what: str = "") -> str:
    """Which options differ between two records, and whether their sources do; `what` is known of the sources' files."""
    told = [
        f"{key} {json.dumps(then['options'].get(key))}, now {json.dumps(value)}"
        for key, value in now["options"].items()
        if then["options"].get(key) != value
    ]
    before, after = then["source"], now["source"]
    if before["footprint"] != after["footprint"]:
        told.append(
            f"the source was {before['footprint'][:19]}, is {after['footprint'][:19]} ({what or 'its files changed'})"
        )
    elif before != after:
        told.append(f"the source was called {before['name']}, is called {after['name']}")
    return "; ".join(told) or ("" if then == now else "its content was made otherwise, by another version of diva")


def differences(out: Path, contents: Contents) -> footprint.Differences:
    """What was added to, removed from and changed in `out` since it was made of `contents`; reads every file."""
    wanted = {**contents.digests, **{name: sha256_bytes(content) for name, content in contents.texts.items()}}
    order = sorted(wanted, key=lambda name: name.encode("utf-8", "surrogateescape"))
    then = footprint.Footprint(tuple(footprint.FileEntry(name, 0, 0, wanted[name]) for name in order))
    return footprint.compare(then, footprint.take(out))


@contextmanager
def appearing(out: Path) -> Iterator[Path]:
    """A new hidden folder beside `out` that becomes `out` when the block ends; FileExistsError when another process was first.

    Nothing stays of a block that fails, nor of processes that were killed. DataError when nothing can be written there.
    """
    try:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:  # a file is in the way
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), error.filename) from None
        with places.locked(out, wait=True, option="--to"):
            if is_there(out):
                raise FileExistsError(out)
            with places.made(out) as place:
                place.mkdir()
                yield place
    except FileExistsError:
        raise
    except OSError as error:
        what = f" ({Path(os.fsdecode(error.filename)).name})" if error.filename else ""
        raise DataError(f"--to {out}: cannot be written: {error.strerror}{what}; choose another place") from None
