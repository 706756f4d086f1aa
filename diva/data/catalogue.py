"""The catalogue: data sets by name, each described by a card in `datasets/`; and where a named or given folder is."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

import diva
from diva.data.places import cannot_write, locked, made, prepare_root
from diva.data.yaml_files import read_yaml
from diva.errors import DataError, nearest

SCHEMES = ("https", "http", "ftp")
SUFFIXES = (".yaml", ".yml")
_PLAIN = r"^[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}$"  # a name that is the same, and harmless, in every file system


class SourceFile(BaseModel):
    """One file that a data set is made of, as its provider offers it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(pattern=_PLAIN, description="what it is called here")
    urls: list[str] = Field(default=[], description="where it is to be had, the provider first, then mirrors")
    size: int | None = Field(None, ge=0, description="bytes")
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    sha1: str | None = Field(None, pattern=r"^[0-9a-f]{40}$")
    md5: str | None = Field(None, pattern=r"^[0-9a-f]{32}$")
    split: str | None = None
    optional: bool = False

    @field_validator("name")
    @classmethod
    def _no_name_of_ours(cls, name: str) -> str:
        if name.endswith((".part", ".note.json")):
            raise ValueError(f"{name}: .part and .note.json mark unfinished files")
        return name

    @field_validator("urls")
    @classmethod
    def _known_schemes(cls, urls: list[str]) -> list[str]:
        for url in urls:
            check_url(url)
        return urls

    @property
    def checksums(self) -> dict[str, str]:
        """The checksums that are known, by algorithm; the strongest first."""
        known = {"sha256": self.sha256, "sha1": self.sha1, "md5": self.md5}
        return {algorithm: digest for algorithm, digest in known.items() if digest}


class Card(BaseModel):
    """What is known of a data set: where it comes from, whose it is, what is in it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(pattern=_PLAIN)
    title: str
    about: str = ""
    licence: str = "not stated"
    citation: str = ""
    homepage: str = ""
    layout: Literal["class folders", "pairs", "multi label", "points", "texts", "clips", "images"] = "class folders"
    format: str | None = None
    classes: list[str] | None = None
    files: list[SourceFile] = []
    options: dict[str, Any] = {}
    val: float | None = Field(None, ge=0, lt=1)
    footprint: str | None = Field(None, pattern=r"^sha256:[0-9a-f]{64}$")
    bundled: str | None = None
    notes: str = ""
    expectations: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _has_a_source(self) -> Card:
        if self.bundled is None and (self.format is None or not self.files):
            raise ValueError("says neither `bundled:` nor `format:` and `files:`, so there is nothing to make it from")
        names = [file.name.casefold() for file in self.files]
        if len(set(names)) < len(names):
            raise ValueError("two of its `files:` have the same name")
        return self

    @field_validator("options", "expectations")
    @classmethod
    def _plain_values(cls, values: dict[str, Any] | None) -> dict[str, Any] | None:
        try:
            json.dumps(values, default=str)
        except (TypeError, ValueError, RecursionError):
            raise ValueError("holds itself, or keys that are no text") from None
        return values

    @property
    def n_bytes(self) -> int | None:
        """Bytes to download, None when the size of a file is not known."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)


def check_url(url: str) -> None:
    """Raise ValueError for an address that is not fetched: another scheme, no host, or a password in it."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError(f"{url}: must begin with {', '.join(f'{scheme}://' for scheme in SCHEMES)}")
    if not parts.hostname or re.search(r"[\s\x00-\x1f]", url):
        raise ValueError(f"{url}: is no address")
    if parts.password is not None or (parts.username is not None and parts.scheme != "ftp"):
        raise ValueError(
            f"{parts.hostname}: a user name or password in the address would be written into records; leave it out"
        )


def cards_folder() -> Path:
    """Where the cards are: inside an installed `diva`, beside it in a checkout."""
    return diva.resources("datasets")


def names() -> list[str]:
    """Names of the data sets that have a card."""
    return sorted(path.stem for path in cards_folder().glob("*.yaml"))


def is_card_file(wanted: str) -> bool:
    """Whether a user means a card of their own: the path of a YAML file."""
    return wanted.endswith(SUFFIXES) and wanted not in names()


def card(wanted: str | Path) -> Card:
    """The card of a data set of the catalogue, or of a YAML file; DataError names the nearest name, or file, key and what is allowed."""
    if isinstance(wanted, Path) or is_card_file(wanted):
        return _read(Path(wanted).expanduser())
    if wanted not in names():
        raise DataError(f"no data set is called {wanted!r}; {nearest(wanted.casefold(), names())}")
    return _read(cards_folder() / f"{wanted}.yaml")


def _read(path: Path) -> Card:
    if not os.path.exists(path):  # noqa: PTH110 - false, not an error, for a name that is too long
        raise DataError(f"{path}: no such card; the catalogue has {', '.join(names())}")
    said = read_yaml(path)
    if not isinstance(said, dict):
        raise DataError(f"{path}: must be a mapping, as in `name: cells`; known keys: {', '.join(Card.model_fields)}")
    try:
        return Card.model_validate({"name": path.stem, "title": said.get("name", path.stem), **said})
    except ValidationError as error:
        raise DataError(f"{path}: {_told(error)}") from None


def _told(error: ValidationError) -> str:
    """The first mistake of a card: the key as one would look for it, what is wrong, what is allowed."""
    first = error.errors()[0]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    keys = SourceFile.model_fields if place.startswith("files[") else Card.model_fields
    kind = first["type"]
    if kind == "extra_forbidden":
        return f"{place}: unknown key; {nearest(str(first['loc'][-1]), map(str, keys))}"
    if kind == "missing":
        return f"{place}: is missing; known keys: {', '.join(keys)}"
    if kind == "string_pattern_mismatch":
        return f"{place}: {first['input']!r} must match {first['ctx']['pattern']}"
    if kind == "string_type":
        return f"{place}: {first['input']!r} must be text; put it in quotes"
    said = first["msg"].removeprefix("Value error, ")
    return f"{place}: {said}" if place else said


def locate(wanted: str, data_root: Path) -> tuple[str, Path]:
    """Name and folder of a data set: a catalogue name lives under `data_root`; else `wanted` is a path.

    A bundled data set is made at first use. Raises DataError when there is neither name nor folder, when a folder is no
    folder, and for a data set that must be downloaded first.
    """
    if wanted in names():
        return wanted, materialise(wanted, data_root)
    folder = Path(wanted).expanduser()
    if folder.is_file() and is_card_file(wanted):
        raise DataError(f"--data {wanted}: is a card; run: diva download {wanted}, and give the folder that it prints")
    if not folder.is_dir():
        known = f"the catalogue has {', '.join(names())}"
        what = "is a file, not a folder" if folder.exists() else "no such folder, and no data set of that name"
        raise DataError(f"--data {wanted}: {what}; {known}")
    return folder.resolve().name, folder


def whereabouts(name: str, data_root: Path) -> Literal["here", "bundled", "to download"]:
    """Whether a catalogue data set is under the data root; if not, whether it needs a download."""
    if (data_root / name).is_dir():
        return "here"
    return "bundled" if card(name).bundled else "to download"


def materialise(name: str, data_root: Path) -> Path:
    """The folder of a catalogue data set under `data_root`; a bundled one is made now when it is not there, whole or not at all.

    Raises DataError for one that must be downloaded.
    """
    folder = data_root / name
    if folder.is_dir():
        return folder
    found = card(name)
    if found.bundled is None:
        place = "" if data_root == Path("data") else f" --data-root {data_root}"
        raise DataError(f"{name} is not here ({folder}): run diva download {name}{place}")
    prepare_root(data_root)
    with locked(folder, wait=True):
        if not folder.is_dir():  # another process may have been first
            write_bundled(found, folder)
    return folder


def write_bundled(found: Card, folder: Path, option: str = "--data-root") -> None:
    """Write a data set that needs no network; DataError when other bytes come out than its card says. To be used under the lock."""
    from diva.data.bundled import WRITERS
    from diva.records.footprint import take

    if found.bundled not in WRITERS:
        raise DataError(
            f"{found.name}: no data set called {found.bundled!r} comes with the installation; {nearest(str(found.bundled), WRITERS)}"
        )
    try:
        with made(folder) as partial:
            WRITERS[found.bundled](partial)
            digest = take(partial).digest
            if found.footprint is not None and digest != found.footprint:
                raise DataError(
                    f"{found.name}: written here with footprint {digest}, expected {found.footprint}; "
                    "another version of a library (scikit-learn, Pillow) made other bytes. Please report it"
                )
    except OSError as error:
        raise cannot_write(folder, error, option) from None
