"""Tasks of Ray, on a real cluster of two nodes on the loopback, one of which is lost."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from diva.errors import UsageError
from diva.experiment.launch import Job, Launcher, Lost, open_launcher

WAITS = (
    "import os, signal, sys; from diva.experiment.launch import leash; leash.hold(); "
    "signal.signal(signal.SIGTERM, lambda *_: (print('asked'), sys.exit(143))); "
    "pipe = open({0!r}, 'w'); print('here', file=pipe, flush=True); signal.pause()"
)
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20, "node_ip_address": "127.0.0.1"}
Ended = Callable[[Job], int]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one core each; the second is to be lost."""
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"})
    utils = pytest.importorskip("ray.cluster_utils")
    nodes = utils.Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    nodes.add_node(**NODE)
    yield nodes
    nodes.shutdown()


def started(launcher: Launcher, code: str, log: Path) -> Job:
    return launcher.start("seed-1", [sys.executable, "-c", code], {}, log)


# One test, for a cluster is dear: it takes ten seconds to come up.
def test_a_lost_node_loses_its_own_job_alone_which_then_runs_on_another_node(
    cluster: Any, tmp_path: Path, pipe: Path, ended: Ended, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(UsageError, match="no node of the cluster has so many"):
        open_launcher("ray", 1, {"address": cluster.address, "cpus": "2"})
    capsys.readouterr()
    with open_launcher("ray", 2, {"address": cluster.address, "cpus": "1"}) as launcher:
        says = "import os; print(os.environ['OMP_NUM_THREADS'], os.getcwd()); exit(5)"
        job = started(launcher, says, tmp_path / "logs" / "a.txt")
        assert ended(job) == 5
        assert (tmp_path / "logs" / "a.txt").read_text() == f"1 {Path.cwd()}\n"

        jobs = [started(launcher, WAITS.format(str(pipe)), tmp_path / name) for name in "ab"]
        with pipe.open() as reader:
            assert [reader.readline() for _ in range(2)] == ["here\n", "here\n"]
            waiting = started(launcher, "", tmp_path / "c")  # no room for it
            assert [job.exit_code() for job in (*jobs, waiting)] == [None, None, None]
            cluster.remove_node(cluster.list_all_nodes()[1], allow_graceful=False)
            lost: list[Job] = []
            while not lost:
                lost = [job for job in jobs if _is_lost(job)]
            assert len(lost) == 1
            (kept,) = (job for job in jobs if job not in lost)
            assert kept.exit_code() is None
            kept.stop()
            assert ended(kept) == 143
            assert reader.read() == ""  # ends: the process of the lost job is gone too
        assert ended(waiting) == 0
        assert sorted((tmp_path / name).read_text() for name in "ab") == ["", "asked\n"]

        again = started(launcher, WAITS.format(str(pipe)), tmp_path / "a")
        with pipe.open() as reader:
            reader.readline()
            again.kill()
            assert ended(again) == 137
            assert reader.read() == ""

        bad = launcher.start("seed-1", ["/no/such/program"], {}, tmp_path / "bad")
        assert ended(bad) == 1
        assert "diva: error: the node could not start it" in (tmp_path / "bad").read_text()
    assert capsys.readouterr().out == ""  # that is for results; what Ray has to say of a dead node is no such


def _is_lost(job: Job) -> bool:
    try:
        job.exit_code()
    except Lost:
        return True
    return False


@pytest.mark.parametrize(
    ("options", "message"),
    [({"cpu": "1"}, "cpu: not an option of ray; did you mean cpus"), ({"gpus": "many"}, "gpus=many: must be a number")],
)
def test_options_that_cannot_be_are_refused_in_a_line(options: dict[str, str], message: str):
    with pytest.raises(UsageError, match=message):
        open_launcher("ray", 1, options)
