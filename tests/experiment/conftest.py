"""A small data set and a way to run the command line as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
from PIL import Image

Diva = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def shades() -> Callable[[Path], Path]:
    """Writes 3 x 2 x 6 noisy grey images, 8 x 8 pixels, as class folders into a folder of the caller's."""

    def write(folder: Path) -> Path:
        generator = numpy.random.Generator(numpy.random.Philox(0))
        for split in ("train", "val", "test"):
            for name, level in (("bright", 150), ("dark", 110)):
                (folder / split / name).mkdir(parents=True)
                for i in range(6):
                    pixels = generator.integers(level - 60, level + 60, (8, 8), dtype=numpy.uint8)
                    Image.fromarray(pixels).save(folder / split / name / f"{i}.png", compress_level=0)
        return folder

    return write


@pytest.fixture
def data(tmp_path: Path, shades: Callable[[Path], Path]) -> Path:
    return shades(tmp_path / "shades")


@pytest.fixture
def whole_diva(tmp_path: Path) -> Diva:
    """`whole_diva(*arguments, cwd=...)` runs the program in a process of its own, without a terminal, from `tmp_path`."""

    def run(
        *arguments: object, cwd: Path = tmp_path, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "diva", *map(str, arguments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
        return subprocess.run(
            command, cwd=cwd, env=environment, text=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=120
        )

    return run


@pytest.fixture
def diva(whole_diva: Diva) -> Diva:
    """`whole_diva`; a module may put one in its place that is forked from a Python that has the libraries."""
    return whole_diva
