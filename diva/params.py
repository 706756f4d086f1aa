"""One declaration per parameter -> command-line option, YAML key, manifest entry and documentation.

A run's options are fields of a frozen dataclass (`option`), a task's knobs are fields of a frozen pydantic model; both become `Param`.
This module imports neither pydantic nor click, so that `diva run --help` stays quick.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from diva.errors import UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic import BaseModel


@dataclasses.dataclass(frozen=True)
class Param:
    """A parameter as every interface shows it: `kind` is what a user types, `choices` what is allowed, `many` a repeatable flag."""

    name: str
    kind: Literal["text", "int", "float", "bool", "path"]
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    many: bool = False
    listed: bool = False
    literals: tuple[Any, ...] = ()

    @property
    def flag(self) -> str:
        """The command-line flag: `batch_size` is `--batch-size`."""
        return "--" + self.name.replace("_", "-")


def option(default: Any, help: str, *, choices: tuple[str, ...] = ()) -> Any:
    """A field of a frozen dataclass of options."""
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices})


def options_of(cls: type) -> list[Param]:
    """The parameters that a frozen dataclass declares with `option`."""
    hints = typing.get_type_hints(cls)
    return [
        _param(f.name, hints[f.name], f.default, f.metadata["help"], f.metadata["choices"])
        for f in dataclasses.fields(cls)
        if "help" in f.metadata
    ]


def knobs_of(model: type[BaseModel]) -> list[Param]:
    """The parameters that a task declares: its pydantic fields, in order."""
    return [
        _param(name, field.annotation, field.get_default(call_default_factory=False), field.description or "", ())
        for name, field in model.model_fields.items()
    ]


def _param(name: str, annotation: Any, default: Any, help: str, choices: tuple[str, ...]) -> Param:
    literals = tuple(c for a in _alternatives(annotation) for c in _literals(a))
    kinds: dict[Any, Literal["int", "float", "bool", "path"]] = {int: "int", float: "float", bool: "bool", Path: "path"}
    plain = [a for a in _alternatives(annotation) if a is not type(None)]
    listed = bool(plain) and typing.get_origin(plain[0]) in (tuple, list)
    inner = typing.get_args(plain[0])[0] if listed else (plain[0] if plain else str)
    allowed = choices or tuple(str(literal) for literal in literals)
    known = None if default is dataclasses.MISSING or type(default).__name__ == "PydanticUndefinedType" else default
    return Param(name, kinds.get(inner, "text"), known, help, allowed, listed and not choices, listed, literals)


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if is_union else (annotation,)


def _literals(annotation: Any) -> tuple[Any, ...]:
    return typing.get_args(annotation) if typing.get_origin(annotation) is Literal else ()


@dataclasses.dataclass(frozen=True)
class Layers:
    """Values by name and where each came from: "default", the name of a configuration file, or "command line"."""

    values: dict[str, Any]
    origins: dict[str, str]

    def over(self, values: Mapping[str, Any], origin: str) -> Layers:
        """These values with `values` laid over them."""
        return Layers({**self.values, **values}, {**self.origins, **dict.fromkeys(values, origin)})


def check_names(names: Iterable[str], allowed: Iterable[str], where: str) -> None:
    """Refuse a name that nothing declares, naming the nearest one that something does."""
    known = list(allowed)
    for name in names:
        if name not in known:
            raise UsageError(f"{where}: no parameter is called {name!r}; {nearest(name, known)}")


def convert(param: Param, value: Any, where: str) -> Any:
    """A value of an option as its type, from what a flag or YAML gave; UsageError says what is allowed."""
    if param.listed:
        single = dataclasses.replace(param, listed=False)
        return tuple(convert(single, part, where) for part in _parts(value))
    if value is None or (isinstance(value, str) and value.lower() == "none"):
        if param.default is not None:
            raise UsageError(f"{where}: {param.name} has no value; allowed: {', '.join(param.choices) or param.kind}")
        return None
    try:
        converted = _CONVERT[param.kind](value)
    except (TypeError, ValueError):
        raise UsageError(f"{where}: {param.name} is {value!r}; allowed: {param.kind}") from None
    if param.choices and str(converted) not in param.choices:
        raise UsageError(f"{where}: {param.name} is {value!r}; {nearest(str(value), param.choices)}")
    return converted


def _to_int(value: Any) -> int:
    if isinstance(value, (bool, float)):
        raise ValueError(value)
    return int(value)


def _to_float(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError(value)
    return float(value)


def _to_bool(value: Any) -> bool:
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    if isinstance(value, bool):
        return value
    if str(value).lower() not in words:
        raise ValueError(value)
    return words[str(value).lower()]


def _to_text(value: Any) -> str:
    if isinstance(value, (list, dict)):
        raise TypeError(value)
    return str(value)


_CONVERT: dict[str, Any] = {
    "int": _to_int,
    "float": _to_float,
    "bool": _to_bool,
    "text": _to_text,
    "path": lambda v: Path(_to_text(v)),
}


def build(model: type[BaseModel], layers: Layers) -> BaseModel:
    """A task from the values of its knobs; UsageError names the knob, where its value came from and what is allowed."""
    from pydantic import ValidationError

    params = {p.name: p for p in knobs_of(model)}
    check_names(layers.values, params, "knobs")
    for name, value in layers.values.items():
        given = value if isinstance(value, (list, tuple)) else [value]
        if params[name].kind != "bool" and any(isinstance(item, bool) for item in given):
            allowed = params[name].kind
            raise UsageError(f"{name} is {value!r} ({layers.origins[name]}); allowed: {allowed}, not a truth value")
    try:
        return model(**{name: _plain(params[name], value) for name, value in layers.values.items()})
    except ValidationError as error:
        raise UsageError(_in_words(error.errors(include_url=False)[0], layers)) from None


def _in_words(error: Any, layers: Layers) -> str:
    """One line from pydantic's first error: which knob, what it was given and where, what it should be."""
    name = str(error["loc"][0]) if error["loc"] else ""
    words = error["msg"].removeprefix("Value error, ").replace("Input should be", "it should be")
    if error["type"] == "missing":
        return f"{name} must be given: it has no default"
    origin = f" ({layers.origins[name]})" if name in layers.origins else ""
    return f"{name} is {error['input']!r}{origin}: {words}" if name else words


def _plain(param: Param, value: Any) -> Any:
    """What a flag or YAML gave, as pydantic takes it: "none" is None, "1,2" a list where a list is declared."""
    if isinstance(value, str) and value.lower() == "none" and "none" not in param.choices:
        return None
    if isinstance(value, str) and value in param.choices:
        return next((literal for literal in param.literals if str(literal) == value), value)
    return _parts(value) if param.listed else value


def _parts(value: Any) -> list[Any]:
    """The elements of a list however it was given: a YAML list, "30,60", or a flag more than once."""
    if value is None or (isinstance(value, str) and value.lower() == "none"):
        return []
    items = value if isinstance(value, (list, tuple)) else [value]
    return [
        p
        for item in items
        for p in ([w.strip() for w in item.split(",") if w.strip()] if isinstance(item, str) else [item])
    ]


def text_of(value: Any) -> str:
    """A value of an option or a knob as it is typed and read back: truth values are yes and no, an empty list and None are none."""
    if isinstance(value, (list, tuple)):
        return ",".join(map(text_of, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)
