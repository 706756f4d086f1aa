"""Tasks on images take the layouts that they can learn from, and name the one they were given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import diva

PLACES = {
    "one": ("a/1.png", "b/2.png"),
    "several": ("images/1.png", "images/2.png"),
    "none": ("1.png", "2.png"),
}
TASK = diva.load_task(diva.resources("templates") / "finetune")


def data_of(folder: Path, kind: str) -> diva.DataFolder:
    for split in ("train", "val", "test"):
        for name in PLACES[kind]:
            (folder / split / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (4, 4), len(name)).save(folder / split / name)
        if kind == "several":
            (folder / split / "labels.csv").write_text("image,x,y\n1.png,1,0\n2.png,1,1\n")
    return diva.DataFolder(folder.name, folder, "sha256:0", folder.parent / "statistics.json")


def load(folder: Path, kind: str, labels: Any) -> diva.Data:
    task: Any = TASK.model_validate({})
    found: diva.Data = task.load_images(data_of(folder, kind), labels=labels)
    return found


@pytest.mark.parametrize("kind", PLACES)
def test_any_labels_means_one_several_or_none(tmp_path: Path, kind: str) -> None:
    data = load(tmp_path / "data", kind, "any")
    train: Any = data.train
    expected = {"one": [0, 1], "several": [[1, 0], [1, 1]], "none": [0, 0]}[kind]
    assert [label.tolist() for label in (train[0][1], train[1][1])] == expected
    assert data.facts["class_counts"]["val"] == {"one": [1, 1], "several": [2, 1], "none": [2]}[kind]


@pytest.mark.parametrize(
    ("kind", "labels", "said"),
    [
        (
            "several",
            "one",
            r"any number of labels each .* --task multi_label learns; this task takes train\|val\|test/<class>",
        ),
        ("none", "one", "in no class folders, so they have no labels; this task takes train"),
        ("none", "several", "this task takes images/ and labels.csv"),
    ],
)
def test_other_layouts_are_refused_and_named(tmp_path: Path, kind: str, labels: str, said: str) -> None:
    with pytest.raises(diva.DataError, match=said):
        load(tmp_path / "data", kind, labels)
