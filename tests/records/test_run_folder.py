"""A run folder is made for one run, found again, and removed only while nothing in it counts."""

import json
import secrets
import shutil
from collections import namedtuple
from datetime import UTC, datetime
from pathlib import Path

import pytest

from diva.errors import DivaError, RecordError, UsageError
from diva.records.files import write_json
from diva.records.manifest import Manifest, TaskRecord
from diva.records.run_folder import Journal, RunFolder, create_run_folder, discard, find_runs, open_run

NOON = datetime(2026, 7, 1, 12, 0, 5, tzinfo=UTC)


def manifest(run):
    task = TaskRecord(name="toy", asked="toy", path="toy", class_name="Toy", knobs={}, origins={})
    return Manifest(
        id=run.id,
        created="now",
        argv=(),
        task=task,
        seed=1,
        options={},
        origins={},
        data=None,
        facts={},
        model={},
        loaded=None,
        source={},
        diva={},
        environment={},
    )


def sealed(output, task="toy", now=None):
    run = create_run_folder(output, task, now)
    run.seal(manifest(run))
    return run


# Making


def test_a_folder_is_named_after_task_time_and_chance(tmp_path):
    run = create_run_folder(tmp_path / "runs", "toy", NOON)
    assert run.path.parent == tmp_path / "runs" / "toy" and run.path.is_dir()
    stamp, _, chance = run.id.rpartition("-")
    assert stamp == "20260701-120005" and len(chance) == 6
    assert list(run.path.iterdir()) == []


def test_runs_of_the_same_second_do_not_collide(tmp_path):
    assert len({create_run_folder(tmp_path, "toy", NOON).id for _ in range(50)}) == 50


def test_a_taken_name_is_drawn_anew(tmp_path, monkeypatch):
    drawn = iter(["aaaaaa", "aaaaaa", "bbbbbb"])
    monkeypatch.setattr(secrets, "token_hex", lambda n: next(drawn) if n == 3 else "other")
    ids = [create_run_folder(tmp_path, "toy", NOON).id for _ in range(2)]
    assert ids == ["20260701-120005-aaaaaa", "20260701-120005-bbbbbb"]


def test_a_new_output_folder_hides_itself_from_git(tmp_path):
    create_run_folder(tmp_path / "deep" / "runs", "toy")
    assert (tmp_path / "deep" / "runs" / ".gitignore").read_text() == "*\n"


def test_a_folder_that_holds_other_things_is_not_hidden_from_git(tmp_path):
    """`--output .` in a repository must not make git, and so every later snapshot, blind to the user's files."""
    (tmp_path / "train.py").write_text("")
    run = create_run_folder(tmp_path, "toy")
    assert not (tmp_path / ".gitignore").exists()
    assert (run.path.parent / ".gitignore").read_text() == "*\n"


def test_a_gitignore_of_the_users_stays(tmp_path):
    (tmp_path / ".gitignore").write_text("*.tmp\n")
    discard(create_run_folder(tmp_path, "toy"))
    assert (tmp_path / ".gitignore").read_text() == "*.tmp\n"


def test_an_output_that_cannot_be_written_is_refused_by_name(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DivaError, match=r"file: cannot be written .*--output"):
        create_run_folder(tmp_path / "file", "toy")


def test_a_full_disk_is_refused_before_anything_is_trained(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**40, 2**40, 5 * 2**20))
    with pytest.raises(DivaError, match=r"the disk has 5 MiB left, a run needs at least 64"):
        create_run_folder(tmp_path / "runs", "toy")
    assert not list(tmp_path.glob("runs/toy/*"))


# Removing


def test_discard_removes_what_was_never_sealed_and_leaves_nothing(tmp_path):
    run = create_run_folder(tmp_path / "runs", "toy")
    (run.path / "source" / "deep").mkdir(parents=True)
    (run.path / "source" / "deep" / "a.py").write_text("")
    discard(run)
    assert not (tmp_path / "runs").exists() and tmp_path.exists()


def test_discard_keeps_a_sealed_run(tmp_path):
    run = sealed(tmp_path / "runs")
    discard(run)
    assert run.manifest_file.exists()


def test_discard_keeps_other_runs(tmp_path):
    other, run = sealed(tmp_path / "runs"), create_run_folder(tmp_path / "runs", "toy")
    discard(run)
    assert not run.path.exists() and other.manifest_file.exists()
    assert (tmp_path / "runs" / ".gitignore").exists()


def test_discard_keeps_other_tasks_and_files(tmp_path):
    other, run = sealed(tmp_path / "runs", "other"), create_run_folder(tmp_path / "runs", "toy")
    discard(run)
    assert other.manifest_file.exists() and not (tmp_path / "runs" / "toy").exists()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("")
    discard(create_run_folder(tmp_path / "notes", "toy"))
    assert (tmp_path / "notes" / "a.txt").exists()


def test_discarding_twice_is_no_error(tmp_path):
    run = create_run_folder(tmp_path / "runs", "toy")
    discard(run)
    discard(run)


# Sealing and reading


def test_a_run_is_sealed_once(tmp_path):
    run = sealed(tmp_path)
    before = run.manifest_file.read_bytes()
    with pytest.raises(RecordError, match="sealed once"):
        run.seal(manifest(run))
    assert run.manifest_file.read_bytes() == before
    assert run.manifest() == manifest(run)


def test_status_is_told_by_the_files(tmp_path):
    run = sealed(tmp_path)
    assert run.status() == "unfinished" and run.result() is None
    for status in ("interrupted", "failed"):
        write_json(run.path / "stopped.json", {"status": status, "error": ""})
        assert run.status() == status
    write_json(run.result_file, {"status": "finished", "metrics": {}})
    assert run.status() == "finished" and run.result() == {"status": "finished", "metrics": {}}


def test_a_damaged_result_is_refused_by_name(tmp_path):
    run = sealed(tmp_path)
    run.result_file.write_text("{")
    with pytest.raises(RecordError, match=r"result\.json"):
        run.result()


def test_rows_are_those_of_the_metrics_file(tmp_path):
    run = sealed(tmp_path)
    assert list(run.rows()) == []
    run.metrics_file.write_text('{"a": 1}\n{"a": 2}\n')
    assert list(run.rows()) == [{"a": 1}, {"a": 2}]


def test_every_file_of_a_run_is_inside_its_folder(tmp_path):
    run = RunFolder(tmp_path / "runs" / "toy" / "x")
    paths = [
        getattr(run, name) for name, value in vars(RunFolder).items() if isinstance(value, property) and name != "id"
    ]
    assert len(paths) == len(set(paths)) >= 12
    assert all(path.parent == run.path for path in paths)


def test_a_run_is_opened_by_its_folder(tmp_path, monkeypatch):
    run = sealed(tmp_path / "runs")
    assert open_run(run.path) == run
    monkeypatch.chdir(run.path.parent)
    assert open_run(run.path.relative_to(run.path.parent)).path == run.path
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_run(Path("~/runs/toy") / run.id).path == run.path


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        open_run(tmp_path / "gone")
    with pytest.raises(UsageError, match=r"it has no manifest\.json"):
        open_run(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="no run"):
        open_run(tmp_path / "file")


def test_runs_are_found_oldest_first_whatever_their_task(tmp_path):
    early, late = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    two, one = sealed(tmp_path, "a", late), sealed(tmp_path, "b", early)
    create_run_folder(tmp_path, "a")  # not sealed: no run yet
    assert find_runs(tmp_path) == [one, two]
    assert find_runs(tmp_path / "gone") == []


# Journals


def test_a_journal_grows_by_a_line_per_row(tmp_path):
    journal = Journal(tmp_path / "a.jsonl")
    journal.write({"b": 1, "a": "é\n"})
    first = journal.offset()
    journal.write({"a": 2})
    journal.close()
    text = (tmp_path / "a.jsonl").read_bytes()
    assert text == b'{"a": "\\u00e9\\n", "b": 1}\n{"a": 2}\n'
    assert first == text.index(b"\n") + 1


def test_offset_counts_bytes_that_are_in_the_file(tmp_path):
    journal = Journal(tmp_path / "a.jsonl")
    journal.write({"a": "x" * 100})
    assert journal.offset() == (tmp_path / "a.jsonl").stat().st_size
    journal.close()


def test_a_resumed_journal_cuts_what_stood_behind_and_goes_on(tmp_path):
    path = tmp_path / "a.jsonl"
    journal = Journal(path)
    journal.write({"epoch": 1})
    keep = journal.offset()
    journal.write({"epoch": 2})
    journal.close()
    path.write_bytes(path.read_bytes() + b'{"epo')  # killed while it wrote
    journal = Journal(path, keep)
    assert path.read_text() == '{"epoch": 1}\n'
    assert journal.offset() == keep
    journal.write({"epoch": 2})
    journal.close()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"epoch": 1}, {"epoch": 2}]


def test_a_fresh_journal_keeps_nothing_of_a_file_before(tmp_path):
    (tmp_path / "a.jsonl").write_text("old\n")
    Journal(tmp_path / "a.jsonl").close()
    assert (tmp_path / "a.jsonl").read_bytes() == b""


def test_a_journal_that_lost_lines_is_refused_and_not_filled_up(tmp_path):
    """Truncating to more than there is would fill the file with zeros."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"epoch": 1}\n')
    with pytest.raises(RecordError, match=r"a\.jsonl"):
        Journal(path, 100)
    assert path.read_text() == '{"epoch": 1}\n'
