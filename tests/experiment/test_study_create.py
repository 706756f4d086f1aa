"""Studies as they begin and as they are taken up again: what is asked for, where data are by then, and what members inherit."""

from __future__ import annotations

import io
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

from diva import cli
from diva.errors import DataError, UsageError
from diva.experiment.launch import PRIVATE, withheld
from diva.experiment.launch.local import LocalLauncher
from diva.experiment.options import RunOptions
from diva.experiment.request import Request, resolve
from diva.experiment.study import conduct as conducting
from diva.experiment.study import create as creating
from diva.experiment.study.create import choose_jobs, create_study, jobs_again
from diva.experiment.study.member import member_request, run_member
from diva.experiment.study.multi_run import multi_run
from diva.kernels import stock
from diva.records.study_folder import Member, StudyFolder
from diva.report.console import Console

TASK = Path(__file__).parents[1] / "contract" / "users_task.py"
DERIVED = """
    half: int | None = Field(None, description="half the width, unless given")

    @model_validator(mode="before")
    @classmethod
    def _halve(cls, values: Any) -> Any:
        return {"half": values.get("width", 16) // 2, **values}
"""


def quiet() -> Console:
    return Console(io.StringIO(), io.StringIO())


class Lab(NamedTuple):
    """A study of seeds 1 and 2 over data that moved after it began."""

    study: StudyFolder
    moved: Path
    request: Request


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    folder = tmp_path_factory.mktemp("lab")
    task = folder / "project" / "derived.py"
    task.parent.mkdir()
    task.write_text("from pydantic import model_validator\n" + TASK.read_text() + DERIVED)
    (folder / "then" / "points").mkdir(parents=True)
    (folder / "then" / "points" / "one").write_text("1")
    asked = {"task": str(task), "data": str(folder / "then" / "points"), "output": folder / "runs", "epochs": 1}
    request = resolve({**asked, "tensorboard": False, "batch_size": 10, "device": "cpu"}, [], ("diva", "run"))
    study = create_study(request, "runs", multi_run([1, 2]), 1, quiet())
    study.list_members([Member(f"seed-{seed}", "", {"seed": seed}) for seed in (1, 2)])
    (folder / "then").rename(folder / "now")
    return Lab(study, folder / "now", request)


def run_cli(*arguments: str) -> Any:
    return cli.cli.main([*arguments], standalone_mode=False)


def test_members_find_data_that_moved_where_they_are_said_to_be_and_go_on_with_them(lab: Lab):
    with pytest.raises(DataError, match="say where they are with --data"):
        run_member(lab.study, "seed-1", quiet())
    run, begun = run_member(lab.study, "seed-1", quiet(), data_root=lab.moved)
    run.result_file.unlink()
    later = lab.moved.rename(lab.moved.with_name("later"))
    with pytest.raises(DataError, match="say where they are with --data"):
        run_member(lab.study, "seed-1", quiet())
    _, again = run_member(lab.study, "seed-1", quiet(), data=str(later / "points"))
    assert again["weights_digest"] == begun["weights_digest"]


def test_resume_hands_on_where_the_data_of_a_study_are(lab: Lab, monkeypatch: pytest.MonkeyPatch):
    told: list[dict[str, Any]] = []

    def conduct(study: StudyFolder, launcher: object, console: Console, **asked: Any) -> None:
        told.append(asked)
        raise UsageError("enough")

    monkeypatch.setattr(conducting, "conduct", conduct)
    monkeypatch.delenv("DIVA_DATA", raising=False)
    for words in ((), ("--data", "here"), ("--data-root", "there")):
        with pytest.raises(UsageError, match="enough"):
            run_cli("resume", str(lab.study.path), *words)
    assert [(asked["data"], asked["data_root"]) for asked in told] == [
        (None, None), ("here", None), (None, Path("there")),
    ]  # fmt: skip
    with pytest.raises(click.UsageError, match="members of a study have as many as it began with"):
        run_cli("resume", str(lab.study.path), "--workers-per-run", "2")


def test_a_study_is_not_begun_nor_continued_by_workers_of_torchrun(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    task = str(lab.request.found.path)
    for words in (
        ("run", "--task", task, "--seeds", "1,2", "--output", str(tmp_path / "runs")),
        ("resume", str(lab.study.path)),
        ("resume", str(lab.study.path), "--member", "seed-2"),
    ):
        with pytest.raises(UsageError, match="torchrun"):
            run_cli(*words)
    assert not (tmp_path / "runs").exists() and not lab.study.member("seed-2").path.exists()


def test_a_study_that_was_planned_for_a_cluster_has_no_more_members_at_a_time_than_this_machine_has_room_for(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(creating, "n_cores", lambda: 4)
    record = lab.study.record()
    options = {**record.options, "threads": None, "device": "auto"}
    record = record.model_copy(update={"jobs": 100, "options": options})
    assert jobs_again(None, "slurm", record) == 100
    assert jobs_again(7, "local", record) == 7
    monkeypatch.setattr(stock, "n_gpus", lambda: 3)
    on_gpus = stock.choose_device("auto").type != "cpu"
    assert jobs_again(None, "local", record) == (3 if on_gpus else 4)
    assert jobs_again(None, "local", record.model_copy(update={"jobs": 2})) == 2
    if not on_gpus:  # it began where there were some: what is left of it fails, what is finished can be seen
        gone = record.model_copy(update={"options": {**options, "device": "cuda:0"}})
        assert jobs_again(None, "local", gone) == 4


def test_members_share_cores_and_gpus_with_their_workers_and_take_turns_on_a_named_gpu(monkeypatch: pytest.MonkeyPatch):
    import torch

    monkeypatch.setattr(creating, "n_cores", lambda: 8)
    monkeypatch.setattr(creating, "share_threads", lambda processes: 8 // processes)
    two = RunOptions(device="cpu", shards=2, workers_per_run=2)
    assert choose_jobs(None, "local", two, 20) == 4
    assert creating.with_share(two, 2).threads == 2
    monkeypatch.setattr(stock, "n_gpus", lambda: 4)
    monkeypatch.setattr(stock, "choose_device", lambda asked: torch.device(asked))
    assert choose_jobs(None, "local", replace(two, device="cuda:0"), 20) == 2
    assert choose_jobs(None, "local", RunOptions(device="cuda:1"), 20) == 1


def test_a_study_whose_workers_cannot_share_the_shards_leaves_nothing_behind(lab: Lab, tmp_path: Path):
    options = replace(lab.request.options, data=None, output=tmp_path / "runs", shards=3, workers_per_run=2)
    with pytest.raises(UsageError, match="must divide --shards"):
        create_study(replace(lab.request, options=options), "runs", multi_run([1, 2]), 1, quiet())
    assert not list(tmp_path.iterdir())


def test_a_knob_that_follows_from_another_follows_that_of_the_member(lab: Lab):
    record = lab.study.record()
    assert record.task.knobs["half"] == 8
    made = member_request(lab.study, record, Member("wide", "", {"seed": 1, "width": 40}))
    assert made.task.model_dump()["half"] == 20
    assert made.task.batch_size == 10 and made.knobs.origins == {**lab.request.knobs.origins, "width": "study"}


def test_the_command_that_is_kept_of_a_study_has_the_seed_that_was_drawn(lab: Lab):
    command = lab.study.path / "command.sh"
    words = shlex.split(command.read_text().splitlines()[-1])
    assert words[-2:] == ["--seed", str(lab.study.record().seed)]
    assert os.access(command, os.X_OK)


def test_members_do_not_inherit_what_only_who_conducts_a_study_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in PRIVATE:
        monkeypatch.setenv(name, "a secret")
    says = "import os; print(sorted(name for name in os.environ if name.startswith('SIGOPT_API')))"
    with LocalLauncher(1) as launcher:
        job = launcher.start("seed-1", [sys.executable, "-c", says], {}, tmp_path / "log")
        job._process.wait(60)
    assert (tmp_path / "log").read_text() == "[]\n"
    with pytest.raises(KeyError), withheld():
        os.environ[PRIVATE[0]]
    assert all(os.environ[name] == "a secret" for name in PRIVATE)


@pytest.mark.parametrize(
    ("words", "way_on"),
    [
        ("run --task t --runs 3", "diva resume STUDY continues"),
        ("run --task t --seeds=1,2 --launcher ray", "diva resume STUDY --launcher ray continues"),
        ("sweep --task t --launcher=slurm", "diva resume STUDY --launcher slurm continues"),
        ("sensitivity --task t", "diva resume STUDY continues"),
        ("resume {study}", "diva resume STUDY continues"),
        ("resume {study} --member seed-1", "diva resume RUN continues"),
        ("run --task t", "diva resume RUN continues"),
        ("reproduce r", "diva resume RUN continues"),
        ("list runs", "give the command again"),
    ],
)
def test_an_interrupted_command_says_whether_a_run_or_a_study_goes_on(lab: Lab, words: str, way_on: str):
    assert way_on in cli._way_on(words.format(study=lab.study.path).split())
