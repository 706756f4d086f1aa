"""What a user gives with `--from`: archives at hand, a folder of them, an unpacked data set, a mirror."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from diva.data.catalogue import check_url
from diva.data.download.sources import Fetched, check, digests
from diva.errors import DataError, UsageError
from diva.records.files import some_of
from diva.records.footprint import is_ignored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diva.data.catalogue import Card, SourceFile
    from diva.data.download.sources import Listener


@dataclass
class Given:
    """Sorted by what each is for: files and addresses by the names of the card's files, and a folder that is unpacked already."""

    files: dict[str, Path] = field(default_factory=dict)
    urls: dict[str, list[str]] = field(default_factory=dict)
    unpacked: Path | None = None


def check_there(values: Sequence[str]) -> None:
    """DataError for a value of `--from` that is neither an address nor there."""
    for value in values:
        if "://" not in value and not os.path.exists(Path(value).expanduser()):  # noqa: PTH110 - false for a name too long
            raise DataError(
                f"--from {value}: no such file or folder; also allowed: an address that begins with https:// or http://"
            )


def sort(card: Card, values: Sequence[str], listener: Listener) -> Given:
    """Find out what the values of `--from` are; DataError for one that is of no use for this card."""
    given = Given()
    for value in values:
        if "://" in value:
            _add_url(given, card, value)
            continue
        path = Path(value).expanduser()
        if path.is_dir():
            _add_folder(given, card, path, listener)
        elif path.is_file():
            _add_file(given, card, path, listener)
        else:
            raise DataError(f"--from {value}: is no longer there, or neither a file nor a folder")
    return given


def take(source: SourceFile, path: Path, listener: Listener, recorded: str | None) -> Fetched:
    """A file that was given, checked; DataError when it is not what the card says."""
    sha256, problem = check(source, path, listener, recorded)
    if problem is not None:
        raise DataError(f"{path}: {problem}; it is not the {source.name} that the card describes, or it is damaged")
    return Fetched(source.name, path, path.stat().st_size, sha256, "file")


def names_of(source: SourceFile) -> set[str]:
    """The names under which people have a file: the card's, and those that its addresses end with."""
    return {source.name, *(_last_part(url) for url in source.urls)} - {""}


def _last_part(url: str) -> str:
    return unquote(urlsplit(url).path.rpartition("/")[2])


def _add_url(given: Given, card: Card, url: str) -> None:
    try:
        check_url(url)
    except ValueError as error:
        raise UsageError(f"--from {error}") from None
    for source in card.files:
        if _last_part(url) in names_of(source):
            given.urls.setdefault(source.name, []).append(url)
            return
    for source in card.files:
        given.urls.setdefault(source.name, []).append(f"{url.rstrip('/')}/{quote(source.name)}")


def _add_file(given: Given, card: Card, path: Path, listener: Listener) -> None:
    source = _recognised(card, path, listener)
    if source is None:
        wanted = ", ".join(file.name for file in card.files)
        raise DataError(
            f"--from {path}: has neither the checksum nor the name of a file of {card.name}; its files are {wanted}"
        )
    given.files[source.name] = path


def _add_folder(given: Given, card: Card, folder: Path, listener: Listener) -> None:
    """A folder that holds some of the card's files gives these; another one is taken as unpacked."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not is_ignored(path.name))
    found = {path: source for path in files if (source := _recognised(card, path, listener)) is not None}
    if found:
        given.files |= {source.name: path for path, source in found.items()}
        return
    if not any(path.is_dir() for path in folder.iterdir()):
        wanted = ", ".join(file.name for file in card.files)
        raise DataError(
            f"--from {folder}: holds none of the files of {card.name} ({wanted}), and no folders as the unpacked data set has; "
            f"it has {some_of([path.name for path in files]) or 'nothing'}"
        )
    given.unpacked = folder


def _recognised(card: Card, path: Path, listener: Listener) -> SourceFile | None:
    """The file of the card that a local file is: by checksum where sizes allow it, else by name."""
    size = path.stat().st_size
    by_name = [source for source in card.files if path.name in names_of(source)]
    if by_name:
        return by_name[0]  # whether it is right is checked when it is taken
    possible = [source for source in card.files if source.checksums and source.size in (None, size)]
    if not possible:
        return None
    found = digests(path, {algorithm for source in possible for algorithm in source.checksums}, listener)
    for source in possible:
        if all(found[algorithm] == digest for algorithm, digest in source.checksums.items()):
            return source
    return None
