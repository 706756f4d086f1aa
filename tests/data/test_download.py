"""A data set is there whole and verified, or not there; what came once is not fetched again; a kill at any moment changes nothing."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
import yaml
from PIL import Image

from diva.data import bundled
from diva.data.catalogue import Card, card
from diva.data.download import download
from diva.data.places import locked
from diva.data.sources import Patience
from diva.errors import DataError, UsageError
from diva.records import footprint
from tests.data import official
from tests.data import server as serving
from tests.data.server import Server
from tests.data.test_sources import Told

PATIENCE = Patience(timeout_s=5, pause=lambda seconds: None)
ROOT = Path(__file__).resolve().parents[2]
LEFT = [".gitignore", "cells", "cells.download.json", "cells.footprint.json"]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving.running() as one:
        yield one


@pytest.fixture(scope="module")
def mnist(tmp_path_factory):
    """Tiny files as MNIST has them: their contents by name, and the truth by split."""
    files, truth = official.mnist_like(tmp_path_factory.mktemp("mnist"), train=20, test=10)
    return {name: path.read_bytes() for name, path in files.items()}, truth


class Site:
    """A card of one's own, a server that has its files, and a data root."""

    def __init__(self, folder: Path, server: Server, contents: dict[str, bytes]) -> None:
        self.server, self.contents, self.folder = server, contents, folder
        self.data_root = folder / "data"
        self.cells = self.data_root / "cells"
        self.told = Told()
        for name, content in contents.items():
            server.serve(f"pub/{name}", content)
        self.card: dict = {
            "name": "cells", "title": "Cells", "licence": "CC BY 4.0", "citation": "A. Author, 2020", "homepage": "http://127.0.0.1/",
            "format": "idx", "classes": [str(i) for i in range(10)], "val": 0.2,
            "files": [
                {
                    "name": name, "urls": [server.url(f"pub/{name}")], "size": len(content),
                    "sha256": hashlib.sha256(content).hexdigest(), **({"split": name[:5].strip("-")} if name[0] == "t" else {}),
                }
                for name, content in contents.items()
            ],
        }  # fmt: skip
        for file in self.card["files"]:
            if "split" in file:
                file["split"] = "train" if file["name"].startswith("train") else "test"

    @property
    def path(self) -> Path:
        (self.folder / "cells.yaml").write_text(yaml.safe_dump(self.card))
        return self.folder / "cells.yaml"

    def get(self, *given, to: Path | None = None, **how):
        return download(
            card(self.path), to or self.cells, self.told, given=list(map(str, given)), patience=PATIENCE, **how
        )

    def listing(self) -> list[str]:
        return sorted(path.name for path in self.data_root.iterdir()) if self.data_root.exists() else []

    def asked(self) -> int:
        return sum(len(served.requests) for served in self.server.files.values())

    def file(self, start: str) -> dict:
        return next(file for file in self.card["files"] if file["name"].startswith(start))


@pytest.fixture
def site(tmp_path, server, mnist) -> Site:
    return Site(tmp_path, server, mnist[0])


def contents_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


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
    site.card |= {"about": "Cells: “blue”", "notes": "a\nb", "expectations": {"n": 1}}
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


# --- What a user gives --------------------------------------------------------------------------------------------------


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
    with pytest.raises(DataError, match=r"its format 'idy' has no reader; did you mean idx\?"):
        site.get()
    assert site.asked() == 0


# --- Kills ------------------------------------------------------------------------------------------------------------

WRITES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "fcntl.lockf", "shutil.rmtree"}


def _killed_at(site: Site, moment: int) -> tuple[bool, int]:
    """Run a download in a process that kills itself before its n-th operation on a file; whether it was, and how many there were."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reading)
        count = 0

        def audit(event, args):
            nonlocal count
            if event in WRITES and (event == "fcntl.lockf" or str(site.data_root) in os.fsdecode(str(args[0]))):
                count += 1
                if count == moment:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(audit)
        try:
            site.get()
            os.write(writing, str(count).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        said = answer.read()
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status), int(said or 0)


def test_a_kill_at_any_moment_and_a_second_run_give_the_same_bytes(site):
    def break_each_file_off_once():
        for served in site.server.files.values():
            served.plan = [serving.breaking_off_after(len(served.content) // 2)]

    break_each_file_off_once()
    _, n_moments = _killed_at(site, 0)
    expected, notes = (
        contents_of(site.cells),
        {name: (site.data_root / name).read_bytes() for name in LEFT if name.endswith(".json")},
    )
    digest = footprint.take(site.cells).digest
    assert n_moments > 50 and expected
    kills = 0
    for moment in range(1, n_moments + 1, max(1, n_moments // 25)):
        shutil.rmtree(site.data_root)
        break_each_file_off_once()
        killed, _ = _killed_at(site, moment)
        kills += killed
        site.get()
        assert contents_of(site.cells) == expected, moment
        assert site.listing() == LEFT, moment
        assert (site.data_root / "cells.download.json").read_bytes() == notes["cells.download.json"]
        assert footprint.read(site.data_root / "cells.footprint.json").digest == digest
    assert kills >= 25


def test_a_download_killed_twice_goes_on_twice(site):
    name = site.card["files"][0]["name"]
    for after in (300, 500):
        site.server.files[f"/pub/{name}"].plan = [serving.hanging_after(after)]
        site.server.reached.clear()
        process = command(site, stderr=subprocess.DEVNULL)
        assert site.server.reached.wait(60)
        process.kill()
        process.wait()
        assert site.listing() == [".cells.download", ".cells.lock", ".gitignore"]
    site.get()
    assert site.listing() == LEFT
    assert len(site.server.asked(f"pub/{name}")) == 3


# --- The command --------------------------------------------------------------------------------------------------------


def command(site: Site | None, *arguments: str, **how) -> subprocess.Popen[str]:
    own = [str(site.path), "--data-root", str(site.data_root)] if site else []
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    return subprocess.Popen(
        [sys.executable, "-m", "diva", "download", *own, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        **how,
    )


def ran(site: Site | None, *arguments: str) -> tuple[int, str, str]:
    process = command(site, *arguments, stderr=subprocess.PIPE)
    out, said = process.communicate(timeout=120)
    return process.returncode, out, said


def test_the_command_prints_the_folder_and_tells_the_rest_elsewhere(site):
    code, out, said = ran(site)
    assert (code, out) == (0, f"{site.cells}\n")
    assert "train-images-idx3-ubyte.gz" in said and "\r" not in said and "\x1b" not in said
    code, out, said = ran(site, "--quiet", "--json")
    assert (code, said) == (0, "")
    found = json.loads(out)
    assert found["folder"] == str(site.cells) and found["footprint"] == footprint.take(site.cells).digest
    assert {file["url"] for file in found["files"]} == {file["urls"][0] for file in site.card["files"]}


def test_the_command_refuses_an_unknown_name_in_one_line():
    code, out, said = ran(None, "digit")
    assert (code, out) == (4, "") and said == "diva: error: no data set is called 'digit'; did you mean digits?\n"


def test_the_command_interrupted_says_how_to_go_on(site):
    name = site.card["files"][0]["name"]
    site.server.files[f"/pub/{name}"].plan = [serving.hanging_after(300)]
    process = command(site, stderr=subprocess.PIPE)
    assert site.server.reached.wait(60)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert said.endswith("diva: error: interrupted; give the same command again to go on\n")
    assert site.get().fresh and site.listing() == LEFT
