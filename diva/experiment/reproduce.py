"""Run a recorded experiment again, from its own source, and say whether its bits are the same."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from diva.errors import RecordError
from diva.experiment.code import own_digest
from diva.experiment.options import CHANGES_NO_BITS
from diva.experiment.recorded import (
    facts_that_differ,
    find_data,
    options_with,
    recorded_options,
    recorded_task,
    verify_data,
    verify_record,
)
from diva.experiment.request import Request
from diva.learning.task import less_is_better
from diva.records import environment
from diva.records.trace import comparable, first_difference, read_trace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from diva.records.manifest import Manifest
    from diva.records.run_folder import RunFolder
    from diva.report.console import Console

TOLERANCE = 0.02
# What the exact kernels make indifferent: the processor, its libraries and how many threads there are.
HELD_BY_EXACT = re.compile(
    r"torch\.(threads|blas|mkl|onednn|openmp|cpu_capability|cuda|kernels\.instruction_set)"
    r"|cpu\..*|gpu\..*|machine|os\..*|variables\..*|option threads"
)
COMPUTER = ("backend", "device", "threads", "tf32", "workers", "workers_per_run")  # the options that say who computes
DIGESTS = ("initial_weights_digest", "weights_digest", "best_weights_digest", "test_outputs_digest")


@dataclass(frozen=True)
class Verdict:
    """IDENTICAL: every digest is the same. EQUIVALENT: bits differ as the environment does, metrics within the tolerance."""

    word: Literal["IDENTICAL", "EQUIVALENT", "DIFFERENT"]
    line: str


def verify(run: RunFolder) -> Manifest:
    """The manifest of a finished run whose whole record is unaltered; RecordError says what is not."""
    manifest = verify_record(run)
    result = run.result()
    if result is None:
        raise RecordError(
            f"{run.path}: did not finish, so there is nothing to reproduce; continue it with: diva resume {run.path}"
        )
    trace = read_trace(run.trace_file)
    if not trace or trace[-1]["digest"] != result["trace_digest"]:
        raise RecordError(f"{run.trace_file}: does not end as the result says; the record was altered")
    ends = {"initial_weights_digest": trace[0]["weights"], "weights_digest": trace[-1]["weights"]}
    for name, digest in ends.items():
        if result[name] != digest:
            raise RecordError(f"{run.result_file}: its {name} is not what the trace says; the record was altered")
    return manifest


def reproduce(
    run: RunFolder, changes: dict[str, Any], argv: tuple[str, ...], console: Console
) -> tuple[RunFolder, Verdict]:
    """Verify the record, the data and the code of a run, run it again into a new folder, and compare.

    changes: options of the new run by name, None where not given. Raises DataError or RecordError (exit 4) before anything runs.
    """
    manifest = verify(run)
    options = options_with(recorded_options(manifest), changes)
    wanted = find_data(run, manifest, changes.get("data"), options.data_root)
    verify_data(run, wanted, options.data_root, deep=options.verify == "deep")
    found, task, knobs = recorded_task(run, manifest)
    options = options_with(options, {"data": wanted})
    request = Request(found, task, knobs, options, manifest.origins, argv, recorded=run)
    from diva.experiment.run import start  # imports torch, which a refused record need not wait for

    again, _ = start(request, console)
    return again, compare(run, again)


def compare(then: RunFolder, now: RunFolder) -> Verdict:
    """Compare the traces and results of two finished runs, digest by digest."""
    old, new = then.result(), now.result()
    assert old is not None and new is not None
    parting = first_difference(*comparable(read_trace(then.trace_file), read_trace(now.trace_file)))
    digests = [name for name in DIGESTS if old[name] != new[name]]
    if parting is None and not digests and old["metrics"] == new["metrics"]:
        return Verdict(
            "IDENTICAL",
            f"IDENTICAL: {new['epochs']} epochs, {new['steps']} steps, weights {new['weights_digest'][:19]}...",
        )
    where = (
        f"first seen after epoch {parting.epoch}, step {parting.step}, in {', '.join(parting.names)}"
        if parting
        else f"in {', '.join(digests)}"
    )
    largest = largest_gap(old["metrics"], new["metrics"])
    causes = [d.what for d in differences(then.manifest(), now.manifest()) if d.can_change_bits]
    if causes and largest <= TOLERANCE and now.manifest().options["backend"] == "torch":
        return Verdict(
            "EQUIVALENT",
            f"EQUIVALENT: bits differ {where}; metrics by at most {largest:.2g} (tolerance {TOLERANCE}); "
            f"what may have changed bits: {_few(causes)}",
        )
    return Verdict("DIFFERENT", f"DIFFERENT: {where}; metrics differ by up to {largest:.2g}")


def largest_gap(one: Mapping[str, Any], two: Mapping[str, Any]) -> float:
    """The largest absolute difference of the metrics on the test split; losses are not compared, their scale is not known."""
    names = [name for name in one if name.startswith("test/") and not less_is_better(name)]
    gaps = [abs(float(one[name]) - float(two.get(name, "nan"))) for name in names]
    return max((gap if gap == gap else float("inf") for gap in gaps), default=float("inf"))


def differences(then: Manifest, now: Manifest) -> list[environment.Difference]:
    """What differs between two runs outside the experiment itself, as rows "then, now, can it change bits?"."""
    found = environment.differences(then.environment, now.environment)
    if not str(now.options["device"]).startswith("cuda"):  # a GPU that computes nothing excuses nothing
        found = [row for row in found if not row.what.startswith("gpu")]
    for name in COMPUTER:
        if then.options.get(name) != now.options.get(name):
            row = environment.Difference(
                f"option {name}", str(then.options.get(name)), str(now.options.get(name)), name not in CHANGES_NO_BITS
            )
            found.append(row)
    if then.diva["digest"] != now.diva["digest"]:
        found.append(environment.Difference("diva", then.diva["digest"][:19], now.diva["digest"][:19], True))
    for name in facts_that_differ(then.facts, now.facts):
        found.append(environment.Difference(f"data {name}", str(then.facts.get(name)), str(now.facts.get(name)), True))
    return weigh(found, now)


def weigh(found: list[environment.Difference], manifest: Manifest) -> list[environment.Difference]:
    """The differences, those that the run's backend makes indifferent marked so."""
    if manifest.options["backend"] != "exact":
        return found
    found = [row for row in found if not row.what.startswith("torch.kernels.declared.")]  # a task declares when it runs
    return [replace(row, can_change_bits=False) if HELD_BY_EXACT.fullmatch(row.what) else row for row in found]


def preview(manifest: Manifest, changes: dict[str, Any]) -> list[environment.Difference]:
    """What differs here and now from a recorded run, before it is run again."""
    here = environment.describe(_torch_here(manifest, changes))
    found = environment.differences(manifest.environment, here)
    for name in ("device", "threads"):
        if changes.get(name) is not None and changes[name] != manifest.options[name]:
            found.append(
                environment.Difference(f"option {name}", str(manifest.options[name]), str(changes[name]), True)
            )
    if manifest.diva["digest"] != own_digest():
        kept = manifest.diva["snapshot"] is not None
        now = "the recorded one, from its snapshot" if kept else own_digest()[:19]
        found.append(environment.Difference("diva", manifest.diva["digest"][:19], now, not kept))
    return weigh(found, manifest)


def _torch_here(manifest: Manifest, changes: dict[str, Any]) -> dict[str, Any]:
    from diva.kernels import backends, stock

    stock.prepare_process()
    device = stock.choose_device(changes.get("device") or manifest.options["device"])
    facts = backends.describe(manifest.options["backend"], device)
    return {**facts, "threads": changes.get("threads") or manifest.options["threads"]}


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
