"""The task on a few images drawn here: it trains, tests, and gives the same bits twice. Keep it green as you change the task."""

from __future__ import annotations

import csv
import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

import diva

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def marks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark noise, 12 x 12 pixels, with a lying bar, a standing bar, both or neither; as `<split>/images/` and `labels.csv`."""
    folder = tmp_path_factory.mktemp("data") / "marks"
    generator = numpy.random.Generator(numpy.random.Philox(0))
    for split in ("train", "val", "test"):
        (folder / split / "images").mkdir(parents=True)
        with (folder / split / "labels.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["image", "lying", "standing", "never"])
            for i in range(16):
                pixels = generator.integers(0, 60, (12, 12), dtype=numpy.uint8)
                lying, standing = i % 2, i // 2 % 2
                place = int(generator.integers(1, 10))
                pixels[place] += 180 * lying
                pixels[:, 11 - place] |= 192 * standing
                Image.fromarray(pixels).save(folder / split / "images" / f"{i}.png")
                table.writerow([f"{i}.png", lying, standing, 0])
    return folder


def test_it_learns_what_a_child_can_see(marks: Path, tmp_path: Path) -> None:
    values = {"data": marks, "output": tmp_path / "runs", "seed": 1, "epochs": 8, "batch_size": 4, "lr": 0.01}
    run = diva.run(HERE, {**values, "threshold": "class"})
    result = run.result()
    assert result is not None
    assert result["metrics"]["test/mAP"] == 1.0  # over the two labels that occur
    assert result["metrics"]["test/tuned_macro_f1"] == 1.0
    thresholds = result["calibration"]["thresholds"]
    assert all(0 < value < 1 for value in thresholds[:2]) and thresholds[2] == 0.5
    assert {p.name for p in run.figures.glob("test_*")} == {
        "test_classes.png", "test_precision_recall.png", "test_report.md", "test_roc.png",
    }  # fmt: skip


def test_the_same_seed_gives_the_same_bits(marks: Path, tmp_path: Path) -> None:
    values = {"data": marks, "output": tmp_path / "runs", "seed": 1, "epochs": 1, "flip": True, "crop_padding": 2}
    one, two = (diva.run(HERE, values).result() for _ in range(2))
    assert one is not None and two is not None
    assert one["weights_digest"] == two["weights_digest"] and one["calibration"] == two["calibration"]


def test_a_class_weighs_as_many_times_more_as_images_lack_it(marks: Path) -> None:
    folder = diva.DataFolder("marks", marks, "sha256:0", marks.parent / "marks.statistics.json")
    weights = diva.load_task(HERE).model_validate({}).load_data(folder).constants["positive_weights"]
    assert weights.tolist() == [1, 1, 1]  # 8 of 16 each; nothing can make up for a class that never occurs


def test_labels_are_chosen_where_the_scores_are(marks: Path) -> None:
    folder = diva.DataFolder("marks", marks, "sha256:0", marks.parent / "marks.statistics.json")
    task = diva.load_task(HERE).model_validate({})
    data = task.load_data(folder)
    data = replace(data, constants={**data.constants, "thresholds": torch.full((3,), 0.5, dtype=torch.float64)})
    images = torch.zeros(2, 1, 12, 12, device="meta")  # a device that every machine has, and that is not the processor
    outputs = task.predict(task.build_model(data).to("meta"), (images, None), data)
    assert outputs["chosen"].device == outputs["probabilities"].device == images.device


def test_a_validation_split_without_any_label_is_refused_since_it_could_name_no_best_epoch(
    marks: Path, tmp_path: Path
) -> None:
    shutil.copytree(marks, tmp_path / "own")
    table = tmp_path / "own" / "val" / "labels.csv"
    table.write_text("image,lying,standing,never\n" + "".join(f"{i}.png,0,0,0\n" for i in range(16)))
    folder = diva.DataFolder("own", tmp_path / "own", "sha256:0", tmp_path / "own.statistics.json")
    with pytest.raises(diva.DataError, match="val: no image has a label"):
        diva.load_task(HERE).model_validate({}).load_data(folder)


def test_the_surest_mistakes_are_those_farthest_from_the_thresholds() -> None:
    spec = importlib.util.spec_from_file_location("figures", HERE / "figures.py")
    assert spec is not None and spec.loader is not None
    figures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(figures)
    scores = torch.tensor([[0.05, 0.875], [0.25, 0.5], [0.5, 0.125], [0.25, 0.5]])
    truth = torch.tensor([[True, False], [False, False], [False, False], [False, False]])
    thresholds = torch.tensor([0.125, 0.75], dtype=torch.float64)
    # wrong are 0.05 (0.075 below) and 0.875 (0.125 above), 0.25 (0.125 above), 0.5 (0.375 above); from 0.5 the first were the surest
    assert figures.worst_mistakes(scores, truth, thresholds) == [2, 0, 1, 3]


def test_class_folders_are_refused(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        (tmp_path / "data" / split / "cat").mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "data" / split / "cat" / "1.png")
    with pytest.raises(diva.DataError, match=r"labels\.csv"):
        diva.run(HERE, {"data": tmp_path / "data", "output": tmp_path / "runs", "seed": 1})
