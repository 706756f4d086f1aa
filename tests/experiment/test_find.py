"""Tasks are found by name, path or module:Class, and loaded the same way wherever they are."""

import importlib
import sys
from pathlib import Path

import pytest

from diva.errors import UsageError
from diva.experiment.find import (
    find_task,
    import_root,
    imports_from,
    load_found,
    load_task,
    project_root,
    template_names,
    unrecorded_modules,
)

TASK = """
from diva import Data, Field, Step, Task

class {name}(Task):
    size: int = Field({size}, description="a number")

    def load_data(self, folder):
        raise NotImplementedError

    def build_model(self, data):
        raise NotImplementedError

    def training_step(self, model, batch, data):
        raise NotImplementedError
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty current folder; the import system is left as it was found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith(("diva_task_", "own_")):
            del sys.modules[name]


def write(path, text):
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def task(path, name="Toy", size=3):
    return write(path, TASK.format(name=name, size=size))


def loaded(asked):
    found = find_task(asked)
    with imports_from(project_root(found.path), first=import_root(found)):
        return load_found(found)


def size(cls):
    return cls().model_dump()["size"]


# Finding


def test_a_template_is_found_by_name():
    found = find_task("image_classification")
    assert "image_classification" in template_names()
    assert (found.name, found.path.name) == ("image_classification", "image_classification")
    assert load_found(found).__name__ == "ImageClassification"


def test_a_folder_with_a_task_is_found_and_named_after_the_folder(here):
    task("cells/task.py")
    found = find_task("./cells")
    assert (found.name, found.path) == ("cells", here / "cells")
    assert load_found(found).__name__ == "Toy"


def test_the_task_file_of_a_folder_means_the_folder(here):
    task("cells/task.py")
    assert find_task("cells/task.py").path == find_task("cells").path == here / "cells"
    assert find_task("cells/task.py").name == "cells"


def test_any_other_python_file_is_found_and_named_after_the_file(here):
    task("one.py", "One")
    found = find_task("one.py")
    assert (found.name, found.path) == ("one", here / "one.py")
    assert load_found(found).__name__ == "One"


def test_a_class_of_a_module_is_found_from_the_current_folder(here):
    write("own_lab/__init__.py", "")
    task("own_lab/cells.py", "Cells")
    found = find_task("own_lab.cells:Cells")
    assert (found.name, found.path, found.class_name) == ("Cells", here / "own_lab" / "cells.py", "Cells")
    assert load_found(found).__name__ == "Cells"
    assert import_root(found) == here


def test_names_are_made_fit_for_a_folder():
    task("my cells (2)/task.py")
    assert find_task("my cells (2)").name == "my_cells__2"


def test_an_unknown_name_is_answered_with_the_nearest_template():
    with pytest.raises(UsageError, match=r"--task image_clasification: .*did you mean image_classification\?"):
        find_task("image_clasification")


@pytest.mark.parametrize("path", ["empty", "notes.txt"])
def test_a_path_without_a_task_is_refused(path):
    Path("empty").mkdir()
    write("notes.txt", "")
    with pytest.raises(UsageError, match=path):
        find_task(path)


@pytest.mark.parametrize("asked", ["own_gone:Task", "own_gone.deep:Task", "json.decoder.x:Task", "sys:Task", ".x:Task"])
def test_a_module_that_python_does_not_find_is_refused(asked):
    with pytest.raises(UsageError, match=f"--task {asked}"):
        find_task(asked)


def test_a_package_that_fails_to_be_imported_is_refused_with_its_reason():
    write("own_broken/__init__.py", "raise RuntimeError('no licence')")
    task("own_broken/cells.py")
    with pytest.raises(UsageError, match="no licence"):
        loaded("own_broken.cells:Toy")


# Loading


def test_abstract_and_imported_tasks_do_not_count():
    base = "from diva import Task\n\nclass Base(Task):\n    pass\n"
    task("cells/base.py", "Complete")
    write("cells/task.py", "from .base import Complete\n" + base + TASK.format(name="Own", size=4))
    assert loaded("cells").__name__ == "Own"


def test_several_tasks_in_a_file_are_refused_naming_them():
    write("two.py", TASK.format(name="One", size=1) + TASK.format(name="Two", size=2))
    with pytest.raises(UsageError, match=r"two\.py: holds 2 tasks, One, Two; say which as module:Class"):
        loaded("two.py")
    assert size(load_task("two.py", "Two")) == 2


def test_one_of_several_tasks_is_chosen_as_module_and_class():
    write("own_two.py", TASK.format(name="One", size=1) + TASK.format(name="Two", size=2))
    assert size(loaded("own_two:One")) == 1
    assert size(loaded("own_two:Two")) == 2


def test_a_file_without_a_complete_task_is_refused():
    write("none.py", "from diva import Task\n\nclass Base(Task):\n    pass\n")
    with pytest.raises(UsageError, match="no complete task"):
        loaded("none.py")


def test_a_class_that_a_module_lacks_is_answered_with_those_it_has():
    task("own_cells.py")
    with pytest.raises(UsageError, match=r"no task class 'Tot'; it has Toy"):
        loaded("own_cells:Tot")


@pytest.mark.parametrize(
    ("line", "reason"),
    [("import nothing_of_this_name", "nothing_of_this_name"), ("1 / 0", "ZeroDivisionError"), ("def f(:", "syntax")],
)
def test_a_failing_import_names_file_and_line(line, reason):
    write("bad/task.py", f"a = 1\n\n{line}\n")
    with pytest.raises(UsageError, match=reason) as raised:
        loaded("bad")
    assert "bad/task.py:3" in str(raised.value)


def test_a_failing_import_of_a_neighbour_names_the_neighbours_line():
    write("bad/models.py", "\n\n\n1 / 0\n")
    write("bad/task.py", "from .models import Net\n")
    with pytest.raises(UsageError, match=r"bad/models\.py:4"):
        loaded("bad")


def test_a_task_that_leaves_python_while_it_is_imported_is_refused():
    write("script.py", "import sys\nsys.exit(3)\n")
    with pytest.raises(UsageError, match=r"script\.py"):
        loaded("script.py")


def test_a_mended_file_loads_after_a_failure():
    write("cells/models.py", "SIZE = 5\n")
    write("cells/task.py", "from .models import SIZE\n1 / 0\n")
    with pytest.raises(UsageError):
        loaded("cells")
    write("cells/models.py", "SIZE = 5_000\n")
    write("cells/task.py", "from .models import SIZE\n" + TASK.format(name="Toy", size="SIZE"))
    assert size(loaded("cells")) == 5000


def test_neighbours_are_imported_relatively():
    write("cells/models.py", "SIZE = 17\n")
    write("cells/task.py", "from .models import SIZE\n" + TASK.format(name="Toy", size="SIZE"))
    assert size(loaded("cells")) == 17


def test_equal_names_in_different_folders_do_not_collide():
    for folder, number in (("a/cells", 1), ("b/cells", 2)):
        write(f"{folder}/models.py", f"SIZE = {number}\n")
        write(f"{folder}/task.py", "from .models import SIZE\n" + TASK.format(name="Toy", size="SIZE"))
    one, two = loaded("a/cells"), loaded("b/cells")
    assert (size(one), size(two)) == (1, 2)
    assert one is not two and one.__module__ != two.__module__
    assert size(loaded("a/cells")) == 1


def test_a_task_imports_from_the_root_of_its_repository():
    Path("project/.git").mkdir(parents=True)
    write("project/own_shared.py", "SIZE = 23\n")
    write("project/tasks/cells/task.py", "import own_shared\n" + TASK.format(name="Toy", size="own_shared.SIZE"))
    assert size(loaded("project/tasks/cells")) == 23
    assert project_root(Path("project/tasks/cells").resolve()).name == "project"


def test_loading_twice_reads_the_files_as_they_are_now():
    write("cells/net.py", "SIZE = 3\n")
    write("cells/task.py", "from .net import SIZE\n" + TASK.format(name="Toy", size="SIZE"))
    assert size(loaded("cells")) == 3
    write("cells/net.py", "SIZE = 5_7\n")
    assert size(loaded("cells/task.py")) == 57


def test_a_knob_of_a_loaded_task_may_be_of_a_type_named_in_the_file():
    """pydantic resolves postponed annotations in the module by its name, which must be importable then."""
    text = "from __future__ import annotations\nfrom typing import Literal\nWay = Literal['a', 'b']\n"
    write("cells/task.py", text + TASK.format(name="Toy", size=3) + "\n    way: Way = Field('b', description='way')\n")
    assert loaded("cells")(way="a").way == "a"


# The snapshot


def test_modules_come_from_the_snapshot_while_it_lasts(here):
    root, tree = here / "project", here / "run" / "tree"
    for folder, number in ((root, 1), (tree, 2)):
        write(folder / "own_parts.py", f"SIZE = {number}\n")
        write(folder / "own_cells.py", "from own_parts import SIZE\n" + TASK.format(name="Toy", size="SIZE"))
    sys.path.insert(0, str(root))
    found = find_task("own_cells:Toy")
    own = importlib.import_module("own_parts")
    before = list(sys.path)
    with imports_from(root, tree):
        assert size(load_found(found)) == 2
        assert unrecorded_modules(root, tree) == []
    assert sys.path == before
    assert sys.modules["own_parts"] is own and "own_cells" not in sys.modules
    assert size(load_found(found)) == 1


def test_what_the_snapshot_lacks_stays_and_is_named(here):
    root, tree = here / "project", here / "run" / "tree"
    write(root / "own_ignored.py", "SIZE = 1\n")
    tree.mkdir(parents=True)
    sys.path.insert(0, str(root))
    ignored = importlib.import_module("own_ignored")
    with imports_from(root, tree):
        assert sys.modules["own_ignored"] is ignored
        assert unrecorded_modules(root, tree) == ["own_ignored.py"]


def test_a_module_that_is_no_file_is_not_named(here, monkeypatch):
    """torch.ops says that it is `_ops.py`, in whatever folder one stands."""
    tree = here / "run" / "tree"
    tree.mkdir(parents=True)
    made_up = type(sys)("own_ops")
    made_up.__file__ = "_ops.py"
    monkeypatch.setitem(sys.modules, "own_ops", made_up)
    monkeypatch.chdir(here)
    assert unrecorded_modules(here, tree) == []
