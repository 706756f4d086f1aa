"""The task on a few images drawn here: it trains, tests, and gives the same bits twice. Keep it green as you change the task."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
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
