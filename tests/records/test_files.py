"""Files are written whole or not at all, as standard JSON, and tell no user names."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from diva.errors import RecordError
from diva.records import files


def test_a_failed_write_leaves_the_old_file_and_no_temporary(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    files.write_atomic(path, "old")

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        files.write_atomic(path, b"new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_replaces_and_keeps_the_umask(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    umask = os.umask(0o027)
    try:
        files.write_atomic(path, "Zürich\n")
    finally:
        os.umask(umask)
    assert path.read_bytes() == "Zürich\n".encode()
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_file_name_of_the_longest_length_can_be_written(tmp_path):
    files.write_atomic(tmp_path / ("n" * 255), "x")
    assert [len(path.name) for path in tmp_path.iterdir()] == [255]


def test_json_is_sorted_standard_and_ends_with_a_newline(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(
        path, {"b": [float("nan"), (1.5, float("-inf"))], "a": {"x": float("inf")}, "name\udcff": "\udcff"}
    )
    text = path.read_text(encoding="ascii")

    def refuse(constant):
        raise AssertionError(constant)

    expected = {"a": {"x": "Infinity"}, "b": ["NaN", [1.5, "-Infinity"]], "name\udcff": "\udcff"}
    assert json.loads(text, parse_constant=refuse) == expected == files.read_json(path)
    assert text.index('"a"') < text.index('"b"') and text.endswith("}\n")


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\xfe\x00", b"[" * 100_000])
def test_a_damaged_json_file_is_a_record_error_that_names_it(tmp_path, content):
    path = tmp_path / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=r"manifest\.json"):
        files.read_json(path)


def test_a_missing_json_file_is_a_record_error(tmp_path):
    with pytest.raises(RecordError, match="does not exist"):
        files.read_json(tmp_path / "manifest.json")


@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_hashes_are_those_of_sha256(tmp_path, size):
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    (tmp_path / "f").write_bytes(data)
    assert files.sha256_file(tmp_path / "f") == files.sha256_bytes(data) == hashlib.sha256(data).hexdigest()


def test_checksum_lines_are_what_sha256sum_prints(tmp_path):
    names = [b"plain", b"two words", b"line\nfeed", b"back\\slash", b"\xff\xfe", b"carriage\rreturn"]
    for name in names:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(name)
    printed = subprocess.run(["sha256sum", *names], cwd=tmp_path, capture_output=True, check=True).stdout
    assert printed == b"".join(files.checksum_line(hashlib.sha256(name).hexdigest(), name) for name in names)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("/home/ann", "~"),
        ("/home/ann/data:/home/ann/lib", "~/data:~/lib"),
        ("file:///home/ann/x", "file://~/x"),
        ("-L/home/ann/lib", "-L~/lib"),
        ("/home/anna/x /home/ann-2 /home/ann.old", "/home/anna/x /home/ann-2 /home/ann.old"),
        ("nothing", "nothing"),
    ],
)
def test_the_home_directory_is_hidden_and_nothing_else(monkeypatch, text, hidden):
    monkeypatch.setenv("HOME", "/home/ann")
    assert files.hide_home(text) == hidden


def test_a_home_that_is_the_root_folder_hides_nothing(monkeypatch):
    monkeypatch.setenv("HOME", "/")
    assert files.hide_home("/usr/lib") == "/usr/lib"


def test_some_of_names_five_and_counts_the_rest():
    assert files.some_of(["a", "b\n", "\udcff"]) == "a, b\\n, \\udcff"
    assert files.some_of(list("abcde")) == "a, b, c, d, e"
    assert files.some_of(list("abcdefg")) == "a, b, c, d, e and 2 more"
