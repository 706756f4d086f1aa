"""`diva doctor`: the machine, the libraries and a self-test, one line each."""

from __future__ import annotations

import json

import click


@click.command(epilog="Example: diva doctor")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
def doctor(as_json: bool) -> None:
    """Check this machine: what is installed, what is missing, and whether training gives the same bits twice."""
    from diva.experiment.diagnosis import examine

    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            print(f"{'ok  ' if finding.ok else 'FAIL'} {finding.what:<14} {finding.found}", flush=True)
    if as_json:
        print(json.dumps({f.what: {"ok": f.ok, "found": f.found} for f in findings}, sort_keys=True))
    if not all(finding.ok for finding in findings):
        raise click.exceptions.Exit(1)
