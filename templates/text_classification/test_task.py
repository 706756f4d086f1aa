"""The task on a few texts written here: it trains, tests, and gives the same bits twice. Keep it green as you change the task."""

from __future__ import annotations

import csv
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

import diva

HERE = Path(__file__).parent
MODELS = ["bag", "cnn", "lstm", "transformer"]


@pytest.fixture(scope="module")
def weather(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short reports of good and bad weather as `train|val|test/texts.csv`; each split has days of its own."""
    folder = tmp_path_factory.mktemp("data") / "weather"
    for split, days in (("train", range(12)), ("val", range(12, 16)), ("test", range(16, 20))):
        (folder / split).mkdir(parents=True)
        with (folder / split / "texts.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["text", "label"])
            for day in days:
                table.writerow([f"Day {day}: the sun shines" + ", it is warm" * (day % 3), "good"])
                table.writerow([f"Day {day}: cold rain falls" + ", it storms" * (day % 3), "bad"])
    return folder


def loaded(folder: Path, **knobs: Any) -> tuple[Any, diva.Data]:
    task = diva.load_task(HERE).model_validate(knobs)
    return task, task.load_data(diva.DataFolder("texts", folder, "sha256:0", folder.parent / "texts.statistics.json"))


@pytest.mark.parametrize("model", ["bag", "lstm"])
def test_it_learns_what_a_child_can_read(weather: Path, tmp_path: Path, model: str) -> None:
    values = {
        "data": weather,
        "output": tmp_path / "runs",
        "seed": 1,
        "model": model,
        "epochs": 6,
        "batch_size": 4,
        "width": 16,
    }
    run = diva.run(HERE, {**values, "lr": 0.02, "dropout": 0.1})
    result = run.result()
    assert result is not None
    assert result["metrics"]["test/accuracy"] == 1.0
    assert {path.name for path in run.figures.glob("test_*")} == {
        "test_confusion_matrix.png", "test_mistakes.md", "test_report.md", "test_telling_tokens.png",
    }  # fmt: skip


def test_the_same_seed_gives_the_same_bits(weather: Path, tmp_path: Path) -> None:
    values = {
        "data": weather,
        "output": tmp_path / "runs",
        "seed": 1,
        "epochs": 1,
        "model": "transformer",
        "word_dropout": 0.3,
    }
    one, two = (diva.run(HERE, values).result() for _ in range(2))
    assert one is not None and two is not None
    assert one["weights_digest"] == two["weights_digest"]


def test_the_vocabulary_is_of_the_training_texts_by_frequency_and_then_by_bytes(weather: Path) -> None:
    task, data = loaded(weather, min_count=12)
    assert data.facts["vocabulary"] == ", : day it cold falls is rain shines storms sun the warm"
    words = import_module(".words", type(task).__module__)
    names = words.token_names(data.facts["vocabulary"], "words")
    assert [names[number] for number in data.test[0][0].tolist()][:3] == ["day", "<unknown>", ":"]  # no day 16 in train


def test_characters_keep_their_spaces(weather: Path) -> None:
    _, data = loaded(weather, units="characters")
    assert " " in data.facts["vocabulary"]
    assert len(data.test[0][0]) == len("Day 16: the sun shines, it is warm")


def test_words_are_dropped_in_training_alone(weather: Path) -> None:
    _, data = loaded(weather, word_dropout=0.9)
    assert (data.train[0][0] == 1).sum() > 2
    assert (data.val[0][0] == data.val[0][0]).all() and (data.val[0][0] == 1).sum() == 1


@pytest.mark.parametrize("model", MODELS)
def test_padding_does_not_count(weather: Path, model: str) -> None:
    """To seven digits: more padding may change the order of a sum."""
    task, data = loaded(weather, model=model, width=8)
    torch.manual_seed(0)
    net = task.build_model(data).eval()
    tokens = data.test[0][0][None]
    with torch.no_grad():
        torch.testing.assert_close(net(tokens), net(torch.nn.functional.pad(tokens, (0, 5))), atol=1e-6, rtol=0)


def test_a_text_without_words_and_a_very_long_one_are_read(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        for name, text in (("empty", " \n"), ("long", "word " * 1000)):
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "only.txt").write_text(text, encoding="utf-8")
    _, data = loaded(tmp_path, max_length=50)
    train: Any = data.train
    tokens, labels = train.collate([train[0], train[1]])
    assert tokens.shape == (2, 50) and labels.tolist() == [0, 1]
    assert tokens[0].tolist() == [1] + [0] * 49
