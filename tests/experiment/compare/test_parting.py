"""Where two runs part: as exactly as they recorded it, and no exacter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy
import pytest
from safetensors.numpy import save_file

from diva.experiment.compare.parting import Parted, part
from diva.experiment.compare.subjects import Run
from diva.records.trace import Parting

from .conftest import tensors_of

if TYPE_CHECKING:
    from .conftest import MakeRun

NAMES = ("output:conv", "output:linear", "gradient:linear", "gradient:conv", "weight:conv")


@pytest.fixture
def parted(make_run: MakeRun):
    """`parted(one, two)` of what two runs are made with."""

    def compare(one: dict[str, object], two: dict[str, object]) -> Parted:
        return part(Run(make_run("one", **one)), Run(make_run("two", **two)))

    return compare


def test_equal_runs_are_identical(parted) -> None:
    assert parted({}, {}) == Parted(True)


def test_the_epoch_the_step_and_what_differs_first_are_named(parted) -> None:
    found = parted({}, {"changes": {"weights": 4, "losses": 5}})
    assert found.parting == Parting(2, 6, ("losses", "weights"))
    assert not found.identical and found.equal_until == 3


def test_with_a_trace_of_steps_the_step_is_exact(parted) -> None:
    found = parted({"steps": True}, {"steps": True, "changes": {"weights": 4, "losses": 5}})
    assert (found.parting, found.equal_until) == (Parting(2, 4, ("weights",)), 3)


def test_a_trace_of_steps_and_one_of_epochs_are_compared_by_epochs(make_run: MakeRun) -> None:
    steps, same = Run(make_run("steps", steps=True)), Run(make_run("same"))
    other = Run(make_run("other", changes={"weights": 4}))
    assert part(steps, same).identical
    found = part(steps, other)
    assert found.parting == Parting(2, 6, ("weights",)) and any("per step" in note for note in found.notes)


def test_the_first_logged_number_narrows_the_step(parted) -> None:
    losses = [3.0, 2.5, 2.0, 1.5, 1.25, 1.0]
    found = parted({"losses": losses}, {"losses": [*losses[:4], 9.0, 9.0], "changes": {"losses": 5, "weights": 5}})
    assert found.value == (5, "batch/loss", 1.25, 9.0)


def test_numbers_logged_at_other_steps_name_no_step(parted) -> None:
    found = parted({"losses": [3.0, 2.5]}, {"losses": [3.0], "changes": {"weights": 2}})
    assert found.value is None


def test_the_first_tensor_is_the_first_in_the_order_of_computation(make_run: MakeRun) -> None:
    one, two = make_run("one"), make_run("two", changes={"weights": 5})
    one.tensors_file.write_text(tensors_of(NAMES, [(2, 4, {}), (2, 5, {})]))
    changes = {"weight:conv": 1, "gradient:conv": 1, "gradient:linear": 1}
    two.tensors_file.write_text(tensors_of(NAMES, [(2, 4, {}), (2, 5, changes)]))
    found = part(Run(one), Run(two)).tensor
    assert found is not None
    assert (found.epoch, found.step, found.names) == (2, 5, ("gradient:linear", "gradient:conv", "weight:conv"))


def test_without_a_tensor_trace_the_checkpoints_of_that_epoch_name_the_tensor(make_run: MakeRun) -> None:
    runs = [make_run("one"), make_run("two", changes={"weights": 5})]
    weights = {"a": numpy.zeros(3, "f4"), "b": numpy.zeros(2, "f4")}
    for run, change in zip(runs, (0.0, 1.0), strict=True):
        run.checkpoints.mkdir()
        save_file({**weights, "b": weights["b"] + numpy.float32(change)}, run.checkpoints / "epoch-0002.safetensors")
    found = part(*map(Run, runs)).tensor
    assert found is not None and found.names == ("b",) and found.of == "the checkpoints of the epoch"


def test_what_names_no_tensor_says_so_and_what_would(parted) -> None:
    found = parted({}, {"changes": {"weights": 5}})
    assert found.tensor is None
    assert any("tensors.jsonl" in note for note in found.notes) and any("--trace step" in note for note in found.notes)


def test_a_run_that_goes_on_parts_where_the_other_ends(parted) -> None:
    assert parted({"epochs": 2}, {"epochs": 3}).parting == Parting(3, 9, ("length",))


@pytest.mark.parametrize("damage", ["", "not json\n"])
def test_a_damaged_trace_is_said_and_the_outcomes_are_compared(make_run: MakeRun, damage: str) -> None:
    one, two = make_run("one"), make_run("two", metrics={"test/accuracy": 0.75})
    two.trace_file.write_text(damage) if damage else two.trace_file.unlink()
    found = part(Run(one), Run(two))
    assert not found.identical and found.outcomes == ("test/accuracy", "val/accuracy")
    assert any("trace.jsonl" in note for note in found.notes)


def test_an_altered_record_is_not_identical_in_silence(make_run: MakeRun) -> None:
    one, two = make_run("one"), make_run("two")
    two.manifest_file.write_text(two.manifest_file.read_text().replace('"seed": 1', '"seed": 2'))
    assert any("altered" in note for note in part(Run(one), Run(two)).notes)


def test_an_unfinished_run_is_compared_as_far_as_it_came(parted, tmp_path: Path) -> None:
    found = parted({"finished": False}, {})
    assert not found.identical and found.parting is None and any("not both" in note for note in found.notes)
