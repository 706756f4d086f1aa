"""Conversion: images are written bit for bit under their class's name, the same for any number of processes, and nothing is left behind."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path, PurePosixPath

import numpy
import pytest
from PIL import Image

from diva.data import png
from diva.data.catalogue import card
from diva.data.download import conversion
from diva.data.formats import Block, Placed, Text, deal
from diva.errors import DataError
from diva.records.footprint import take
from tests.data import official


@pytest.fixture(autouse=True)
def synced(monkeypatch):
    synced: list[Path] = []
    monkeypatch.setattr(conversion, "sync", synced.append)  # it would wait for what other tests write, too
    return synced


def a_card(**changes):
    return card("cifar10").model_copy(update={"val": None, "classes": ["cat", "dog"], **changes})


def block(n=6, split="train", first=0, shape=(4, 5, 3), classes=2, seed=0):
    return Block(split, official.random_images(n, *shape, seed=seed), numpy.arange(n) % classes, first)


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- PNG ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape", [(1, 1), (28, 28), (32, 32, 3), (1, 65534), (1, 65535), (65535, 1), (300, 400, 3), (96, 96, 3), (2, 1, 3)]
)
def test_pillow_reads_back_every_bit(shape):
    pixels = official.random_images(1, *shape)[0]
    with Image.open(io.BytesIO(png.encode(pixels))) as image:
        image.load()
        assert image.format == "PNG" and image.mode == ("RGB" if len(shape) == 3 else "L")
        assert numpy.array_equal(numpy.asarray(image), pixels)


def test_the_bytes_of_a_png_are_these_whatever_library_compresses():
    assert png.encode(numpy.array([[0, 255]], numpy.uint8)).hex() == (
        "89504e470d0a1a0a"
        "0000000d" "49484452" "00000002" "00000001" "0800000000" "d1492056"
        "0000000e" "49444154" "7801" "010300fcff" "00" "00ff" "01020100" "b7012ef7"
        "00000000" "49454e44" "ae426082"
    )  # fmt: skip


def test_images_of_a_view_are_encoded_as_they_look():
    images = official.random_images(3, 3, 4, 5).transpose(0, 3, 2, 1)
    found = [bytes(file) for file in png.encode_all(images)]
    assert found == [png.encode(numpy.ascontiguousarray(image)) for image in images]


@pytest.mark.parametrize(
    "wrong",
    [numpy.zeros((1, 2, 2), float), numpy.zeros((1, 2, 2, 4), numpy.uint8), numpy.zeros((1, 0, 2), numpy.uint8)],
)
def test_other_images_are_refused(wrong):
    with pytest.raises(DataError, match="images of"):
        list(png.encode_all(wrong))


# --- Blocks ------------------------------------------------------------------------------------------------------------


def test_each_image_is_under_its_split_and_class_with_its_official_index(tmp_path):
    parts = [block(4, first=0), block(3, first=4, seed=1), block(5, "test", seed=2)]
    conversion.write(parts, tmp_path / "out", a_card())
    found = files(tmp_path / "out")
    assert len(found) == 12
    for part in parts:
        for i, (image, label) in enumerate(zip(part.images, part.labels, strict=True)):
            assert found[f"{part.split}/{['cat', 'dog'][label]}/{part.first + i:05}.png"] == png.encode(image)


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_the_number_of_processes_changes_no_byte(tmp_path, monkeypatch, jobs):
    monkeypatch.setattr(conversion, "_WORTH_A_PROCESS", 1)
    parts = [block(50, first=0, classes=7), block(31, first=50, classes=7, seed=1), block(3, "test", classes=1, seed=2)]
    conversion.write(parts, tmp_path / "out", a_card(classes=list("abcdefg"), val=0.2), jobs=jobs)
    assert take(tmp_path / "out").digest == "sha256:8bb46ea5a0d60b3b562242495a763208c1910498cba654559588ed379ac33531"


def test_val_is_the_first_share_of_each_class_by_hash_and_is_moved_not_copied(tmp_path):
    conversion.write(
        [block(20, first=0), block(20, first=20, seed=1), block(4, "test")], tmp_path / "out", a_card(val=0.25)
    )
    found = files(tmp_path / "out")
    assert len(found) == 44  # nothing is there twice, no original_train is left behind
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["test", "train", "val"]
    for label, name in enumerate(("cat", "dog")):
        dealt = deal("cifar10", [i for i in range(40) if i % 2 == label], 0.25)
        for split in ("train", "val"):
            expected = {f"{i:05}.png" for i, where in dealt.items() if where == split}
            assert {p.name for p in (tmp_path / "out" / split / name).iterdir()} == expected


def test_a_class_of_which_val_gets_nothing_has_no_folder_there(tmp_path):
    few = Block("train", official.random_images(7, 4, 5, 3, seed=0), numpy.array([0, 0, 0, 0, 0, 1, 1]), 0)
    conversion.write([few], tmp_path / "out", a_card(val=0.2))
    assert [path.name for path in (tmp_path / "out" / "val").iterdir()] == ["cat"]
    assert all(any(path.iterdir()) for path in (tmp_path / "out").rglob("*") if path.is_dir())


def test_an_official_val_stays_as_it_is(tmp_path):
    conversion.write([block(20), block(4, "val")], tmp_path / "out", a_card(val=0.25))
    assert len(list((tmp_path / "out" / "train").rglob("*.png"))) == 20


def test_images_without_labels_lie_in_their_splits_folder(tmp_path):
    conversion.write([Block("unlabelled", official.random_images(2, 3, 3), None, 5)], tmp_path / "out", a_card())
    assert sorted(files(tmp_path / "out")) == ["unlabelled/00005.png", "unlabelled/00006.png"]


def test_progress_counts_every_file(tmp_path):
    told: list[int] = []
    items = [block(6), Text(PurePosixPath("train/labels.csv"), "a,b\n"), block(2, "test")]
    conversion.write(items, tmp_path / "out", a_card(), progress=told.append)
    assert sum(told) == 9


def test_everything_is_brought_to_the_disk_once_at_the_end(tmp_path, synced):
    conversion.write([block(), block(first=6), Text(PurePosixPath("x.csv"), "")], tmp_path / "out", a_card())
    assert synced == [tmp_path / "out"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_index_that_comes_twice_is_refused(tmp_path, monkeypatch, jobs):
    monkeypatch.setattr(conversion, "_WORTH_A_PROCESS", 1)
    with pytest.raises(DataError, match=r"0000[23].png: two samples would be written to this file"):
        conversion.write([block(4), block(4, first=2)], tmp_path / "out", a_card(), jobs=jobs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ["cat/dog", "b"]}, "'cat/dog' is no safe name"),
        ({"classes": [".cat", "b"]}, "'.cat' is no safe name"),
        ({"classes": ["..", "b"]}, "'..' is no safe name"),
        ({"classes": ["", "b"]}, "'' is no safe name"),
        ({"classes": ["cat\n", "b"]}, "is no safe name"),
        ({"classes": ["cat ", "b"]}, "'cat ' is no safe name"),
        ({"classes": ["Cat", "cAT"]}, "the classes 'Cat' and 'cAT' would share a folder"),
        ({"classes": ["cat", "cat"]}, "a class is named twice"),
        ({"classes": ["cat"]}, "sample 1 of train has label 1; allowed: 0 to 0"),
    ],
)
def test_unsafe_classes_are_refused_before_anything_is_written(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        conversion.write([block()], tmp_path / "out", a_card(**changes))
    assert not files(tmp_path / "out")


def test_labels_that_do_not_fit_the_images_are_refused(tmp_path):
    wrong = Block("train", official.random_images(3, 2, 2), numpy.zeros(2, int))
    with pytest.raises(DataError, match=r"train has 3 images and labels of shape \(2,\)"):
        conversion.write([wrong], tmp_path / "out", a_card())
    with pytest.raises(DataError, match="no split is called 'extra'"):
        conversion.write([block(split="extra")], tmp_path / "out", a_card())


# --- Files -------------------------------------------------------------------------------------------------------------


def placed(archive, *targets):
    return [Placed(PurePosixPath(target), archive, f"m{i}") for i, target in enumerate(targets)]


def an_archive(tmp_path, n=3):
    return official.zipped(tmp_path / "a.zip", {f"m{i}": bytes([i] * 10) for i in range(n)})


def test_members_are_copied_to_their_places(tmp_path):
    archive = an_archive(tmp_path)
    items = [*placed(archive, "train/a.bin", "train/b.bin"), Text(PurePosixPath("train/x.csv"), "ä\n")]
    items.append(Placed(PurePosixPath("test/a.bin"), archive, "m0"))
    conversion.write(items, tmp_path / "out", a_card())
    assert files(tmp_path / "out") == {
        "train/a.bin": bytes(10), "train/b.bin": bytes([1] * 10), "test/a.bin": bytes(10), "train/x.csv": "ä\n".encode(),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["a/x", "a/x"], "two files would be written to a/x"),
        (["a/x", "a/X"], r"two files would be written to a/X \(case is ignored\)"),
        (["a/x", "A/y"], "the folders 'a' and 'A' are one"),
        (["../x"], "'..' is no safe name"),
        (["/etc/x"], "/etc/x is not a place inside"),
        (["a/.hidden"], "'.hidden' is no safe name"),
        (["a/b~"], "'b~' is no safe name"),
        (["a/b\\c"], "is no safe name"),
    ],
)
def test_places_that_are_unsafe_or_taken_are_refused_before_a_copy(tmp_path, targets, message):
    with pytest.raises(DataError, match=message):
        conversion.write(placed(an_archive(tmp_path), *targets), tmp_path / "out", a_card())
    assert not files(tmp_path / "out") and not (tmp_path / "x").exists()


def test_a_member_that_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match="m1"):
        conversion.write(placed(an_archive(tmp_path, n=1), "a", "b"), tmp_path / "out", a_card())


# --- Processes ---------------------------------------------------------------------------------------------------------


def test_a_writer_that_is_killed_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(conversion, "_WORTH_A_PROCESS", 1)
    here = os.getpid()

    def die(*_):
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(conversion, "_write_file", die)
    with pytest.raises(DataError, match=r"ended with exit code -9"):
        conversion.write([block()], tmp_path / "out", a_card(), jobs=2)


SCRIPT = """
import numpy, os, signal, sys
from pathlib import Path
from diva.data.download import conversion
from diva.data.catalogue import card
from diva.data.formats import Block
real = conversion._write_file
def write(*file):
    real(*file)
    print(os.getpid(), flush=True)
    os.read(go_on, 1)
go_on = os.dup(0)
conversion._write_file, conversion._WORTH_A_PROCESS = write, 1
found = card("cifar10").model_copy(update={"classes": ["cat", "dog"]})
images = numpy.zeros((200, 4, 4), numpy.uint8)
conversion.write([Block("train", images, numpy.arange(200) % 2)], Path(sys.argv[1]), found, jobs=2)
"""


def test_writers_end_with_the_process_that_started_them(tmp_path):
    run = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "out")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with run:
        assert run.stdout is not None and run.stdin is not None
        writer = int(run.stdout.readline())
        assert writer != run.pid
        run.kill()
        run.wait()
        run.stdin.write("x" * 400)  # the writers may go on
        run.stdin.close()
        run.stdout.read()  # until they have all ended
    assert 1 <= len(files(tmp_path / "out")) <= 2  # one each
