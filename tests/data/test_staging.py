"""Where an output folder cannot appear is told before the work."""

import pytest

from diva.data.staging import check_place
from diva.errors import DataError


@pytest.mark.parametrize(("there", "told"), [(True, "an empty folder"), (False, "nowhere")])
def test_a_link_that_no_folder_can_replace_is_refused_at_once(tmp_path, there, told):
    (tmp_path / "cells").mkdir()
    if there:
        (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=f"out: is a link to {told}; name a folder that does not exist yet"):
        check_place(tmp_path / "cells", tmp_path / "out")


def test_a_link_to_a_folder_that_was_made_is_looked_into(tmp_path):
    for name in ("cells", "made"):
        (tmp_path / name).mkdir()
    (tmp_path / "made" / "a").write_text("")
    (tmp_path / "out").symlink_to(tmp_path / "made")
    check_place(tmp_path / "cells", tmp_path / "out")
