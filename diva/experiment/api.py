"""`diva.run`: the command as a function, for notebooks, scripts and tests."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diva.records.run_folder import RunFolder


def run(task: str | Path, values: Mapping[str, Any] | None = None, configs: Sequence[Path] = ()) -> RunFolder:
    """Run an experiment as `diva run` does and return its folder, whose `result()` holds metrics and digests.

    values: options and knobs by name, {"seed": 42, "epochs": 3}; configs: YAML files under them. Raises DivaError.
    """
    from diva.experiment.request import argument_of, resolve
    from diva.experiment.run import start
    from diva.report.console import Console

    given = {"task": str(task), **(values or {})}
    argv = ["diva", "run", *(f"--config={path}" for path in configs), *(argument_of(n, v) for n, v in given.items())]
    folder, _ = start(resolve(given, configs, tuple(argv)), Console(sys.stdout, sys.stderr, quiet=True))
    return folder
