"""A comparison of runs as a card, for `diva.report.card.render`: what came out, where they part, and what went in."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

from diva.experiment.compare import inputs
from diva.experiment.compare.groups import incomparable, why_not
from diva.experiment.compare.inputs import ABSENT
from diva.experiment.compare.parting import part
from diva.learning.task import less_is_better
from diva.records.source_diff import patch_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diva.experiment.compare.inputs import CodeDifference, Row
    from diva.experiment.compare.parting import Parted
    from diva.experiment.compare.subjects import Run, Subject

    Section = dict[str, Any]

MOST_FILES, MOST_NAMES = 20, 4
MOST_COLUMNS = 6  # of numbers; more runs have a row each, and the metrics a column
NARROW = 3  # up to so many runs have a column each everywhere


def compare_runs(subjects: Sequence[Subject], *, everything: bool = False, diff: bool = False) -> dict[str, Any]:
    """The card of two or more runs; `comparison` in it is the same for scripts.

    everything: also the knobs and options that are equal. diff: the lines in which the code differs.
    """
    runs = [subject.first for subject in subjects]
    parted = [part(runs[0], run) for run in runs[1:]]
    refused = incomparable(subjects)
    said = "Where they part" if len(runs) == 2 else f"Where they part from {subjects[0].label}"
    parts = [_parting(runs, parted[0])] if len(runs) == 2 else [_partings(subjects, parted)]
    return {
        "title": f"{subjects[0].name} and {subjects[1].name}" if len(runs) == 2 else f"{len(runs)} runs",
        "status": _status(subjects, parted) + (f"; metrics are not comparable: {why_not(refused)}" if refused else ""),
        "sections": [
            _runs(subjects),
            *({"name": said, **content} for content in parts),
            *_metrics(subjects, verdict=not refused),
            *inputs_sections(subjects, everything=everything, diff=diff),
        ],
        "comparison": {
            "runs": [_run_json(subject) for subject in subjects],
            "against_first": [
                {"run": subject.label, **parted_json(one)} for subject, one in zip(subjects[1:], parted, strict=True)
            ],
            "differ": inputs_json(subjects),
        },
    }


def _status(subjects: Sequence[Subject], parted: Sequence[Parted]) -> str:
    if len(parted) == 1:
        result = subjects[0].first.result
        if parted[0].identical and result is not None:
            return f"IDENTICAL: {result['epochs']} epochs, {result['steps']} steps, weights {result['weights_digest'][:19]}..."
        return f"DIFFERENT: {where(parted[0])}" if _differ(parted[0]) else "the same as far as they are recorded"
    same = sum(one.identical for one in parted)
    if same == len(parted):
        return f"IDENTICAL: all {len(subjects)} runs"
    return f"DIFFERENT: {same} of {len(parted)} are identical to {subjects[0].label}"


def _differ(parted: Parted) -> bool:
    return parted.parting is not None or bool(parted.outcomes)


def where(parted: Parted) -> str:
    """Where two runs part, in a line."""
    if parted.identical:
        return "identical"
    if parted.parting is None:
        return f"in {', '.join(parted.outcomes)}" if parted.outcomes else "not seen"
    epoch, step, names = parted.parting
    if names == ("length",):
        return f"one goes on after epoch {epoch - 1}, the other ends there"
    if step == 0:
        return f"before the first step, in {', '.join(names)}"
    return f"after epoch {epoch}, step {step}, in {', '.join(names)}"


def _parting(runs: Sequence[Run], parted: Parted) -> Section:
    """The rows of two runs."""
    rows: list[list[Any]] = [
        ["the same until", _until(parted)],
        ["first difference", "none" if parted.identical else where(parted)],
    ]
    if parted.value is not None:
        step, name, one, two = parted.value
        rows.append(["first number", f"{name} at step {step}: {one} and {two}"])
    if parted.tensor is not None:
        rows += [["first tensor", _tensor(parted)], ["tensors that differ then", _few(parted.tensor.names)]]
        rows += [["tensors looked at", parted.tensor.of]]
    if _differ(parted):
        rows.append(["what may explain it", _explained(inputs.explanations(runs))])
    return {"rows": [*rows, *(["note", note] for note in parted.notes)]}


def _until(parted: Parted) -> str:
    if parted.identical or not _differ(parted):
        return "the end of what is recorded"
    return (
        "-" if parted.equal_until is None else f"step {parted.equal_until}" if parted.equal_until else "the first step"
    )


def _tensor(parted: Parted) -> str:
    tensor = parted.tensor
    return "-" if tensor is None else f"{tensor.names[0]} (epoch {tensor.epoch}, step {tensor.step})"


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _explained(found: Sequence[str]) -> str:
    return _few(found) if found else "nothing that is recorded; see the guide on why two runs differ"


def _partings(subjects: Sequence[Subject], parted: Sequence[Parted]) -> Section:
    """A row per run other than the first."""
    rows = [
        [
            subject.label,
            where(one),
            _tensor(one),
            "-" if one.identical else _explained(inputs.explanations([subjects[0].first, subject.first])),
        ]
        for subject, one in zip(subjects[1:], parted, strict=True)
    ]
    return {"table": {"headers": ["run", "parts", "first tensor", "what may explain it"], "rows": rows}}


def _runs(subjects: Sequence[Subject]) -> Section:
    rows = []
    for subject in subjects:
        manifest = subject.first.manifest
        status = subject.first.folder.status() + (", altered" if subject.first.altered else "")
        rows.append([subject.label, subject.name, manifest.task.name, str(manifest.seed), status])
    return {"name": "Runs", "table": {"headers": ["", "run", "task", "seed", "status"], "rows": rows}}


def _metrics(subjects: Sequence[Subject], *, verdict: bool) -> list[Section]:
    """Every metric of the runs that have finished; with `verdict` of two runs also by how much the first is higher, of more the best."""
    runs = [subject.first for subject in subjects]
    if all(run.result is None for run in runs):
        return []
    names = sorted({name for run in runs for name in run.metrics})
    rows: list[list[Any]] = [_metric_row(name, [run.metrics.get(name) for run in runs], subjects) for name in names]
    for name in ("best_epoch", "epochs", "steps", "seconds"):
        found = [run.result[name] if run.result else None for run in runs]
        rows.append([name.replace("_", " "), *found, ""])
    last = [f"{subjects[0].label} - {subjects[1].label}" if len(runs) == 2 else "best"]
    headers = ["metric", *(subject.label for subject in subjects), *last]
    if not verdict:
        headers, rows = headers[:-1], [row[:-1] for row in rows]
    table = (
        turned({"headers": headers, "rows": rows}) if len(runs) > MOST_COLUMNS else {"headers": headers, "rows": rows}
    )
    return [{"name": "Metrics of the best epoch", "table": table}]


def turned(table: Section) -> Section:
    """The table with its rows as columns."""
    columns = zip(*[table["headers"], *table["rows"]], strict=True)
    headers, *rows = ([("" if cell is None else cell) for cell in column] for column in columns)
    return {"headers": ["", *headers[1:]], "rows": rows}


def _metric_row(name: str, values: Sequence[float | None], subjects: Sequence[Subject]) -> list[Any]:
    there = [value for value in values if value is not None and value == value]
    shown = [None if value is None else number(value, there) for value in values]
    if len(values) == 2:
        return [name, *shown, f"{there[0] - there[1]:+.3g}" if len(there) == 2 else ""]
    best = (min if less_is_better(name) else max)(there, default=None)
    winners = [subject.label for subject, value in zip(subjects, values, strict=True) if there and value == best]
    return [name, *shown, "" if len(winners) == len(values) else ", ".join(winners)]


def number(value: float, beside: Sequence[float]) -> str:
    """Four digits after the point, or as many as tell it from those beside it."""
    for digits in (4, 6, 8, 12):
        if len({f"{other:.{digits}f}" for other in beside}) == len(set(beside)) and (
            value == 0 or abs(value) >= 10**-digits
        ):
            return f"{value:.{digits}f}"
    return repr(value)


def inputs_sections(
    subjects: Sequence[Subject], *, everything: bool, diff: bool, groups: Sequence[Subject] = ()
) -> list[Section]:
    """What went in: sections of what differs; a first one that says what does not. groups: those that `subjects` stand for, if any."""
    runs = [subject.first for subject in subjects]
    labels = [subject.label for subject in subjects]
    tables = [
        ("Knobs", inputs.knobs(runs, shown=everything), False),
        ("Options", _options(runs, groups, shown=everything), True),
        ("Code", inputs.code(runs), True),
        ("Environment", inputs.surroundings(runs), True),
        ("Data", inputs.data(runs), True),
    ]
    sections: list[Section] = []
    for name, rows, with_bits in tables:
        content = _side_by_side(labels, rows, with_bits) if rows else {}
        extra = _code_rows(subjects, diff) if name == "Code" else _data_rows(subjects) if name == "Data" else {}
        if content or extra:
            sections.append({"name": name, **content, **extra})
    same = [name.lower() for name, rows, _ in tables if not any(row.differs for row in rows)]
    if same:
        sections.insert(0, {"name": "What is the same", "rows": [["no difference in", ", ".join(same)]]})
    return sections


def _options(runs: Sequence[Run], groups: Sequence[Subject], *, shown: bool = False) -> list[Row]:
    """The options; of groups without what varies within them: the seeds, and the streams that not all runs of a group have."""
    if not groups:
        return inputs.options(runs, shown=shown)
    shared = tuple(list(group.streams) for group in groups)
    rows = [
        replace(row, values=shared) if row.name == "stream" else row
        for row in inputs.options(runs, shown=True)
        if row.name != "seed"
    ]
    return [row for row in rows if shown or row.differs]


def _side_by_side(labels: Sequence[str], rows: Sequence[Row], with_bits: bool) -> Section:
    """A column per run; of many runs those that share a value share a line, so that the table stays readable."""
    bits = ["can it change bits?"] if with_bits else []
    if len(labels) <= NARROW:
        body = [
            [row.name, *map(_text, row.values), *(["yes" if row.can_change_bits else "no"] if with_bits else [])]
            for row in rows
        ]
        return {"table": {"headers": ["", *labels, *bits], "rows": body}}
    body = []
    for row in rows:
        for place, (value, who) in enumerate(_by_value(labels, row.values).items()):
            yes = ("yes" if row.can_change_bits else "no") if place == 0 else ""
            body.append([row.name if place == 0 else "", value, who, *([yes] if with_bits else [])])
    return {"table": {"headers": ["", "value", "of", *bits], "rows": body}}


def _by_value(labels: Sequence[str], values: Sequence[Any]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for label, value in zip(labels, values, strict=True):
        found.setdefault(_text(value), []).append(label)
    return {value: ", ".join(who) for value, who in found.items()}


def _text(value: Any) -> str:
    if value is ABSENT:
        return "absent"
    if isinstance(value, str) and value.startswith("sha256:"):
        return f"{value[:19]}..."
    if isinstance(value, str) and re.fullmatch("[0-9a-f]{40}", value):  # a commit
        return value[:12]
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value)) or "none"
    return "none" if value is None else "yes" if value is True else "no" if value is False else str(value)


def _code_rows(subjects: Sequence[Subject], diff: bool) -> Section:
    """Of two runs the files that differ, with the lines where these are asked for."""
    if len(subjects) != 2:
        return {}
    found = inputs.code_changes(subjects[0].first, subjects[1].first)
    rows = [row for difference in found for row in _file_rows(difference)]
    patch = "".join(patch_of(difference.changes) for difference in found)
    return {"rows": rows, **({"code": patch} if diff and patch else {})} if rows else {}


def _file_rows(difference: CodeDifference) -> list[list[str]]:
    if difference.note:
        return [[difference.of, difference.note]]
    rows = [
        [change.path, change.kind + (f", +{change.added} -{change.removed}" if change.added is not None else "")]
        for change in difference.changes[:MOST_FILES]
    ]
    more = len(difference.changes) - MOST_FILES
    return [*rows, ["", f"and {more} more files"]] if more > 0 else rows


def _data_rows(subjects: Sequence[Subject]) -> Section:
    """The files in which data sets differ, of each run from those of the first."""
    rows = []
    for subject in subjects[1:]:
        found = inputs.data_files(subjects[0].first, subject.first)
        if found is not None:
            said = found if isinstance(found, str) else found.text()
            rows.append([f"files of {subject.label} against {subjects[0].label}", said])
    return {"rows": rows} if rows else {}


def inputs_json(subjects: Sequence[Subject], groups: Sequence[Subject] = ()) -> dict[str, Any]:
    """What differs, for scripts: by kind and name the values in the order of the subjects; null where a run has none."""
    runs = [subject.first for subject in subjects]
    tables = {
        "knobs": inputs.knobs(runs), "options": _options(runs, groups), "code": inputs.code(runs),
        "environment": inputs.surroundings(runs), "data": inputs.data(runs),
    }  # fmt: skip
    found: dict[str, Any] = {
        kind: {
            row.name: {
                "values": [None if v is ABSENT else v for v in row.values],
                "can_change_bits": row.can_change_bits,
            }
            for row in rows
        }
        for kind, rows in tables.items()
    }
    pairs = list(combinations(subjects, 2))[: len(subjects) - 1]  # the first against each other
    found["files"] = {
        two.label: [
            {"path": c.path, "kind": c.kind, "added": c.added, "removed": c.removed}
            for difference in inputs.code_changes(one.first, two.first)
            for c in difference.changes
        ]
        for one, two in pairs
    }
    return found


def _run_json(subject: Subject) -> dict[str, Any]:
    run = subject.first
    result: Mapping[str, Any] = run.result or {}
    return {
        "label": subject.label, "name": subject.name, "task": run.manifest.task.name, "seed": run.seed,
        "status": run.folder.status(), "altered": run.altered or None, "metrics": run.metrics,
        "best_epoch": result.get("best_epoch"), "weights_digest": result.get("weights_digest"),
    }  # fmt: skip


def parted_json(parted: Parted) -> dict[str, Any]:
    """Where two runs part, for scripts."""
    parting, tensor = parted.parting, parted.tensor
    return {
        "identical": parted.identical,
        "equal_until_step": parted.equal_until,
        "parting": {"epoch": parting.epoch, "step": parting.step, "in": list(parting.names)} if parting else None,
        "first_number": list(parted.value) if parted.value else None,
        "tensor": {"epoch": tensor.epoch, "step": tensor.step, "names": list(tensor.names)} if tensor else None,
        "outcomes": list(parted.outcomes),
        "notes": list(parted.notes),
    }
