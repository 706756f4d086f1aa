"""One declaration per parameter: what it becomes, what it accepts, and what is said of what it refuses."""

import dataclasses
import json
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, model_validator

from diva.errors import UsageError
from diva.learning.task import Step, Task
from diva.params import Layers, build, check_names, convert, knobs_of, option, options_of
from diva.records.manifest import TaskRecord


@dataclasses.dataclass(frozen=True)
class Options:
    seed: int | None = option(None, "the seed")
    rate: float = option(0.5, "the rate")
    place: Path = option(Path("here"), "the place")  # noqa: RUF009
    how: Literal["quick", "deep"] = option("quick", "the way")
    look: bool = option(False, "whether to look")
    skip: tuple[str, ...] = option((), "what to skip")
    word: str = option("a", "a word")
    hidden: int = 3


class Knobs(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, ser_json_inf_nan="strings")

    n_epochs: int = Field(3, ge=0, description="passes")
    lr: float = Field(1e-3, gt=0, description="step size")
    flip: bool = Field(False, description="mirror")
    clip: float | None = Field(None, gt=0, description="norm")
    how: Literal["train", "none"] = Field("train", description="the way")
    size: Literal[8, 16] = Field(8, description="a number of a few")
    milestones: tuple[int, ...] = Field((), description="epochs")
    names: list[str] = Field([], description="names")
    place: Path = Field(Path(), description="a place")
    word: str = Field("a", description="a word")

    @model_validator(mode="after")
    def _no_flip_of_deep(self):
        if self.flip and self.word == "deep":
            raise ValueError("flip does not go with word deep")
        return self


class Plain(Task):
    """A task with the knobs of every task."""

    def load_data(self, folder):
        raise NotImplementedError

    def build_model(self, data):
        raise NotImplementedError

    def training_step(self, model, batch, data):
        return Step(batch)


def made(model=Knobs, origin="command line", **values):
    return build(model, Layers({}, {}).over(values, origin))


def params(cls=Options):
    return {p.name: p for p in (options_of if cls is Options else knobs_of)(cls)}


def refused(*words, model=Knobs, origin="lab.yaml", **values):
    with pytest.raises(UsageError) as raised:
        made(model, origin, **values)
    message = str(raised.value)
    assert "\n" not in message
    for word in (*words, origin):
        assert word in message
    return message


# Declarations


def test_options_are_the_declared_fields_in_order():
    assert list(params()) == ["seed", "rate", "place", "how", "look", "skip", "word"]


def test_each_option_has_the_kind_of_its_type():
    kinds = {name: p.kind for name, p in params().items()}
    assert kinds == {
        "seed": "int",
        "rate": "float",
        "place": "path",
        "how": "text",
        "look": "bool",
        "skip": "text",
        "word": "text",
    }
    assert [name for name, p in params().items() if p.listed] == ["skip"]


def test_each_knob_has_the_kind_of_its_type():
    found = params(Knobs)
    kinds = {name: found[name].kind for name in ("n_epochs", "lr", "flip", "clip", "how", "milestones", "place")}
    assert kinds == {
        "n_epochs": "int",
        "lr": "float",
        "flip": "bool",
        "clip": "float",
        "how": "text",
        "milestones": "int",
        "place": "path",
    }
    assert [name for name, p in found.items() if p.listed] == ["milestones", "names"]


def test_a_declaration_keeps_default_help_choices_and_flag():
    how, clip = params(Knobs)["how"], params(Knobs)["clip"]
    assert (how.default, how.help, how.choices, how.flag) == ("train", "the way", ("train", "none"), "--how")
    assert (clip.default, clip.choices) == (None, ())
    assert params(Knobs)["n_epochs"].flag == "--n-epochs"
    assert params()["how"].choices == ("quick", "deep")


def test_every_knob_of_a_task_is_documented():
    assert [p.name for p in knobs_of(Plain) if not p.help] == []
    assert len(knobs_of(Plain)) == len(Plain.model_fields)


# Options


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("seed", "7", 7),
        ("seed", 7, 7),
        ("seed", None, None),
        ("rate", "1e-3", 1e-3),
        ("rate", 2, 2.0),
        ("rate", "inf", float("inf")),
        ("look", "yes", True),
        ("look", "Off", False),
        ("look", True, True),
        ("place", "a/b", Path("a/b")),
        ("how", "deep", "deep"),
        ("skip", "fc.*,conv1.*", ("fc.*", "conv1.*")),
        ("skip", ["fc.*", "b"], ("fc.*", "b")),
        ("word", 3, "3"),
    ],
)
def test_options_take_what_flags_and_yaml_give(name, given, expected):
    converted = convert(params()[name], given, "here")
    assert converted == expected and type(converted) is type(expected)


@pytest.mark.parametrize(
    ("name", "given", "allowed"),
    [
        ("seed", True, "int"),
        ("seed", 1.5, "int"),
        ("seed", 1.0, "int"),
        ("seed", "x", "int"),
        ("seed", [1], "int"),
        ("rate", True, "float"),
        ("rate", "fast", "float"),
        ("rate", {}, "float"),
        ("look", 1, "bool"),
        ("look", "maybe", "bool"),
        ("how", "deeep", "did you mean deep?"),
        ("word", ["a"], "text"),
        ("place", {"a": 1}, "path"),
    ],
)
def test_options_refuse_other_types_saying_where_what_and_what_is_allowed(name, given, allowed):
    with pytest.raises(UsageError) as raised:
        convert(params()[name], given, "lab.yaml")
    message = str(raised.value)
    assert message.startswith("lab.yaml: ") and name in message and repr(given) in message and allowed in message


@pytest.mark.parametrize("given", [None, "", "none", []])
def test_an_option_of_several_values_takes_none_as_no_value(given):
    assert convert(params()["skip"], given, "lab.yaml") == ()


def test_an_option_of_several_values_splits_each_at_commas():
    """`--skip a,b --skip c`, as click gives it."""
    assert convert(params()["skip"], ("a, b", "c"), "command line") == ("a", "b", "c")


@pytest.mark.parametrize("name", ["rate", "place", "how", "look", "word"])
def test_null_is_refused_where_an_option_must_have_a_value(name):
    """A line `threads:` in a file, its value forgotten, must not reach PyTorch as None."""
    with pytest.raises(UsageError, match=name):
        convert(params()[name], None, "lab.yaml")


def test_none_as_a_word_is_null_where_an_option_may_have_none():
    assert convert(params()["seed"], "none", "command line") is None


def test_unknown_names_are_answered_with_the_nearest():
    check_names(["lr"], ["lr", "batch_size"], "lab.yaml")
    with pytest.raises(UsageError, match=r"^lab\.yaml: .*'batchsize'; did you mean batch_size\?"):
        check_names(["lr", "batchsize"], ["lr", "batch_size"], "lab.yaml")


def test_later_layers_win_and_leave_their_origin():
    layers = Layers({}, {}).over({"a": 1, "b": 1}, "one.yaml").over({"b": 2}, "command line")
    assert layers == Layers({"a": 1, "b": 2}, {"a": "one.yaml", "b": "command line"})


# Knobs


def test_knobs_take_what_flags_give():
    task = made(n_epochs="5", lr="1e-3", flip="true", clip="none", how="none", milestones="30, 60", names="a,b")
    assert (task.n_epochs, task.lr, task.flip, task.clip) == (5, 1e-3, True, None)
    assert (task.how, task.milestones, task.names) == ("none", (30, 60), ["a", "b"])


def test_knobs_take_what_yaml_gives():
    task = made(n_epochs=5, lr=1, flip=True, clip=None, milestones=[30, 60], names=[], place="a/b")
    assert (task.n_epochs, task.lr, task.flip, task.clip) == (5, 1.0, True, None)
    assert (task.milestones, task.names, task.place) == ((30, 60), [], Path("a/b"))


def test_knobs_of_several_values_split_each_at_commas():
    """`--milestones 30,60 --milestones 90`, as click gives it."""
    assert made(milestones=("30,60", "90")).milestones == (30, 60, 90)


def test_a_knob_of_a_few_numbers_takes_them_from_the_command_line():
    assert made(size="16").size == 16


def test_no_value_is_a_knob_of_several_values_without_any():
    assert made(milestones="").milestones == ()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"n_epochs": "many"}, ["n_epochs", "'many'"]),
        ({"n_epochs": -1}, ["n_epochs", "-1", "0"]),
        ({"n_epochs": 1.5}, ["n_epochs", "1.5"]),
        ({"n_epochs": None}, ["n_epochs", "None"]),
        ({"n_epochs": True}, ["n_epochs", "True", "int"]),
        ({"lr": False}, ["lr", "False", "float"]),
        ({"word": True}, ["word", "True"]),
        ({"lr": "nan"}, ["lr"]),
        ({"lr": 0}, ["lr", "0"]),
        ({"flip": "perhaps"}, ["flip", "'perhaps'"]),
        ({"flip": 2}, ["flip", "2"]),
        ({"how": "trian"}, ["how", "'trian'", "'train'"]),
        ({"milestones": "3,x"}, ["milestones", "'x'"]),
        ({"milestones": {"a": 1}}, ["milestones"]),
        ({"names": 3}, ["names", "3"]),
        ({"clip": -2}, ["clip", "-2"]),
    ],
)
def test_a_bad_knob_is_refused_with_its_name_value_and_origin(values, words):
    refused(*words, **values)


def test_a_truth_value_among_numbers_is_refused():
    refused("milestones", "True", milestones=[True, 3])


def test_knobs_that_exclude_each_other_are_refused_in_the_tasks_words():
    with pytest.raises(UsageError, match=r"^flip does not go with word deep$"):
        made(flip=True, word="deep")


def test_a_knob_without_default_must_be_given():
    class Needs(BaseModel):
        n: int = Field(description="a number")

    with pytest.raises(UsageError, match=r"^n\b") as raised:
        made(Needs)
    assert "{" not in str(raised.value)
    assert made(Needs, n="3").n == 3


def test_an_unknown_knob_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean n_epochs"):
        made(nepochs=3)


def test_a_task_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        made(Plain).lr = 3.0


positive = st.floats(min_value=0, exclude_min=True)


@settings(deadline=None, max_examples=60)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "epochs": st.integers(0, 10**9),
            "batch_size": st.integers(1, 10**9),
            "lr": positive,
            "eps": positive,
            "clip_norm": st.none() | positive,
            "milestones": st.lists(st.integers(-5, 5)).map(tuple),
            "schedule": st.sampled_from(["constant", "cosine", "plateau"]),
            "monitor": st.text().filter(lambda text: text.lower() != "none"),
            "nesterov": st.booleans(),
            "patience": st.none() | st.integers(1),
        },
    )
)
def test_knobs_survive_the_record(values):
    task = made(Plain, **values)
    record = TaskRecord(name="", asked="", path="", class_name="Plain", knobs=task.model_dump(mode="json"), origins={})
    read = TaskRecord(**json.loads(record.model_dump_json()))
    assert made(Plain, **read.knobs) == task


@settings(deadline=None, max_examples=60)
@given(st.floats(allow_nan=False, min_value=0, exclude_min=True), st.integers(0, 10**12), st.booleans())
def test_the_text_of_a_value_means_the_value(lr, epochs, nesterov):
    text = made(Plain, lr=repr(lr), epochs=str(epochs), nesterov=str(nesterov))
    assert (text.lr, text.epochs, text.nesterov) == (lr, epochs, nesterov)
