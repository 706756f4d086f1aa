"""The documentation tells the truth: its commands run, its output is what they print, its names exist, and it builds.

A page is one shell session in a fresh checkout. A comment on the line before a fence says what is special about it:

    <!-- exit: 4 -->         the block ends with this exit code (otherwise 0; every command in it must succeed)
    <!-- until stopped -->   it serves until it is stopped: it must answer HTTP, then it is ended
    <!-- needs: gpu -->      it runs under --device cuda only
    <!-- output -->          a text block: these lines, in this order, are what the commands before it printed; numbers, digests and
                             run ids may differ, a line `...` stands for any lines. `<!-- output: exactly -->`: nothing may differ
    <!-- from: FILE -->      every line of the block stands in that file
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import warnings
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import yaml

from diva.cli import cli
from diva.experiment.find import find_task, load_found, template_names
from diva.params import knobs_of
from diva.records.manifest import DataRecord, LoadedRecord, Manifest, TaskRecord

from .prepared import shell_function

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
SHELLS = ("bash", "console", "sh")
DATA = ("python", "yaml", "json", "text")
FIRST_RUN = ".venv/bin/diva run --task image_classification --seed 42"
# Set-up commands would start the suite that runs this test, or take minutes: what is run here in their place, None for nothing.
SETUP = {
    f"./setup_environment.sh && {FIRST_RUN}": FIRST_RUN,
    "./setup_environment.sh --dev && .venv/bin/python -m pytest": None,
    "./setup_environment.sh --dev": None,
}
LEAST_COMMAND_BLOCKS, PAGE_LIMIT_S = 50, 420

pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a git checkout, not an unpacked archive")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the comment before it ("" for none), its text, and the line it starts on."""

    language: str
    mark: str
    text: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    fence = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    text = page.read_text(encoding="utf-8")
    found = []
    for match in fence.finditer(text):
        before = text[: match.start()].rstrip("\n").rpartition("\n")[2]
        comment = re.fullmatch(r"<!-- (.*) -->", before)
        found.append(Block(match[1], comment[1] if comment else "", match[2], text.count("\n", 0, match.start()) + 1))
    return found


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def commands_in(block: Block) -> str:
    """The commands of a block without prompts, set-up commands replaced by what stands for them here."""
    prompted = [line[2:] for line in block.text.splitlines() if line.startswith("$ ")]
    lines = prompted if block.language == "console" else block.text.splitlines()
    return "\n".join(SETUP[line] or ":" if line.startswith("./setup_environment.sh") else line for line in lines) + "\n"


# --- Running a page ---------------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clone of the working tree as it is, committed, with this Python's environment as its .venv."""
    folder = tmp_path / "checkout"
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for arguments in ("init --quiet --initial-branch=main", "add --all", "commit --quiet --message checkout"):
        subprocess.run(["git", *arguments.split()], cwd=folder, check=True)
    environment = Path(sys.prefix)
    if (environment / "bin/activate").exists():
        (folder / ".venv").symlink_to(environment)
    else:  # this Python is no virtual environment: something like one
        (folder / ".venv/bin").mkdir(parents=True)
        (folder / ".venv/bin/activate").write_text('PATH="$PWD/.venv/bin:$PATH"\n')
        for name in ("python", "diva"):
            (folder / ".venv/bin" / name).symlink_to(shutil.which(name) or environment / "bin" / name)
    return folder


def environment_of_a_user(folder: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "DIVA_", "GIT_DIR", "VIRTUAL_ENV"))}
    # An environment that is active where this suite runs must not help a page to `diva`; and its `pytest` starts no workers.
    places = [place for place in os.get_exec_path() if Path(place) != Path(sys.prefix) / "bin"]
    own = {"HOME": str(folder), "TMPDIR": str(folder), "NO_COLOR": "1", "PYTEST_XDIST_AUTO_NUM_WORKERS": "0"}
    return kept | own | {"PATH": os.pathsep.join(places)}


def script(blocks: list[Block], place: Path) -> str:
    """A shell script that runs the blocks one after the other; after each, a line in `done` and the output in a file."""
    parts = [shell_function(), f"place={place}", 'trap \'echo "stopped $?" >> "$place/done"\' EXIT']
    for number, block in enumerate(blocks):
        whole = re.sub("(?m)^diva(?=.* &$)", "command diva", commands_in(block))  # it is sent signals
        (place / f"{number}.sh").write_text(whole)
        run = f'. "$place/{number}.sh" > "$place/{number}.out" 2>&1'
        if block.mark.startswith("exit: "):
            # In a shell of its own: what fails must not end the page.
            parts += ["set +e", f"(set -e; {run})", "code=$?"]
        else:
            parts += ["set -e", run, "code=0"]
        parts.append(f'echo "{number} $code" >> "$place/done"')
    return "\n".join([*parts, "trap - EXIT"]) + "\n"


def ended_with(process: subprocess.Popen[bytes], limit_s: float) -> None:
    """Wait for a process; after `limit_s` end it and all that it started."""
    try:
        process.wait(limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


def serve_and_stop(block: Block, folder: Path, place: Path) -> None:
    """Run a block until the address that it prints answers, then end it."""
    said = place / "served.out"
    command = ["bash", "-c", ". .venv/bin/activate\n" + commands_in(block)]
    env, nothing = environment_of_a_user(place), subprocess.DEVNULL
    with said.open("wb") as f:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=f, stderr=f, stdin=nothing, process_group=0)
    try:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and process.poll() is None:
            addresses = re.findall(r"http://(?:127\.0\.0\.1|localhost):[1-9]\d+/?", said.read_text(errors="replace"))
            if addresses and urllib.request.urlopen(addresses[-1], timeout=60).status == 200:
                return
            time.sleep(0.2)  # there is nothing to wait on but the output of another process
        pytest.fail(f"line {block.line}: it served nothing:\n{said.read_text(errors='replace')}")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def is_command(block: Block) -> bool:
    return block.language in SHELLS


def wanted_code(block: Block) -> int:
    return int(block.mark.removeprefix("exit: ")) if block.mark.startswith("exit: ") else 0


@pytest.mark.parametrize("page", [page for page in PAGES if any(map(is_command, blocks_of(page)))], ids=name_of)
def test_the_commands_of_a_page_run(page: Path, checkout: Path, tmp_path: Path, device: str):
    place = tmp_path / "session"
    place.mkdir()
    blocks = [block for block in blocks_of(page) if is_command(block)]
    served = [block for block in blocks if block.mark == "until stopped"]
    skipped = [block for block in blocks if block.mark == "needs: gpu" and not device.startswith("cuda")]
    ran = [block for block in blocks if block not in served and block not in skipped]
    with (place / "shell.out").open("wb") as file:
        shell = subprocess.Popen(
            ["bash", "-c", script(ran, place)], cwd=checkout, env=environment_of_a_user(tmp_path), start_new_session=True,
            stdout=file, stderr=file, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    ended_with(shell, PAGE_LIMIT_S)
    codes = [line.split() for line in (place / "done").read_text().splitlines()]
    for number, block in enumerate(ran):
        output = place / f"{number}.out"
        said = output.read_text(errors="replace") if output.exists() else "(nothing)"
        code = codes[number][1] if number < len(codes) else "none"
        assert (str(number), code) == (codes[number][0] if number < len(codes) else "", str(wanted_code(block))), (
            f"{name_of(page)}:{block.line}: exit code {code}, expected {wanted_code(block)}\n{block.text}\n{said}"
        )
    assert len(codes) == len(ran), (place / "shell.out").read_text()
    for block in served:
        serve_and_stop(block, checkout, place)
    for block in skipped:
        warnings.warn(f"{name_of(page)}:{block.line}: not run, needs --device cuda", stacklevel=1)
    assert len(ran) + len(served) + len(skipped) == len(blocks) > 0
    check_output(page, ran, place)


def check_output(page: Path, ran: list[Block], place: Path) -> None:
    """Every block marked `output` is what the command block before it printed."""
    number = -1
    for block in blocks_of(page):
        if block in ran:
            number += 1
        elif block.mark.startswith("output"):
            exactly = block.mark == "output: exactly"
            printed = (place / f"{number}.out").read_text(encoding="utf-8", errors="replace").splitlines()
            shown = block.text.splitlines()
            missing = first_missing(shown, printed, exactly=exactly)
            assert missing is None, f"{name_of(page)}:{block.line}: not printed here: {missing}\n" + "\n".join(
                printed[-60:]
            )


def first_missing(shown: list[str], printed: list[str], *, exactly: bool) -> str | None:
    """The first shown line that was not printed in its place; a line `...` skips any number of printed ones."""
    rest = [line if exactly else normalised(line) for line in printed]
    may_skip = False
    for line in shown:
        if line == "...":
            may_skip = True
            continue
        wanted = line if exactly else normalised(line)
        if may_skip and wanted in rest:
            rest = rest[rest.index(wanted) :]
        if not rest or rest[0] != wanted:
            return line
        rest, may_skip = rest[1:], False
    return None if may_skip or not rest else f"{rest[0]} (more was printed)"


def normalised(line: str) -> str:
    """A line without what differs between machines and moments: ids, digests, numbers, widths of columns."""
    line = re.sub(r"\d{8}-\d{6}-[0-9a-f]{6}", "ID", line)
    line = re.sub(r"\b[0-9a-f]{12,64}\b", "DIGEST", line)
    line = re.sub(r"(?<![\w.])\d[\d,]*(\.\d+)?(e[-+]\d+)?\b", "N", line)
    return " ".join(re.sub(r"-{3,}", "---", line).split())


# --- What is run elsewhere, and what only has to parse -----------------------------------------------------------------


def test_set_up_commands_are_those_that_are_known():
    found = [line for page in PAGES for b in blocks_of(page) if is_command(b) for line in b.text.splitlines()]
    found = [line for line in found if "setup_environment.sh" in line]
    assert sorted(set(found)) == sorted(SETUP)
    ci = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert "\n./setup_environment.sh --dev\n" in ci and ".venv/bin/python -m pytest" in ci
    warnings.warn(
        "the documentation's ./setup_environment.sh commands are not run by this suite, which they would start; "
        ".ci/run executes ./setup_environment.sh --dev and .venv/bin/python -m pytest from nothing",
        stacklevel=1,
    )


def test_readme_begins_with_the_two_commands():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("./setup_environment.sh")] == list(SETUP)[:2]
    first, second = (block for block in blocks_of(ROOT / "README.md")[:2])
    assert [first.text.strip(), second.text.strip()] == list(SETUP)[:2]


def test_no_block_is_overlooked():
    fences = [line for page in PAGES for line in page.read_text(encoding="utf-8").splitlines() if "```" in line]
    blocks = [block for page in PAGES for block in blocks_of(page)]
    assert len(fences) == 2 * len(blocks), "a fence is indented, or not closed"
    strange = {block.language for block in blocks} - {*SHELLS, *DATA}
    assert not strange, f"say what a block holds: {', '.join((*SHELLS, *DATA))}"
    assert len([block for block in blocks if is_command(block)]) >= LEAST_COMMAND_BLOCKS
    marks = {block.mark for block in blocks if block.mark}
    known = re.compile(r"exit: \d+|until stopped|needs: gpu|output|output: exactly|from: \S+")
    assert [mark for mark in marks if not known.fullmatch(mark)] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_parse(page: Path):
    for block in blocks_of(page):
        if block.language == "python":
            ast.parse(block.text)
        elif block.language == "yaml":
            yaml.safe_load(block.text)
        elif block.language == "json":
            json.loads(block.text)
        if block.mark.startswith("from: "):
            source = (ROOT / block.mark.removeprefix("from: ")).read_text(encoding="utf-8").splitlines()
            assert [line for line in block.text.splitlines() if line not in source] == [], f"line {block.line}"


# --- Names ------------------------------------------------------------------------------------------------------------


def options() -> dict[str, set[str]]:
    """The flags of every command, a group's with those of its members; those that take a task with the knobs of every template."""
    found = {}
    for name, command in cli.commands.items():
        members = command.commands.values() if isinstance(command, click.Group) else ()
        params = [param for each in (command, *members) for param in each.params]
        found[name] = {flag for param in params for flag in (*param.opts, *param.secondary_opts)} | {"--help"}
    knobs = [knob for template in template_names() for knob in knobs_of(load_found(find_task(template)))]
    for name in ("run", "sweep", "sensitivity"):
        for knob in knobs:
            found[name] |= {knob.flag, "--no-" + knob.flag[2:]} if knob.kind == "bool" else {knob.flag}
    return found


def code_in(page: Path) -> list[str]:
    """Inline code, and each command in the command blocks, joined where a line goes on."""
    text = page.read_text(encoding="utf-8")
    inline = re.findall(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))
    fenced = [line for b in blocks_of(page) if is_command(b) for line in b.text.replace("\\\n", " ").splitlines()]
    return [" ".join(code.split()) for code in (*inline, *fenced)]


@pytest.mark.parametrize("page", [*PAGES, *sorted(ROOT.glob("templates/*/README.md"))], ids=name_of)
def test_commands_and_options_exist(page: Path):
    flags = options()
    own = {"--noise"}  # the knob of the task that docs/reference/tasks.md writes
    elsewhere = {"--dev", "--gpu", "--cpu", "--quiet"}  # of setup_environment.sh and sha256sum
    anywhere = set().union(*flags.values(), own, elsewhere)
    for code in code_in(page):
        called = re.search(r"(?<!from )\bdiva ([a-z]+)\b(.*)", code)
        if called:
            assert called[1] in flags, f"{code}: there is no command {called[1]}"
            allowed = flags[called[1]] | own
            said = called[2].split("|")[0]
        elif code.startswith("--"):
            allowed, said = anywhere, code
        else:
            continue
        unknown = [flag for flag in re.findall(r"(?<!\S)--[a-z][a-z0-9-]*", said) if flag not in allowed]
        assert unknown == [], f"{code}: no such option"


def test_every_command_and_every_knob_is_in_the_reference(site: Path):
    commands, knobs = ((site / f"reference/{name}.html").read_text(encoding="utf-8") for name in ("cli", "knobs"))
    for name, command in cli.commands.items():
        assert f">diva {name}<" in commands
        shown = [flag for p in command.params if isinstance(p, click.Option) for flag in p.opts]
        assert [flag for flag in shown if flag not in commands] == []
    for template in template_names():
        assert [
            k.flag for k in knobs_of(load_found(find_task(template))) if f"<code>{k.flag}</code>" not in knobs
        ] == []


def test_the_architecture_names_what_is_there():
    tree = next(b.text for b in blocks_of(DOCS / "explanation/architecture.md") if b.text.startswith("diva/\n"))
    named = {line.split()[0].rstrip("/") for line in tree.splitlines() if re.match("  [a-z]", line)}
    there = {p.name for p in (ROOT / "diva").iterdir() if not p.name.startswith((".", "_")) and p.name != "py.typed"}
    assert named == there


def test_every_stream_is_in_the_reference():
    drawn = re.compile(r"(?:\.(?:reseed|keys|order|branch)\((?:[\w.()]+, )?|_evaluate\([^\"]*)\"(\w+)\"")
    files = [path for path in (ROOT / "diva").rglob("*.py") if path.name != "diagnosis.py"]
    named = {name for path in files for name in drawn.findall(path.read_text(encoding="utf-8"))}
    table = (DOCS / "reference/streams.md").read_text(encoding="utf-8").partition("## From a name")[0]
    assert len(named) >= 8
    assert named == set(re.findall(r"^\| `(\w+)", table, re.MULTILINE))


def test_every_field_of_the_manifest_is_in_the_reference():
    page = (DOCS / "reference/manifest.md").read_text(encoding="utf-8")
    fields = [name for record in (Manifest, TaskRecord, DataRecord, LoadedRecord) for name in record.model_fields]
    assert len(fields) >= 30
    assert [name for name in fields if f"`{name}`" not in page] == []


# --- The site ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly from another folder than the checkout."""
    pytest.importorskip("material", reason="the documentation's tools are missing: ./setup_environment.sh --dev")
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [str(ROOT / "scripts/docs"), "build", "--to", "site"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    built = subprocess.run(
        command, cwd=folder.parent, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=300
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_the_site_builds_and_holds_every_page(site: Path):
    pages = [page.relative_to(DOCS).with_suffix(".html") for page in PAGES if page.is_relative_to(DOCS)]
    assert len(pages) >= 20
    assert [str(page) for page in pages if not (site / page).is_file()] == []
    assert not (site / "hooks.py").exists() and not (site / "mkdocs.yml").exists()


@pytest.mark.parametrize(("page", "text", "said"), [
    ("docs/index.md", "[a link](nowhere.md)", "nowhere.md"),
    ("docs/index.md", "[a link](tutorial.md#nowhere)", "#nowhere"),
    ("docs/lost.md", "# A page that the navigation lacks", "lost.md"),
    ("docs/index.md", "<!-- generated: nothing -->", "nothing"),
])  # fmt: skip
def test_a_broken_page_fails_the_build(checkout: Path, site: Path, page: str, text: str, said: str):
    with (checkout / page).open("a") as file:
        file.write(f"\n{text}\n")
    built = subprocess.run([checkout / "scripts/docs"], capture_output=True, text=True, timeout=300)
    assert built.returncode != 0
    assert said in built.stderr


def test_every_page_is_in_the_navigation():
    def pages(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        return [page for inner in (entry.values() if isinstance(entry, dict) else entry) for page in pages(inner)]  # type: ignore[attr-defined]

    nav = yaml.safe_load((DOCS / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    assert sorted(pages(nav)) == sorted(page.relative_to(DOCS).as_posix() for page in PAGES if DOCS in page.parents)


def test_the_site_fetches_nothing_from_elsewhere(site: Path):
    fetched = re.compile(r"<(?:script|img|link|iframe)\b[^>]*\b(?:src|href)=[\"']?(https?:)?//", re.IGNORECASE)
    found = [
        f"{page.name}: {match[0]}"
        for page in site.rglob("*.html")
        for match in fetched.finditer(page.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_links_of_the_readme_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if not link.startswith("http")]
    assert len(links) >= 5 and [link for link in links if not (ROOT / link).exists()] == []


def test_a_wrong_line_of_output_is_found():
    printed = ["one 1.5", "two sha256:0123456789abcdef", "three"]
    assert first_missing(["one 2.5", "...", "three"], printed, exactly=False) is None
    assert first_missing(["...", "two sha256:ffff456789abcdef", "..."], printed, exactly=False) is None
    assert first_missing(["...", "four"], printed, exactly=False) == "four"
    assert first_missing(["one 1.5"], printed, exactly=False) is not None
    assert first_missing(["one 2.5", "..."], printed, exactly=True) == "one 2.5"
