"""Folders with odd things in them: pipes, folders that cannot be listed, names that look like leftovers, very many copies."""

import errno
import json
import os
import tracemalloc
from pathlib import Path

import numpy
import pytest
from PIL import Image

from diva.data import expectations
from diva.data.analysis import analyse, count, duplicates
from diva.data.analysis.inventory import take_inventory
from diva.data.layouts import read_whole
from diva.errors import DataError
from diva.records import footprint


def noise(seed: int, *shape: int) -> numpy.ndarray:
    return numpy.random.default_rng(seed).integers(0, 256, shape, numpy.uint8)


def save(path: Path, pixels: numpy.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def forbidden(monkeypatch):
    """`forbidden(folder)`: nobody may list it from now on, the superuser neither."""

    def forbid(folder: Path) -> None:
        scandir = os.scandir

        def refusing(place="."):
            if os.path.realpath(place) == os.path.realpath(os.fsencode(folder) if isinstance(place, bytes) else folder):
                raise PermissionError(errno.EACCES, "Permission denied", place)
            return scandir(place)

        monkeypatch.setattr(os, "scandir", refusing)

    return forbid


def test_a_pipe_among_the_images_is_listed_and_blocks_nothing(tmp_path):
    save(tmp_path / "data/cat/a.png", noise(1, 20, 20))
    os.mkfifo(tmp_path / "data/cat/b.png")
    report = analyse(tmp_path / "data", jobs=1)
    assert report["unreadable"] == [{"path": "cat/b.png", "reason": "is no regular file"}]
    assert "without a footprint" in report["warnings"][0]


@pytest.mark.parametrize("inside", ["train/dog/more", "train/dog", "test/cat"])
def test_a_folder_that_cannot_be_listed_is_an_entry_and_the_rest_is_measured(tmp_path, forbidden, inside):
    for seed, name in enumerate(("train/cat/1", "train/dog/1", "train/dog/more/1", "test/cat/1", "test/dog/1")):
        save(tmp_path / "data" / f"{name}.png", noise(seed, 20, 20))
    (tmp_path / "data/train/cat/2.png").write_bytes(b"no image")
    forbidden(tmp_path / "data" / inside)
    report = analyse(tmp_path / "data", jobs=1)
    entries = [{"path": f"{inside}/", "reason": "Permission denied"}]
    assert count(tmp_path / "data")["unreadable"] == entries
    assert report["unreadable"] == [{"path": "train/cat/2.png", "reason": "cannot identify image file"}, *entries]
    assert report["n_samples"] == (4 if inside == "train/dog" else 5)


def test_a_data_set_that_cannot_be_listed_is_refused_by_name(tmp_path, forbidden):
    save(tmp_path / "data/cat/1.png", noise(1, 20, 20))
    forbidden(tmp_path / "data")
    with pytest.raises(DataError, match=r"data: cannot be read \(Permission denied\)"):
        analyse(tmp_path / "data", jobs=1)


def test_folders_are_left_out_only_when_hidden_as_the_footprint_does(tmp_path):
    names = ("Thumbs.db", "rot~", "x.part", "y.swp")
    for seed, name in enumerate((*names, ".hidden")):
        save(tmp_path / "data" / name / "in~" / "1.png", noise(seed, 20, 20))
    assert footprint.take(tmp_path / "data").n_files == 4
    samples = read_whole(tmp_path / "data")
    assert (samples.classes, len(samples)) == (names, 4)
    report = analyse(tmp_path / "data", jobs=1)
    assert (tuple(report["classes"]), report["class_counts"]) == (names, {"all": [1, 1, 1, 1]})


def test_copies_do_not_crowd_out_what_looks_alike(tmp_path, monkeypatch):
    monkeypatch.setattr(duplicates, "MOST_CANDIDATES", 4)
    page, photograph = noise(1, 20, 20), noise(2, 20, 20)
    for number in range(10):
        save(tmp_path / "data" / "cat" / f"{number}.png", page)
    nearly = photograph.copy()
    nearly[3, 3] ^= 4
    save(tmp_path / "data/cat/a.png", photograph)
    save(tmp_path / "data/cat/b.png", nearly)
    found = analyse(tmp_path / "data", jobs=1)["duplicates"]
    assert [pair["samples"] for pair in found["similar"]] == [["cat/a.png", "cat/b.png"]]
    assert found["similar_complete"] and [len(group["samples"]) for group in found["exact"]] == [10]


@pytest.mark.parametrize("report", [{"warnings": []}, {}, [], None, "text"])
def test_what_is_no_report_of_analyze_is_made_anew(tmp_path, report):
    save(tmp_path / "data/cat/a.png", noise(1, 20, 20))
    first = analyse(tmp_path / "data", jobs=1)
    place = tmp_path / "data.analysis.json"
    stored = json.loads(place.read_text())
    place.write_text(json.dumps({**stored, "report": report}))
    assert analyse(tmp_path / "data", jobs=1) == first
    place.write_text(json.dumps({"key": stored["key"]}))
    assert analyse(tmp_path / "data", jobs=1) == first
    assert json.loads(place.read_text()) == stored


@pytest.mark.parametrize("said", ["samples: 2020-13-45", "samples: !!int x", "[" * 5000, "a: b: c"])
def test_expectations_that_are_no_yaml_are_refused_by_name(tmp_path, said):
    (tmp_path / "expected.yaml").write_text(said)
    with pytest.raises(DataError, match=r"expected\.yaml"):
        expectations.read(tmp_path / "expected.yaml")


def report_of_texts(folder: Path) -> dict:
    report = analyse(folder, jobs=1)
    return {key: report[key] for key in ("splits", "classes", "class_counts", "histograms", "duplicates")}


@pytest.mark.parametrize("in_a_table", [True, False])
def test_texts_are_never_in_memory_together(tmp_path, in_a_table):
    words = [f"word{number}" for number in range(50)]
    text = " ".join(words * 100)  # 34 kB
    folder = tmp_path / "data"
    folder.mkdir()
    if in_a_table:
        rows = [f"{number} {text},{'10' if number % 2 else '9'}\n" for number in range(100)]
        (folder / "texts.csv").write_text("text,label\n" + "".join(rows))
        del rows
    else:
        for number in range(100):
            (folder / ("10" if number % 2 else "9")).mkdir(exist_ok=True)
            (folder / ("10" if number % 2 else "9") / f"{number}.txt").write_text(f"{number} {text}")
    analyse(folder, jobs=1)
    (tmp_path / "data.analysis.json").unlink()
    tracemalloc.start()
    found = report_of_texts(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    n_bytes = 100 * len(text)
    assert n_bytes > 3_000_000 and peak < n_bytes / 2  # of one text, the words take ten times its length
    assert found["splits"]["all"]["samples"] == 100 and found["splits"]["all"]["vocabulary"] == 150
    assert found["classes"] == (["9", "10"] if in_a_table else ["10", "9"])
    assert found["class_counts"] == {"all": [50, 50]} and not found["duplicates"]["exact"]


def test_labels_of_a_table_are_numbered_as_its_layout_does(tmp_path):
    labels = ["b", "10", "9", "a", "b", "9", "c", "10", "01", "1"]
    rows = "".join(f"text {number},{label}\n" for number, label in enumerate(labels))
    (tmp_path / "texts.csv").write_text("text,label\n" + rows)
    found, read = take_inventory(tmp_path, "texts"), read_whole(tmp_path, "texts")
    assert found.classes == read.classes and found.labels is not None
    assert found.labels.tolist() == [read.targets(index)[0] for index in range(len(read))]
    assert [found.name(index) for index in range(10)] == [read.name(index) for index in range(10)]
