"""Runs and studies made by hand: a comparison reads records, so no training is needed to test it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from diva.records import source
from diva.records.files import sha256_bytes, write_json
from diva.records.footprint import FileEntry, Footprint, write
from diva.records.manifest import DataRecord, Manifest, TaskRecord, manifest_digest
from diva.records.run_folder import RunFolder
from diva.records.study_folder import Kind, Member, StudyFolder, StudyRecord
from diva.records.trace import START, entry

MakeRun = Callable[..., RunFolder]
MakeStudy = Callable[..., StudyFolder]
ENVIRONMENT = {
    "python": {"version": "3.12.1"}, "os": {"system": "Linux"}, "cpu": {"model": "a cpu"}, "packages": {"torch": "2.9", "click": "8"},
    "torch": {"threads": 1}, "missing": [],
}  # fmt: skip

OPTIONS = {"backend": "exact", "threads": 1, "output": "runs"}


def digest(text: object) -> str:
    return f"sha256:{sha256_bytes(str(text).encode())}"


def trace_of(epochs: int, changes: Mapping[str, int], *, steps: bool = False) -> list[dict[str, Any]]:
    """A chain of epochs of three steps; `changes`: name -> the step from which it is another."""
    chain: list[dict[str, Any]] = []
    for step in range(3 * epochs + 1):
        names = ("order", "losses", "weights", "optimizer") if step else ("weights", "optimizer")
        state = {name: digest((name, step, step >= changes.get(name, 10**9))) for name in names}
        previous = chain[-1]["digest"] if chain else START
        if step and steps:
            chain.append(entry(previous, {"epoch": -(-step // 3), "step": step, **state}))
            previous = chain[-1]["digest"]
        if step % 3 == 0:
            state["metrics"] = digest(("metrics", step, step >= changes.get("metrics", 10**9)))
            chain.append(entry(previous, {"epoch": step // 3, "step": step, **state}))
    return chain


def tensors_of(names: Sequence[str], entries: Sequence[tuple[int, int, Mapping[str, object]]]) -> str:
    """The text of a tensor trace: of each (epoch, step, changes) what the named tensors hold."""
    lines = [json.dumps({"names": list(names)})]
    for epoch, step, changes in entries:
        digests = "".join(digest((name, step, changes.get(name)))[7:23] for name in names)
        lines.append(json.dumps({"epoch": epoch, "step": step, "digests": digests}))
    return "\n".join(lines) + "\n"


def write_run(
    folder: Path,
    *,
    seed: int = 1,
    task: str = "toy",
    metrics: Mapping[str, float] | None = None,
    knobs: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
    files: Mapping[str, str] | None = None,
    data: Mapping[str, str] | None = None,
    changes: Mapping[str, int] | None = None,
    epochs: int = 2,
    steps: bool = False,
    losses: Sequence[float] = (),
    finished: bool = True,
) -> RunFolder:
    """A run of a task "toy" whose record is whole. metrics: of its result; changes: see `trace_of`; losses: logged, from step 1 on."""
    run = RunFolder(folder)
    project = folder.parent / f".{folder.name}-project" / "toy"
    for path, text in {"toy/task.py": "x = 1\n", **(files or {})}.items():
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text(text)
    recorded = source.record(project / "toy", run.source / "project", "auto")
    tree = {**recorded, "task": "toy" if (run.source / "project" / "tree" / "toy").is_dir() else "."}
    listed = sorted((data or {"a.png": "a"}).items())
    footprint = Footprint([FileEntry(path, len(text), 0, sha256_bytes(text.encode())) for path, text in listed])
    write(run.footprint_file, footprint, "shades")
    run.seal(
        Manifest(
            id=folder.name, created="2026-01-01T00:00:00+00:00", argv=("diva", "run"),
            task=TaskRecord(
                name=task, asked=task, path=tree["task"], class_name="Toy", origins={},
                knobs={"lr": 0.1, "monitor": "val/accuracy", **(knobs or {})},
            ),
            seed=seed, options={**OPTIONS, "trace": "step" if steps else "epoch", **(options or {})},
            origins={"seed": "command line"},
            data=DataRecord(name="shades", path="..", digest=footprint.digest, n_files=footprint.n_files, n_bytes=footprint.n_bytes),
            facts={"mean": [0.5]}, model={"class": "Net", "parameters": 1, "trainable_parameters": 1}, loaded=None, source=tree,
            diva={"version": "1", "digest": digest("diva"), "snapshot": None, "source": None},
            environment={**ENVIRONMENT, **(environment or {})},
        )
    )  # fmt: skip
    chain = trace_of(epochs, changes or {}, steps=steps)
    run.trace_file.write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in chain))
    rows = [
        {"per": "step", "epoch": -(-step // 3), "step": step, "name": "batch/loss", "value": value}
        for step, value in enumerate(losses, 1)
    ]
    rows += [
        {"per": "epoch", "epoch": epoch, "step": 3 * epoch, "name": "val/accuracy", "value": 0.1 * epoch}
        for epoch in range(epochs + 1)
    ]
    run.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if finished:
        ends = {"initial_weights_digest": chain[0]["weights"], "weights_digest": chain[-1]["weights"]}
        write_json(run.result_file, {
            "status": "finished", "metrics": dict(metrics or {"val/accuracy": 0.5, "test/accuracy": 0.5}), "best_epoch": epochs,
            "epochs": epochs, "steps": 3 * epochs, "seconds": 1.0, **ends, "best_weights_digest": chain[-1]["weights"],
            "test_outputs_digest": chain[-1]["weights"], "trace_digest": chain[-1]["digest"],
            "manifest_digest": manifest_digest(run.manifest_file),
        })  # fmt: skip
    return run


def write_study(
    folder: Path,
    scores: Mapping[str, Mapping[int, float] | Mapping[str, float]],
    *,
    failed: Sequence[str] = (),
    waiting: Sequence[str] = (),
    kind: Kind = "runs",
    values: Mapping[str, Mapping[str, Any]] | None = None,
    **more: Any,
) -> StudyFolder:
    """A study with a member per configuration and seed; scores: test/accuracy by configuration and seed, or seed and stream: "1 init=2".

    values: what the members of a configuration have over the study's, but for seed and stream.
    """
    study = StudyFolder(folder)
    members = []
    for configuration, by_draw in scores.items():
        for draw, score in by_draw.items():
            seed, stream = int(str(draw).split()[0]), str(draw).split()[1:]
            name = "-".join([*filter(None, [configuration]), *stream, f"seed-{seed}"])
            members.append(
                Member(
                    name,
                    configuration,
                    {**(values or {}).get(configuration, {}), "seed": seed, **({"stream": stream} if stream else {})},
                )
            )
            if name in failed:
                folder.mkdir(parents=True, exist_ok=True)
                study.note_ending(name, "failed", "the training loss is nan")
            elif name not in waiting:
                metrics = {"test/accuracy": score, "val/accuracy": score - 0.01, "test/accuracy/one": 0.0}
                write_run(
                    study.members / name,
                    seed=seed, metrics=metrics, changes={"weights": seed % 2}, options={"stream": stream}, **more,
                )  # fmt: skip
    manifest = study.member(members[0].name).manifest()
    study.list_members(members)
    study.seal(
        StudyRecord(
            id=folder.name, kind=kind, created=manifest.created, argv=("diva", "run", "--runs", "4"), task=manifest.task, seed=0,
            options=manifest.options, origins=manifest.origins, monitor="val/accuracy", plan={}, jobs=1, data=manifest.data,
            source=manifest.source, diva=manifest.diva,
        )
    )  # fmt: skip
    return study


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """`make_run(name, **what)` writes a run below `tmp_path`."""
    return lambda name, **what: write_run(tmp_path / "runs" / "toy" / name, **what)


@pytest.fixture
def make_study(tmp_path: Path) -> MakeStudy:
    """`make_study(name, scores, **what)` writes a study below `tmp_path`."""
    return lambda name, scores, **what: write_study(tmp_path / "runs" / "toy" / name, scores, **what)
