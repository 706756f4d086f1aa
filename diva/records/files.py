"""Small, safe file operations: written whole or not at all, hashed, printable, free of user names."""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diva.errors import RecordError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NAMED_AT_MOST = 5  # how many files a message names before it only counts


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a whole file or nothing: temporary sibling, flush, fsync, rename. Text is written as UTF-8.

    A file already there is replaced. The permissions are those of any new file (the umask's).
    """
    write_blocks(path, [content.encode("utf-8") if isinstance(content, str) else content])


def write_blocks(path: Path, blocks: Iterable[bytes], temporary: Path | None = None) -> None:
    """As `write_atomic`, for content that is too large to be held at once.

    temporary: a sibling that nobody else uses, so that what a killed process left there is overwritten and no litter.
    """
    temporary = temporary or path.with_name(f".{os.urandom(8).hex()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.writelines(blocks)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, obj: object) -> None:
    """Write standard JSON, atomically: sorted keys, ASCII, and "NaN", "Infinity", "-Infinity" as strings."""
    write_atomic(path, _json_text(obj))


def write_sealed_json(path: Path, obj: object, seal: Path) -> None:
    """As `write_json`, after writing the file's digest to `seal`, as `sha256sum -c` takes it: there is no sealed file without its seal."""
    text = _json_text(obj)
    write_atomic(seal, f"{hashlib.sha256(text.encode()).hexdigest()}  {path.name}\n")
    write_atomic(path, text)


def _json_text(obj: object) -> str:
    return json.dumps(_without_non_finite(obj), indent=1, sort_keys=True, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    """Read a JSON file; a missing, unreadable or damaged one is a RecordError that names it."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise RecordError(f"{path} does not exist.") from None
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is not a whole JSON document ({error}): it was damaged or edited.") from error


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, as 64 hex digits; reads in blocks, so size does not matter."""
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_bytes(data: bytes) -> str:
    """The SHA-256 of some bytes, as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def checksum_line(sha256: str, path: bytes) -> bytes:
    r"""The line that `sha256sum` (GNU coreutils 9) prints for a file.

    As there, a name that holds a backslash, a line feed or a carriage return is escaped and the line begins with
    a backslash, so that no name can pass for two lines.
    """
    escaped = path.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    mark = b"" if escaped == path else b"\\"
    return mark + sha256.encode("ascii") + b"  " + escaped + b"\n"


def checksum_lines(sha256s: Sequence[str], paths: Sequence[bytes]) -> bytes:
    """The lines of several files; those of ordinary names at less cost."""
    names = b"/".join(paths)
    if b"\\" in names or b"\n" in names or b"\r" in names:
        return b"".join(map(checksum_line, sha256s, paths))
    return b"".join([b"%b  %b\n" % pair for pair in zip(map(str.encode, sha256s), paths, strict=True)])


def hide_home(text: str) -> str:
    """The text with the user's home directory written as `~`, wherever it occurs: records hold no user names."""
    for home in _homes():
        parts = text.split(home)
        text = parts[0] + "".join(f"{home if _goes_on(rest) else '~'}{rest}" for rest in parts[1:])
    return text


def printable(path: str) -> str:
    """A path as one line of text that any terminal takes: line feeds and undecodable bytes are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in path)


def some_of(paths: Sequence[str]) -> str:
    """The first five paths, printable, and how many more there are."""
    named = ", ".join(printable(path) for path in paths[:NAMED_AT_MOST])
    return f"{named} and {len(paths) - NAMED_AT_MOST} more" if len(paths) > NAMED_AT_MOST else named


def _without_non_finite(obj: object) -> object:
    if isinstance(obj, float) and not math.isfinite(obj):
        return "NaN" if math.isnan(obj) else "Infinity" if obj > 0 else "-Infinity"
    if isinstance(obj, dict):
        return {_without_non_finite(key): _without_non_finite(value) for key, value in obj.items()}
    if isinstance(obj, list | tuple):
        return [_without_non_finite(item) for item in obj]
    return obj


def _homes() -> list[str]:
    """The home directory as named and as resolved, longest first; none when it is unknown or the root folder."""
    try:
        home = Path.home()
        homes = {str(home), str(home.resolve())}
    except (RuntimeError, OSError):
        return []
    return sorted((home for home in homes if home != home[:1]), key=len, reverse=True)


def _goes_on(rest: str) -> bool:
    """Whether a directory name goes on after the home directory's: /home/ann is no part of /home/anna."""
    return rest[:1].isalnum() or rest[:1] in ("_", "-", ".")
