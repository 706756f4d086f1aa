"""The shape of the repository: what lies at the top, and what must never be committed."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

TOP_LEVEL = {
    "pyproject.toml", "setup_environment.sh", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md",
    "diva", "templates", "datasets", "scripts", "tests", "docs",
}  # fmt: skip
MAX_BYTES = 1_000_000
MAX_LINES = 450

GENERATED = re.compile(
    r"(^|/)(__pycache__|node_modules|[^/]*\.egg-info|\.venv[^/]*|\.\w+_cache|\.hypothesis|\.ipynb_checkpoints)/"
    r"|^(build|dist|site|runs|data)/"
    r"|\.(pyc|pyo|so|dylib|o|a|whl|log|orig|rej|pt|pth|ckpt|safetensors)$"
    r"|(^|/)(\.DS_Store|\.coverage|events\.out\.tfevents[^/]*)$"
)
SHIPPED = {
    "templates/finetune/backbone.safetensors"
}  # weights that a template starts from; made by scripts/make_backbone
# A path of one machine, not part of a longer word, path or URL. A made-up home is fine in a test, as an example.
MACHINE_PATH = re.compile(r"(?<![\w.~/$}*<-])/(work|root)/")
HOME_PATH = re.compile(r"(?<![\w.~/$}*<-])/(home|Users)/\w[\w.-]*/")
# Package registries are the reader's own choice; their hosts are spelt in pieces, so that this file names none.
REGISTRY_HOST = re.compile("|".join(map(re.escape, [
    "pypi" + ".org", "python" + "hosted.org", "pypi" + ".python.org", "registry.npm" + "js.org", "deb.deb" + "ian.org",
    "security.deb" + "ian.org", "archive.ubu" + "ntu.com", "conda.ana" + "conda.org", "proxy.go" + "lang.org",
])))  # fmt: skip


def committed_files() -> list[Path]:
    """What git holds or would hold (tracked, and untracked but not ignored), relative to the project."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout: this is an unpacked source archive")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return sorted(Path(name) for name in names if name and (ROOT / name).is_file())


def text_of(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8", errors="replace")


def test_the_top_level_is_as_planned():
    top = {path.parts[0] for path in committed_files()}
    visible = {name for name in top if not name.startswith(".")}
    assert visible == TOP_LEVEL, (
        "the top level is given (docs/explanation/architecture.md): move what is new, add what is missing"
    )
    assert Path(".ci/run") in committed_files()


def test_templates_and_datasets_are_no_packages():
    inits = [str(p) for p in committed_files() if p.parts[0] in {"templates", "datasets"} and p.name == "__init__.py"]
    assert inits == [], "templates are loaded by path, like a user's own: delete these"


def test_no_large_file_is_committed():
    large = [
        f"{p}: {(ROOT / p).stat().st_size} bytes" for p in committed_files() if (ROOT / p).stat().st_size > MAX_BYTES
    ]
    assert large == [], f"over {MAX_BYTES} bytes: make it at test time, or download it"


def test_no_generated_file_is_committed():
    generated = {p.as_posix() for p in committed_files() if GENERATED.search(p.as_posix())}
    assert generated == SHIPPED, "delete these and add them to .gitignore"


@pytest.mark.parametrize(("pattern", "exempt", "advice"), [
    (MACHINE_PATH, "", "a path of one machine: write it relative to the project, or with ~"),
    (HOME_PATH, "tests", "a path of one user: write it relative to the project, or with ~"),
    (REGISTRY_HOST, "", "name the package, not the registry's host"),
], ids=["machine-paths", "home-paths", "registry-hosts"])  # fmt: skip
def test_no_file_names(pattern: re.Pattern[str], exempt: str, advice: str):
    files = [path for path in committed_files() if path.parts[0] != exempt]
    found = [
        f"{path}:{number}: {match[0]}"
        for path in files
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if (match := pattern.search(line))
    ]
    assert len(files) >= 30
    assert found == [], advice


def test_every_module_says_what_it_is():
    modules = sorted((ROOT / "diva").rglob("*.py"))
    silent = [str(path.relative_to(ROOT)) for path in modules if not ast.get_docstring(ast.parse(path.read_text()))]
    assert len(modules) >= 30
    assert silent == [], 'the first line of each module says what it is: """Footprints: ..."""'


def test_no_file_is_long():
    def is_code(path: Path) -> bool:
        return path.suffix in {".py", ".sh", ".cpp", ".h", ".cu"} or (
            path.parts[0] in {"scripts", ".ci"} and not path.suffix
        )

    code = [path for path in committed_files() if is_code(path)]
    long = [f"{path}: {n} lines" for path in code if (n := len(text_of(path).splitlines())) > MAX_LINES]
    assert len(code) >= 30
    assert long == [], f"over {MAX_LINES} lines: make it two files, each with its own first line"


def test_scripts_are_executable():
    scripts = [
        p for p in committed_files() if p.parts[0] == "scripts" or p in {Path("setup_environment.sh"), Path(".ci/run")}
    ]
    scripts = [p for p in scripts if text_of(p).startswith("#!")]
    assert {Path("setup_environment.sh"), Path(".ci/run"), Path("scripts/check"), Path("scripts/test")} <= set(scripts)
    assert [str(p) for p in scripts if not (ROOT / p).stat().st_mode & 0o111] == [], "run: chmod +x"


@pytest.mark.parametrize(("pattern", "text", "found"), [
    (MACHINE_PATH, "see {}work/main/x", True),
    (HOME_PATH, "'{}home/ada/data'", True),
    (HOME_PATH, "'{}Users/ada/data'", True),
    (MACHINE_PATH, "a/b{}work/c and ~{}work/c and $HOME{}root/c", False),
    (HOME_PATH, "~{}x, {}home{}<name>{}x and docs{}home{}x{}", False),
    (REGISTRY_HOST, "https:{}{}files.python" + "hosted.org{}packages", True),
    (REGISTRY_HOST, "https:{}{}download.pytorch.org{}whl", False),
    (GENERATED, "diva{}a.pyc", True),
    (GENERATED, "runs{}x{}manifest.json", True),
    (GENERATED, "diva{}data{}loading.py", False),
    (GENERATED, "tests{}golden{}bits.json", False),
])  # fmt: skip
def test_the_patterns_can_fail(pattern: re.Pattern[str], text: str, found: bool):
    assert bool(pattern.search(text.replace("{}", "/"))) is found
