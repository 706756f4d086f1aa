"""Notes of downloads: which files a data set was made of and what its card said of its content, kept beside the folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from diva.errors import DataError, RecordError
from diva.records.files import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from diva.data.catalogue import Card

SCHEMA = 1


def record_of(folder: Path) -> Path:
    """Where it is noted what a data set was made of: beside it."""
    return folder.with_name(f"{folder.name}.download.json")


def recorded(folder: Path) -> dict[str, dict[str, Any]]:
    """What was noted of the files that this data set was made of, by name; a damaged note is a DataError."""
    try:
        return {str(one["name"]): dict(one) for one in _read(folder).get("files", [])}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _damaged(folder) from None


def record(card: Card, folder: Path, files: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """The note of a data set; of a file that was noted before and is not needed now, what was noted stays."""
    merged = {**recorded(folder), **{one["name"]: one for one in files}}
    return {
        "schema": SCHEMA,
        "name": card.name,
        "card": shaping(card),
        "files": [merged[name] for name in sorted(merged)],
    }


def shaping(card: Card) -> dict[str, Any]:
    """What of a card shapes the content of its data set, as JSON gives it back."""
    said = card.model_dump(include={"format", "layout", "options", "classes", "val"})
    said["files"] = {file.name: {"split": file.split, **file.checksums} for file in card.files}
    return dict(json.loads(json.dumps(said, default=str)))


def unlike(card: Card, folder: Path) -> str:
    """In what the card differs from the one that the folder was made from; "" when in nothing, or when nothing was noted."""
    then, now = _read(folder).get("card"), shaping(card)
    if then is None:
        return ""
    try:
        files = _unlike_files(then.pop("files"), now.pop("files"), recorded(folder))
        options = _unlike_values(then.pop("options"), now.pop("options"))
        return "; ".join([*_unlike_values(then, now), *options, *files])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _damaged(folder) from None


def _unlike_values(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    keys = [key for key in sorted({*then, *now}) if then.get(key) != now.get(key)]
    return [f"{key} {_shown(then.get(key))}, now {_shown(now.get(key))}" for key in keys]


def _unlike_files(then: Mapping[str, Any], now: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A checksum that the card did not give at first is held against the file as it came."""
    told = [f"without the file {name}" for name in sorted(set(now) - set(then))]
    told += [f"with the file {name}" for name in sorted(set(then) - set(now))]
    for name in sorted(set(then) & set(now)):
        known = {"sha256": rows.get(name, {}).get("sha256"), **then[name]}
        told += [
            f"{name} with {key} {_shown(known[key])}, now {_shown(value)}"
            for key, value in now[name].items()
            if known.get(key) not in (None, value) or (key == "split" and known.get(key) != value)
        ]
    return told


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _read(folder: Path) -> dict[str, Any]:
    path = record_of(folder)
    if not path.exists():
        return {}
    try:
        said = read_json(path)
    except RecordError:
        raise _damaged(folder) from None
    if not isinstance(said, dict):
        raise _damaged(folder)
    return said


def _damaged(folder: Path) -> DataError:
    path = record_of(folder)
    return DataError(f"{path}: is damaged; delete it to download without comparing with the first time")
