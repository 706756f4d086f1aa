"""TensorBoard in a real browser shows the bands of several runs: margin charts, one per metric, a band per configuration.

The browser is spoken to through a pipe, in the protocol of its developer tools, since the charts stand in shadow trees that
`--dump-dom` leaves out.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

import numpy as np
import pytest
from PIL import Image

from diva.experiment.study.aggregate import Aggregation
from diva.records.run_folder import RunFolder

pytestmark = pytest.mark.xdist_group("tensorboard server")

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE_S = 120
N_STEPS = (
    1500  # more than the 1,000 points that TensorBoard keeps of a curve: those it keeps of three tags must be the same
)
DEEP = """
const deep = (what, root) => {
  const found = [...root.querySelectorAll(what)];
  for (const each of root.querySelectorAll('*')) if (each.shadowRoot) found.push(...deep(what, each.shadowRoot));
  return found;
};
"""
CHARTS = """
deep('tf-custom-scalar-margin-chart-card', document).map(card => ({
  title: card.title,
  bands: deep('path.area', card.shadowRoot).filter(path => (path.getAttribute('d') || '').length > 50).length,
  lines: deep('path.line', card.shadowRoot).filter(path => (path.getAttribute('d') || '').length > 50).length,
  complaint: deep('.error-content', card.shadowRoot).map(error => error.innerText).join(' '),
}))
"""


class Browser:
    """Chromium without a window."""

    def __init__(self, profile: Path, address: str) -> None:
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
        flags += (
            " --disable-component-update --disable-sync --no-proxy-server --hide-scrollbars --window-size=1400,1100"
        )
        command = [str(CHROMIUM), *flags.split(), "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        # The browser reads orders from its descriptor 3 and answers on 4.
        joined = ["bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{from_browser}', "bash", *command]
        self._process = subprocess.Popen(
            joined, pass_fds=(to_browser, from_browser), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(profile)},
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        self._rest, self._n, self._session = b"", 0, ""
        target = self._call("Target.createTarget", url=address)["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def _call(self, method: str, **parameters: Any) -> Any:
        self._n += 1
        session = {"sessionId": self._session} if self._session else {}
        order = {"id": self._n, "method": method, "params": parameters, **session}
        os.write(self._out, json.dumps(order).encode() + b"\0")
        while True:
            answer = self._answer()
            if answer.get("id") == self._n:
                assert "error" not in answer, answer
                return answer["result"]

    def _answer(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._in, 1 << 20)
            assert part, "the browser has gone"
            self._rest += part
        one, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(one))

    def evaluate(self, script: str) -> Any:
        """The value of a script in the page; `deep(selector, root)` finds elements in shadow trees too."""
        script = f"(() => {{ {DEEP} return {script.strip()} }})()"
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)


def write_runs(folder: Path) -> dict[str, list[RunFolder]]:
    groups: dict[str, list[RunFolder]] = {}
    for seed in range(6):
        draw = np.random.Generator(np.random.Philox(seed))
        lr = 0.1 if seed < 3 else 0.2
        noise = 0.1 * draw.random() + 0.02 * draw.standard_normal(N_STEPS)
        values = {"val/accuracy": 4 * lr + noise, "val/loss": 1 - 4 * lr - noise}
        path = folder / "members" / f"lr={lr},seed={seed}"
        path.mkdir(parents=True)
        rows = [{"per": "epoch", "epoch": 1, "step": step, "name": name, "value": float(value)}
                for name, curve in values.items() for step, value in enumerate(curve)]  # fmt: skip
        (path / "metrics.jsonl").write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))
        groups.setdefault(f"lr={lr}", []).append(RunFolder(path))
    return groups


@pytest.fixture(scope="module", params=["true", "false"], ids=["fast loader", "python loader"])
def address(request, tmp_path_factory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("study")
    aggregation = Aggregation(write_runs(folder), folder, "digits")
    aggregation.refresh()
    aggregation.finish()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder / "tensorboard"), "--port", str(port)]
    command += ["--host", "127.0.0.1", f"--load_fast={request.param}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until_served(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def wait_until_served(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until the last thing written is read: a chart that has once seen three tags of different lengths complains for good."""
    deadline, opener = time.monotonic() + PATIENCE_S, build_opener(ProxyHandler({}))
    waiting = ["aggregate/lr=0.1", "aggregate/lr=0.2"]
    while process.poll() is None and time.monotonic() < deadline:
        query = urlencode({"run": waiting[0], "tag": "spread/val/loss/last half/mean_plus_sd"})
        try:
            with opener.open(f"http://127.0.0.1:{port}/data/plugin/scalars/scalars?{query}", timeout=10) as answer:
                if json.load(answer)[-1][1] == N_STEPS - 1:
                    waiting.pop(0)
        except OSError:
            pass
        if not waiting:
            return
        time.sleep(0.2)
    pytest.fail("TensorBoard did not serve the bands")


def test_the_browser_shows_a_margin_chart_per_metric_with_a_band_per_configuration(address: str, tmp_path: Path):
    if not CHROMIUM.exists():
        pytest.skip(
            "NO BROWSER: /usr/bin/chromium is missing, so nobody has LOOKED at the bands (apt install chromium)"
        )
    browser = Browser(tmp_path / "profile", f"{address}/#custom_scalars")
    try:
        deadline = time.monotonic() + PATIENCE_S
        charts: list[dict[str, Any]] = []
        while time.monotonic() < deadline and [chart["bands"] for chart in charts[:4]] != [2] * 4:
            time.sleep(0.2)
            charts = browser.evaluate(CHARTS) or []
        browser.screenshot(tmp_path / "bands.png")
    finally:
        browser.close()
    names = ("val/loss", "val/accuracy", "val/loss/last half", "val/accuracy/last half")
    assert {chart["title"]: chart["bands"] for chart in charts[:4]} == {f"{name} (mean ± sd)": 2 for name in names}
    assert [chart["lines"] >= 2 for chart in charts[:4]] == [True] * 4
    assert [chart["complaint"].strip() for chart in charts[:4]] == [""] * 4, (
        "of the three tags steps differ, or one is missing"
    )
    seen = np.asarray(Image.open(tmp_path / "bands.png").convert("RGB"))
    assert len(np.unique(seen.reshape(-1, 3), axis=0)) > 50, "the page is not blank"
