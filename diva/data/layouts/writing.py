"""The text of a `dataset.yaml`: one spelling, a function of what it says alone, whatever the version of the library that reads it."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

# What YAML does not take as it is in quotes, or takes for the end of a line; JSON leaves it.
_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")


def as_yaml(said: Mapping[str, Any]) -> str:
    """A line `key: value` for each key, in the order given; values as JSON, but for what YAML reads otherwise or JSON cannot say."""
    return "".join(f"{key}: {_spelled(value)}\n" for key, value in said.items())


def _spelled(value: Any) -> str:
    if isinstance(value, str):
        return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_spelled(key)}: {_spelled(item)}" for key, item in value.items()) + "}"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        return f'!!binary "{base64.b64encode(value).decode()}"'
    if isinstance(value, set | frozenset):
        return _spelled(sorted(value, key=str))
    if isinstance(value, Iterable):
        return "[" + ", ".join(_spelled(item) for item in value) + "]"
    return json.dumps(value)


def _float(value: float) -> str:
    """With a point: YAML takes 1e-05 for text."""
    if not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    digits, e, exponent = repr(value).partition("e")
    return f"{digits}{'' if '.' in digits else '.0'}{e}{exponent}"
