"""Sources: one file from its mirrors, resumed where it broke off, tried again, and believed only when its checksum is right."""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

import diva
from diva.data.download.web import (
    RefusedError,
    TransientError,
    UnreachableError,
    WholeError,
    next_block,
    opened,
    validator_of,
)
from diva.errors import DataError, RecordError
from diva.records.files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from diva.data.catalogue import SourceFile

_ROOM_LEFT = 1 << 28  # bytes of the disk that a file of unknown length leaves free
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)$")


class Bar(Protocol):
    """What shows how far something is."""

    def update(self, n: int) -> None:
        """Take n more units as done."""


class Listener(Protocol):
    """Who is told how the work goes; the console is one."""

    def say(self, line: str) -> None:
        """Tell a line."""

    def warn(self, line: str) -> None:
        """Tell what must not be overlooked."""

    def progress(self, total: int | None, label: str, unit: str = "") -> AbstractContextManager[Bar]:
        """Show a bar of `total` units, None when nobody knows how many; unit "B" is bytes."""


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for, and how often it is asked again when it gave nothing new."""

    timeout_s: float = 30
    retries: int = 3
    pauses_s: tuple[float, ...] = (1, 3, 9)
    pause: Callable[[float], None] = time.sleep


PATIENCE = Patience()


@dataclass(frozen=True)
class Fetched:
    """A file that is here and right; `url` is where it came from, or `file` for one that was given."""

    name: str
    path: Path
    size: int
    sha256: str
    url: str


def fetch(
    source: SourceFile,
    folder: Path,
    listener: Listener,
    *,
    first: Sequence[str] = (),
    recorded: str | None = None,
    patience: Patience = PATIENCE,
) -> Fetched:
    """The file `<folder>/<name>`, from the addresses in `first` and then those of the card; what is there already is kept.

    Unfinished it is `<name>.part`, with what the server said of it in `<name>.note.json`, and goes on from there, also in
    another process. `recorded` is the sha256 that it had the first time, for a card that gives no checksum.
    Raises DataError when no address gives the right file, with the reason for each.
    """
    transfer = _Transfer(source, folder, listener, recorded, patience)
    if transfer.target.exists():
        sha256, problem = check(source, transfer.target, listener, recorded)
        if problem is None:
            return Fetched(source.name, transfer.target, transfer.target.stat().st_size, sha256, transfer.note().url)
        listener.say(f"{source.name}: {problem}; it is fetched again")
        transfer.target.unlink()
    reasons: dict[str, list[str]] = {}
    for url in dict.fromkeys([*first, *source.urls]):
        try:
            return transfer.from_url(url)
        except RefusedError as error:
            reasons.setdefault(str(error), []).append(url)
            listener.say(f"{url}: {error}")
    told = "; ".join(f"{reason} ({', '.join(urls)})" for reason, urls in reasons.items()) or "the card gives no address"
    raise DataError(
        f"{source.name} was not fetched: {told}. Try again later (what came is kept), name a mirror with --from URL, "
        "or get the file by other means and use --from FILE"
    )


def check(source: SourceFile, path: Path, listener: Listener, recorded: str | None = None) -> tuple[str, str | None]:
    """The sha256 of a local file, and what is wrong with it: expected and found, or None."""
    found = digests(path, {"sha256", *source.checksums}, listener)
    size = path.stat().st_size
    if source.size is not None and size != source.size:
        return found["sha256"], f"has {size:,} bytes, expected {source.size:,}"
    for algorithm, expected in source.checksums.items():
        if found[algorithm] != expected:
            return found["sha256"], f"has {algorithm} {found[algorithm]}, expected {expected}"
    if not source.checksums and recorded is not None and found["sha256"] != recorded:
        return found["sha256"], f"has sha256 {found['sha256']}, the first time it was {recorded}"
    return found["sha256"], None


def digests(path: Path, algorithms: set[str], listener: Listener) -> dict[str, str]:
    """Checksums of a file in hex, by algorithm, in one reading."""
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in sorted(algorithms)}
    with path.open("rb", buffering=0) as file, listener.progress(path.stat().st_size, f"check {path.name}", "B") as bar:
        while block := file.read(1 << 20):
            for one in hashes.values():
                one.update(block)
            bar.update(len(block))
    return {name: one.hexdigest() for name, one in hashes.items()}


def text_of_size(n_bytes: float) -> str:
    """Bytes for people: three digits and a decimal unit."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n_bytes < 999.5:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.3g} TB"


def need_room(folder: Path, n_bytes: int, what: str) -> None:
    """Raise DataError when the disk of `folder` has no room for so many bytes."""
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        raise DataError(
            f"{what} takes {text_of_size(n_bytes)}, the disk of {folder} has {text_of_size(free)} free; "
            "make room or choose another place with --to or --data-root"
        )


@dataclass(frozen=True)
class _Note:
    """What is known of a part: where it is from, what names this version of the file, its whole length, in how many pieces it came."""

    url: str = ""
    validator: str = ""
    total: int | None = None
    pieces: int = 0


@dataclass(frozen=True)
class _Transfer:
    """The way of one file into its folder."""

    source: SourceFile
    folder: Path
    listener: Listener
    recorded: str | None
    patience: Patience

    @property
    def target(self) -> Path:
        return self.folder / self.source.name

    @property
    def part(self) -> Path:
        return self.folder / f"{self.source.name}.part"

    @property
    def note_file(self) -> Path:
        return self.folder / f"{self.source.name}.note.json"

    def note(self) -> _Note:
        """What was noted; nothing when there is no note, or a damaged one."""
        try:
            said = read_json(self.note_file)
            return _Note(str(said["url"]), str(said["validator"]), said["total"], int(said["pieces"]))
        except (RecordError, KeyError, TypeError, ValueError):
            return _Note()

    def n_here(self) -> int:
        """Bytes of the part."""
        return self.part.stat().st_size if self.part.exists() else 0

    def start_over(self) -> None:
        """Forget the part."""
        self.part.unlink(missing_ok=True)
        self.note_file.unlink(missing_ok=True)

    def from_url(self, url: str) -> Fetched:
        """The whole, right file from one address; raises RefusedError when that address will not give it."""
        barren, most, started_over = 0, self.n_here(), False
        while True:
            try:
                self._receive(url)
            except TransientError as error:
                barren, most = (0 if self.n_here() > most else barren + 1), max(most, self.n_here())
                retries = (
                    min(1, self.patience.retries) if isinstance(error, UnreachableError) else self.patience.retries
                )
                if barren > retries:
                    raise RefusedError(f"{error} ({barren} times)") from None
                pause_s = self.patience.pauses_s[min(barren, len(self.patience.pauses_s)) - 1] if barren else 0
                at = f" at {text_of_size(self.n_here())}" if self.n_here() else ""
                self.listener.say(f"{self.source.name}: {error}; again{at}{f' in {pause_s:g} s' if pause_s else ''}")
                self.patience.pause(pause_s)
                continue
            sha256, problem = check(self.source, self.part, self.listener, self.recorded)
            if problem is None:
                self.part.replace(self.target)
                return Fetched(self.source.name, self.target, self.target.stat().st_size, sha256, self.note().url)
            pieces = self.note().pieces
            self.start_over()
            if pieces <= 1 or started_over:
                raise RefusedError(f"what it gave {problem}; it was deleted")
            started_over = True  # a piece may be of another version, or have been damaged when this machine went down
            self.listener.say(
                f"{self.source.name}: put together from {pieces} pieces it {problem}; once more from the start"
            )

    def _receive(self, url: str) -> None:
        """Ask once, and bring the part as far as the answer goes; returns when the part is whole."""
        note, here = self.note(), self.n_here()
        same_place = note.url == url and bool(note.validator)
        if here and not same_place and not self.source.checksums:
            self.start_over()  # nothing would tell whether the rest belongs to it
            here = 0
        if here and note.total is not None and here >= note.total:
            if here == note.total:
                return
            self.start_over()
            here = 0
        headers = {"User-Agent": f"diva/{diva.__version__}", "Accept-Encoding": "identity"}
        if here and not url.startswith("ftp:"):
            headers["Range"] = f"bytes={here}-"
            if same_place:
                headers["If-Range"] = note.validator
        try:
            with opened(url, headers, self.patience.timeout_s) as response:
                if not self._accept(url, response, here, note):
                    return self._receive(url)
                self._write(response)
        except WholeError as error:
            if not here:
                raise RefusedError("answered 416, though the whole file was asked for") from None
            if error.total == here:
                return None
            self.start_over()
            return self._receive(url)

    def _accept(self, url: str, response: Any, here: int, note: _Note) -> bool:
        """Look at what an answer announces; the note and the part are then ready for its body. False: ask once more, from the start."""
        declared = response.headers.get("Content-Length", "")
        length = int(declared) if declared.isascii() and declared.isdigit() else None
        if response.headers.get("Transfer-Encoding"):
            length = None
        validator = validator_of(response.headers)
        same = note.url == url
        total: int | None
        if getattr(response, "status", None) == 206:
            found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
            total = note.total if found is None or found[3] == "*" else int(found[3])
            fits = found is not None and int(found[1]) == here and (total is None or int(found[2]) + 1 == total)
            if not here:
                raise RefusedError("answered with a part of the file, though the whole was asked for")
            if not fits or (note.total not in (None, total)) or (same and validator and note.validator != validator):
                self.listener.say(
                    f"{self.source.name}: what is offered now does not continue what is here; from the start"
                )
                self.start_over()
                return False
            pieces = max(note.pieces, 1) + 1  # what is here is one, though nothing was noted of it
            if total is None and length is not None:
                total = here + length
        else:
            total, pieces = length, 1
            self._refuse_a_page(response)
            if here:
                self.listener.say(f"{self.source.name}: the server gives the whole file or nothing; from the start")
        if total is not None and self.source.size not in (None, total):
            if pieces == 1 or note.url != url:
                raise RefusedError(f"offers {total:,} bytes, expected {self.source.size:,}")
            self.start_over()
            return False
        total = self.source.size if total is None else total
        if pieces == 1:
            self.start_over()
            here = 0
        need_room(self.folder, 0 if total is None else total - here, self.source.name)
        write_json(self.note_file, {"url": url, "validator": validator, "total": total, "pieces": pieces})
        return True

    def _refuse_a_page(self, response: Any) -> None:
        """Log-in and error pages come with status 200; a checksum would find out, after the whole body."""
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind == "text/html" and not self.source.name.lower().endswith((".html", ".htm")):
            raise RefusedError("answered with a web page instead of the file; it may ask for a log-in")

    def _write(self, response: Any) -> None:
        """Append the body to the part, never more than it may have."""
        total, here = self.note().total, self.n_here()
        limit = total if total is not None else max(0, shutil.disk_usage(self.folder).free - _ROOM_LEFT)
        read = cast("Callable[[int], bytes]", getattr(response, "read1", response.read))
        try:
            with self.part.open("ab") as file, self.listener.progress(total, self.source.name, "B") as bar:
                bar.update(here)
                while block := next_block(read):
                    here += len(block)
                    if here > limit:
                        self._too_long(file, limit, known=total is not None)
                    file.write(block)
                    bar.update(len(block))
        except OSError as error:
            raise DataError(
                f"{self.part}: cannot be written ({error.strerror}); make room or choose another place with --to or --data-root"
            ) from None
        if total is not None and here < total:
            raise TransientError(f"the connection ended after {here:,} of {total:,} bytes")

    def _too_long(self, file: IO[bytes], limit: int, *, known: bool) -> None:
        file.close()
        self.start_over()
        if known:
            raise RefusedError(f"sends more than the {limit:,} bytes that it may have; it was deleted")
        raise RefusedError("sends more, without saying how much, than the disk has room for; it was deleted")
