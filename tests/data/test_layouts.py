"""Layouts: what is read from a folder, in which order, and how each thing that does not fit is refused."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from diva.data import layouts
from diva.data.layouts import Samples, clips, describe, detect, is_split, layout_of, read_splits, read_whole
from diva.data.layouts.class_folders import read_image_folders
from diva.data.layouts.writing import as_yaml
from diva.data.yaml_files import read_yaml
from diva.errors import DataError, DivaError, UsageError


def fill(root: Path, *names: str, **tables: str) -> Path:
    """Files whose content is their name; a name that ends in `/` is an empty folder; tables by their stem."""
    for name in names:
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_bytes(os.fsencode(name))
    for stem, text in tables.items():
        root.mkdir(parents=True, exist_ok=True)
        (root / f"{stem}.{'yaml' if stem == 'dataset' else 'csv'}").write_text(text)
    return root


def everything(samples: Samples, root: Path) -> list[tuple[str, tuple[int, ...], tuple[str, ...]]]:
    """(name, classes, files) of every sample."""
    return [
        (samples.name(i), samples.targets(i), tuple(path.relative_to(root).as_posix() for path in samples.files(i)))
        for i in range(len(samples))
    ]


def test_a_run_reads_the_classes_that_all_other_commands_read(tmp_path: Path) -> None:
    names = [f"{split}/{label}/1.png" for split in ("train", "val", "test") for label in ("ant", "bee")]
    folder = fill(tmp_path, *names, "test/cow/1.png", dataset="classes: [cow, bee, ant]\n")
    read = read_image_folders(folder)
    assert read == read_splits(folder) and read["train"].classes == ("cow", "bee", "ant")
    assert read["train"].counts() == [0, 1, 1]


def test_a_class_that_no_record_of_a_run_can_name_is_refused(tmp_path: Path) -> None:
    names = [
        f"{split}/{os.fsdecode(label)}/1.png" for split in ("train", "val", "test") for label in (b"a", b"caf\xe9")
    ]
    folder = fill(tmp_path, *names)
    with pytest.raises(
        DataError, match=r"train: the class .*caf.* has a name that is not UTF-8; rename its folder"
    ) as refused:
        read_image_folders(folder)
    str(refused.value).encode()
    assert len(read_splits(folder)["train"]) == 2


MULTI = {"labels": "image,sun,sea\nx/2.png,0,1\n10.png,1,1\nx/1.jpg,0, 0\n"}
POINTS = {"points": "x,y,label\n1,2e3,10\n-.5,0,9\n3,4,10\n"}
TEXTS = {"texts": 'text,label\n"one, ""two""\nthree",spam\nFünf,ham\n'}
LAYOUTS: dict[str, tuple[tuple[str, ...], dict[str, str], tuple[str, ...], list[tuple[Any, ...]]]] = {
    "class folders": (
        ("b/2.png", "b/10.JPG", "a/deep/er/x.y.tif", "a/notes.md", "a/.hidden.png", ".cache/c.png", "a/Thumbs.db"),
        {},
        ("a", "b"),
        [("a/deep/er/x.y.tif", (0,)), ("b/10.JPG", (1,)), ("b/2.png", (1,))],
    ),
    "pairs": (
        ("data/b.1.jpg", "gt/b.1.png", "data/sub/a.png", "gt/sub/a.gif"),
        {},
        (),
        [("data/b.1.jpg", (), ("data/b.1.jpg", "gt/b.1.png")), ("data/sub/a.png", (), ("data/sub/a.png", "gt/sub/a.gif"))],
    ),
    "multi label": (
        ("images/x/1.jpg", "images/x/2.png", "images/10.png"),
        MULTI,
        ("sun", "sea"),
        [("images/10.png", (0, 1)), ("images/x/1.jpg", ()), ("images/x/2.png", (1,))],
    ),
    "points": ((), POINTS, ("9", "10"), [("points.csv:2", (1,), ()), ("points.csv:3", (0,), ()), ("points.csv:4", (1,), ())]),
    "texts": ((), TEXTS, ("ham", "spam"), [("texts.csv:2", (1,), ()), ("texts.csv:3", (0,), ())]),
    "clips": (
        ("run/b/1.png", "run/b/10.png", "run/b/2.png", "jump/c.gif", "jump/a.d/f.png", "jump/z.webp", "jump/y/0.jpg"),
        {},
        ("jump", "run"),
        [
            ("jump/a.d", (0,), ("jump/a.d/f.png",)),
            ("jump/c.gif", (0,), ("jump/c.gif",)),
            ("jump/y", (0,), ("jump/y/0.jpg",)),
            ("jump/z.webp", (0,), ("jump/z.webp",)),
            ("run/b", (1,), ("run/b/1.png", "run/b/2.png", "run/b/10.png")),
        ],
    ),
    "images": (("b.png", "a.PNG", "B.webp"), {}, (), [("B.webp", ()), ("a.PNG", ()), ("b.png", ())]),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_sample_is_read_with_its_classes_and_files_in_order(tmp_path: Path, layout: str) -> None:
    names, tables, classes, expected = LAYOUTS[layout]
    for folder in (tmp_path / "whole", *(tmp_path / "split" / name for name in layouts.SPLITS)):
        fill(folder, *names, **tables)
    wanted = "clips" if layout == "clips" else None
    whole = read_whole(tmp_path / "whole", wanted)
    full = [(*sample, (sample[0],))[:3] for sample in expected]
    assert everything(whole, tmp_path / "whole") == full
    assert whole.classes == classes
    splits = read_splits(tmp_path / "split", wanted)
    assert list(splits) == ["train", "val", "test"]
    for name, samples in splits.items():
        assert everything(samples, tmp_path / "split" / name) == full
        assert samples.classes == classes


@pytest.mark.parametrize("layout", sorted(set(LAYOUTS) - {"clips"}))
def test_the_layout_is_recognised_in_a_whole_and_in_a_split_folder(tmp_path: Path, layout: str) -> None:
    names, tables, _, _ = LAYOUTS[layout]
    assert detect(fill(tmp_path / "whole", *names, **tables)) == layout
    fill(tmp_path / "split/train", *names, **tables)
    assert layout_of(tmp_path / "split") == layout
    assert layout_of(tmp_path, layout.replace(" ", "-")) == layout_of(tmp_path, layout.replace(" ", "_")) == layout


def test_text_files_in_class_folders_are_texts_unless_there_are_images(tmp_path: Path) -> None:
    texts = fill(tmp_path / "texts", "a/1.txt", "b/sub/2.TXT")
    assert detect(texts) == "texts"
    assert everything(read_whole(texts), texts) == [
        ("a/1.txt", (0,), ("a/1.txt",)),
        ("b/sub/2.TXT", (1,), ("b/sub/2.TXT",)),
    ]
    assert detect(fill(tmp_path / "images", "a/1.png", "a/README.txt", "b/2.png")) == "class folders"


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    vehicles = fill(tmp_path / "vehicles", "bus/1.png", "car/1.png", "train/1.png")
    assert not is_split(vehicles)
    assert read_whole(vehicles).classes == ("bus", "car", "train")
    assert is_split(fill(tmp_path / "a", "train/x/1.png")) and is_split(
        fill(tmp_path / "b", "train/x/1.png", "val/", "more/")
    )


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("train", "validation", "test"), "validation: looks like a split, but splits are called train, val, test: rename it to val"),
        (("train", "valid"), "valid: looks like a split, but splits are called train, val, test: rename it to val"),
        (("train", "val", "Test"), "Test: looks like a split, but splits are called train, val, test: rename it to test"),
        (("train", "val", "dev"), "dev: looks like a split, but splits are called train, val, test: move what is in it into val/"),
        (("Train", "Test"), "Test: looks like a split, but splits are called train, val, test: rename it to test"),
    ],
)  # fmt: skip
def test_a_split_of_another_name_is_no_class_and_is_not_left_out(
    tmp_path: Path, names: tuple[str, ...], said: str
) -> None:
    fill(tmp_path, *(f"{name}/{label}/1.png" for name in names for label in "ab"))
    for read in (is_split, layout_of, read_splits):
        if read is not read_splits or "val" not in names:
            with pytest.raises(DataError, match=re.escape(said)):
                read(tmp_path)
    fill(tmp_path, dataset=f"classes: [{', '.join(names)}]")
    is_split(tmp_path)


def test_files_that_are_in_no_sample_are_found(tmp_path: Path) -> None:
    fill(
        tmp_path,
        "a/1.png",
        "a/1.jfif",
        "a/Thumbs.db",
        "b/1.png",
        "b/.hidden/2.tga",
        "é.png",
        "z.tga",
        "README.txt",
        "LICENSE",
        dataset="{}",
    )
    samples = read_whole(tmp_path)
    used = {path.relative_to(tmp_path).as_posix() for i in range(len(samples)) for path in samples.files(i)}
    assert layouts.unused_files(tmp_path, used) == ["a/1.jfif", "z.tga", "é.png"]
    assert layouts.unused_files(tmp_path, used, ["a/1.png", "c", "b"]) == ["b", "c"]


class Backwards(list[Any]):
    """What lies in a folder, in an order that no system has."""

    def __init__(self, listing: Any) -> None:
        super().__init__(sorted(listing, key=lambda entry: str(entry.name), reverse=True))

    def __next__(self) -> Any:
        if not self:
            raise StopIteration
        return self.pop(0)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_order_is_that_of_the_bytes_whatever_dataset_yaml_and_the_system_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a b/1.png", "a/1.png", "a/2.png", "a/a.png", "é/1.png", "Z/1.png", "a/10.png", "a/B.png"]
    root = fill(tmp_path, *names, dataset="classes: [é, a, Z, a b]")
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: Backwards(scandir(path)))
    samples = read_whole(root)
    assert [name for name, _, _ in everything(samples, root)] == sorted(names, key=os.fsencode)
    assert samples.classes == ("é", "a", "Z", "a b")
    assert {name: samples.classes[label] for name, (label,), _ in everything(samples, root)} == {
        name: name.split("/")[0] for name in names
    }


def test_labels_that_are_one_number_written_twice_have_one_order(tmp_path: Path) -> None:
    fill(
        tmp_path,
        points="x,label\n" + "".join(f"1,{label}\n" for label in ("1", "01", "001", "10", "2", "b", "-1", "a")),
    )
    code = f"from pathlib import Path; from diva.data.layouts import read_whole; print(read_whole(Path({str(tmp_path)!r})).classes)"
    seen = {
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": str(seed)}, capture_output=True, text=True).stdout
        for seed in range(4)
    }  # fmt: skip
    assert seen == {"('001', '01', '1', '2', '10', '-1', 'a', 'b')\n"}


def test_a_class_that_a_split_lacks_keeps_its_number(tmp_path: Path) -> None:
    fill(tmp_path, "train/a/1.png", "train/b/1.png", "train/c/1.png", "val/c/1.png", "test/b/1.png")
    splits = read_splits(tmp_path)
    assert [samples.classes for samples in splits.values()] == [("a", "b", "c")] * 3
    assert [splits[name].targets(0) for name in ("val", "test")] == [(2,), (1,)]
    fill(tmp_path, dataset="classes: [z, c, b, a]")
    assert read_splits(tmp_path)["val"].targets(0) == (1,)


def test_a_class_of_too_many_is_told_of_the_list_that_lacks_it(tmp_path: Path) -> None:
    fill(tmp_path, "train/a/1.png", "val/b/1.png")
    with pytest.raises(DataError, match=r"val/b: this class has no folder in train/; its classes are a$"):
        read_splits(tmp_path, required=())
    fill(tmp_path, "train/b/1.png", dataset="classes: [a]")
    with pytest.raises(DataError, match=r"train/b: dataset\.yaml does not list this class; its classes are a\. "):
        read_splits(tmp_path, required=())


def test_only_the_splits_that_are_required_must_be_there(tmp_path: Path) -> None:
    fill(tmp_path, "train/a/1.png")
    assert list(read_splits(tmp_path, required=("train",))) == ["train"]
    with pytest.raises(
        DataError, match=r"has no folder val, test; .* no val and no test part: make it again with --val and --test,"
    ):
        read_splits(tmp_path)
    with pytest.raises(DataError, match=r"has no folder train, val, test; .* diva split .*/train --to NEW_FOLDER$"):
        read_splits(tmp_path / "train")


def test_links_count_unless_they_lead_back(tmp_path: Path) -> None:
    fill(tmp_path / "far", "c/1.png")
    fill(tmp_path / "in", "a/1.png")
    (tmp_path / "in/b").symlink_to(tmp_path / "far/c")
    assert [name for name, _, _ in everything(read_whole(tmp_path / "in"), tmp_path / "in")] == ["a/1.png", "b/1.png"]
    (tmp_path / "in/a/again").symlink_to(tmp_path / "in")
    with pytest.raises(DataError, match=r"a/again: a link that leads back to a folder above it"):
        read_whole(tmp_path / "in")


def test_a_folder_that_cannot_be_read_is_no_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a/1.png", "a/closed/2.png")
    scandir = os.scandir

    def refused(path: Any) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(DataError, match=r"closed: cannot be read \(Permission denied\)"):
        read_whole(tmp_path)


def test_a_long_text_is_read_whole(tmp_path: Path) -> None:
    before = csv.field_size_limit(131072)
    try:
        samples = read_whole(fill(tmp_path, texts=f"text,label\n{'x' * 200_000},a\n"))
        assert len(samples.texts[0]) == 200_000  # type: ignore[attr-defined]
    finally:
        csv.field_size_limit(before)


def test_texts_are_utf_8_with_or_without_a_mark(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.txt")
    (tmp_path / "a/1.txt").write_bytes(b"\xef\xbb\xbfh\xc3\xa9")
    assert read_whole(tmp_path).texts == ("hé",)  # type: ignore[attr-defined]


def test_the_frames_of_a_clip_come_in_time(tmp_path: Path) -> None:
    place = fill(tmp_path, *(f"a/clip/f{i}.png" for i in (0, 1, 2, 9, 10, 11, 100)), "a/clip/f2b.png")
    (_, _, files) = everything(read_whole(place, "clips"), place)[0]
    assert [Path(name).stem for name in files] == ["f0", "f1", "f2", "f2b", "f9", "f10", "f11", "f100"]


def test_frames_in_one_file_are_decoded_one_after_the_other(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (2, 2), (60 * i, 0, 0)) for i in range(3)]
    frames[0].save(tmp_path / "clip.gif", save_all=True, append_images=frames[1:])
    assert [frame.getpixel((0, 0)) for frame in clips.frames_of((tmp_path / "clip.gif",))] == [
        (0, 0, 0),
        (60, 0, 0),
        (120, 0, 0),
    ]
    (tmp_path / "bad.png").write_text("no image")
    with pytest.raises(DataError, match=r"bad.png: cannot be read as an image"):
        list(clips.frames_of((tmp_path / "bad.png",)))


# --- What is refused ---------------------------------------------------------------------------------------------------

REFUSED: list[tuple[str, tuple[str, ...], dict[str, str], str]] = [
    ("class folders", ("a/1.png", "b/"), {}, "b: holds no image; known kinds are .bmp .gif"),
    ("class folders", ("1.png",), {}, "has no class folders, hence no image; expected in/<class>/<image>"),
    ("class folders", ("a/1.png", "b/1.png"), {"dataset": "classes: [a]"}, "b: dataset.yaml does not list this class; its classes"),
    ("class folders", ("a/1.png",), {"dataset": "classes: [a, b, a]"}, "the class 'a' occurs twice"),
    ("pairs", ("data/1.png", "gt/2.png", "data/2.png"), {}, "data/1.png: this image has no mask of the same name in gt/ (1 such)"),
    ("pairs", ("data/1.png", "gt/2.png", "gt/1.png"), {}, "gt/2.png: this mask has no image of the same name in data/ (1 such)"),
    ("pairs", ("data/1.png", "data/1.jpg", "gt/1.png"), {}, "data/1.png: 1.jpg has the same stem; which one is the pair cannot be told"),
    ("pairs", ("data/", "gt/"), {}, "holds no image in data/"),
    ("multi label", ("images/1.png",), {"labels": "file,a\n1.png,1\n"}, "the header must be image,<class>,<class>..., it is file,a"),
    ("multi label", ("images/1.png",), {"labels": "image\n1.png\n"}, "the header must be image,<class>"),
    ("multi label", ("images/1.png",), {"labels": "image,a,a\n1.png,1,1\n"}, "the class 'a' occurs twice"),
    ("multi label", ("images/1.png",), {"labels": "image,a\n1.png,2\n"}, "row 2 has the cell '2'; allowed: 0, 1"),
    ("multi label", ("images/1.png",), {"labels": "image,a\n1.png,1\n1.png,0\n"}, "row 3 lists 1.png again"),
    ("multi label", ("images/1.png",), {"labels": "image,a\n1.png,1\n2.png,0\n"}, "lists 2.png, which is not in images/ (1 such)"),
    ("multi label", ("images/1.png", "images/2.png"), {"labels": "image,a\n1.png,1\n"}, "2.png: is not listed in labels.csv (1 such)"),
    ("multi label", (), {"labels": "image,a\n"}, "has no rows; expected a header and at least one row"),
    ("multi label", ("images/1.png",), {"labels": "image,a\n1.png,1\n", "dataset": "classes: [b]"}, "classes a are not those of train, b"),
    ("points", (), {"points": "x,y\n1,2\n"}, "the header must be <feature>,...,label, it is x,y"),
    ("points", (), {"points": "label\n1\n"}, "the header must be <feature>,...,label"),
    ("points", (), {"points": "x,label\n1,a\nnan,b\n"}, "row 3 has a cell that is no finite number: nan,b"),
    ("points", (), {"points": "x,label\n1,a\ntwo,b\n"}, "row 3 has a cell that is no finite number: two,b"),
    ("points", (), {"points": "x,label\n1,a\n1,2,b\n"}, "row 3 has 3 cells, the header 2"),
    ("points", (), {"points": "x,label\n1,a\n1,b\n", "dataset": "classes: [a]"}, "row 3 has the label 'b', which train does not have"),
    ("texts", (), {"texts": "label,text\na,b\n"}, "the header must be text,label, it is label,text"),
    ("texts", (), {"texts": "text,label\na,b\n", "dataset": "classes: [c]"}, "row 2 has the label 'b', which train does not have"),
    ("texts", (), {"texts": 'text,label\n"a,b\n'}, "cannot be read as a CSV file in UTF-8"),
    ("texts", ("a/1.txt", "b/1.png"), {}, "b: holds no .txt file. Remove the folder or fill it"),
    ("clips", ("a/still.jpg",), {}, "still.jpg: is a still image, not a clip; put the frames of a clip into a folder"),
    ("clips", ("a/clip/", "a/b.gif"), {}, "clip: this clip has no frames"),
    ("clips", ("a/",), {}, "a: holds no clip; expected folders of frames, or .gif .png .tif .tiff .webp files"),
    ("images", ("notes.md",), {}, "holds no image"),
]  # fmt: skip


@pytest.mark.parametrize(("layout", "names", "tables", "said"), REFUSED)
def test_what_does_not_fit_a_layout_is_refused_by_name(
    tmp_path: Path, layout: str, names: tuple[str, ...], tables: dict[str, str], said: str
) -> None:
    folder = fill(tmp_path / "in", *names, **tables)
    with pytest.raises(DataError, match=re.escape(said)) as refused:
        read_whole(folder, layout)
    assert str(refused.value).startswith(str(folder))


def test_every_layout_refuses_something() -> None:
    assert {layout for layout, *_ in REFUSED} == set(layouts.LAYOUTS) == set(LAYOUTS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "is not YAML"),
        ("- a", "must be a mapping"),
        ("lay_out: pairs", "unknown key 'lay_out'; did you mean layout?"),
        ("layout: pear", "layout 'pear' is not known; did you mean pairs?"),
        ("classes: a, b", "classes must be a list"),
        ("colours: [a]", "colours must be a mapping"),
        ("classes: [yes, no]", "the class True is no name; YAML reads yes, no and dates otherwise: put it in quotes"),
        ("classes: [2020-01-01]", "is no name"),
        ("classes: [a, b, a]", "dataset.yaml: the class 'a' occurs twice"),
        ("classes: [1, '1']", "dataset.yaml: the class '1' occurs twice"),
    ],
)
def test_a_description_that_says_what_cannot_be_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=re.escape(said)):
        describe(fill(tmp_path, dataset=text))


def test_a_description_decides_the_layout_and_the_option_over_it(tmp_path: Path) -> None:
    fill(tmp_path, "a/b/1.png", dataset="layout: clips\nclasses: [0, a]\nlicence: CC BY 4.0\n")
    assert layout_of(tmp_path) == "clips" and layout_of(tmp_path, "class folders") == "class folders"
    assert describe(tmp_path).classes == ("0", "a") and describe(tmp_path).about == {"licence": "CC BY 4.0"}
    with pytest.raises(UsageError, match="--layout clip: not known; did you mean clips"):
        layout_of(tmp_path, "clip")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("notes.md", "more.pdf"), "no layout is recognised (more.pdf, notes.md)"),
        (("sub/",), "holds no image"),
        ((), "the folder is empty"),
    ],
)
def test_a_folder_without_samples_is_refused(tmp_path: Path, names: tuple[str, ...], said: str) -> None:
    folder = fill(tmp_path / "in", "./", *names)
    with pytest.raises(DataError, match=re.escape(said)):
        read_whole(folder)


@pytest.mark.parametrize(("name", "said"), [("nowhere", "no such folder"), ("file", "is not a folder")])
def test_what_is_no_folder_is_refused(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DivaError, match=said):
        layout_of(tmp_path / name)


@pytest.mark.parametrize(
    "text", ["notes: 2024-02-30\n", "notes: !!int x\n", "notes: " + "[" * 5000 + "\n", "a: b: c\n"]
)
def test_whatever_is_wrong_with_a_description_is_told_with_its_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"dataset.yaml: is not YAML"):
        describe(fill(tmp_path, dataset=text))


def test_a_description_is_read_as_it_was_written_in_the_spelling_of_json(tmp_path: Path) -> None:
    said: dict[str, Any] = {
        "about": 'Fünf, 5: #1 \U0001f600 \x85\u2028\x7f\ufeff\udcff "quoted"\nnext',
        "classes": ["yes", "1", "null", "~", "2024-01-01", "a: b", ""],
        "notes": {
            "n": 3,
            "x": [0.1, 1e-05, 1e300, -2.5e-07, float("inf"), None, True],
            5: {},
            "when": date(2024, 2, 29),
        },
        "source": {"at": datetime(2024, 2, 29, 1, 2, 3), "bytes": b"\x00\xff"},
    }
    path = tmp_path / "dataset.yaml"
    path.write_bytes(as_yaml(said).encode())
    assert read_yaml(path) == said
    assert as_yaml({"classes": ["Fünf", "6"], "n": 2}) == 'classes: ["Fünf", "6"]\nn: 2\n'
