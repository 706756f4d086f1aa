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

from diva.data import catalogue, expectations
from diva.data.catalogue import locate
from diva.errors import DivaError, RecordError, UsageError
from diva.experiment.activations import check_samples
from diva.experiment.assemble import assemble
from diva.experiment.code import Code, code_line, record_diva, record_task, recorded_imports, running_diva
from diva.experiment.describe import describe_model
from diva.experiment.execute import best_weights, train
from diva.experiment.find import project_root, unrecorded_modules
from diva.kernels import backends, stock
from diva.learning.checkpoints import load_weights, save_tensors
from diva.learning.digests import digest_tensors
from diva.learning.task import DataFolder, Task
from diva.params import build
from diva.records import environment, footprint
from diva.records.files import hide_home, write_atomic, write_json
from diva.records.manifest import DataRecord, LoadedRecord, Manifest, TaskRecord, manifest_digest
from diva.records.run_folder import RunFolder, create_run_folder, discard, open_run
from diva.seeding import MAX_SEED, draw_seed, other_seeds, preserved_generators

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
    other_seeds(options.stream, type(request.task).streams)
    device = stock.choose_device(options.device)
    options = with_computer(options, device)
    located = locate_data(request.task.default_data if options.data is None else options.data, options, console)
    origins = dict(request.origins)
    if options.seed is None:
        options, origins["seed"] = replace(options, seed=draw_seed()), "drawn"
        console.say(f"seed {options.seed} (drawn)")
    run = create_run_folder(options.output, request.found.name)
    request = replace(request, options=options, origins=origins)
    try:
        with computing(run, options, console):
            code = _record_code(run, request, console)
            project = None if request.recorded else project_root(request.found.path)
            with recorded_imports(code.task, run, project) as task_class:
                learner = prepare(run, request, code, task_class, located, device, console)
                if project is not None:
                    for path in unrecorded_modules(project, run.source / "project" / "tree"):
                        console.warn(
                            f"{path} runs and is not in the snapshot; is it ignored by git? The run may not reproduce"
                        )
                return run, train(run, learner, options, console)
    except (
        UsageError
    ) as error:  # the snapshot it speaks of is about to be removed; the file it was made of is what to mend
        raise type(error)(str(error).replace(f"{run.source / 'project' / 'tree'}/", "")) from error
    finally:
        discard(run)


def with_computer(options: RunOptions, device: torch.device) -> RunOptions:
    """The options with who computes: the device, its backend and its threads, none left open."""
    backend = backends.choose_backend(options.backend, device)
    threads = backends.choose_threads(options.threads, backend)
    return replace(options, device=str(device), backend=backend, threads=threads)


@contextmanager
def computing(run: RunFolder, options: RunOptions, console: Console) -> Iterator[None]:
    """What holds while a run computes: its log, the pins, and generators that are given back as they were found."""
    try:
        backend = backends.computing(options.backend, options.n_threads, tf32=options.tf32)
        with logged(run, console), preserved_generators(), backend:
            yield
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        raise DivaError(
            f"{run.path}: {error.strerror}; free some space or choose another place with --output"
        ) from error


def check_options(options: RunOptions) -> RunOptions:
    """The options, each in its range; UsageError says which is not."""
    if options.seed is not None and not 0 <= options.seed <= MAX_SEED:
        raise UsageError(f"--seed {options.seed}: allowed are 0 to {MAX_SEED}")
    for name, least in (("threads", 1), ("workers", 0), ("log_every", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise UsageError(f"--{name.replace('_', '-')} {value}: must be at least {least}")
    check_samples(options.activations)
    if options.check and options.overfit:
        raise UsageError("--check and --overfit exclude each other; choose one")
    if options.data == "":
        raise UsageError("--data: is empty; give a folder or the name of a data set, or leave it out")
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
    _check_expectations(wanted, path)
    home = footprint.location(path)
    statistics = home.with_name(home.name.removesuffix(".footprint.json") + ".statistics.json")
    return Located(DataFolder(name, path.resolve(), taken.digest, statistics), taken)


def _check_expectations(wanted: str, path: Path) -> None:
    """DataError when the data are not what their card, or the `dataset.yaml` in them, says of them."""
    card = catalogue.card(wanted) if wanted in catalogue.names() else None
    said = expectations.stated(path, (f"{card.name}.yaml", card.expectations) if card else None)
    expectations.check(path, said, kind="threads")


def prepare(
    run: RunFolder,
    request: Request,
    code: Code,
    task_class: type[Task],
    located: Located | None,
    device: torch.device,
    console: Console,
) -> Learner:
    """Build what learns from the code that the run's folder keeps, and fill the folder up to the sealed manifest."""
    options = request.options
    task = build(task_class, request.knobs)
    assert isinstance(task, Task) and options.seed is not None
    weights = _keep_weights(run, request, options)
    learner, matched = assemble(
        task, located.folder if located else None, options.seeds(task_class), options, device, weights, console.say
    )
    stock.pin(options.n_threads, tf32=options.tf32)  # a task's first lines may have set other things
    if matched:
        console.say(matched)
    described = describe_model(learner)
    if "not_counted" in described:
        console.warn(f"the model's operations were not counted: {described['not_counted']}")
    manifest = Manifest(
        id=run.id,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        argv=tuple(hide_home(argument) for argument in request.argv),
        task=code.task,
        seed=options.seed,
        options=_plain(options),
        origins=dict(request.origins),
        data=_record_data(run, located),
        facts=dict(learner.data.facts),
        model=described,
        loaded=_record_weights(options, weights, matched),
        source=code.source,
        diva=code.diva,
        environment=_record_environment(run, options.backend, device, console),
        reproduces=_reproduced(request.recorded),
    )
    write_atomic(run.command_file, command_script(_with_seed(request.argv, request)))
    run.command_file.chmod(0o755)
    run.seal(manifest)
    console.say(f"run {run.path}")
    return learner


def _with_seed(argv: tuple[str, ...], request: Request) -> tuple[str, ...]:
    """The arguments, with a seed that was drawn."""
    return (*argv, "--seed", str(request.options.seed)) if request.origins["seed"] == "drawn" else argv


def _record_code(run: RunFolder, request: Request, console: Console) -> Code:
    if request.recorded is not None:
        old = request.recorded.manifest()
        shutil.copytree(request.recorded.source, run.source, symlinks=True)
        return Code(old.task, old.source, running_diva(old.diva))
    source, root = record_task(request.found, run, request.options.code)
    for note in source["notes"]:
        console.warn(note)
    console.say(code_line(source))
    knobs = request.task.model_dump(mode="json")
    task = TaskRecord(
        name=request.found.name,
        asked=hide_home(request.found.asked),
        path=source["task"],
        class_name=type(request.task).__name__,
        module=request.found.module,
        import_root=root,
        knobs=knobs,
        origins={name: request.knobs.origins.get(name, "default") for name in knobs},
    )
    return Code(task, source, record_diva(request.found, run))


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
    if request.recorded is not None:
        check_loaded(request.recorded.manifest(), weights)
    run.checkpoints.mkdir(exist_ok=True)
    save_tensors(run.checkpoints / "loaded.safetensors", weights)
    return weights


def check_loaded(manifest: Manifest, weights: Mapping[str, Tensor]) -> None:
    """RecordError when the kept copy of the weights that training started from is not what the manifest says."""
    if manifest.loaded is None or digest_tensors(weights) != manifest.loaded.digest:
        raise RecordError(
            "checkpoints/loaded.safetensors: not the weights that the run started from; the record was altered"
        )


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


def _record_environment(
    run: RunFolder, backend: backends.Backend, device: torch.device, console: Console
) -> dict[str, Any]:
    found = environment.describe(backends.describe(backend, device))
    for sentence in found["missing"]:
        console.warn(sentence)
    run.environment.mkdir()
    write_json(run.environment / "environment.json", found)
    write_atomic(run.environment / "requirements.txt", environment.requirements(found))
    return found


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
