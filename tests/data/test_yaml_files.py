"""Whatever is wrong with a YAML file is one line that names it."""

import pytest

from diva.data.catalogue import card
from diva.data.yaml_files import read_yaml
from diva.errors import DataError

WRONG = {
    "a broken line": b"a: [1",
    "no text": b"\xff\xfe\xff",
    "a date that does not exist": b"notes: 2024-02-30",
    "a number that is none": b'a: !!int "x"',
    "an empty number": b'a: !!int ""',
    "a truth that is none": b"a: !!bool maybe",
    "a time that is none": b"a: !!timestamp soon",
    "brackets without end": b"[" * 5000,
    "a number without end": b"a: " + b"9" * 5000,
    "an object": b"a: !!python/object/apply:os.getcwd []",
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_not_yaml_is_told_with_the_file(tmp_path, what):
    (tmp_path / "cells.yaml").write_bytes(WRONG[what])
    for read in (read_yaml, card):
        with pytest.raises(DataError, match=r"cells\.yaml: is not YAML \(.+\)") as caught:
            read(tmp_path / "cells.yaml")
        assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / "cells.yaml").mkdir()
    with pytest.raises(DataError, match=r"cells\.yaml: cannot be read \(Is a directory\)"):
        read_yaml(tmp_path / "cells.yaml")
    with pytest.raises(DataError, match=r"none\.yaml: cannot be read \(No such file or directory\)"):
        read_yaml(tmp_path / "none.yaml")


def test_what_is_yaml_is_read(tmp_path):
    (tmp_path / "cells.yaml").write_text("a: [1, “b”]\n", encoding="utf-8")
    assert read_yaml(tmp_path / "cells.yaml") == {"a": [1, "“b”"]}
