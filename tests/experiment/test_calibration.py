"""What a task chooses on validation: once, of the best model, before it is tested; never with a look at the test data."""

from __future__ import annotations

from pathlib import Path

import torch

import diva
from diva.experiment.apply import calibration

TASK = Path(__file__).parent / "calibrated_task.py"


def test_constants_are_chosen_on_validation_and_used_for_test(tmp_path: Path) -> None:
    run = diva.run(TASK, {"seed": 1, "output": tmp_path})
    result = run.result()
    assert result is not None
    assert result["calibration"] == {"level": 1.0}  # the mean of val; train's is 0, test's is 2
    assert {name: result["metrics"][name] for name in ("val/level", "val/above", "test/level", "test/above")} == {
        "val/level": 1.0, "val/above": 0.5, "test/level": 1.0, "test/above": 1.0,
    }  # fmt: skip


def test_constants_have_the_types_with_which_they_come_back(tmp_path: Path) -> None:
    chosen = '{"level": outputs["x"].mean(), "few": torch.tensor([1, 2], dtype=torch.int8), "yes": torch.tensor(True)}'
    task = TASK.read_text(encoding="utf-8").replace('{"level": outputs["x"].double().mean()}', chosen)
    said = 'if level is not None:\n            assert level.dtype == torch.float64 and data.constants["few"].dtype == torch.int64'
    task = task.replace("        return {} if level", f"        {said}\n        return {{}} if level")
    (tmp_path / "task.py").write_text(task, encoding="utf-8")
    run = diva.run(tmp_path / "task.py", {"seed": 1, "output": tmp_path})
    kinds = {name: value.dtype for name, value in calibration(run).items()}
    assert kinds == {"level": torch.float64, "few": torch.int64, "yes": torch.bool}


def test_nothing_is_chosen_while_the_model_learns(tmp_path: Path) -> None:
    run = diva.run(TASK, {"seed": 1, "output": tmp_path})
    assert {row["name"] for row in run.rows() if row["name"].endswith("level")} == {"test/level"}


def test_a_task_that_chooses_nothing_records_nothing(tmp_path: Path) -> None:
    plain = tmp_path / "task.py"
    plain.write_text(TASK.read_text(encoding="utf-8").replace("def calibrate", "def unused"), encoding="utf-8")
    result = diva.run(plain, {"seed": 1, "output": tmp_path}).result()
    assert result is not None and "calibration" not in result
