"""The tensor trace: written once, cut where a run is resumed, read for the first tensor that differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from diva.errors import RecordError
from diva.records.tensor_trace import DIGITS, TensorEntry, TensorJournal, first_tensors_that_differ, read_tensor_trace

A, B, C = ("a" * DIGITS, "b" * DIGITS, "c" * DIGITS)


def write(path: Path, entries: Sequence[tuple[int, int, Mapping[str, str]]], done: int = -1) -> Path:
    journal = TensorJournal(path, done)
    for epoch, step, digests in entries:
        journal.write(epoch, step, digests)
    journal.close()
    return path


ENTRIES = [
    (0, 0, {"z": A, "y": A}),
    (1, 1, {"z": A, "y": B}),
    (1, 2, {"x": C}),
    (2, 3, {"x": A}),
    (2, 4, {"z": A, "y": C}),
]


def test_what_is_written_is_read_in_the_order_of_computation(tmp_path: Path) -> None:
    found = list(read_tensor_trace(write(tmp_path / "t", ENTRIES)))
    assert found == [TensorEntry(*entry) for entry in ENTRIES]
    assert list(found[0].digests) == ["z", "y"]


def test_names_stand_once_as_long_as_they_hold(tmp_path: Path) -> None:
    assert write(tmp_path / "t", ENTRIES).read_text().count("names") == 3


@pytest.mark.parametrize("done", [-1, 0, 1, 2])
@pytest.mark.parametrize("torn", ["", '{"epoch": 3, "st', '{"names": ["x"]}\n', "garbage\n"])
def test_a_resumed_trace_has_the_bytes_of_a_whole_one(tmp_path: Path, done: int, torn: str) -> None:
    whole = write(tmp_path / "whole", ENTRIES).read_bytes()
    other = write(tmp_path / "other", ENTRIES)
    other.write_bytes(other.read_bytes() + torn.encode())
    assert write(other, [entry for entry in ENTRIES if entry[0] > done], done).read_bytes() == whole


def test_a_missing_trace_has_no_entries(tmp_path: Path) -> None:
    assert list(read_tensor_trace(tmp_path / "none")) == []


@pytest.mark.parametrize(
    "line", ["x\n", '{"epoch": 0, "step": 1, "digests": "abc"}\n', "[]\n", '{"epoch": 0, "step": 1}\n', '{"names": []}']
)
def test_a_line_that_is_no_entry_is_named(tmp_path: Path, line: str) -> None:
    path = write(tmp_path / "t", ENTRIES[:1])
    path.write_text(path.read_text() + line)
    with pytest.raises(RecordError, match=r"t:3: not an entry"):
        list(read_tensor_trace(path))


def test_the_first_difference_is_of_the_first_step_that_both_have(tmp_path: Path) -> None:
    one = write(
        tmp_path / "one",
        [(0, 0, {"w": A}), (1, 1, {"g": A, "w": A}), (1, 2, {"g": B, "w": A}), (1, 3, {"g": C, "w": C})],
    )
    two = write(tmp_path / "two", [(0, 0, {"w": A}), (1, 3, {"w": B, "other": A})])  # of epochs, and without gradients
    found = first_tensors_that_differ(one, two)
    assert found is not None and (found[0].step, found[1]) == (3, ("w",))
    assert first_tensors_that_differ(two, one) is not None and first_tensors_that_differ(one, one) is None


def test_all_tensors_that_differ_then_are_named_in_the_order_of_computation(tmp_path: Path) -> None:
    one = write(tmp_path / "one", [(1, 1, {"z": A, "b": A, "a": A})])
    two = write(tmp_path / "two", [(1, 1, {"a": B, "b": A, "z": B})])
    found = first_tensors_that_differ(one, two)
    assert found is not None and found[1] == ("z", "a")
