"""The console: what a user sees while diva works, on a terminal, in a pipe and in the run's log."""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from typing import TYPE_CHECKING, Any, Final, TextIO, final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

WIDTH: Final = 80
LABEL_WIDTH: Final = 24
NARROWEST_COLUMN: Final = 6
REDRAW_EVERY_S: Final = 0.1
BAR_FORMAT: Final = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
BYTES_FORMAT: Final = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]"
BYTES_COUNT_FORMAT: Final = "{desc} {n_fmt} [{elapsed}, {rate_fmt}]"
COUNT_FORMAT: Final = "{desc} {n_fmt} [{elapsed}{postfix}]"
ANSI: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


@final
class Console:
    """Results on `stdout`, all else on `stderr`, and everything, without colours and bars, in `log`.

    quiet: leave out what is only information (`say` and bars); the log still has it. Colours and bars appear only where
    `stderr` is a terminal; `NO_COLOR` or TERM=dumb turn colours off.
    """

    def __init__(self, stdout: TextIO, stderr: TextIO, quiet: bool = False, log: TextIO | None = None) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self._quiet = quiet
        self.log = log
        self._bars: list[Any] = []
        self._coloured = stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def say(self, line: str) -> None:
        """Tell how the work goes."""
        self._write(None if self._quiet else self._stderr, line, line)

    def warn(self, line: str) -> None:
        """Tell what the user should know even when quiet."""
        prefix = "\x1b[33mwarning:\x1b[0m" if self._coloured else "warning:"
        self._write(self._stderr, f"{prefix} {line}", f"warning: {line}")

    def result(self, line: str) -> None:
        """Write what scripts rely on, and nothing else, to stdout."""
        self._write(self._stdout, line, line)

    def progress(self, total: int | None, label: str, unit: str = "") -> Progress:
        """A bar of `total` units (None: unknown) on a terminal, otherwise nothing; a context manager with `update`.

        With a unit, "B" for bytes, the bar shows kilo, mega and giga of it and the rate.
        """
        if self._quiet or not self._stderr.isatty():
            return Progress(None, self._bars)
        return Progress(_bar(self._stderr, total, label, unit), self._bars)

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
        """A table for `result`: as wide as the terminal; not shortened where stdout is a file or a pipe."""
        width = shutil.get_terminal_size((WIDTH, 24)).columns if self._stdout.isatty() else None
        return table(headers, rows, width)

    def _write(self, stream: TextIO | None, shown: str, logged: str) -> None:
        if stream is not None:
            for bar in self._bars:
                bar.clear()
            _print(stream, shown)
            for bar in self._bars:
                bar.refresh()
        if self.log is not None:
            _print(self.log, ANSI.sub("", logged))


@final
class Progress:
    """A bar, or nothing where there is no terminal; made by `Console.progress`."""

    def __init__(self, bar: Any, shown: list[Any]) -> None:
        self._bar = bar
        self._shown = shown
        if bar is not None:
            shown.append(bar)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def update(self, n: int = 1, **values: Any) -> None:
        """Take `n` more units as done and show the values; they are formatted only when the bar is drawn anew."""
        bar = self._bar
        if bar is not None and bar.update(n) and values:
            bar.set_postfix_str(" ".join(f"{name}={_short(value)}" for name, value in values.items()))

    def close(self) -> None:
        """Take the bar off the screen; closing twice does nothing."""
        if self._bar is not None:
            self._shown.remove(self._bar)
            self._bar.close()
            self._bar = None


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], width: int | None = None) -> str:
    """An aligned plain-text table, no wider than `width` columns where that is possible (None: as wide as it is).

    The widest columns give way first and wrap, nothing is left out. A column of numbers is aligned on the right.
    """
    cells = [[_lines(cell) for cell in row] for row in (headers, *rows)]
    n_columns = len(headers)
    if any(len(row) != n_columns for row in cells):
        raise ValueError(f"table: every row has as many cells as there are headers ({n_columns})")
    natural = [max(_columns(line) for row in cells for line in row[index]) for index in range(n_columns)]
    widths = natural if width is None else _narrowed(natural, width - 2 * (n_columns - 1))
    right = [bool(rows) and all(_is_number(row[index]) for row in rows) for index in range(n_columns)]
    rule = [["-" * width] for width in widths]
    wrapped = [[wrap(cell, width) for cell, width in zip(row, widths, strict=True)] for row in cells]
    return "\n".join(line for row in (wrapped[0], rule, *wrapped[1:]) for line in _aligned(row, widths, right))


def _bar(stream: TextIO, total: int | None, label: str, unit: str = "") -> Any:
    from tqdm import tqdm

    counted, uncounted = (BYTES_FORMAT, BYTES_COUNT_FORMAT) if unit else (BAR_FORMAT, COUNT_FORMAT)

    class Bar(tqdm):  # type: ignore[type-arg]
        monitor_interval = 0  # no watching thread: miniters=1 looks at the clock at each update instead

    return Bar(
        total=total,
        desc=label if len(label) <= LABEL_WIDTH else label[: LABEL_WIDTH - 1] + "…",
        file=stream,
        ncols=min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns) - 1,
        bar_format=uncounted if total is None else counted,
        unit=unit or "it",
        unit_scale=bool(unit),
        mininterval=REDRAW_EVERY_S,
        miniters=1,
        leave=False,
    )


def _print(stream: TextIO, line: str) -> None:
    """One line, flushed; what the stream's encoding lacks is written as an escape."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()


def _short(value: Any) -> str:
    return str(value) if isinstance(value, (int, str)) else f"{float(value):.4g}"


def _lines(cell: object) -> list[str]:
    """The lines of a cell, without control characters."""
    return ["".join(char if char.isprintable() else " " for char in line) for line in str(cell).splitlines()] or [""]


def _columns(text: str) -> int:
    """How many columns a terminal needs: wide East Asian characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def _narrowed(widths: Sequence[int], room: int) -> list[int]:
    """The widths, the widest cut to the common limit with which all of them together fit into `room`."""
    limit = max(widths, default=0)
    while limit > NARROWEST_COLUMN and sum(min(width, limit) for width in widths) > room:
        limit -= 1
    narrowed = [min(width, limit) for width in widths]
    spare = max(0, room - sum(narrowed))
    for index, width in enumerate(widths):  # what the common limit leaves over, one column each
        if spare and width > narrowed[index]:
            narrowed[index] += 1
            spare -= 1
    return narrowed


def wrap(lines: Sequence[str], width: int) -> list[str]:
    """The lines, broken at blanks, after slashes and, where there is neither, anywhere."""
    wrapped = []
    for line in lines:
        current = ""
        for piece in re.findall(r"[^\s/]*/|[^\s/]+|\s+", line):
            if current and _columns(current + piece.rstrip()) > width:
                wrapped.append(current.rstrip())
                current = ""
                piece = piece.lstrip()
            current += piece
            while _columns(current) > width:
                n_fitting = next(n for n in range(len(current), 0, -1) if n == 1 or _columns(current[:n]) <= width)
                wrapped.append(current[:n_fitting].rstrip())
                current = current[n_fitting:].lstrip()
        wrapped.append(current.rstrip())
    return wrapped


def _is_number(cell: object) -> bool:
    if isinstance(cell, (int, float)):
        return not isinstance(cell, bool)
    return re.fullmatch(r"|-|nan|[-+]?inf|[-+]?[\d,]*\.?\d+(e[-+]?\d+)?( ?%)?", str(cell).strip().lower()) is not None


def _aligned(row: Sequence[Sequence[str]], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    """The lines of one row of wrapped cells."""
    lines = []
    for index in range(max((len(cell) for cell in row), default=0)):
        parts = []
        for cell, width, to_the_right in zip(row, widths, right, strict=True):
            text = cell[index] if index < len(cell) else ""
            blanks = " " * (width - _columns(text))
            parts.append(blanks + text if to_the_right else text + blanks)
        lines.append("  ".join(parts).rstrip())
    return lines
