"""A data root is made once; a folder is made by one process at a time and appears whole or not at all."""

import errno
import multiprocessing
import queue
import threading
from pathlib import Path

import pytest

from diva.data.places import locked, made, prepare_root, remove
from diva.errors import DataError


def test_a_new_data_root_hides_itself_from_git(tmp_path):
    prepare_root(tmp_path / "deep" / "data")
    assert (tmp_path / "deep" / "data" / ".gitignore").read_text() == "*\n"


def test_a_folder_that_holds_other_things_is_not_hidden_from_git(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    prepare_root(tmp_path)
    assert not (tmp_path / ".gitignore").exists()


def test_a_gitignore_of_the_users_stays(tmp_path):
    (tmp_path / ".gitignore").write_text("*.png\n")
    prepare_root(tmp_path)
    assert (tmp_path / ".gitignore").read_text() == "*.png\n"


def test_a_root_that_cannot_be_written_is_refused_by_name(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/data: cannot be written .*--data-root"):
        prepare_root(tmp_path / "file" / "data")


def _try_to_lock(folder, answers):
    try:
        with locked(folder, wait=False):
            answers.put("locked")
    except DataError as error:
        answers.put(str(error))


def _ask_another_process(folder) -> str:
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    other = context.Process(target=_try_to_lock, args=(folder, answers))
    other.start()
    other.join()
    return str(answers.get())


def test_a_folder_is_made_by_one_process_at_a_time(tmp_path):
    with locked(tmp_path / "cells", wait=False):
        assert "another process is making this data set" in _ask_another_process(tmp_path / "cells")
        assert _ask_another_process(tmp_path / "other") == "locked"
    assert _ask_another_process(tmp_path / "cells") == "locked"
    assert list(tmp_path.iterdir()) == []


def _ask_another_thread(folder) -> str:
    answers: queue.SimpleQueue[str] = queue.SimpleQueue()
    other = threading.Thread(target=_try_to_lock, args=(folder, answers))
    other.start()
    other.join()
    return answers.get()


def test_a_folder_is_made_by_one_thread_at_a_time(tmp_path):
    with locked(tmp_path / "cells", wait=False):
        assert "cells: this process is making this data set already" in _ask_another_thread(tmp_path / "cells")
        assert _ask_another_thread(tmp_path / "other") == "locked"
        assert "another process" in _ask_another_process(tmp_path / "cells")  # the other thread has not undone the lock
    assert _ask_another_thread(tmp_path / "cells") == "locked"
    assert list(tmp_path.iterdir()) == []


def test_a_thread_that_waits_has_it_next(tmp_path):
    entered = threading.Event()

    def work():
        with locked(tmp_path / "cells", wait=True):
            entered.set()

    other = threading.Thread(target=work)
    with locked(tmp_path / "cells", wait=True):
        other.start()
        assert not entered.wait(0.2)
    other.join()
    assert entered.is_set() and list(tmp_path.iterdir()) == []


def test_one_who_has_it_does_not_wait_for_itself(tmp_path):
    with (
        locked(tmp_path / "cells", wait=True),
        pytest.raises(DataError, match="this process is making this data set already"),
        locked(tmp_path / "cells", wait=True),
    ):
        pass


def test_a_lock_of_somebody_else_is_told_with_its_owner(tmp_path, monkeypatch):
    (tmp_path / ".cells.lock").write_text("")

    def refused(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    def nameless(*_):
        raise KeyError

    monkeypatch.setattr(Path, "open", refused)
    monkeypatch.setattr(Path, "owner", lambda path: "ann")
    with (
        pytest.raises(DataError, match=r"\.cells\.lock: cannot be opened.* it is ann's.*delete this file.*--to"),
        locked(tmp_path / "cells", wait=True, option="--to"),
    ):
        pass
    monkeypatch.setattr(Path, "owner", nameless)
    with pytest.raises(DataError, match=r"it is user \d+'s"), locked(tmp_path / "cells", wait=True):
        pass
    (tmp_path / ".cells.lock").unlink()
    with pytest.raises(DataError, match="cannot be written"), locked(tmp_path / "cells", wait=True):
        pass


def test_the_lock_of_a_dead_process_is_nobodys(tmp_path):
    (tmp_path / ".cells.lock").write_text("")
    assert _ask_another_process(tmp_path / "cells") == "locked"


def test_a_lock_that_was_taken_away_while_we_waited_is_no_lock(tmp_path, monkeypatch):
    path, calls = tmp_path / ".cells.lock", []

    def lockf(file, how):
        calls.append(how)
        if len(calls) == 1:  # its holder is done, and another process has begun
            path.unlink()
            path.write_text("")

    monkeypatch.setattr("fcntl.lockf", lockf)
    with locked(tmp_path / "cells", wait=True):
        assert len(calls) == 2


def test_a_lock_in_a_place_that_cannot_be_written_is_refused_by_name(tmp_path):
    with pytest.raises(DataError, match="cannot be written"), locked(tmp_path / "none" / "cells", wait=False):
        pass


def test_a_made_folder_appears_at_the_end(tmp_path):
    with made(tmp_path / "cells") as partial:
        partial.mkdir()
        (partial / "a").write_text("1")
        assert [path.name[:15] for path in tmp_path.iterdir()] == [".cells.partial-"]
    assert [path.name for path in tmp_path.iterdir()] == ["cells"]


def test_what_fails_leaves_nothing_and_what_a_dead_process_left_does_not_stay(tmp_path):
    (tmp_path / ".cells.partial-0a").mkdir()
    (tmp_path / ".cells.partial-0a" / "left").write_text("")

    def interrupted():
        with made(tmp_path / "cells") as partial:
            partial.mkdir()  # would fail if the other one were there
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_remove_takes_a_link_and_not_what_it_points_to(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    remove(tmp_path / "link")
    assert list(tmp_path.iterdir()) == [tmp_path / "precious"]
    remove(tmp_path / "none")
