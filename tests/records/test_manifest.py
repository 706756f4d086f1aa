"""The manifest is read back as it was written, or refused with the name of what is wrong."""

import json
import math

import pytest

from diva.errors import RecordError
from diva.records.files import write_json
from diva.records.manifest import (
    SCHEMA,
    DataRecord,
    LoadedRecord,
    Manifest,
    TaskRecord,
    manifest_digest,
    read_manifest,
)


def manifest(**changes):
    task = TaskRecord(
        name="toy",
        asked="./toy",
        path="tasks/toy",
        class_name="Toy",
        knobs={"lr": 0.1, "milestones": [1, 2], "clip_norm": None},
        origins={"lr": "default"},
    )
    content = {
        "id": "20260101-000000-abcdef",
        "created": "2026-01-01T00:00:00+00:00",
        "argv": ("diva", "run"),
        "task": task,
        "seed": 2**63 - 1,
        "options": {"threads": 1, "load_skip": []},
        "origins": {"threads": "default"},
        "data": DataRecord(name="digits", path="../data/digits", digest="sha256:1", n_files=3, n_bytes=9),
        "facts": {"mean": [0.1], "classes": ["a", "é\u2028\ud800"]},
        "model": {"parameters": 3},
        "loaded": LoadedRecord(origin="old.pth", digest="sha256:2", report="loaded 1 of 1"),
        "source": {"commit": None},
        "diva": {"version": "0.1.0"},
        "environment": {"cpu": {"model": "x"}},
        "reproduces": {"id": "before"},
    }
    return Manifest(**{**content, **changes})


@pytest.fixture
def path(tmp_path):
    write_json(tmp_path / "manifest.json", manifest(facts={"mean": [0.1]}).to_json())
    return tmp_path / "manifest.json"


def altered(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"data": None, "loaded": None, "reproduces": None},
        {"facts": {}},
        {"argv": ()},
        {"facts": {"words": ["", "é\u2028", "a\nb\x00"]}},
    ],
)
def test_a_manifest_survives_its_file(tmp_path, changes):
    written = manifest(**{"facts": {"mean": [0.1, 1e-300]}, **changes})
    write_json(tmp_path / "manifest.json", written.to_json())
    assert read_manifest(tmp_path / "manifest.json") == written


def test_its_json_is_plain_and_ordered(path):
    text = path.read_text(encoding="ascii")
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert json.loads(text)["schema_version"] == SCHEMA
    assert json.loads(text)["seed"] == 2**63 - 1


def test_numbers_that_are_not_finite_are_written_as_words(tmp_path):
    written = manifest(facts={"mean": [math.nan, math.inf, -math.inf], "deep": {"a": [math.nan]}})
    assert written.to_json()["facts"] == {"mean": ["NaN", "Infinity", "-Infinity"], "deep": {"a": ["NaN"]}}
    write_json(tmp_path / "manifest.json", written.to_json())
    assert read_manifest(tmp_path / "manifest.json").to_json() == written.to_json()


def test_a_manifest_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        manifest(facts={}).seed = 3


@pytest.mark.parametrize("name", ["id", "argv", "task", "seed", "options", "data", "source", "environment", "loaded"])
def test_a_missing_field_is_refused_by_name(path, name):
    altered(path, lambda content: content.pop(name))
    with pytest.raises(RecordError, match=rf"manifest\.json: {name}: .*altered or cut off"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda c: c.update(seed="many"), "seed"),
        (lambda c: c.update(seed=None), "seed"),
        (lambda c: c["task"].update(knobs=3), "task.knobs"),
        (lambda c: c["task"].pop("class_name"), "task.class_name"),
        (lambda c: c["data"].update(n_files="x"), "data.n_files"),
        (lambda c: c.update(argv="diva run"), "argv"),
        (lambda c: c.update(added=1), "added"),
        (lambda c: c["task"].update(added=1), "task.added"),
    ],
)
def test_an_altered_field_is_refused_by_name(path, change, place):
    altered(path, change)
    with pytest.raises(RecordError, match=rf"manifest\.json: {place}[:.]"):
        read_manifest(path)


@pytest.mark.parametrize("version", [0, SCHEMA + 1, "1", None])
def test_another_schema_is_refused_with_both_versions(path, version):
    altered(path, lambda content: content.update(schema_version=version))
    with pytest.raises(RecordError, match=rf"written with schema {version}, this diva reads schema {SCHEMA}"):
        read_manifest(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"3", b"{}", b"\xff\xfe", b'"schema_version"', pytest.param(b"[" * 100_000, id="too deep")],
)
def test_what_is_no_manifest_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(RecordError, match=r"manifest\.json: not a manifest"):
        read_manifest(path)


def test_a_missing_manifest_is_refused(tmp_path):
    with pytest.raises(RecordError, match=r"manifest\.json"):
        read_manifest(tmp_path / "manifest.json")


def test_the_digest_is_that_of_the_file(path):
    before = manifest_digest(path)
    assert before.startswith("sha256:") and manifest_digest(path) == before
    altered(path, lambda content: content.update(seed=1))
    assert manifest_digest(path) != before
