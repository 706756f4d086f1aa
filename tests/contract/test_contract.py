"""The contract that every task keeps: the templates, and a task as a user would write it. One suite for all."""

from __future__ import annotations

import io
import json
import random
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from diva.data.catalogue import materialise
from diva.experiment.assemble import assemble
from diva.experiment.find import find_task, load_found, template_names
from diva.experiment.options import RunOptions
from diva.experiment.request import resolve
from diva.experiment.run import start
from diva.kernels import stock
from diva.learning.digests import digest_model
from diva.learning.events import TrainEnded
from diva.learning.loop import Learner, fit
from diva.learning.task import DataFolder, Task
from diva.records import footprint
from diva.records.trace import read_trace
from diva.report.console import Console
from diva.seeding import Seeds

USERS_OWN = str(Path(__file__).parent / "users_task.py")
CASES = [*template_names(), USERS_OWN]
# What makes a template small and its randomness rich: dropout, augmentation and shuffling all at once.
SMALL: dict[str, dict[str, Any]] = {
    "image_classification": {"epochs": 2, "flip": True, "crop_padding": 1, "rotation": 10.0, "erasing": 0.5},
    "multi_label": {"epochs": 2, "flip": True, "crop_padding": 1, "erasing": 0.5},
    "autoencoder": {"epochs": 2, "model": "vae", "noise": 0.2, "flip": True, "n_channels": 8, "batch_size": 8},
    "points_2d": {"epochs": 2, "dropout": 0.2},
    "similarity": {"epochs": 2, "flip": True, "crop_padding": 1, "batch_size": 32, "images_per_class": 4},
    "word_spotting": {"epochs": 2, "batch_size": 8, "bigrams": 3, "pooling": "spatial"},
    "finetune": {"epochs": 2, "flip": True, "crop_padding": 1, "erasing": 0.5, "frozen_norm": True},
    "segmentation": {"epochs": 2, "model": "doc_ufcn", "width": 0.03, "crop_size": 32, "val_crops": 1, "crops_per_page": 2,
                     "overlap": 0.0, "window": 128, "pages_drawn": 1},
    "trunk": {"epochs": 2, "stage_epochs": 1, "batch_size": 32, "volatility": 0.5, "flip": True, "crop_padding": 1},
    "text_classification": {"epochs": 2, "batch_size": 8, "model": "cnn", "width": 16, "dropout": 0.5, "word_dropout": 0.3},
    "video_classification": {"epochs": 2, "batch_size": 4, "frames": 4, "image_size": 16, "stride": 2},
    USERS_OWN: {"epochs": 2},
}  # fmt: skip
PROMISES = 6

pytestmark = pytest.mark.parametrize("case", CASES, ids=lambda case: Path(case).stem)


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data_root") / "data"


def small_task(case: str) -> Task:
    return load_found(find_task(case)).model_validate(SMALL[case])


def learner(case: str, data_root: Path, *, seed: int = 7, workers: int = 0) -> Learner:
    task = small_task(case)
    folder = None
    if task.default_data is not None:
        path = materialise(task.default_data, data_root)
        folder = DataFolder(task.default_data, path, footprint.take(path).digest, data_root / "statistics.json")
    options = replace(RunOptions(), check=True, workers=workers)
    made, _ = assemble(task.model_copy(update={"epochs": 2}), folder, Seeds(seed), options, torch.device("cpu"))
    return replace(made, task=task)  # --check cuts the epochs too; two batches of each are enough, one epoch is not


def trained(made: Learner, *, poisoned: bool = False) -> tuple[str, list[list[int]]]:
    """Digest of the weights after training, and the orders in which samples were read."""
    orders = []
    with stock.deterministic(threads=1):
        for number, event in enumerate(fit(made)):
            if poisoned:
                random.seed(number)
                numpy.random.seed(number)
                torch.manual_seed(number)
            if isinstance(event, TrainEnded):
                orders.append(event.order.tolist())
    return digest_model(made.model), orders


@cache
def undisturbed(case: str, data_root: Path) -> tuple[str, list[list[int]]]:
    """What the others must equal: trained once, without loader workers."""
    return trained(learner(case, data_root))


def test_knobs_survive_json(case: str) -> None:
    task = small_task(case)
    assert type(task).model_validate(json.loads(task.model_dump_json())) == task


def test_same_seed_gives_same_bits_and_another_seed_others(case: str, data_root: Path) -> None:
    first, other = undisturbed(case, data_root), trained(learner(case, data_root, seed=8))
    assert trained(learner(case, data_root)) == first
    assert first[0] != other[0]
    assert first[1] != other[1]


def test_poisoned_global_generators_change_nothing(case: str, data_root: Path) -> None:
    assert trained(learner(case, data_root), poisoned=True) == undisturbed(case, data_root)


def test_number_of_loader_workers_is_irrelevant(case: str, data_root: Path) -> None:
    assert trained(learner(case, data_root, workers=2)) == undisturbed(case, data_root)


def test_nothing_is_random_but_what_the_streams_say(case: str, data_root: Path) -> None:
    random.seed(1)
    numpy.random.seed(1)
    torch.manual_seed(1)
    first = digest_model(learner(case, data_root).model)
    random.seed(2)
    numpy.random.seed(2)
    torch.manual_seed(2)
    assert digest_model(learner(case, data_root).model) == first


def test_a_tiny_run_goes_from_end_to_end(case: str, data_root: Path, tmp_path: Path) -> None:
    flags = {"task": case, "seed": 3, "check": True, "data_root": data_root, "output": tmp_path / "runs", **SMALL[case]}
    run, result = start(resolve(flags, [], ("diva", "run")), Console(io.StringIO(), io.StringIO()))
    assert result == run.result()
    assert result["status"] == "finished"
    assert read_trace(run.trace_file)[-1]["digest"] == result["trace_digest"]
    names = {row["name"] for row in run.rows()}
    assert {"train/loss", "val/loss", "test/loss", "batch/loss", "optimizer/lr"} <= names
    assert all(0 <= value <= 1 for name, value in result["metrics"].items() if not name.endswith("loss"))


def test_every_template_is_here(case: str, request: pytest.FixtureRequest) -> None:
    """A suite that silently runs less than it says would be a false green."""
    assert set(SMALL) == set(CASES)
    collected = [item.name for item in request.session.items if item.path == request.path]
    tests = {name.partition("[")[0] for name in collected}
    if len(tests) > 1:  # not when one test is asked for by name
        assert len(tests) == PROMISES + 1
