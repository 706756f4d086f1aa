"""What went in: only what differs is shown, and whether it can change bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diva.experiment.compare import inputs
from diva.experiment.compare.inputs import ABSENT
from diva.experiment.compare.subjects import Run
from diva.records.footprint import Differences

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diva.experiment.compare.inputs import Row

    from .conftest import MakeRun


def told(rows: Sequence[Row]) -> dict[str, tuple[object, ...]]:
    return {row.name: row.values for row in rows}


def bits(rows: Sequence[Row]) -> dict[str, bool]:
    return {row.name: row.can_change_bits for row in rows}


def pair(make_run: MakeRun, **two: object) -> list[Run]:
    return [Run(make_run("one")), Run(make_run("two", **two))]


def test_equal_runs_differ_in_nothing(make_run: MakeRun) -> None:
    runs = pair(make_run)
    for table in (inputs.knobs, inputs.options, inputs.code, inputs.surroundings, inputs.data):
        assert table(runs) == []
    assert inputs.explanations(runs) == []


def test_knobs_that_differ_or_are_absent_are_shown(make_run: MakeRun) -> None:
    runs = pair(make_run, knobs={"lr": 0.2, "width": 8})
    assert told(inputs.knobs(runs)) == {"lr": (0.1, 0.2), "width": (ABSENT, 8)}
    assert "monitor" in told(inputs.knobs(runs, shown=True))


def test_options_say_whether_they_can_change_bits(make_run: MakeRun) -> None:
    runs = pair(make_run, seed=2, options={"threads": 4, "output": "elsewhere", "tf32": True})
    assert bits(inputs.options(runs)) == {"seed": True, "tf32": True, "threads": False, "output": False}


def test_threads_can_change_bits_unless_all_runs_are_exact(make_run: MakeRun) -> None:
    runs = pair(make_run, options={"threads": 4, "backend": "torch"})
    assert bits(inputs.options(runs)) == {"threads": True, "backend": True}


def test_the_environment_is_weighed_by_who_computed(make_run: MakeRun) -> None:
    other = {"packages": {"torch": "2.10", "click": "9"}, "cpu": {"model": "another"}}
    assert bits(inputs.surroundings(pair(make_run, environment=other))) == {
        "packages.torch": True, "packages.click": False, "cpu.model": False,
    }  # fmt: skip


def test_of_three_runs_every_value_stands_in_its_column(make_run: MakeRun) -> None:
    runs = [*pair(make_run), Run(make_run("three", environment={"cpu": {"model": "another"}}, knobs={"lr": 3.0}))]
    assert told(inputs.surroundings(runs)) == {"cpu.model": ("a cpu", "a cpu", "another")}
    assert told(inputs.knobs(runs)) == {"lr": (0.1, 0.1, 3.0)}


def test_files_of_the_data_are_named(make_run: MakeRun) -> None:
    runs = [Run(make_run("one", data={"a": "1", "b": "2"})), Run(make_run("two", data={"a": "9", "c": "3"}))]
    assert inputs.data_files(*runs) == Differences(("c",), ("b",), ("a",))
    assert {"footprint": True, "files": True, "bytes": True}.items() >= bits(inputs.data(runs)).items()
    runs[1].folder.footprint_file.unlink()
    assert "footprint.json" in str(inputs.data_files(*runs))


def test_the_tasks_own_files_come_first_and_explain(make_run: MakeRun) -> None:
    runs = pair(make_run, files={"toy/task.py": "x = 2\n", "another.txt": "y\n"})
    (found,) = inputs.code_changes(*runs)
    assert [(change.path, change.added, change.removed) for change in found.changes] == [("task.py", 1, 1)]
    assert inputs.explanations(runs) == ["code task.py"]


def test_everything_that_can_change_bits_explains_and_nothing_else(make_run: MakeRun) -> None:
    runs = pair(
        make_run, seed=2, knobs={"lr": 0.2}, options={"output": "elsewhere"}, data={"a.png": "b"},
        environment={"packages": {"torch": "2.10"}},
    )  # fmt: skip
    assert inputs.explanations(runs) == ["knob lr", "seed", "data footprint", "packages.torch"]


def test_an_option_that_an_older_diva_had_not_is_as_if_not_given(make_run: MakeRun) -> None:
    assert inputs.options(pair(make_run, options={"freeze": [], "tf32": False, "load": None})) == []


def test_many_files_of_code_are_one_explanation(make_run: MakeRun) -> None:
    runs = pair(make_run, files={f"toy/{name}.py": "x\n" for name in "abc"})
    assert inputs.explanations(runs) == ["code a.py and 2 files more"]
