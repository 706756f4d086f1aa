"""Data sets by name or path: named ones are made at first use, whole or not at all."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from diva.data import bundled
from diva.data.catalogue import Card, SourceFile, card, cards_folder, locate, names, whereabouts, write_bundled
from diva.errors import DataError
from diva.records.footprint import take


def test_every_card_has_what_a_user_must_know():
    for name in names():
        found = card(name)
        assert found.name == name
        for field in ("title", "about", "licence", "citation", "layout"):
            assert getattr(found, field), field
        assert found.licence != "not stated"
        assert found.footprint or not found.bundled or "no footprint is promised" in found.notes


def test_digits_are_in_the_catalogue():
    assert "digits" in names()
    assert card("digits").classes == [str(i) for i in range(10)]


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
    with pytest.raises(DataError, match=r"no data set is called 'MNIST'; did you mean mnist\?"):
        card("MNIST")


def test_a_card_of_a_bundled_set_that_does_not_exist_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("bundled: digit")
    with pytest.raises(
        DataError, match=r"a: no data set called 'digit' comes with the installation; did you mean digits\?"
    ):
        write_bundled(card(tmp_path / "a.yaml"), tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]


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
    assert take(folder).digest == card("digits").footprint
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


def test_many_processes_may_make_the_same_data_set(tmp_path):
    code = "import sys; from pathlib import Path; from diva.data.catalogue import locate; print(locate('digits', Path(sys.argv[1]))[1])"
    command = [sys.executable, "-c", code, str(tmp_path / "data")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[0].strip() for process in processes] == [str(tmp_path / "data" / "digits")] * 3
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == [".gitignore", "digits"]
    assert take(tmp_path / "data" / "digits").digest == card("digits").footprint


def test_what_a_killed_process_left_is_taken_away(tmp_path):
    (tmp_path / ".digits.partial-0a" / "train" / "ten").mkdir(parents=True)
    (tmp_path / ".digits.partial-0a" / "train" / "ten" / "1.png").write_text("half")
    (tmp_path / ".digits.lock").write_text("")
    assert take(locate("digits", tmp_path)[1]).digest == card("digits").footprint
    assert sorted(p.name for p in tmp_path.iterdir()) == ["digits"]


# --- Cards of one's own ----------------------------------------------------------------------------------------------

OWN = """
name: cells
title: Cells
format: folders
files:
  - name: cells.zip
    urls: [http://127.0.0.1:1/cells.zip]
    size: 10
"""


def own(tmp_path: Path, text: str = OWN) -> Path:
    (tmp_path / "my.yaml").write_text(text)
    return tmp_path / "my.yaml"


def test_a_card_of_ones_own_is_read_by_path(tmp_path):
    found = card(str(own(tmp_path)))
    assert found == card(own(tmp_path))
    assert (found.name, found.files[0].size, found.n_bytes, found.layout) == ("cells", 10, 10, "class folders")


def test_a_card_of_ones_own_is_called_like_its_file_unless_it_says_otherwise(tmp_path):
    assert card(own(tmp_path, OWN.replace("name: cells\ntitle: Cells\n", ""))).name == "my"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("title:", "titel:", r"my\.yaml: titel: unknown key; did you mean title\?"),
        ("    size: 10", "    bytes: 10", r"files\[0\]\.bytes: unknown key; allowed: md5, name, "),
        ("  - name: cells.zip\n    urls", "  - urls", r"files\[0\]\.name: is missing; known keys: name, urls"),
        ("    size: 10", "    sha256: abc", r"files\[0\]\.sha256: 'abc' must match"),
        (
            "    size: 10",
            "    md5: 12345678901234567890123456789012",
            r"files\[0\]\.md5: .* must be text; put it in quotes",
        ),
        ("    size: 10", "    size: -1", r"files\[0\]\.size: .*greater than or equal to 0"),
        ("http://127", "file:///127", r"files\[0\]\.urls: file:///127.*must begin with https://, http://, ftp://"),
        ("http://127", "http://me:secret@127", r"files\[0\]\.urls: 127.0.0.1: a user name"),
        ("http://127", "ftp://me:secret@127", r"files\[0\]\.urls: 127.0.0.1: a user name or password"),
        ("[http:", "['http:///x', http:", "is no address"),
        ("name: cells\n", "name: ../cells\n", r"name: '\.\./cells' must match"),
        ("name: cells\n", "name: .cells\n", r"name: '\.cells' must match"),
        ("name: cells.zip", "name: ../../cells.zip", r"files\[0\]\.name: .* must match"),
        ("name: cells.zip", "name: cells.zip.part", r"files\[0\]\.name: .*mark unfinished files"),
        ("title: Cells", "layout: heaps", "layout: Input should be 'class folders', 'pairs'"),
        ("title: Cells", "val: 1.0", "val: Input should be less than 1"),
        ("format: folders", "licence: free", "neither `bundled:` nor `format:`"),
        ("title: Cells", "classes: [1, 2]", r"classes\[0\]: 1 must be text; put it in quotes"),
        ("title: Cells", "title: [", "is not YAML"),
        (OWN, "- a list", "must be a mapping"),
    ],
)
def test_a_mistake_in_a_card_is_told_with_file_key_and_what_is_allowed(tmp_path, old, new, said):
    assert old in OWN
    with pytest.raises(DataError, match=said) as raised:
        card(own(tmp_path, OWN.replace(old, new)))
    assert str(raised.value).startswith(f"{tmp_path / 'my.yaml'}: ") and "secret" not in str(raised.value)


def test_two_files_of_the_same_name_are_refused(tmp_path):
    twice = OWN + "  - name: Cells.zip\n"
    with pytest.raises(DataError, match="same name"):
        card(own(tmp_path, twice))


def test_a_card_that_is_not_there_or_not_text_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"none\.yaml: no such card; the catalogue has .*digits"):
        card(str(tmp_path / "none.yaml"))
    (tmp_path / "my.yaml").write_bytes(b"title: \xff")
    with pytest.raises(DataError, match="is not YAML"):
        card(tmp_path / "my.yaml")


def test_yaml_that_makes_objects_is_refused(tmp_path):
    with pytest.raises(DataError, match="is not YAML"):
        card(own(tmp_path, "title: !!python/object/apply:os.getcwd []"))


def test_a_card_given_as_data_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"is a card; run: diva download .*my\.yaml"):
        locate(str(own(tmp_path)), tmp_path)


# --- What must be downloaded -------------------------------------------------------------------------------------------


@pytest.fixture
def catalogue_of_two(tmp_path, monkeypatch) -> Path:
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards" / "cells.yaml").write_text(OWN)
    (tmp_path / "cards" / "digits.yaml").write_text((cards_folder() / "digits.yaml").read_text())
    monkeypatch.setattr("diva.data.catalogue.cards_folder", lambda: tmp_path / "cards")
    return tmp_path / "data"


def test_a_data_set_that_must_be_downloaded_says_how(catalogue_of_two):
    with pytest.raises(
        DataError, match=r"cells is not here \(.*data/cells\): run diva download cells --data-root .*data$"
    ):
        locate("cells", catalogue_of_two)
    with pytest.raises(DataError, match=r"run diva download cells$"):
        locate("cells", Path("data"))
    assert not catalogue_of_two.exists()


def test_a_data_set_that_was_downloaded_is_found(catalogue_of_two):
    (catalogue_of_two / "cells").mkdir(parents=True)
    assert locate("cells", catalogue_of_two) == ("cells", catalogue_of_two / "cells")


def test_whereabouts_tell_what_is_here_what_is_bundled_and_what_must_be_downloaded(catalogue_of_two):
    assert [whereabouts(name, catalogue_of_two) for name in ("cells", "digits")] == ["to download", "bundled"]
    (catalogue_of_two / "cells").mkdir(parents=True)
    assert whereabouts("cells", catalogue_of_two) == "here"


def test_the_size_of_a_download_is_known_when_all_sizes_are():
    files = [SourceFile(name="a", size=1), SourceFile(name="b", size=2)]
    assert Card(name="x", title="x", format="y", files=files).n_bytes == 3
    assert Card(name="x", title="x", format="y", files=[*files, SourceFile(name="c")]).n_bytes is None


@pytest.mark.parametrize("key", ["options", "expectations"])
@pytest.mark.parametrize("value", ["&a {b: *a}", "{2024-01-01: 1}"])
def test_values_that_cannot_be_noted_are_refused_with_their_key(tmp_path, key, value):
    (tmp_path / "cells.yaml").write_text(f"format: idx\nfiles: [{{name: a}}]\n{key}: {value}\n")
    with pytest.raises(DataError, match=f"cells.yaml: {key}"):
        card(tmp_path / "cells.yaml")
