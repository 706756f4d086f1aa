"""What there is: runs, tasks, data sets, models, each a list of rows."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

import diva
from diva.errors import RecordError
from diva.experiment.find import template_names
from diva.records.run_folder import find_runs
from diva.records.study_folder import find_studies

if TYPE_CHECKING:
    from pathlib import Path

    from diva.records.run_folder import RunFolder
    from diva.records.study_folder import StudyFolder


def runs(output: Path) -> list[dict[str, Any]]:
    """A row per sealed run and per study below `output`, oldest first; a damaged one says so. Members are in their study's row."""
    rows = [(run.id, _run_row(run)) for run in find_runs(output)]
    rows += [(study.id, _study_row(study)) for study in find_studies(output)]
    return [row for _, row in sorted(rows, key=lambda pair: pair[0])]


def _row(path: Path, kind: str) -> dict[str, Any]:
    empty = dict.fromkeys(("seed", "best_epoch", "metric", "value", "sd", "n_members", "n_configurations"))
    return {"run": str(path), "kind": kind, "status": "damaged", **empty}


def _run_row(run: RunFolder) -> dict[str, Any]:
    from diva.experiment.study.summary import outcome_metric

    row = _row(run.path, "run")
    try:
        manifest, result = run.manifest(), run.result()
        row |= {"status": run.status(), "seed": manifest.seed}
        if result:
            metric = outcome_metric(str(manifest.task.knobs.get("monitor", "val/loss")), result["metrics"])
            row |= {"best_epoch": result["best_epoch"], "metric": metric, "value": result["metrics"].get(metric)}
    except RecordError:
        pass
    return row


def _study_row(study: StudyFolder) -> dict[str, Any]:
    """Mean and standard deviation of a study of one configuration, and of a search's best trial by the metric that it follows.

    Other configurations have no common mean.
    """
    from diva.experiment.study_card import metric_of, ranked_trials, status_of
    from diva.statistics.summary import summarise

    row = _row(study.path, "study")
    try:
        record = study.record()
        outcomes = [study.outcome(member) for member in study.known_members()]
        n_configurations = len({outcome.member.configuration for outcome in outcomes})
        row |= {"kind": record.kind, "status": status_of(study, outcomes)}
        row |= {"n_members": len(outcomes), "n_configurations": n_configurations}
        metric = metric_of(outcomes, record.monitor)
        if record.kind == "sweep":
            metric, outcomes = record.monitor, next(iter(ranked_trials(outcomes, record.monitor)), [])
        elif n_configurations > 1:
            outcomes = []
        if values := [outcome.metrics[metric] for outcome in outcomes if metric in outcome.metrics]:
            found = summarise(values)
            row |= {"metric": metric, "value": found.mean, "sd": found.sd if found.n > 1 else None}
    except (RecordError, KeyError, TypeError):
        pass
    return row


def tasks() -> list[dict[str, Any]]:
    """A row per template: its name and what its task.py says of itself, read without running it."""
    folder = diva.resources("templates")
    return [
        {
            "task": name,
            "about": (
                ast.get_docstring(ast.parse((folder / name / "task.py").read_text(encoding="utf-8"))) or ""
            ).splitlines()[0],
        }
        for name in template_names()
    ]


def datasets(data_root: Path) -> list[dict[str, Any]]:
    """A row per card of the catalogue: whether it is here, and what a download takes."""
    from diva.data.catalogue import card, names, whereabouts

    return [
        {
            "dataset": name,
            "where": whereabouts(name, data_root),
            "download": _size_of(card(name).n_bytes),
            "licence": card(name).licence,
            "title": card(name).title,
        }
        for name in names()
    ]


def _size_of(n_bytes: int | None) -> str:
    return "unknown" if n_bytes is None else f"{n_bytes / 1e6:,.1f} MB" if n_bytes else "none"


def models() -> list[dict[str, Any]]:
    """A row per model that a template takes: diva's own and torchvision's by `--model`, those of templates in the template they are in.

    Parameters and billions of MACs are those of the network for its usual input; unknown (None) for templates' own.
    """
    from diva.learning.zoo import own_models, zoo_models, zoo_sizes

    zoo = [
        {"model": name, "from": "diva" if name in own_models() else "torchvision", **zoo_sizes(name)}
        for name in zoo_models()
    ]
    unknown = dict.fromkeys(("parameters", "GMACs", "input", "classes"))
    folder = diva.resources("templates")
    own = [
        {"model": name, "from": f"{template}/models.py", **unknown}
        for template in template_names()
        for name in models_of(folder / template / "models.py")
    ]
    return zoo + own


def models_of(file: Path) -> list[str]:
    """The names in the dictionary MODELS of a template's file, read without running it; none where there is no such file."""
    if not file.is_file():
        return []
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        is_models = any(isinstance(target, ast.Name) and target.id == "MODELS" for target in targets)
        if is_models and isinstance(node.value, ast.Dict):  # type: ignore[attr-defined]
            return [str(key.value) for key in node.value.keys if isinstance(key, ast.Constant)]  # type: ignore[attr-defined]
    return []
