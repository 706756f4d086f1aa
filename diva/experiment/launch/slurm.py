"""Jobs of a Slurm cluster, one per process, submitted by submitit; `cluster=local` tries the same without a cluster."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diva.errors import DivaError, UsageError, nearest
from diva.experiment.launch import Job, Launcher, Lost, ending, needs, withheld
from diva.experiment.launch import node as node_module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

# The options that are passed on to sbatch, under submitit's names, by what they are read as.
NUMBERS = {"time", "cpus_per_task", "cpus_per_gpu", "gpus_per_node", "gpus_per_task", "signal_delay_s"}
TEXTS = {
    "partition",
    "account",
    "qos",
    "constraint",
    "exclude",
    "nodelist",
    "gres",
    "mem",
    "mem_per_cpu",
    "mem_per_gpu",
}
TEXTS |= {"exclusive", "comment", "wckey", "mail_type", "mail_user"}
LINES = {"setup", "teardown"}  # of the batch script
OWN = {"cluster", "python"}
DEFAULTS = {"time": 60, "cpus_per_task": 1, "signal_delay_s": 120, "wckey": None}
OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "DEADLINE", "OUT_OF_MEMORY"}
OVER |= {"NODE_FAIL", "BOOT_FAIL", "LAUNCH_FAILED", "PREEMPTED", "REVOKED"}
OVER |= {"FINISHED", "INTERRUPTED", "NO PROCESS AND NO RESULT"}  # of submitit's own local cluster
SETTLE_S = 15.0  # how long a shared file system may take to show what a node wrote
LOOK_S = 2.0  # between two looks at a job: its folder is on a file system that many share
CANCEL_S = 5.0  # for a job on this machine to end


class SlurmJob(Job):
    """A job of the cluster, which may wait, run or be over; `job` is submitit's."""

    def __init__(self, job: Any, *, on_this_machine: bool) -> None:
        self._job = job
        self._on_this_machine = on_this_machine
        self._settle_s, self._look_s = (0.0, 0.0) if on_this_machine else (SETTLE_S, LOOK_S)
        self._asked = False
        self._looked_at: float | None = None
        self._over_since: float | None = None
        self._code: int | None = None
        self._lost = ""

    def exit_code(self) -> int | None:
        """See Job. That it is over is seen from the file with its result in seconds, from Slurm's accounting within minutes."""
        now = time.monotonic()
        if self._code is None and not self._lost and (self._looked_at is None or now - self._looked_at >= self._look_s):
            self._looked_at = now
            self._look(now)
        if self._lost:
            raise Lost(self._lost)
        return self._code

    def _look(self, now: float) -> None:
        if self._has_result():
            self._read_result()
            return
        state = str(self._job.state)
        if not state.upper().startswith(tuple(OVER)):
            return
        self._over_since = now if self._over_since is None else self._over_since
        if now - self._over_since < self._settle_s:
            return
        if self._has_result():
            self._read_result()
        elif self._asked:
            self._code = 128 + signal.SIGTERM
        else:
            self._lost = f"job {self._job.job_id} is over ({state}) and left no result{self._last_words()}"

    def _has_result(self) -> bool:
        path: Path = self._job.paths.result_pickle
        with suppress(OSError):  # NFS looks again at a folder whose mode was set
            path.parent.chmod(path.parent.stat().st_mode)
        return path.exists()

    def _read_result(self) -> None:
        error = self._job.exception()
        if error is not None:
            self._lost = f"job {self._job.job_id} failed before it began{self._last_words()}"
            return
        code, signals = self._job.result()
        if signals and code != 0 and not self._asked:
            why = "its time was over, or others had precedence"
            self._lost = f"job {self._job.job_id} was ended by {signals[0]}: {why}"
            return
        try:
            self._code = ending(code, asked=self._asked)
        except Lost as lost:
            self._lost = f"job {self._job.job_id}: {lost}"

    def _last_words(self) -> str:
        try:
            lines = [line for line in (self._job.stderr() or "").splitlines() if line.strip()]
        except OSError:
            return ""
        return f": {lines[-1].strip()[:200]}" if lines else ""

    def stop(self) -> None:
        """Cancel it: what waits never begins, what runs has SIGTERM and 30 seconds (Slurm's KillWait)."""
        if not self._asked and self._is_open():
            self._asked = True
            if self._on_this_machine:  # submitit would send SIGINT and, a second later, SIGKILL
                with suppress(ProcessLookupError):
                    os.kill(int(self._job.job_id), signal.SIGTERM)
            else:
                self._job.cancel(check=False)

    def kill(self) -> None:
        """As `stop`: Slurm sees to the rest. A member that begins anew waits until the old job has let go of it."""
        self.stop()

    def _is_open(self) -> bool:
        with suppress(Lost):
            return self.exit_code() is None
        return False

    def ended_within(self, seconds: float) -> bool:
        """Whether it ended; waits at most so long."""
        end = time.monotonic() + seconds
        while self._is_open():
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True


class SlurmLauncher(Launcher):
    """Submits a job per process. Everything it keeps lies beside the logs, `logs/slurm/<job>/`, on the shared file system."""

    def __init__(self, options: Mapping[str, str]) -> None:
        self._submitit = needs("submitit", "slurm")
        self._cluster = options.get("cluster", "slurm")
        if self._cluster not in ("slurm", "local"):
            raise UsageError(f"--launcher-option cluster={self._cluster}: allowed are slurm and local")
        self._python = options.get("python")
        self._parameters = {**DEFAULTS, **_parameters(options)}
        self._jobs: list[SlurmJob] = []
        self.threads = int(self._parameters["cpus_per_task"])
        if self._cluster == "slurm" and not self._submitit.SlurmExecutor.affinity() > 0:
            raise UsageError(
                "--launcher slurm: this machine has no srun; start diva on a node from which jobs are submitted, "
                "or try it without a cluster with --launcher-option cluster=local"
            )

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> SlurmJob:
        """See Launcher. Never do two jobs for the same log run at the same time: a later one waits for the earlier."""
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        log = log.absolute()
        arguments = (list(command), {"OMP_NUM_THREADS": str(self.threads), **environment}, str(log), str(Path.cwd()))
        try:
            with _ctrl_c_blocked(), withheld():
                job = self._executor(name, log).submit(_portable(), *arguments, [signal.SIGUSR2])
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            raise DivaError(f"--launcher slurm: {name} was not taken: {' '.join(str(error).split())[-300:]}") from None
        self._jobs.append(SlurmJob(job, on_this_machine=self._cluster == "local"))
        return self._jobs[-1]

    def _executor(self, name: str, log: Path) -> Any:
        folder = log.parent / "slurm" / "%j"
        mark = hashlib.sha256(os.fsencode(log)).hexdigest()[:8]
        if self._cluster == "local":
            executor = self._submitit.LocalExecutor(folder, python=self._python)
            executor.update_parameters(
                timeout_min=self._parameters["time"], signal_delay_s=self._parameters["signal_delay_s"]
            )
            return executor
        executor = self._submitit.SlurmExecutor(folder, python=self._python)
        executor.update_parameters(
            **self._parameters,
            job_name=f"diva-{name}-{mark}",
            dependency="singleton",
            additional_parameters={"no-requeue": True},  # who submits anew is who conducts the study
        )
        return executor

    def close(self) -> None:
        """See Launcher: what waits or runs is cancelled; Slurm ends it in its own time."""
        for job in self._jobs:
            job.stop()
        if self._cluster == "local":
            for job in self._jobs:
                job.ended_within(CANCEL_S)
        self._jobs = []


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """What is started here on this machine does not hear of a Ctrl-C, which is for who conducts the study: it stops the jobs."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _portable() -> Callable[..., tuple[int, list[str]]]:
    """What runs on a node, to be pickled by its content."""
    needs("cloudpickle", "slurm").register_pickle_by_value(node_module)
    return node_module.attend


def _parameters(options: Mapping[str, str]) -> dict[str, Any]:
    """sbatch's parameters from the options; UsageError for one that is not known or not a number."""
    parameters: dict[str, Any] = {}
    for name, text in options.items():
        place = f"--launcher-option {name}={text}"
        if name in NUMBERS:
            if not text.isdigit():
                raise UsageError(f"{place}: must be a whole number" + (" of minutes" if name == "time" else ""))
            parameters[name] = int(text)
        elif name in LINES:
            parameters[name] = [text]
        elif name in TEXTS:
            parameters[name] = True if text.lower() == "true" else text
        elif name not in OWN:
            raise UsageError(f"{place}: not an option of slurm; {nearest(name, NUMBERS | TEXTS | LINES | OWN)}")
    return parameters
