"""YAML files that people write: read safely, and whatever is wrong with one is told with its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diva.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path


def read_yaml(path: Path) -> Any:
    """What a YAML file says; DataError with file and reason when it cannot be read or is not YAML.

    Values of a known tag fail in Python's own ways: a date that does not exist, `!!int x`, brackets without end.
    """
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (
        yaml.YAMLError,
        ValueError,
        TypeError,
        ArithmeticError,
        LookupError,
        AttributeError,
        RecursionError,
    ) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(f"{path}: is not YAML ({reason})") from None
