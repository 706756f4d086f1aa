"""A run's card: what was run, on what, with which result; from its records alone."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Final

from diva.experiment.describe import in_words, layer_rows
from diva.experiment.options import RunOptions
from diva.params import options_of
from diva.records.files import hide_home

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from diva.records.manifest import Manifest
    from diva.records.run_folder import RunFolder

USUAL: Final = ("backend", "device", "threads", "tf32", "workers")  # shown whatever their values
ELSEWHERE: Final = frozenset(
    {"seed", "data", "data_root", "output"}
)  # shown by what came of them, or told by the place


def describe_run(run: RunFolder) -> dict[str, Any]:
    """The card as nested plain values, for `diva.report.card.render`."""
    manifest, result = run.manifest(), run.result()
    return {
        "title": f"{manifest.task.name} {run.id}",
        "status": run.status(),
        "sections": [
            *([_results(result)] if result else []),
            {"name": "Command", "code": shlex.join(manifest.argv)},
            {"name": "Reproduce it", "code": f"diva reproduce {hide_home(str(run.path))}"},
            _run_section(manifest),
            *([_data(manifest)] if manifest.data else []),
            *([_layers(manifest)] if "macs" in manifest.model else []),
            _knobs(manifest),
            _code(manifest),
            _environment(manifest),
            *([{"name": "Figures", "figures": _figures(run)}] if run.figures.is_dir() else []),
        ],
    }


def _results(result: dict[str, Any]) -> dict[str, Any]:
    rows = [
        [name, f"{value:.4f}" if isinstance(value, float) else str(value)]
        for name, value in sorted(result["metrics"].items())
    ]
    rows += [[name.replace("_", " "), result[name]] for name in ("best_epoch", "epochs", "steps", "seconds")]
    rows += [[name.replace("_", " "), result[name]] for name in sorted(result) if name.endswith("_digest")]
    return {"name": "Results of the best epoch, tested once", "rows": rows}


def _run_section(manifest: Manifest) -> dict[str, Any]:
    rows: list[list[Any]] = [["created", manifest.created], ["seed", f"{manifest.seed} ({manifest.origins['seed']})"]]
    rows += [["model", f"{manifest.model['class']}, {manifest.model['parameters']:,} parameters"]]
    rows += [["trainable parameters", f"{manifest.model['trainable_parameters']:,}"]]
    rows += [["MACs per sample", _macs(manifest.model)]] if "macs" in manifest.model else []
    rows += [[name.replace("_", " "), manifest.options[name]] for name in USUAL]
    rows += more_options(manifest.options, USUAL)
    rows += [["loaded", manifest.loaded.report]] if manifest.loaded else []
    rows += [["reproduces", manifest.reproduces["id"]]] if manifest.reproduces else []
    return {"name": "Run", "rows": rows}


def more_options(options: Mapping[str, Any], shown: Collection[str]) -> list[list[Any]]:
    """A row per recorded option that is not at its default, as stream and shards, besides those `shown`."""
    rows: list[list[Any]] = []
    for param in options_of(RunOptions):
        default = list(param.default) if isinstance(param.default, tuple) else param.default
        if param.name not in ELSEWHERE.union(shown) and options.get(param.name, default) != default:
            rows.append([param.name.replace("_", " "), options[param.name]])
    return rows


def _macs(model: dict[str, Any]) -> str:
    macs = model["macs"]
    if macs is None:
        return f"not counted: {model['not_counted']}"
    return f"{macs:,} ({in_words(macs)})" if macs >= 1000 else str(macs)


def _layers(manifest: Manifest) -> dict[str, Any]:
    """The model's layers; those of a deep model by block."""
    headers = ["layer", "class", "output of one sample", "parameters", "MACs"]
    return {"name": "Layers", "table": {"headers": headers, "rows": layer_rows(manifest.model["layers"])}}


def _data(manifest: Manifest) -> dict[str, Any]:
    assert manifest.data is not None
    data = manifest.data
    rows: list[list[Any]] = [
        ["name", data.name],
        ["footprint", data.digest],
        ["files", f"{data.n_files:,}"],
        ["bytes", f"{data.n_bytes:,}"],
    ]
    rows += [[name.replace("_", " "), str(value)] for name, value in sorted(manifest.facts.items())]
    return {"name": "Data", "rows": rows}


def _knobs(manifest: Manifest) -> dict[str, Any]:
    task = manifest.task
    rows = [
        [name, "" if value is None else str(value), task.origins.get(name, "default")]
        for name, value in task.knobs.items()
    ]
    return {"name": "Knobs", "table": {"headers": ["knob", "value", "from"], "rows": rows}}


def _code(manifest: Manifest) -> dict[str, Any]:
    source, own = manifest.source, manifest.diva
    rows = [[name, source.get(name)] for name in ("name", "commit", "branch", "remote") if source.get(name)]
    rows += [["uncommitted changes", "yes" if source.get("dirty") else "no"], ["snapshot", source["digest"]]]
    rows += (
        [["left out of the snapshot", ", ".join(item["path"] for item in source["left_out"])]]
        if source["left_out"]
        else []
    )
    rows += [["diva", f"{own['version']}, {own['digest']}"]]
    return {"name": "Code", "rows": rows}


def _environment(manifest: Manifest) -> dict[str, Any]:
    found = manifest.environment
    torch = found["torch"] or {}
    rows = [
        ["python", found["python"]["version"]],
        ["system", " ".join(str(part) for part in found["os"].values() if part)],
        ["cpu", f"{found['cpu'].get('model')}, {' '.join(found['cpu'].get('instruction_sets') or [])}"],
        *[[f"torch {name}", str(value)] for name, value in sorted(torch.items())],
        *[["not found out", sentence] for sentence in found["missing"]],
    ]
    return {"name": "Environment", "rows": rows}


def _figures(run: RunFolder) -> list[str]:
    return [f"figures/{path.name}" for path in sorted(run.figures.glob("*.png"))]
