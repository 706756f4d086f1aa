"""`diva verify` names every file that differs, in text and in JSON, and shows how far it is only on a terminal."""

import io
import json
import os
import sys

import pytest

from diva.cli import main
from diva.records import footprint
from diva.report import console


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Nine files with a footprint, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    for i in range(9):
        (tmp_path / "toy" / "a").mkdir(parents=True, exist_ok=True)
        (tmp_path / "toy" / "a" / f"{i}.png").write_text(str(i))
    footprint.check(tmp_path / "toy")
    return tmp_path / "toy"


def change(data):
    """One file removed, one added, six changed."""
    (data / "a/0.png").unlink()
    (data / "a/new\n.png").write_text("new")
    for i in range(1, 7):
        (data / f"a/{i}.png").write_text("other")
    return [f"changed  a/{i}.png" for i in range(1, 7)] + ["removed  a/0.png", "added  a/new\\n.png"]


def verify(capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        main(["verify", *map(str, arguments)])
    told = capsys.readouterr()
    return left.value.code, told.out, told.err


def test_every_file_that_differs_is_a_line_on_stdout_and_the_error_is_one_line(data, capsys):
    expected = change(data)
    code, out, err = verify(capsys, "toy")
    assert (code, out.splitlines()) == (4, expected)
    assert err.count("\n") == 1 and "6 changed" in err and "1 more" in err and "diva verify toy --update" in err


def test_with_json_every_path_is_in_one_object(data, capsys):
    change(data)
    code, out, err = verify(capsys, "toy", "--json")
    told = json.loads(out)
    assert code == 4 and err.count("\n") == 1
    assert told["outcome"] == "different" and told["changed"] == [f"a/{i}.png" for i in range(1, 7)]
    assert (told["removed"], told["added"]) == (["a/0.png"], ["a/new\n.png"])
    code, out, err = verify(capsys, "toy", "--update", "--json")
    told = json.loads(out)
    assert (code, err, told["outcome"], told["changed"], told["n_files"]) == (0, "", "updated", [], 9)
    assert told["digest"] == footprint.take(data).digest


def test_only_a_deep_check_finds_content_behind_a_restored_time(data, capsys):
    facts = (data / "a/5.png").stat()
    (data / "a/5.png").write_text("6")
    os.utime(data / "a/5.png", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert verify(capsys, "toy")[0] == 0
    code, out, _ = verify(capsys, "toy", "--deep")
    assert (code, out) == (4, "changed  a/5.png\n")


def test_against_another_footprint_or_a_run_nothing_is_stored(data, tmp_path, capsys):
    stored = tmp_path / "toy.footprint.json"
    (tmp_path / "run").mkdir()
    for place in (tmp_path / "other.json", tmp_path / "run" / "footprint.json"):
        place.write_bytes(stored.read_bytes())
    stored.unlink()
    for against in ("other.json", "run"):
        code, out, _ = verify(capsys, "toy", "--against", against)
        assert code == 0 and out.startswith("verified: 9 files")
    expected = change(data)
    code, out, err = verify(capsys, "toy", "--against", "run")
    assert (code, out.splitlines()) == (4, expected) and "not what run/footprint.json says" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.json", "run", "toy"]


def test_against_and_update_contradict_each_other(data, capsys):
    assert verify(capsys, "toy", "--against", "toy.footprint.json", "--update")[0] == 2


def test_a_bar_with_bytes_and_rate_is_on_a_terminal_only_and_only_when_there_is_something_to_hash(
    data, capsys, monkeypatch
):
    monkeypatch.setattr(console, "REDRAW_EVERY_S", 0.0)

    def shown(*arguments):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        assert verify(capsys, "toy", *arguments)[0] == 0
        return terminal.getvalue()

    assert shown() == ""
    bar = shown("--deep")
    assert "hashing" in bar and "9.00/9.00" in bar and "B/s" in bar
    monkeypatch.undo()
    monkeypatch.chdir(data.parent)
    assert verify(capsys, "toy", "--deep")[2] == ""


def test_a_file_of_the_users_that_is_no_footprint_is_not_to_be_deleted(data, capsys):
    (data.parent / "split.json").write_text("{}")
    for given, what in (("split.json", "is no footprint"), ("nowhere.json", "is not there")):
        code, _, err = verify(capsys, "toy", "--against", given)
        assert code == 4 and what in err and "name a footprint" in err and "elete" not in err


def test_an_empty_argument_is_not_the_current_folder(data, capsys):
    code, _, err = verify(capsys, "")
    assert code == 2 and "the path is empty" in err
    assert not (data.parent.parent / f"{data.parent.name}.footprint.json").exists()
