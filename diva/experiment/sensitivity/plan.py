"""The plan of a sensitivity study: runs around a base, and in the end what each factor does, as tables, figures and JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diva.experiment.sensitivity.analysis import analyse, enough_for_shares
from diva.experiment.sensitivity.design import design
from diva.experiment.sensitivity.factors import factor_from_json, factor_to_json
from diva.experiment.sensitivity.trees import tree_of, trees_apart
from diva.experiment.study.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diva.experiment.sensitivity.factors import Factor
    from diva.records.study_folder import Member, Outcome, StudyFolder, StudyRecord
    from diva.report.console import Console


class Sensitivity(Plan):
    """All runs are known from the start. metric: what tables and figures show; None: what names the best epoch."""

    def __init__(
        self, factors: Sequence[Factor], seed: int, *, grid: bool, runs: int | None, metric: str | None
    ) -> None:
        self.factors = tuple(factors)
        self.design = design(self.factors, seed, grid=grid, runs=runs)
        self.grid = grid
        self.metric = metric

    def n_members(self) -> int:
        """All of them."""
        return len(self.design.members)

    def members(self, study: StudyFolder, outcomes: Sequence[Outcome]) -> Sequence[Member]:
        """All of them, from the start."""
        return self.design.members

    def conclude(self, study: StudyFolder, outcomes: Sequence[Outcome], console: Console) -> Mapping[str, Any]:
        """What each factor does to each metric; the tornado, the shares of streams, and trees where the runs grew some."""
        record = study.record()
        metrics = {outcome.member.name: outcome.metrics for outcome in outcomes if outcome.status == "finished"}
        shown = self._shown(metrics, record.monitor, console)
        found: dict[str, Any] = {
            "metric": shown,
            "grid": self.grid,
            **analyse(self.factors, self.design, metrics, grid=self.grid),
        }
        trees = {name: tree for name in metrics if (tree := tree_of(study.member(name))) is not None}
        if trees:
            found["trees"] = trees_apart(self.factors, self.design, trees)
        if record.options["tensorboard"]:
            self._draw(study, found, record.task.name)
        return {"sensitivity": found}

    def show(self, summary: Mapping[str, Any], console: Console) -> None:
        """Write the tables of what was varied; the members alone would not say it."""
        from diva.experiment.sensitivity.tables import show

        show(summary, console)

    def _shown(self, metrics: Mapping[str, Mapping[str, float]], monitor: str, console: Console) -> str:
        names = sorted({name for values in metrics.values() for name in values})
        if self.metric is None or self.metric in names or not names:
            return self.metric or monitor
        console.warn(f"--metric {self.metric}: no run has it, so {monitor} is shown; there are {', '.join(names)}")
        return monitor

    def _draw(self, study: StudyFolder, found: Mapping[str, Any], task: str) -> None:
        """The figures of the metric that is shown, as PNG and in TensorBoard; drawn again, they replace those that were there."""
        from diva.report.sensitivity_figures import shares_figure, tornado_figure
        from diva.report.style import png
        from diva.report.tensorboard import TensorBoardWriter

        metric = found["metric"]
        of_metric = found["metrics"].get(metric)
        if of_metric is None:
            return
        figures = {"tornado": tornado_figure(of_metric, metric, f"{task}: what moves {metric}", found["level"])}
        if enough_for_shares(of_metric["shares"]):
            figures["shares"] = shares_figure(
                of_metric["shares"], metric, f"{task}: where the spread of seeds comes from"
            )
        folder = study.tensorboard / "sensitivity"
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        study.figures.mkdir(exist_ok=True)
        with TensorBoardWriter(folder) as board:
            for name, figure in figures.items():
                picture = png(figure)
                (study.figures / f"sensitivity_{name}.png").write_bytes(picture)
                board.figure(f"sensitivity/{name}", picture, 0)


def read_plan(record: StudyRecord) -> Plan:
    """The plan of a recorded study."""
    plan = record.plan
    factors = [factor_from_json(one) for one in plan["factors"]]
    return Sensitivity(factors, record.seed, grid=plan["grid"], runs=plan["runs"], metric=plan["metric"])


def sensitivity(factors: Sequence[Factor], *, grid: bool, runs: int | None, metric: str | None) -> dict[str, Any]:
    """The record of such a plan."""
    return {"factors": [factor_to_json(factor) for factor in factors], "grid": grid, "runs": runs, "metric": metric}
