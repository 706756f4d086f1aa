"""Card: one content, four formats, nothing lost and nothing smuggled in."""

from __future__ import annotations

import base64
import json
import math
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from diva.report.card import render

markdown = pytest.importorskip("markdown").markdown  # TensorBoard depends on it
EVIL = "<script>alert(1)</script> & \"quoted\" 'too' | *star* `tick` [x](http://evil) $a_b$"


def _png() -> bytes:
    file = BytesIO()
    Image.new("RGB", (80, 60), "red").save(file, "PNG")
    return file.getvalue()


def _card() -> dict:
    return {
        "title": "image_classification 2025",
        "status": "finished",
        "sections": [
            {"name": "Result", "rows": [["test/accuracy", 0.975], ["evil", EVIL], ["none", None], ["on", True]]},
            {"name": "Epochs", "table": {"headers": ["epoch", "loss"], "rows": [[1, 0.5], [2, math.nan]]}},
            {"name": "Command", "code": "diva run <x> && echo\n```\nend"},
            {"name": "Figures", "figures": ["figures/a b#1.png", ["a red picture", _png()]]},
        ],
    }


class _Page(HTMLParser):
    """What a browser would find: the tags with their attributes, and the text outside of <style>."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


def test_text_is_aligned_and_shows_every_value():
    text = render(_card(), "text")
    assert text.startswith("image_classification 2025   [finished]\n====")
    assert "  test/accuracy  0.975\n" in text and "  none           -\n" in text and "  on             yes\n" in text
    assert "      1   0.5\n" in text and "    diva run <x> && echo\n" in text
    assert "  figures/a b#1.png\n" in text and f"  a red picture (PNG, {len(_png())} bytes)\n" in text
    assert EVIL in text and text.endswith("\n")


def test_markdown_means_the_same_after_rendering():
    page = _Page(markdown(render(_card(), "markdown"), extensions=["tables", "fenced_code"]))
    assert EVIL in page.text
    assert "diva run <x> && echo\n```\nend" in page.text
    assert [tag for tag, _ in page.tags].count("table") == 2
    assert not {"script", "em", "a"} & {tag for tag, _ in page.tags}
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert [image["alt"] for image in images] == ["a b#1", "a red picture"]
    assert images[0]["src"] == "figures/a%20b%231.png"


def test_html_is_well_formed_escaped_and_self_contained():
    source = render(_card(), "html")
    page = _Page(source)
    assert page.open == [] and EVIL in page.text
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "base"}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert not re.search(r"(?:src|href|url\(|@import)[=\"' (]*(?:https?:)?//", source)
    inside = [attributes["src"] for tag, attributes in page.tags if tag == "img" and "base64," in attributes["src"]]
    assert [base64.b64decode(address.split("base64,")[1]) for address in inside] == [_png()]


def test_html_is_accessible():
    page = _Page(render(_card(), "html"))
    attributes = dict(reversed(page.tags))
    assert attributes["html"]["lang"] == "en" and "main" in attributes and "h1" in attributes
    assert all(found["alt"] for tag, found in page.tags if tag == "img")
    assert all("scope" in found for tag, found in page.tags if tag == "th")
    identifiers = [found["id"] for _, found in page.tags if "id" in found]
    assert len(set(identifiers)) == len(identifiers)
    assert {found["aria-labelledby"] for _, found in page.tags if "aria-labelledby" in found} == set(identifiers)


@pytest.mark.parametrize(("status", "tone"), [("finished", "good"), ("failed: no memory", "bad"), ("running", "open")])
def test_status_has_its_tone(status, tone):
    assert f'class="status {tone}">{status}<' in render({"title": "t", "status": status, "sections": []}, "html")


def test_json_holds_the_card_itself():
    read = json.loads(render(_card(), "json"), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert read["sections"][0] == json.loads(json.dumps(_card()["sections"][0]))
    assert read["sections"][1]["table"]["rows"][1] == [2, "nan"]
    assert read["sections"][3]["figures"][1][1].startswith("data:image/png;base64,")


@pytest.mark.parametrize("path", ["http://evil/x.png", "javascript:alert(1)"])
def test_figure_path_never_becomes_an_address_of_the_network(path):
    card = {"title": "t", "status": "s", "sections": [{"name": "n", "figures": [path]}]}
    for _, attributes in _Page(render(card, "html")).tags:
        for name in ("src", "href"):
            assert ":" not in attributes.get(name, "")


def test_absolute_figure_path_and_unknown_format_are_refused():
    card = {"title": "t", "status": "s", "sections": [{"name": "n", "figures": ["//evil/x.png"]}]}
    with pytest.raises(ValueError, match=r"relative to the card, got '//evil/x\.png'"):
        render(card, "html")
    with pytest.raises(ValueError, match="'pdf' is unknown, allowed: text, markdown, html, json"):
        render(card, "pdf")  # type: ignore[arg-type]


@pytest.mark.parametrize("format", ["text", "markdown", "html", "json"])
def test_empty_card_renders(format):
    assert "nothing yet" in render({"title": "nothing yet", "status": "planned", "sections": []}, format)


@pytest.mark.skipif(not shutil.which("chromium"), reason="NO BROWSER: install Debian's `chromium` to look at the card")
def test_html_loads_its_figures_in_a_browser(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "a b#1.png").write_bytes(_png())
    (tmp_path / "card.html").write_text(render(_card(), "html"))
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    command = ["chromium", *flags.split(), "--disable-component-update", "--disable-sync", "--window-size=900,1200"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={tmp_path / 'card.png'}"]
    subprocess.run(
        [*command, (tmp_path / "card.html").as_uri()],
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        timeout=60,
        check=True,
    )
    screenshot = np.asarray(Image.open(tmp_path / "card.png").convert("RGB"))
    assert (screenshot == [255, 0, 0]).all(axis=2).sum() > 1.9 * 80 * 60, "both red pictures are on the page"
