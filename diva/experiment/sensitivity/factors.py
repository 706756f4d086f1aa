"""Factors: what a sensitivity study varies, from `--vary NAME=VALUES`, each level as a member of the study takes it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from diva.errors import UsageError, nearest
from diva.experiment.options import RunOptions
from diva.experiment.study.values import listed
from diva.params import build, convert, knobs_of, options_of
from diva.seeding import MAX_SEED, other_seeds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diva.experiment.request import Request
    from diva.learning.task import Task

STREAM: Final = "stream:"
SEED: Final = "seed"
# Options that may move a result, or are said not to; all others are of the record, or are not of one run alone.
OPTIONS: Final = ("backend", "device", "threads", "tf32", "workers", "cache", "subset", "shards", "freeze")
OPEN: Final = ("device", "backend", "threads")  # a base may leave them to the machine, which is none of the levels
N_SEEDS: Final = 6  # of the yardstick, where none is asked for


@dataclass(frozen=True)
class Level:
    """A value of a factor: as it is shown, and what a member has over the study's own for it, as JSON holds it."""

    label: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Factor:
    """What is varied. base: the label of the level that the base has; None for seeds and streams, which have no such level."""

    name: str
    kind: Literal["seed", "stream", "knob", "option"]
    levels: tuple[Level, ...]
    base: str | None = None

    @property
    def is_random(self) -> bool:
        """Whether its levels are draws, of which only the spread matters, and not values that one could choose."""
        return self.kind in ("seed", "stream")


def with_first_values(given: Sequence[str], request: Request) -> Request:
    """The base; an option that it leaves to the machine has the first of the values that `--vary` names for it.

    So the levels, and which of them is the base's, are the same on every machine and for every number of jobs.
    """
    params = {param.name: param for param in options_of(RunOptions)}
    first: dict[str, Any] = {}
    for name, values in map(_split, given):
        if name in OPEN and getattr(request.options, name) in (None, "auto"):
            first[name] = convert(params[name], listed(values, f"--vary {name}")[0], f"--vary {name}")
    origins = {**request.origins, **dict.fromkeys(first, "command line")}
    return replace(request, options=replace(request.options, **first), origins=origins)


def read_factors(given: Sequence[str], request: Request, *, elsewhere: bool = False) -> tuple[Factor, ...]:
    """The factors that `--vary` names, the seeds first, which are added when they are not given.

    request: the base, settled. elsewhere: whether its runs have other machines than this one. UsageError for a name that nothing has, a
    value that is not allowed, a factor without two levels.
    """
    named = [_split(text) for text in given]
    twice = sorted({name for name, _ in named if [other for other, _ in named].count(name) > 1})
    if twice:
        raise UsageError(f"--vary {twice[0]}: is there twice; give all its values at once")
    factors = [_factor(name, listed(values, f"--vary {name}"), request, elsewhere) for name, values in named]
    seeds = [factor for factor in factors if factor.kind == "seed"] or [_default_seeds(request)]
    return (*seeds, *(factor for factor in factors if factor.kind != "seed"))


def _split(text: str) -> tuple[str, str]:
    name, equals, values = text.partition("=")
    name = name.strip().removeprefix("--")
    if not equals or not name or not values:
        raise UsageError(f"--vary {text}: allowed is NAME=VALUES, as batch_size=16,64 or seed=0:10 or stream:init=0:10")
    return (name if name.startswith(STREAM) else name.replace("-", "_")), values


def _factor(name: str, values: Sequence[str], request: Request, elsewhere: bool) -> Factor:
    if name == SEED:
        factor = Factor(SEED, "seed", tuple(Level(text, {"seed": _seed(text, "--vary seed")}) for text in values))
    elif name.startswith(STREAM):
        factor = _stream(name, values, request)
    elif name in OPTIONS and name in {param.name for param in options_of(RunOptions)}:
        factor = _option(name, values, request, elsewhere)
    else:
        factor = _knob(name, values, request)
    labels = [level.label for level in factor.levels]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise UsageError(f"--vary {name}: {twice[0]} is there twice; name each value once")
    if len(factor.levels) < 2:
        raise UsageError(f"--vary {name}={','.join(values)}: nothing would vary; give two values or more")
    return factor


def _default_seeds(request: Request) -> Factor:
    """The base's own seed and those that follow it."""
    first = request.options.seed or 0
    seeds = [(first + i) % (MAX_SEED + 1) for i in range(N_SEEDS)]
    return Factor(SEED, "seed", tuple(Level(str(seed), {"seed": seed}) for seed in seeds))


def _seed(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > MAX_SEED:
        raise UsageError(f"{where}={text}: is no seed; allowed are whole numbers from 0 to {MAX_SEED}")
    return int(text)


def _stream(name: str, values: Sequence[str], request: Request) -> Factor:
    """A stream from other seeds; streams that the base has from seeds of their own stay where they are."""
    root, own = name.removeprefix(STREAM), type(request.task).streams
    kept = [text for text in request.options.stream if text.partition("=")[0] != root]
    levels = []
    for text in values:
        seed = _seed(text, f"--vary {name}")
        others = other_seeds([*kept, f"{root}={seed}"], own, "--vary stream")
        levels.append(Level(str(seed), {"stream": [f"{other}={of}" for other, of in others]}))
    return Factor(name, "stream", tuple(levels))


def _option(name: str, values: Sequence[str], request: Request, elsewhere: bool) -> Factor:
    from diva.data.sampling import part_size
    from diva.experiment.run import check_options

    param = {param.name: param for param in options_of(RunOptions)}[name]
    levels = []
    for text in values:
        value = convert(param, text, f"--vary {name}")
        options = check_options(replace(request.options, **{name: value}))
        own: dict[str, Any] = {name: list(value) if isinstance(value, tuple) else value}
        if name == "device" and request.origins.get("backend") == "default":  # a GPU has other kernels than the base's
            own["backend"] = "auto"
            options = replace(options, backend="auto")
        if name == "subset" and value is not None:
            part_size(value, sys.maxsize)  # how many samples there are is not known yet
        _check_shards(options.shards, request.task)
        backend = _backend(options, elsewhere)
        if options.threads is None and (request.options.backend, backend) == ("exact", "torch"):
            own["threads"] = 1  # as a run of it has; the base's share of the cores would change its bits
        levels.append(Level(_label(value), own))
    base = _label(getattr(request.options, name))
    return Factor(name, "option", _with_base(levels, base), base)


def _check_shards(shards: int, task: Task) -> None:
    if shards > task.batch_size:
        raise UsageError(f"--shards {shards}: more than --batch-size {task.batch_size}; some would have no sample")


def _backend(options: RunOptions, elsewhere: bool) -> str | None:
    """Whose kernels a level has, None where another machine decides; UsageError when they do not compute on its device."""
    import torch

    from diva.kernels import backends, stock

    if not elsewhere:
        return backends.choose_backend(options.backend, stock.choose_device(options.device))
    if options.device.startswith("cuda"):
        backends.choose_backend(options.backend, torch.device("cuda"))
    else:
        stock.choose_device(options.device)
    return None


def _knob(name: str, values: Sequence[str], request: Request) -> Factor:
    task = type(request.task)
    knobs = [param.name for param in knobs_of(task)]
    if name not in knobs:
        what = nearest(name, [*knobs, *(option for option in OPTIONS if option in RunOptions.__dataclass_fields__)])
        raise UsageError(f"--vary {name}: no knob of the task and no option that can be varied has this name; {what}")
    levels = []
    for text in values:
        varied = build(task, request.knobs.over({name: text}, f"--vary {name}"))
        _check_shards(request.options.shards, varied)  # type: ignore[arg-type]
        value = varied.model_dump(mode="json")[name]
        levels.append(Level(_label(value), {name: value}))
    base = _label(request.task.model_dump(mode="json")[name])
    return Factor(name, "knob", _with_base(levels, base), base)


def _with_base(levels: list[Level], base: str) -> tuple[Level, ...]:
    """The levels with the base's among them, first where it was not given; it changes nothing."""
    found = [Level(level.label, {}) if level.label == base else level for level in levels]
    return tuple(found if any(level.label == base for level in found) else [Level(base, {}), *found])


def _label(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "+".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def factor_to_json(factor: Factor) -> dict[str, Any]:
    """The factor as the study's record holds it."""
    levels = [{"label": level.label, "values": dict(level.values)} for level in factor.levels]
    return {"name": factor.name, "kind": factor.kind, "levels": levels, "base": factor.base}


def factor_from_json(record: Mapping[str, Any]) -> Factor:
    """The factor that `factor_to_json` wrote."""
    levels = tuple(Level(level["label"], level["values"]) for level in record["levels"])
    return Factor(record["name"], record["kind"], levels, record["base"])
