"""Hashing many files: continued after an interruption, in bounded memory, and never of what is being written."""

import fcntl
import os
import tracemalloc

import pytest

from diva.errors import DataError
from diva.records import entries, footprint, hashing, listing

NAMES = [f"{folder}/{number}.png" for folder in ("a-b", "a", "b") for number in range(4)]  # as their bytes sort


class Killed(BaseException):
    """Stands for a kill: nothing is caught, nothing is tidied."""


@pytest.fixture
def data(tmp_path):
    """Twelve files, last changed before any hash of this test begins, as the clock of the file system has it."""
    folder = tmp_path / "data" / "toy"
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"content of {name}")
    tick(folder)
    return folder


def tick(folder):
    """Wait for the clock of the file system, which goes in steps, to be past the last change of a file."""
    probe = folder.parent / "probe"
    last = max(path.stat().st_ctime_ns for path in folder.rglob("*"))
    while probe.write_text("") or probe.stat().st_ctime_ns <= last:
        pass
    probe.unlink()


@pytest.fixture
def reads(monkeypatch):
    """The names of the files that are read; after `reads.left` of them the process is killed. One by one, in one thread."""

    class Reads(list):
        left = 10**9

    seen, original = Reads(), hashing._hash_file

    def spy(work, file):
        if not seen.left:
            raise Killed
        seen.left -= 1
        seen.append(os.fsdecode(file.path))
        return original(work, file)

    monkeypatch.setattr(hashing, "_hash_file", spy)
    monkeypatch.setattr(hashing, "_BATCH_FILES", 1)
    return seen


def kill_after(reads, n, folder, **how):
    reads.left = n
    with pytest.raises(Killed):
        footprint.inspect(folder, jobs=1, **how)
    del reads[:]
    reads.left = 10**9


def whole(folder):
    """The stored footprint, and what lies beside it."""
    place = footprint.location(folder)
    return place.read_bytes(), sorted(path.name for path in folder.parent.iterdir())


def test_an_interrupted_hash_continues_however_often_and_ends_as_if_it_had_not_been(data, reads):
    footprint.check(data)
    undisturbed = whole(data)
    footprint.location(data).unlink()
    kill_after(reads, 5, data)
    kill_after(reads, 4, data)
    footprint.inspect(data, jobs=1)
    assert reads == NAMES[9:]
    assert whole(data) == undisturbed and undisturbed[1] == ["toy", "toy.footprint.json"]


@pytest.mark.parametrize("how", [{"deep": True}, {"update": True}])
def test_an_interrupted_check_continues_too(data, reads, how):
    footprint.check(data)
    before = whole(data)
    del reads[:]
    kill_after(reads, 7, data, **how)
    assert footprint.inspect(data, jobs=1, **how)[1] in ("verified", "updated")
    assert reads == NAMES[7:] and whole(data) == before


@pytest.mark.parametrize(
    "left", ["{", '{"mtime_ns":1,"path":"a-b/0.png","sha2', "\0\0\0\0", "no line\n", '{"begun_ns":"x"}\n']
)
def test_a_torn_line_costs_that_line_only(data, reads, left):
    kill_after(reads, 5, data)
    with hashing.journal_path(footprint.location(data)).open("a") as journal:
        journal.write(left)
    kill_after(reads, 1, data)
    footprint.inspect(data, jobs=1)
    assert reads == NAMES[6:]
    assert footprint.read(footprint.location(data)) == footprint.take(data)


def test_a_journal_is_not_believed_about_a_file_that_changed_since(data, reads):
    footprint.check(data)
    kill_after(reads, 12 - 1, data, deep=True)
    facts = (data / NAMES[1]).stat()
    (data / NAMES[1]).write_text(f"content of {NAMES[2]}")
    os.utime(data / NAMES[1], ns=(facts.st_atime_ns, facts.st_mtime_ns))  # looks as before, size and all
    os.utime(data / NAMES[3], ns=(0, 0))
    (data / NAMES[5]).write_text("longer than it was before")
    _, outcome, differences = footprint.inspect(data, deep=True, jobs=1)
    assert (outcome, differences.changed) == ("different", (NAMES[1], NAMES[5]))
    assert reads == [NAMES[1], NAMES[3], NAMES[5], NAMES[11]]


def test_what_a_quick_check_took_on_trust_is_read_by_the_deep_check_that_follows(data, reads, monkeypatch):
    footprint.check(data)
    for name in NAMES[7:9]:
        os.utime(data / name, ns=(0, 0))
    tick(data)
    monkeypatch.setattr(hashing, "_BATCH_FILES", 2)
    kill_after(reads, 1, data)
    footprint.inspect(data, deep=True, jobs=1)
    assert reads == NAMES[:7] + NAMES[8:]


def test_a_journal_that_nobody_continued_for_a_day_is_dropped(data, reads):
    kill_after(reads, 5, data)
    journal = hashing.journal_path(footprint.location(data))
    os.utime(journal, (journal.stat().st_mtime - 90_000,) * 2)
    footprint.inspect(data, jobs=1)
    assert reads == NAMES


def test_two_processes_at_once_do_not_share_a_journal(data, reads):
    kill_after(reads, 5, data)
    with hashing.journal(footprint.location(data)) as first:
        assert hashing.Journal.of(footprint.location(data)) is None
        assert footprint.inspect(data, jobs=1)[1] == "created" and reads == NAMES
        assert first is not None and [known.path.decode() for known in first.known()] == NAMES[:5]
    assert whole(data)[1] == ["toy", "toy.footprint.json"]


def test_what_a_process_left_that_was_killed_at_the_very_end_is_removed(data):
    footprint.check(data)
    place = footprint.location(data)
    hashing.journal_path(place).write_text("")
    hashing.temporary(place).write_text("half a footprint")
    os.utime(hashing.journal_path(place), ns=(0, 0))
    footprint.check(data)
    assert whole(data)[1] == ["toy", "toy.footprint.json"]


def test_a_quick_check_leaves_the_journal_of_an_interrupted_deep_check_alone(data, reads):
    footprint.check(data)
    kill_after(reads, 7, data, deep=True)
    assert footprint.check(data)[1] == "verified" and reads == []
    footprint.inspect(data, deep=True, jobs=1)
    assert reads == NAMES[7:]


def test_where_there_can_be_no_journal_hashing_goes_on_without(data, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(95, "not supported")))
    assert footprint.check(data)[1] == "created"


@pytest.mark.parametrize("size", [0, 9, 10**6])
def test_a_file_that_changes_while_it_is_read_is_refused(data, size):
    wrong = listing.Found(b"a/0.png", size, 0, 0)
    with pytest.raises(DataError, match=r"a/0\.png changed while it was read"):
        list(hashing.hashed(data, [wrong]))


@pytest.mark.parametrize("size", [0, 1, hashing._SMALL, hashing._SMALL + 1, hashing._BLOCK, hashing._BLOCK + 1])
def test_a_file_of_any_size_has_the_digest_of_its_bytes(tmp_path, size):
    import hashlib

    content = bytes(i % 251 for i in range(size))
    (tmp_path / "x").write_bytes(content)
    assert footprint.take(tmp_path).files[0].sha256 == hashlib.sha256(content).hexdigest()


def test_long_listings_and_long_footprints_are_the_same_as_short_ones(data, monkeypatch):
    expected = footprint.take(data)
    monkeypatch.setattr(listing, "_KEPT", 2)
    monkeypatch.setattr(listing, "_AT_ONCE", 3)
    monkeypatch.setattr(footprint, "_IN_MEMORY", 10)
    monkeypatch.setattr(entries, "_BLOCK", 7)
    assert footprint.check(data)[0] == footprint.check(data)[0] == footprint.take(data) == expected
    assert footprint.compare(footprint.check(data)[0], expected) == footprint.Differences((), (), ())
    assert list(expected.files) == list(footprint.read(footprint.location(data)).files)


def test_memory_does_not_grow_with_the_number_of_files(tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "_KEPT", 10)
    monkeypatch.setattr(footprint, "_IN_MEMORY", 1000)
    monkeypatch.setattr(footprint, "_AT_ONCE", 10)
    monkeypatch.setattr(entries, "_BLOCK", 1000)
    monkeypatch.setattr(hashing, "_BATCH_FILES", 10)
    peaks = {}
    for n_folders in (1, 6, 60):  # the first pays for imports
        folder = tmp_path / str(n_folders)
        for i in range(n_folders * 50):
            (folder / f"{i // 50}").mkdir(parents=True, exist_ok=True)
            (folder / f"{i // 50}" / f"{i}.png").touch()
        tracemalloc.start()
        for deep, update in ((False, False), (False, False), (True, False), (False, True)):
            footprint.inspect(folder, deep, update, jobs=1)
        peaks[n_folders] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[60] < 1.5 * peaks[6], peaks


def test_differences_do_not_depend_on_the_order_in_which_files_are_given():
    some = [footprint.FileEntry(name, 1, 0, "0" * 64) for name in ("b", "a", "c")]
    then, now = footprint.Footprint(tuple(some)), footprint.Footprint(tuple(reversed(some[1:])))
    assert footprint.compare(then, now) == footprint.Differences((), ("b",), ())
    assert not footprint.compare(then, footprint.Footprint(tuple(sorted(some, key=lambda entry: entry.path))))
