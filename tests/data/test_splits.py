"""Splits: the originals stay, the same command gives the same bytes, parts are disjoint, and nothing is ever half made."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from diva.data import layouts, splits
from diva.data.splits import Made, like, split
from diva.errors import DataError, RecordError, UsageError
from tests.data.photos import class_folders, content, counts, listed, names, tree


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return class_folders(tmp_path / "photos", ant=50, bee=31, cow=5)


# --- What is divided ---------------------------------------------------------------------------------------------------


def test_every_class_is_divided_in_proportion_and_every_sample_is_in_one_split(photos: Path, tmp_path: Path) -> None:
    made = split(photos, tmp_path / "out")
    assert counts(made) == {"train": [30, 19, 3], "val": [10, 6, 1], "test": [10, 6, 1]}
    read = layouts.read_splits(tmp_path / "out")
    assert {name: len(samples) for name, samples in read.items()} == {"train": 52, "val": 17, "test": 17}
    there = Counter(samples.files(i)[0].read_bytes() for samples in read.values() for i in range(len(samples)))
    assert there == Counter(path.read_bytes() for path in photos.rglob("*.png"))


def test_the_originals_are_as_they_were(photos: Path, tmp_path: Path) -> None:
    before = tree(photos)
    for mode in ("link", "copy", "list"):
        split(photos, tmp_path / mode, mode=mode)
    with pytest.raises(DataError):
        split(photos, tmp_path / "none", ratios={"train": 0.9, "val": 0.05, "test": 0.05})
    shutil.rmtree(tmp_path / "link")
    assert tree(photos) == before


def test_the_same_command_again_verifies_and_changes_nothing(photos: Path, tmp_path: Path) -> None:
    first = split(photos, tmp_path / "out")
    before = tree(tmp_path / "out")
    again = split(photos, tmp_path / "out")
    assert (first.was_there, again.was_there) == (False, True)
    assert tree(tmp_path / "out") == before
    assert listed(tmp_path) == ["out", "photos"]


def test_images_of_one_name_in_folders_of_one_class_are_all_kept(tmp_path: Path) -> None:
    for i in range(12):
        path = tmp_path / "photos" / "ant" / f"film.{i}" / "a.b.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"%d" % i)
    split(tmp_path / "photos", tmp_path / "out")
    assert {path.read_bytes() for path in (tmp_path / "out").rglob("a.b.png")} == {b"%d" % i for i in range(12)}


def test_links_hold_when_made_from_a_relative_path_and_when_all_is_moved(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(source: str, target: str) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refused)
    monkeypatch.chdir(tmp_path)
    split(Path("photos"), Path("made/deep/out"))
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("photos", "made"):
        (tmp_path / name).rename(moved / name)
    linked = list((moved / "made/deep/out").rglob("*.png"))
    assert len(linked) == 86 and all(path.is_symlink() and path.read_bytes() for path in linked)


def test_files_are_linked_or_copied_with_the_same_outcome(photos: Path, tmp_path: Path) -> None:
    split(photos, tmp_path / "linked")
    split(photos, tmp_path / "copied", mode="copy")
    assert content(tmp_path / "linked") == content(tmp_path / "copied")
    assert {path.stat().st_nlink for path in (tmp_path / "linked").rglob("*.png")} == {2}
    assert {path.stat().st_nlink for path in (tmp_path / "copied").rglob("*.png")} == {1}


def test_the_split_depends_on_the_seed_and_the_names_alone(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = split(photos, tmp_path / "out")
    other = class_folders(tmp_path / "copy" / "photos", reverse=True, cow=5, bee=31, ant=50)
    walk = os.walk
    monkeypatch.setattr(os, "walk", lambda *a, **k: ((p, d, f[::-1]) for p, d, f in walk(*a, **k)))
    monkeypatch.chdir(tmp_path / "copy")
    (tmp_path / "alias").symlink_to(other)
    for number, typed in enumerate(("photos/", "../copy/./photos", str(tmp_path / "alias"))):
        assert split(Path(typed), tmp_path / f"out{number}").record == made.record
        assert content(tmp_path / f"out{number}") == content(tmp_path / "out")
    monkeypatch.chdir(other)
    assert split(Path(), tmp_path / "out3").record == made.record
    assert names(split(photos, tmp_path / "other", seed=43), "test") != names(made, "test")
    assert made.record["options"]["seed"] == 42


def test_no_file_names_where_it_was_made(photos: Path, tmp_path: Path) -> None:
    split(photos, tmp_path / "out", kfold=2)
    texts = [path for path in (tmp_path / "out").rglob("*") if path.suffix in (".json", ".yaml")]
    assert len(texts) == 3
    assert not any(str(tmp_path).encode() in path.read_bytes() for path in texts)


def test_files_in_no_split_are_named_but_for_notes(photos: Path, tmp_path: Path) -> None:
    (photos / "README").write_text("notes")
    assert split(photos, tmp_path / "a").warnings == ()
    for name in ("loose.png", "ant/w0/scan.jfif"):
        (photos / name).write_text(name)
    made = split(photos, tmp_path / "b")
    assert made.warnings == (f"{photos}: 2 files are in no sample: ant/w0/scan.jfif, loose.png",)


# --- What is asked for -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratios", "said"),
    [
        ({"train": 0.5, "val": 0.1, "test": 0.1}, "0.5 + 0.1 + 0.1 = 0.7"),
        ({"train": "0.8"}, "must sum to 1"),
        ({"train": "much"}, "--train much: is no number"),
        ({"train": "1/0"}, "is no number"),
        ({"train": "1e-999999999"}, "is no number"),
        ({"train": float("nan")}, "is no number"),
        ({"train": 1.2, "val": -0.2}, "between 0 and 1"),
        ({"val": 0.5, "test": 0.5}, "--train 0"),
        ({"train": 0.5, "dev": 0.5}, "--dev: no such split; allowed: train, val, test"),
    ],
)
def test_ratios_that_make_no_split_are_refused(photos: Path, tmp_path: Path, ratios: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        split(photos, tmp_path / "out", ratios=ratios)
    assert listed(tmp_path) == ["photos"]


def test_thirds_tenths_and_a_split_that_is_not_wanted(photos: Path, tmp_path: Path) -> None:
    assert set(counts(split(photos, tmp_path / "a", ratios={"train": 0.7, "test": 0.3}))) == {"train", "test"}
    assert set(counts(split(photos, tmp_path / "b", ratios={"train": 0.7, "val": 0, "test": 0.3}))) == {"train", "test"}
    thirds = split(photos, tmp_path / "c", ratios=dict.fromkeys(("train", "val", "test"), "1/3"))
    sizes = {part: facts["n_samples"] for part, facts in thirds.record["parts"].items()}
    assert sizes == {"train": 29, "val": 29, "test": 28}
    split(photos, tmp_path / "d", ratios={"train": 0.7, "val": 0.1 + 0.1, "test": 0.1 + 1e-11})
    split(photos, tmp_path / "e", ratios={"train": " 7e-1", "val": "+.2", "test": "1/10"})


def test_a_class_that_would_be_empty_is_refused_and_the_advice_works(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the class cow has 5 samples, and test would get none") as refused:
        split(photos, tmp_path / "out", ratios={"train": 0.8, "val": 0.1, "test": 0.1})
    advised = dict(re.findall(r"--(\w+) ([\d.]+)", str(refused.value).partition("; ")[2]))
    assert set(advised) == {"train", "val", "test"}
    made = split(photos, tmp_path / "out", ratios=advised)
    assert all(all(row) for row in counts(made).values())


def test_sets_of_identical_files_of_many_sizes_are_divided_at_the_usual_ratios(tmp_path: Path) -> None:
    for i in range(7):
        path = tmp_path / "photos/ant" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(min(i, 6) // 3))
    assert sorted(part[0] for part in counts(split(tmp_path / "photos", tmp_path / "out")).values()) == [1, 3, 3]


def test_what_no_ratios_would_mend_is_not_answered_with_the_ratios_given(tmp_path: Path) -> None:
    lines = (
        "013",
        "124",
        "235",
        "346",
        "450",
        "561",
        "602",
    )  # no two colours of the points leave no line of one colour
    for number, line in enumerate(lines):
        for point in line:
            path = tmp_path / f"photos/c{number}/{point}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(point)
    with pytest.raises(DataError, match="no way was found while identical files are kept together") as refused:
        split(tmp_path / "photos", tmp_path / "out", ratios={"train": 0.5, "test": 0.5})
    assert "would do" not in str(refused.value)


def test_a_class_with_fewer_samples_than_splits_is_refused_unless_it_is_allowed(tmp_path: Path) -> None:
    rare = class_folders(tmp_path / "rare", ant=20, elk=1)
    with pytest.raises(DataError, match=r"the class elk has 1 sample, and val and test would get none.* 3 are needed"):
        split(rare, tmp_path / "out")
    made = split(rare, tmp_path / "out", allow_empty=True)
    assert counts(made)["train"][1] == 1
    read = layouts.read_splits(tmp_path / "out")
    assert [samples.classes for samples in read.values()] == [("ant", "elk")] * 3


def test_folds_cover_everything_once_and_share_the_test_split(photos: Path, tmp_path: Path) -> None:
    made = split(photos, tmp_path / "out", kfold=4, ratios={"test": 0.2})
    folds = [layouts.read_splits(tmp_path / "out" / f"fold-{i}") for i in range(4)]
    name = [{split: {s.name(i) for i in range(len(s))} for split, s in fold.items()} for fold in folds]
    assert all(fold["test"] == name[0]["test"] and len(fold["test"]) == 17 for fold in name)
    everything = set().union(*(names(made, part) for part in made.record["parts"]))
    for fold in name:
        assert fold["train"] | fold["val"] | fold["test"] == everything
        assert sum(map(len, fold.values())) == len(everything) == 86
    vals = Counter(sample for fold in name for sample in fold["val"])
    assert set(vals) == everything - name[0]["test"] and set(vals.values()) == {1}


@pytest.mark.parametrize(("kfold", "ratios"), [(1, None), (-2, None), (5, {"val": 0.5}), (3, {"test": 1})])
def test_folds_that_make_no_sense_are_refused(
    photos: Path, tmp_path: Path, kfold: int, ratios: dict[str, Any] | None
) -> None:
    with pytest.raises(UsageError):
        split(photos, tmp_path / "out", kfold=kfold, ratios=ratios)


def test_a_split_without_a_test_part_is_told_and_the_advice_works(photos: Path, tmp_path: Path) -> None:
    folds = split(photos, tmp_path / "folds", kfold=2)
    plain = split(photos, tmp_path / "plain", ratios={"train": 0.8, "val": 0.2})
    for made, folder in ((folds, tmp_path / "folds/fold-0"), (plain, tmp_path / "plain")):
        assert "no test part is made" in made.warnings[0] and "--test 0.2" in made.warnings[0]
        with pytest.raises(DataError, match=r"This split has no test part: make it again with --test, .* --merge"):
            layouts.read_splits(folder)
        split(folder, tmp_path / f"again {folder.name}", merge=True)
    assert split(photos, tmp_path / "more", kfold=2, ratios={"test": 0.2}).warnings == ()


def test_more_folds_than_samples_are_refused_and_the_advice_works(tmp_path: Path) -> None:
    photos = class_folders(tmp_path / "photos", ant=30, bee=7)
    for ratios, most in ((None, 7), ({"test": "1/5"}, 6)):
        with pytest.raises(
            DataError, match=rf"37 samples would leave fold-\d+ without any at .*; at most {most} folds$"
        ):
            split(photos, tmp_path / "out", kfold=50, ratios=ratios)
        split(photos, tmp_path / f"{most}", kfold=most, ratios=ratios)
    with pytest.raises(DataError, match=r"; take fewer folds$"):
        split(photos, tmp_path / "out", kfold=50, allow_empty=True)


# --- Groups and duplicates ---------------------------------------------------------------------------------------------


def writers(made: Made) -> list[set[str]]:
    found = re.compile(r"/(w\d+)/")
    return [{match[1] for name in names(made, part) if (match := found.search(name))} for part in made.record["parts"]]


@pytest.mark.parametrize(
    ("pattern", "first"), [(r"/w(\d+)/", "0"), (r"/(page)?(?P<group>w\d+)/", "w0"), (r"w\d+/", "w0/")]
)
def test_no_group_is_in_two_splits(tmp_path: Path, pattern: str, first: str) -> None:
    photos = class_folders(tmp_path / "photos", ant=50, bee=31, cow=20)
    made = split(photos, tmp_path / "out", by=f"group={pattern}")
    parts = writers(made)
    assert sum(map(len, parts)) == len(set().union(*parts)) == 17
    assert made.record["checks"]["groups_in_two_parts"] == 0
    assert min(group for facts in made.record["parts"].values() for group in facts["groups"]) == first
    assert [len(facts["groups"]) for facts in made.record["parts"].values()] == [len(found) for found in parts]
    sizes = {part: facts["n_samples"] / 101 for part, facts in made.record["parts"].items()}
    assert all(abs(sizes[part] - share) < 0.06 for part, share in {"train": 0.6, "val": 0.2, "test": 0.2}.items())


def test_groups_can_stand_in_a_table(photos: Path, tmp_path: Path) -> None:
    rows = [f"{p.relative_to(photos).as_posix()},{int(p.name.split('.')[1]) % 9}\n" for p in photos.rglob("*.png")]
    table = tmp_path / "who.csv"
    table.write_text("sample,patient\n" + "".join(rows))
    made = split(photos, tmp_path / "out", by=f"group={table}:patient", allow_empty=True)
    assert sum(len(facts["groups"]) for facts in made.record["parts"].values()) == 9
    assert made.record["options"]["by"]["file"] == "who.csv"
    for text, said in (
        ("".join(rows[1:]), "has no patient for 1 of 86"),
        ("".join([*rows, rows[0][:-2] + "x\n"]), "row 88"),
    ):
        table.write_text("sample,patient\n" + text)
        with pytest.raises(DataError, match=said):
            split(photos, tmp_path / "out", by=f"group={table}:patient")
    with pytest.raises(DataError, match="has no column 'writer'"):
        split(photos, tmp_path / "out", by=f"group={table}:writer")


@pytest.mark.parametrize(
    ("by", "kind", "said"),
    [
        ("group=/x(\\d)", DataError, "does not match 86 of 86 samples: ant/w0/page.0.png"),
        ("group=(", UsageError, "is no regular expression"),
        ("writer", UsageError, "allowed: class, group=PATTERN"),
        ("group=png", DataError, "its samples form 1 group"),
        ("group=^...", DataError, "the class cow has 5 samples.*they lie in 1 group, 3 are needed"),
    ],
)
def test_groups_that_cannot_be_told_or_divided_are_refused(
    photos: Path, tmp_path: Path, by: str, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        split(photos, tmp_path / "out", by=by)


def test_identical_files_stay_together_or_are_reported(tmp_path: Path) -> None:
    photos = class_folders(tmp_path / "photos", ant=40, bee=40)
    for i in range(10):
        shutil.copy(photos / "ant" / f"w{i // 3}" / f"page.{i}.png", photos / "ant" / f"again {i}.png")
    shutil.copy(photos / "ant/w0/page.0.png", photos / "bee/other.png")
    kept = split(photos, tmp_path / "kept")
    assert kept.record["checks"]["identical_in_two_parts"] == {"n": 0, "samples": []}
    assert kept.record["checks"]["identical_samples"]["n"] == 10
    assert (
        len(kept.warnings) == 1
        and "1 set of identical samples is of more than one class, as ant/again 0.png, ant/w0/page.0.png, bee/other.png"
        in kept.warnings[0]
    )
    scattered = split(photos, tmp_path / "scattered", duplicates_together=False)
    leaks = scattered.record["checks"]["identical_in_two_parts"]
    assert leaks["n"] == len(leaks["samples"]) > 0
    assert f"{leaks['n']} sets of identical samples are in more than one split" in scattered.warnings[0]


# --- Published splits --------------------------------------------------------------------------------------------------


def test_a_published_list_makes_the_same_split_of_another_copy(photos: Path, tmp_path: Path) -> None:
    split(photos, tmp_path / "out", by=r"group=/w(\d+)/", allow_empty=True)
    split(photos, tmp_path / "list", by=r"group=/w(\d+)/", allow_empty=True, mode="list")
    assert listed(tmp_path / "list") == ["split.json"]
    (tmp_path / "copy").mkdir()
    shutil.copytree(photos, tmp_path / "copy/photos")
    (tmp_path / "copy/photos/README").write_text("not a sample")
    made = like(tmp_path / "copy/photos", tmp_path / "again", tmp_path / "list/split.json")
    assert content(tmp_path / "again") == content(tmp_path / "out")
    assert like(photos, tmp_path / "again", tmp_path / "list/split.json").was_there and not made.was_there


def test_a_copy_that_is_another_is_refused_or_recorded(photos: Path, tmp_path: Path) -> None:
    published = tmp_path / "list/split.json"
    split(photos, tmp_path / "list", mode="list")
    extra = photos / "ant/new.png"
    extra.write_bytes(b"new")
    assert "1 sample not in" in like(photos, tmp_path / "more", published).warnings[0]
    (photos / "ant/w0/page.0.png").write_bytes(b"changed")
    with pytest.raises(DataError, match=r"the names are the same, the content is not.*--allow-changed"):
        like(photos, tmp_path / "out", published)
    made = like(photos, tmp_path / "out", published, allow_changed=True)
    assert made.record["like"]["split"] == splits.read_record(published)["digest"] != made.record["digest"]
    (photos / "ant/w0/page.0.png").unlink()
    with pytest.raises(DataError, match=r"lacks 1 sample that .* names: ant/w0/page.0.png"):
        like(photos, tmp_path / "out", published)
    published.write_text(published.read_text().replace('"seed": 42', '"seed": 41'))
    with pytest.raises(RecordError, match="contradicts its own digest"):
        like(photos, tmp_path / "out", published)


def test_what_is_proved_of_a_changed_copy_is_counted_from_its_files(photos: Path, tmp_path: Path) -> None:
    made = split(photos, tmp_path / "list", mode="list")
    train, test = min(names(made, "train")), min(names(made, "test"))
    (photos / test).write_bytes((photos / train).read_bytes())
    changed = like(photos, tmp_path / "out", tmp_path / "list/split.json", allow_changed=True)
    assert changed.record["checks"]["identical_in_two_parts"] == {"n": 1, "samples": [sorted([train, test])]}
    assert "1 set of identical samples is in more than one split" in changed.warnings[-1]
    assert like(photos, tmp_path / "out", tmp_path / "list/split.json", allow_changed=True).was_there


def test_a_changed_copy_of_a_table_is_counted_anew(tmp_path: Path) -> None:
    table = tmp_path / "points/points.csv"
    table.parent.mkdir()
    rows = [f"{i},{'ab'[i % 2]}\n" for i in range(20)]
    table.write_text("x,label\n" + "".join(rows))
    split(table.parent, tmp_path / "list", mode="list")
    table.write_text("x,label\n" + "".join([*rows[:-1], "19,a\n"]))
    made = like(table.parent, tmp_path / "out", tmp_path / "list/split.json", allow_changed=True)
    assert [sum(column) for column in zip(*counts(made).values(), strict=True)] == [11, 9]
