"""The model in a run's record: its size, its cost, its layers; and a model that cannot be watched costs a sentence."""

import io

from diva.experiment.card import describe_run
from diva.experiment.describe import in_words, layer_rows
from diva.experiment.listing import models_of
from diva.experiment.request import resolve
from diva.experiment.run import start
from diva.report.card import render
from diva.report.console import Console

TASK = '''
"""A task whose model has one hidden layer."""
import torch
from torch import nn
from torch.utils.data import TensorDataset
from diva import Data, Step, Task

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(3, 5), nn.ReLU()), nn.Linear(5, 2)

    def forward(self, x):
        BODY
        return self.head(self.body(x))

class Tiny(Task):
    def load_data(self, folder):
        part = TensorDataset(torch.randn(8, 3), torch.zeros(8, dtype=torch.long))
        return Data(part, part, part)

    def build_model(self, data):
        return Net()

    def training_step(self, model, batch, data):
        return Step(nn.functional.cross_entropy(model(batch[0]), batch[1]))
'''


def run_of(folder, body="pass"):
    (folder / "tiny").mkdir()
    (folder / "tiny" / "task.py").write_text(TASK.replace("BODY", body))
    flags = {"task": str(folder / "tiny"), "seed": 1, "epochs": 1, "output": folder / "runs", "tensorboard": False}
    said = io.StringIO()
    run, result = start(resolve(flags, [], ("diva", "run")), Console(said, said))
    return run, result, said.getvalue()


def test_the_manifest_has_parameters_macs_and_the_output_of_each_layer(tmp_path):
    run, _, _ = run_of(tmp_path)
    model = run.manifest().model
    assert (model["parameters"], model["trainable_parameters"], model["macs"]) == (32, 32, 15 + 10)
    rows = {layer["name"]: (layer["class"], layer["output"], layer["macs"]) for layer in model["layers"]}
    assert rows["body.0"] == ("Linear", [1, 5], 15) and rows["head"] == ("Linear", [1, 2], 10)
    text = render(describe_run(run), "text")
    assert "MACs per sample" in text and "1 x 5" in text


def test_a_model_that_cannot_be_watched_costs_a_sentence_and_no_run(tmp_path):
    run, result, said = run_of(tmp_path, "if len(x) == 1: raise RuntimeError('never alone')")
    assert result["status"] == "finished"
    model = run.manifest().model
    assert model["macs"] is None and "never alone" in model["not_counted"]
    assert "operations were not counted: RuntimeError: never alone" in said
    assert "never alone" in render(describe_run(run), "text")


def test_counting_changes_no_bit(tmp_path):
    """Drawing numbers while it is watched leaves the run's numbers as they are: the two models differ in that alone."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    quiet = run_of(tmp_path / "one")[1]
    drawing = run_of(tmp_path / "two", "torch.rand(3) if len(x) == 1 else None")[1]
    assert quiet["trace_digest"] == drawing["trace_digest"]


def deep(n):
    names = ["", "stem", *(f"block{i}{part}" for i in range(n) for part in ("", ".conv", ".act"))]
    return [
        {"name": name, "class": "C", "output": [1, 2], "parameters": 3 * ("." in name), "macs": 7 * ("." in name)}
        for name in names
    ]


def test_layers_of_a_deep_model_are_summed_by_block():
    assert [row[0] for row in layer_rows(deep(2))] == ["stem", "block0.conv", "block0.act", "block1.conv", "block1.act"]
    rows = layer_rows(deep(30))
    assert [row[0] for row in rows[:3]] == ["stem", "block0", "block1"] and len(rows) == 31
    assert rows[1][2:] == ["1 x 2", "6", "14"]


def test_numbers_are_said_as_papers_write_them():
    assert [in_words(n) for n in (0, 999, 12_000, 80_740_000, 1_814_073_344)] == [
        "0", "999", "12 k", "80.74 M", "1.814 G",
    ]  # fmt: skip


def test_records_of_earlier_versions_are_shown(tmp_path):
    run, _, _ = run_of(tmp_path)
    old = run.manifest().model_copy(update={"model": {"class": "Net", "parameters": 1, "trainable_parameters": 1,
                                                      "layers": ["model: Net", "body: Sequential"]}})  # fmt: skip
    run.manifest_file.write_text(old.model_dump_json())
    assert "Net, 1 parameters" in render(describe_run(run), "text")


def test_models_of_a_template_are_read_without_running_it(tmp_path):
    file = tmp_path / "models.py"
    assert models_of(file) == []
    file.write_text("raise SystemExit\nMODELS: dict[str, type] = {'one': One, **more, 'two': Two}\n")
    assert models_of(file) == ["one", "two"]
    file.write_text("MODELS = dict(one=1)\n")
    assert models_of(file) == []
