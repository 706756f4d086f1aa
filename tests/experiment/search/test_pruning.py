"""Pruning: a verdict follows from the curves, not from when somebody looks."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from diva.experiment.search.plan import Sweep, SweepPlan
from diva.experiment.search.pruning import N_EARLIER, Curve, prune
from diva.experiment.search.space import Dimension
from diva.records.files import write_json
from diva.records.study_folder import Member, StudyFolder, StudyRecord

NAME = "val/accuracy"
EARLIER = [Curve([0.1, 0.2 + i / 10, 0.5 + i / 10], ended=True) for i in range(N_EARLIER)]  # medians 0.1, 0.4, 0.7


def test_a_run_behind_the_median_is_stopped_at_the_first_epoch_where_it_is():
    verdict = prune([0.1, 0.45, 0.6], EARLIER, 1, NAME, less=False)
    assert verdict is not None and verdict.epoch == 2
    assert verdict.reason == "after epoch 2 the best val/accuracy was 0.6, the median of 5 earlier trials 0.7"


def test_at_the_median_it_goes_on():
    assert prune([0.1, 0.4, 0.7], EARLIER, 1, NAME, less=False) is None


@pytest.mark.parametrize("seen", range(2, 7))
def test_looking_later_changes_no_verdict(seen: int):
    values = [0.1, 0.3, 0.9, 0.9, 0.9, 0.9]
    assert prune(values[:seen], EARLIER, 1, NAME, less=False) == prune(values[:2], EARLIER, 1, NAME, less=False)


def test_losses_are_compared_the_other_way_round():
    earlier = [Curve([-v for v in curve.values], ended=True) for curve in EARLIER]
    verdict = prune([-0.1, -0.45, -0.6], earlier, 1, "val/loss", less=True)
    assert verdict is not None and verdict.epoch == 2
    assert prune([-0.1, -0.5, -0.8], earlier, 1, "val/loss", less=True) is None


def test_no_verdict_before_the_first_epoch_asked_for_nor_without_enough_to_compare():
    assert prune([0.0, 0.0], EARLIER, 2, NAME, less=False) is None
    assert prune([0.0, 0.0, 0.0], EARLIER[1:], 1, NAME, less=False) is None


def test_a_run_that_was_pruned_counts_as_far_as_it_came_one_that_ended_to_the_end():
    stopped = [Curve(c.values[:2], ended=False) for c in EARLIER[:1]]
    assert prune([0.1, 0.4, 0.0], [*stopped, *EARLIER[1:]], 2, NAME, less=False) is None  # 4 reached epoch 2
    early = [Curve(c.values[:2], ended=True) for c in EARLIER]  # ended by patience, 0.4 the median for good
    assert prune([0.1, 0.4, 0.4, 0.4], early, 1, NAME, less=False) is None
    assert prune([0.1, 0.3, 0.3], early, 2, NAME, less=False) is not None


def test_nan_is_behind_everything():
    verdict = prune([math.nan, math.nan], EARLIER, 1, NAME, less=False)
    assert verdict is not None and verdict.epoch == 1


def run(study: StudyFolder, member: Member, curve: Sequence[float], *, fails: bool = False) -> None:
    """A run that left a curve, and a result or the note of its failure."""
    folder = study.member(member.name)
    folder.path.mkdir(parents=True, exist_ok=True)
    rows = [{"epoch": e, "name": NAME, "per": "epoch", "step": e, "value": value} for e, value in enumerate(curve)]
    folder.metrics_file.write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))
    if fails:
        study.note_ending(member.name, "failed", "the disk was full")
    else:
        write_json(folder.result_file, {"metrics": {NAME: max(curve)}})


def test_running_failed_trials_again_changes_no_verdict_on_those_that_had_ended(tmp_path: Path):
    study = StudyFolder(tmp_path)
    space = (Dimension("lr", "float", (), 0, 1),)
    record = cast("StudyRecord", SimpleNamespace(monitor=NAME, task=SimpleNamespace(name="t"), id="1"))
    plan = SweepPlan(space, "random", 8, 0, (4,), 1, prune_after=1)
    curves = [[0, v, v] for v in (0.5, 0.5, 0.5, 0.6, 0.9)] + [[0, 0.5], [0, 0.54, 0.95], [0, 0.52, 0.6]]
    sweep, members = Sweep(plan, record), list[Member]()
    for number, curve in enumerate(curves):
        members = list(sweep.members(study, [study.outcome(member) for member in members]))
        run(study, members[number], curve, fails=number == 5)
    assert len(members) == 8 and Sweep(plan, record).to_prune(study, members) == {}
    study.forget_failures()
    run(study, members[5], [0, 0.9, 0.9])
    assert Sweep(plan, record).to_prune(study, members) == {}
    assert json.loads((study.path / "trials" / "0006.json").read_text())["failed_before"] == ["trial-0005"]
