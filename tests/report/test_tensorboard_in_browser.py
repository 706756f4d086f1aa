"""TensorBoard itself: a real server on 127.0.0.1 serves what the writer wrote, and a real browser shows it."""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

import numpy as np
import pytest
import torch
from PIL import Image

from diva.report.figures import confusion_matrix
from diva.report.style import png
from diva.report.tensorboard import TensorBoardWriter

pytestmark = pytest.mark.xdist_group("tensorboard server")

torch.set_num_threads(1)
CHROMIUM = Path("/usr/bin/chromium")
KNOBS: dict[str, bool | int | float | str | None] = {
    "lr": 0.1,
    "model": "cnn",
    "augment": True,
    "crop": None,
    "clip": math.inf,
}
PICTURE = png(confusion_matrix(np.array([[8, 1], [2, 9]]), ["cat", "dog"]))


def _write(folder: Path) -> None:
    """A run that was interrupted after step 29 and resumed at step 20."""
    with TensorBoardWriter(folder) as writer:
        writer.hyperparameters(KNOBS, {})
        for step in range(30):
            writer.scalars({"accuracy": 0.5}, step)
    with TensorBoardWriter(folder, purge_step=20) as writer:
        for step in range(20, 40):
            writer.scalars({"accuracy": 1.0}, step)
        writer.figure("confusion", PICTURE, 39)
        writer.text("report", "# All is **well**", 39)
        writer.histogram("weights", torch.tensor([0.0, 1.0, math.nan]), 39)
        writer.hyperparameters(KNOBS, {"test/accuracy": 0.75})


class Server:
    def __init__(self, folder: Path, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self._opener = build_opener(ProxyHandler({}))

    def get(self, path: str, body: dict | None = None, **query) -> bytes:
        address = f"{self.address}/data/plugin/{path}" + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body).encode()
        request = Request(address, data, {"Content-Type": "application/json"})
        with self._opener.open(request, timeout=10) as answer:
            return answer.read()

    def read(self, path: str, body: dict | None = None, **query):
        return json.loads(self.get(path, body, **query))

    def wait(self, process: subprocess.Popen, log: Path) -> None:
        """Until the last thing written is served."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if "test/accuracy" in self.read("scalars/tags").get("run", {}):
                    return
            except URLError:
                pass
            time.sleep(0.1)
        pytest.fail(f"TensorBoard did not serve the run within 60 s:\n{log.read_text()}")


@pytest.fixture(scope="module", params=["true", "false"], ids=["fast loader", "python loader"])
def server(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("logdir")
    _write(folder / "run")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder.parent / f"tensorboard-{port}.log"
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--host", "127.0.0.1"]
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port), f"--load_fast={request.param}"], stdout=output, stderr=output
        )
    try:
        started = Server(folder, port)
        started.wait(process, log)
        yield started
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def test_scalars_of_a_resumed_run_are_one_clean_curve(server):
    points = server.read("scalars/scalars", run="run", tag="accuracy")
    assert [(step, value) for _, step, value in points] == [(step, 0.5 if step < 20 else 1.0) for step in range(40)]


def test_image_is_served_byte_for_byte(server):
    assert server.read("images/tags")["run"]["confusion"]["samples"] == 1
    (image,) = server.read("images/images", run="run", tag="confusion", sample=0)
    assert image["step"] == 39
    with server._opener.open(f"{server.address}/data/plugin/images/individualImage?{image['query']}") as answer:
        assert answer.read() == PICTURE


def test_text_is_served_as_markdown(server):
    assert sorted(server.read("text/tags")["run"]) == ["report", "weights/left_out"]
    (text,) = server.read("text/text", run="run", tag="report")
    assert "<h1>All is <strong>well</strong></h1>" in text["text"]
    (left_out,) = server.read("text/text", run="run", tag="weights/left_out")
    assert "1 of 3 elements left out: 1 NaN, 0 infinite" in left_out["text"]


def test_histogram_is_served(server):
    assert list(server.read("histograms/tags")["run"]) == ["weights"]
    ((_, step, buckets),) = server.read("histograms/histograms", run="run", tag="weights")
    assert step == 39 and sum(count for _, _, count in buckets) == 2


def test_hyperparameters_are_a_row_with_the_metrics(server):
    statuses = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
    body = {"experimentName": "", "allowedStatuses": statuses, "colParams": [], "startIndex": 0, "sliceSize": 10}
    (row,) = server.read("hparams/session_groups", body)["sessionGroups"]
    assert row["hparams"] == {"lr": 0.1, "model": "cnn", "augment": True, "clip": "inf"}
    metrics = {metric["name"]["tag"]: metric["value"] for metric in row["metricValues"]}
    assert metrics == {"accuracy": 1.0, "test/accuracy": 0.75}
    assert row["sessions"][0]["status"] == "STATUS_SUCCESS"


def test_browser_shows_the_page(server, tmp_path):
    if not CHROMIUM.exists():
        pytest.skip("NO BROWSER: /usr/bin/chromium is missing, so nobody has LOOKED at the page (apt install chromium)")
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    command = [str(CHROMIUM), *flags.split(), "--disable-component-update", "--disable-sync", "--no-proxy-server"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,1600", "--virtual-time-budget=10000"]
    command += [f"--screenshot={tmp_path / 'page.png'}", "--dump-dom", f"{server.address}/#timeseries"]
    environment = {**os.environ, "HOME": str(tmp_path)}
    page = ""
    deadline = time.monotonic() + 60
    while 'title="accuracy"' not in page and ">accuracy<" not in page and time.monotonic() < deadline:
        shutil.rmtree(tmp_path / "profile", ignore_errors=True)
        page = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout
    assert 'title="accuracy"' in page or ">accuracy<" in page, "the page names the tag"
    screenshot = np.asarray(Image.open(tmp_path / "page.png").convert("RGB"))
    assert len(np.unique(screenshot.reshape(-1, 3), axis=0)) > 50, "the page is not blank"
