"""The task on a few images drawn here: it learns, keeps what it should, and gives the same bits twice. Keep it green."""

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
def shades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark and bright noisy images, 8 x 8 pixels, as `train|val|test/<class>/<image>`."""
    folder = tmp_path_factory.mktemp("data") / "shades"
    generator = numpy.random.Generator(numpy.random.Philox(0))
    for split in ("train", "val", "test"):
        for name, level in (("bright", 180), ("dark", 60)):
            (folder / split / name).mkdir(parents=True)
            for i in range(8):
                pixels = generator.integers(level - 40, level + 40, (8, 8), dtype=numpy.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    return folder


def made(shades: Path, **knobs: Any) -> tuple[Any, torch.nn.Module]:
    """The task and its model."""
    task = diva.load_task(HERE).model_validate(knobs)
    data = task.load_data(diva.DataFolder("shades", shades, "sha256:0", shades.parent / "shades.statistics.json"))
    return task, task.build_model(data)


def trained(model: torch.nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_it_learns_what_a_child_can_see(shades: Path, tmp_path: Path) -> None:
    values = {"data": shades, "output": tmp_path / "runs", "seed": 1, "epochs": 5, "batch_size": 4}
    run = diva.run(HERE, values)
    result = run.result()
    assert result is not None and result["metrics"]["test/accuracy"] == 1.0
    assert "loaded 18 of 20 tensors from backbone.safetensors" in (run.figures / "train_weights.md").read_text()
    assert "classifier,Linear,258,0.01" in (run.figures / "train_layers.csv").read_text()


def test_the_same_seed_gives_the_same_bits(shades: Path, tmp_path: Path) -> None:
    values = {"data": shades, "output": tmp_path / "runs", "seed": 1, "epochs": 1, "flip": True, "frozen_norm": True}
    one, two = (diva.run(HERE, values).result() for _ in range(2))
    assert one is not None and two is not None
    assert one["weights_digest"] == two["weights_digest"]


def test_the_shipped_weights_are_in_all_layers_but_the_last(shades: Path) -> None:
    kept = diva.load_weights(HERE / "backbone.safetensors")
    _, model = made(shades)
    assert all(
        torch.equal(model.state_dict()[name], value.to(model.state_dict()[name])) for name, value in kept.items()
    )
    _, fresh = made(shades, backbone="fresh")
    assert not torch.equal(fresh.state_dict()["features.0.weight"], model.state_dict()["features.0.weight"])


def test_a_probe_trains_the_last_layer_alone(shades: Path) -> None:
    task, model = made(shades, probe=True, lr=0.5, head_lr_factor=2)
    assert trained(model) == {"classifier.weight", "classifier.bias"}
    assert [group["lr"] for group in task.build_optimizer(model).param_groups] == [1.0]


def test_frozen_batch_norms_are_left_as_they_are(shades: Path) -> None:
    _, model = made(shades, frozen_norm=True)
    assert trained(model) == {
        "features.0.weight",
        "features.4.weight",
        "features.8.weight",
        "classifier.weight",
        "classifier.bias",
    }


def test_the_last_layer_has_a_step_size_of_its_own(shades: Path) -> None:
    task, model = made(shades, lr=0.5, head_lr_factor=4)
    inner, head = task.build_optimizer(model).param_groups
    assert (inner["lr"], head["lr"]) == (0.5, 2.0)
    assert {id(p) for p in head["params"]} == {id(p) for p in model.get_submodule("classifier").parameters()}
    assert len(inner["params"]) + len(head["params"]) == len(list(model.parameters()))


def test_weights_that_do_not_fit_are_refused_in_words(shades: Path) -> None:
    with pytest.raises(diva.UsageError, match=r"small_cnn on grey images, not babyresnet18 .* use --backbone fresh"):
        made(shades, backbone="shipped", model="babyresnet18")
    _, model = made(shades, model="babyresnet18", probe=True)
    assert trained(model) == {"fc.weight", "fc.bias"}
