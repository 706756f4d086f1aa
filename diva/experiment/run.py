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
from diva.errors import DataError, DivaError, RecordError, UsageError
from diva.experiment.activations import check_samples
from diva.experiment.assemble import assemble
from diva.experiment.code import Code, code_line, record_diva, record_task, recorded_imports, running_diva
from diva.experiment.describe import describe_model
from diva.experiment.execute import best_weights, train
from diva.experiment.find import project_root, unrecorded_modules
from diva.experiment.recorded import find_data
from diva.experiment.request import with_seed
from diva.experiment.workers import check_number, threads_each, with_workers
from diva.kernels import backends, stock
from diva.learning.checkpoints import load_weights, save_tensors
from diva.learning.digests import digest_tensors
from diva.learning.task import DataFolder, Task
from diva.params import build
from diva.records import environment, footprint
from diva.records.files import hide_home, write_atomic, write_json
from diva.records.manifest import DataRecord, LoadedRecord, Manifest, TaskRecord, manifest_digest
from diva.records.run_folder import RunFolder, create_run_folder, discard, open_run
from diva.seeding import MAX_SEED, other_seeds, preserved_generators

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch
    from torch import Tensor

    from diva.experiment.options import RunOptions
    from diva.experiment.request import Place, Request
    from diva.learning.loop import Learner
    from diva.records.footprint import Footprint
    from diva.records.study_folder import StudyFolder
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
    options = check_request(request)
    device = stock.choose_device(options.device)
    options = with_computer(options, device)
    located = locate_data(_wanted_data(request, options), options, console)
    if request.place is not None:
        _check_same_data(request.place, located)
    request = with_seed(replace(request, options=options))
    if options.seed is None:
        options = request.options
        console.say(f"seed {options.seed} (drawn)")
    run = _make_folder(request, options)
    try:
        with computing(run, options, console):
            code = _record_code(run, request, console)
            project = None if request.recorded or request.place else project_root(request.found.path)
            with recorded_imports(code.task, run, project) as task_class:
                learner = prepare(run, request, code, task_class, located, device, console)
                if project is not None:
                    for path in unrecorded_modules(project, run.source / "project" / "tree"):
                        console.warn(
                            f"{path} runs and is not in the snapshot; is it ignored by git? The run may not reproduce"
                        )
                return run, train(run, learner, options, console, located.folder if located else None)
    except (
        UsageError
    ) as error:  # the snapshot it speaks of is about to be removed; the file it was made of is what to mend
        raise type(error)(str(error).replace(f"{run.source / 'project' / 'tree'}/", "")) from error
    finally:
        discard(run)


def check_request(request: Request) -> RunOptions:
    """The options of a request, each in its range and fit for the others and for the task; UsageError says which is not."""
    options = check_options(request.options)
    other_seeds(options.stream, type(request.task).streams)
    asked = request.recorded is None and request.origins.get("workers_per_run", "default") != "default"
    return with_workers(options, given=asked)


def _wanted_data(request: Request, options: RunOptions) -> str | None:
    """The name or folder of the data; a member's are where its study has seen them, if nobody says otherwise."""
    if request.place is not None:
        study = request.place.study
        return find_data(study, study.record(), request.place.data, options.data_root)
    return request.task.default_data if options.data is None else options.data


def _check_same_data(place: Place, located: Located | None) -> None:
    """DataError when the data changed since the study began: all its members are to learn from the same."""
    then = place.study.record().data
    if then is not None and (located is None or located.footprint.digest != then.digest):
        now = located.footprint.digest[:19] if located else "none"
        raise DataError(
            f"the data {then.name!r} changed since the study began: footprint {now}..., then {then.digest[:19]}...; restore them"
        )


def _make_folder(request: Request, options: RunOptions) -> RunFolder:
    if request.place is None:
        return create_run_folder(options.output, request.found.name)
    run = request.place.study.member(request.place.name)
    shutil.rmtree(run.path, ignore_errors=True)  # what a process left that was killed before the run was sealed
    run.path.mkdir(parents=True)
    return run


def with_computer(options: RunOptions, device: torch.device) -> RunOptions:
    """The options with who computes: the device, its backend and its threads, none left open."""
    backend = backends.choose_backend(options.backend, device)
    if options.tf32 and backend == "exact":
        raise UsageError(
            "--tf32 rounds inside PyTorch's products, which --backend exact does not use; choose one of them"
        )
    threads = options.threads or threads_each(backends.choose_threads(None, backend), options)
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
    check_number(options)
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
        options=plain(options),
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
    write_atomic(run.command_file, command_script(with_drawn_seed(request.argv, request)))
    run.command_file.chmod(0o755)
    run.seal(manifest)
    console.say(f"run {run.path}")
    return learner


def with_drawn_seed(argv: tuple[str, ...], request: Request) -> tuple[str, ...]:
    """The arguments, with a seed that was drawn."""
    return (*argv, "--seed", str(request.options.seed)) if request.origins["seed"] == "drawn" else argv


def _record_code(run: RunFolder, request: Request, console: Console) -> Code:
    if request.place is not None:
        return _study_code(run, request, request.place.study)
    return record_code(run, request, console)


def record_code(run: RunFolder | StudyFolder, request: Request, console: Console) -> Code:
    """Snapshot the code of a run or study into its folder, and say which it is; that of a recorded run is copied."""
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


def _study_code(run: RunFolder, request: Request, study: StudyFolder) -> Code:
    """The study's snapshot, its files shared where the file system can, so that a member stands on its own."""
    record = study.record()
    shutil.copytree(study.source, run.source, symlinks=True, copy_function=_link_or_copy)
    knobs = request.task.model_dump(mode="json")
    origins = {name: request.knobs.origins.get(name, "default") for name in knobs}
    task = record.task.model_copy(update={"knobs": knobs, "origins": origins})
    return Code(task, record.source, running_diva(record.diva))


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target, follow_symlinks=False)


def _keep_weights(run: RunFolder, request: Request, options: RunOptions) -> dict[str, Tensor] | None:
    """The weights that --load names, copied into the run so that it can be reproduced without their file."""
    if options.load is None:
        return None
    if request.recorded is not None:
        weights = load_weights(request.recorded.checkpoints / "loaded.safetensors")
        check_loaded(request.recorded.manifest(), weights)
    elif request.place is not None and options.load == request.place.study.record().options["load"]:
        weights = load_weights(request.place.study.loaded_file)
    else:
        weights = read_weights(options.load)
    run.checkpoints.mkdir(exist_ok=True)
    save_tensors(run.checkpoints / "loaded.safetensors", weights)
    return weights


def read_weights(load: str) -> dict[str, Tensor]:
    """The weights that `--load` names: those of a run's best epoch, or of a file."""
    path = Path(load).expanduser()
    return load_weights((lambda old: old.checkpoints / best_weights(old))(open_run(path)) if path.is_dir() else path)


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
    return data_record(run.path, located)


def data_record(folder: Path, located: Located) -> DataRecord:
    """Which data a run or study reads, seen from its folder."""
    return DataRecord(
        name=located.folder.name,
        path=Path(os.path.relpath(located.folder.path, folder.resolve())).as_posix(),
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


def plain(options: RunOptions) -> dict[str, Any]:
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
