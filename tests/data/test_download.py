"""A data set is there whole and verified, or not there; what came once is not fetched again; a kill at any moment changes nothing."""

import json
import os
import shutil
import signal

import numpy
import pytest
import yaml
from PIL import Image

from diva.data import bundled
from diva.data.catalogue import Card, card
from diva.data.download import download
from diva.data.places import locked
from diva.errors import DataError, UsageError
from diva.records import footprint
from tests.data import server as serving
from tests.data.site import LEFT, PATIENCE, Told, contents_of

# --- What is made -----------------------------------------------------------------------------------------------------


def test_a_download_gives_the_images_of_the_files_in_the_standard_layout(site, mnist):
    made = site.get()
    images, labels = mnist[1]["test"]
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        assert numpy.array_equal(numpy.asarray(Image.open(site.cells / "test" / str(label) / f"{i:05}.png")), image)
    assert len(list(site.cells.glob("train/*/*.png"))) + len(list(site.cells.glob("val/*/*.png"))) == 20
    assert (made.name, made.folder, made.fresh) == ("cells", site.cells, True)
    assert made.footprint.digest == footprint.take(site.cells).digest
    assert site.listing() == LEFT


def test_the_folder_says_what_it_is_and_whose(site):
    site.card |= {"about": "Cells: “blue”", "notes": "a\nb", "expectations": {"classes": 10}}
    site.get()
    said = yaml.safe_load((site.cells / "dataset.yaml").read_text(encoding="utf-8"))
    for key in ("name", "title", "about", "licence", "citation", "homepage", "classes", "notes", "expectations"):
        assert said[key] == site.card[key], key
    assert said["layout"] == "class folders"
    assert (site.cells / "LICENCE.txt").read_text().splitlines()[:2] == ["Cells", "Licence: CC BY 4.0"]


def test_it_is_noted_what_the_data_set_was_made_of(site):
    made = site.get()
    noted = json.loads((site.data_root / "cells.download.json").read_text())
    rows = {row["name"]: row for row in noted["files"]}
    for file in site.card["files"]:
        assert rows[file["name"]] == {
            "name": file["name"], "size": file["size"], "sha256": file["sha256"], "url": file["urls"][0],
        }  # fmt: skip
    assert sorted(row["name"] for row in made.as_json()["files"]) == sorted(rows)
    assert str(site.folder) not in (site.data_root / "cells.download.json").read_text()


def test_no_byte_depends_on_where_and_from_what_it_was_made(site, tmp_path):
    site.get()
    site.get(to=tmp_path / "elsewhere" / "named")
    assert contents_of(tmp_path / "elsewhere" / "named") == contents_of(site.cells)
    assert str(site.folder).encode() not in b"".join(contents_of(site.cells).values())


def test_what_is_there_is_only_looked_at(site):
    first = site.get()
    n = site.asked()
    again = site.get()
    assert (again.footprint, again.files, again.fresh, site.asked()) == (first.footprint, first.files, False, n)
    assert site.listing() == LEFT


def test_what_was_changed_since_is_told(site):
    site.get()
    (site.cells / "test" / "0" / "00000.png").write_bytes(b"changed")
    with pytest.raises(DataError, match=r"is not what it was.*1 changed \(test/0/00000.png\)"):
        site.get()


def test_the_footprint_of_the_card_decides(site):
    digest = site.get().footprint.digest
    site.card["footprint"] = digest
    assert not site.get().fresh
    assert site.get(to=site.data_root / "again").fresh
    site.card["footprint"] = "sha256:" + "0" * 64
    with pytest.raises(DataError, match=f"has footprint {digest}, its card says sha256:000"):
        site.get()
    with pytest.raises(DataError, match=f"converted it has footprint {digest}, expected sha256:000"):
        site.get(to=site.data_root / "third")
    assert not (site.data_root / "third").exists()


def test_the_footprint_of_a_folder_that_was_here_once_is_not_believed(site, monkeypatch):
    site.cells.mkdir(parents=True)
    (site.cells / "old").write_text("old")
    footprint.check(site.cells)
    shutil.rmtree(site.cells)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as during:
        during.setattr("diva.data.download._note_footprint", killed)
        with pytest.raises(KeyboardInterrupt):
            site.get()
    assert not site.get().fresh


def test_the_footprint_goes_where_others_look_for_it(site, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(site.folder / "cache"))
    site.data_root.mkdir()
    (site.data_root / "whole").write_text("")
    footprint.check(site.data_root)  # from now on a file beside the cells would be a change of the whole
    (site.folder / "data" / "whole").unlink()
    made = site.get()
    assert footprint.location(site.cells).is_relative_to(site.folder / "cache")
    assert footprint.read(footprint.location(site.cells)).digest == made.footprint.digest
    assert site.listing() == ["cells", "cells.download.json"] and not site.get().fresh


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda card: card.update(val=0.5), "val 0.2, now 0.5"),
        (lambda card: card.update(options={"first_label": 1}), "first_label null, now 1"),
        (lambda card: card.update(classes=list("abcdefghij")), 'classes ["0", .*now ["a", "b"'),
        (lambda card: card["files"][0].update(split="test"), 'train-.*split "train", now "test"'),
        (lambda card: card["files"][0].update(sha256="0" * 64), 'train-.*sha256 "[0-9a-f]+", now "0+"'),
        (lambda card: card["files"].append({**card["files"][0], "name": "more.gz"}), "without the file more.gz"),
    ],
)
def test_a_folder_made_from_another_card_is_refused_with_what_differs(site, change, told):
    del site.card["files"][0]["sha256"]
    site.get()
    change(site.card)
    with pytest.raises(
        DataError, match=f"cells: was made from another card: {told}.*; move it away".replace('["', '\\["')
    ):
        site.get()


def test_what_does_not_shape_the_content_may_change_in_a_card(site):
    digest = site.get().footprint.digest
    site.card["about"] = "more of them"
    site.card["files"][0]["urls"] = ["https://example.org/"]
    site.card["files"][0]["md5"] = "0" * 32  # was not known at first
    assert not site.get().fresh
    site.card |= {"options": {"transposed": False}, "footprint": digest}  # said otherwise, and the same comes out
    assert not site.get().fresh


@pytest.mark.parametrize("name", ["unpacked", "cells.download.json", "cells.footprint.json"])
def test_a_file_may_have_any_name_that_a_card_can_give_it(site, name):
    site.card["files"][0]["name"] = name
    site.get(keep_archive=True)
    assert (site.data_root / "cells.archives" / name).is_file()
    assert site.listing() == sorted([*LEFT, "cells.archives"]) and not site.get().fresh


def test_a_date_in_a_card_is_written_as_text(site):
    with site.path.open("a") as file:
        file.write("options: {colours: {gland: 2024-02-03}}\nexpectations: {modes: [2024-02-04]}\n")
    for fresh in (True, False):
        assert download(card(site.folder / "cells.yaml"), site.cells, site.told, patience=PATIENCE).fresh == fresh


def test_a_folder_that_is_something_else_is_left_alone(site):
    site.cells.mkdir(parents=True)
    (site.cells / "thesis.tex").write_text("precious")
    with pytest.raises(DataError, match="exists, and is not cells as diva download makes it"):
        site.get()
    (site.cells / "dataset.yaml").write_text("name: other")
    with pytest.raises(DataError, match="exists, and is not cells"):
        site.get()
    (site.data_root / "file").write_text("")
    with pytest.raises(DataError, match="is a file, not a folder"):
        site.get(to=site.data_root / "file")
    assert (site.cells / "thesis.tex").read_text() == "precious" and site.asked() == 0


def test_a_bundled_data_set_is_downloaded_from_nowhere(tmp_path, monkeypatch):
    def write(folder):
        folder.mkdir()
        (folder / "a.txt").write_text("1")

    write(tmp_path / "expected")
    digest = footprint.take(tmp_path / "expected").digest
    monkeypatch.setattr(bundled, "WRITERS", {"tiny": write})
    tiny = Card(name="tiny", title="Tiny", bundled="tiny", footprint=digest)
    made = download(tiny, tmp_path / "data" / "tiny", Told())
    assert made.footprint.digest == digest and made.files == () and made.fresh
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [".gitignore", "tiny", "tiny.footprint.json"]
    assert not download(tiny, tmp_path / "data" / "tiny", Told()).fresh
    with pytest.raises(UsageError, match="tiny needs no download"):
        download(tiny, tmp_path / "data" / "tiny", Told(), given=["x.zip"])


def test_two_downloads_at_once_do_not_meet(site):
    site.data_root.mkdir()
    pid = os.fork()
    if not pid:  # a lock of POSIX does not hold off its own process
        with locked(site.cells, wait=False):
            try:
                os.kill(os.getpid(), signal.SIGSTOP)
            finally:
                os._exit(0)
    os.waitpid(pid, os.WUNTRACED)
    try:
        with pytest.raises(DataError, match="another process is making this data set"):
            site.get()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert site.get().fresh


def test_a_place_that_cannot_be_written_is_told(site):
    (site.folder / "file").write_text("")
    with pytest.raises(DataError, match=r"file/data: cannot be written.*--data-root"):
        site.get(to=site.folder / "file" / "data" / "cells")


def test_a_folder_of_the_users_is_not_hidden_from_git(site):
    (site.folder / "mine").mkdir()
    site.get(to=site.folder / "mine" / "cells")
    assert not (site.folder / "mine" / ".gitignore").exists()
    site.get(to=site.folder / "new" / "cells")
    assert (site.folder / "new" / ".gitignore").read_text() == "*\n"


# --- What is kept -----------------------------------------------------------------------------------------------------


def test_archives_are_kept_on_demand_and_used_by_the_next_download(site):
    site.get(keep_archive=True)
    assert site.listing() == sorted([*LEFT, "cells.archives"])
    assert contents_of(site.data_root / "cells.archives") == site.contents
    before, n = contents_of(site.cells), site.asked()
    noted = (site.data_root / "cells.download.json").read_bytes()
    shutil.rmtree(site.cells)
    assert site.get().fresh and site.asked() == n
    assert contents_of(site.cells) == before and (site.data_root / "cells.download.json").read_bytes() == noted
    assert contents_of(site.data_root / "cells.archives") == site.contents


@pytest.mark.parametrize("moment", ["_keep", "_note_footprint"])
def test_archives_are_kept_whenever_a_download_is_killed(site, monkeypatch, moment):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as during:
        during.setattr(f"diva.data.download.{moment}", killed)
        with pytest.raises(KeyboardInterrupt):
            site.get(keep_archive=True)
    site.get(keep_archive=True)
    assert site.listing() == sorted([*LEFT, "cells.archives"])
    assert contents_of(site.data_root / "cells.archives") == site.contents
    assert all(len(site.server.asked(f"pub/{file['name']}")) == 1 for file in site.card["files"])


def test_a_kept_archive_that_was_damaged_is_fetched_again(site):
    site.get(keep_archive=True)
    name = site.card["files"][0]["name"]
    (site.data_root / "cells.archives" / name).write_bytes(b"damaged")
    shutil.rmtree(site.cells)
    assert site.get(keep_archive=True).fresh
    assert contents_of(site.data_root / "cells.archives") == site.contents


def test_after_a_failure_what_came_is_kept_for_the_next_time(site):
    last = site.card["files"][-1]["name"]
    site.server.files[f"/pub/{last}"].plan = [serving.with_status(404)]
    with pytest.raises(DataError, match="was not fetched"):
        site.get()
    assert site.listing() == [".cells.download", ".gitignore"]
    site.get()
    needed = [line for line in site.told.lines if line.startswith("  ")]
    size, sha256, (url,) = (site.card["files"][-1][key] for key in ("size", "sha256", "urls"))
    assert needed == [f"  {last}, {size:,} bytes, sha256 {sha256}, {url}"]
    assert all(len(site.server.asked(f"pub/{file['name']}")) == 1 for file in site.card["files"][:-1])
    assert site.listing() == LEFT


# --- Without checksums --------------------------------------------------------------------------------------------------


def test_a_card_without_a_checksum_says_so_and_compares_the_next_time(site, mnist):
    file = site.file("train-labels")
    del file["sha256"], file["size"]
    site.get()
    assert any("train-labels-idx1-ubyte.gz: the card gives no checksum; its sha256" in line for line in site.told.lines)
    site.told.lines.clear()
    shutil.rmtree(site.cells)
    site.get()
    assert not any("no checksum" in line for line in site.told.lines)
    shutil.rmtree(site.cells)
    site.server.serve(f"pub/{file['name']}", mnist[0]["t10k-labels-idx1-ubyte.gz"])
    with pytest.raises(DataError, match=r"what it gave has sha256 \w+, the first time it was \w+"):
        site.get()


def test_a_damaged_note_is_told(site):
    site.data_root.mkdir()
    (site.data_root / "cells.download.json").write_text("{")
    with pytest.raises(DataError, match=r"cells.download.json: is damaged; delete it"):
        site.get()


def test_a_file_that_may_be_missing_is_missed_aloud(site):
    site.card["files"].append(
        {"name": "extra.gz", "urls": [site.server.url("none")], "optional": True, "split": "test"}
    )
    site.card["format"] = "idx"
    assert site.get().fresh
    assert any("extra.gz was not fetched" in line and "made without it" in line for line in site.told.warnings)
