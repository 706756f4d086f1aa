"""What options make of a task's data: a part of the training split, and images kept in memory; neither touches val and test."""

from __future__ import annotations

import io
import shutil
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset, Subset, TensorDataset

import diva
from diva import Data, DataFolder, Step, Task
from diva.data.sampling import stratified_order
from diva.errors import UsageError
from diva.experiment.assemble import assemble
from diva.experiment.options import RunOptions
from diva.experiment.run import locate_data
from diva.learning.loop import Learner
from diva.report.console import Console
from diva.seeding import Seeds

LABELS = [0] * 30 + [1] * 10


class Labelled(Dataset):
    """Numbers with labels, and no way of its own to be a part."""

    def __init__(self, n: int = 40) -> None:
        self.labels = LABELS[:n]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.tensor([float(index)]), self.labels[index]


class Numbers(Task):
    """Predict nothing from numbers."""

    kind: str = "labelled"

    def load_data(self, folder: DataFolder | None) -> Data:
        """Forty samples to train on, five to evaluate."""
        few = Labelled(5)
        x = torch.arange(40.0)[:, None]
        tensors = TensorDataset(x, torch.tensor(LABELS)) if self.kind == "tensors" else TensorDataset(x, x[:, 0])
        train = Labelled() if self.kind == "labelled" else tensors
        return Data(train, few, few, facts={"own": 1})

    def build_model(self, data: Data) -> nn.Module:
        """One weight."""
        return nn.Linear(1, 2)

    def training_step(self, model: nn.Module, batch: Any, data: Data) -> Step:
        """Cross entropy."""
        return Step(nn.functional.cross_entropy(model(batch[0]), batch[1]))


def assembled(task: Task, folder: DataFolder | None = None, said: Any = None, **options: Any) -> Learner:
    say = (lambda line: None) if said is None else said.append
    return assemble(task, folder, Seeds(1), replace(RunOptions(), **options), torch.device("cpu"), None, say)[0]


def numbers(learner: Learner) -> list[int]:
    return [int(learner.data.train[i][0]) for i in range(len(learner.data.train))]  # type: ignore[arg-type]


def test_a_part_is_in_proportion_and_recorded():
    learner = assembled(Numbers(), subset="8")
    assert Counter(LABELS[i] for i in numbers(learner)) == {0: 6, 1: 2}
    assert numbers(learner) == stratified_order(LABELS, Seeds(1))[:8].tolist()
    assert learner.data.facts == {"own": 1, "subset": {"samples": 8, "of": 40}}
    assert learner.batches["train"].sizes() == [8] and learner.batches["val"].sizes() == [5]


def test_a_larger_part_begins_with_the_smaller_one():
    parts = [numbers(assembled(Numbers(), subset=asked)) for asked in ("4", "0.5", "40")]
    assert parts[2][:20] == parts[1] and parts[1][:4] == parts[0]
    assert sorted(parts[2]) == list(range(40))


def test_tensors_in_memory_stay_tensors():
    learner = assembled(Numbers(kind="tensors"), subset="6")
    assert type(learner.data.train) is TensorDataset
    assert numbers(learner) == numbers(assembled(Numbers(), subset="6"))


def test_tensors_with_labels_keep_their_classes_in_proportion_and_others_are_said_to_have_none():
    said: list[str] = []
    assert Counter(LABELS[i] for i in numbers(assembled(Numbers(kind="tensors"), said=said, subset="8"))) == {
        0: 6,
        1: 2,
    }
    assert said == []
    assembled(Numbers(kind="plain"), said=said, subset="8")
    assert said == ["subset: the training split has no labels, hence drawn without regard to classes"]


def test_without_the_option_nothing_is_recorded_or_wrapped():
    data = assembled(Numbers()).data
    assert "subset" not in data.facts and not isinstance(data.train, Subset)


def test_more_than_there_is_is_refused():
    with pytest.raises(UsageError, match="--subset 41: the training split has 40 samples"):
        assembled(Numbers(), subset="41")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    """Images of one grey each: eight and two of two classes to train on, one of each to evaluate."""
    path = tmp_path_factory.mktemp("data") / "greys"
    for split, counts in {"train": (8, 2), "val": (1, 1), "test": (1, 1)}.items():
        for name, count in zip(("a", "b"), counts, strict=True):
            (path / split / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(numpy.full((5, 5), 10 * i, numpy.uint8)).save(path / split / name / f"{i}.png")
    return DataFolder("greys", path, "sha256:0", path.parent / "greys.statistics.json")


def classification(**knobs: Any) -> Task:
    return diva.load_task(diva.resources("templates") / "image_classification").model_validate(
        {"model": "mlp", **knobs}
    )


@pytest.mark.parametrize(("cache", "kept"), [("auto", True), ("on", True), ("off", False)])
def test_images_are_kept_in_memory_as_asked(folder, cache, kept):
    said: list[str] = []
    data: Any = assembled(classification(), folder, said, cache=cache).data
    assert [split.pixels.is_kept for split in (data.train, data.val, data.test)] == [kept] * 3
    assert said == (["cache: 14 images are decoded once and kept in memory, 0 kB"] if kept else [])


def test_the_cache_holds_no_more_than_the_part(folder):
    said: list[str] = []
    assembled(classification(), folder, said, subset="5")
    assert said[0].startswith("cache: 9 images")


def test_a_part_of_images_draws_figures_and_trains_as_the_whole_does(folder):
    learner = assembled(classification(), folder, subset="5")
    task: Any = learner.task
    ((name, _),) = task.draw_figures(learner.model, {}, learner.data, "train")
    assert name == "samples"
    assert Counter(learner.data.train.labels) == {0: 4, 1: 1}  # type: ignore[attr-defined]


def test_oversampling_reads_the_rare_class_as_often(folder):
    learner = assembled(classification(balance="oversample", batch_size=4), folder)
    labels = torch.cat([labels for _, labels in learner.batches["train"].epoch(1)]).tolist()
    assert Counter(labels) == {0: 8, 1: 8}
    assert len(learner.batches["val"].order(1)) == 2


def test_two_cures_for_rare_classes_exclude_each_other(folder):
    with pytest.raises(UsageError, match="choose one"):
        assembled(classification(balance="oversample", class_weights=True), folder)


def test_a_class_without_training_images_weighs_nothing_and_keeps_its_place(folder, tmp_path):
    place = tmp_path / "greys"
    shutil.copytree(folder.path, place)
    (place / "dataset.yaml").write_text("classes: [b, empty, a]\n")
    learner = assembled(classification(class_weights=True), replace(folder, path=place))
    assert learner.data.facts["classes"] == ["b", "empty", "a"]
    assert learner.data.constants["class_weights"].tolist() == [2.5, 0.0, 0.625]
    images, labels = next(iter(learner.batches["train"].epoch(1)))
    assert learner.task.training_step(learner.model, (images, labels), learner.data).loss.isfinite()


def test_a_folder_whose_name_ends_as_a_card_s_is_data(folder, tmp_path):
    shutil.copytree(folder.path, tmp_path / "greys.yaml")
    console = Console(io.StringIO(), io.StringIO())
    located = locate_data(str(tmp_path / "greys.yaml"), RunOptions(), console)
    assert located is not None and located.folder.name == "greys.yaml" and located.footprint.n_files == 14
