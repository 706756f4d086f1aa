"""A server on this machine, and a data set on it that can be downloaded."""

from collections.abc import Iterator

import pytest

from tests.data import official
from tests.data import server as serving
from tests.data.server import Server
from tests.data.site import Site


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    """A web server, and no proxy on the way to it."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving.running() as one:
        yield one


@pytest.fixture(scope="session")
def mnist(tmp_path_factory):
    """Tiny files as MNIST has them: their contents by name, and the truth by split."""
    files, truth = official.mnist_like(tmp_path_factory.mktemp("mnist"), train=20, test=10)
    return {name: path.read_bytes() for name, path in files.items()}, truth


@pytest.fixture
def site(tmp_path, server, mnist) -> Site:
    """These files as the data set `cells` on the server."""
    return Site(tmp_path, server, mnist[0])
