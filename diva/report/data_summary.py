"""The summary of a data set's analysis: lines of text, at most 80 columns wide, the most important first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from diva.report.console import WIDTH, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MOST_CLASSES = 30
MOST_NAMED = 5
LABEL = 13


def summarise(report: Mapping[str, Any]) -> Iterator[str]:
    """The lines, in characters that any terminal takes; numbers of the whole report are in its JSON."""
    report = _printable(report)
    yield f"{report['name']}: {report['n_samples']:,} samples, {report['layout']}"
    if report["footprint"]:
        yield report["footprint"]
    yield ""
    yield _splits(report)
    if report["class_counts"] and report["classes"]:
        yield ""
        yield _classes(report)
    if "codes" in report:
        yield ""
        yield _codes(report)
    for split in splits_of(report):
        facts = report["splits"][split]
        if "features" in facts:
            yield ""
            yield f"{split}:"
            rows = [[f["name"], *(f"{f[k]:.6g}" for k in ("mean", "std", "min", "max"))] for f in facts["features"]]
            yield table(["feature", "mean", "std", "min", "max"], _shortened(rows), WIDTH)
    yield ""
    for label, text in _facts(report):
        yield from _wrapped(label, text)


def _printable(value: Any) -> Any:
    """The same report with the control characters of names escaped: a name may hold anything."""
    if isinstance(value, str):
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in value)
    if isinstance(value, Mapping):
        return {key: _printable(item) for key, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, (list, tuple)) else value


def splits_of(report: Mapping[str, Any]) -> list[str]:
    """The names of the splits, in the order train, val, test."""
    return sorted(report["splits"], key=("train", "val", "test", "all").index)


def _splits(report: Mapping[str, Any]) -> str:
    headers, rows = ["split", "samples", "share"], []
    more = {"bytes": "bytes", "unreadable": "unreadable", "vocabulary": "vocabulary", "empty": "empty"}
    present = [key for key in more if any(key in facts for facts in report["splits"].values())]
    for split in splits_of(report):
        facts = report["splits"][split]
        share = facts["samples"] / report["n_samples"]
        rows.append([split, f"{facts['samples']:,}", f"{share:.1%}", *(f"{facts[key]:,}" for key in present)])
    return table([*headers, *(more[key] for key in present)], rows, WIDTH)


def _classes(report: Mapping[str, Any]) -> str:
    splits = splits_of(report)
    rows = []
    for number, name in enumerate(report["classes"]):
        weight = report["class_weights"][number]
        counts = [f"{report['class_counts'][split][number]:,}" for split in splits]
        rows.append([name, *counts, "-" if weight is None else f"{weight:.4g}"])
    return table(["class", *splits, "weight"], _shortened(rows), WIDTH)


def _codes(report: Mapping[str, Any]) -> str:
    split = report["reference"]
    total = sum(report["code_pixels"][split]) or 1
    names = report["code_names"]
    rows = []
    for number, code in enumerate(report["codes"]):
        pixels, weight = report["code_pixels"][split][number], report["code_weights"][number]
        counted = [f"{report['code_masks'][split][number]:,}", f"{pixels:,}", f"{pixels / total:.2%}"]
        rows.append([code, names[number] or "", *counted, "-" if weight is None else f"{weight:.4g}"])
    return table(["code", "class", "masks", "pixels", "share", "weight"], _shortened(rows), WIDTH)


def _shortened(rows: list[list[str]]) -> list[list[str]]:
    if len(rows) <= MOST_CLASSES:
        return rows
    more = [f"and {len(rows) - MOST_CLASSES + 1} more (--json)", *[""] * (len(rows[0]) - 1)]
    return [*rows[: MOST_CLASSES - 1], more]


def _facts(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(label, text), one line each where it fits."""
    if "mean" in report:
        of = "all" if report["reference"] == "all" else report["reference"]
        yield f"mean ({of})", _numbers(report["mean"])
        yield f"std ({of})", _numbers(report["std"])
        yield "size", _size(report)
        yield "formats", _tally(report["formats"])
        yield "modes", f"{_tally(report['modes'])}; read as {report['mode']}"
    if "frames" in report:
        yield "frames", _spread(report["frames"])
    for split in splits_of(report):
        facts = report["splits"][split]
        if "characters" in facts:
            yield f"{split}", f"characters {_spread(facts['characters'])}; words {_spread(facts['words'])}"
    found = report["duplicates"]
    exact, similar = found["exact"], found["similar"]
    within = [group for group in exact if not group["leak"]]
    yield "duplicates", _groups(within, "in one split")
    yield "leaks", _groups([group for group in exact if group["leak"]], "in several splits")
    if similar is not None:
        yield "look alike", _groups(similar, f"({found['similar_leaks']:,} of them in several splits)")
    unreadable = report["unreadable"]
    if unreadable:
        yield "unreadable", f"{len(unreadable)} files"
    for item in unreadable[:MOST_NAMED]:
        yield "", f"{item['path']}: {item['reason']}"


def _groups(groups: Sequence[Mapping[str, Any]], where: str) -> str:
    if not groups:
        return "none"
    named = [" = ".join(group["samples"][:2]) for group in groups[:2]]
    return f"{len(groups):,} groups {where}: {'; '.join(named)}{'; ...' if len(groups) > len(named) else ''}"


def _size(report: Mapping[str, Any]) -> str:
    if report["size"]:
        return f"{report['size'][0]} x {report['size'][1]} (height x width), all of them"
    return f"height {_spread(report['height'])}; width {_spread(report['width'])}; {report['n_sizes']:,} different"


def _spread(of: Mapping[str, int]) -> str:
    return f"{of['min']:,} to {of['max']:,}, median {of['median']:,}" if of else "none"


def _numbers(values: Sequence[float]) -> str:
    return "  ".join(f"{value:.6f}" for value in values) or "none"


def _tally(of: Mapping[str, int]) -> str:
    return ", ".join(f"{name or 'unknown'} {n:,}" for name, n in sorted(of.items(), key=lambda item: -item[1]))


def _wrapped(label: str, text: str) -> Iterator[str]:
    """Text beside its label, broken at blanks."""
    room, line = WIDTH - LABEL, ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > room:
            yield f"{label:<{LABEL}}{line}"
            label, line = "", ""
        line = f"{line} {word}" if line else word
        while len(line) > room:
            yield f"{label:<{LABEL}}{line[:room]}"
            label, line = "", line[room:]
    yield f"{label:<{LABEL}}{line}".rstrip()
