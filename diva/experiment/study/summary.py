"""What came of a study: `summary.json`, its figures, and the tables that the console shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diva.records.files import write_json
from diva.statistics.summary import summarise
from diva.statistics.table import interval_text, number_text, seed_table

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

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


def outcome_metric(monitor: str, names: Collection[str]) -> str:
    """The metric that stands for what came of a run: on test the one that `monitor` names on val, if it is among `names`."""
    name = f"test/{monitor.partition('/')[2]}"
    return name if name in names else monitor


def is_whole(metric: str) -> bool:
    """Whether a metric is of a whole split, such as `val/accuracy`, and not of a single class, such as `val/f1/cat`."""
    return metric.count("/") == 1


def is_outcome(metric: str) -> bool:
    """Whether a metric is of the whole test split."""
    return metric.startswith("test/") and is_whole(metric)


def one_line(outcome: Outcome, monitor: str, *, test: bool = True) -> str:
    """How a member ended, in a line. test: with what it reached on test, which nobody wants to see of each point of a search."""
    if outcome.status != "finished":
        return f"{outcome.status}: {outcome.error}"
    names = dict.fromkeys((monitor, *((outcome_metric(monitor, outcome.metrics),) if test else ())))
    return "  ".join(f"{name} {outcome.metrics[name]:.4f}" for name in names if name in outcome.metrics)


def _draw(study: StudyFolder, record: StudyRecord, plan: Plan, outcomes: Sequence[Outcome]) -> None:
    """The bands and figures of the members that finished."""
    from diva.experiment.study.aggregate import Aggregation
    from diva.experiment.study.live import run_groups

    finished = [outcome.member for outcome in outcomes if outcome.status == "finished"]
    groups = run_groups(study, plan, finished)
    if groups:
        Aggregation(groups, study.path, record.task.name).finish()


def show(summary: Mapping[str, Any], console: Console) -> None:
    """Write a study's table: a row per member and what they come to or, where there are several configurations, a row for each."""
    finished = [row for row in summary["members"] if row["status"] == "finished"]
    if not finished:
        return
    names = dict.fromkeys([summary["monitor"], *(n for row in finished for n in row["metrics"] if is_outcome(n))])
    if len(summary["statistics"]) == 1:
        measured = {
            row["name"] if row["status"] == "finished" else f"{row['name']} {row['status']}": {
                n: float(value) for n, value in row["metrics"].items()
            }
            for row in summary["members"]
        }
        console.result(console.table(*seed_table(measured, list(names), first="member")))
    else:
        headers = ("configuration", "metric", "n", "mean", "sd", "median", "min", "max", "95 % interval")
        console.result(console.table(headers, list(_configuration_rows(summary["statistics"], names))))


def _configuration_rows(statistics: Mapping[str, Any], names: Collection[str]) -> Iterator[list[Any]]:
    for configuration, metrics in statistics.items():
        for name, found in metrics.items():
            if name in names:
                numbers = (number_text(found[key], "") for key in ("mean", "sd", "median", "min", "max"))
                yield [configuration, name, found["n"], *numbers, interval_text(found["ci_t"], missing="")]
