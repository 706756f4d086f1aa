"""The report of `diva analyze --to`: a folder of its own, and nothing of the user's is overwritten."""

from pathlib import Path

import numpy
import pytest
from click.testing import CliRunner
from PIL import Image

from diva.cli import cli
from diva.errors import DataError


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "data" / "cat").mkdir(parents=True)
    for seed in range(2):
        pixels = numpy.random.default_rng(seed).integers(0, 256, (20, 20), numpy.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / "cat" / f"{seed}.png")
    return tmp_path / "data"


def write_to(folder: Path, to: Path):
    return CliRunner().invoke(cli, ["analyze", str(folder), "--jobs", "1", "--to", str(to)])


@pytest.mark.parametrize("name", ["samples.png", "notes.txt", "analysis.json"])
def test_nothing_is_written_into_a_folder_that_holds_something_else(folder, tmp_path, name):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text('{"mine": 1}')
    error = write_to(folder, tmp_path / "mine").exception
    assert isinstance(error, DataError) and "holds no report of diva analyze; choose a new folder" in str(error)
    assert [(path.name, path.read_text()) for path in (tmp_path / "mine").iterdir()] == [(name, '{"mine": 1}')]


def test_an_earlier_report_is_written_anew_also_one_that_was_cut_short(folder, tmp_path):
    assert write_to(folder, tmp_path / "out").exit_code == 0
    first = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    (tmp_path / "out" / "samples.png").unlink()
    assert write_to(folder, tmp_path / "out").exit_code == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == first
