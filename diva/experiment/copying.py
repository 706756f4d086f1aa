"""Copy a template so that it becomes someone's own task."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import diva
from diva.errors import UsageError, nearest
from diva.experiment.find import template_names

if TYPE_CHECKING:
    from pathlib import Path


def copy_template(task: str, folder: Path) -> list[Path]:
    """Copy the template `task` into `folder`, which must not exist or be empty; returns the files made, or leaves nothing."""
    if task not in template_names():
        raise UsageError(f"no template is called {task!r}; {nearest(task, template_names())}")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file; name a new folder")
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder}: exists and is not empty; name a new folder")
    existed = folder.exists()
    try:
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(diva.resources("templates") / task, folder, ignore=ignored, dirs_exist_ok=True)
    except OSError as error:
        if not existed:
            shutil.rmtree(folder, ignore_errors=True)
        raise UsageError(f"{folder}: cannot be written ({error.strerror}); name another folder") from None
    return sorted(path for path in folder.rglob("*") if path.is_file())
