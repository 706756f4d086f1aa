"""The activation study: files and figures that say what they show, and a run whose bits are those of one without it."""

import base64
import io
import json

import numpy
import pytest
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

import diva
from diva.errors import UsageError
from diva.experiment.activations import describe, strengths_over_epochs
from diva.experiment.resume import resume
from diva.learning.activations import Activation
from diva.report.console import Console

DRAWS = '''
"""Image classification with a dropout and a layer that draws numbers even in evaluation mode."""
import torch
from torch import nn
from diva import load_task, resources

class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.drop, self.head = nn.Conv2d(1, 4, 3), nn.Dropout(0.5), nn.Linear(4, 2)

    def forward(self, images):
        features = self.conv(images) + 0.01 * torch.rand(1)
        return self.head(self.drop(features.mean((2, 3))))

class Study(load_task(resources("templates") / "image_classification")):
    def build_model(self, data):
        return Noisy()
'''


def values(data, folder, **more):
    return {"data": data, "output": folder, "seed": 1, "epochs": 3, "batch_size": 4, **more}


@pytest.fixture
def task(tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "task.py").write_text(DRAWS)
    return tmp_path / "study"


def test_the_bits_of_a_run_are_the_same_with_and_without(data, tmp_path, task):
    one, two = (diva.run(task, values(data, tmp_path / "runs", activations=n)) for n in (0, 2))
    for name in ("trace_digest", "test_outputs_digest"):
        assert (one.result() or {})[name] == (two.result() or {})[name]
    assert not one.activations.exists()


def test_epochs_0_1_2_and_the_last_are_recorded_and_drawn(data, tmp_path, task):
    run = diva.run(task, values(data, tmp_path / "runs", activations=3))
    names = [f"epoch-{epoch:04}.json" for epoch in (0, 1, 2, 3)]
    assert sorted(path.name for path in run.activations.iterdir()) == names
    record = json.loads((run.activations / names[-1]).read_text())
    assert record["samples"] == [
        {"index": 0, "class": "bright"},
        {"index": 4, "class": "bright"},
        {"index": 8, "class": "dark"},
    ]
    assert [layer["name"] for layer in record["layers"]] == ["conv", "head"]
    conv = record["layers"][0]
    assert conv["shape"] == [4, 6, 6] and [len(means) for means in conv["means"]] == [4, 4, 4]
    pixels = numpy.frombuffer(base64.b64decode(conv["maps"][0]["pixels"][0]), numpy.uint8)
    assert conv["maps"][0]["size"] == [6, 6] and pixels.shape == (36,)
    figures = {path.name for path in run.figures.glob("val_activations*")}
    assert {"val_activations_epoch0003.png", "val_activations_0004_epoch0003.png"} <= figures and len(figures) == 4 * 4
    assert run.manifest().options["activations"] == 3


def test_the_last_epoch_is_studied_and_drawn_where_training_ends_early_also_of_a_resumed_run(data, tmp_path, task):
    early = {"epochs": 9, "patience": 3, "optimizer": "sgd", "lr": 1e-30}
    run = diva.run(task, values(data, tmp_path / "runs", activations=1, **early))
    last = {run.activations / "epoch-0003.json", *run.figures.glob("val_*_epoch0003.*")}
    others = {path.name.replace("0003", "0002") for path in last}
    assert {"epoch-0002.json", "val_confusion_matrix_epoch0002.png", "val_activations_epoch0002.png"} <= others
    board = EventAccumulator(str(run.tensorboard), size_guidance={"tensors": 0}).Reload()
    assert [event.step for event in board.Tensors("weights/head.weight")] == [0, 3, 6, 9]

    before, result = {path: path.read_bytes() for path in last}, run.result() or {}
    for path in (run.result_file, *last):
        path.unlink()
    again = resume(run, None, tmp_path, Console(io.StringIO(), io.StringIO()))
    assert {path: path.read_bytes() for path in last} == before
    assert again["trace_digest"] == result["trace_digest"]
    plain = diva.run(task, values(data, tmp_path / "plain", tensorboard=False, **early)).result() or {}
    for name in ("trace_digest", "test_outputs_digest", "metrics"):
        assert result[name] == plain[name]


def test_two_runs_write_the_same_files(data, tmp_path, task):
    runs = [diva.run(task, values(data, tmp_path / "runs", activations=1, epochs=1)) for _ in range(2)]
    one, two = ({path.name: path.read_bytes() for path in run.activations.iterdir()} for run in runs)
    assert one == two and len(one) == 2


def test_without_figures_there_are_still_files(data, tmp_path):
    run = diva.run("image_classification", values(data, tmp_path / "runs", activations=3, epochs=0, tensorboard=False))
    record = json.loads((run.activations / "epoch-0000.json").read_text())
    assert len(record["samples"]) == 3 and not run.figures.exists()


@pytest.mark.parametrize("n", [-1, 17])
def test_too_many_samples_are_refused(data, tmp_path, n):
    with pytest.raises(UsageError, match=f"--activations {n}: allowed are 0 to 16 samples"):
        diva.run("image_classification", values(data, tmp_path / "runs", activations=n))


def activation(name, n_filters, side):
    means, maps = numpy.arange(n_filters, dtype=float), numpy.zeros((8, side, side))
    maps[0, 0, 0] = 1
    return Activation(name, "Conv2d", (n_filters, side, side), means, 1.0, tuple(range(8)), maps)


def test_a_large_network_gives_a_small_file_that_says_what_is_left_out():
    small = describe(0, 0, [0], [None], [[activation("a", 8, 20)]])
    assert (small["filters"], small["maps_per_layer"]) == ("all", 8)
    many = [activation(f"layer{i}", 1000, 20) for i in range(500)]
    large = describe(0, 0, [0, 1], [None, None], [many, many])
    assert large["filters"] == "strongest" and 0 < large["maps_per_layer"] < 8
    assert len(large["layers"]) == 500 and large["layers"][0]["means"] == [list(range(8))] * 2
    assert len(json.dumps(large)) < 3_000_000


def test_maps_shrink_by_means():
    maps = describe(0, 0, [0], [None], [[activation("a", 8, 32)]])["layers"][0]["maps"][0]
    assert maps["size"] == [16, 16] and (maps["low"], maps["high"]) == (0.0, 0.25)
    assert base64.b64decode(maps["pixels"][0])[:2] == b"\xff\x00"


def test_what_is_not_finite_is_null():
    odd = activation("a", 8, 2)
    odd.means[3], odd.maps[0, 0, 1] = float("nan"), float("inf")
    layer = describe(0, 0, [0], [None], [[odd]])["layers"][0]
    assert layer["means"][0][3] is None and json.dumps(layer, allow_nan=False)


def test_development_is_read_from_the_files(tmp_path):
    for epoch in (0, 1, 2):
        layers = [{"name": "a", "strength": [epoch, epoch + 1]}]
        (tmp_path / f"epoch-{epoch:04}.json").write_text(json.dumps({"epoch": epoch, "layers": layers}))
    assert strengths_over_epochs(tmp_path, 1) == {"a": ([0, 1], [0.5, 1.5])}
