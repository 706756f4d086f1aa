"""What the footprint of DeepDIVA got wrong, one by one, and this one does not; the numbers are those of its weaknesses in our notes.

In the ancestor a footprint was `footprint.json` inside the data set: paths as typed, SHA-1, folders in the order of the file system, and
the newest modification time as local time in words. A quick check compared that time, a deep one everything.
"""

import json
import os
import shutil
import time

import pytest

from diva.errors import DataError
from diva.records import footprint


@pytest.fixture
def data(tmp_path):
    """A data set of three files, and its footprint."""
    folder = tmp_path / "data" / "toy"
    for name in ("train/a/1.png", "train/b/2.png", "val/3.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    footprint.check(folder)
    return folder


def everything(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def moved_with_footprint(data, target):
    target.parent.mkdir(parents=True)
    shutil.copyfile(footprint.location(data), target.with_name(target.name + footprint.SUFFIX))
    return shutil.copytree(data, target, copy_function=shutil.copyfile)


def test_1_paths_as_typed_somebody_elses_copy_is_verified_however_it_is_spelled(data, tmp_path, monkeypatch):
    copy = moved_with_footprint(data, tmp_path / "else where" / "toy")
    monkeypatch.chdir(copy.parent)
    for spelling in (copy, copy / ".." / "toy", os.path.relpath(copy), "toy/"):
        assert footprint.check(type(copy)(spelling), deep=True)[1] == "verified"
    assert str(tmp_path) not in footprint.location(copy).read_text()


def test_2_times_in_the_comparison_the_same_content_with_other_times_is_the_same(data):
    before = footprint.take(data)
    for path in data.rglob("*.png"):
        os.utime(path, ns=(10**18, 10**18))
    assert footprint.check(data, deep=True)[1] == "verified"
    assert footprint.take(data).digest == before.digest


def test_3_order_of_the_file_system_any_order_gives_the_same(data, monkeypatch):
    expected = footprint.take(data)
    scandir = os.scandir

    class Backwards:
        def __init__(self, path):
            self.listing = scandir(path)

        def __enter__(self):
            return iter(sorted(self.listing, key=lambda entry: entry.name, reverse=True))

        def __exit__(self, *_):
            self.listing.close()

    monkeypatch.setattr(os, "scandir", Backwards)
    assert footprint.take(data) == expected


def test_4_local_time_in_seconds_neither_zone_nor_a_quick_change_fools_a_quick_check(data, monkeypatch):
    stored = footprint.location(data).read_bytes()
    try:
        monkeypatch.setenv("TZ", "Pacific/Chatham")
        time.tzset()
        assert footprint.check(data)[1] == "verified" and footprint.location(data).read_bytes() == stored
    finally:
        monkeypatch.undo()
        time.tzset()
    facts = (data / "val/3.png").stat()
    (data / "val/3.png").write_text("val/4.png")
    os.utime(data / "val/3.png", ns=(facts.st_atime_ns, facts.st_mtime_ns + 1000))  # a microsecond later
    with pytest.raises(DataError, match=r"1 changed \(val/3\.png\)"):
        footprint.check(data)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda folder: (folder / "val/3.png").unlink(), r"1 removed \(val/3\.png\)"),
        (lambda folder: shutil.copy2(folder / "val/3.png", folder / "val/0.png"), r"1 added \(val/0\.png\)"),
        (lambda folder: (folder / "val/3.png").rename(folder / "val/4.png"), r"removed \(val/3\.png\).*added \(val/4"),
    ],
)
def test_5_blind_to_what_is_older_a_quick_check_sees_it(data, change, told):
    change(data)
    with pytest.raises(DataError, match=told):
        footprint.check(data)


def test_5_and_a_deep_check_sees_content_behind_a_restored_time(data):
    facts = (data / "val/3.png").stat()
    (data / "val/3.png").write_text("val/4.png")
    os.utime(data / "val/3.png", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    with pytest.raises(DataError, match=r"1 changed \(val/3\.png\)"):
        footprint.check(data, deep=True)


def test_6_a_first_deep_check_ended_the_program_here_it_creates_the_footprint(data):
    footprint.location(data).unlink()
    assert footprint.check(data, deep=True)[1] == "created"
    assert footprint.check(data, deep=True)[1] == "verified"


def test_7_its_own_files_became_data_here_no_check_writes_into_a_data_set(data, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    footprint.check(data / "train")  # a part of it
    (data / "val/3.png").write_text("changed")
    before = everything(data)
    for _ in range(2):
        with pytest.raises(DataError, match=r"1 changed \(val/3\.png\)\."):
            footprint.check(data)
    assert everything(data) == before
    (data / "val/3.png").write_text("val/3.png")
    assert footprint.check(data, deep=True)[1] == footprint.check(data / "train")[1] == "verified"


def test_8_the_difference_was_two_subtrees_with_added_and_removed_swapped_here_it_names_files(data):
    (data / "train/a/new.png").write_text("new")
    (data / "train/b/2.png").unlink()
    (data / "val/3.png").write_text("other")
    _, outcome, found = footprint.inspect(data)
    assert outcome == "different"
    assert (found.added, found.removed, found.changed) == (("train/a/new.png",), ("train/b/2.png",), ("val/3.png",))


def test_9_everything_counted_here_traces_of_systems_and_editors_do_not(data):
    for name in (".DS_Store", "Thumbs.db", "train/1.png~", "train/.1.png.swp", "val/4.png.part", ".cache/x"):
        (data / name).parent.mkdir(exist_ok=True)
        (data / name).write_text("no data")
    assert footprint.check(data, deep=True)[1] == "verified"


def test_10_links_were_followed_by_half_here_a_change_behind_one_is_seen_and_a_circle_is_an_error(data, tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "5.png").write_text("5")
    (data / "val" / "more").symlink_to(tmp_path / "more")
    footprint.check(data, update=True)
    (tmp_path / "more" / "5.png").write_text("6")
    with pytest.raises(DataError, match=r"1 changed \(val/more/5\.png\)"):
        footprint.check(data)
    (tmp_path / "more" / "circle").symlink_to(data)
    (data / "gone.png").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"gone\.png: a broken link; val/more/circle: a link that leads back"):
        footprint.check(data)


def test_11_it_said_neither_how_it_was_made_nor_how_much_here_it_does(data):
    document = json.loads(footprint.location(data).read_text())
    assert (document["schema"], document["algorithm"], document["n_files"]) == (1, "sha256", 3)
    assert document["n_bytes"] == sum(entry["size"] for entry in document["files"]) == 35
    assert document["digest"] == footprint.take(data).digest


def test_12_read_only_data_could_not_be_used_here_they_are_left_alone(data, tmp_path, monkeypatch):
    footprint.location(data).unlink()
    before = everything(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path.parent / f"{tmp_path.name}-cache"))
    monkeypatch.setattr(os, "access", lambda *_: False)  # root, as whom tests may run, could write
    assert [footprint.check(data)[1], footprint.check(data)[1]] == ["created", "verified"]
    assert everything(tmp_path) == before
