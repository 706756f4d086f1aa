"""A whole sensitivity study around a run, its members in this process: their values, its summary, figures and tables."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from diva.errors import RecordError, UsageError
from diva.experiment.launch import Job, Launcher
from diva.experiment.request import resolve
from diva.experiment.run import start
from diva.experiment.sensitivity import analysis
from diva.experiment.sensitivity.base import base_of_run, settled
from diva.experiment.sensitivity.design import design
from diva.experiment.sensitivity.factors import read_factors
from diva.experiment.sensitivity.plan import sensitivity
from diva.experiment.sensitivity.trial import try_levels
from diva.experiment.study.conduct import conduct
from diva.experiment.study.create import create_study
from diva.experiment.study.member import run_member
from diva.experiment.study.plan import read_plan
from diva.records.run_folder import RunFolder
from diva.records.study_folder import StudyFolder
from diva.report.console import Console

TASK = Path(__file__).parents[1] / "changing_task.py"
VARY = ("batch_size=20", "stream:init=2,3", "seed=1,2")


def console() -> Console:
    return Console(io.StringIO(), io.StringIO())


class Done(Job):
    """Nothing is left to do."""

    def exit_code(self) -> int:
        return 0

    def stop(self) -> None: ...

    def kill(self) -> None: ...


class Here(Launcher):
    """Runs members in this process, at once."""

    def __init__(self, study: StudyFolder) -> None:
        self.study = study

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> Job:
        run_member(self.study, name, console())
        return Done()

    def close(self) -> None: ...


class Lab(NamedTuple):
    """A study around a run, over."""

    run: RunFolder
    study: StudyFolder
    summary: dict[str, Any]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    folder = tmp_path_factory.mktemp("lab")
    task = folder / TASK.name
    shutil.copy(TASK, task)
    values = {"task": str(task), "seed": 1, "output": folder / "runs", "threads": 1, "tensorboard": False, "epochs": 1}
    run, _ = start(resolve(values, [], ("diva", "run")), console())
    task.write_text("raise SystemExit('the code of today')")
    base = settled(base_of_run(run, {"output": folder / "runs"}, ("diva", "sensitivity", str(run.path))))
    factors = read_factors(VARY, base)
    plan = sensitivity(factors, grid=False, runs=None, metric="test/loss")
    study = create_study(base, "sensitivity", plan, 1, console())
    return Lab(run, study, conduct(study, Here(study), console()))


def test_members_are_runs_of_the_recorded_code_with_what_is_varied(lab: Lab) -> None:
    found = {row["name"]: row for row in lab.summary["members"]}
    assert list(found) == [
        "seed-1", "seed-2", "batch_size-20-seed-1", "batch_size-20-seed-2", "stream-init-2-seed-1", "stream-init-3-seed-1",
    ]  # fmt: skip
    assert {row["status"] for row in found.values()} == {"finished"}
    manifest = lab.study.member("stream-init-2-seed-1").manifest()
    assert (manifest.seed, manifest.options["stream"]) == (1, ["init=2"])
    assert lab.study.member("batch_size-20-seed-2").manifest().task.knobs["batch_size"] == 20


def test_the_base_of_a_run_has_its_bits_and_a_stream_only_its_own(lab: Lab) -> None:
    def digest(name: str, which: str = "weights_digest") -> str:
        result = (lab.study.member(name) if name else lab.run).result()
        assert result is not None
        return str(result[which])

    initial = "initial_weights_digest"
    assert digest("seed-1") == digest("")
    assert digest("stream-init-2-seed-1", initial) == digest("seed-2", initial) != digest("seed-1", initial)
    assert digest("stream-init-2-seed-1") not in (digest("seed-1"), digest("seed-2"))


def test_the_report_is_in_the_summary_and_the_same_when_it_is_made_again(lab: Lab) -> None:
    found = lab.summary["sensitivity"]
    assert found["metric"] == "test/loss" and not found["grid"] and "trees" not in found
    one = found["metrics"]["test/loss"]
    assert [row["name"] for row in one["spread"]] == ["seed", "stream:init"]
    assert [level["n"] for level in one["effects"][0]["levels"]] == [2, 2]
    written = lab.study.summary_file.read_bytes()
    lab.study.summary_file.unlink()
    conduct(lab.study, Here(lab.study), console())
    assert lab.study.summary_file.read_bytes() == written


def test_figures_are_drawn_of_a_study_that_keeps_tensorboard(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not lab.study.figures.exists()
    plan: Any = read_plan(lab.study.record())
    drawn = StudyFolder(tmp_path)
    plan._draw(drawn, lab.summary["sensitivity"], "a task")
    assert [path.name for path in drawn.figures.iterdir()] == ["sensitivity_tornado.png"]  # too few runs for shares
    monkeypatch.setattr(analysis, "FEWEST_FOR_SHARES", 2)
    for _ in range(2):  # drawn again, they take the place of the first ones
        plan._draw(drawn, lab.summary["sensitivity"], "a task")
    assert sorted(path.name for path in drawn.figures.iterdir()) == [
        "sensitivity_shares.png",
        "sensitivity_tornado.png",
    ]
    (events,) = (drawn.tensorboard / "sensitivity").iterdir()
    assert b"sensitivity/tornado" in events.read_bytes()


def test_a_metric_that_no_run_has_is_said_and_the_monitored_one_shown(lab: Lab) -> None:
    plan: Any = read_plan(lab.study.record())
    plan.metric = "test/beauty"
    err = io.StringIO()
    found = plan.conclude(
        lab.study, [lab.study.outcome(m) for m in lab.study.known_members()], Console(io.StringIO(), err)
    )
    assert found["sensitivity"]["metric"] == "val/loss" and "no run has it" in err.getvalue()


def test_the_plan_that_is_read_back_has_the_same_runs(lab: Lab) -> None:
    plan: Any = read_plan(lab.study.record())
    assert plan.design == design(plan.factors, 1)
    assert [member.name for member in plan.members(lab.study, ())] == [row["name"] for row in lab.summary["members"]]


def test_the_tables_name_every_factor(lab: Lab) -> None:
    out = io.StringIO()
    read_plan(lab.study.record()).show(lab.summary, Console(out, io.StringIO()))
    assert out.getvalue().startswith("test/loss of 6 runs\n")
    for words in ("all: seed", "init", "batch_size", "too few runs to split the variance of seeds"):
        assert words in out.getvalue()


def test_an_altered_run_is_no_base(lab: Lab, tmp_path: Path) -> None:
    copy = RunFolder(tmp_path / "run")
    shutil.copytree(lab.run.path, copy.path)
    content = json.loads(copy.manifest_file.read_text())
    copy.manifest_file.write_text(json.dumps({**content, "seed": 2}))
    with pytest.raises(RecordError, match="altered"):
        base_of_run(copy, {}, ("diva",))


def test_levels_are_tried_on_the_recorded_model(lab: Lab) -> None:
    base = settled(base_of_run(lab.run, {}, ("diva",)))
    with pytest.raises(UsageError, match=r"--freeze nothing\.\*: no parameter of the model has such a name"):
        try_levels(base, read_factors(["freeze=nothing.*"], base), console())


def test_an_unknown_stream_is_refused_before_a_study_is_made(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no stream is called 'dropout'"):
        settled(base_of_run(lab.run, {"stream": ("dropout=1",), "output": tmp_path / "runs"}, ("diva",)))
    assert not (tmp_path / "runs").exists()
