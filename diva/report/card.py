"""The card: a run on one page, as text, Markdown, HTML or JSON.

A card is a plain dict:

    {"title": str, "status": str, "sections": [
        {"name": str, "rows": [[key, value], ...]},
        {"name": str, "table": {"headers": [str, ...], "rows": [[value, ...], ...]}},
        {"name": str, "code": str},
        {"name": str, "figures": [figure, ...]}]}

A value is a str, bool, int, float, None or a list of them. A figure is the path of a PNG relative to where the card
will lie, or the PNG's bytes, or [caption, path or bytes]. A section may have several of the four.
"""

from __future__ import annotations

import base64
import html
import json
import math
import re
from pathlib import PurePosixPath
from textwrap import wrap
from typing import Any, Final, Literal
from urllib.parse import quote

from diva.report.console import table
from diva.report.tables import markdown_table, markdown_text

TEXT_WIDTH: Final = 100
NARROWEST: Final = 30
GOOD: Final = frozenset({"finished", "identical", "equivalent", "passed"})
BAD: Final = frozenset({"failed", "different", "damaged"})


def render(card: dict[str, Any], format: Literal["text", "markdown", "html", "json"]) -> str:
    """The card in one format, ending with a newline.

    HTML is a single file without scripts or anything from the network, for light and dark screens; figures given as
    bytes are inside it. In JSON such bytes become `data:` addresses, and numbers that JSON lacks become strings.
    """
    formats = {"text": _text, "markdown": _markdown, "html": _html, "json": _json}
    if format not in formats:
        raise ValueError(f"card: format {format!r} is unknown, allowed: {', '.join(formats)}")
    return formats[format](card)


def _text(card: dict[str, Any]) -> str:
    title = f"{card['title']}   [{card['status']}]"
    blocks = [f"{title}\n{'=' * len(title)}"]
    for section in card["sections"]:
        blocks.append("\n".join([section["name"], "-" * len(section["name"]), *_text_parts(section)]))
    return "\n\n".join(blocks) + "\n"


def _text_parts(section: dict[str, Any]) -> list[str]:
    lines = []
    rows = [(str(key), _value(value)) for key, value in section.get("rows", [])]
    width = max((len(key) for key, _ in rows), default=0)
    for key, value in rows:
        first, *more = _broken(value, TEXT_WIDTH - width - 4)
        lines += [f"  {key:<{width}}  {first}".rstrip(), *(f"  {'':<{width}}  {line}".rstrip() for line in more)]
    if "table" in section:
        aligned = table(section["table"]["headers"], _cells(section["table"]), TEXT_WIDTH - 2)
        lines += [f"  {line}" for line in aligned.splitlines()]
    if "code" in section:
        lines += [f"    {line}".rstrip() for line in section["code"].splitlines()]
    for figure in section.get("figures", []):
        caption, png = _figure(figure)
        lines.append(f"  {png}" if isinstance(png, str) else f"  {caption} (PNG, {len(png):,} bytes)")
    return lines


def _broken(value: str, room: int) -> list[str]:
    """The lines of a value, those that are longer than `room` broken at blanks; what has none stays whole, to be copied."""
    broken = (
        wrap(line, max(room, NARROWEST), break_long_words=False, break_on_hyphens=False) if len(line) > room else [line]
        for line in value.splitlines()
    )
    return [line for lines in broken for line in lines] or [""]


def _markdown(card: dict[str, Any]) -> str:
    blocks = [f"# {markdown_text(card['title'])}", f"**{markdown_text(card['status'])}**"]
    for section in card["sections"]:
        blocks.append(f"## {markdown_text(section['name'])}")
        if "rows" in section:
            blocks.append(markdown_table(["", ""], [[str(key), _value(value)] for key, value in section["rows"]]))
        if "table" in section:
            blocks.append(markdown_table(section["table"]["headers"], _cells(section["table"])))
        if "code" in section:
            code = section["code"].rstrip("\n")
            fence = "`" * max([3, *(len(ticks) + 1 for ticks in re.findall("`+", code))])
            blocks.append(f"{fence}\n{code}\n{fence}")
        for figure in section.get("figures", []):
            caption, _ = _figure(figure)
            blocks.append(f"![{markdown_text(caption)}]({_address(figure)})")
    return "\n\n".join(blocks) + "\n"


def _html(card: dict[str, Any]) -> str:
    title, status = html.escape(card["title"]), card["status"]
    first_word = (status.split() or [""])[0].lower().strip(":,")
    tone = "good" if first_word in GOOD else "bad" if first_word in BAD else "open"
    sections = "\n".join(_html_section(index, section) for index, section in enumerate(card["sections"]))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<header>
<h1>{title}</h1>
<p class="status {tone}">{html.escape(status)}</p>
</header>
{sections}
</main>
</body>
</html>
"""


def _html_section(index: int, section: dict[str, Any]) -> str:
    name = html.escape(section["name"])
    parts = [f'<section aria-labelledby="section-{index}">', f'<h2 id="section-{index}">{name}</h2>']
    if "rows" in section:
        rows = "\n".join(
            f'<tr><th scope="row">{html.escape(str(key))}</th><td>{_html_value(value)}</td></tr>'
            for key, value in section["rows"]
        )
        parts.append(f'<table class="facts" aria-labelledby="section-{index}"><tbody>\n{rows}\n</tbody></table>')
    if "table" in section:
        parts.append(_html_table(index, section["table"]))
    if "code" in section:
        parts.append(f'<pre tabindex="0"><code>{html.escape(section["code"])}</code></pre>')
    if "figures" in section:
        parts.append('<div class="figures">')
        for figure in section["figures"]:
            parts.append(_html_figure(figure))
        parts.append("</div>")
    return "\n".join([*parts, "</section>"])


def _html_figure(figure: Any) -> str:
    caption, png = _figure(figure)
    address, words = html.escape(_address(figure)), html.escape(caption)
    image = f'<img src="{address}" alt="{words}">'
    if isinstance(png, str):  # a click shows it in full size; browsers refuse that for `data:` addresses
        image = f'<a href="{address}">{image}</a>'
    return f"<figure>{image}<figcaption>{words}</figcaption></figure>"


def _html_table(index: int, content: dict[str, Any]) -> str:
    numeric = [
        bool(content["rows"]) and all(_is_number(row[column]) for row in content["rows"])
        for column in range(len(content["headers"]))
    ]
    kinds = [' class="number"' if is_numeric else "" for is_numeric in numeric]
    headers = zip(kinds, content["headers"], strict=True)
    head = "".join(f'<th scope="col"{kind}>{html.escape(str(header))}</th>' for kind, header in headers)
    body = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{_html_value(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>"
        for row in content["rows"]
    )
    table_ = f'<table aria-labelledby="section-{index}"><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>'
    return f'<div class="wide" tabindex="0" role="region" aria-labelledby="section-{index}">{table_}</div>'


def _html_value(value: object) -> str:
    return "<br>".join(html.escape(line) for line in _value(value).splitlines())


def _json(card: dict[str, Any]) -> str:
    return json.dumps(_plain(card), sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """The value in what JSON has."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return _embedded(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def _cells(content: dict[str, Any]) -> list[list[str]]:
    return [[_value(cell) for cell in row] for row in content["rows"]]


def _value(value: object) -> str:
    """A value in words: yes and no, a dash for nothing, six digits of a float that has more."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return min(repr(value), f"{value:.6g}", key=len)
    if isinstance(value, (list, tuple)):
        return ", ".join(_value(item) for item in value) or "-"
    return str(value)


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _figure(figure: Any) -> tuple[str, str | bytes]:
    """Caption and PNG (path or bytes)."""
    caption, png = figure if isinstance(figure, (list, tuple)) else ("", figure)
    if isinstance(png, str):
        path = PurePosixPath(png)
        if path.is_absolute() or not path.name:
            raise ValueError(f"card: the path of a figure is relative to the card, got {png!r}")
        return str(caption) or path.stem.replace("_", " "), str(path)
    return str(caption) or "figure", png


def _address(figure: Any) -> str:
    """What an <img> points to; quoting also keeps a path such as `http://x` from leaving the folder."""
    png = _figure(figure)[1]
    return quote(png) if isinstance(png, str) else _embedded(png)


def _embedded(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


STYLE: Final = """
:root { --paper: #ffffff; --ink: #1b2733; --quiet: #56626d; --rule: #d8dee3; --shade: #f4f6f8;
  --good: #14693d; --good-paper: #e3f4ea; --bad: #a32515; --bad-paper: #fbe9e6; --open: #6b4e00;
  --open-paper: #fdf3d7; }
@media (prefers-color-scheme: dark) { :root { --paper: #14191e; --ink: #e6eaee; --quiet: #a3aeb8; --rule: #333c45;
  --shade: #1d242b; --good: #7fdcab; --good-paper: #12352a; --bad: #ff9d8f; --bad-paper: #45201b; --open: #f1cf73;
  --open-paper: #3b3010; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: .25rem 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2.25rem 0 .5rem; }
.status { margin: 0; padding: .1rem .7rem; border-radius: 1rem; font-weight: 600; font-size: .9rem; }
.good { color: var(--good); background: var(--good-paper); }
.bad { color: var(--bad); background: var(--bad-paper); }
.open { color: var(--open); background: var(--open-paper); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .4rem 1rem .4rem 0; border-bottom: 1px solid var(--rule); }
th { font-weight: 600; }
thead th { color: var(--quiet); font-size: .9rem; }
.facts th { width: 14rem; color: var(--quiet); font-weight: 400; }
.facts td { overflow-wrap: anywhere; }
th.number, td.number { text-align: right; padding-right: 1.75rem; }
.wide, pre { overflow-x: auto; }
pre { background: var(--shade); border: 1px solid var(--rule); border-radius: .4rem; padding: .8rem 1rem; margin: 0;
  font: .87rem/1.5 ui-monospace, monospace; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 1.25rem; }
figure { margin: 0; }
img { max-width: 100%; height: auto; background: #ffffff; border: 1px solid var(--rule); border-radius: .4rem; }
figcaption { color: var(--quiet); font-size: .9rem; margin-top: .25rem; }
:focus-visible { outline: 2px solid #2575b7; outline-offset: 2px; }
@media (max-width: 36rem) { .facts th, .facts td { display: block; width: auto; }
  .facts th { border: 0; padding-bottom: 0; } }
@media print { main { max-width: none; padding: 0; } section { break-inside: avoid; } pre { white-space: pre-wrap; } }
"""
