"""The task on a few images drawn here: it trains, tests, draws, and gives the same bits twice. Keep it green as you change the task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

import diva

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images without labels, 9 x 6 pixels: a bright bar on dark ground, in one of six places."""
    folder = tmp_path_factory.mktemp("data") / "bars"
    for split in ("train", "val", "test"):
        (folder / split).mkdir(parents=True)
        for i in range(48 if split == "train" else 12):
            pixels = numpy.zeros((9, 6), numpy.uint8)
            pixels[:, i % 6] = 200
            Image.fromarray(pixels).save(folder / split / f"{i}.png")
    return folder


def load(folder: Path, **knobs: Any) -> tuple[Any, diva.Data]:
    """The task and its data."""
    task = diva.load_task(HERE).model_validate(knobs)
    return task, task.load_data(diva.DataFolder("own", folder, "sha256:0", folder.parent / "statistics.json"))


def test_it_learns_what_a_child_can_see(bars: Path, tmp_path: Path) -> None:
    size = {"bottleneck": 4, "n_channels": 8, "epochs": 20, "batch_size": 4, "lr": 0.01}
    values = {"data": bars, "output": tmp_path / "runs", "seed": 1, "tensorboard": False, **size}
    result = diva.run(HERE, values).result()
    assert result is not None
    assert result["metrics"]["test/explained_variance"] > 0.8


def test_the_same_seed_gives_the_same_bits_and_pictures(bars: Path, tmp_path: Path) -> None:
    knobs = {"model": "vae", "noise": 0.2, "n_channels": 8, "bottleneck": 2, "epochs": 1}
    values = {"data": bars, "output": tmp_path / "runs", "seed": 1, **knobs}
    one, two = (diva.run(HERE, values) for _ in range(2))
    first, second = one.result(), two.result()
    assert first is not None and second is not None
    assert first["weights_digest"] == second["weights_digest"]
    names = sorted(path.name for path in one.figures.glob("*.png"))
    drawn = ("reconstructions", "drawn", "traversal", "largest_errors", "plane_of_codes")
    assert {f"test_{name}.png" for name in drawn} | {"train_samples.png"} <= set(names)
    assert [(one.figures / n).read_bytes() for n in names] == [(two.figures / n).read_bytes() for n in names]
    assert numpy.load(one.figures / "test_codes.npz")["vectors"].shape == (12, 2)


def test_noise_is_on_what_the_network_sees_and_never_on_what_is_asked_for(bars: Path) -> None:
    task, data = load(bars, noise=0.5)
    images = torch.stack([data.train[i][0] for i in range(6)])
    assert torch.allclose(task.pixels(images, data)[0, 0, :, 0] * 255, torch.tensor(200.0))
    torch.manual_seed(0)
    difference = (task.noisy(images, data) - images) * data.facts["normalisation"][1][0]
    assert 0.4 < difference.std() < 0.6
    assert torch.equal(load(bars)[0].noisy(images, data), images)


def test_the_mean_image_explains_nothing(bars: Path) -> None:
    task, data = load(bars)
    spread = torch.tensor([0.5, 0.25])
    for error, explained in ((spread, 0.0), (spread * 2, 0.0), (spread / 4, 0.75), (spread * 0, 1.0)):
        assert task.compute_metrics({"squared_error": error, "spread": spread}, data)["explained_variance"] == explained
    assert torch.allclose(data.constants["mean_image"] * 255, torch.full((1, 9, 6), 200 / 6))


def test_a_vae_draws_its_codes_in_training_alone(bars: Path) -> None:
    task, data = load(bars, model="vae", n_channels=4)
    model = task.build_model(data)
    batch = torch.utils.data.default_collate([data.train[i] for i in range(6)])
    modes = (True, True, False, False)
    losses = [task.training_step(model.train(mode), batch, data).loss.item() for mode in modes]
    assert losses[0] != losses[1] and losses[2] == losses[3]


def test_the_divergence_is_that_of_the_distributions(bars: Path) -> None:
    from importlib import import_module

    models = import_module(".models", type(load(bars)[0]).__module__)
    mean, log_variance = torch.randn(5, 3).double(), torch.randn(5, 3).double()
    own = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(own, torch.distributions.Normal(0, 1)).sum(1)
    assert torch.allclose(models.kl_divergence(mean, log_variance), expected)


def test_applied_to_its_own_images_it_gives_the_errors_that_were_measured(bars: Path) -> None:
    task, data = load(bars, model="vae", n_channels=4, normalize="none")
    model = task.build_model(data).eval()
    recorded = diva.Data(data.train, data.val, data.test, json.loads(json.dumps(data.facts)))
    unseen: Any = task.read_unseen(bars / "test", recorded)
    test: Any = data.test
    samples = [unseen.samples[list(unseen.names).index(path.name)] for path in test.paths]
    batch = torch.utils.data.default_collate(samples)
    told, measured = task.predict(model, batch, recorded), task.training_step(model, batch, data).outputs
    assert torch.equal(told["squared_error"], measured["squared_error"])
    assert torch.equal(told["features"], measured["codes"])
