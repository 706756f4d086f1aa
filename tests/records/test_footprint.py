"""A footprint tells every change of the data, and nothing else, on any machine."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from diva.errors import DataError, RecordError
from diva.records import files, footprint, hashing
from diva.records.footprint import Differences, FileEntry, Footprint

ODD_NAMES = [b"line\nfeed.png", b"\xff\xfe.png", b"back\\slash.png", "Zürich.png".encode(), b"two  words.png"]


@pytest.fixture
def data(tmp_path):
    """Four files in three folders."""
    folder = tmp_path / "data" / "toy"
    for path, content in {"train/a/1.png": "one", "train/b/2.png": "two", "val/3.png": "", "z.csv": "x,y"}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    return folder


@pytest.fixture
def reads(monkeypatch):
    """The names of the files whose content is read."""
    seen = []
    original = hashing._hash_file

    def spy(work, file):
        seen.append(os.fsdecode(file.path))
        return original(work, file)

    monkeypatch.setattr(hashing, "_hash_file", spy)
    return seen


def odd(folder, name):
    return Path(os.fsdecode(os.fsencode(folder) + b"/" + name))


def restore_mtime(path, facts):
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def documented_command():
    """The shell command in the documentation of `digest`, to be run as it stands."""
    doc = Footprint.__dict__["digest"].__doc__
    return doc[doc.index("cd FOLDER && ") + len("cd FOLDER && ") :].strip()


def test_digest_is_what_the_documented_command_prints(data):
    for name in ODD_NAMES:
        odd(data, name).write_bytes(name)
    for ignored in (".hidden", "Thumbs.db", "desktop.ini", "a~", "b.swp", "c.part"):
        (data / ignored).write_text("no data")
    (data / ".cache").mkdir()
    (data / ".cache" / "x").write_text("no data")
    (data / "train" / "folder.part").mkdir()
    (data / "train" / "folder.part" / "kept").write_text("data")
    (data / "link").symlink_to("train")
    (data / "link.png").symlink_to("train/a/1.png")
    (data / "train-a").write_text("sorts between train and train/")
    printed = subprocess.run(["bash", "-c", documented_command()], cwd=data, capture_output=True, text=True, check=True)
    taken = footprint.take(data)
    assert taken.digest == f"sha256:{printed.stdout[:64]}" and printed.stderr == ""
    assert taken.n_files == 4 + len(ODD_NAMES) + 1 + 3 + 1 + 1


def test_digest_does_not_depend_on_place_time_or_spelling(data, tmp_path, monkeypatch):
    copy = tmp_path / "elsewhere" / "renamed"
    for path in sorted(data.rglob("*"), reverse=True):  # another order of creation, other times
        if path.is_file():
            (copy / path.relative_to(data)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy / path.relative_to(data))
    expected = footprint.take(data)
    monkeypatch.chdir(copy)
    for spelling in (copy, Path(), Path("../renamed"), Path(f"{copy}/")):
        taken = footprint.take(spelling)
        assert taken.digest == expected.digest
        assert [entry.path for entry in taken.files] == ["train/a/1.png", "train/b/2.png", "val/3.png", "z.csv"]


def test_a_digest_tells_names_and_contents_apart():
    entry = FileEntry("a", 1, 0, "0" * 64)
    digests = {
        Footprint((entry,)).digest,
        Footprint((FileEntry("b", 1, 0, "0" * 64),)).digest,
        Footprint((FileEntry("a", 1, 0, "1" * 64),)).digest,
        Footprint((entry, FileEntry("b", 1, 0, "0" * 64))).digest,
        Footprint((FileEntry(f"a\n{'0' * 64}  b", 1, 0, "0" * 64),)).digest,
    }
    assert len(digests) == 5
    assert Footprint((FileEntry("a", 1, 9, "0" * 64),)).digest == Footprint((entry,)).digest


@pytest.mark.parametrize("jobs", [1, 3])
def test_any_number_of_threads_gives_the_same_footprint_and_tells_progress(tmp_path, jobs, monkeypatch):
    monkeypatch.setattr(hashing, "_BATCH_FILES", 2)
    monkeypatch.setattr(hashing, "_SMALL", 3)
    monkeypatch.setattr(hashing, "_BLOCK", 2)
    for i in range(7):
        (tmp_path / f"{i}").write_text(str(i) * i)
    told = []
    taken = footprint.take(tmp_path, jobs=jobs, progress=lambda done, total: told.append((done, total)))
    assert [entry.sha256 for entry in taken.files] == [files.sha256_bytes(str(i).encode() * i) for i in range(7)]
    assert told == sorted(told) and len(told) >= 4 and told[-1] == (21, 21)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda folder: (folder / "train" / "gone").symlink_to("nowhere"), "train/gone: a broken link"),
        (lambda folder: (folder / "self").symlink_to("self"), "self: a broken link"),
        (lambda folder: (folder / "train" / "loop").symlink_to(".."), "train/loop: a link that leads back"),
        (lambda folder: (folder / "train" / "here").symlink_to("."), "train/here: a link that leads back"),
        (lambda folder: os.mkfifo(folder / "pipe"), "pipe: not a plain file"),
    ],
)
def test_what_cannot_be_data_is_refused_by_name(data, make, named):
    make(data)
    with pytest.raises(DataError, match=re.escape(named)):
        footprint.take(data)


def test_an_unreadable_file_is_refused_by_name(data, monkeypatch):
    """Permission bits do not stop root, as whom tests may run, so opening is made to fail."""

    system_open = os.open

    def refuse(path, *args, **kwargs):
        if os.fsencode(path).endswith(b".png"):
            raise PermissionError(13, "Permission denied")
        return system_open(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(DataError, match=r"train/a/1\.png cannot be read: Permission denied"):
        footprint.take(data)


def test_an_unreadable_folder_is_refused_by_name(data, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if path.endswith(b"/val/"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="val: Permission denied"):
        footprint.take(data)


def test_missing_empty_and_no_folder_are_data_errors(tmp_path):
    (tmp_path / "empty" / "sub").mkdir(parents=True)
    (tmp_path / "file").write_text("x")
    for name, told in (("gone", "does not exist"), ("empty", "holds no files"), ("file", "is not a folder")):
        with pytest.raises(DataError, match=told):
            footprint.take(tmp_path / name)


def test_the_first_check_creates_and_the_next_verify(data):
    first, created = footprint.check(data)
    again, verified = footprint.check(data)
    assert (created, verified) == ("created", "verified")
    assert first == again == footprint.read(data.parent / "toy.footprint.json")


def test_a_quick_check_reads_no_untouched_file(data, reads):
    footprint.check(data)
    del reads[:]
    footprint.check(data)
    assert reads == []
    os.utime(data / "z.csv", ns=(0, 0))
    footprint.check(data)
    assert reads == ["z.csv"]
    footprint.check(data)
    assert reads == ["z.csv"], "the stored times were not refreshed"
    footprint.check(data, deep=True)
    assert len(reads) == 5


def test_a_copy_verifies_against_a_copied_footprint(data, tmp_path):
    first, _ = footprint.check(data)
    shutil.copytree(data, tmp_path / "toy", copy_function=shutil.copyfile)
    shutil.copyfile(data.parent / "toy.footprint.json", tmp_path / "toy.footprint.json")
    now, outcome = footprint.check(tmp_path / "toy")
    assert (outcome, now.digest) == ("verified", first.digest)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda folder: (folder / "train/a/1.png").write_text("One"), "1 changed (train/a/1.png)"),
        (lambda folder: (folder / "val/3.png").unlink(), "1 removed (val/3.png)"),
        (lambda folder: (folder / "val/4.png").write_text(""), "1 added (val/4.png)"),
        (lambda folder: (folder / "z.csv").rename(folder / "y.csv"), "1 removed (z.csv); 1 added (y.csv)"),
    ],
)
@pytest.mark.parametrize("deep", [False, True])
def test_every_change_stops_the_check_and_is_named(data, change, told, deep):
    footprint.check(data)
    change(data)
    with pytest.raises(DataError, match=re.escape(told)) as caught:
        footprint.check(data, deep=deep)
    assert "toy" in str(caught.value) and "diva verify" in str(caught.value) and "--update" in str(caught.value)
    now, outcome = footprint.check(data, update=True)
    assert outcome == "updated" and footprint.check(data) == (now, "verified")


def test_an_addition_with_an_old_time_is_found(data):
    footprint.check(data)
    (data / "new.png").write_text("x")
    os.utime(data / "new.png", ns=(0, 0))
    with pytest.raises(DataError, match=r"new\.png"):
        footprint.check(data)


def test_a_change_that_restores_size_and_time_is_found_by_a_deep_check_and_by_update(data):
    first, _ = footprint.check(data)
    facts = (data / "z.csv").stat()
    (data / "z.csv").write_text("y,x")
    restore_mtime(data / "z.csv", facts)
    footprint.check(data)
    with pytest.raises(DataError, match=r"z\.csv"):
        footprint.check(data, deep=True)
    assert footprint.check(data, update=True)[0].digest != first.digest


def test_a_failed_check_leaves_the_stored_footprint_alone(data):
    footprint.check(data)
    stored = footprint.location(data).read_bytes()
    (data / "z.csv").write_text("other")
    with pytest.raises(DataError):
        footprint.check(data)
    assert footprint.location(data).read_bytes() == stored


def test_read_only_data_keep_their_footprint_in_the_cache(data, tmp_path, monkeypatch):
    """Permission bits do not stop root, as whom tests may run, so the probe is told what it would find."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "access", lambda *_: False)
    place = footprint.location(data)
    assert place.parent == tmp_path / "cache" / "diva" / "footprints"
    assert re.fullmatch(r"[0-9a-f]{16}-toy\.footprint\.json", place.name)
    assert [footprint.check(data)[1], footprint.check(data)[1]] == ["created", "verified"]
    assert [path.name for path in data.parent.iterdir()] == ["toy"]


def test_a_footprint_beside_read_only_data_is_used(data, tmp_path, monkeypatch):
    footprint.check(data)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "access", lambda *_: False)
    os.utime(data / "z.csv", ns=(0, 0))

    def refuse(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(files, "write_blocks", refuse)
    assert footprint.check(data)[1] == "verified"
    with pytest.raises(DataError, match=r"Read-only file system.*XDG_CACHE_HOME"):
        footprint.check(data, update=True)


def test_a_link_to_the_data_and_the_data_share_one_footprint(data, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(data)
    monkeypatch.chdir(data)
    assert footprint.location(tmp_path / "link") == footprint.location(Path()) == data.parent / "toy.footprint.json"


def test_a_stored_footprint_is_json_with_a_line_per_file(data):
    for name in ODD_NAMES:
        odd(data, name).write_bytes(name)
    taken, _ = footprint.check(data)
    text = footprint.location(data).read_text(encoding="ascii")
    document = json.loads(text)
    assert {key: document[key] for key in document if key != "files"} == {
        "schema": 1,
        "algorithm": "sha256",
        "name": "toy",
        "digest": taken.digest,
        "n_files": 9,
        "n_bytes": taken.n_bytes,
        "ignored": list(footprint.IGNORED),
    }
    assert sum('"path":' in line for line in text.splitlines()) == 9
    assert footprint.read(footprint.location(data)) == taken


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: "{}",
        lambda text: text.replace("train/a/1.png", "train/a/9.png"),
        lambda text: text.replace('"n_files": 4', '"n_files": 5'),
        lambda text: text.replace('"size":3', '"size":4'),
        lambda text: text.replace('"size":3', '"size":"3"'),
        lambda text: text.replace("sha256:", "sha256:0"),
    ],
)
def test_a_damaged_footprint_is_refused_until_updated(data, damage):
    taken, _ = footprint.check(data)
    place = footprint.location(data)
    place.write_text(damage(place.read_text()))
    with pytest.raises(RecordError, match=r"toy\.footprint\.json.*diva verify"):
        footprint.check(data)
    assert footprint.check(data, update=True) == (taken, "updated")


def test_a_footprint_of_a_newer_diva_is_not_called_damaged(data):
    footprint.check(data)
    place = footprint.location(data)
    place.write_text(place.read_text().replace('"schema": 1', '"schema": 2'))
    with pytest.raises(RecordError, match="update diva"):
        footprint.read(place)


def test_differences_name_five_files_and_count_the_rest():
    def of(names):
        return Footprint(tuple(FileEntry(name, 1, 0, "0" * 64) for name in names))

    told = footprint.compare(of(["a", "b\n"]), of(list("acdefghi")))
    assert told == Differences(tuple("cdefghi"), ("b\n",), ())
    assert told.text() == "1 removed (b\\n); 7 added (c, d, e, f, 3 more)"
    assert told and not footprint.compare(of("ab"), of("ab"))
