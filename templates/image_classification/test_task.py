"""The task on a few images drawn here: it trains, tests, and gives the same bits twice. Keep it green as you change the task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

import diva

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark and bright noisy images, 12 x 12 pixels, as `train|val|test/<class>/<image>`."""
    folder = tmp_path_factory.mktemp("data") / "shades"
    generator = numpy.random.Generator(numpy.random.Philox(0))
    for split in ("train", "val", "test"):
        for name, level in (("bright", 180), ("dark", 60)):
            (folder / split / name).mkdir(parents=True)
            for i in range(8):
                pixels = generator.integers(level - 40, level + 40, (12, 12), dtype=numpy.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    return folder


@pytest.mark.parametrize("model", ["small_cnn", "mlp"])
def test_it_learns_what_a_child_can_see(shapes: Path, tmp_path: Path, model: str) -> None:
    values = {"data": shapes, "output": tmp_path / "runs", "seed": 1, "model": model, "epochs": 8, "batch_size": 4}
    result = diva.run(HERE, values).result()
    assert result is not None
    assert result["metrics"]["test/accuracy"] == 1.0


def test_the_same_seed_gives_the_same_bits(shapes: Path, tmp_path: Path) -> None:
    values = {"data": shapes, "output": tmp_path / "runs", "seed": 1, "epochs": 1, "flip": True, "crop_padding": 2}
    one, two = (diva.run(HERE, values).result() for _ in range(2))
    assert one is not None and two is not None
    assert one["weights_digest"] == two["weights_digest"]


def test_augmentation_happens_in_training_alone(shapes: Path) -> None:
    task = diva.load_task(HERE).model_validate({"flip": True, "erasing": 1.0})
    data = task.load_data(diva.DataFolder("shades", shapes, "sha256:0", shapes.parent / "shades.statistics.json"))
    assert (data.train[0][0] != data.train[0][0]).any()
    assert (data.val[0][0] == data.val[0][0]).all()


def test_turned_images_are_told_apart_without_a_label(tmp_path: Path) -> None:
    generator = numpy.random.Generator(numpy.random.Philox(0))
    for split in ("train", "val", "test"):
        (tmp_path / "falling" / split).mkdir(parents=True)
        for i in range(8):
            pixels = (
                generator.integers(0, 60, (12, 12)) + 15 * numpy.arange(12)[:, None]
            )  # bright below: which way is up?
            Image.fromarray(pixels.astype(numpy.uint8)).save(tmp_path / "falling" / split / f"{i}.png")
    values = {"data": tmp_path / "falling", "output": tmp_path / "runs", "seed": 1, "model": "mlp", "batch_size": 4}
    run = diva.run(HERE, {**values, "pretext": "rotation", "epochs": 8})
    result = run.result()
    assert result is not None
    assert result["metrics"]["test/accuracy"] == 1.0


def test_a_turned_image_is_the_image_turned_to_the_left(shapes: Path) -> None:
    folder = diva.DataFolder("shades", shapes, "sha256:0", shapes.parent / "shades.statistics.json")
    plain, turned = (
        diva.load_task(HERE).model_validate({"pretext": pretext}).load_data(folder) for pretext in ("none", "rotation")
    )
    images: Any = turned.val
    assert len(images) == 4 * len(plain.val) and turned.facts["class_counts"]["val"] == [16] * 4  # type: ignore[arg-type]
    for turn in range(4):
        image, label = images[4 * 3 + turn]
        assert label == turn
        assert torch.equal(image, plain.val[3][0].rot90(turn, (1, 2)))
        assert (images.picture(4 * 3 + turn) == numpy.rot90(images.picture(4 * 3), turn)).all()
    part = images.subset([13, 2])
    assert part.labels == (1, 2) and torch.equal(part[0][0], images[13][0])
