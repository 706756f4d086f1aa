"""What a run is applied to: all images and rows are found, in one order, with the labels that folders and tables give."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from diva.data.unseen import find_clips, find_images, find_points, find_texts
from diva.errors import DataError


def put(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(folder / name)
    return folder


def test_class_folders_give_labels_in_the_order_of_names(tmp_path: Path) -> None:
    found = find_images(put(tmp_path, "b/1.png", "a/x/2.png", "a-b/3.png", "a/1.png"))
    assert found.names == ("a-b/3.png", "a/1.png", "a/x/2.png", "b/1.png")  # "-" comes before "/"
    assert found.labels == ("a-b", "a", "a", "b")


def test_an_image_outside_of_all_folders_means_that_none_is_labelled(tmp_path: Path) -> None:
    found = find_images(put(tmp_path, "b/1.png", "1.png"))
    assert found.names == ("1.png", "b/1.png") and found.labels == ()


def test_the_description_says_that_folders_are_no_classes(tmp_path: Path) -> None:
    put(tmp_path, "b/1.png", "a/1.png")
    (tmp_path / "dataset.yaml").write_text("layout: images\n")
    assert find_images(tmp_path).labels == ()


def test_several_labels_of_an_image_are_all_found(tmp_path: Path) -> None:
    put(tmp_path / "images", "1.png", "2.png")
    (tmp_path / "labels.csv").write_text("image,cat,dog\n2.png,1,1\n1.png,0,0\n")
    found = find_images(tmp_path)
    assert found.names == ("images/1.png", "images/2.png") and found.labels == ((), ("cat", "dog"))


@pytest.mark.parametrize(
    ("names", "told"), [((), "no layout is recognised"), (("data/1.png", "gt/1.png"), "give the folder of the")]
)
def test_what_holds_no_images_is_refused(tmp_path: Path, names: tuple[str, ...], told: str) -> None:
    with pytest.raises(DataError, match=told):
        find_images(put(tmp_path, *names))


def test_points_are_found_by_their_columns_with_labels_or_without(tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("note,y,label,x\nhello,2,a,1\n,4.5,b,-3\n")
    found = find_points(tmp_path, ["x", "y"])
    assert found == (((1.0, 2.0), (-3.0, 4.5)), ("points.csv:2", "points.csv:3"), ("a", "b"))
    (tmp_path / "points.csv").write_text("x,y\n1,2\n")
    assert find_points(tmp_path, ["y"]) == (((2.0,),), ("points.csv:2",), ())


def test_points_without_a_column_or_a_number_are_refused(tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("x,y\n1,2\n1,nan\n")
    with pytest.raises(DataError, match=r"points.csv: has no column z; the run was trained on x, z"):
        find_points(tmp_path, ["x", "z"])
    with pytest.raises(DataError, match=r"row 3 has a cell that is no finite number: 1,nan"):
        find_points(tmp_path, ["y"])
    (tmp_path / "points.csv").write_text("x,y\n1,2\n\n1,nan\n")
    with pytest.raises(DataError, match=r"row 4 has a cell that is no finite number: 1,nan"):
        find_points(tmp_path, ["y"])
    assert find_points(tmp_path, ["x"]).names == ("points.csv:2", "points.csv:4")
    with pytest.raises(DataError, match=r"has no points.csv; the run was trained on points, the columns x, z"):
        find_points(tmp_path.parent, ["x", "z"])
    assert find_points(tmp_path, ["x"]).features == ((1.0,), (1.0,))


def test_texts_are_rows_or_files_with_or_without_labels(tmp_path: Path) -> None:
    table = tmp_path / "texts.csv"
    table.write_text('text\nfirst\n"second, long"\n')
    assert find_texts(tmp_path) == (("first", "second, long"), ("texts.csv:2", "texts.csv:3"), ())
    table.write_text("text,label\nfirst,a\n")
    assert find_texts(tmp_path) == (("first",), ("texts.csv:2",), ("a",))
    table.write_text('text\nfirst\n\n"second,\n\nlong"\nthird\n')
    assert find_texts(tmp_path).names == ("texts.csv:2", "texts.csv:4", "texts.csv:5")  # as a spreadsheet counts rows
    table.unlink()
    for name in ("b/2.txt", "b/x/1.txt", "a/3.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert find_texts(tmp_path) == (("a/3.txt", "b/2.txt", "b/x/1.txt"),) * 2 + (("a", "b", "b"),)
    (tmp_path / "0.txt").write_text("alone")
    assert find_texts(tmp_path).labels == ()
    with pytest.raises(DataError, match=r"neither texts\.csv nor a \.txt file"):
        find_texts(put(tmp_path / "images", "1.png"))


def test_clips_in_class_folders_are_labelled_and_files_of_frames_beside_each_other_are_not(tmp_path: Path) -> None:
    labelled = put(tmp_path / "labelled", "b/clip/1.png", "b/clip/2.png", "a/clip/1.png", "b-c/x.gif")
    found = find_clips(labelled)
    assert found.names == ("a/clip", "b-c/x.gif", "b/clip") and found.labels == ("a", "b-c", "b")
    assert found.files[2] == (labelled / "b/clip/1.png", labelled / "b/clip/2.png")
    found = find_clips(put(tmp_path / "plain", "2.gif", "1.webp"))
    assert found.names == ("1.webp", "2.gif") and found.labels == ()
