"""What the runs say, against NumPy and by hand: spread, shares of variance, effects, what is missing; in words too."""

from __future__ import annotations

import io
import json
import random
from typing import Any

import numpy
import pytest

from diva.errors import UsageError
from diva.experiment.sensitivity.analysis import analyse
from diva.experiment.sensitivity.design import Design, design
from diva.experiment.sensitivity.factors import Factor
from diva.experiment.sensitivity.tables import show
from diva.report.console import Console
from tests.experiment.sensitivity.test_design import knob, seeds, stream

FACTORS = (seeds(*range(8)), knob("size", "16", "64", "1024"), knob("lr", "0.1", "0.2"), stream("init", *range(6)))
METRIC = "test/accuracy"


def noisy(planned: Design, bad: str = "size=1024", loss: float = 0.1) -> dict[str, dict[str, float]]:
    """Accuracies around 0.9: seeds spread them by 0.01, the stream by half of that; one configuration is worse."""
    rng = random.Random(4)
    found = {}
    for member in planned.members:
        sd = 0.005 if "stream" in member.values else 0.01
        value = rng.gauss(0.9 - loss * (bad in member.configuration.split(",")), sd)
        found[member.name] = {METRIC: value, "test/loss": -value, "test/accuracy/cat": 0.5}
    return found


def of_metric(factors: tuple[Factor, ...], metrics: dict[str, dict[str, float]], **how: Any) -> Any:
    planned = design(factors, 99, **how)
    return analyse(factors, planned, metrics, grid=how.get("grid", False))["metrics"][METRIC]


@pytest.fixture(scope="module")
def metrics() -> dict[str, dict[str, float]]:
    return noisy(design(FACTORS, 99))


@pytest.fixture(scope="module")
def found(metrics) -> Any:
    return of_metric(FACTORS, metrics)


def values(metrics: dict[str, dict[str, float]], start: str) -> list[float]:
    return [found[METRIC] for name, found in metrics.items() if name.startswith(start)]


def test_the_spread_of_seeds_and_streams_is_numpys(found, metrics) -> None:
    for row, start in zip(found["spread"], ("seed-", "stream-init-"), strict=True):
        drawn = values(metrics, start)
        assert row["sd"] == pytest.approx(numpy.std(drawn, ddof=1), rel=1e-12)
        assert row["mean"] == pytest.approx(numpy.mean(drawn), rel=1e-12)
        assert (row["low"], row["high"], row["n"]) == (min(drawn), max(drawn), len(drawn))
        assert metrics[f"{start}{row['high_at']}{'-seed-99' if 'init' in start else ''}"][METRIC] == row["high"]


def test_the_interval_of_an_sd_is_that_of_the_chi_square(found) -> None:
    row = found["spread"][0]  # 7 degrees of freedom: quantiles 1.68987 and 16.01276 (any table)
    assert row["ci_sd"] == pytest.approx(
        [row["sd"] * (7 / 16.01276) ** 0.5, row["sd"] * (7 / 1.68987) ** 0.5], rel=1e-5
    )


def test_the_share_of_a_stream_is_its_variance_over_that_of_seeds(found, metrics) -> None:
    ratio = numpy.var(values(metrics, "stream-init-"), ddof=1) / numpy.var(values(metrics, "seed-"), ddof=1)
    assert found["shares"]["sources"]["stream:init"]["share"] == pytest.approx(ratio, rel=1e-9)
    assert found["shares"]["remainder"] == pytest.approx(1 - ratio, rel=1e-9)


def test_the_bad_level_is_flagged_and_the_absent_effect_is_not(found) -> None:
    size, lr = found["effects"]
    assert (size["name"], size["exceeds"], lr["name"], lr["exceeds"]) == ("size", True, "lr", False)
    assert size["low"] == "1024" and size["range"] > 0.08 and size["range_over_seeds"] > 5
    assert size["p_adjusted"] == min(1, 2 * size["p"]) and lr["p"] > 0.05


def test_levels_have_the_means_of_their_runs_and_their_paired_difference_to_the_base(found, metrics) -> None:
    size = found["effects"][0]
    assert [level["label"] for level in size["levels"]] == ["16", "64", "1024"]
    base, _, bad = size["levels"]
    assert base["is_base"] and "difference" not in base
    assert base["mean"] == pytest.approx(numpy.mean(values(metrics, "seed-")), rel=1e-12)
    assert bad["values"] == values(metrics, "size-1024-")
    assert bad["difference"] == pytest.approx(numpy.mean(values(metrics, "size-1024-")) - base["mean"], rel=1e-9)
    assert bad["ci_difference"][0] < bad["difference"] < bad["ci_difference"][1] < 0


def test_runs_without_a_result_are_left_out_and_counted(metrics) -> None:
    holed = {
        name: found
        for name, found in metrics.items()
        if name not in ("size-1024-seed-2", "seed-5", "stream-init-0-seed-99")
    }
    holed["lr-0.2-seed-1"] = {METRIC: float("nan")}
    found = of_metric(FACTORS, holed)
    assert [row["n_missing"] for row in found["spread"]] == [1, 1]
    assert [level["n_missing"] for level in found["effects"][0]["levels"]] == [1, 0, 1]
    assert found["effects"][0]["n_runs"] == 6  # seeds that every level has
    assert found["effects"][1]["levels"][1]["n_pairs"] == 6 and found["effects"][0]["exceeds"]


def test_a_study_in_which_everything_failed_still_has_a_report() -> None:
    assert analyse(FACTORS, design(FACTORS, 99), {}, grid=False)["metrics"] == {}
    one = of_metric(FACTORS, {"lr-0.2-seed-1": {METRIC: 0.5}})
    assert one["effects"][0]["range"] is None and not one["effects"][0]["exceeds"] and one["spread"][0]["sd"] is None
    json.dumps(one, allow_nan=False)


def test_a_level_with_one_seed_is_measured_against_the_other_seeds(metrics) -> None:
    size = of_metric(FACTORS, metrics, runs=1)["effects"][0]
    assert size["exceeds"] and "F test against" in size["method"]


def test_several_base_seeds_of_a_stream_are_pooled_within_each() -> None:
    factors = (seeds(0, 1, 2), stream("init", 3, 4, 5))
    metrics = {f"seed-{s}": {METRIC: 0.1 * s} for s in range(3)}
    draws = {0: (1.0, 2.0, 6.0), 1: (11.0, 11.5, 12.0)}
    for seed, drawn in draws.items():
        metrics |= {f"stream-init-{i}-seed-{seed}": {METRIC: value} for i, value in zip((3, 4, 5), drawn, strict=True)}
    row = of_metric(factors, metrics, runs=2)["spread"][1]
    pooled = numpy.mean([numpy.var(drawn, ddof=1) for drawn in draws.values()])
    assert row["sd"] == pytest.approx(numpy.sqrt(pooled), rel=1e-12) and (row["n"], row["n_blocks"]) == (6, 2)


def test_the_report_depends_on_the_numbers_alone_and_not_on_their_order(found, metrics) -> None:
    turned = dict(reversed(metrics.items()))
    assert json.dumps(of_metric(FACTORS, turned), sort_keys=True) == json.dumps(found, sort_keys=True)


def test_scores_of_single_classes_are_no_metric_of_the_report(metrics) -> None:
    assert set(analyse(FACTORS, design(FACTORS, 99), metrics, grid=False)["metrics"]) == {METRIC, "test/loss"}


def test_a_grid_compares_levels_where_all_else_is_the_same() -> None:
    factors = (seeds(0, 1, 2), knob("size", "16", "1024"), knob("lr", "0.1", "0.2", "0.4"))
    planned = design(factors, 99, grid=True)
    metrics = {
        member.name: {
            METRIC: member.values["seed"] + 10 * ("lr" in member.values) + 0.01 * (member.values.get("size") == "1024")
        }
        for member in planned.members
    }
    size, lr = of_metric(factors, metrics, grid=True)["effects"]
    assert size["range"] == pytest.approx(0.01) and size["exceeds"] and "within 9 seeds" in size["method"]
    assert lr["range"] == pytest.approx(10) and lr["low"] == "0.1" and lr["exceeds"]
    assert size["levels"][1]["difference"] == pytest.approx(0.01)


def test_a_factor_that_changes_no_value_is_said_to_change_nothing(metrics) -> None:
    same = {name: {METRIC: float(name[-1])} for name in metrics if "stream" not in name}
    report = {"metric": METRIC, **analyse(FACTORS[:3], design(FACTORS[:3], 99), same, grid=False)}
    out = io.StringIO()
    show({"sensitivity": report, "members": []}, Console(out, io.StringIO()))
    assert "lr: changes nothing, every seed gives the same value at all 2 levels" in out.getvalue()
    assert [row["exceeds"] for row in report["metrics"][METRIC]["effects"]] == [False, False]


def test_tables_and_words_say_what_the_numbers_say(found, metrics) -> None:
    planned = design(FACTORS, 99)
    report = {"metric": METRIC, **analyse(FACTORS, planned, metrics, grid=False)}
    summary = {"sensitivity": report, "members": [{"status": "finished"}] * 29 + [{"status": "failed"}]}
    out, err = io.StringIO(), io.StringIO()
    show(summary, Console(out, err))
    words = out.getvalue()
    assert "size: moves the result more than seeds alone do" in words
    assert "lr: not shown to do more than seeds alone do" in words
    assert (
        "too few runs to split the variance of seeds by stream (seed 8, init 6)" in words
        and "variance  95" not in words
    )
    assert "1 of 30 runs gave no result" in err.getvalue()
    with pytest.raises(UsageError, match="did you mean test/accuracy"):
        show(summary, Console(out, err), "test/acuracy")


def test_shares_of_runs_enough_are_told_with_their_intervals() -> None:
    factors = (seeds(*range(12)), stream("init", *range(10)))
    planned = design(factors, 99)
    report = {"metric": METRIC, **analyse(factors, planned, noisy(planned), grid=False)}
    out = io.StringIO()
    show({"sensitivity": report, "members": [{"status": "finished"}] * 22}, Console(out, io.StringIO()))
    share = report["metrics"][METRIC]["shares"]["sources"]["stream:init"]
    low, high = (f"{100 * end:.0f} %" for end in share["ci_f"])
    assert f"init {100 * share['share']:.0f} % ({low} to {high})" in out.getvalue()
    assert "variance  95 % of it" in out.getvalue() and "too few runs" not in out.getvalue()
