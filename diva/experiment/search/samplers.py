"""Samplers: which point of a space is tried next, as pure functions of the space, a seed and what earlier trials gave.

Suggestion `t` depends on nothing else: not on when it is asked for, not on who asks, not on what was asked before. So a search that was
killed goes on as if it had not been, and equal searches give equal trials.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from diva.errors import UsageError
from diva.experiment.search.space import MOST_POINTS, Dimension, grid, grid_point, key_of, n_points
from diva.seeding import Seeds

if TYPE_CHECKING:
    import optuna

N_STARTUP = 10  # trials of TPE that are random search's, as Optuna has it
N_DRAWS = (
    20  # how often a point that was tried before is drawn anew before an untried one is taken from the list of all
)


@dataclass(frozen=True)
class Told:
    """What a sampler knows of an earlier trial. value: its objective; None while it runs, and when it failed or was pruned.

    curve: the validation metric after epoch 0, 1, ..., of the first run of the trial; what Optuna's tools draw.
    """

    number: int
    point: dict[str, Any]
    state: Literal["running", "finished", "failed", "pruned"]
    value: float | None = None
    curve: tuple[float, ...] = ()


def suggest(sampler: str, space: Sequence[Dimension], seed: int, told: Sequence[Told], *, less: bool) -> dict[str, Any]:
    """The point of trial number len(told). told: trials 0, 1, ..., all of them; those that still run have no value.

    less: whether smaller objectives are better. No point is tried twice while there are others: the same point with the same seeds
    would give the same bits.
    """
    number = len(told)
    if sampler == "grid":
        return grid_point(space, number)
    tried = {key_of(trial.point) for trial in told}
    size = n_points(space)
    if size is not None and len(tried) >= size:
        raise ValueError(f"trial {number}: all {size} points of the space were tried")
    draw: Callable[[int], dict[str, Any]] = lambda attempt: _random(space, seed, number, attempt)  # noqa: E731
    if sampler == "tpe" and number >= N_STARTUP:
        draw = lambda attempt: _tpe(space, _small_seed(seed, number, attempt), told, less=less)  # noqa: E731
    for attempt in range(N_DRAWS):
        point = draw(attempt)
        if key_of(point) not in tried:
            return point
    if size is not None and size <= MOST_POINTS:
        untried = [point for point in grid(space) if key_of(point) not in tried]
        return untried[Seeds(seed).python("search", "untried", number).randrange(len(untried))]
    return point


def _random(space: Sequence[Dimension], seed: int, number: int, attempt: int) -> dict[str, Any]:
    """A point drawn evenly, on the logarithm where a dimension says so; a stream per trial, dimension and attempt."""
    seeds = Seeds(seed)
    return {d.name: d.value(seeds.python("search", "random", number, attempt, d.name).random()) for d in space}


def _small_seed(seed: int, number: int, attempt: int) -> int:
    """The 32 bits that NumPy's older generator takes."""
    return Seeds(seed).key("search", "tpe", number, attempt) >> 96


def _tpe(space: Sequence[Dimension], seed: int, told: Sequence[Told], *, less: bool) -> dict[str, Any]:
    """What Optuna's multivariate tree-structured Parzen estimator suggests after the trials, asked in a study made for this question.

    A failed or pruned trial counts as worse than every finished one, a running one keeps others away from it ("constant liar").
    Source: Bergstra et al. 2011, Algorithms for hyper-parameter optimization; Falkner et al. 2018, for the joint density.
    """
    optuna = load_optuna()
    with quiet(optuna):
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True, n_startup_trials=1)
        direction = "minimize" if less else "maximize"
        study = optuna.create_study(sampler=sampler, direction=direction, storage=optuna.storages.InMemoryStorage())
        for trial in told:
            study.add_trial(optuna_trial(space, trial))
        return from_optuna(space, study.ask(distributions(space)).params)


def load_optuna() -> Any:
    """The library, or a UsageError that says how to get it."""
    try:
        import optuna
    except ImportError:
        raise UsageError("--sampler tpe needs optuna; install it with: pip install 'diva[hpo]'") from None
    return optuna


@contextmanager
def quiet(optuna: Any) -> Iterator[None]:
    """While this holds, Optuna says nothing of each trial, nor that an argument is experimental; given back as it was."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def distributions(space: Sequence[Dimension]) -> dict[str, Any]:
    """The space in Optuna's words. A step and a logarithm exclude each other there, but for whole numbers."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, Any] = {}
    for d in space:
        if d.kind == "choice":
            found[d.name] = CategoricalDistribution([label(choice) for choice in d.choices])
        elif d.kind == "int":
            found[d.name] = IntDistribution(int(d.low), int(d.high), log=d.log, step=1 if d.log else int(d.step))
        else:
            found[d.name] = FloatDistribution(d.low, d.high, log=d.log, step=d.step or None)
    return found


def label(choice: Any) -> Any:
    """A choice as Optuna takes it: a list is its JSON text."""
    return json.dumps(choice) if isinstance(choice, tuple) else choice


def optuna_trial(space: Sequence[Dimension], trial: Told, *, for_tools: bool = False) -> optuna.trial.FrozenTrial:
    """A trial in Optuna's words. for_tools: with its curve, and failed where it failed; TPE is told that it was pruned, hence bad."""
    from optuna.trial import TrialState, create_trial

    states = {"running": TrialState.RUNNING, "finished": TrialState.COMPLETE}
    bad = TrialState.FAIL if for_tools and trial.state == "failed" else TrialState.PRUNED
    return create_trial(
        state=states.get(trial.state, bad),
        value=trial.value,
        params={d.name: label(trial.point[d.name]) for d in space},
        distributions=distributions(space),
        intermediate_values=dict(enumerate(trial.curve)) if for_tools else {},
    )


def from_optuna(space: Sequence[Dimension], params: dict[str, Any]) -> dict[str, Any]:
    """A point from Optuna's words, with values that can be typed."""
    from diva.experiment.search.space import rounded

    point: dict[str, Any] = {}
    for d in space:
        value = params[d.name]
        if d.kind == "choice":
            point[d.name] = next(choice for choice in d.choices if label(choice) == value and same_kind(choice, value))
        elif d.kind == "int":
            point[d.name] = int(value)
        elif d.step:
            point[d.name] = d.at(round((value - d.low) / d.step))
        else:
            point[d.name] = rounded(float(value), d.low, d.high)
    return point


def same_kind(choice: Any, value: Any) -> bool:
    """Whether both are truth values or neither is: True equals 1."""
    return isinstance(choice, bool) == isinstance(value, bool)
