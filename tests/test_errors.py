"""Errors carry the exit code of their class, and unknown names are answered with the nearest known one."""

import pytest

from diva import errors
from diva.errors import (
    DataError,
    DivaError,
    KernelError,
    NotReproducedError,
    RecordError,
    SourceError,
    UsageError,
    nearest,
)

CODES = {
    DivaError: 1,
    UsageError: 2,
    SourceError: 3,
    DataError: 4,
    RecordError: 4,
    NotReproducedError: 5,
    KernelError: 6,
}


@pytest.mark.parametrize(("kind", "code"), CODES.items())
def test_each_error_has_its_documented_exit_code(kind, code):
    assert kind.exit_code == code
    assert issubclass(kind, DivaError)
    assert str(kind("a message")) == "a message"


def test_every_error_is_in_the_table_above():
    defined = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)}
    assert defined == set(CODES)


def test_no_error_is_a_kind_of_another_but_the_base():
    assert all(kind.__bases__ == (DivaError,) for kind in CODES if kind is not DivaError)


def test_nearest_names_a_close_name():
    assert nearest("batchsize", ["epochs", "batch_size", "lr"]) == "did you mean batch_size?"


def test_nearest_lists_all_sorted_when_none_is_close():
    assert nearest("zzz", ["mlp", "cnn"]) == "allowed: cnn, mlp"


def test_nearest_takes_any_iterable_once():
    assert nearest("cn", iter(["mlp", "cnn"])) == "did you mean cnn?"
