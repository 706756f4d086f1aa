"""Data sets by name or path: named ones are made at first use, whole or not at all."""

import shutil

import pytest
import yaml

from diva.data import bundled, catalogue
from diva.data.catalogue import card, cards_folder, locate, names, prepare_root
from diva.errors import DataError
from diva.records.footprint import take


def test_every_card_has_what_a_user_must_know():
    for name in names():
        found = card(name)
        assert found["name"] == name
        for field in ("title", "about", "licence", "citation", "layout", "footprint"):
            assert found[field], field
        assert found["footprint"].startswith("sha256:") and len(found["footprint"]) == 71


def test_digits_are_in_the_catalogue():
    assert "digits" in names()
    assert card("digits")["classes"] == [str(i) for i in range(10)]


def test_cards_are_plain_yaml():
    for path in cards_folder().glob("*.yaml"):
        assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)


@pytest.mark.parametrize("name", ["digit", "../pyproject", "", "digits/"])
def test_an_unknown_name_is_refused(name):
    with pytest.raises(DataError, match="no data set is called"):
        card(name)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(DataError, match=r"did you mean digits\?"):
        card("digit")


def test_a_folder_is_found_by_path(tmp_path):
    (tmp_path / "cells").mkdir()
    assert locate(str(tmp_path / "cells"), tmp_path / "root") == ("cells", tmp_path / "cells")
    assert not (tmp_path / "root").exists()


def test_a_folder_in_the_home_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "cells").mkdir()
    assert locate("~/cells", tmp_path)[1] == tmp_path / "cells"


def test_the_current_folder_has_its_own_name(tmp_path, monkeypatch):
    (tmp_path / "cells").mkdir()
    monkeypatch.chdir(tmp_path / "cells")
    assert locate(".", tmp_path)[0] == "cells"


def test_what_is_neither_name_nor_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"--data cells: no such folder, and no data set of that name; .*digits"):
        locate("cells", tmp_path)


def test_a_file_is_no_data_set(tmp_path):
    (tmp_path / "cells.zip").write_text("")
    with pytest.raises(DataError, match="is a file, not a folder"):
        locate(str(tmp_path / "cells.zip"), tmp_path)


def test_a_named_data_set_is_made_once_with_its_published_footprint(tmp_path, monkeypatch):
    name, folder = locate("digits", tmp_path / "data")
    assert (name, folder) == ("digits", tmp_path / "data" / "digits")
    assert take(folder).digest == card("digits")["footprint"]
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == [".gitignore", "digits"]
    monkeypatch.setattr(bundled, "WRITERS", {})
    assert locate("digits", tmp_path / "data") == (name, folder)


def test_other_bytes_than_published_are_refused_and_leave_nothing(tmp_path, monkeypatch):
    def write_other(folder):
        folder.mkdir()
        (folder / "a.txt").write_text("other")

    monkeypatch.setattr(bundled, "WRITERS", {"digits": write_other})
    with pytest.raises(DataError, match=r"digits: written here with footprint sha256:.*expected sha256:"):
        locate("digits", tmp_path)
    assert not any(path for path in tmp_path.iterdir() if path.name != ".gitignore")


def test_a_failure_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def fail(folder):
        folder.mkdir()
        (folder / "a.txt").write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundled, "WRITERS", {"digits": fail})
    with pytest.raises(DataError, match=r"No space left on device.*--data-root"):
        locate("digits", tmp_path)
    assert not any(path for path in tmp_path.iterdir() if path.name != ".gitignore")


def test_two_processes_may_make_the_same_data_set(tmp_path, monkeypatch):
    locate("digits", tmp_path / "ready")

    def write_slowly(folder):
        shutil.copytree(tmp_path / "ready" / "digits", folder)
        shutil.copytree(folder, folder.parent / "digits")  # the other process was first

    monkeypatch.setattr(bundled, "WRITERS", {"digits": write_slowly})
    assert locate("digits", tmp_path / "data")[1].is_dir()
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == [".gitignore", "digits"]


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
        catalogue.prepare_root(tmp_path / "file" / "data")
