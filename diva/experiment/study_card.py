"""A study's card: what came of it so far, its members, what was asked for; from its records alone, while it runs and afterwards."""

from __future__ import annotations

import shlex
from collections import Counter
from typing import TYPE_CHECKING, Any

from diva.experiment.compare.subjects import MOST_SUBJECTS
from diva.experiment.study.summary import is_outcome, outcome_metric
from diva.records.files import hide_home
from diva.statistics.summary import summarise
from diva.statistics.table import interval_text, number_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diva.records.study_folder import Outcome, StudyFolder, StudyRecord

MOST_MEMBERS, MOST_CONFIGURATIONS = 100, 30
STANDARD = frozenset({"schema_version", "kind", "monitor", "members", "statistics"})
KINDS = {"runs": "runs of several seeds", "sweep": "a search", "sensitivity": "a sensitivity analysis"}


def describe_study(study: StudyFolder) -> dict[str, Any]:
    """The card as nested plain values, for `diva.report.card.render`."""
    record = study.record()
    outcomes = [study.outcome(member) for member in study.known_members()]
    return {
        "title": f"{record.task.name} {study.id}",
        "status": status_of(study, outcomes),
        "sections": [
            *_statistics(outcomes, record.monitor),
            *_concluded(study),
            *_members(study, outcomes, record.monitor),
            {"name": "Command", "code": shlex.join(record.argv)},
            {"name": "Go on", "code": _commands(study, outcomes)},
            _study(record, outcomes),
            _knobs(record),
            _code(record),
            *([{"name": "Figures", "figures": figures}] if (figures := _figures(study)) else []),
        ],
    }


def status_of(study: StudyFolder, outcomes: Sequence[Outcome]) -> str:
    """ "finished" when nothing is left to run, with how many failed or were pruned; else how many of those known by now have ended."""
    found = Counter(outcome.status for outcome in outcomes)
    others = [f"{found[name]} {name}" for name in ("failed", "pruned") if found[name]]
    over = study.summary_file.exists() and not found["waiting"]
    done = "finished" if over else f"unfinished: {len(outcomes) - found['waiting']} of {len(outcomes)} ended"
    return ", ".join([done, *others])


def metric_of(outcomes: Sequence[Outcome], monitor: str) -> str:
    """The metric that stands for what came of all members: on test the one that `monitor` names on val, if a member has it."""
    return outcome_metric(monitor, {name for outcome in outcomes for name in outcome.metrics})


def shown_metrics(outcomes: Sequence[Outcome], monitor: str) -> list[str]:
    """The monitored metric, and all metrics on test but those of single classes."""
    names = {name for outcome in outcomes for name in outcome.metrics if is_outcome(name)}
    return list(dict.fromkeys([metric_of(outcomes, monitor), monitor, *sorted(names)]))


def _statistics(outcomes: Sequence[Outcome], monitor: str) -> list[dict[str, Any]]:
    """Mean, spread and interval of each metric; of several configurations a row for each, of the metric that counts."""
    finished = [outcome for outcome in outcomes if outcome.status == "finished"]
    configurations = list(dict.fromkeys(outcome.member.configuration for outcome in finished))
    if not finished:
        return []
    headers = ["n", "mean", "sd", "median", "min", "max", "95 % interval"]
    if len(configurations) == 1:
        rows = [[name, *_cells(finished, name)] for name in shown_metrics(outcomes, monitor)]
        return [{"name": "Results of the best epochs", "table": {"headers": ["metric", *headers], "rows": rows}}]
    if len(configurations) == len(finished):
        return []  # a run each: the members' own rows say all
    metric = metric_of(outcomes, monitor)
    by_name = {name: [o for o in finished if o.member.configuration == name] for name in configurations}
    rows = [[name or "as planned", *_cells(found, metric), _mean(found, monitor)] for name, found in by_name.items()]
    more = len(rows) - MOST_CONFIGURATIONS
    rest = {"rows": [["", f"and {more} more in summary.json"]]} if more > 0 else {}
    table = {"headers": ["configuration", *headers, f"mean {monitor}"], "rows": rows[:MOST_CONFIGURATIONS]}
    return [{"name": f"{metric} by configuration", "table": table, **rest}]


def _mean(outcomes: Sequence[Outcome], metric: str) -> str:
    found = summarise([outcome.metrics[metric] for outcome in outcomes if metric in outcome.metrics])
    return number_text(found.mean)


def _cells(outcomes: Sequence[Outcome], metric: str) -> list[Any]:
    found = summarise([outcome.metrics[metric] for outcome in outcomes if metric in outcome.metrics])
    numbers = (found.mean, found.sd, found.median, found.min, found.max)
    return [found.n, *map(number_text, numbers), interval_text(found.ci_t)]


def _concluded(study: StudyFolder) -> list[dict[str, Any]]:
    """What the study's kind concluded, as far as it fits into lines; all of it is in `summary.json`."""
    if not study.summary_file.exists():
        return []
    found = {name: value for name, value in study.summary().items() if name not in STANDARD}
    rows = [[name.replace("_", " "), _short(value)] for name, value in sorted(found.items())]
    return [{"name": "Conclusions", "rows": rows}] if rows else []


def _short(value: Any) -> str:
    if (
        isinstance(value, dict)
        and all(not isinstance(part, (dict, list)) for part in value.values())
        and len(value) <= 12
    ):
        return ", ".join(f"{name} {_short(part)}" for name, part in value.items()) or "none"
    if isinstance(value, (dict, list)):
        return f"{len(value)} entries in summary.json" if value else "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "none" if value is None else str(value)


def _members(study: StudyFolder, outcomes: Sequence[Outcome], monitor: str) -> list[dict[str, Any]]:
    metrics = list(dict.fromkeys([monitor, metric_of(outcomes, monitor)]))
    rows = []
    for outcome in outcomes[:MOST_MEMBERS]:
        begun = outcome.status == "waiting" and study.member(outcome.member.name).manifest_file.exists()
        values = ", ".join(f"{name} {_short(value)}" for name, value in outcome.member.values.items())
        scores = [number_text(outcome.metrics[name], "nan") if name in outcome.metrics else "-" for name in metrics]
        epoch = str(outcome.result["best_epoch"]) if outcome.result else "-"
        status = "begun" if begun else outcome.status
        rows.append(
            [outcome.member.name, values, status + (f": {outcome.error}" if outcome.error else ""), epoch, *scores]
        )
    more = len(outcomes) - MOST_MEMBERS
    rest = {"rows": [["", f"and {more} more in members.json"]]} if more > 0 else {}
    headers = ["member", "values", "status", "best epoch", *metrics]
    return [{"name": "Members", "table": {"headers": headers, "rows": rows}, **rest}] if rows else []


def _commands(study: StudyFolder, outcomes: Sequence[Outcome]) -> str:
    """What can be done with it next."""
    place, found = hide_home(str(study.path)), Counter(outcome.status for outcome in outcomes)
    lines = []
    if not study.summary_file.exists() or found["waiting"]:
        lines.append(f"diva resume {place}")
    elif found["failed"]:
        lines.append(f"diva resume {place} --retry")
    if 1 < len({outcome.member.configuration for outcome in outcomes}) <= MOST_SUBJECTS:
        lines.append(f"diva compare {place}")
    first = next((outcome.member.name for outcome in outcomes if outcome.status == "finished"), None)
    lines += [f"diva reproduce {hide_home(str(study.members / first))}"] if first else []
    return "\n".join([*lines, f"diva tensorboard {place}"])


def _study(record: StudyRecord, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    rows: list[list[Any]] = [["kind", KINDS.get(record.kind, record.kind)], ["created", record.created]]
    rows += [["members", len(outcomes)], ["jobs", record.jobs], ["monitor", record.monitor]]
    rows += [["seed", f"{record.seed} ({record.origins.get('seed', 'default')})"]]
    rows += [[name, record.options.get(name)] for name in ("backend", "device", "threads")]
    rows += (
        [["data", f"{record.data.name}, {record.data.n_files:,} files, {record.data.digest}"]] if record.data else []
    )
    return {"name": "Study", "rows": rows}


def _knobs(record: StudyRecord) -> dict[str, Any]:
    rows = [
        [name, "" if value is None else str(value), record.task.origins.get(name, "default")]
        for name, value in record.task.knobs.items()
    ]
    return {"name": "Knobs that all members share", "table": {"headers": ["knob", "value", "from"], "rows": rows}}


def _code(record: StudyRecord) -> dict[str, Any]:
    source = record.source
    rows = [[name, source.get(name)] for name in ("name", "commit", "branch") if source.get(name)]
    rows += [["uncommitted changes", "yes" if source.get("dirty") else "no"], ["snapshot", source["digest"]]]
    return {"name": "Code", "rows": [*rows, ["diva", f"{record.diva['version']}, {record.diva['digest']}"]]}


def _figures(study: StudyFolder) -> list[str]:
    """The pictures, those in folders of the study's kind too."""
    return [path.relative_to(study.path).as_posix() for path in sorted(study.figures.rglob("*.png"))]
