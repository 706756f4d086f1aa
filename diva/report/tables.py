"""Rows under headers as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table of Markdown; what a cell holds is shown as it is, whatever signs are in it."""
    lines = [[markdown_text(str(cell)) for cell in row] for row in (headers, *rows)]
    lines.insert(1, ["---"] * len(headers))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown_text(text: str) -> str:
    """The text with everything escaped that Markdown or HTML would take for a sign; `a_name` needs no escape."""
    entities = re.sub(r"[&<>|~$]", lambda sign: f"&#{ord(sign[0])};", text)
    escaped = re.sub(r"([\\`*{}\[\]]|(?<!\w)_|_(?!\w)|^#)", r"\\\1", entities)
    return "<br>".join(escaped.splitlines())


def csv_of(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """The table as CSV with lines that end in a line feed; floats in the fewest digits that tell them apart."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows([headers, *rows])
    return file.getvalue()
