"""What a user has at hand is used instead of the network, if it is what the card says."""

from pathlib import Path

import pytest

from diva.errors import DataError, UsageError
from tests.data import official
from tests.data.site import LEFT, contents_of


@pytest.fixture
def at_hand(site) -> Path:
    """A folder with the files, under their own names."""
    folder = site.folder / "Downloads"
    folder.mkdir()
    for name, content in site.contents.items():
        (folder / name).write_bytes(content)
    return folder


def test_files_at_hand_are_used_and_left_where_they_are(site, at_hand):
    made = site.get(*at_hand.iterdir(), keep_archive=True)
    assert site.asked() == 0 and {file["url"] for file in made.files} == {"file"}
    assert contents_of(at_hand) == site.contents and site.listing() == LEFT


def test_a_folder_of_files_at_hand_is_looked_through(site, at_hand):
    (at_hand / "holiday.jpg").write_text("")
    site.get(at_hand)
    assert site.asked() == 0


def test_what_is_not_at_hand_is_fetched(site, at_hand):
    name = site.card["files"][2]["name"]
    (at_hand / name).unlink()
    site.get(at_hand)
    assert site.asked() == 1 == len(site.server.asked(f"pub/{name}"))


def test_a_file_at_hand_is_known_by_its_checksum_whatever_its_name(site, at_hand):
    for i, path in enumerate(sorted(at_hand.iterdir())):
        path.rename(at_hand / f"download ({i})")
    site.get(*at_hand.iterdir())
    assert site.asked() == 0


def test_a_file_at_hand_that_is_not_right_is_refused_and_kept(site, at_hand):
    name = site.card["files"][0]["name"]
    (at_hand / name).write_bytes(b"other")
    with pytest.raises(
        DataError, match=rf"{name}: has 5 bytes, expected .*; it is not the {name} that the card describes"
    ):
        site.get(at_hand / name)
    assert (at_hand / name).read_bytes() == b"other"


@pytest.mark.parametrize(("given", "said"), [
    ("none", "no such file or folder; also allowed: an address"),
    ("Downloads/holiday.jpg", "has neither the checksum nor the name of a file of cells; its files are t"),
    ("empty", "holds none of the files of cells"),
])  # fmt: skip
def test_what_is_of_no_use_is_refused(site, at_hand, given, said):
    (at_hand / "holiday.jpg").write_text("")
    (site.folder / "empty").mkdir()
    with pytest.raises(DataError, match=said):
        site.get(site.folder / given)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "gopher://a/b", "http://"])
def test_an_address_that_is_not_fetched_is_refused(site, url):
    with pytest.raises(UsageError, match="--from"):
        site.get(url)


def test_a_mirror_is_asked_first(site):
    for name, content in site.contents.items():
        site.server.serve(f"mirror/deep/{name}", content)
    made = site.get(site.server.url("mirror/deep/"))
    assert all("/mirror/deep/t" in file["url"] for file in made.files)
    assert not any(site.server.asked(f"pub/{name}") for name in site.contents)


def test_a_mirror_that_lacks_a_file_is_no_harm(site):
    assert all("/pub/" in file["url"] for file in site.get(site.server.url("nothing/there")).files)


def test_the_address_of_one_file_is_for_that_file(site):
    name = site.card["files"][1]["name"]
    url = site.server.serve(f"own/{name}", site.contents[name])
    assert [file["name"] for file in site.get(url).files if file["url"] == url] == [name]


def test_a_rar_is_refused_before_anything_is_fetched(site):
    site.card["files"] = [{"name": "cells.rar", "urls": [site.server.url("pub/cells.rar")], "size": 3}]
    with pytest.raises(
        DataError, match=r"comes as cells.rar, which diva cannot unpack; get it from http.*--from FOLDER"
    ):
        site.get()
    assert site.asked() == 0 and not (site.data_root / "cells").exists()


def test_an_unknown_format_is_refused_before_anything_is_fetched(site):
    site.card["format"] = "idy"
    with pytest.raises(DataError, match=r"no reader for the format 'idy'; did you mean idx\?"):
        site.get()
    assert site.asked() == 0


def test_a_file_that_no_address_gives_is_asked_for_with_what_the_card_says_of_it(site):
    site.card["files"] = [{"name": "cells.bin", "urls": []}]
    site.card |= {"notes": "Write to the authors.", "homepage": "http://127.0.0.1/cells"}
    with pytest.raises(
        DataError,
        match=r"no address gives cells.bin; get it from its provider \(http://127.0.0.1/cells\).*to the authors.$",
    ):
        site.get()
    assert site.asked() == 0


def test_a_file_kept_for_another_data_set_is_used(site):
    site.get(keep_archive=True)
    n = site.asked()
    site.get(to=site.data_root / "other")
    assert site.asked() == n


def test_an_unpacked_data_set_is_taken_as_it_is(site):
    names = {"a/1.jpg": 1, "a/2.jpg": 2, "b/3.jpg": 3, "b/4.jpg": 4, "b/5.jpg": 5}
    images = {
        f"top/{name}": official.image_bytes(official.random_images(1, 5, 4, 3, seed=i)[0], "JPEG")
        for name, i in names.items()
    }
    archive = official.zipped(site.folder / "cells.zip", images)
    site.card |= {"format": "class folders", "val": 0.2, "options": {"prefix": "top", "test": 0.2}, "classes": None}
    site.card["files"] = [{"name": "cells.zip", "urls": []}]
    site.get(archive)
    for name, content in images.items():
        (site.folder / "unpacked" / name).parent.mkdir(parents=True, exist_ok=True)
        (site.folder / "unpacked" / name).write_bytes(content)
    made = site.get(site.folder / "unpacked", to=site.data_root / "other")
    assert contents_of(site.data_root / "other") == contents_of(site.cells) and len(contents_of(site.cells)) == 7
    assert made.files == () and any("taken as unpacked" in line for line in site.told.lines)


def test_what_is_given_and_not_there_is_refused_though_nothing_is_to_be_made(site):
    site.get()
    with pytest.raises(DataError, match=r"--from .*nope.zip: no such file or folder"):
        site.get(site.folder / "nope.zip")
