"""What came of a study: `summary.json`, its figures, and the tables that the console shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diva.experiment.study.aggregate import Aggregation
from diva.records.files import write_json
from diva.statistics.summary import summarise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diva.experiment.study.plan import Plan
    from diva.records.study_folder import Outcome, StudyFolder, StudyRecord
    from diva.report.console import Console

SCHEMA = 1


def sum_up(
    study: StudyFolder, record: StudyRecord, plan: Plan, outcomes: Sequence[Outcome], console: Console
) -> dict[str, Any]:
    """Draw what is drawn of a whole study and write `summary.json` last; the same outcomes give the same bytes."""
    if record.options["tensorboard"]:
        _draw(study, record, plan, outcomes)
    extra = plan.conclude(study, outcomes, console)
    summary = {**summary_of(record, outcomes), **extra}
    write_json(study.summary_file, summary)
    return summary


def summary_of(record: StudyRecord, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The summary of any study: a row per member, and each metric's statistics over the members of a configuration."""
    return {
        "schema_version": SCHEMA,
        "kind": record.kind,
        "monitor": record.monitor,
        "members": [_row(outcome) for outcome in outcomes],
        "statistics": {
            name: statistics_of([outcome for outcome in outcomes if outcome.member.configuration == name])
            for name in dict.fromkeys(outcome.member.configuration for outcome in outcomes)
        },
    }


def _row(outcome: Outcome) -> dict[str, Any]:
    result = outcome.result or {}
    return {
        "name": outcome.member.name,
        "configuration": outcome.member.configuration,
        "values": dict(outcome.member.values),
        "status": outcome.status,
        "error": outcome.error,
        "metrics": dict(outcome.metrics),
        "best_epoch": result.get("best_epoch"),
        "weights_digest": result.get("weights_digest"),
    }


def statistics_of(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Of each metric that finished members have: mean, spread and confidence intervals over those that have it."""
    measured = [outcome.metrics for outcome in outcomes if outcome.status == "finished"]
    names = dict.fromkeys(name for metrics in measured for name in sorted(metrics))
    return {name: summarise([metrics[name] for metrics in measured if name in metrics]).to_json() for name in names}


def test_metric(monitor: str, names: Mapping[str, Any]) -> str:
    """The metric that stands for a study's outcome: on test the one that `monitor` names on val, if there is one."""
    name = f"test/{monitor.partition('/')[2]}"
    return name if name in names else monitor


def one_line(outcome: Outcome, monitor: str) -> str:
    """How a member ended, in a line."""
    if outcome.status != "finished":
        return f"{outcome.status}: {outcome.error}"
    names = dict.fromkeys((monitor, test_metric(monitor, outcome.metrics)))
    return "  ".join(f"{name} {outcome.metrics[name]:.4f}" for name in names if name in outcome.metrics)


def _draw(study: StudyFolder, record: StudyRecord, plan: Plan, outcomes: Sequence[Outcome]) -> None:
    """The bands and figures of the members that finished."""
    finished = [outcome.member for outcome in outcomes if outcome.status == "finished"]
    groups = {
        name: [study.member(member.name) for member in members] for name, members in plan.groups(finished).items()
    }
    if groups:
        Aggregation(groups, study.path, record.task.name).finish()


def show(summary: Mapping[str, Any], console: Console) -> None:
    """Write a study's tables: the members, then what they have in common."""
    monitor, finished = summary["monitor"], [row for row in summary["members"] if row["status"] == "finished"]
    names = list(dict.fromkeys([monitor, *(name for row in finished for name in row["metrics"] if _is_outcome(name))]))
    rows = [
        [row["name"], row["status"], *(_cell(row["metrics"].get(name)) for name in names)] for row in summary["members"]
    ]
    console.result(console.table(("member", "status", *names), rows))
    headers = ("configuration", "metric", "n", "mean", "sd", "median", "min", "max", "95 % interval")
    rows = [
        [
            configuration or "all",
            name,
            found["n"],
            *(_cell(found[key]) for key in ("mean", "sd", "median", "min", "max")),
            _interval(found),
        ]
        for configuration, metrics in summary["statistics"].items()
        for name, found in metrics.items()
        if name in names
    ]
    if rows:
        drop = 0 if len(summary["statistics"]) > 1 else 1
        console.result("")
        console.result(console.table(headers[drop:], [row[drop:] for row in rows]))


def _is_outcome(name: str) -> bool:
    return name.startswith("test/") and name.count("/") == 1  # not the score of each class


def _cell(value: Any) -> str:
    return "" if value is None else f"{float(value):.4f}"


def _interval(found: Mapping[str, Any]) -> str:
    low, high = found["ci_t"]
    return f"{float(low):.4f} to {float(high):.4f}"
