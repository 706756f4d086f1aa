"""The pictures of a comparison, each with its caption, as PNG."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from diva.experiment.compare.groups import chosen_metrics, compare_pairs, paired_draws, unlike
from diva.experiment.compare.parting import part
from diva.report.comparison import Gap, curves_figure, gaps_figure, groups_figure
from diva.report.style import png
from diva.statistics.summary import summarise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diva.experiment.compare.subjects import Run, Subject

    Pictures = list[list[str | bytes]]

MOST_CURVES = 12


def figures_of(subjects: Sequence[Subject], metrics: Sequence[str] = ()) -> Pictures:
    """Of runs the monitored metric over the epochs; of groups their scores and the differences between them. [caption, PNG] each."""
    return _of_groups(subjects, metrics) if any(subject.is_group for subject in subjects) else _of_runs(subjects)


def _of_runs(subjects: Sequence[Subject]) -> Pictures:
    metric = subjects[0].monitor
    curves = {subject.label: _curve(subject.first, metric) for subject in subjects[:MOST_CURVES]}
    parted = [part(subjects[0].first, subject.first) for subject in subjects[1:MOST_CURVES]]
    epochs = [one.parting.epoch for one in parted if one.parting is not None]
    figure = curves_figure(curves, metric, min(epochs, default=None))
    return [[f"{metric} of {', '.join(curves)} by epoch", png(figure)]]


def _curve(run: Run, metric: str) -> tuple[list[int], list[float]]:
    """The metric after every epoch, as `metrics.jsonl` has it; of epochs written twice the last."""
    found = {
        row["epoch"]: float(row["value"])
        for row in run.folder.rows()
        if row["per"] == "epoch" and row["name"] == metric
    }
    return sorted(found), [found[epoch] for epoch in sorted(found)]


def _of_groups(subjects: Sequence[Subject], metrics: Sequence[str]) -> Pictures:
    pictures: Pictures = []
    tested = compare_pairs(subjects, chosen_metrics(subjects, metrics))
    subjects = [subject for subject in subjects if not unlike(subjects[0], subject)]
    for metric in dict.fromkeys(one.metric for one in tested):
        groups = {subject.label: subject.values(metric) for subject in subjects}
        summaries = {label: summarise(list(values.values())) for label, values in groups.items()}
        means = {label: (found.mean, *found.ci_t) for label, found in summaries.items()}
        linked = all(paired_draws(one, two, metric) for one, two in pairwise(subjects))
        pictures.append([f"{metric} of every run", png(groups_figure(groups, means, metric, linked))])
        gaps = [
            Gap(f"{one.one} - {one.two}", one.found.difference, *one.found.ci_t, one.found.settled)
            for one in tested
            if one.metric == metric and one.found.ci_t.exists
        ]
        pictures += [[f"differences of {metric}", png(gaps_figure(gaps, metric))]] if gaps else []
    return pictures
