"""Find and load tasks: a template by name, one's own by path or as module:Class. One loader for all."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import diva
from diva.errors import UsageError, nearest, place_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import ModuleType

    from diva.learning.task import Task


@dataclass(frozen=True)
class FoundTask:
    """A task: its name, where it is (a folder with task.py, or a .py file), and the class in it (None: the only one there is)."""

    asked: str
    name: str
    path: Path
    class_name: str | None = None
    module: str | None = None


def template_names() -> list[str]:
    """Names of the templates that come with diva."""
    return sorted(path.parent.name for path in diva.resources("templates").glob("*/task.py"))


def find_task(asked: str) -> FoundTask:
    """What `--task` names: a template, a path, or `module:Class`; UsageError names the nearest template."""
    if asked in template_names():
        return FoundTask(asked, asked, diva.resources("templates") / asked)
    path = Path(asked).expanduser()
    if path.exists():
        return _found_by_path(asked, path)
    module, colon, class_name = asked.partition(":")
    if colon and module and class_name and "/" not in module:
        return _found_by_module(asked, module, class_name)
    hint = f"give a path, as ./{asked}, or module:Class, or a template: {nearest(asked, template_names())}"
    raise UsageError(f"--task {asked}: no template and no file has this name; {hint}")


def _found_by_path(asked: str, path: Path) -> FoundTask:
    file = path / "task.py" if path.is_dir() else path
    if not file.is_file() or file.suffix != ".py":
        raise UsageError(f"--task {asked}: {file} is not a file of Python; a task's folder holds a task.py")
    folder = file.resolve().parent
    name = folder.name if file.name == "task.py" else file.stem
    return FoundTask(asked, _safe_name(name), folder if file.name == "task.py" else file.resolve())


def _found_by_module(asked: str, module: str, class_name: str) -> FoundTask:
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` has it
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    except (Exception, SystemExit) as error:  # a package runs its own code to be found
        raise _failed(module, error) from error
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise UsageError(
            f"--task {asked}: Python finds no module {module!r} from here; run from its project's folder or install it"
        )
    return FoundTask(asked, _safe_name(class_name), Path(spec.origin).resolve(), class_name, module)


def _safe_name(name: str) -> str:
    kept = "".join(c if c.isalnum() or c in "-_" else "_" for c in name).strip("._")
    return kept or "task"


def load_task(path: Path | str, class_name: str | None = None) -> type[Task]:
    """The task in a folder (its task.py) or a .py file, which may import its neighbours relatively: `from .models import Net`.

    Raises UsageError when it holds no task or several and `class_name` does not say which.
    """
    path = Path(path).resolve()
    file = path / "task.py" if path.is_dir() else path
    name = "diva_task_" + hashlib.sha256(str(file).encode()).hexdigest()[:12]
    _forget(loaded for loaded in sys.modules if loaded == name or loaded.startswith(name + "."))
    return _task_in(_import_file(name, file), class_name, file)


def load_module_task(module: str, class_name: str) -> type[Task]:
    """The task `module:Class`, found as Python finds any module."""
    try:
        imported = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise _failed(module, error) from error
    return _task_in(imported, class_name, Path(imported.__file__ or module))


def import_root(found: FoundTask) -> Path | None:
    """The folder from which a task given as `module:Class` is imported; None for any other task."""
    if found.module is None:
        return None
    up = found.module.count(".") + (found.path.name == "__init__.py")
    return found.path.parents[up]


def load_found(found: FoundTask) -> type[Task]:
    """The class of a found task, from where it was found; call it within `imports_from` the task's project."""
    if found.module is not None and found.class_name is not None:
        return load_module_task(found.module, found.class_name)
    return load_task(found.path, found.class_name)


@contextmanager
def imports_from(project: Path, tree: Path | None = None, first: Path | None = None) -> Iterator[None]:
    """Import a project's modules from its snapshot `tree` (None: from `project` itself), and from nowhere else, while this lasts.

    `first` is looked into before the root. Modules of the project that are loaded already are set aside, and afterwards what was
    loaded meanwhile is forgotten: two runs in one process never share a module. Those of `diva` stay.
    """
    project, place = project.resolve(), (tree or project).resolve()
    path, loaded, no_bytecode = list(sys.path), set(sys.modules), sys.dont_write_bytecode
    aside = {name: sys.modules[name] for name in _modules_of(project, place)}
    mapped = [place / e.relative_to(project) for e in map(_resolved, path) if e.is_relative_to(project)] if tree else []
    inside = [folder for folder in (first, place, *mapped) if folder is not None and folder.is_dir()]
    sys.path[:] = list(dict.fromkeys([str(folder) for folder in inside] + path))
    sys.dont_write_bytecode = True  # compiled files would be litter in someone's project, and additions to a snapshot
    _forget(aside)
    try:
        yield
    finally:
        _forget(name for name in _modules_of(place, place) if name not in loaded or name in aside)
        sys.modules.update(aside)
        sys.path[:], sys.dont_write_bytecode = path, no_bytecode


def unrecorded_modules(project: Path, tree: Path) -> list[str]:
    """Files of a project that are loaded now although its snapshot `tree` does not hold them, relative to the project."""
    project, tree = project.resolve(), tree.resolve()
    strange = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        path = (
            _resolved(file) if file and Path(file).is_absolute() else None
        )  # torch.ops claims to be _ops.py, which is no file
        if path is None or name.partition(".")[0] in ("diva", "__main__", "__mp_main__") or path.is_relative_to(tree):
            continue
        installed = "site-packages" in path.parts or "dist-packages" in path.parts
        if path.is_relative_to(project) and not installed and name.partition(".")[0] not in ("tests", "conftest"):
            strange.append(path.relative_to(project).as_posix())
    return sorted(strange)


def _modules_of(project: Path, place: Path) -> list[str]:
    """Names of the loaded modules that come from `project` and of which `place` holds the file."""
    names = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        path = _resolved(file) if file and "site-packages" not in file else None  # resolving a thousand takes 0.2 s
        if (
            path is None
            or name in ("__main__", "__mp_main__")
            or name.partition(".")[0] == "diva"
            or not path.is_relative_to(project)
        ):
            continue
        if (place / path.relative_to(project)).is_file() and "site-packages" not in path.parts:
            names.append(name)
    return names


def _resolved(text: str) -> Path:
    return Path(text or ".").resolve()


def _forget(names: Iterable[str]) -> None:
    for name in list(names):
        sys.modules.pop(name, None)


def _import_file(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=[str(file.parent)])
    if spec is None or spec.loader is None:
        raise UsageError(f"{file}: is not a file of Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        _forget(loaded for loaded in sys.modules if loaded == name or loaded.startswith(name + "."))
        raise _failed(str(file), error) from error
    return module


def _failed(where: str, error: BaseException) -> UsageError:
    if isinstance(error, SyntaxError):
        return UsageError(f"{where}: cannot be imported: {error.msg} ({error.filename}:{error.lineno})")
    return UsageError(f"{where}: cannot be imported: {type(error).__name__}: {error} ({place_of(error)})")


def _task_in(module: ModuleType, class_name: str | None, file: Path) -> type[Task]:
    from diva.learning.task import Task

    found = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, Task)
        and not inspect.isabstract(value)
        and value.__module__ == module.__name__
    }
    if class_name is not None:
        if class_name not in found:
            raise UsageError(f"{file}: has no task class {class_name!r}; it has {', '.join(found) or 'none'}")
        return found[class_name]
    if len(found) != 1:
        what = "holds no complete task: a class that derives from diva.Task and defines its abstract methods"
        many = f"holds {len(found)} tasks, {', '.join(found)}; say which as module:Class"
        raise UsageError(f"{file}: {many if found else what}")
    return next(iter(found.values()))


def project_root(path: Path) -> Path:
    """The root of the repository that holds `path`, else the task's own folder: what its imports start from."""
    folder = path if path.is_dir() else path.parent
    for parent in (folder, *folder.parents):
        if (parent / ".git").exists():
            return parent
    return folder
