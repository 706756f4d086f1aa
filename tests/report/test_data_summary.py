"""The summary of an analysis: lines that a terminal takes."""

from pathlib import Path

from PIL import Image

from diva.data.analysis import analyse
from diva.report.data_summary import summarise


def test_names_with_control_characters_are_printed_escaped(tmp_path: Path) -> None:
    for name in ("a\x1b]0;x\x07", "b\nc"):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("L", (4, 4)).save(tmp_path / "data" / name / "1.png")
    lines = "\n".join(summarise(analyse(tmp_path / "data")))
    assert "a\\x1b]0;x\\x07" in lines and "b\\nc" in lines and "\x1b" not in lines
