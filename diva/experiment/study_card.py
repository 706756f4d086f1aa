"""A study's card: what came of it so far, its members, what was asked for; from its records alone, while it runs and afterwards."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from diva.experiment.card import more_options
from diva.experiment.compare.subjects import MOST_SUBJECTS
from diva.experiment.study.summary import is_outcome, outcome_metric
from diva.learning.task import less_is_better
from diva.records.files import hide_home
from diva.statistics.summary import summarise
from diva.statistics.table import interval_text, number_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diva.records.study_folder import Outcome, StudyFolder, StudyRecord

MOST_MEMBERS, MOST_CONFIGURATIONS, MOST_BEST = 100, 30, 5
STANDARD = frozenset({"schema_version", "kind", "monitor", "members", "statistics"})
SHOWN_APART: Final = {
    "sweep": {"best", "direction", "space", "trials"},
    "sensitivity": {"sensitivity"},
}  # of a kind's conclusions
KINDS = {"runs": "runs of several seeds", "sweep": "a search", "sensitivity": "a sensitivity analysis"}


def describe_study(study: StudyFolder) -> dict[str, Any]:
    """The card as nested plain values, for `diva.report.card.render`."""
    record = study.record()
    outcomes = [study.outcome(member) for member in study.known_members()]
    return {
        "title": f"{record.task.name} {study.id}",
        "status": status_of(study, outcomes),
        "sections": [
            *(_best(study, outcomes, record) if record.kind == "sweep" else _statistics(outcomes, record.monitor)),
            *(_sensitivity(study) if record.kind == "sensitivity" else []),
            *_concluded(study, record.kind),
            *_members(study, outcomes, record),
            {"name": "Command", "code": shlex.join(record.argv)},
            {"name": "Go on", "code": _commands(study, outcomes, record)},
            _study(record, outcomes),
            *_varied(record),
            _knobs(record, outcomes),
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


def ranked_trials(outcomes: Sequence[Outcome], monitor: str) -> list[list[Outcome]]:
    """The runs of each trial of a search, the best trial by their mean of `monitor` first; of those alone all of whose runs have one."""
    trials: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        trials.setdefault(outcome.member.configuration, []).append(outcome)
    whole = [t for t in trials.values() if all(o.status == "finished" and monitor in o.metrics for o in t)]
    means = [math.fsum(outcome.metrics[monitor] for outcome in trial) / len(trial) for trial in whole]
    ranked = [pair for pair in zip(means, whole, strict=True) if math.isfinite(pair[0])]
    sign = 1 if less_is_better(monitor) else -1
    return [trial for _, trial in sorted(ranked, key=lambda pair: sign * pair[0])]


def _best(study: StudyFolder, outcomes: Sequence[Outcome], record: StudyRecord) -> list[dict[str, Any]]:
    """The best trials of a search by the metric that it follows; those on test are not for choosing among them."""
    ranked = ranked_trials(outcomes, record.monitor)
    if not ranked:
        return []
    found = [summarise([outcome.metrics[record.monitor] for outcome in trial]) for trial in ranked[:MOST_BEST]]
    first = ranked[0][0].member
    rows = [
        ["trial", first.configuration],
        [record.monitor, number_text(found[0].mean)],
        ["values", _point(first.values)],
    ]
    file = study.path / "best.yaml"
    rows += [["as a file", hide_home(str(file))]] if file.exists() else []
    table = {
        "headers": ["trial", "values", "n", f"mean {record.monitor}", "sd"],
        "rows": [
            [
                trial[0].member.configuration,
                _point(trial[0].member.values),
                one.n,
                number_text(one.mean),
                number_text(one.sd),
            ]
            for trial, one in zip(ranked, found, strict=False)
        ],
    }
    best = {"name": "Best trial", "rows": rows}
    return [best, {"name": f"The best {len(found)} of {len(ranked)} trials by {record.monitor}", "table": table}]


def _point(values: Mapping[str, Any]) -> str:
    """What tells a trial from others; its seeds are those of all."""
    return _values({name: value for name, value in values.items() if name != "seed"})


def _values(values: Mapping[str, Any]) -> str:
    """What a member has of its own, as `lr 0.1, stream:init 3`."""
    words = []
    for name, value in values.items():
        if name == "stream":
            words += [f"stream:{one.replace('=', ' ')}" for one in value]
        else:
            words.append(f"{name} {','.join(map(str, value)) if isinstance(value, list) else _short(value)}")
    return ", ".join(words)


def _sensitivity(study: StudyFolder) -> list[dict[str, Any]]:
    """What factors and seeds do to the metric that the study shows, in words and tables; `diva sensitivity STUDY` has other metrics too."""
    from diva.experiment.sensitivity.tables import effect_table, spread_table, verdicts

    found = study.summary()["sensitivity"] if study.summary_file.exists() else {"metrics": {}, "metric": None}
    metric = found["metric"]
    if metric not in found["metrics"]:
        return []
    of_metric = found["metrics"][metric]
    lines = [line.partition(": ") for line in verdicts(of_metric)]
    sections: list[dict[str, Any]] = [
        {"name": f"What moves {metric}", "rows": [[name, said] for name, _, said in lines]}
    ]
    for name, (headers, rows) in (("factor", effect_table(of_metric)), ("seed", spread_table(of_metric))):
        sections += [{"name": f"{metric} by {name}", "table": {"headers": list(headers), "rows": rows}}] if rows else []
    return [section for section in sections if section.get("rows", True)]


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


def _concluded(study: StudyFolder, kind: str) -> list[dict[str, Any]]:
    """What the study's kind concluded besides, as far as it fits into lines; all of it is in `summary.json`."""
    if not study.summary_file.exists():
        return []
    found = {
        name: value for name, value in study.summary().items() if name not in STANDARD | SHOWN_APART.get(kind, set())
    }
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


def _members(study: StudyFolder, outcomes: Sequence[Outcome], record: StudyRecord) -> list[dict[str, Any]]:
    metrics = [record.monitor]
    if record.kind != "sweep":  # whose trials nobody is to choose by test
        metrics = list(dict.fromkeys([*metrics, metric_of(outcomes, record.monitor)]))
    rows = []
    for outcome in outcomes[:MOST_MEMBERS]:
        begun = outcome.status == "waiting" and study.member(outcome.member.name).manifest_file.exists()
        scores = [number_text(outcome.metrics[name], "nan") if name in outcome.metrics else "-" for name in metrics]
        epoch = str(outcome.result["best_epoch"]) if outcome.result else "-"
        status = "begun" if begun else outcome.status
        rows.append(
            [
                outcome.member.name,
                _values(outcome.member.values),
                status + (f": {outcome.error}" if outcome.error else ""),
                epoch,
                *scores,
            ]
        )
    more = len(outcomes) - MOST_MEMBERS
    rest = {"rows": [["", f"and {more} more in members.json"]]} if more > 0 else {}
    headers = ["member", "values", "status", "best epoch", *metrics]
    return [{"name": "Members", "table": {"headers": headers, "rows": rows}, **rest}] if rows else []


def _commands(study: StudyFolder, outcomes: Sequence[Outcome], record: StudyRecord) -> str:
    """What can be done with it next."""
    place, found = hide_home(str(study.path)), Counter(outcome.status for outcome in outcomes)
    lines = []
    if not study.summary_file.exists() or found["waiting"]:
        lines.append(f"diva resume {place}")
    elif found["failed"]:
        lines.append(f"diva resume {place} --retry")
    best = ranked_trials(outcomes, record.monitor) if record.kind == "sweep" else []
    if record.kind == "sweep":
        lines += [f"diva run --config {place}/best.yaml"] if (study.path / "best.yaml").exists() else []
    elif record.kind == "sensitivity":
        lines += [f"diva sensitivity {place}"] if study.summary_file.exists() else []
    elif 1 < len({outcome.member.configuration for outcome in outcomes}) <= MOST_SUBJECTS:
        lines.append(f"diva compare {place}")
    likely = [*(best[0] if best else ()), *outcomes]
    first = next((outcome.member.name for outcome in likely if outcome.status == "finished"), None)
    lines += [f"diva reproduce {hide_home(str(study.members / first))}"] if first else []
    return "\n".join([*lines, f"diva tensorboard {place}"])


def _study(record: StudyRecord, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    rows: list[list[Any]] = [["kind", KINDS.get(record.kind, record.kind)], ["created", record.created]]
    rows += [["members", len(outcomes)], ["jobs", record.jobs], ["monitor", record.monitor]]
    rows += [["seed", f"{record.seed} ({record.origins.get('seed', 'default')})"]]
    own = names_of_members(outcomes)
    rows += [[name, record.options.get(name)] for name in ("backend", "device", "threads") if name not in own]
    rows += more_options(record.options, {"backend", "device", "threads"} | own)
    rows += (
        [["data", f"{record.data.name}, {record.data.n_files:,} files, {record.data.digest}"]] if record.data else []
    )
    return {"name": "Study", "rows": rows}


def names_of_members(outcomes: Sequence[Outcome]) -> set[str]:
    """The knobs and options of which members have values of their own."""
    return {name for outcome in outcomes for name in outcome.member.values}


def _varied(record: StudyRecord) -> list[dict[str, Any]]:
    """The values that a search or a sensitivity study tries, as they were asked for."""
    if record.kind == "sweep":
        from diva.experiment.search.space import dimension_of

        rows = [[axis["name"], dimension_of(axis).words()] for axis in record.plan["space"]]
    elif record.kind == "sensitivity":
        factors = record.plan["factors"]
        rows = [[factor["name"], [level["label"] for level in factor["levels"]]] for factor in factors]
    else:
        return []
    return [{"name": "Varied", "rows": rows}]


def _knobs(record: StudyRecord, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    own = names_of_members(outcomes)
    rows = [
        [name, "" if value is None else str(value), record.task.origins.get(name, "default")]
        for name, value in record.task.knobs.items()
        if name not in own
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
