"""Copying a template: what stands in the way is named, and stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from diva.errors import UsageError
from diva.experiment.copying import copy_template


def test_a_file_and_a_folder_that_holds_something_are_refused_by_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("keep")
    with pytest.raises(UsageError, match=r"note: is a file; name a new folder"):
        copy_template("image_classification", tmp_path / "note")
    with pytest.raises(UsageError, match=r"exists and is not empty; name a new folder"):
        copy_template("image_classification", tmp_path)
    assert (tmp_path / "note").read_text() == "keep" and len(list(tmp_path.iterdir())) == 1
