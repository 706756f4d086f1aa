"""Places of splits: nothing that is there is put at risk, what is there is verified, and nothing is ever half made."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from diva.data import splits, staging
from diva.data.borders import trim_borders
from diva.data.labels import shuffle_labels
from diva.data.splits import split
from diva.errors import DataError, RecordError, UsageError
from tests.data.photos import class_folders, content, listed


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return class_folders(tmp_path / "photos", ant=50, bee=31, cow=5)


# --- Places ------------------------------------------------------------------------------------------------------------


def test_another_split_a_changed_source_and_a_changed_outcome_are_refused(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    split(photos, out)
    with pytest.raises(DataError, match="seed 42, now 3"):
        split(photos, out, seed=3)
    with pytest.raises(DataError, match=r'ratios .*"train": "3/5".*, now .*"train": "1/2"'):
        split(photos, out, ratios={"train": 0.5, "val": 0.3, "test": 0.2})
    linked = next((out / "val").rglob("*.png"))
    linked.unlink()
    for mode in ("link", "copy", "list"):
        with pytest.raises(DataError, match=re.escape(f"1 removed ({linked.relative_to(out).as_posix()})")):
            split(photos, out, mode=mode)
    (photos / "ant/new.png").write_bytes(b"new")
    with pytest.raises(DataError, match=r"1 sample added: ant/new\.png"):
        split(photos, out)


def test_a_list_is_not_taken_for_a_split(photos: Path, tmp_path: Path) -> None:
    split(photos, tmp_path / "out", mode="list")
    with pytest.raises(DataError, match="holds the list alone"):
        split(photos, tmp_path / "out")
    (tmp_path / "out/.DS_Store").write_text("of the desktop")
    assert split(photos, tmp_path / "out", mode="list").was_there


def test_links_are_not_taken_for_the_copies_that_are_wanted(photos: Path, tmp_path: Path) -> None:
    split(photos, tmp_path / "linked")
    with pytest.raises(DataError, match="is there already with links, not copies"):
        split(photos, tmp_path / "linked", mode="copy")
    split(photos, tmp_path / "copied", mode="copy")
    assert all(split(photos, tmp_path / "copied", mode=mode).was_there for mode in ("copy", "link", "list"))
    for make in (shuffle_labels, trim_borders):
        made = tmp_path / make.__name__
        source = tmp_path / "linked"
        if make is trim_borders:
            source = tmp_path / "pages"
            source.mkdir()
            Image.new("L", (4, 4)).save(source / "black.png")
        make(source, made)
        assert make(source, made).was_there
        with pytest.raises(DataError, match="is there already with links, not copies"):
            make(source, made, mode="copy")


@pytest.mark.parametrize(
    "changed",
    [
        {"checks": {}},
        {"checks": {"identical_in_two_parts": 0, "identical_samples": 0}},
        {"parts": {"train": {"samples": ["ant/w0/page.0.png"]}}, "folders": {"train": ["train"]}},
        {"options": {"merge": False}},
        {"parts": 3},
    ],
)
def test_a_forged_record_is_one_line_wherever_it_lies(photos: Path, tmp_path: Path, changed: dict[str, Any]) -> None:
    record = staging.sealed({**split(photos, tmp_path / "out", mode="list").record, **changed})
    (tmp_path / "out/split.json").write_bytes(staging.as_bytes(record))
    with pytest.raises(RecordError, match=r"is no split\.json of diva split, or a damaged one"):
        splits.like(photos, tmp_path / "like", tmp_path / "out/split.json")
    with pytest.raises(RecordError, match=r"is no split\.json of diva split, or a damaged one"):
        split(photos, tmp_path / "out")


@pytest.mark.parametrize(
    ("out", "kind", "said"),
    [
        ("photos/out", UsageError, "is inside"),
        ("photos/ant/../out", UsageError, "is inside"),
        ("photos", UsageError, "is the data set itself"),
        (".", UsageError, "is around"),
        ("file", DataError, "is a file"),
        ("mine", DataError, "holds files, but no split.json"),
        ("file/out", DataError, "cannot be written"),
    ],
)
def test_no_file_of_anyone_is_put_at_risk(
    photos: Path, tmp_path: Path, out: str, kind: type[Exception], said: str
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter").write_text("mine")
    before = content(tmp_path)
    with pytest.raises(kind, match=said):
        split(photos, tmp_path / out)
    assert content(tmp_path) == before


# --- Whole or not at all -----------------------------------------------------------------------------------------------


def in_a_child(run: Any) -> int | None:
    child = multiprocessing.get_context("fork").Process(target=run)
    child.start()
    child.join(60)
    return child.exitcode


@pytest.mark.parametrize("after", [0, 1, 40, 85])
def test_a_killed_split_leaves_nothing_and_is_made_anew(photos: Path, tmp_path: Path, after: int) -> None:
    split(photos, tmp_path / "whole")

    def killed() -> None:
        def place(number: int, total: int) -> None:
            if number > after:
                os.kill(os.getpid(), signal.SIGKILL)

        split(photos, tmp_path / "out", placing=place)

    assert in_a_child(killed) == -signal.SIGKILL
    assert not (tmp_path / "out").exists() and len(list(tmp_path.glob(".out.partial-*"))) == 1
    split(photos, tmp_path / "out")
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert not list(tmp_path.glob(".*"))


def test_an_interrupted_split_leaves_nothing(photos: Path, tmp_path: Path) -> None:
    def interrupted(number: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        split(photos, tmp_path / "out", placing=interrupted)
    assert listed(tmp_path) == ["photos"]


def test_two_at_once_both_succeed(photos: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    inside, going, outcomes = context.Event(), context.Event(), context.Queue()

    def first() -> None:
        def place(number: int, total: int) -> None:
            inside.set()
            assert going.wait(30)

        outcomes.put(split(photos, tmp_path / "out", placing=place).was_there)

    def second() -> None:
        assert inside.wait(30)
        going.set()  # from here on the first one may end, or still be at work
        outcomes.put(split(photos, tmp_path / "out").was_there)

    children = [context.Process(target=run) for run in (first, second)]
    for child in children:
        child.start()
    assert sorted(outcomes.get(timeout=60) for _ in children) == [False, True]
    for child in children:
        child.join(60)
    assert listed(tmp_path) == ["out", "photos"]


def test_a_folder_that_a_living_process_makes_is_waited_for(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    answers = context.Queue()

    def build() -> None:
        try:
            staging.build(tmp_path / "out", staging.Contents(texts={"a": b"b"}), "copy")
        except FileExistsError:
            answers.put("was there")

    with staging.appearing(tmp_path / "out") as place:
        (place / "a").write_text("a")
        child = context.Process(target=build)
        child.start()
        child.join(1)
        assert child.is_alive() and (place / "a").read_text() == "a"
    assert answers.get(timeout=60) == "was there"
    child.join(60)
    assert (tmp_path / "out/a").read_text() == "a" and listed(tmp_path) == ["out"]
