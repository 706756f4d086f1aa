"""The task on words drawn here: it learns letters, finds words never seen, and gives the same bits twice. Keep it green."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from torch.nn.functional import adaptive_max_pool2d

import diva

HERE = Path(__file__).parent
LETTERS = {"a": slice(0, 4), "b": slice(6, 10), "c": slice(0, 10)}  # the dark rows of a letter of 5 columns


def module(name: str) -> Any:
    """A file of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def drawn(word: str, generator: numpy.random.Generator) -> Image.Image:
    """Letters side by side on noisy paper, 10 pixels high and as wide as the word."""
    pixels = generator.integers(200, 240, (10, 6 * len(word) + 1))
    for place, letter in enumerate(word):
        pixels[LETTERS[letter], 6 * place + 1 : 6 * place + 6] -= 150
    return Image.fromarray(pixels.astype(numpy.uint8))


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`train|val|test/<word>/<copy>.png`: words of two to four letters; those of val and test are not in train."""
    folder = tmp_path_factory.mktemp("data") / "letters"
    generator = numpy.random.Generator(numpy.random.Philox(0))
    made = ["".join(letters) for n in (2, 3, 4) for letters in itertools.product("abc", repeat=n)]
    for number, word in enumerate(made):
        split = {3: "val", 7: "test"}.get(number % 9, "train")
        (folder / split / word).mkdir(parents=True)
        for copy in range(2):
            drawn(word, generator).save(folder / split / word / f"{copy}.png")
    return folder


def load(folder: Path, **knobs: Any) -> diva.Data:
    task = diva.load_task(HERE).model_validate(knobs)
    return task.load_data(
        diva.DataFolder("letters", folder, "sha256:0", folder.parent / f"{folder.name}.statistics.json")
    )


def test_it_finds_words_that_it_has_not_seen(words: Path, tmp_path: Path) -> None:
    knobs = {
        "image_height": 10,
        "epochs": 5,
        "batch_size": 16,
        "lr": 0.01,
        "distortion": 0.05,
        "levels": "1,2,3,4",
        "k": 2,
    }
    result = diva.run(HERE, {"data": words, "output": tmp_path / "runs", "seed": 1, **knobs}).result()
    assert result is not None
    assert result["metrics"]["test/qbe_mAP"] > 0.8
    assert result["metrics"]["test/qbs_mAP"] > 0.8


def test_the_same_seed_gives_the_same_bits(words: Path, tmp_path: Path) -> None:
    knobs = {
        "data": words,
        "output": tmp_path / "runs",
        "seed": 1,
        "epochs": 1,
        "bigrams": 2,
        "pooling": "spatial",
        "image_height": 10,
    }
    one, two = (diva.run(HERE, knobs).result() for _ in range(2))
    assert one is not None and two is not None
    assert one["weights_digest"] == two["weights_digest"]
    assert one["test_outputs_digest"] == two["test_outputs_digest"]


def test_a_run_can_be_applied_to_words_that_nobody_wrote_down(words: Path) -> None:
    task = diva.load_task(HERE).model_validate({"image_height": 20})
    data = task.load_data(diva.DataFolder("letters", words, "sha256:0", words.parent / "letters.statistics.json"))
    model = task.build_model(
        diva.Data(data.train, data.val, data.test, data.facts)
    ).eval()  # as later, without constants
    unseen = task.read_unseen(words / "test", data)
    with torch.no_grad():
        features = task.predict(model, unseen.samples.read_batch([0, 1], lambda k: None), data)["features"]  # type: ignore[attr-defined]
    assert features.shape == (2, data.constants["phocs"].shape[1]) and list(unseen.names) == sorted(unseen.names)
    assert torch.equal(unseen.samples[0][0], data.test[0][0])


def test_the_phoc_of_a_word_is_that_worked_out_by_hand() -> None:
    phoc = module("phoc").phoc
    assert phoc(["ab"], "ab", (1, 2)).tolist() == [[1, 1, 1, 0, 0, 1]]
    # half of the b of abc is in either half; a is wholly in the first third
    assert phoc(["abc"], "abc", (2, 3)).tolist() == [[1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1, 0, 0, 0, 1]]
    # three quarters of `ab` are in the first half of abc, three quarters of `bc` in the second
    assert phoc(["abc"], "", (), ["bc", "ab"]).tolist() == [[0, 1, 1, 0]]
    assert phoc(["a", "", "x"], "a", (3,)).tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_bigrams_are_the_most_frequent_ones_and_case_and_composition_do_not_count() -> None:
    phoc = module("phoc")
    assert phoc.frequent_bigrams(["abab", "ba", "xy"], 3) == ["ab", "ba", "xy"]
    assert phoc.spelled("E\u0301t", keep_case=False) == "\u00e9t" and phoc.spelled("Et", keep_case=True) == "Et"


@pytest.mark.parametrize("spatial", [False, True])
def test_pooling_is_adaptive_pooling_of_the_columns_that_the_word_fills(spatial: bool) -> None:
    features = torch.randn(3, 2, 5, 13, generator=torch.Generator().manual_seed(1))
    columns = torch.tensor([13, 6, 1])
    found = module("models").PyramidPooling(spatial=spatial)(features, columns)
    for row, filled, vector in zip(features, columns, found, strict=True):
        sizes = [(4, 4), (2, 2), (1, 1)] if spatial else [(1, 8), (1, 4), (1, 2), (1, 1)]
        wanted = [adaptive_max_pool2d(row[:, :, :filled], size).flatten(1) for size in sizes]
        assert torch.equal(vector, torch.cat(wanted, 1))


def test_words_keep_their_proportions_and_the_table_goes_before_the_folder(words: Path, tmp_path: Path) -> None:
    data: Any = load(words, image_height=20)
    assert data.facts["input_size"] == [20, 50] and data.facts["alphabet"] == ["a", "b", "c"]
    assert {len(data.facts["words"][label]): columns for label, columns in zip(data.train.labels, data.train.columns, strict=True)} == {
        2: 26, 3: 38, 4: 50,
    }  # fmt: skip
    assert data.train.picture(0).shape == (20, data.train.columns[0])
    for split in ("train", "val", "test"):
        (tmp_path / "own" / split).mkdir(parents=True)
        drawn("ab", numpy.random.Generator(numpy.random.Philox(1))).save(tmp_path / "own" / split / "one.png")
        (tmp_path / "own" / split / "transcriptions.csv").write_text(
            'image,word,page\none.png,"Caf\u00e9",7\n', encoding="utf-8"
        )
    assert load(tmp_path / "own").facts["words"] == ["caf\u00e9"]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (None, "one.png: nothing says what is written in it; put images in folders named by their word"),
        ("image,text\none.png,a\n", "has no column word; expected the header image,word"),
        ("image,word\ntwo.png,a\n", "has no word for the image one.png"),
        ("image,word\none.png\n", "has no word for the image one.png"),
        ("image,word\none.png,a\ntwo.png,b\n", "there is no image two.png"),
        ("image,word\none.png,a\none.png,b\n", "row 3 lists one.png again"),
        ("word,image\na,one.png\nb\n", "row 3 names no image"),
    ],
)
def test_an_image_of_which_nothing_says_what_it_is_is_refused(tmp_path: Path, table: str | None, said: str) -> None:
    for split in ("train", "val", "test"):
        (tmp_path / "own" / split).mkdir(parents=True)
        drawn("ab", numpy.random.Generator(numpy.random.Philox(1))).save(tmp_path / "own" / split / "one.png")
        if table is not None:
            (tmp_path / "own" / split / "transcriptions.csv").write_text(table)
    with pytest.raises(diva.DataError, match=said):
        load(tmp_path / "own")
