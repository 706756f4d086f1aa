"""A new run: record, assemble, seal, train. Whatever fails before the seal leaves nothing behind."""

from __future__ import annotations

import dataclasses
import errno
import os
import shlex
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diva.data.catalogue import locate
from diva.errors import DivaError, UsageError
from diva.experiment.assemble import assemble
from diva.experiment.code import code_line, load_recorded_task, record_diva, record_task, running_diva
from diva.experiment.execute import best_weights, train
from diva.kernels import stock
from diva.learning.checkpoints import load_weights, save_tensors
from diva.learning.digests import digest_tensors
from diva.learning.task import DataFolder, Task
from diva.params import build
from diva.records import environment, footprint
from diva.records.files import hide_home, write_atomic, write_json
from diva.records.manifest import DataRecord, LoadedRecord, Manifest, TaskRecord, manifest_digest
from diva.records.run_folder import RunFolder, create_run_folder, discard, open_run
from diva.seeding import MAX_SEED, Seeds, draw_seed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch
    from torch import Tensor

    from diva.experiment.options import RunOptions
    from diva.experiment.request import Request
    from diva.learning.loop import Learner
    from diva.records.footprint import Footprint
    from diva.report.console import Console


CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class Located:
    """A data set on disk, its footprint just checked."""

    folder: DataFolder
    footprint: Footprint


def start(request: Request, console: Console) -> tuple[RunFolder, dict[str, Any]]:
    """Run an experiment to its end; returns its folder and result. What fails before the seal leaves nothing behind."""
    stock.prepare_process()
    options = check_options(request.options)
    device = stock.choose_device(options.device)
    located = locate_data(options.data or request.task.default_data, options, console)
    if options.seed is None:
        options = replace(options, seed=draw_seed())
        console.say(f"seed {options.seed} (drawn)")
    run = create_run_folder(options.output, request.found.name)
    try:
        with logged(run, console), stock.deterministic(options.threads, tf32=options.tf32):
            learner = prepare(run, request, options, located, device, console)
            return run, train(run, learner, options, console)
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        raise DivaError(
            f"{run.path}: {error.strerror}; free some space or choose another place with --output"
        ) from error
    finally:
        discard(run)


def check_options(options: RunOptions) -> RunOptions:
    """The options, each in its range; UsageError says which is not."""
    if options.seed is not None and not 0 <= options.seed <= MAX_SEED:
        raise UsageError(f"--seed {options.seed}: allowed are 0 to {MAX_SEED}")
    for name, least in (("threads", 1), ("workers", 0), ("log_every", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise UsageError(f"--{name.replace('_', '-')} {value}: must be at least {least}")
    if options.check and options.overfit:
        raise UsageError("--check and --overfit exclude each other; choose one")
    if options.load_skip and not options.load:
        raise UsageError("--load-skip says what --load leaves out; give --load too")
    return options


def locate_data(wanted: str | None, options: RunOptions, console: Console) -> Located | None:
    """Find the data and check their footprint; DataError when they are not what they were. None for a task without data."""
    if wanted is None:
        return None
    name, path = locate(wanted, options.data_root)
    taken, how = footprint.check(path, deep=options.verify == "deep")
    console.say(f"data {name}: {taken.n_files:,} files, footprint {taken.digest[:19]}... {how}")
    home = footprint.location(path)
    statistics = home.with_name(home.name.removesuffix(".footprint.json") + ".statistics.json")
    return Located(DataFolder(name, path.resolve(), taken.digest, statistics), taken)


def prepare(
    run: RunFolder,
    request: Request,
    options: RunOptions,
    located: Located | None,
    device: torch.device,
    console: Console,
) -> Learner:
    """Fill the run's folder up to the sealed manifest, and build what learns from the code that the folder keeps."""
    task_record, code, own = _record_code(run, request, options, console)
    task = build(load_recorded_task(task_record, run), request.knobs)
    assert isinstance(task, Task) and options.seed is not None
    weights = _keep_weights(run, request, options)
    learner, matched = assemble(
        task, located.folder if located else None, Seeds(options.seed), options, device, weights
    )
    if matched:
        console.say(matched)
    manifest = Manifest(
        id=run.id,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        argv=tuple(hide_home(argument) for argument in request.argv),
        task=task_record,
        seed=options.seed,
        options=_plain(options),
        origins=dict(request.origins),
        data=_record_data(run, located),
        facts=dict(learner.data.facts),
        model=_describe_model(learner.model),
        loaded=_record_weights(options, weights, matched),
        source=code,
        diva=own,
        environment=_record_environment(run, device, console),
        reproduces=_reproduced(request.recorded),
    )
    write_atomic(run.command_file, command_script(request.argv))
    run.command_file.chmod(0o755)
    run.seal(manifest)
    console.say(f"run {run.path}")
    return learner


def _record_code(
    run: RunFolder, request: Request, options: RunOptions, console: Console
) -> tuple[TaskRecord, dict[str, Any], dict[str, Any]]:
    if request.recorded is not None:
        old = request.recorded.manifest()
        shutil.copytree(request.recorded.source, run.source, symlinks=True)
        return old.task, old.source, running_diva(old.diva)
    code, root = record_task(request.found, run, options.code)
    for note in code["notes"]:
        console.warn(note)
    console.say(code_line(code))
    knobs = request.task.model_dump(mode="json")
    task = TaskRecord(
        name=request.found.name,
        asked=hide_home(request.found.asked),
        path=code["task"],
        class_name=type(request.task).__name__,
        module=request.found.module,
        import_root=root,
        knobs=knobs,
        origins={name: request.knobs.origins.get(name, "default") for name in knobs},
    )
    return task, code, record_diva(request.found, run)


def _keep_weights(run: RunFolder, request: Request, options: RunOptions) -> dict[str, Tensor] | None:
    """The weights that --load names, copied into the run so that it can be reproduced without their file."""
    if options.load is None:
        return None
    if request.recorded is not None:
        path = request.recorded.checkpoints / "loaded.safetensors"
    else:
        path = Path(options.load).expanduser()
        path = (lambda old: old.checkpoints / best_weights(old))(open_run(path)) if path.is_dir() else path
    weights = load_weights(path)
    run.checkpoints.mkdir(exist_ok=True)
    save_tensors(run.checkpoints / "loaded.safetensors", weights)
    return weights


def _record_weights(options: RunOptions, weights: Mapping[str, Tensor] | None, report: str) -> LoadedRecord | None:
    if weights is None:
        return None
    return LoadedRecord(origin=hide_home(str(options.load)), digest=digest_tensors(weights), report=hide_home(report))


def _record_data(run: RunFolder, located: Located | None) -> DataRecord | None:
    if located is None:
        return None
    footprint.write(run.footprint_file, located.footprint, located.folder.name)
    return DataRecord(
        name=located.folder.name,
        path=Path(os.path.relpath(located.folder.path, run.path.resolve())).as_posix(),
        digest=located.footprint.digest,
        n_files=located.footprint.n_files,
        n_bytes=located.footprint.n_bytes,
    )


def _record_environment(run: RunFolder, device: torch.device, console: Console) -> dict[str, Any]:
    found = environment.describe(stock.describe(device))
    for sentence in found["missing"]:
        console.warn(sentence)
    run.environment.mkdir()
    write_json(run.environment / "environment.json", found)
    write_atomic(run.environment / "requirements.txt", environment.requirements(found))
    return found


def _describe_model(model: torch.nn.Module) -> dict[str, Any]:
    parameters = list(model.parameters())
    return {
        "class": type(model).__name__,
        "parameters": sum(p.numel() for p in parameters),
        "trainable_parameters": sum(p.numel() for p in parameters if p.requires_grad),
        "layers": [f"{name or 'model'}: {type(m).__name__}" for name, m in model.named_modules()],
    }


def _reproduced(recorded: RunFolder | None) -> dict[str, str] | None:
    return {"id": recorded.id, "manifest_digest": manifest_digest(recorded.manifest_file)} if recorded else None


def _plain(options: RunOptions) -> dict[str, Any]:
    """The options as JSON, paths without the user's home."""
    values = dataclasses.asdict(options)
    return {
        k: hide_home(str(v)) if isinstance(v, (Path, str)) else list(v) if isinstance(v, tuple) else v
        for k, v in values.items()
    }


def command_script(argv: tuple[str, ...]) -> str:
    """A shell script with the command line as it was typed; the user's home is written "$HOME"."""
    words = []
    for argument in argv:
        hidden = hide_home(argument)
        words.append(
            shlex.quote(argument) if hidden == argument else shlex.quote(hidden).replace("~", "'\"$HOME\"'", 1)
        )
    return (
        "#!/bin/sh\n# The command that made this run, from the folder in which it was given.\n" + " ".join(words) + "\n"
    )


@contextmanager
def logged(run: RunFolder, console: Console) -> Iterator[None]:
    """Copy what the console says to the run's log."""
    with run.log_file.open("a", encoding="utf-8") as file:
        console.log = file
        try:
            yield
        finally:
            console.log = None
