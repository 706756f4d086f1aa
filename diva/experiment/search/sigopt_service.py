"""SigOpt: trials that a server suggests, asked through the official client; what it answers is written down before it is tried.

SigOpt's public service is no longer offered; `SIGOPT_API_URL` names a server of one's own. The token is read from `SIGOPT_API_TOKEN`
when it is needed and written nowhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import stdev
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from diva.errors import DivaError, UsageError
from diva.experiment.search.samplers import Told, label
from diva.experiment.search.trials import Trial
from diva.learning.task import less_is_better
from diva.records.files import read_json, write_json

if TYPE_CHECKING:
    from diva.experiment.search.space import Dimension
    from diva.records.study_folder import Outcome, StudyFolder, StudyRecord
    from diva.report.console import Console

TOKEN, URL = "SIGOPT_API_TOKEN", "SIGOPT_API_URL"
TIMEOUT_S = 30
MOST_GRID = 1000
ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)?(?:(.*)@)?([^?#@]*)(?:[?#](.*))?", re.DOTALL)


def check_sigopt() -> str:
    """The client and its version; UsageError when it is not installed or has no token or no server."""
    return f"sigopt {_client().version.VERSION}"


def _client() -> Any:
    if not os.environ.get(TOKEN):
        raise UsageError(
            f"--sampler sigopt: the environment has no {TOKEN}; it is read from there alone, and never stored"
        )
    if not os.environ.get(URL):
        raise UsageError(
            f"--sampler sigopt: the environment has no {URL}; SigOpt's public service is no longer offered, so name a server of your own"
        )
    project = os.environ.get("SIGOPT_PROJECT")
    os.environ["SIGOPT_PROJECT"] = project or "diva"  # the client refuses to be imported in folders of other names
    try:
        import sigopt
        import sigopt.version
    except ImportError:
        raise UsageError("--sampler sigopt needs sigopt; install it with: pip install 'diva[sigopt]'") from None
    finally:
        if project is None:
            del os.environ["SIGOPT_PROJECT"]
    return sigopt


class SigOptTrials:
    """The experiment on the server that belongs to a study. `sigopt.json` in the study says which it is and what it was told."""

    def __init__(self, space: Sequence[Dimension], n_trials: int, bandwidth: int, record: StudyRecord) -> None:
        self._space, self._n_trials, self._bandwidth = space, n_trials, bandwidth
        self._name = f"{record.task.name} {record.id}"
        self._metric = record.monitor
        self._connected: Any = None

    def suggest(self, study: StudyFolder, number: int, trials: Sequence[Trial]) -> Trial:
        """The next trial: a suggestion that a killed process had asked for and not written down, else a new one."""
        with _told_plainly(study):
            suggestions = self._experiment(study).suggestions
            ours = {trial.suggestion for trial in trials}
            waiting = [s for s in suggestions().fetch(state="open").iterate_pages() if str(s.id) not in ours]
            suggestion = waiting[0] if waiting else suggestions().create()
            point = {d.name: _from_service(d, suggestion.assignments[d.name]) for d in self._space}
            return Trial(number, point, str(suggestion.id))

    def observe(
        self, study: StudyFolder, trials: Sequence[Trial], told: Sequence[Told], outcomes: Sequence[Outcome]
    ) -> None:
        """Tell the server of every trial that has ended, once, however often this is asked and interrupted."""
        known = set(self._kept(study).get("told", ()))
        for trial, ended in zip(trials, told, strict=True):
            if ended.state == "running" or trial.number in known or not trial.suggestion:
                continue
            with _told_plainly(study):
                experiment = self._experiment(study)
                if experiment.suggestions(trial.suggestion).fetch().state != "closed":
                    experiment.observations().create(suggestion=trial.suggestion, **self._observation(ended, outcomes))
            known.add(trial.number)
            self._keep(study, told=sorted(known))

    def say_best(self, study: StudyFolder, console: Console) -> None:
        """Say what the server holds for the best; only said: what counts are the runs."""
        try:
            with _told_plainly(study):
                found = list(self._experiment(study).best_assignments().fetch().iterate_pages())
        except DivaError as error:
            console.warn(str(error))
            return
        for best in found[:1]:
            point = "  ".join(f"{name} {best.assignments[name]}" for name in sorted(best.assignments))
            console.say(f"best by SigOpt:  {point}  {self._metric} {best.values[0].value:.4f}")

    def _observation(self, ended: Told, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        if ended.value is None:
            return {"failed": True}
        values = [o.metrics[self._metric] for o in outcomes if o.member.configuration == Trial(ended.number, {}).name]
        spread = {"value_stddev": stdev(values)} if len(values) > 1 else {}
        return {"values": [{"name": self._metric, "value": ended.value, **spread}]}

    def _experiment(self, study: StudyFolder) -> Any:
        """The experiment on the server, made when there is none yet."""
        if self._connected is None:
            connection = _client().Connection(
                client_token=os.environ[TOKEN], api_url=os.environ[URL], timeout=TIMEOUT_S
            )
            identity = self._kept(study).get("experiment")
            if identity is None:
                identity = str((self._found(connection) or self._made(connection)).id)
                self._keep(study, experiment=identity)
            self._connected = connection.experiments(identity)
        return self._connected

    def _found(self, connection: Any) -> Any:
        """The experiment that a process made which was killed before it wrote down which it is; None when there is none."""
        there = connection.experiments().fetch().iterate_pages()
        return next((experiment for experiment in there if experiment.name == self._name), None)

    def _made(self, connection: Any) -> Any:
        """A new experiment, whose name no other has: the study's id is in it."""
        objective = "minimize" if less_is_better(self._metric) else "maximize"
        return connection.experiments().create(
            name=self._name,
            parameters=[_parameter(dimension) for dimension in self._space],
            metrics=[{"name": self._metric, "objective": objective}],
            observation_budget=self._n_trials,
            parallel_bandwidth=self._bandwidth,
        )

    def _kept(self, study: StudyFolder) -> dict[str, Any]:
        path = study.path / "sigopt.json"
        return dict(read_json(path)) if path.exists() else {}

    def _keep(self, study: StudyFolder, **changes: Any) -> None:
        write_json(study.path / "sigopt.json", {**self._kept(study), **changes})


@contextmanager
def _told_plainly(study: StudyFolder) -> Iterator[None]:
    """Errors of the client as one line; its own name the token's owner to write to, who is gone."""
    import requests

    client = _client()
    try:
        yield
    except (client.exception.SigOptException, requests.RequestException) as error:
        why = without_secrets(" ".join(str(getattr(error, "message", None) or error).split()))
        server = without_secrets(os.environ[URL])
        raise DivaError(f"SigOpt at {server}: {why}; when it answers again: diva resume {study.path}") from None


def without_secrets(text: str) -> str:
    """The text without the token, and without what the server's address has besides the place: user, password and query."""
    url = os.environ.get(URL, "")
    address = ADDRESS.fullmatch(url)
    assert address is not None  # whatever is in it
    scheme, user, place, query = address.groups("")
    password = user.partition(":")[2]
    text = text.replace(url, scheme + place) if url else text
    for secret in (os.environ.get(TOKEN, ""), user, password, unquote(password), query):
        text = text.replace(secret, "...") if secret else text
    return text


def _parameter(d: Dimension) -> dict[str, Any]:
    """A dimension in the service's words; whole numbers have no logarithm there, so those that want one are searched by it as doubles."""
    if d.kind == "choice":
        return {
            "name": d.name,
            "type": "categorical",
            "categorical_values": [str(label(choice)) for choice in d.choices],
        }
    if d.step and (d.step != 1 or d.kind == "float") and (d.n_values or 0) <= MOST_GRID:
        return {"name": d.name, "type": "int" if d.kind == "int" else "double", "grid": d.values()}
    if d.kind == "int" and not d.log:
        return {"name": d.name, "type": "int", "bounds": {"min": int(d.low), "max": int(d.high)}}
    logarithm = {"transformation": "log"} if d.log else {}
    return {"name": d.name, "type": "double", "bounds": {"min": d.low, "max": d.high}, **logarithm}


def _from_service(d: Dimension, value: Any) -> Any:
    """A value that the server assigned, as the task takes it; DivaError when it is none of the space."""
    try:
        if d.kind == "choice":
            return next(choice for choice in d.choices if str(label(choice)) == str(value))
        number = round(float(value)) if d.kind == "int" else float(value)
    except (StopIteration, TypeError, ValueError):
        raise DivaError(f"SigOpt suggested {value!r} for {d.name}, which is none of its values") from None
    if not d.low <= number <= d.high:
        raise DivaError(f"SigOpt suggested {value!r} for {d.name}, which goes from {d.low} to {d.high}")
    if d.step and not d.log:
        number = min(d.values(), key=lambda known: abs(known - number))
    return number
