"""Runs and studies that were launched separately, gathered into groups of equal configuration, and aggregated in a folder of its own."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from diva.errors import UsageError
from diva.experiment.options import as_recorded, changes_no_bits
from diva.experiment.study.aggregate import Aggregation, folder_names
from diva.experiment.study.summary import is_whole
from diva.params import text_of
from diva.records.files import read_json, write_json
from diva.records.run_folder import RunFolder, create_run_folder, open_run
from diva.records.study_folder import is_study, open_study
from diva.statistics.summary import summarise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from diva.report.console import Console

SCHEMA = 1
KIND = "aggregates"
ALONE = "runs"  # the name of the group when there is one
DRAWN = ("seed", "stream", "load")  # of these options a configuration has something else than what was typed


def aggregate(
    paths: Sequence[Path], folder: Path | None, output: Path, console: Console
) -> tuple[Path, dict[str, Any]]:
    """Aggregate runs and studies into `folder`, or a new one below `output`; returns it, and what is in its `aggregate.json`.

    Raises UsageError where a path is neither, where no run has a number, and when `folder` holds something that is no aggregate.
    """
    groups = gather(paths)
    runs = [run for group in groups.values() for run in group]
    silent = [run for run in runs if not run.metrics_file.exists() or not run.metrics_file.stat().st_size]
    if len(silent) == len(runs):
        raise UsageError(f"{paths[0]}: no run has a number in metrics.jsonl yet; wait for the end of an epoch")
    for run in silent:
        console.warn(f"{run.path}: has no numbers yet and is left out")
    _say_what_differs(groups, console)
    folder = _make(folder, output)
    title = ", ".join(dict.fromkeys(_recorded(run)["task"]["name"] for run in runs))
    aggregation = Aggregation(groups, folder, title)
    aggregation.finish()
    record = _record(aggregation, groups, folder)
    write_json(folder / "aggregate.json", record)
    return folder, record


def gather(paths: Sequence[Path]) -> dict[str, list[RunFolder]]:
    """Configuration -> its runs, in the order in which they are named; a run that is named twice counts once.

    Runs are of one configuration when task, data, knobs and the options that may change bits are equal; the name says in what it
    differs from the others. Streams from seeds of their own are like seeds: which streams these are makes a configuration, not which
    seeds; of the weights that training started from their digest counts, not where they lay.

    The members of a study are grouped as the study does, under the study's name where it is not alone.
    """
    paths = list({path.resolve(): path for path in paths}.values())
    studies = [open_study(path) for path in paths if is_study(path)]
    groups = _by_configuration([open_run(path) for path in paths if not is_study(path)])
    for study in studies:
        for member in study.known_members():
            if study.outcome(member).status == "finished":
                own = (study.id if len(paths) > 1 else "", member.configuration)
                name = " ".join(part for part in own if part) or ALONE
                groups.setdefault(name, []).append(study.member(member.name))
    if not groups:
        raise UsageError(f"{paths[0]}: no member of the study has finished; diva resume {paths[0]} continues it")
    return groups


def _by_configuration(runs: Sequence[RunFolder]) -> dict[str, list[RunFolder]]:
    found: dict[str, tuple[dict[str, str], list[RunFolder]]] = {}
    for run in runs:
        facts = _facts(_recorded(run))
        found.setdefault(json.dumps(facts, sort_keys=True), (facts, []))[1].append(run)
    known = [facts for facts, _ in found.values()]
    names = dict.fromkeys(name for facts in known for name in facts)
    apart = [name for name in names if len({facts.get(name) for facts in known}) > 1]
    return {
        " ".join(f"{name}={facts[name]}" for name in apart if name in facts) or ALONE: group
        for facts, group in found.values()
    }


def _recorded(run: RunFolder) -> dict[str, Any]:
    return dict(read_json(run.manifest_file))


def _facts(manifest: Mapping[str, Any]) -> dict[str, str]:
    """What makes a configuration, each as text."""
    facts = {"task": manifest["task"]["name"], "data": (manifest["data"] or {}).get("name", "")}
    facts |= {"footprint": (manifest["data"] or {}).get("digest", "")[:19]}
    facts |= {name: text_of(value) for name, value in manifest["task"]["knobs"].items()}
    options = as_recorded(manifest["options"])
    facts["stream"] = text_of(sorted(text.partition("=")[0] for text in options["stream"]))
    facts["load"] = (manifest.get("loaded") or {}).get("digest", "none")[:19]
    exact = options["backend"] == "exact"
    decisive = (name for name in options if name not in DRAWN and not changes_no_bits(name, exact=exact))
    return facts | {name: text_of(options[name]) for name in decisive}


def _say_what_differs(groups: Mapping[str, Sequence[RunFolder]], console: Console) -> None:
    """Within a group code and seeds may differ, which the numbers alone do not tell."""
    for name, runs in groups.items():
        manifests = [_recorded(run) for run in runs]
        if len({manifest["source"]["digest"] for manifest in manifests}) > 1:
            console.warn(f"{name}: the code of these {len(runs)} runs differs; diva compare shows where")
        draws = [(manifest["seed"], *sorted(manifest["options"].get("stream", []))) for manifest in manifests]
        if len(set(draws)) < len(runs):
            console.warn(f"{name}: some of these {len(runs)} runs have the same seeds; they are no independent draws")
        going = sum(run.result() is None for run in runs)
        if going:
            console.warn(f"{name}: {going} of {len(runs)} runs have not finished; their curves count as far as they go")


def _make(folder: Path | None, output: Path) -> Path:
    if folder is None:
        return create_run_folder(output, KIND).path
    if folder.exists() and any(folder.iterdir()) and not (folder / "aggregate.json").exists():
        raise UsageError(f"{folder}: holds other things; name an empty folder, or leave --to away")
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def _record(aggregation: Aggregation, groups: Mapping[str, Sequence[RunFolder]], folder: Path) -> dict[str, Any]:
    scores = {metric: found for metric, found in aggregation.scores().items() if is_whole(metric)}
    names = dict(zip(groups, folder_names(list(groups)), strict=True))
    return {
        "schema_version": SCHEMA,
        "configurations": {
            name: {
                "run": "aggregate" if len(groups) == 1 else f"aggregate/{names[name]}",
                "members": [os.path.relpath(run.path, folder) for run in runs],
                "statistics": {
                    metric: summarise(found[name]).to_json()
                    for metric, found in sorted(scores.items())
                    if name in found
                },
            }
            for name, runs in groups.items()
        },
    }
