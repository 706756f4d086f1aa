"""What differs between two snapshots: files by their checksums, lines by reading only those."""

from __future__ import annotations

from pathlib import Path

import pytest

from diva.errors import RecordError
from diva.records.source import record
from diva.records.source_diff import compare_snapshots, patch_of


def snapshot(place: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (place / "project" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "project" / name).write_bytes(content)
    record(place / "project", place / "snapshot", "auto")
    return place / "snapshot"


def test_changed_added_and_removed_files_are_named_with_their_lines(tmp_path: Path) -> None:
    one = snapshot(tmp_path / "1", {"a.py": b"x = 1\ny = 2\n", "b/old.py": b"gone\n", "same.py": b"same\n"})
    two = snapshot(tmp_path / "2", {"a.py": b"x = 1\ny = 3\nz = 4", "new.py": b"1\n2\n", "same.py": b"same\n"})
    found = compare_snapshots(one, two)
    assert [change[:4] for change in found] == [
        ("a.py", "changed", 2, 1), ("b/old.py", "removed", 0, 1), ("new.py", "added", 2, 0),
    ]  # fmt: skip
    assert patch_of(found[:1]) == "--- a/a.py\n+++ b/a.py\n@@ -1,2 +1,3 @@\n x = 1\n-y = 2\n+y = 3\n+z = 4\n"


def test_a_file_that_is_no_text_is_named_without_lines(tmp_path: Path) -> None:
    one, two = (
        snapshot(tmp_path / name, {"a.bin": content}) for name, content in (("1", b"\xff\x00"), ("2", b"\xfe\x00"))
    )
    (found,) = compare_snapshots(one, two)
    assert (found.kind, found.added, found.diff) == ("changed", None, "")
    assert patch_of([found]) == "changed: a.bin, no text\n"


def test_equal_snapshots_differ_in_nothing(tmp_path: Path) -> None:
    one, two = (snapshot(tmp_path / name, {"a.py": b"x\n"}) for name in "12")
    assert compare_snapshots(one, two) == []


def test_a_missing_snapshot_is_an_error_that_says_so(tmp_path: Path) -> None:
    one = snapshot(tmp_path / "1", {"a.py": b"x\n"})
    with pytest.raises(RecordError, match="SHA256SUMS: missing"):
        compare_snapshots(one, tmp_path)
