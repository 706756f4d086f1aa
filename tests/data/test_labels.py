"""Random labels: for training samples only, a function of the seed, recorded; val, test and the originals stay true."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from diva.data import layouts
from diva.data.labels import shuffle_labels
from diva.data.layouts.class_folders import read_image_folders
from diva.errors import DataError, UsageError

CLASSES = ("ant", "bee", "cow")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Images of one name in all classes and splits, whose content says what they are."""
    for split, n in (("train", 30), ("val", 6), ("test", 6)):
        for label in CLASSES:
            for i in range(n):
                path = tmp_path / "photos" / split / label / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{split} {label} {i}")
    return tmp_path / "photos"


def content(root: Path) -> dict[str, tuple[int, bytes]]:
    return {
        path.relative_to(root).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def labels(out: Path) -> dict[str, dict[str, str]]:
    """The class of each image by its content, per split."""
    return {
        split: {s.files(i)[0].read_text(): s.classes[s.targets(i)[0]] for i in range(len(s))}
        for split, s in layouts.read_splits(out).items()
    }


def wrong(found: dict[str, str]) -> int:
    return sum(text.split()[1] != label for text, label in found.items())


def test_labels_of_train_are_random_and_those_of_val_and_test_true(photos: Path, tmp_path: Path) -> None:
    made = shuffle_labels(photos, tmp_path / "out")
    found = labels(tmp_path / "out")
    assert {split: len(samples) for split, samples in found.items()} == {"train": 90, "val": 18, "test": 18}
    assert wrong(found["val"]) == wrong(found["test"]) == 0
    assert 45 <= wrong(found["train"]) == made.record["n_changed"] <= 75, "two of three, give or take"
    assert {text.split()[0] for text in found["val"]} == {"val"}


def test_the_originals_are_as_they_were(photos: Path, tmp_path: Path) -> None:
    before = content(photos)
    shuffle_labels(photos, tmp_path / "out")
    shuffle_labels(photos, tmp_path / "copies", mode="copy")
    assert content(photos) == before
    assert {path.stat().st_nlink for path in (tmp_path / "copies").rglob("*.png")} == {1}


def test_images_are_linked_unless_copies_are_asked_for(photos: Path, tmp_path: Path) -> None:
    shuffle_labels(photos, tmp_path / "out")
    assert all(path.stat().st_nlink == 2 for path in (tmp_path / "out").rglob("*.png"))


def test_permuted_labels_keep_the_size_of_every_class(photos: Path, tmp_path: Path) -> None:
    shuffle_labels(photos, tmp_path / "out", share=0.5)
    assert Counter(labels(tmp_path / "out")["train"].values()) == dict.fromkeys(CLASSES, 30)


def test_only_the_share_asked_for_becomes_random_and_each_is_recorded(photos: Path, tmp_path: Path) -> None:
    made = shuffle_labels(photos, tmp_path / "out", share="1/3", how="redraw")
    record = made.record["labels"]
    assert len(record) == 30 == made.record["n_chosen"]
    now = labels(tmp_path / "out")["train"]
    for text, label in now.items():
        _, true, number = text.split()
        assert record.get(f"{true}/{number}.png", [[true], [label]]) == [[true], [label]]
    assert 8 <= wrong(now) <= 28


def test_a_class_that_a_draw_empties_is_still_one_for_a_run(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        for label in CLASSES:
            path = tmp_path / "few" / split / label / "1.png"
            path.parent.mkdir(parents=True)
            path.write_text(f"{split} {label} 1")
    for seed in range(9):
        shuffle_labels(tmp_path / "few", tmp_path / f"{seed}", how="redraw", seed=seed)
        read = read_image_folders(tmp_path / f"{seed}")
        assert {part.classes for part in read.values()} == {CLASSES} and read["val"].counts() == [1, 1, 1]
    assert any(0 in read_image_folders(tmp_path / f"{seed}")["train"].counts() for seed in range(9))


def test_the_seed_decides_and_nothing_else(photos: Path, tmp_path: Path) -> None:
    one = shuffle_labels(photos, tmp_path / "a", seed=1)
    assert shuffle_labels(photos / "..//photos", tmp_path / "b", seed=1).record == one.record
    assert shuffle_labels(photos, tmp_path / "c", seed=2).record["labels"] != one.record["labels"]
    assert {n: c for n, (_, c) in content(tmp_path / "a").items()} == {
        n: c for n, (_, c) in content(tmp_path / "b").items()
    }


def test_the_same_command_again_verifies_and_another_is_refused(photos: Path, tmp_path: Path) -> None:
    shuffle_labels(photos, tmp_path / "out")
    before = content(tmp_path / "out")
    assert shuffle_labels(photos, tmp_path / "out").was_there
    assert content(tmp_path / "out") == before
    with pytest.raises(DataError, match=r'share "1", now "1/2"'):
        shuffle_labels(photos, tmp_path / "out", share=0.5)
    next((tmp_path / "out").rglob("*.png")).unlink()
    with pytest.raises(DataError, match="1 removed"):
        shuffle_labels(photos, tmp_path / "out")


def test_rows_texts_clips_and_several_labels_are_shuffled_too(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        for i in range(12):
            for name, text in (
                (f"texts/{split}/{'ab'[i % 2]}/{i}.txt", str(i)),
                (f"clips/{split}/{'ab'[i % 2]}/same{i // 2}/0.png", str(i)),
                (f"multi/{split}/images/{i}.png", str(i)),
            ):
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / name).write_text(text)
        (tmp_path / "points" / split).mkdir(parents=True)
        (tmp_path / "points" / split / "points.csv").write_text(
            "x,label\n" + "".join(f"{i},{i % 2}\n" for i in range(12))
        )
        rows = "".join(f"{i}.png,{i % 2},{int(i % 3 == 0)}\n" for i in range(12))
        (tmp_path / "multi" / split / "labels.csv").write_text(f"image,p,q\n{rows}")
    for name in ("texts", "clips", "multi", "points"):
        layout = "clips" if name == "clips" else None
        made = shuffle_labels(tmp_path / name, tmp_path / f"{name}-random", layout=layout, seed=3)
        true, now = layouts.read_splits(tmp_path / name, layout), layouts.read_splits(tmp_path / f"{name}-random")
        assert [len(samples) for samples in now.values()] == [12, 12, 12]

        def all_targets(samples: layouts.Samples) -> list[tuple[int, ...]]:
            return [samples.targets(i) for i in range(len(samples))]

        assert Counter(all_targets(true["train"])) == Counter(all_targets(now["train"]))
        assert all_targets(true["val"]) == all_targets(now["val"])
        assert made.record["n_changed"] > 0


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"share": 0}, UsageError, "more than 0, at most 1"),
        ({"share": "half"}, UsageError, "is no number"),
        ({"share": "1e-999999999"}, UsageError, "is no number"),
        ({"out": "photos/out"}, UsageError, "is inside"),
    ],
)
def test_what_makes_no_sense_is_refused(
    photos: Path, tmp_path: Path, options: dict[str, Any], kind: type[Exception], said: str
) -> None:
    out = tmp_path / options.pop("out", "out")
    with pytest.raises(kind, match=said):
        shuffle_labels(photos, out, **options)


def test_data_without_splits_or_labels_are_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no train/; only training labels become random"):
        shuffle_labels(photos / "val", tmp_path / "out")
    for split in ("train", "val"):
        (tmp_path / "images" / split).mkdir(parents=True)
        (tmp_path / "images" / split / "1.png").write_text("1")
    with pytest.raises(UsageError, match="images have no label"):
        shuffle_labels(tmp_path / "images", tmp_path / "out")
