"""What tests of downloads share: a data set on a server of this machine, its card, a data root, and who listens."""

from __future__ import annotations

import hashlib
from pathlib import Path

import yaml

from diva.data.catalogue import card
from diva.data.download import download
from diva.data.download.sources import Patience
from tests.data.server import Server

PATIENCE = Patience(timeout_s=5, pause=lambda seconds: None)
LEFT = [".gitignore", "cells", "cells.download.json", "cells.footprint.json"]


class Told:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warnings: list[str] = []
        self.bars: dict[str, tuple] = {}

    def say(self, line):
        self.lines.append(line)

    def warn(self, line):
        self.warnings.append(line)

    def progress(self, total, label, unit=""):
        told = self

        class Bar:
            n = 0

            def __enter__(self):
                return self

            def __exit__(self, *_):
                told.bars[label] = (self.n, total, unit)

            def update(self, n):
                self.n += n

        return Bar()


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


def contents_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }
