"""Conversion: blocks of samples, members of archives and tables become files in the standard layout, in parallel, the same everywhere."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from itertools import groupby, pairwise
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy

from diva.data import archives, png
from diva.data.formats import Block, Placed, Text, deal
from diva.errors import DataError
from diva.records.files import printable
from diva.records.footprint import is_ignored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

    from diva.data.catalogue import Card
    from diva.data.formats import Item

    Progress = Callable[[int], None]

SPLITS = ("train", "val", "test")
_WORTH_A_PROCESS = 2000  # images below this number are written before another process would have started
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)


def write(
    items: Iterable[Item], folder: Path, card: Card, jobs: int | None = None, progress: Progress | None = None
) -> None:
    """Write what a reader found into `folder`, which is made here or empty; at the end everything is on the disk.

    Images are written by `jobs` processes (default: one per core, at most 8) while the reader reads on. With `card.val`
    and no official `val`, that share of each class of `train` becomes `val`, see `formats.deal`. Which process writes what
    changes no byte. `progress` gets the number of files written since it was last called.
    DataError: an unsafe or repeated name, a label that the card does not have.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = _Names(card, folder)
    members: dict[int | None, list[int]] = {}  # of train: class -> official indices
    report = progress or (lambda n: None)
    with _Crew(jobs or min(8, os.cpu_count() or 1)) as crew:
        for kind, group in groupby(items, type):
            if kind is Placed:
                crew.wait()
                _copy_members(list(group), names, report)  # type: ignore[arg-type]
                continue
            for item in group:
                if isinstance(item, Text):
                    content = item.content.encode() if isinstance(item.content, str) else item.content
                    _write_new(names.new(item.target), content)
                    report(1)
                elif isinstance(item, Block):
                    parts = names.parts(item)
                    if item.split == "train":
                        for label, indices in parts.items():
                            members.setdefault(label, []).extend(item.first + int(i) for i in indices)
                    crew.write(item, {names.class_folder(item.split, label): part for label, part in parts.items()})
                    report(len(item.images))
    if card.val and members and not (folder / "val").exists():
        _move_val(folder, names, card, members)
    sync(folder)


def sync(folder: Path) -> None:
    """Bring everything in the file system of `folder` to the disk: once for all files, which one sync per file would cost a hundredfold."""
    if sys.platform == "linux":
        import ctypes

        handle = os.open(folder, os.O_RDONLY)
        try:
            if ctypes.CDLL(None).syncfs(handle) == 0:
                return
        finally:
            os.close(handle)
    os.sync()


def check_names(card: Card) -> None:
    """Refuse class names that are unsafe, that some file system takes for one, or that are there twice."""
    seen: dict[str, str] = {}
    for name in card.classes or ():
        _check_name(name, card)
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            raise DataError(
                f"{card.name}: the classes {other!r} and {name!r} would share a folder on a file system "
                "that ignores case; rename one in the card"
            )
    if len(seen) != len(card.classes or ()):
        raise DataError(f"{card.name}: a class is named twice in the card")


def _check_name(part: str, card: Card) -> None:
    wrong = not part or is_ignored(part) or "/" in part or "\\" in part or not part.isprintable()
    if wrong or part != part.strip() or part.endswith(".") or len(os.fsencode(part)) > 255:
        raise DataError(
            f"{card.name}: {printable(part)!r} is no safe name of a class or file; allowed: printable characters "
            "without / and \\, no dot in front, no dot or blank at the end, nothing that a footprint ignores"
        )


class _Names:
    """The names given so far, so that no two samples get one name, not even on a file system that ignores case."""

    def __init__(self, card: Card, folder: Path) -> None:
        self._card, self._folder = card, folder
        self._targets: set[str] = set()
        self._folders: dict[PurePosixPath, Path] = {}
        self._spelled: dict[str, str] = {}  # a folder without regard to case -> as it was first written
        check_names(card)

    def new(self, target: PurePosixPath) -> Path:
        """The place of a new file, its folder made; DataError when the name leads outside, is unsafe or taken."""
        if target.is_absolute() or not target.parts:
            raise DataError(f"{self._card.name}: {printable(str(target))} is not a place inside the data set's folder")
        for part in target.parts:
            _check_name(part, self._card)
        key = str(target).casefold()
        if key in self._targets:
            raise DataError(
                f"{self._card.name}: two files would be written to {printable(str(target))} (case is ignored)"
            )
        self._targets.add(key)
        return self._made(target.parent) / target.name

    def parts(self, block: Block) -> dict[int | None, numpy.ndarray]:
        """The positions of a block's images by label, each in ascending order; DataError for labels out of range."""
        if block.labels is None:
            return {None: numpy.arange(len(block.images))}
        classes = self._card.classes or []
        labels = numpy.asarray(block.labels)
        if labels.shape != (len(block.images),) or labels.dtype.kind not in "iu":
            raise DataError(
                f"{self._card.name}: {block.split} has {len(block.images)} images and labels of shape {labels.shape}, "
                f"type {labels.dtype}; expected one integer per image"
            )
        wrong = numpy.flatnonzero((labels < 0) | (labels >= len(classes)))
        if len(wrong):
            raise DataError(
                f"{self._card.name}: sample {block.first + int(wrong[0])} of {block.split} has label {labels[wrong[0]]}; "
                f"allowed: 0 to {len(classes) - 1}. The file is damaged, or not the one that the card describes"
            )
        order = numpy.argsort(labels, kind="stable")
        found, starts = numpy.unique(labels[order], return_index=True)
        return {int(label): part for label, part in zip(found, numpy.split(order, starts[1:]), strict=True)}

    def class_folder(self, split: str, label: int | None) -> Path:
        """`<split>/<class>`, made; images without a label lie in the split's folder itself."""
        if split not in SPLITS and label is not None:
            raise DataError(f"{self._card.name}: no split is called {split!r}; allowed: {', '.join(SPLITS)}")
        parts = [split] if label is None else [split, (self._card.classes or [])[label]]
        return self._made(PurePosixPath(*parts))

    def _made(self, relative: PurePosixPath) -> Path:
        if relative not in self._folders:
            for folder in (relative, *relative.parents):
                other = self._spelled.setdefault(str(folder).casefold(), str(folder))
                if other != str(folder):
                    raise DataError(
                        f"{self._card.name}: the folders {printable(other)!r} and {printable(str(folder))!r} are one on a "
                        "file system that ignores case"
                    )
            self._folders[relative] = self._folder / relative
            self._folders[relative].mkdir(parents=True, exist_ok=True)
        return self._folders[relative]


def _write_file(name: str | Path, content: bytes | memoryview, folder: int | None = None) -> None:
    """A new file with this content; without Python's file objects and paths, which would take longer than the system does.

    `folder` is the handle of an open folder that a name is relative to: the way to it is not looked up for each file.
    """
    handle = os.open(name, _NEW, 0o666, dir_fd=folder)
    try:
        while content:
            content = content[os.write(handle, content) :]
    finally:
        os.close(handle)


def _write_new(path: Path, content: bytes) -> None:
    try:
        _write_file(path, content)
    except FileExistsError:
        raise _taken(path) from None


def _write_images(block: Block, parts: list[tuple[Path, numpy.ndarray]], parent: int) -> None:
    for folder, positions in parts:
        handle = os.open(folder, os.O_RDONLY)
        try:
            indices = (block.first + positions).tolist()
            for index, content in zip(indices, png.encode_all(block.images[positions]), strict=True):
                if parent and os.getppid() != parent:
                    os._exit(1)  # killed: what is left here belongs to whoever comes next
                _write_file(f"{index:05}.png", content, handle)
        except FileExistsError:
            raise _taken(folder / f"{index:05}.png") from None
        finally:
            os.close(handle)


def _taken(path: Path) -> DataError:
    return DataError(f"{path}: two samples would be written to this file; the source repeats an index or a name")


class _Crew:
    """Processes that write one block while the next one is read. They inherit the pixels: nothing is sent to them."""

    def __init__(self, jobs: int) -> None:
        # Elsewhere a process started by fork may not use the system's libraries; one that is not would be sent all pixels.
        self._jobs = jobs if sys.platform == "linux" else 1
        self._running: list[tuple[BaseProcess, Connection]] = []

    def __enter__(self) -> _Crew:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            for process, connection in self._running:
                process.kill()
                process.join()
                connection.close()
            self._running = []

    def write(self, block: Block, parts: dict[Path, numpy.ndarray]) -> None:
        """Begin to write a block, after the one before it is done."""
        self.wait()
        if self._jobs == 1 or len(block.images) < _WORTH_A_PROCESS:
            _write_images(block, list(parts.items()), 0)
            return
        context = multiprocessing.get_context("fork")
        for share in _shares(parts, self._jobs):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(block, share, os.getpid(), sender), daemon=True)
            process.start()
            sender.close()
            self._running.append((process, receiver))

    def wait(self) -> None:
        """Wait for what was begun; an error there is raised here."""
        while self._running:
            process, receiver = self._running[0]
            try:
                error = receiver.recv()
            except EOFError:
                process.join()
                error = DataError(f"a process that wrote images ended with exit code {process.exitcode}; run it again")
            process.join()
            receiver.close()
            self._running.pop(0)
            if error is not None:
                raise error


def _work(block: Block, share: list[tuple[Path, numpy.ndarray]], parent: int, sender: Connection) -> None:
    """The whole life of a process that writes its share."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        _write_images(block, share, parent)
    except (DataError, OSError) as error:
        sender.send(error)
    else:
        sender.send(None)


def _shares(parts: dict[Path, numpy.ndarray], jobs: int) -> Iterator[list[tuple[Path, numpy.ndarray]]]:
    """Divide the images into `jobs` runs of about equal length, folder after folder: two processes rarely share a folder."""
    n = sum(len(part) for part in parts.values())
    bounds = [n * job // jobs for job in range(jobs + 1)]
    for low, high in pairwise(bounds):
        share, start = [], 0
        for folder, part in parts.items():
            taken = part[max(0, low - start) : max(0, high - start)]
            start += len(part)
            if len(taken):
                share.append((folder, taken))
        if share:
            yield share


def _copy_members(items: list[Placed], names: _Names, report: Progress) -> None:
    """Copy members out of their archives, each archive read through at most once; all names are checked before the first copy."""
    by_archive: dict[Path, dict[str, list[Path]]] = {}
    for item in items:
        by_archive.setdefault(item.archive, {}).setdefault(item.member, []).append(names.new(item.target))
    for archive, targets in by_archive.items():
        archives.extract(archive, targets, report)


def _move_val(folder: Path, names: _Names, card: Card, members: dict[int | None, list[int]]) -> None:
    """Move the part of train that becomes val: which samples those are is known only when all labels have been read."""
    assert card.val is not None
    for label, indices in members.items():
        dealt = deal(card.name, indices, card.val)
        moved = [index for index in indices if dealt[index] == "val"]
        if moved:  # an empty folder would be a class without samples
            source, target = names.class_folder("train", label), names.class_folder("val", label)
            for index in moved:
                (source / f"{index:05}.png").rename(target / f"{index:05}.png")
