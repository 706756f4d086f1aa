"""Downloads: from a card to a data set folder, which appears whole or not at all, with everything verified on the way."""

from __future__ import annotations

import json
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diva.data.archives import is_foreign
from diva.data.catalogue import write_bundled
from diva.data.download import given as given_files
from diva.data.download import notes, reading
from diva.data.download.sources import PATIENCE, Fetched, fetch, need_room, text_of_size
from diva.data.places import cannot_write, locked, made, prepare_root, remove
from diva.data.yaml_files import read_yaml
from diva.errors import DataError, UsageError
from diva.records import footprint
from diva.records.files import write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from diva.data.catalogue import Card, SourceFile
    from diva.data.download.given import Given
    from diva.data.download.sources import Bar, Listener, Patience
    from diva.data.formats import Item

DESCRIPTION = "dataset.yaml"
LICENCE = "LICENCE.txt"
_SCRATCH = ".unpacked"  # in the workshop, where no file of a card has a dot in front


@dataclass(frozen=True)
class Downloaded:
    """A data set that is here: its folder, its footprint, and of each file it was made of the name, size, sha256 and address."""

    name: str
    folder: Path
    footprint: footprint.Footprint
    files: tuple[dict[str, Any], ...]
    fresh: bool

    def as_json(self) -> dict[str, Any]:
        """What `diva download --json` prints."""
        return {
            "name": self.name,
            "folder": str(self.folder),
            "footprint": self.footprint.digest,
            "n_files": self.footprint.n_files,
            "n_bytes": self.footprint.n_bytes,
            "files": list(self.files),
        }


def download(
    card: Card,
    folder: Path,
    listener: Listener,
    *,
    given: Sequence[str] = (),
    keep_archive: bool = False,
    patience: Patience = PATIENCE,
    option: str = "--data-root",
) -> Downloaded:
    """Make `folder` hold the data set that the card describes; where it does already, only look whether it still does.

    Work in progress lies beside it: `.<name>.download/` holds what was fetched and goes on from there after an interruption,
    `.<name>.partial-.../` what is being converted. One process at a time; another one gets a DataError.
    Raises DataError for what cannot be fetched, verified, converted or written, and for what is given and not there, even if
    nothing is to be made; `option` is what the user chose the place with.
    """
    folder = folder if folder.name else folder.resolve()
    if card.bundled is not None and given:
        raise UsageError(f"{card.name} needs no download, it comes with the installation: leave out --from")
    given_files.check_there(given)
    if folder.exists() or folder.is_symlink():
        there = _there_already(card, folder)
        _clean_up(folder)
        return there
    if not folder.parent.is_dir():
        prepare_root(folder.parent, option)
    with locked(folder, wait=False, option=option):
        if folder.exists():
            return _there_already(card, folder)
        try:
            if card.bundled is not None:
                write_bundled(card, folder, option)
                found = _note_footprint(folder, footprint.take(folder))
                remove(workshop_of(folder))
                return Downloaded(card.name, folder, found, (), fresh=True)
            return _make(card, folder, listener, given, patience, keep_archive=keep_archive)
        except OSError as error:
            if error.errno is None:  # not the system's, but a library's
                raise
            place = folder.parent if error.filename is None else Path(error.filename)
            raise cannot_write(place, error, option) from error


def archives_of(folder: Path) -> Path:
    """Where `--keep-archive` leaves the archives, and where a later download looks for them."""
    return folder.with_name(f"{folder.name}.archives")


def workshop_of(folder: Path) -> Path:
    """Where files are kept until the data set is made of them."""
    return folder.with_name(f".{folder.name}.download")


def _there_already(card: Card, folder: Path) -> Downloaded:
    """A data set that was there before; DataError when it is another one, or is not what it was."""
    if not folder.is_dir():
        raise DataError(f"{folder}: is a file, not a folder; move it away, or choose another place with --to")
    description = folder / DESCRIPTION
    if card.bundled is None and not (description.is_file() and _names(description, card.name)):
        raise DataError(
            f"{folder}: exists, and is not {card.name} as diva download makes it (no {DESCRIPTION} says so); "
            "choose another place with --to, or move it away"
        )
    told = notes.unlike(card, folder) if card.bundled is None and card.footprint is None else ""
    if told:
        raise DataError(
            f"{folder}: was made from another card: {told}; move it away to make it anew, or choose another place with --to"
        )
    found, _ = footprint.check(folder)
    if card.footprint is not None and found.digest != card.footprint:
        raise DataError(
            f"{folder}: has footprint {found.digest}, its card says {card.footprint}; "
            "move it away to download it again, or see what differs with diva verify --against"
        )
    return Downloaded(card.name, folder, found, tuple(notes.recorded(folder).values()), fresh=False)


def _names(description: Path, name: str) -> bool:
    try:
        said = read_yaml(description)
    except DataError:
        return False
    return isinstance(said, dict) and said.get("name") == name


def _clean_up(folder: Path) -> None:
    """Take away what a process left that was killed after its data set had appeared; unless one is at work."""
    if workshop_of(folder).exists():
        with suppress(DataError, OSError), locked(folder, wait=False):
            remove(workshop_of(folder))


def _make(
    card: Card, folder: Path, listener: Listener, given: Sequence[str], patience: Patience, *, keep_archive: bool
) -> Downloaded:
    """Fetch, verify, convert, put in place, note; in this order, so that each step can be the last of a killed process."""
    from diva.data.formats import reader_of

    reader = reader_of(card)
    reading.check_card(card)
    sorted_given = given_files.sort(card, given, listener)
    _refuse_unavailable(card, folder, sorted_given)
    workshop = workshop_of(folder)
    workshop.mkdir(exist_ok=True)
    try:
        fetched, local = _collect(card, folder, sorted_given, listener, patience)
    except DataError:
        with suppress(OSError):
            workshop.rmdir()  # unless it holds what came
        raise
    files = tuple(
        {"name": one.name, "size": one.size, "sha256": one.sha256, "url": one.url}
        for one in sorted(fetched.values(), key=lambda one: one.name)
    )
    with made(folder) as partial:
        _convert(card, reader(local, card), partial, workshop / _SCRATCH, listener)
        reading.check(card, partial)
        _describe(card, partial)
        found = _checked_footprint(card, partial, listener)
        note = notes.record(card, folder, files)
        _put(folder, notes.record_of(folder), lambda path: write_json(path, note))
        if keep_archive:  # once the folder is there, nobody asks for them again
            _keep(folder, fetched)
        footprint.location(folder).unlink(missing_ok=True)  # of a folder that was here once
    _note_footprint(folder, found)
    remove(workshop)
    return Downloaded(card.name, folder, found, files, fresh=True)


def _refuse_unavailable(card: Card, folder: Path, given: Given) -> None:
    """Say before a download of gigabytes, not after it, which file the user has to get, or to unpack, by other means."""
    for source in card.files:
        if given.unpacked is not None or source.name in given.files:
            continue
        if is_foreign(source.name):
            place = source.urls[0] if source.urls else card.homepage
            raise DataError(
                f"{card.name}: comes as {source.name}, which diva cannot unpack; get it from {place}, unpack it (unrar x, 7z x) "
                f"and run: diva download {card.name} --from FOLDER"
            )
        if not (
            source.urls
            or given.urls.get(source.name)
            or source.optional
            or (archives_of(folder) / source.name).is_file()
        ):
            raise DataError(
                f"{card.name}: no address gives {source.name}; get it from its provider ({card.homepage or 'see its licence'}) "
                f"and run: diva download {card.name} --from FILE or FOLDER. {card.notes}".rstrip()
            )


def _collect(
    card: Card, folder: Path, given: Given, listener: Listener, patience: Patience
) -> tuple[dict[str, Fetched], dict[str, Path]]:
    """Every file of the card, verified; and where each lies, which is the unpacked folder for those that need no archive."""
    recorded = notes.recorded(folder)
    fetched: dict[str, Fetched] = {}
    local: dict[str, Path] = {}
    for source in card.files:
        if given.unpacked is not None and source.name not in given.files:
            local[source.name] = given.unpacked
            continue
        before = recorded.get(source.name, {}).get("sha256")
        try:
            one = _one(source, folder, given, listener, before, patience)
        except DataError as error:
            if not source.optional:
                _tell_what_is_needed(card, fetched, listener)
                raise
            listener.warn(f"{error}. {card.name} is made without it")
            continue
        if not source.checksums and before is None:
            listener.say(
                f"{source.name}: the card gives no checksum; its sha256 {one.sha256} is noted in {notes.record_of(folder).name} "
                "and compared from now on"
            )
        fetched[source.name], local[source.name] = one, one.path
    if given.unpacked is not None:
        listener.say(f"{given.unpacked}: taken as unpacked; nothing but the footprint can tell whether it is complete")
    return fetched, local


def _tell_what_is_needed(card: Card, fetched: dict[str, Fetched], listener: Listener) -> None:
    """For who has no network here: every file that is missing, what it must be, and where it is to be had."""
    missing = [source for source in card.files if source.name not in fetched and not source.optional]
    listener.say(f"What {card.name} still needs; got by other means and put into one folder, give that with --from:")
    for source in missing:
        size = "size not known" if source.size is None else f"{source.size:,} bytes"
        sums = next((f"{algorithm} {digest}" for algorithm, digest in source.checksums.items()), "no checksum known")
        listener.say(f"  {source.name}, {size}, {sums}, {source.urls[0] if source.urls else card.homepage}")


def _one(
    source: SourceFile, folder: Path, given: Given, listener: Listener, recorded: str | None, patience: Patience
) -> Fetched:
    """One file: as given, else kept from an earlier download, else fetched."""
    if source.name in given.files:
        return given_files.take(source, given.files[source.name], listener, recorded)
    for kept in _kept(source, folder):
        try:
            one = given_files.take(source, kept, listener, recorded)
        except DataError as error:
            listener.say(f"{error}; another is looked for")
        else:
            row = notes.recorded(folder).get(source.name, {})
            return replace(one, url=row["url"] if row.get("sha256") == one.sha256 else "file")
    workshop = workshop_of(folder)
    if source.size is not None and not (workshop / source.name).exists():
        part = workshop / f"{source.name}.part"
        need_room(workshop, source.size - (part.stat().st_size if part.exists() else 0), source.name)
    size = "" if source.size is None else f" ({text_of_size(source.size)})"
    here = ": came earlier" if (workshop / source.name).exists() else ""
    listener.say(f"{source.name}{size}{here}")
    return fetch(
        source, workshop, listener, first=given.urls.get(source.name, ()), recorded=recorded, patience=patience
    )


def _kept(source: SourceFile, folder: Path) -> list[Path]:
    """Where the file may lie from an earlier download: of this data set, or of another one that is made of the same file."""
    own = archives_of(folder) / source.name
    others = folder.parent.glob(f"*.archives/{source.name}") if source.checksums else ()
    return [path for path in (own, *sorted(set(others) - {own})) if path.is_file()]


def _convert(card: Card, items: Iterator[Item], partial: Path, scratch: Path, listener: Listener) -> None:
    from diva.data.download import conversion

    listener.say(f"{card.name}: written in the standard layout")
    with listener.progress(None, f"write {card.name}") as bar, _temporary_files_in(scratch):
        conversion.write(items, partial, card, progress=bar.update)


@contextmanager
def _temporary_files_in(scratch: Path) -> Iterator[None]:
    """Let readers unpack archives that lie inside archives there: /tmp may be small, and a killed process cleans nothing up."""
    remove(scratch)
    scratch.mkdir()
    before, tempfile.tempdir = tempfile.tempdir, str(scratch)
    try:
        yield
    finally:
        tempfile.tempdir = before


def _describe(card: Card, folder: Path) -> None:
    """Write `dataset.yaml` and the notice, of which every line is a function of the card alone.

    The values are written as JSON, which is YAML too and has one spelling in every version of every library.
    """
    about = {
        "name": card.name,
        "title": card.title,
        "layout": card.layout,
        "classes": card.classes,
        "colours": card.options.get("colours"),
        "about": card.about,
        "licence": card.licence,
        "citation": card.citation,
        "homepage": card.homepage,
        "notes": card.notes,
        "expectations": card.expectations,
    }
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False, default=str)}\n" for key, value in about.items() if value]
    (folder / DESCRIPTION).write_text("".join(lines), encoding="utf-8")
    parts = (card.title, f"Licence: {card.licence}", card.citation and f"Please cite: {card.citation}", card.homepage)
    (folder / LICENCE).write_text("".join(f"{part.strip()}\n" for part in parts if part), encoding="utf-8")


def _checked_footprint(card: Card, partial: Path, listener: Listener) -> footprint.Footprint:
    with listener.progress(None, f"hash {card.name}", "B") as bar:
        found = footprint.take(partial, progress=_advance(bar))
    if card.footprint is not None and found.digest != card.footprint:
        raise DataError(
            f"{card.name}: converted it has footprint {found.digest}, expected {card.footprint}; the files have the right checksums, "
            "so another version of diva or of a library wrote other bytes. Please report it"
        )
    return found


def _advance(bar: Bar) -> Any:
    before = 0

    def report(done: int, total: int) -> None:
        nonlocal before
        bar.update(done - before)
        before = done

    return report


def _note_footprint(folder: Path, found: footprint.Footprint) -> footprint.Footprint:
    _put(folder, footprint.location(folder), lambda path: footprint.write(path, found, folder.resolve().name))
    return found


def _put(folder: Path, path: Path, write: Callable[[Path], None]) -> None:
    """Write a file beside the folder by way of the workshop: what a killed process leaves of it goes with the workshop.

    One that lies elsewhere, perhaps on another disk, is written there at once.
    """
    if path.parent.resolve() != folder.parent.resolve():
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)
        return
    workshop_of(folder).mkdir(exist_ok=True)
    temporary = workshop_of(folder) / f".{path.name}"
    write(temporary)
    temporary.replace(path)


def _keep(folder: Path, fetched: dict[str, Fetched]) -> None:
    """Move what was fetched to where the next download looks; what was given stays where it is."""
    workshop, kept = workshop_of(folder), archives_of(folder)
    for one in fetched.values():
        if one.path.parent == workshop:
            kept.mkdir(exist_ok=True)
            one.path.replace(kept / one.name)
