"""What is asked for: defaults under the environment under files under flags, each value with its origin."""

from pathlib import Path

import pytest

from diva.errors import UsageError
from diva.experiment.request import read_config, resolve, rows

TASK = """
from diva import Data, Field, Step, Task

class Toy(Task):
    size: int = Field(3, ge=1, description="a number")
    word: str = Field("a", description="a word")

    def load_data(self, folder):
        raise NotImplementedError

    def build_model(self, data):
        raise NotImplementedError

    def training_step(self, model, batch, data):
        raise NotImplementedError
"""


@pytest.fixture(autouse=True)
def task(tmp_path, monkeypatch):
    """A task in the current folder; the environment names nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DIVA_DATA", raising=False)
    monkeypatch.delenv("DIVA_OUTPUT", raising=False)
    file = tmp_path / "toy.py"
    file.write_text(TASK)
    return file


def config(text, name="lab.yaml"):
    path = Path(name)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def asked(flags=None, configs=(), task="toy.py"):
    return resolve({**({"task": task} if task else {}), **(flags or {})}, configs, ("diva", "run"))


def refused(text, *words):
    path = config(text)
    with pytest.raises(UsageError) as raised:
        asked(configs=[path])
    message = str(raised.value)
    assert "lab.yaml" in message and "\n" not in message
    for word in words:
        assert word in message
    return message


# Precedence and origins


def test_defaults_are_those_declared():
    request = asked()
    assert (request.options.seed, request.options.output, request.task.size) == (None, Path("runs"), 3)
    assert set(request.origins.values()) == {"default"} and request.knobs.values == {}
    assert request.argv == ("diva", "run")


def test_the_environment_goes_over_defaults(monkeypatch):
    monkeypatch.setenv("DIVA_OUTPUT", "from_environment")
    monkeypatch.setenv("DIVA_DATA", "data_from_environment")
    request = asked()
    assert (request.options.output, request.options.data_root) == (
        Path("from_environment"),
        Path("data_from_environment"),
    )
    assert request.origins["output"] == request.origins["data_root"] == "environment"


def test_an_empty_variable_is_none(monkeypatch):
    monkeypatch.setenv("DIVA_OUTPUT", "")
    assert asked().origins["output"] == "default"


def test_files_go_over_the_environment_and_flags_over_files(monkeypatch):
    monkeypatch.setenv("DIVA_OUTPUT", "from_environment")
    file = config("output: from_file\nseed: 1\nsize: 5\nword: b")
    request = asked({"seed": "2", "size": "6"}, [file])
    assert (request.options.output, request.options.seed) == (Path("from_file"), 2)
    assert (request.task.size, request.task.word) == (6, "b")
    assert (request.origins["output"], request.origins["seed"]) == ("lab.yaml", "command line")
    assert request.knobs.origins == {"size": "command line", "word": "lab.yaml"}


def test_later_files_go_over_earlier_ones():
    one, two = config("size: 1\nword: one", "one.yaml"), config("size: 2", "two.yaml")
    request = asked(configs=[one, two])
    assert (request.task.size, request.task.word) == (2, "one")
    assert request.knobs.origins == {"size": "two.yaml", "word": "one.yaml"}
    assert asked(configs=[two, one]).task.size == 1


def test_a_file_may_name_the_task_and_a_flag_goes_over_it():
    Path("other.py").write_text(TASK.replace("Toy", "Other"))
    file = config("task: other.py")
    assert type(asked(configs=[file], task=None).task).__name__ == "Other"
    assert type(asked(configs=[file]).task).__name__ == "Toy"


def test_rows_name_every_parameter_its_value_and_its_origin():
    found = {name: (value, origin) for name, value, origin in rows(asked({"size": "9"}, [config("seed: 4")]))}
    assert found["seed"] == (4, "lab.yaml")
    assert found["size"] == (9, "command line")
    assert found["word"] == ("a", "default")
    assert found["task"] == ("toy.py", "command line")


def test_rows_say_where_the_task_was_named():
    found = {name: origin for name, _, origin in rows(asked(configs=[config("task: toy.py")], task=None))}
    assert found["task"] == "lab.yaml"


def test_values_of_files_and_flags_mean_the_same():
    text = "seed: 3\nlr: 1e-3\nmilestones: 30,60\npatience: none\nload_skip: [fc.*, b]\nnesterov: yes\n"
    by_file = asked(configs=[config(text)])
    by_flag = asked(
        {
            "seed": "3",
            "lr": "1e-3",
            "milestones": ("30,60",),
            "patience": "none",
            "load_skip": ("fc.*", "b"),
            "nesterov": True,
        }
    )
    assert by_file.task.model_dump() == by_flag.task.model_dump()
    assert by_file.options == by_flag.options
    assert by_file.task.milestones == (30, 60) and by_file.options.load_skip == ("fc.*", "b")


def test_keys_may_be_written_as_flags_are():
    request = asked(configs=[config("batch-size: 7\nlog-every: 2")])
    assert (request.task.batch_size, request.options.log_every) == (7, 2)


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "---\n"])
def test_an_empty_file_changes_nothing(text):
    assert asked(configs=[config(text)]).knobs.values == {}


# What is refused


def test_no_task_is_refused_naming_the_templates():
    with pytest.raises(UsageError, match=r"--task .*image_classification"):
        asked(task=None)


def test_an_unknown_key_is_answered_with_its_file_and_the_nearest_name():
    refused("siz: 4", "'siz'", "did you mean size?")


def test_an_unknown_flag_is_answered_with_the_nearest_name():
    with pytest.raises(UsageError, match=r"command line: .*'batchsize'; did you mean batch_size\?"):
        asked({"batchsize": "3"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("size: zero", ["size", "'zero'"]),
        ("size: 0", ["size", "0"]),
        ("size: true", ["size", "True"]),
        ("seed: 1.5", ["seed", "1.5", "int"]),
        ("seed: yes", ["seed", "True", "int"]),
        ("threads: many", ["threads", "'many'"]),
        ("verify: deeep", ["verify", "did you mean deep?"]),
        ("word: [a]", ["word"]),
        ("data: {a: 1}", ["data"]),
        ("check: 3", ["check", "3", "bool"]),
    ],
)
def test_a_bad_value_is_refused_with_its_file_and_name(text, words):
    refused(text, *words)


@pytest.mark.parametrize("text", ["workers:", "output: null", "device: ~"])
def test_a_key_whose_value_was_forgotten_is_refused(text):
    refused(text, text.split(":")[0])


def test_a_key_named_twice_is_refused():
    refused("size: 1\nlr: 0.1\nsize: 2", "size", "twice")


def test_a_key_named_twice_in_two_spellings_is_refused():
    refused("batch-size: 1\nbatch_size: 2", "batch", "twice")


@pytest.mark.parametrize(
    "text",
    [
        "- a\n- b",
        "just words",
        "3",
        "a: [",
        "a: b: c",
        "\tsize: 1",
        b"\xff\xfe\x00size",
        "size: 2020-13-45",
        "size: &a [*a]",
        pytest.param("size: " + "9" * 5000, id="too many digits"),
        pytest.param("size: " + "[" * 1000, id="too deep"),
    ],
)
def test_what_is_no_mapping_of_plain_values_is_refused(text):
    refused(text)


def test_a_missing_file_is_refused_by_name():
    with pytest.raises(UsageError, match=r"gone\.yaml: No such file"):
        asked(configs=[Path("gone.yaml")])


def test_a_folder_is_no_configuration():
    Path("folder.yaml").mkdir()
    with pytest.raises(UsageError, match=r"folder\.yaml"):
        read_config(Path("folder.yaml"))


@pytest.mark.parametrize(
    "value",
    [
        '!!python/object/apply:os.system ["touch executed"]',
        "!!python/object/new:os.system [touch executed]",
        '!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ["executed"]]',
        "!!python/name:os.system",
        "!anything 3",
    ],
)
def test_python_tags_are_refused_and_nothing_is_executed(value):
    refused(f"word: {value}", "not YAML that can be used")
    assert not Path("executed").exists()


def test_exact_kernels_refuse_tf32():
    import torch

    from diva.errors import UsageError
    from diva.experiment.options import RunOptions
    from diva.experiment.run import with_computer

    with pytest.raises(UsageError, match=r"--tf32 .*--backend exact"):
        with_computer(RunOptions(tf32=True), torch.device("cpu"))
