"""Splits of every layout: pairs, several labels, tables, clips, unlabelled images, and of what is split already; the command."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from diva.cli import main
from diva.data import layouts, staging
from diva.data.layouts.listing import read_table
from diva.data.splits import like, split
from diva.errors import DataError, RecordError, UsageError

LABELS = ("red", "round", "rare")


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def read(out: Path, layout: str | None = None) -> dict[str, layouts.Samples]:
    return layouts.read_splits(out, layout)


def names(samples: layouts.Samples) -> set[str]:
    return {samples.name(i) for i in range(len(samples))}


def test_an_image_and_its_mask_stay_together(tmp_path: Path) -> None:
    for i in range(20):
        write(tmp_path / "pages", f"data/book {i % 3}/page.{i}.jpg", f"image {i}")
        write(tmp_path / "pages", f"gt/book {i % 3}/page.{i}.png", f"mask {i}")
    write(
        tmp_path / "pages",
        "dataset.yaml",
        "layout: pairs\nclasses: [page, text]\ncolours: {page: '#000000', text: '#ffffff'}\n",
    )
    split(tmp_path / "pages", tmp_path / "out")
    found = read(tmp_path / "out")
    assert [len(samples) for samples in found.values()] == [12, 4, 4]
    for samples in found.values():
        for i in range(len(samples)):
            image, mask = (path.read_text() for path in samples.files(i))
            assert mask == image.replace("image", "mask")
    assert layouts.describe(tmp_path / "out").colours == {"page": "#000000", "text": "#ffffff"}
    with pytest.raises(UsageError, match="--by class: pairs have no class to go by"):
        split(tmp_path / "pages", tmp_path / "other", by="class")


def test_each_split_of_a_multi_label_set_has_the_rows_of_its_images(tmp_path: Path) -> None:
    rows = {}
    for i in range(60):
        rows[f"a/{i}.png"] = [int(i % 2 == 0), int(i % 3 == 0), int(i % 12 == 1)]
        write(tmp_path / "set", f"images/a/{i}.png", str(i))
    table = "".join(f"{name},{','.join(map(str, cells))}\n" for name, cells in rows.items())
    write(tmp_path / "set", "labels.csv", f"image,{','.join(LABELS)}\n{table}")
    made = split(tmp_path / "set", tmp_path / "out")
    seen: dict[str, list[int]] = {}
    for name, samples in read(tmp_path / "out").items():
        header, here = read_table(tmp_path / "out" / name / "labels.csv")
        assert header == ("image", *LABELS) == ("image", *samples.classes)
        seen |= {row[0]: list(map(int, row[1:])) for row in here}
        assert made.record["parts"][name]["counts"] == dict(
            zip(LABELS, (sum(int(row[c]) for row in here) for c in (1, 2, 3)), strict=True)
        )
        assert made.record["parts"][name]["counts"]["rare"] >= 1
    assert seen == rows


@pytest.mark.parametrize(
    ("table", "header", "row"),
    [
        ("points.csv", "x,y,label", "{i}.50,1e-{i},{label}"),
        ("texts.csv", "text,label", '"line {i},\nwith ""quotes""",{label}'),
    ],
)
def test_rows_of_a_table_are_divided_and_kept_as_they_are_written(
    tmp_path: Path, table: str, header: str, row: str
) -> None:
    rows = [row.format(i=i, label=i % 3) for i in range(45)]
    write(tmp_path / "set", table, "\n".join([header, *rows, rows[0], rows[0], rows[0], ""]))
    made = split(tmp_path / "set", tmp_path / "out")
    assert {name: facts["n_samples"] for name, facts in made.record["parts"].items()} == {
        "train": 29,
        "val": 10,
        "test": 9,
    }
    source = Counter(read_table(tmp_path / "set" / table)[1])
    there = [row for name in ("train", "val", "test") for row in read_table(tmp_path / "out" / name / table)[1]]
    assert Counter(there) == source
    assert (
        made.record["checks"]["identical_samples"]["n"] == 1
        and made.record["checks"]["identical_in_two_parts"]["n"] == 0
    )
    assert all(samples.classes == ("0", "1", "2") for samples in read(tmp_path / "out").values())


def test_a_row_stays_where_it_is_when_rows_before_it_are_added(tmp_path: Path) -> None:
    rows = [f"{i},{i % 2}" for i in range(100)]
    for name, more in (("a", []), ("b", ["700,0", "701,1"])):
        write(tmp_path / name, "points.csv", "\n".join(["x,label", *more, *rows]))
        split(tmp_path / name, tmp_path / f"{name}-split")
    test = [set(read_table(tmp_path / f"{name}-split/test/points.csv")[1]) for name in "ab"]
    assert len(test[0] - test[1]) <= 2


def test_frames_of_a_clip_stay_together(tmp_path: Path) -> None:
    for i in range(20):
        for frame in range(3):
            write(tmp_path / "set", f"run/clip.{i}/{frame}.png", f"{i} {frame}")
        write(tmp_path / "set", f"jump/clip{i}.gif", str(i))
    split(tmp_path / "set", tmp_path / "out", layout="clips")
    found = read(tmp_path / "out")
    assert [len(samples) for samples in found.values()] == [24, 8, 8]
    frames = [len(samples.files(i)) for samples in found.values() for i in range(len(samples))]
    assert Counter(frames) == {3: 20, 1: 20}


def test_texts_in_files_and_images_without_labels(tmp_path: Path) -> None:
    for i in range(20):
        write(tmp_path / "texts", f"{'spam' if i % 2 else 'ham'}/{i}.txt", f"mail {i}")
        write(tmp_path / "images", f"{i}.png", f"image {i}")
    split(tmp_path / "texts", tmp_path / "texts-split")
    split(tmp_path / "images", tmp_path / "images-split")
    assert [len(samples) for samples in read(tmp_path / "texts-split").values()] == [12, 4, 4]
    assert [len(samples) for samples in read(tmp_path / "images-split").values()] == [12, 4, 4]


def test_what_is_split_already_is_divided_anew_on_request_only(tmp_path: Path) -> None:
    for old, n in (("train", 12), ("val", 6), ("test", 6)):
        for i in range(n):
            write(tmp_path / "set" / old, f"{'ant' if i % 2 else 'bee'}/{i}.png", f"{old} {i}")
    with pytest.raises(DataError, match=r"is split already, it has train/.*--merge"):
        split(tmp_path / "set", tmp_path / "out")
    made = split(tmp_path / "set", tmp_path / "out", merge=True)
    found = read(tmp_path / "out")
    there = [path.read_text() for samples in found.values() for i in range(len(samples)) for path in samples.files(i)]
    assert sorted(there) == sorted(path.read_text() for path in (tmp_path / "set").rglob("*.png"))
    every = set().union(*(part["samples"] for part in made.record["parts"].values()))
    assert {"train/ant/1.png", "val/ant/1.png", "test/ant/1.png"} <= every
    assert {"ant/train-1.png", "ant/val-1.png"} <= set().union(*map(names, found.values()))
    (tmp_path / "whole").mkdir()
    write(tmp_path / "whole", "ant/1.png", "1")
    with pytest.raises(UsageError, match="nothing to merge"):
        split(tmp_path / "whole", tmp_path / "out", merge=True)


def test_rows_of_a_table_that_is_split_are_merged(tmp_path: Path) -> None:
    for old in ("train", "val", "test"):
        write(
            tmp_path / "set" / old,
            "points.csv",
            "x,label\n" + "".join(f"{len(old)}{i},{i % 2}\n" for i in range(8)),
        )
    split(tmp_path / "set", tmp_path / "out", merge=True)
    assert sum(len(samples) for samples in read(tmp_path / "out").values()) == 24
    write(tmp_path / "set" / "val", "points.csv", "y,label\n1,1\n")
    with pytest.raises(DataError, match=r"val: its columns y,label are not train's, x,label"):
        split(tmp_path / "set", tmp_path / "other", merge=True)


FORGED: list[tuple[dict[str, Any], str]] = [
    ({"folders": {"../../train": ["train"]}}, "is no split.json"),
    ({"folders": {"train": ["other"]}}, "is no split.json"),
    ({"parts": {"train": {"samples": [1]}}}, "is no split.json"),
    ({"parts": []}, "is no split.json"),
    ({"parts": {part: {"samples": ["bee/0.png"], "n_samples": 1, "counts": {}, "groups": None} for part in layouts.SPLITS}},
     "names samples twice"),
    ({"schema": 9}, "has schema 9"),
    ({"kind": "other"}, "is no record of a split"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "said"), FORGED)
def test_a_forged_split_writes_nothing_anywhere(place: Path, changed: dict[str, Any], said: str) -> None:
    split(place / "set", place / "list", mode="list")
    published = place / "list/split.json"
    published.write_bytes(staging.as_bytes(staging.sealed({**json.loads(published.read_text()), **changed})))
    with pytest.raises(RecordError, match=said):
        like(place / "set", place / "in/out", published)
    assert sorted(path.name for path in place.iterdir()) == ["list", "set"]


# --- The command -------------------------------------------------------------------------------------------------------


def diva(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "diva", "split", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, text=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=60)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for i in range(20):
        write(tmp_path / "set", f"{'ant' if i % 2 else 'bee'}/{i}.png", str(i))
    return tmp_path


def test_the_command_says_what_it_made_and_that_it_is_there(place: Path) -> None:
    made = diva("set", "--to", "out", cwd=place)
    assert made.returncode == 0, made.stderr
    assert "train       12  60.0 %" in made.stdout and made.stdout.splitlines()[-1].startswith(
        "made: out, seed 42, sha256:"
    )
    again = diva("set", "--to", "out", "--json", cwd=place)
    facts = json.loads(again.stdout)
    assert facts["outcome"] == "already there" and facts["n_samples"] == {"train": 12, "val": 4, "test": 4}
    assert facts["digest"] in made.stdout and not again.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["data", "shuffle-labels", "", "--to", "out"],
        ["data", "trim-borders", "set", "--to", ""],
        ["analyze", ""],
        ["analyze", "set", "--to", ""],
        ["analyze", "set", "--expect", ""],
        ["download", "digits", "--to", ""],
        ["download", "digits", "--data-root", ""],
    ],
)
def test_an_empty_path_is_not_the_folder_one_is_in(
    place: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2 and "the path is empty" in capsys.readouterr().err
    assert [path.name for path in place.iterdir()] == ["set"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["set"], 2, "Missing option '--to'"),
        (["set", "--to", "out", "--train", "0.5", "--val", "0.4"], 2, "must sum to 1: 0.5 + 0.4 = 0.9"),
        (["set", "--to", "out", "--seed", "-1"], 2, "Invalid value for '--seed'"),
        (["nowhere", "--to", "out"], 4, "nowhere: no such folder"),
        (["set", "--to", "set/out"], 2, "is inside set"),
        (["set", "--to", "out", "--layout", "pair"], 2, "did you mean pairs?"),
        (["set", "--to", "out", "--like", "split.json", "--seed", "1"], 2, "leave out --seed"),
        (["set", "--to", "out", "--like", "split.json"], 4, "split.json does not exist"),
        (["set", "--to", "out", "--allow-changed"], 2, "is for --like"),
        (["set", "--to", "/proc/out"], 4, "cannot be written"),
        (["set", "--to", ""], 2, "the path is empty"),
        (["", "--to", "out"], 2, "the path is empty"),
        (["set", "--to", "out", "--like", ""], 2, "the path is empty"),
        (["set", "--to", "out", "--train", "1e99999999"], 2, "--train 1e99999999: is no number"),
    ],
)
def test_mistakes_are_one_line_with_the_documented_exit_code(
    place: Path,
    arguments: list[str],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as left:
        main(["split", *arguments])
    out, err = capsys.readouterr()
    assert (left.value.code, out) == (code, "")
    assert said in err and len(err.splitlines()) == 1
    assert [path.name for path in place.iterdir()] == ["set"]
