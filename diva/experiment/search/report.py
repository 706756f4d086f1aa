"""What came of a search: the ranking, the figures, and the best configuration as a file that `diva run --config` takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from diva.experiment.search.importance import Forest, can_grow
from diva.experiment.search.trials import best_of
from diva.params import text_of
from diva.records.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diva.experiment.search.samplers import Told
    from diva.experiment.search.space import Dimension
    from diva.records.study_folder import Outcome, StudyFolder, StudyRecord
    from diva.report.console import Console
    from diva.report.search_figures import KnobAxis, SearchTable

SHOWN = 5  # trials in the table of the console
MOST_TICKS = 9
ASIDE = ("output", "data_root", "tensorboard")  # options that say where and what is drawn, not what is computed


def report(
    study: StudyFolder,
    record: StudyRecord,
    space: Sequence[Dimension],
    sampler: str,
    told: Sequence[Told],
    outcomes: Sequence[Outcome],
    console: Console,
) -> dict[str, Any]:
    """Rank, draw, say, and write `best.yaml`; what joins the summary is a pure function of the trials."""
    from diva.learning.task import less_is_better

    less = less_is_better(record.monitor)
    best = best_of(told, less=less)
    n_runs = max(1, len(outcomes) // max(1, len(told)))
    finished = [trial for trial in told if trial.state == "finished"]
    importance = Forest(space, finished).importances() if can_grow(told) else None
    draw_all(study, record, space, told, less=less, n_runs=n_runs)
    (study.path / "best.yaml").unlink(missing_ok=True)
    if best is not None:
        write_atomic(study.path / "best.yaml", best_yaml(record, best, n_runs))
        console.say(f"the best configuration: diva run --config {study.path / 'best.yaml'}")
    return {
        "sampler": sampler,
        "direction": "minimize" if less else "maximize",
        "space": [dimension.to_json() for dimension in space],
        "trials": [
            {
                "number": t.number,
                "values": t.point,
                "state": t.state,
                "value": t.value,
                "epochs": max(0, len(t.curve) - 1),
            }
            for t in told
        ],
        "best": None if best is None else {"trial": best.number, "values": best.point, "value": best.value},
        "importance": importance,
    }


def show_search(summary: Mapping[str, Any], console: Console) -> None:
    """Write the table of the best trials, the best first, and what became of the others."""
    less, metric = summary["direction"] == "minimize", summary["monitor"]
    trials = summary["trials"]
    there = [trial for trial in trials if trial["value"] is not None]
    ranked = sorted(there, key=lambda trial: (trial["value"] if less else -trial["value"], trial["number"]))
    names = [dimension["name"] for dimension in summary["space"]]
    rows = [(t["number"], *(text_of(t["values"][name]) for name in names), f"{t['value']:.4f}") for t in ranked[:SHOWN]]
    if rows:
        console.result(console.table(("trial", *names, metric), rows))
    states = [trial["state"] for trial in trials]
    counts = ", ".join(
        f"{states.count(state)} {state}" for state in ("finished", "pruned", "failed") if state in states
    )
    console.result(
        f"{len(trials)} trials: {counts}" + (f"; the {len(rows)} best are shown" if len(there) > len(rows) else "")
    )
    importance = summary["importance"]
    if importance:
        shares = sorted(importance.items(), key=lambda pair: (-pair[1], pair[0]))
        console.result("share of the variance: " + "  ".join(f"{name} {100 * share:.0f} %" for name, share in shares))


def best_yaml(record: StudyRecord, best: Told, n_runs: int) -> str:
    """The best trial's configuration: what was given to the sweep, the trial's values over it, and the seed of its first run."""
    import yaml

    options = {n: v for n, v in record.options.items() if n not in ASIDE and _is_given(record.origins.get(n))}
    if record.options.get("backend") == "torch":  # whose bits hang on the number of threads
        options |= {"backend": "torch", "threads": record.options["threads"]}
    knobs = {n: v for n, v in record.task.knobs.items() if record.task.origins.get(n, "default") != "default"}
    point = {name: list(value) if isinstance(value, tuple) else value for name, value in best.point.items()}
    seed = record.plan["seeds"][0]
    values = {"task": record.task.asked, **options, **knobs, **point, "seed": seed}
    of = f", the mean of {n_runs} runs" if n_runs > 1 else ""
    note = (
        f"# Trial {best.number} of the sweep {record.id}: {record.monitor} {best.value:.6g}{of}, the best of what was tried.\n"
        "# It was chosen by val, which therefore flatters it; test was not looked at.\n"
    )
    return note + yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _is_given(origin: str | None) -> bool:
    return origin not in (None, "default", "drawn", "environment")


def draw_all(
    study: StudyFolder,
    record: StudyRecord,
    space: Sequence[Dimension],
    told: Sequence[Told],
    *,
    less: bool,
    n_runs: int,
) -> None:
    """The figures as PNG files, and in TensorBoard where the study has it."""
    study.figures.mkdir(exist_ok=True)
    pictures = list(draw(space, told, record.monitor, less=less, n_runs=n_runs))
    for name, picture in pictures:
        write_atomic(study.figures / f"{name}.png", picture)
    if not record.options.get("tensorboard", True):
        return
    from diva.report.tensorboard import TensorBoardWriter

    folder = study.tensorboard / "search"
    for old in folder.glob("events.out.*") if folder.exists() else ():
        old.unlink()
    with TensorBoardWriter(folder) as board:
        for name, picture in pictures:
            board.figure(f"search/{name}", picture, len(told))


def draw(
    space: Sequence[Dimension], told: Sequence[Told], metric: str, *, less: bool, n_runs: int
) -> Iterator[tuple[str, bytes]]:
    """Each figure's name and PNG; those that need a forest only where there are trials enough to grow one."""
    from diva.report.search_figures import contour_figure, history_figure, importance_figure, parallel_figure
    from diva.report.style import png

    table = table_of(space, told, metric, less=less, n_runs=n_runs)
    yield "history", png(history_figure(table))
    yield "parallel", png(parallel_figure(table))
    finished = [trial for trial in told if trial.state == "finished"]
    if not can_grow(told):
        return
    forest = Forest(space, finished)
    shares = forest.importances()
    yield "importance", png(importance_figure(shares, metric, len(finished)))
    if len(space) > 1:
        first, second = sorted(range(len(space)), key=lambda axis: (-shares[space[axis].name], axis))[:2]
        surface = forest.along(first, second)
        places = (surface.places[0], surface.places[1])
        yield "contour", png(contour_figure(table, (first, second), places, surface.values))


def table_of(space: Sequence[Dimension], told: Sequence[Told], metric: str, *, less: bool, n_runs: int) -> SearchTable:
    """The trials as the figures take them."""
    from diva.report.search_figures import SearchTable

    return SearchTable(
        knobs=[axis_of(dimension) for dimension in space],
        places=[[d.share(trial.point[d.name]) for d in space] for trial in told],
        values=[math.nan if trial.value is None else trial.value for trial in told],
        states=[trial.state for trial in told],
        metric=metric,
        less_is_better=less,
        n_runs=n_runs,
    )


def axis_of(d: Dimension) -> KnobAxis:
    """A dimension as an axis: its values where they are few, powers of ten of a logarithm, else five places."""
    from diva.report.search_figures import KnobAxis

    if (d.n_values is not None and d.n_values <= MOST_TICKS) or d.kind == "choice":
        values = d.values()
        kept = values[:: -(-len(values) // MOST_TICKS)]
        return KnobAxis(d.name, tuple((d.share(v), text_of(v)) for v in kept), listed=True)
    if d.log:
        powers = [10.0**p for p in range(math.floor(math.log10(d.low)), math.ceil(math.log10(d.high)) + 1)]
        inside = [p for p in powers if d.low <= p * (1 + 1e-12) and p <= d.high * (1 + 1e-12)]
        if len(inside) >= 3:
            return KnobAxis(d.name, tuple((min(max(d.share(p), 0.0), 1.0), f"{p:g}") for p in inside))
        places = [d.low * (d.high / d.low) ** (i / 4) for i in range(5)]
    else:
        places = [d.low + (d.high - d.low) * i / 4 for i in range(5)]
    return KnobAxis(d.name, tuple((i / 4, f"{place:.3g}") for i, place in enumerate(places)))
