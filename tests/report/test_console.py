"""Console: what goes where, and that a bar never spoils a line."""

from __future__ import annotations

import io
import re
import subprocess
import sys

import pytest

from diva.report import console
from diva.report.console import Console, table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    for name in ("NO_COLOR", "COLUMNS", "TQDM_DISABLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def _screen(raw: str) -> list[str]:
    """The lines that a terminal shows in the end."""
    lines: list[list[str]] = [[]]
    row, column = 0, 0
    for piece in re.findall(r"\x1b\[[\d;?]*[A-Za-z]|.|\n", raw, re.DOTALL):
        if piece == "\r":
            column = 0
        elif piece == "\n":
            row, column = row + 1, 0
            lines += [[]] if row == len(lines) else []
        elif piece == "\x1b[A":
            row -= 1
        elif piece == "\x1b[K":
            del lines[row][column:]
        elif not piece.startswith("\x1b"):
            lines[row] += " " * (column + 1 - len(lines[row]))
            lines[row][column] = piece
            column += 1
    return ["".join(line).rstrip() for line in lines]


def test_results_go_to_stdout_and_all_else_to_stderr():
    out, err, log = io.StringIO(), io.StringIO(), io.StringIO()
    shown = Console(out, err, log=log)
    shown.say("training")
    shown.warn("2 images skipped")
    shown.result("runs/a")
    assert out.getvalue() == "runs/a\n"
    assert err.getvalue() == "training\nwarning: 2 images skipped\n"
    assert log.getvalue() == "training\nwarning: 2 images skipped\nruns/a\n"


def test_quiet_keeps_results_and_warnings_and_the_log_keeps_all():
    out, err, log = io.StringIO(), Terminal(), io.StringIO()
    shown = Console(out, err, quiet=True, log=log)
    shown.say("training")
    with shown.progress(3, "epoch") as bar:
        bar.update(3)
    shown.warn("careful")
    shown.result("runs/a")
    assert _screen(err.getvalue()) == ["warning: careful", ""] and out.getvalue() == "runs/a\n"
    assert log.getvalue() == "training\nwarning: careful\nruns/a\n"


@pytest.mark.parametrize(
    ("stream", "variables", "coloured"),
    [
        (Terminal, {}, True),
        (Terminal, {"NO_COLOR": "1"}, False),
        (Terminal, {"NO_COLOR": ""}, True),
        (Terminal, {"TERM": "dumb"}, False),
        (io.StringIO, {}, False),
    ],
)
def test_colours_only_on_a_terminal_that_wants_them_and_never_in_the_log(stream, variables, coloured, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    err, log = stream(), io.StringIO()
    shown = Console(io.StringIO(), err, log=log)
    shown.warn("careful")
    shown.say("\x1b[1mbold\x1b[0m")
    assert ("\x1b[33m" in err.getvalue()) == coloured
    assert log.getvalue() == "warning: careful\nbold\n"


@pytest.mark.parametrize(("total", "said"), [(4_000_000, "/4.00M ["), (None, "3.00M [")])
def test_a_bar_of_bytes_shows_their_amount_and_rate(monkeypatch, total, said):
    monkeypatch.setattr(console, "REDRAW_EVERY_S", 0.0)
    err = Terminal()
    with Console(io.StringIO(), err).progress(total, "a file", "B") as bar:
        for _ in range(3):
            bar.update(1_000_000)
    assert said in err.getvalue() and "B/s]" in err.getvalue()


def test_no_bar_without_a_terminal():
    err = io.StringIO()
    with Console(io.StringIO(), err).progress(100, "epoch 1") as bar:
        for _ in range(100):
            bar.update(1, loss=object())
    assert err.getvalue() == ""


def test_lines_survive_a_running_bar_and_the_bar_is_gone_at_the_end(monkeypatch):
    monkeypatch.setattr(console, "REDRAW_EVERY_S", 0.0)
    err = Terminal()
    shown = Console(err, err)
    with shown.progress(20, "epochs") as outer, shown.progress(50, "epoch 1") as inner:
        for step in range(50):
            inner.update(1, loss=1.0 / (step + 1))
            if step % 10 == 0:
                shown.say(f"line {step}")
                shown.result(f"result {step}")
        outer.update(1)
    shown.say("done")
    expected = [line for step in range(0, 50, 10) for line in (f"line {step}", f"result {step}")]
    assert [line for line in _screen(err.getvalue()) if line] == [*expected, "done"]
    assert "loss=0.5" in err.getvalue() and "50/50" in err.getvalue()


def test_values_are_formatted_only_when_the_bar_is_drawn(monkeypatch):
    class Costly:
        n_formatted = 0

        def __float__(self) -> float:
            Costly.n_formatted += 1
            return 1.0

    monkeypatch.setattr(console, "REDRAW_EVERY_S", 1e9)
    with Console(io.StringIO(), Terminal()).progress(1000, "epoch") as bar:
        for _ in range(1000):
            bar.update(1, loss=Costly())
    assert Costly.n_formatted == 0


@pytest.mark.parametrize("total", [10**9, None])
@pytest.mark.parametrize("columns", [40, 80, 200])
def test_bar_fits_the_terminal_and_eighty_columns(total, columns, monkeypatch):
    monkeypatch.setattr(console, "REDRAW_EVERY_S", 0.0)
    monkeypatch.setenv("COLUMNS", str(columns))
    err = Terminal()
    with Console(err, err).progress(total, "a label that is far too long for any bar to carry") as bar:
        for _ in range(3):
            bar.update(12345, train_loss=0.123456789, another_name_of_some_length=12345.678, third="x" * 40)
    frames = [re.sub(r"\x1b\[[A-Za-z]", "", frame) for frame in re.split(r"[\r\n]", err.getvalue())]
    assert max(len(frame) for frame in frames) <= min(columns, 80)


def test_line_that_the_encoding_lacks_is_escaped_rather_than_lost():
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    Console(out, io.StringIO()).result("runs/Müller")
    assert raw.getvalue() == b"runs/M\\xfcller\n"


def test_table_aligns_words_left_and_numbers_right():
    text = table(["run", "test/accuracy", "epochs"], [["a", 0.975, 3], ["longer", "-", 12]])
    assert text.splitlines() == [
        "run     test/accuracy  epochs",
        "------  -------------  ------",
        "a               0.975       3",
        "longer              -      12",
    ]


@pytest.mark.parametrize("width", [40, 60, 80])
def test_table_fits_by_wrapping_the_widest_column_and_loses_nothing(width):
    path = "runs/image_classification/2025-01-01-120000-abcdef/checkpoints/best.safetensors"
    note = "a sentence with blanks that is rather long, and a verylongwordthatnothingcanbreak" + "k" * 80
    text = table(["run", "status", "folder", "note"], [["a1", "finished", path, note]], width)
    assert max(map(len, text.splitlines())) <= width
    columns = text.splitlines()[1].split("  ")
    starts = [sum(len(rule) + 2 for rule in columns[:index]) for index in range(4)]
    cells = [
        "".join(line[start : start + len(rule)].replace(" ", "") for line in text.splitlines()[2:])
        for start, rule in zip(starts, columns, strict=True)
    ]
    assert cells == ["a1", "finished", path, note.replace(" ", "")]


def test_table_knows_wide_characters_and_control_characters():
    lines = table(["name", "n"], [["失敗", "x"], ["a\tb", "y"], ["two\nlines", "z"]]).splitlines()
    assert lines == ["name   n", "-----  -", "失敗   x", "a b    y", "two    z", "lines"]


def test_table_is_as_wide_as_the_terminal_and_whole_in_a_pipe(monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    row = [["a", "word " * 40]]
    assert max(map(len, Console(Terminal(), Terminal()).table(["k", "v"], row).splitlines())) <= 50
    assert len(Console(io.StringIO(), Terminal()).table(["k", "v"], row).splitlines()) == 3


def test_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"as many cells as there are headers \(2\)"):
        table(["a", "b"], [["only one"]])


def test_importing_console_and_card_loads_nothing_heavy():
    program = (
        "import sys, diva.report.console, diva.report.card\n"
        "print([name for name in ('torch', 'matplotlib', 'tensorboard', 'numpy', 'tqdm') if name in sys.modules])"
    )
    environment = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
