"""The task on a few images drawn here: it trains, finds, and gives the same bits twice. Keep it green as you change the task."""

from __future__ import annotations

import importlib.util
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

import diva

HERE = Path(__file__).parent
SHADES = {"bright": 200, "dark": 40, "middle": 120, "pale": 160}


def module(name: str) -> Any:
    """A file of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def shades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy images of four levels of grey, 8 x 8 pixels, as `train|val|test/<class>/<image>`."""
    folder = tmp_path_factory.mktemp("data") / "shades"
    generator = numpy.random.Generator(numpy.random.Philox(0))
    for split in ("train", "val", "test"):
        for name, level in SHADES.items():
            (folder / split / name).mkdir(parents=True)
            for i in range(6):
                pixels = generator.integers(level - 15, level + 15, (8, 8), dtype=numpy.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    return folder


def values(folder: Path, out: Path, **knobs: Any) -> dict[str, Any]:
    few = {"epochs": 6, "batch_size": 8, "images_per_class": 2, "embedding_size": 4, "lr": 0.01, "k": 2}
    return {"data": folder, "output": out / "runs", "seed": 1, **few, **knobs}


def load(folder: Path, **knobs: Any) -> tuple[Any, diva.Data]:
    task = diva.load_task(HERE).model_validate({"batch_size": 8, "images_per_class": 2, **knobs})
    data = task.load_data(diva.DataFolder("shades", folder, "sha256:0", folder.parent / "shades.statistics.json"))
    return task, data


@pytest.mark.parametrize("knobs", [{}, {"objective": "contrastive", "margin": 1.0}], ids=str)
def test_it_learns_what_a_child_can_see(shades: Path, tmp_path: Path, knobs: dict[str, Any]) -> None:
    result = diva.run(HERE, values(shades, tmp_path, **knobs)).result()
    assert result is not None
    assert result["metrics"]["test/mAP"] > 0.9 and result["metrics"]["test/precision_at_1"] > 0.9


def test_the_same_seed_gives_the_same_bits(shades: Path, tmp_path: Path) -> None:
    knobs = values(shades, tmp_path, epochs=1, flip=True, crop_padding=1, tensorboard=False)
    one, two = (diva.run(HERE, knobs).result() for _ in range(2))
    assert one is not None and two is not None
    assert one["weights_digest"] == two["weights_digest"]
    assert one["test_outputs_digest"] == two["test_outputs_digest"]


def test_unseen_classes_are_in_validation_and_test_alone(shades: Path) -> None:
    _, data = load(shades, unseen_classes=2)
    sets: Any = (data.train, data.val, data.test)
    train, val, test = ({int(label) for label in images.labels} for images in sets)
    assert (train, val, test) == ({0, 1}, {2, 3}, {2, 3})
    assert data.facts["unseen_classes"] == ["middle", "pale"]
    assert data.facts["class_counts"] == {"train": [6, 6, 0, 0], "val": [0, 0, 6, 6], "test": [0, 0, 6, 6]}


def test_an_epoch_reads_every_image_in_runs_of_a_class(shades: Path) -> None:
    _, data = load(shades, images_per_class=4)
    train: Any = data.train
    n, labels = len(train), train.labels
    first, second = (train.epoch_order(diva.Seeds(3), number) for number in (1, 2))
    assert set(first % n) == set(range(n)) and len(first) == len(second) == 4 * 8  # 6 images a class are two runs of 4
    for run in first.reshape(-1, 4):
        assert len({labels[i % n] for i in run}) == 1 and len(set(run)) == 4
    assert len({tuple(labels[i % n] for i in order) for order in (first, second)}) == 2
    assert all(a != b for a, b in pairwise(sorted(first)))


@pytest.mark.parametrize("mining", ["hard", "semi_hard", "all"])
def test_triplets_are_those_of_a_loop_over_all(mining: str) -> None:
    losses = module("losses")
    vectors = torch.nn.functional.normalize(torch.randn(9, 3, generator=torch.Generator().manual_seed(1)).double())
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 0])
    d = losses.distances_of(vectors).tolist()
    wanted = []
    for a in range(9):
        same = [i for i in range(9) if labels[i] == labels[a] and i != a]
        other = [i for i in range(9) if labels[i] != labels[a]]
        if mining == "hard" and same:
            wanted.append(max(d[a][p] for p in same) - min(d[a][n] for n in other) + 0.3)
        elif mining == "semi_hard":
            beyond = [[d[a][n] for n in other if d[a][n] > d[a][p]] for p in same]
            nearest = [min(far) if far else max(d[a][n] for n in other) for far in beyond]
            wanted += [d[a][p] - n + 0.3 for p, n in zip(same, nearest, strict=True)]
        elif mining == "all":
            wanted += [loss for p in same for n in other if (loss := d[a][p] - d[a][n] + 0.3) > 0]
    found, moved = losses.triplet_loss(vectors, labels, 0.3, mining)
    assert float(found) == pytest.approx(sum(max(0, loss) for loss in wanted) / len(wanted))
    assert not moved[7] and moved.any()


def test_equal_vectors_and_classes_without_company_break_nothing() -> None:
    losses = module("losses")
    vectors = torch.ones(4, 2, requires_grad=True)
    for labels in (torch.tensor([0, 0, 0, 0]), torch.arange(4), torch.tensor([0, 0, 1, 1])):
        for mining in ("hard", "semi_hard", "all"):
            loss, _ = losses.triplet_loss(torch.nn.functional.normalize(vectors), labels, 0.2, mining)
            loss = loss + losses.contrastive_loss(torch.nn.functional.normalize(vectors), labels, 1.0)[0]
            assert torch.isfinite(torch.autograd.grad(loss, vectors)[0]).all()


def test_a_split_without_two_images_of_a_class_is_refused_and_with_them_others_may_be_missing(tmp_path: Path) -> None:
    def add(place: str, name: str) -> None:
        (tmp_path / "own" / place).mkdir(parents=True, exist_ok=True)
        Image.new("L", (6 + len(place), 9), 50).save(tmp_path / "own" / place / name)

    for place in ("train/a", "train/b", "val/a", "val/b", "test/a"):
        add(place, "1.png")
    with pytest.raises(diva.DataError, match="no class has two images"):
        load(tmp_path / "own", image_size=8)
    with pytest.raises(diva.UsageError, match="--image-size 64"):
        load(tmp_path / "own")
    add("val/a", "2.png")
    add("test/a", "2.png")
    _, data = load(tmp_path / "own", image_size=8)
    assert data.train[0][0].shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"batch_size": 9}, "must be a multiple of --images-per-class 2"),
        ({"unseen_classes": 3}, "at least two are needed to train on"),
        ({"unseen_classes": 1}, "two more to test on"),
    ],
)
def test_knobs_that_leave_nothing_to_compare_are_refused(shades: Path, knobs: dict[str, Any], said: str) -> None:
    with pytest.raises(diva.UsageError, match=said):
        load(shades, **knobs)
