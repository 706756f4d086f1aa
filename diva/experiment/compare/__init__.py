"""Comparing runs and studies: what went into them, what came out, and where two runs part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diva.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diva.experiment.compare.subjects import Subject


def compare(
    subjects: Sequence[Subject],
    metrics: Sequence[str] = (),
    *,
    everything: bool = False,
    diff: bool = False,
    figures: bool = False,
) -> dict[str, Any]:
    """The card of a comparison: of runs by what they recorded, of studies by their numbers, for `diva.report.card.render`.

    metrics: those that studies are tested on, () for the monitored one. everything: also what is equal. diff: the lines in which the
    code of two runs differs. figures: pictures as PNG in the card.
    """
    from diva.experiment.compare.card import compare_runs
    from diva.experiment.compare.group_card import compare_groups

    of_groups = any(subject.is_group for subject in subjects)
    if metrics and not of_groups:
        raise UsageError(
            "--metric names what studies are tested on; single runs are shown with all their metrics, leave it out"
        )
    if of_groups:
        card = compare_groups(subjects, metrics, everything=everything, diff=diff)
    else:
        card = compare_runs(subjects, everything=everything, diff=diff)
    if figures:
        from diva.experiment.compare.figures import figures_of

        if pictures := figures_of(subjects, metrics):
            card["sections"].insert(1 if of_groups else 2, {"name": "Figures", "figures": pictures})
    return card
