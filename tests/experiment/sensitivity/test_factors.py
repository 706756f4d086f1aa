"""What `--vary` names: knobs, options, seeds and streams, each value of the type that its declaration has; the rest is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from diva.errors import UsageError
from diva.experiment.request import Request, resolve
from diva.experiment.sensitivity.base import settled
from diva.experiment.sensitivity.factors import (
    Factor,
    factor_from_json,
    factor_to_json,
    read_factors,
    with_first_values,
)
from diva.experiment.study.create import with_share


@pytest.fixture(scope="module")
def base() -> Request:
    values = {"task": "points_2d", "seed": 5, "stream": ["step=9"], "device": "cpu", "threads": 2}
    return settled(resolve(values, [], ("diva", "sensitivity")))


def read(base: Request, *given: str) -> Factor:
    """The one factor that is no seed."""
    _, factor = read_factors(given, base)
    return factor


def levels(factor: Factor) -> dict[str, Any]:
    return {level.label: dict(level.values) for level in factor.levels}


def test_values_have_the_type_of_the_knob_and_the_base_is_a_level_that_changes_nothing(base) -> None:
    assert levels(read(base, "batch_size=16,64")) == {"32": {}, "16": {"batch_size": 16}, "64": {"batch_size": 64}}
    assert levels(read(base, "batch-size=16:49:16")) == {"16": {"batch_size": 16}, "32": {}, "48": {"batch_size": 48}}
    assert levels(read(base, "lr=0.01,1e-3")) == {"0.01": {}, "0.001": {"lr": 0.001}}
    assert levels(read(base, "hidden=none,8")) == {"none": {}, "8": {"hidden": 8}}
    assert read(base, "activation=tanh").base == "relu"


def test_a_decimal_range_has_no_rounding_in_it(base) -> None:
    assert list(levels(read(base, "dropout=0.1:0.5:0.1"))) == ["0.0", "0.1", "0.2", "0.3", "0.4"]


def test_seeds_come_first_and_are_added_when_they_are_not_given(base) -> None:
    seeds, _ = read_factors(["lr=0.1"], base)
    assert [level.values["seed"] for level in seeds.levels] == [5, 6, 7, 8, 9, 10]
    seeds, other = read_factors(["lr=0.1", "seed=0:3"], base)
    assert [level.values["seed"] for level in seeds.levels] == [0, 1, 2] and other.name == "lr"


def test_a_stream_keeps_those_of_the_base_but_for_its_own(base) -> None:
    assert levels(read(base, "stream:init=3,4")) == {
        "3": {"stream": ["init=3", "step=9"]},
        "4": {"stream": ["init=4", "step=9"]},
    }
    assert levels(read(base, "stream:step=0,1")) == {"0": {"stream": ["step=0"]}, "1": {"stream": ["step=1"]}}


def test_options_that_say_who_computes_are_factors(base) -> None:
    assert levels(read(base, "threads=1,4")) == {"2": {}, "1": {"threads": 1}, "4": {"threads": 4}}
    assert levels(read(base, "backend=torch")) == {"exact": {}, "torch": {"backend": "torch"}}
    assert levels(read(base, "tf32=yes,no")) == {"yes": {"tf32": True}, "no": {}}
    assert levels(read(base, "subset=0.5")) == {"none": {}, "0.5": {"subset": "0.5"}}


def test_pytorchs_kernels_have_one_thread_for_any_number_of_jobs_unless_another_is_asked_for() -> None:
    free = settled(resolve({"task": "points_2d", "seed": 5, "device": "cpu"}, [], ("diva",)))
    assert free.options.threads is None and free.options.backend == "exact"
    assert levels(read(free, "backend=torch")) == {"exact": {}, "torch": {"backend": "torch", "threads": 1}}
    torch = settled(resolve({"task": "points_2d", "seed": 5, "device": "cpu", "backend": "torch"}, [], ("diva",)))
    assert [with_share(torch.options, jobs).threads for jobs in (1, 2, 4)] == [1, 1, 1]


def test_the_first_number_of_threads_is_the_bases_where_none_was_asked_for() -> None:
    free = settled(resolve({"task": "points_2d", "seed": 5, "device": "cpu"}, [], ("diva",)))
    based = with_first_values(["threads=3,1"], free)
    factor = read(based, "threads=3,1")
    assert levels(factor) == {"3": {}, "1": {"threads": 1}} and factor.base == "3"
    assert levels(read(based, "backend=torch"))["torch"] == {"backend": "torch"}


def test_what_another_machine_decides_stays_open() -> None:
    asked = resolve({"task": "points_2d", "seed": 5}, [], ("diva",))
    away = settled(asked, elsewhere=True)
    assert (away.options.device, away.options.backend, away.options.threads) == ("auto", "auto", None)
    given = ["device=cuda,cpu"]
    _, factor = read_factors(given, with_first_values(given, away), elsewhere=True)
    assert levels(factor) == {"cuda": {}, "cpu": {"device": "cpu", "backend": "auto"}}
    with pytest.raises(UsageError, match="--device gpu: allowed are"):
        read_factors(["device=gpu,cpu"], away, elsewhere=True)


def test_another_device_takes_its_own_kernels_unless_the_backend_was_chosen(base, monkeypatch) -> None:
    import torch

    from diva.kernels import stock

    monkeypatch.setattr(stock, "choose_device", lambda wanted: torch.device(wanted))
    assert levels(read(base, "device=cpu,cuda")) == {"cpu": {}, "cuda": {"device": "cuda", "backend": "auto"}}
    chosen = replace(base, origins={**base.origins, "backend": "command line"})
    assert levels(read(chosen, "device=cpu,cuda")) == {"cpu": {}, "cuda": {"device": "cuda"}}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("batch_size", "allowed is NAME=VALUES"),
        ("batch_sise=1,2", "did you mean batch_size"),
        ("output=a,b", "no knob of the task and no option that can be varied has this name"),
        ("batch_size=32", "nothing would vary"),
        ("batch_size=0,16", "batch_size is '0'"),
        ("lr=0.1,0.10", "0.1 is there twice"),
        ("seed=1", "nothing would vary"),
        ("seed=1,x", "is no seed"),
        ("stream:dropout=0:3", "no stream is called 'dropout'"),
        ("stream:init=0,-1", "is no seed"),
        ("threads=0,1", "must be at least 1"),
        ("backend=fast", "backend is 'fast'"),
        ("subset=0.5,nonsense", "--subset nonsense: allowed are"),
        ("shards=1,64", "--shards 64: more than --batch-size 32"),
    ],
)
def test_what_cannot_be_varied_is_refused(base, given: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_factors([given], base)


def test_levels_that_do_not_fit_the_workers_or_the_shards_are_refused(base) -> None:
    shared = replace(base, options=replace(base.options, shards=2, workers_per_run=2))
    with pytest.raises(UsageError, match="--workers-per-run 2: must divide --shards, which is 3"):
        read_factors(["shards=2,4,3"], shared)
    with pytest.raises(UsageError, match="--shards 2: more than --batch-size 1"):
        read_factors(["batch_size=32,1"], shared)


def test_a_factor_is_named_once(base) -> None:
    with pytest.raises(UsageError, match="--vary lr: is there twice"):
        read_factors(["lr=0.1", "lr=0.2"], base)


def test_a_streams_own_name_of_a_task_is_known(base, tmp_path: Path) -> None:
    similar = settled(resolve({"task": "similarity", "seed": 1, "device": "cpu"}, [], ("diva",)))
    assert list(levels(read(similar, "stream:deal=0,1"))) == ["0", "1"]


def test_a_factor_comes_back_from_the_record(base) -> None:
    for factor in read_factors(["lr=0.1", "stream:init=0:3", "threads=1,4"], base):
        assert factor_from_json(factor_to_json(factor)) == factor
