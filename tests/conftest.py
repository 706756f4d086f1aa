"""What every test may rely on: one thread, no setting and no cache of the user's, a device named on the command line.

The environment is prepared when pytest loads this file, before any test imports torch; subprocesses and pytest-xdist's
workers inherit it. Each worker has a cache folder of its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

_SESSION_FOLDER = "TESTS_SESSION_FOLDER"  # set by the main process, inherited by its workers


def _prepare_environment() -> None:
    # Shells start what runs in the background with SIGINT ignored, which the commands under test would inherit.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = os.environ.get(_SESSION_FOLDER) if "PYTEST_XDIST_WORKER" in os.environ else None
    folder = folder or tempfile.mkdtemp(prefix="diva-tests-")
    for name in [name for name in os.environ if name.startswith("DIVA_")]:
        del os.environ[name]
    cache = Path(folder) / os.environ.get("PYTEST_XDIST_WORKER", "main")
    cache.mkdir(exist_ok=True)
    os.environ |= {
        _SESSION_FOLDER: folder,
        "XDG_CACHE_HOME": str(cache),
        "OMP_NUM_THREADS": "1",  # the bits of stock CPU kernels change with the number of threads
        "MKL_NUM_THREADS": "1",
        "MPLBACKEND": "Agg",
        # Commits that tests make need an author on any machine, and must not wait for a pass phrase or an editor.
        "GIT_AUTHOR_NAME": "Test",
        "GIT_AUTHOR_EMAIL": "test@example.org",
        "GIT_COMMITTER_NAME": "Test",
        "GIT_COMMITTER_EMAIL": "test@example.org",
        "GIT_TERMINAL_PROMPT": "0",
    }


_prepare_environment()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="device for the tests that compute: cpu (default), cuda, cuda:1")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked gpu run under --device cuda, and are skipped, with the reason shown, without it."""
    if str(config.getoption("--device")).startswith("cuda"):
        return
    skip = pytest.mark.skip(reason="needs a GPU: run with --device cuda")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)


def pytest_unconfigure() -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        shutil.rmtree(os.environ[_SESSION_FOLDER], ignore_errors=True)


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> str:
    """The device under test: `cpu` unless pytest was given --device."""
    return str(request.config.getoption("--device"))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Starts each test with one torch thread, whatever the test before it set; imports torch for none."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "set_num_threads"):
        torch.set_num_threads(1)
