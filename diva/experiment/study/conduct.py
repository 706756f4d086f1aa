"""Run a study: its members, so many at a time, each in a process of its own, until nothing is left to run; then sum up.

All that is known stands in the folders of the study: whoever conducts it after a crash finds what the one before found.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diva
from diva.data.catalogue import locate
from diva.errors import DataError, DivaError, RecordError
from diva.experiment.launch import Lost
from diva.experiment.launch.local import LocalLauncher
from diva.experiment.recorded import BOOT, find_data, recorded_options
from diva.experiment.study.live import Live
from diva.experiment.study.plan import read_plan
from diva.experiment.study.summary import one_line, sum_up
from diva.kernels import stock
from diva.records import footprint
from diva.records.files import hide_home
from diva.records.study_folder import as_recorded, locked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diva.experiment.launch import Job, Launcher
    from diva.experiment.study.plan import Plan
    from diva.records.study_folder import Member, Outcome, StudyFolder, StudyRecord
    from diva.report.console import Console, Progress

POLL_S = 0.05
PRUNE_EVERY_S = 0.5
MOST_LOSSES = 3
ERROR = "error: "
GRACE_S = 20.0  # for members to write down where they stand, when the study is interrupted


def conduct(
    study: StudyFolder,
    launcher: Launcher,
    console: Console,
    *,
    jobs: int | None = None,
    retry: bool = False,
    data: str | None = None,
    data_root: Path | None = None,
) -> dict[str, Any]:
    """Bring a study to its end from wherever it stands; returns its summary, which is also written.

    jobs: how many members at a time, if not as many as the study was planned for. retry: members that failed run again, from
    their last checkpoints. data, data_root: where the data are now, if not where they were; DataError, before anything runs, when
    they are not what they were. An interruption stops the members, and goes on upwards.
    """
    record = study.record()
    with locked(study):
        if retry:
            study.forget_failures()
        plan = read_plan(record)
        progress = console.progress(plan.n_members(), "members")
        crew = Crew(study, plan, launcher, jobs or record.jobs, console, progress, arguments_of(data, data_root))
        try:
            while True:
                members = crew.muster()
                if not crew.under_way and len(crew.settled) < len(members):
                    check_data(study, record, data, data_root)
                    study.summary_file.unlink(missing_ok=True)  # that it exists means that the study is over
                    crew.under_way = True
                crew.start_more(members)
                if not crew.running:
                    break
                crew.wait()
        except BaseException:
            crew.stop()
            raise
        finally:
            progress.close()
        return sum_up(study, record, crew.plan, [crew.settled[member.name] for member in members], console)


@dataclass
class Running:
    """A member that is under way; what its process says begins at byte `log_from` of its log."""

    member: Member
    job: Job
    gpu: str | None
    log_from: int


@dataclass
class Crew:
    """The members of a study that are under way, and how those ended that are not."""

    study: StudyFolder
    plan: Plan
    launcher: Launcher
    jobs: int
    console: Console
    progress: Progress
    arguments: tuple[str, ...] = ()
    under_way: bool = False
    running: dict[str, Running] = field(default_factory=dict)
    settled: dict[str, Outcome] = field(default_factory=dict)
    losses: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    pruned: dict[str, str] = field(default_factory=dict)
    looked_at: float = 0.0

    def __post_init__(self) -> None:
        """What is shown while it runs."""
        self.live = Live(self.study, self.plan)
        on_gpus = isinstance(self.launcher, LocalLauncher) and self.study.record().options.get("device") == "cuda:0"
        self.gpus = visible_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"), stock.n_gpus()) if on_gpus else []

    def muster(self) -> Sequence[Member]:
        """The members that the plan names by now; those that have ended are settled."""
        known = self.study.known_members()
        outcomes = [self._outcome(member) for member in known]
        members = list(self.plan.members(self.study, outcomes))
        if [as_recorded(member) for member in members[: len(known)]] != known:
            raise RecordError(f"{self.study.path}/members.json: is not what the plan says; it was altered")
        if len(members) > len(known):
            self.study.list_members(members)
        self.live.follow(members)
        for member in members[len(known) :]:
            self._outcome(member)
        return members

    def _outcome(self, member: Member) -> Outcome:
        """How a member stands; one that has a result may still be one to prune, if nobody came to stop it in time."""
        if member.name in self.settled:
            return self.settled[member.name]
        outcome = self.study.outcome(member)
        if outcome.status == "finished":
            for name, reason in self.plan.to_prune(self.study, [member]).items():
                self.study.note_ending(name, "pruned", reason)
            outcome = self.study.outcome(member)
        if outcome.status != "waiting":
            self.settled[member.name] = outcome
            self.progress.update(1)
        return outcome

    def start_more(self, members: Sequence[Member]) -> None:
        """Start the first of those that wait, as long as there is room."""
        for member in members:
            if len(self.running) >= self.jobs:
                return
            if member.name not in self.settled and member.name not in self.running:
                gpu = free_gpu([running.gpu for running in self.running.values()], self.gpus)
                self.running[member.name] = self._launch(member, gpu)

    def _launch(self, member: Member, gpu: str | None) -> Running:
        here, log = str(Path(diva.__file__).resolve().parent.parent), self.study.log_of(member.name)
        command = [sys.executable, "-c", BOOT, here, "resume", str(self.study.path), "--member", member.name]
        environment = {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}
        said = log.stat().st_size if log.exists() else 0
        job = self.launcher.start(member.name, [*command, *self.arguments], environment, log)
        return Running(member, job, gpu, said)

    def wait(self) -> None:
        """Return when a member ended; meanwhile show how the others come along, and stop those that need not go on."""
        while True:
            ended = [name for name in self.running if self._has_ended(name)]
            for name in ended:
                del self.running[name]
            if ended:
                self.live.refresh(now=True)
                return
            self._prune()
            self.live.refresh()
            time.sleep(POLL_S)

    def _has_ended(self, name: str) -> bool:
        running = self.running[name]
        try:
            code = running.job.exit_code()
        except Lost as loss:
            self.console.warn(f"{name}: {loss}")
            if self._count_loss(name) <= MOST_LOSSES and self.study.member(name).result() is None:
                self.running[name] = self._launch(running.member, running.gpu)
                return False
            self._settle(running.member, str(loss))
            return True
        if code is None:
            return False
        self._settle(running.member, "" if code == 0 else self._last_error(running, code))
        return True

    def _count_loss(self, name: str) -> int:
        """How often a member was lost since it last came further: a time limit may cut a long run into any number of pieces."""
        state = self.study.member(name).checkpoints / "state.json"
        reached = state.read_bytes() if state.exists() else b""
        times, before = self.losses.get(name, (0, b""))
        self.losses[name] = (times + 1 if reached == before else 1, reached)
        return self.losses[name][0]

    def _settle(self, member: Member, error: str) -> None:
        if member.name in self.pruned:
            self.study.note_ending(member.name, "pruned", self.pruned.pop(member.name))
        elif self.study.member(member.name).result() is None:
            behind = self.plan.to_prune(self.study, [member]).get(member.name)  # it failed after it was to be stopped
            if behind is not None:
                self.study.note_ending(member.name, "pruned", behind)
            else:
                self.study.note_ending(member.name, "failed", error or "its process left no result")
        outcome = self._outcome(member)
        n_ended, n_known = len(self.settled), self.plan.n_members() or len(self.study.known_members())
        record = self.study.record()
        said = one_line(outcome, record.monitor, test=record.kind != "sweep")
        line = f"{member.name}  {said}  ({n_ended} of {n_known})"
        (self.console.warn if outcome.status == "failed" else self.console.say)(line)

    def _last_error(self, running: Running, code: int) -> str:
        """What a member's process said last of why it failed, without the place of the study and the user's home."""
        log = self.study.log_of(running.member.name)
        text = log.read_bytes()[running.log_from :].decode(errors="replace") if log.exists() else ""
        said = [
            hide_home(line.replace(f"{self.study.path}/", "")).strip() for line in text.splitlines() if line.strip()
        ]
        for line in reversed(said):
            if line.startswith("diva") and ERROR in line:
                return line.partition(ERROR)[2]
        raised = raised_in(text)
        return raised or f"exit code {code}" + (f": {said[-1]}" if said else "")

    def _prune(self) -> None:
        if time.monotonic() - self.looked_at < PRUNE_EVERY_S:
            return
        self.looked_at = time.monotonic()
        members = [running.member for name, running in self.running.items() if name not in self.pruned]
        for name, reason in self.plan.to_prune(self.study, members).items():
            self.pruned[name] = reason
            self.running[name].job.stop()

    def stop(self) -> None:
        """End all members, each noting where it stands."""
        if self.running:
            self.console.say(f"stopping {', '.join(self.running)}; continue with: diva resume {self.study.path}")
        for running in self.running.values():
            running.job.stop()
        end = time.monotonic() + GRACE_S
        while time.monotonic() < end and any(_runs(running.job) for running in self.running.values()):
            time.sleep(POLL_S)
        for running in self.running.values():
            running.job.kill()


def arguments_of(data: str | None, data_root: Path | None) -> tuple[str, ...]:
    """What tells a member where the data are now."""
    given = {"--data": data, "--data-root": data_root}
    return tuple(word for flag, value in given.items() if value is not None for word in (flag, str(value)))


def check_data(study: StudyFolder, record: StudyRecord, data: str | None, data_root: Path | None) -> None:
    """DataError when the data that the members are to learn from are not there, or not what they were when the study began."""
    root = data_root or recorded_options(record).data_root
    wanted = find_data(study, record, data, root)
    if wanted is not None and record.data is not None:
        _, path = locate(wanted, root)
        taken, _ = footprint.check(path)
        if taken.digest != record.data.digest:
            raise DataError(
                f"{path}: not the data that the study began with: their footprint is {taken.digest[:19]}..., was "
                f"{record.data.digest[:19]}...; restore them, or give others with --data FOLDER"
            )


def raised_in(text: str) -> str:
    """The first line of the exception whose traceback is the last in a text; "" when there is none."""
    _, found, frames = text.rpartition("Traceback (most recent call last):\n")
    return next((line for line in frames.splitlines() if line and not line.startswith(" ")), "") if found else ""


def visible_gpus(variable: str | None, n_gpus: int) -> list[str]:
    """The GPUs that there are, as CUDA_VISIBLE_DEVICES names them, whether it is set or not."""
    return [name.strip() for name in variable.split(",")][:n_gpus] if variable else [str(i) for i in range(n_gpus)]


def free_gpu(taken: Sequence[str | None], gpus: Sequence[str]) -> str | None:
    """The GPU with the fewest members, the first of equals; None where there is no choice."""
    return min(gpus, key=taken.count) if len(gpus) > 1 else None


def _runs(job: Job) -> bool:
    try:
        return job.exit_code() is None
    except Lost:
        return False


def report_failures(study: StudyFolder, summary: Mapping[str, Any]) -> None:
    """DivaError naming the members that failed, if any did. A search goes on without them; it has failed when nothing is left of it."""
    if summary["kind"] == "sweep" and summary["best"] is not None:
        return
    failed = [row for row in summary["members"] if row["status"] == "failed"]
    if failed:
        first = failed[0]
        raise DivaError(
            f"{len(failed)} of {len(summary['members'])} members failed; {first['name']}: {first['error']}; what they said is in "
            f"{study.logs}; when the cause is mended: diva resume {study.path} --retry"
        )
