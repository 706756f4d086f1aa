"""Names of members of archives: which are safe on every file system, alone and beside each other."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, NoReturn, final

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST_PART, _LONGEST = 255, 4000  # bytes; what common file systems and systems take


@final
class Names:
    """The names of an archive, taken one by one; `refuse(name, why)` is called for one that is unsafe, and must raise."""

    def __init__(self, refuse: Callable[[str, str], NoReturn]) -> None:
        self._refuse = refuse
        self._files: dict[str, str] = {}  # by key: two names with the same key are one file on some file system
        self._folders: dict[str, str] = {}

    @staticmethod
    def normal(name: str) -> str:
        """The name without `./`, doubled and trailing slashes."""
        return "/".join(part for part in name.split("/") if part not in ("", "."))

    def add_file(self, name: str) -> str:
        """Take the name of a file; its normal form."""
        normal = self._safe(name)
        if not normal:
            self._refuse(name, "is a file without a name")
        key = _key(normal)
        if key in self._files:
            other = self._files[key]
            self._refuse(name, "is there twice" if other == normal else _alike(other))
        self._files[key] = normal
        self._add_folders(normal.rpartition("/")[0])
        return normal

    def add_folder(self, name: str) -> None:
        """Take the name of a folder; one may be there more than once."""
        self._add_folders(self._safe(name))

    def check_parents(self) -> None:
        """Refuse a file that is also the folder of another member; to be called at the end."""
        for key, folder in self._folders.items():
            if key in self._files:
                self._refuse(self._files[key], f"is a file, and the folder {folder!r} of other members")

    def _add_folders(self, folder: str) -> None:
        while folder:
            key = _key(folder)
            if key in self._folders:  # and its parents with it
                if self._folders[key] != folder:
                    self._refuse(folder, _alike(self._folders[key]))
                return
            self._folders[key] = folder
            folder = folder.rpartition("/")[0]

    def _safe(self, name: str) -> str:
        """The normal form of a name that leads nowhere else, in every system, and can be shown."""
        if any("\ud800" <= char <= "\udfff" for char in name):
            self._refuse(name, "is a name that is not valid UTF-8")
        if "\0" in name:
            self._refuse(name, "has a NUL in its name")
        if any(unicodedata.category(char) == "Cc" for char in name):
            self._refuse(name, "has control characters in its name")
        if name.startswith("/"):
            self._refuse(name, "is an absolute path")
        if re.match(r"[A-Za-z]:", name):
            self._refuse(name, "names a drive")
        if "\\" in name:
            self._refuse(name, "has a backslash in its name, which some systems take for a folder")
        if ".." in name.split("/"):
            self._refuse(name, "leads to a folder above the archive's own")
        normal = self.normal(name)
        if len(normal.encode()) > _LONGEST or any(len(part.encode()) > _LONGEST_PART for part in normal.split("/")):
            self._refuse(name, f"is a longer name than file systems take ({_LONGEST_PART} bytes for each part)")
        return normal


def _key(name: str) -> str:
    """Equal for names that a file system may take for the same one: some ignore case, some the form of accents."""
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name.casefold())


def _alike(other: str) -> str:
    return f"and {other!r} differ only in case or in the form of accents"
