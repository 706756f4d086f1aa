"""Paragraphs of the documentation of Python's standard library: real English prose to classify by theme, out of its sources."""

from __future__ import annotations

import ast
import platform
import re
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Final

from diva.data.bundled.rows import write_table
from diva.data.formats import deal
from diva.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

FEWEST_WORDS: Final = 8
THEMES: Final = {
    "concurrency": "asyncio concurrent contextvars multiprocessing queue sched signal subprocess threading",
    "files": "bz2 dbm filecmp fileinput fnmatch genericpath glob gzip io lzma ntpath os pathlib posixpath _pyio shelve "
    "shutil stat tarfile tempfile zipfile",
    "formats": "base64 configparser csv email html json mailbox mimetypes plistlib quopri tomllib xml",
    "language": "abc ast codeop collections contextlib copy dataclasses dis enum functools importlib inspect modulefinder opcode "
    "pickle pickletools pkgutil runpy symtable tokenize types typing weakref zipimport",
    "network": "ftplib http imaplib ipaddress netrc poplib selectors smtplib socket socketserver ssl urllib webbrowser "
    "wsgiref xmlrpc",
    "numbers": "bisect calendar colorsys datetime _pydatetime _pydecimal fractions heapq numbers random secrets statistics "
    "_strptime",
    "testing": "bdb cmd code cProfile doctest faulthandler logging pdb pprint profile pstats reprlib timeit trace traceback "
    "tracemalloc unittest warnings",
}
"""Theme -> modules and packages of the standard library; those that a version of Python does not have are left out."""

NOTICE: Final = """Documentation strings of the modules of Python's standard library, version {version}, a paragraph a row.
Copyright (c) 2001 Python Software Foundation; All Rights Reserved. Licence: PSF License Agreement, https://docs.python.org/3/license.html
Spaces and line ends within a paragraph were made one space; examples, short paragraphs and repetitions were left out.
"""


def write_docstrings(folder: Path) -> None:
    """`<split>/texts.csv`; within each theme the documentation strings, not their paragraphs, are dealt 60, 20, 20 %.

    DataError where the interpreter has no sources of a theme.
    """
    library = Path(sysconfig.get_path("stdlib"))
    rows: list[tuple[str, str]] = []
    splits: list[str] = []
    seen: set[str] = set()
    for theme, names in THEMES.items():
        paths = [path for name in names.split() for path in _sources(library, name)]
        texts = (paragraphs_of(text) for path in paths for text in _documented(path))
        found = {"\n".join(paragraphs): paragraphs for paragraphs in texts if paragraphs}  # each once, in order
        if not found:
            raise DataError(
                f"docstrings: Python's standard library in {library} has no sources to read for {theme!r}; "
                "give texts of your own with --data, or --data number_words"
            )
        dealt = deal(f"docstrings {theme}", found, 0.25, 0.2)
        for key, paragraphs in found.items():
            for paragraph in paragraphs:
                if paragraph not in seen:
                    seen.add(paragraph)
                    rows.append((paragraph, theme))
                    splits.append(dealt[key])
    write_table(folder, ("text", "label"), rows, splits, "texts.csv")
    (folder / "LICENCE.txt").write_text(NOTICE.format(version=platform.python_version()), encoding="utf-8")


def paragraphs_of(text: str) -> list[str]:
    """The paragraphs of prose in a documentation string: of eight words or more, without those that hold an example session."""
    parts = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
    return [part for part in parts if ">>>" not in part and len(re.findall("[A-Za-z]+", part)) >= FEWEST_WORDS]


def _sources(library: Path, name: str) -> list[Path]:
    """The files of a module or package, in the order of their paths; its own tests are left out."""
    module = library / f"{name}.py"
    inside = (path.relative_to(library / name).as_posix() for path in (library / name).rglob("*.py"))
    kept = sorted(path for path in inside if not {"test", "tests"} & set(path.split("/")[:-1]))
    return [*([module] if module.is_file() else []), *(library / name / path for path in kept)]


def _documented(path: Path) -> Iterator[str]:
    """The documentation strings of a file: of the module, and of its classes and functions at any depth."""
    left: list[ast.AST] = [ast.parse(path.read_bytes())]
    while left:
        node = left.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield text
        inner = (child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt | ast.ExceptHandler))
        left += reversed(list(inner))  # expressions hold no definitions; in the order of the file
