"""The command prints the folder alone; killed at any moment and given again, it makes the same bytes."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from diva.records import footprint
from tests.data import server as serving
from tests.data.site import LEFT, Site, contents_of

ROOT = Path(__file__).resolve().parents[2]


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


def test_a_place_that_cannot_be_written_is_told_with_the_option_that_chose_it(site):
    (site.folder / "file").write_text("")
    for to in (site.folder / "file" / "x", Path("/proc/x")):
        code, out, said = ran(site, "--to", str(to))
        assert (code, out) == (4, "") and said.endswith("choose another place with --to\n") and said.count("\n") == 1
    code, _, said = ran(site, "--data-root", str(site.folder / "file"))
    assert code == 4 and said.endswith("choose another place with --data-root\n")


def test_the_command_interrupted_says_how_to_go_on(site):
    name = site.card["files"][0]["name"]
    site.server.files[f"/pub/{name}"].plan = [serving.hanging_after(300)]
    process = command(site, stderr=subprocess.PIPE)
    assert site.server.reached.wait(60)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert said.endswith("diva: error: interrupted; give the command again\n")
    assert site.get().fresh and site.listing() == LEFT


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
