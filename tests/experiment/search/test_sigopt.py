"""SigOpt's own client against a server on 127.0.0.1 that speaks its REST calls."""

from __future__ import annotations

import base64
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from diva.errors import DivaError, UsageError
from diva.experiment.search.plan import Sweep, SweepPlan
from diva.experiment.search.samplers import Told
from diva.experiment.search.sigopt_service import SigOptTrials, check_sigopt, without_secrets
from diva.experiment.search.space import Dimension
from diva.experiment.search.trials import Trial
from diva.records.study_folder import Member, Outcome, StudyFolder, StudyRecord

TOKEN = "SECRETTOKEN12345"
SPACE = (
    Dimension("lr", "float", (), 1e-4, 1e-1, 0, True),
    Dimension("batch_size", "choice", (16, 32)),
    Dimension("width", "int", (), 8, 64, 1),
    Dimension("dropout", "float", (), 0, 0.4, 0.2),
    Dimension("flip", "choice", (True, False)),
)
ANSWERS = [
    {"lr": 0.0123456789, "batch_size": "32", "width": 9, "dropout": 0.2, "flip": "False"},
    {"lr": 0.001, "batch_size": "16", "width": 64.0, "dropout": 0.4, "flip": "True"},
    {"lr": 0.002, "batch_size": "16", "width": 8, "dropout": 0, "flip": "True"},
]


class Server(ThreadingHTTPServer):
    """What SigOpt would keep: one experiment, its suggestions and observations, and who asked for what."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Calls)
        self.experiment: dict[str, Any] = {}
        self.suggestions: list[dict[str, Any]] = []
        self.observations: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self.answers = list(ANSWERS)
        self.broken = False


class Calls(BaseHTTPRequestHandler):
    """POST experiments, suggestions, observations; GET experiments, suggestions, best_assignments."""

    def do_POST(self) -> None:
        server = cast("Server", self.server)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        what = self.path.split("/")[-1]
        if not self.allowed(f"POST {what}"):
            return
        if what == "experiments":
            server.experiment = {"object": "experiment", "id": "77", **body}
            self.answer(server.experiment)
        elif what == "suggestions":
            number = len(server.suggestions)
            made = {"object": "suggestion", "id": f"s{number}", "state": "open", "assignments": server.answers[number]}
            server.suggestions.append(made)
            self.answer(made)
        else:
            next(s for s in server.suggestions if s["id"] == body["suggestion"])["state"] = "closed"
            server.observations.append(body)
            self.answer({"object": "observation", "id": str(len(server.observations)), **body})

    def do_GET(self) -> None:
        server = cast("Server", self.server)
        path, _, query = self.path.partition("?")
        parts = path.split("/")
        if not self.allowed(f"GET {parts[-1] if parts[-2] != 'suggestions' else 'suggestion'}"):
            return
        if parts[-2] == "suggestions":
            self.answer(next(s for s in server.suggestions if s["id"] == parts[-1]))
        elif parts[-1] == "experiments":
            self.page([server.experiment] if server.experiment else [])
        elif parts[-1] == "suggestions":
            self.page([s for s in server.suggestions if "state=open" not in query or s["state"] == "open"])
        else:
            there = [o for o in server.observations if "values" in o]
            choose = max if server.experiment["metrics"][0]["objective"] == "maximize" else min
            best = choose(there, key=lambda o: float(o["values"][0]["value"]))
            given = next(s["assignments"] for s in server.suggestions if s["id"] == best["suggestion"])
            self.page([{"object": "best_assignments", "assignments": given, "values": best["values"]}])

    def page(self, rows: list[dict[str, Any]]) -> None:
        self.answer(
            {"object": "pagination", "count": len(rows), "data": rows, "paging": {"before": None, "after": None}}
        )

    def allowed(self, call: str) -> bool:
        server = cast("Server", self.server)
        server.calls.append(call)
        user = base64.b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode().partition(":")[0]
        if user != TOKEN or server.broken:
            self.answer({"message": f"no entry for {user}"}, 403)
        return user == TOKEN and not server.broken

    def answer(self, content: dict[str, Any], status: int = 200) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setenv("SIGOPT_API_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("SIGOPT_API_TOKEN", TOKEN)
        yield server
        server.shutdown()


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    (tmp_path / "study").mkdir()
    return StudyFolder(tmp_path / "study")


def service() -> SigOptTrials:
    record = SimpleNamespace(task=SimpleNamespace(name="digits"), id="20260101", monitor="val/accuracy")
    return SigOptTrials(SPACE, 3, 2, cast("StudyRecord", record))


def outcomes(trial: Trial, *values: float) -> list[Outcome]:
    rows = [Member(f"{trial.name}-{n}", trial.name, {}) for n in range(len(values))]
    return [
        Outcome(row, "finished", {"metrics": {"val/accuracy": value, "test/accuracy": 0.99}})
        for row, value in zip(rows, values, strict=True)
    ]


def test_the_experiment_on_the_server_is_the_space_and_its_metric(server: Server, study: StudyFolder):
    service().suggest(study, 0, [])
    assert server.experiment["parameters"] == [
        {"name": "lr", "type": "double", "bounds": {"min": 1e-4, "max": 1e-1}, "transformation": "log"},
        {"name": "batch_size", "type": "categorical", "categorical_values": ["16", "32"]},
        {"name": "width", "type": "int", "bounds": {"min": 8, "max": 64}},
        {"name": "dropout", "type": "double", "grid": [0.0, 0.2, 0.4]},
        {"name": "flip", "type": "categorical", "categorical_values": ["True", "False"]},
    ]
    assert server.experiment["metrics"] == [{"name": "val/accuracy", "objective": "maximize"}]
    assert (server.experiment["observation_budget"], server.experiment["parallel_bandwidth"]) == (3, 2)


def test_suggestions_are_taken_as_they_are_with_the_types_of_the_knobs(server: Server, study: StudyFolder):
    asked = service()
    first = asked.suggest(study, 0, [])
    second = asked.suggest(study, 1, [first])
    assert first == Trial(0, {"lr": 0.0123456789, "batch_size": 32, "width": 9, "dropout": 0.2, "flip": False}, "s0")
    assert [type(value) for value in second.point.values()] == [float, int, int, float, bool]


def test_outcomes_are_told_once_with_the_mean_of_the_runs_and_never_of_test(server: Server, study: StudyFolder):
    asked = service()
    first = asked.suggest(study, 0, [])
    second = asked.suggest(study, 1, [first])
    told = [Told(0, {}, "finished", 0.75), Told(1, {}, "failed")]
    for who in (asked, service(), asked):  # a process after the other
        who.observe(study, [first, second], told, outcomes(first, 0.5, 1.0))
    values = [{"name": "val/accuracy", "value": 0.75, "value_stddev": pytest.approx(0.5**1.5)}]
    assert server.observations == [{"suggestion": "s0", "values": values}, {"suggestion": "s1", "failed": True}]


def test_what_was_told_and_not_written_down_is_not_told_again(server: Server, study: StudyFolder):
    asked = service()
    trial = asked.suggest(study, 0, [])
    asked.observe(study, [trial], [Told(0, {}, "finished", 0.75)], outcomes(trial, 0.75))
    (study.path / "sigopt.json").write_text('{"experiment": "77"}')
    service().observe(study, [trial], [Told(0, {}, "finished", 0.75)], outcomes(trial, 0.75))
    assert len(server.observations) == 1


def test_a_suggestion_that_was_asked_for_and_not_written_down_is_used_after_a_crash(server: Server, study: StudyFolder):
    lost = service().suggest(study, 0, [])
    assert service().suggest(study, 0, []) == lost
    assert server.calls.count("POST experiments") == server.calls.count("POST suggestions") == 1


def test_an_experiment_that_was_made_and_not_written_down_is_used_after_a_crash(server: Server, study: StudyFolder):
    lost = service().suggest(study, 0, [])
    (study.path / "sigopt.json").unlink()
    assert service().suggest(study, 0, []) == lost
    server.experiment["name"] = "another study's"
    (study.path / "sigopt.json").unlink()
    service().suggest(study, 0, [])
    assert server.calls.count("POST experiments") == 2


def test_a_running_trial_is_not_told(server: Server, study: StudyFolder):
    asked = service()
    trial = asked.suggest(study, 0, [])
    asked.observe(study, [trial], [Told(0, {}, "running")], [])
    assert server.observations == []


def test_a_sweep_asks_for_as_many_trials_as_it_has_and_tells_each(server: Server, study: StudyFolder):
    plan = SweepPlan(SPACE, "sigopt", 3, 0, (4, 5), 2)
    record = SimpleNamespace(task=SimpleNamespace(name="digits"), id="20260101", monitor="val/accuracy")
    sweep = Sweep(plan, cast("StudyRecord", record))
    ended: list[Outcome] = []
    for _ in range(4):
        members = sweep.members(study, ended)
        ended = [Outcome(m, "finished", {"metrics": {"val/accuracy": m.values["width"] / 64}}) for m in members]
    assert [m.name for m in members[:3]] == ["trial-0000-seed-4", "trial-0000-seed-5", "trial-0001-seed-4"]
    assert len(members) == 6 and [len(server.suggestions), len(server.observations)] == [3, 3]
    assert {o["values"][0]["value_stddev"] for o in server.observations} == {0.0}


def test_the_best_assignments_are_fetched_and_said(server: Server, study: StudyFolder):
    said: list[str] = []
    asked = service()
    trial = asked.suggest(study, 0, [])
    asked.observe(study, [trial], [Told(0, {}, "finished", 0.75)], outcomes(trial, 0.75))
    asked.say_best(study, cast("Any", SimpleNamespace(say=said.append, warn=said.append)))
    assert "GET best_assignments" in server.calls
    assert said[0].startswith("best by SigOpt:") and "0.7500" in said[0]


def test_token_and_password_are_written_nowhere_and_not_in_errors_either(
    server: Server, study: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SIGOPT_API_URL", f"http://me:pa55word@127.0.0.1:{server.server_port}")
    asked = service()
    trial = asked.suggest(study, 0, [])
    server.broken = True
    with pytest.raises(DivaError, match=r"no entry for \.\.\.; when it answers again: diva resume") as error:
        asked.suggest(study, 1, [trial])
    assert str(error.value).startswith(f"SigOpt at http://127.0.0.1:{server.server_port}: ")
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert written and not any(secret in text for secret in (TOKEN.encode(), b"pa55word") for text in written)
    assert TOKEN not in str(error.value) and "pa55word" not in str(error.value)


@pytest.mark.parametrize("password", ["pa55", "pa%2F55", "pa/55", "pa@55#?"])
def test_of_the_servers_address_nothing_is_said_but_the_place(password: str, monkeypatch: pytest.MonkeyPatch):
    url = f"https://me:{password}@sigopt.example.org/api"
    monkeypatch.setenv("SIGOPT_API_URL", url)
    assert without_secrets(f"at {url}/v1") == "at https://sigopt.example.org/api/v1"
    assert without_secrets(f"{password} of me:{password}") == "... of ..."
    monkeypatch.setenv("SIGOPT_API_URL", "sigopt.example.org?key=hush")
    assert without_secrets("sigopt.example.org?key=hush: /?key=hush/v1") == "sigopt.example.org: /?.../v1"


def test_a_suggestion_outside_the_space_is_refused(server: Server, study: StudyFolder):
    server.answers[0] = {**ANSWERS[0], "width": 65}
    with pytest.raises(DivaError, match="65 for width, which goes from 8 to 64"):
        service().suggest(study, 0, [])


@pytest.mark.parametrize("missing", ["SIGOPT_API_TOKEN", "SIGOPT_API_URL"])
def test_without_token_or_server_nothing_begins(missing: str, server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(missing)
    with pytest.raises(UsageError, match=missing):
        check_sigopt()


def test_without_the_client_it_is_said_how_to_get_it(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sigopt", None)
    with pytest.raises(UsageError, match=r"pip install 'diva\[sigopt\]'"):
        check_sigopt()


def test_the_client_is_found_in_folders_of_any_name(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "sigopt"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "実験").mkdir()
    monkeypatch.chdir(tmp_path / "実験")
    monkeypatch.delenv("SIGOPT_PROJECT", raising=False)
    assert check_sigopt() == "sigopt 8.8.3"
