"""`diva doctor`: the machine, the libraries and a self-test, one line each; the operators; the proof on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterable

import click


@click.command(epilog="Examples: diva doctor · diva doctor --operators softmax · diva doctor --matrix")
@click.argument("name", required=False)
@click.option(
    "--operators", is_flag=True, help="print who serves each operator under exact, of those with NAME in them"
)
@click.option("--matrix", is_flag=True, help="compute with each instruction set and several threads; compare the bits")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
def doctor(name: str | None, operators: bool, matrix: bool, as_json: bool) -> None:
    """Check this machine: what is installed, what is missing, and whether training gives the same bits twice."""
    from diva.experiment import diagnosis

    if name and not operators:
        raise click.UsageError("a name goes with --operators")
    if operators and matrix:
        raise click.UsageError("--operators or --matrix, not both")
    if operators:
        _print_operators(name or "", as_json)
        return
    _report(diagnosis.matrix() if matrix else diagnosis.examine(), as_json)


def _report(examined: Iterable[object], as_json: bool) -> None:
    from diva.experiment.diagnosis import Finding

    findings = []
    for finding in examined:
        assert isinstance(finding, Finding)
        findings.append(finding)
        if not as_json:
            print(f"{'ok  ' if finding.ok else 'FAIL'} {finding.what:<14} {finding.found}", flush=True)
    if as_json:
        print(json.dumps({f.what: {"ok": f.ok, "found": f.found} for f in findings}, sort_keys=True))
    if not all(finding.ok for finding in findings):
        raise click.exceptions.Exit(1)


def _print_operators(name: str, as_json: bool) -> None:
    from collections import Counter

    from diva.experiment.diagnosis import operator_lines, operators

    found = operators(name)
    if as_json:
        print(json.dumps([{"operator": e.operator, "key": e.key, "served": e.served, "why": e.why} for e in found]))
        return
    for line in operator_lines(found):
        print(line)
    count = Counter(entry.served for entry in found)
    print(f"{len(found)} operators: {count['ours']} ours, {count['safe']} safe, {count['refused']} refused")
