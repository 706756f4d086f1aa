"""Records are tested with a git that knows no one's configuration, and no hook's variables."""

import os

import pytest


@pytest.fixture(autouse=True)
def _plain_git(monkeypatch):
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
