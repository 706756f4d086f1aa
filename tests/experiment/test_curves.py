"""Reading `metrics.jsonl`: the numbers that `json` would find, taken up where the reading stopped."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diva.experiment.study import curves
from diva.experiment.study.curves import CurveReader, read_all, read_curves
from diva.records.run_folder import Journal

NAMES = ("val/loss", "batch/a metric of a longer name", 'test/é \\ "quoted" , {}', "val/f1/cat")


def line(name: str, step: int, value: Any) -> str:
    return (
        json.dumps({"per": "step", "epoch": step // 3, "step": step, "name": name, "value": value}, sort_keys=True)
        + "\n"
    )


def as_dict(file: Path) -> dict[str, list[tuple[int, float]]]:
    return {
        name: list(zip(curve.steps.tolist(), curve.values.tolist(), strict=True))
        for name, curve in read_curves(file).items()
    }


def by_json(file: Path) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for text in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(text)
        found.setdefault(row["name"], []).append((row["step"], float(row["value"])))
    return found


def test_every_number_is_the_one_that_json_reads(tmp_path: Path):
    draw = np.random.Generator(np.random.Philox(0))
    values = [float(v) for v in draw.standard_normal(400) * 10.0 ** draw.integers(-300, 300, 400)]
    values += [0.0, -0.0, 5e-324, 1.7976931348623157e308, 1.0, 1e16, 123456789012345678, -3]
    journal = Journal(tmp_path / "metrics.jsonl")
    for step, value in enumerate(values):
        for name in NAMES:
            journal.write({"per": "step", "epoch": 1, "step": step, "name": name, "value": value})
    journal.close()
    found = as_dict(tmp_path / "metrics.jsonl")
    assert found == by_json(tmp_path / "metrics.jsonl")
    assert list(found) == list(NAMES)
    assert len(found["val/loss"]) == 408


def test_rows_as_a_run_writes_them_are_not_read_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(curves, "_one_by_one", lambda rows, places: pytest.fail(f"one by one: {rows[0]!r}"))
    for step, (name, value) in enumerate([("batch/loss", 2.5), ("val/top3_accuracy", 1e-05), ("a", -3)]):
        row = {"per": ("step", "epoch")[step % 2], "epoch": 10**step, "step": 7**step, "name": name, "value": value}
        assert curves.rows_of((json.dumps(row, sort_keys=True) + "\n").encode())[name][1].tolist() == [value]


def test_what_json_has_no_number_for_is_read_from_its_text(tmp_path: Path):
    file = tmp_path / "metrics.jsonl"
    texts = [1.5, "nan", "inf", 2.5, "-inf", "NaN", "Infinity"]
    file.write_text("".join(line(name, step, value) for step, value in enumerate(texts) for name in ("a", "b")))
    for curve in read_curves(file).values():
        assert curve.steps.tolist() == list(range(7))
        assert curve.values[[0, 3]].tolist() == [1.5, 2.5]
        assert np.isnan(curve.values[[1, 5]]).all()
        assert curve.values[[2, 4, 6]].tolist() == [math.inf, -math.inf, math.inf]


def test_a_row_of_another_shape_is_read_as_well(tmp_path: Path):
    file = tmp_path / "metrics.jsonl"
    other = '{"value": 7, "name": "a", "step": 1}\n{ "epoch" : 0, "name": "a", "per":"step", "step": 2, "value": 8 }\n'
    file.write_text(line("a", 0, 6) + other + line("a", 3, 9))
    assert as_dict(file) == {"a": [(0, 6.0), (1, 7.0), (2, 8.0), (3, 9.0)]}


def test_a_line_that_is_no_row_is_refused(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text(line("a", 0, 6) + "broken\n")
    with pytest.raises(ValueError, match="Expecting value"):
        read_curves(tmp_path / "metrics.jsonl")


def test_blocks_end_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(line(NAMES[step % 4], step, step / 7) for step in range(40)))
    whole = by_json(file)
    for size in (1, 7, 100, 333):
        monkeypatch.setattr(curves, "BLOCK_BYTES", size)
        assert as_dict(file) == whole


def test_only_what_is_new_is_read_and_a_piece_of_a_line_waits(tmp_path: Path):
    file = tmp_path / "metrics.jsonl"
    reader = CurveReader(file)
    assert not reader.read()
    file.write_text(line("a", 0, 1.0) + line("a", 1, 2.0)[:20])
    assert reader.read()
    assert reader.curves()["a"].steps.tolist() == [0]
    assert not reader.read()
    with file.open("a") as rest:
        rest.write(line("a", 1, 2.0)[20:])
    assert reader.waiting() == len(line("a", 1, 2.0))
    assert reader.read()
    assert reader.curves()["a"].values.tolist() == [1.0, 2.0]
    assert reader.waiting() == 0


def test_a_run_that_was_resumed_and_went_another_way_is_read_anew(tmp_path: Path):
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(line("a", step, 1.0) for step in range(9)))
    reader = CurveReader(file)
    reader.read()
    file.write_text("".join(line("a", step, 2.0) for step in range(20)))  # longer than it was, with other numbers
    assert reader.read()
    assert reader.curves()["a"].values.tolist() == [2.0] * 20
    file.write_text(line("a", 0, 3.0))
    assert reader.read()
    assert reader.curves()["a"].values.tolist() == [3.0]
    file.unlink()
    assert reader.read()
    assert reader.curves() == {}


def test_of_a_step_that_is_there_twice_the_later_row_counts(tmp_path: Path):
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(line("a", step, value) for value, step in enumerate([5, 3, 4, 3, 5, 9])))
    assert as_dict(file) == {"a": [(3, 3.0), (4, 2.0), (5, 4.0), (9, 5.0)]}


def test_many_files_are_read_in_processes_as_in_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files = [tmp_path / f"{i}.jsonl" for i in range(5)]
    for i, file in enumerate(files):
        file.write_text("".join(line(name, step, i + step / 8) for step in range(20) for name in ("a", "b")))
    monkeypatch.setattr(curves, "WORTH_PROCESSES", 1)
    readers, changed = read_all([CurveReader(file) for file in files])
    assert changed
    assert [reader.file for reader in readers] == files
    for i, reader in enumerate(readers):
        assert reader.curves()["b"].values.tolist() == [i + step / 8 for step in range(20)]
        assert not reader.read()
