"""What applying a run leaves, for outputs of every kind: several classes, plain numbers, features alone, names that need care."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch.utils.data import TensorDataset

from diva.errors import DataError, UsageError
from diva.experiment.applied import Applied, write_applied
from diva.experiment.apply import calibration, read_samples
from diva.learning.task import Data, Unseen
from diva.records.run_folder import RunFolder
from diva.report.console import Console
from diva.seeding import Seeds
from tests.experiment.calibrated_task import Calibrated


def write(place: Path, outputs: dict[str, Any], **given: Any) -> dict[str, Any]:
    """Write what these outputs of three samples leave into `place`; returns apply.json."""
    names, labels = given.get("names", ["a", "b", "c"]), given.get("labels", ())
    tensors = {name: torch.tensor(value) for name, value in outputs.items()}
    unseen = Unseen(TensorDataset(torch.zeros(3)), names, labels)
    classes = given.get("classes", ("cat", "dog"))
    applied = Applied(place, {"data": {"name": "three"}}, unseen, tensors, classes, given.get("nearest"), {})
    return write_applied(applied, (), Seeds(1), Console(io.StringIO(), io.StringIO()))


def rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_several_classes_are_joined_and_all_must_be_right(tmp_path: Path) -> None:
    outputs = {
        "probabilities": [[0.9, 0.8], [0.1, 0.2], [0.75, 0.25]],
        "chosen": [[True, True], [False, False], [True, False]],
    }
    record = write(tmp_path / "out", outputs, labels=[("dog", "cat"), (), ("dog",)])
    assert [row[:3] for row in rows(tmp_path / "out" / "predictions.csv")[1:]] == [
        ["a", "cat|dog", "cat|dog"],
        ["b", "", ""],
        ["c", "dog", "cat"],
    ]
    assert record["metrics"] == {"exact_match": 2 / 3}
    assert write(tmp_path / "strange", outputs, labels=[("owl", "ant"), ("owl",), ()])["metrics"] == {}


def test_several_labels_are_compared_as_sets_whatever_the_columns_order_and_the_names(tmp_path: Path) -> None:
    outputs = {"chosen": [[True, True, False], [False, False, True], [True, False, False]]}
    labels = [("b", "a"), ("a", "b"), ("a",)]  # as a labels.csv with another order of columns has them
    record = write(tmp_path / "out", outputs, labels=labels, classes=("a", "b", "a|b"))
    assert record["metrics"] == {"exact_match": 2 / 3}  # of the second, the class "a|b" is no pair of "a" and "b"
    assert [row[1] for row in rows(tmp_path / "out" / "predictions.csv")[1:]] == ["a|b", "a|b", "a"]


def test_of_equal_probabilities_the_first_class_is_predicted(tmp_path: Path) -> None:
    write(tmp_path / "out", {"probabilities": [[0.5, 0.5], [0.25, 0.75], [0.5, 0.5]]})
    assert [row[2] for row in rows(tmp_path / "out" / "predictions.csv")[1:]] == ["cat", "dog", "cat"]


def test_numbers_of_a_sample_are_a_column_and_larger_outputs_are_in_the_arrays(tmp_path: Path) -> None:
    record = write(tmp_path / "out", {"age": [1.5, 2.0, 0.1], "mask": [[[1, 0]], [[0, 1]], [[1, 1]]]}, classes=())
    assert rows(tmp_path / "out" / "predictions.csv") == [
        ["file", "label", "age"],
        ["a", "", "1.5"],
        ["b", "", "2.0"],
        ["c", "", "0.1"],
    ]
    assert numpy.load(tmp_path / "out" / "predictions.npz")["mask"].shape == (3, 1, 2)
    assert list(record["files"]) == ["predictions.csv", "predictions.npz"] and record["metrics"] == {}


@pytest.mark.parametrize("name", ["file", "label", "labels", "names", "classes", "predicted", "p_dog"])
def test_an_output_named_as_an_array_or_column_of_divas_own_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"predict: gives {name}, a name that"):
        write(tmp_path / "out", {name: [5, 6, 7]}, labels=["cat", "dog", "cat"])
    assert not (tmp_path / "out").exists()


def test_a_task_that_gives_features_alone_leaves_their_tables(tmp_path: Path) -> None:
    features = [[0.1, 1.0], [0.2, 2.0], [0.3, 3.0]]
    record = write(tmp_path / "out", {"features": features})
    assert list(record["files"]) == ["features.csv", "features.npz"]
    record = write(tmp_path / "masks", {"features": features, "mask": [[[1]], [[0]], [[1]]]})
    assert sorted(record["files"]) == ["features.csv", "features.npz", "predictions.npz"]
    assert rows(tmp_path / "out" / "features.csv")[2] == ["b", "", "0.2", "2.0"]


def test_names_with_commas_and_line_feeds_stay_one_row(tmp_path: Path) -> None:
    names, outputs = ["a,b", "c\nd", "\udcff"], {"probabilities": [[1.0, 0.0]] * 3}
    write(tmp_path / "out", outputs, names=names, classes=("cat, small", "dog"))
    found = rows(tmp_path / "out" / "predictions.csv")
    assert [row[0] for row in found] == ["file", "a,b", "c\\nd", "\\udcff"]
    assert found[0][3] == "p_cat, small"
    assert numpy.load(tmp_path / "out" / "predictions.npz")["names"].tolist() == ["a,b", "c\\nd", "\\udcff"]


class Table(Calibrated):
    """Reads all rows at once."""

    def read_unseen(self, folder: Path, data: Data) -> Unseen:
        """Finds one that is broken."""
        raise DataError("points.csv: row 3 has a cell that is no finite number: nan")


def test_what_is_read_at_once_is_refused_whole_and_says_so(tmp_path: Path) -> None:
    data: Any = None
    with pytest.raises(DataError, match=r"row 3 .*: nan$"):
        read_samples(Table(), tmp_path, data, skip_broken=False)
    with pytest.raises(DataError, match=r"row 3 .*: nan\. --skip-broken leaves out samples that are read one by one"):
        read_samples(Table(), tmp_path, data, skip_broken=True)


def test_what_a_run_chose_on_val_comes_back_with_its_values(tmp_path: Path) -> None:
    chosen = {"thresholds": [0.1, "NaN", 0.5], "places": [[1, 2]]}
    (tmp_path / "result.json").write_text(json.dumps({"calibration": chosen}))
    found = calibration(RunFolder(tmp_path))
    assert (
        found["thresholds"].dtype == torch.float64 and found["thresholds"][0] == 0.1 and found["thresholds"][1].isnan()
    )
    assert found["places"].tolist() == [[1, 2]]
