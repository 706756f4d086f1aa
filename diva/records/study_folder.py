"""The study folder: a set of runs that were planned together, where everything of it is, and how each of them stands."""

from __future__ import annotations

import fcntl
import json
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from diva.errors import RecordError, UsageError
from diva.records.files import read_json, sha256_file, write_json, write_sealed_json
from diva.records.manifest import DataRecord, TaskRecord
from diva.records.run_folder import RunFolder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SCHEMA = 1
Kind = Literal["runs", "sweep", "sensitivity"]


@dataclass(frozen=True)
class Member:
    """One run of a study. `configuration` is shared by the members that differ by their seed, or a stream's, alone.

    name: of its folder, unique in the study, safe in a path. values: what it has over the study's own, as JSON holds them, the seed
    among them.
    """

    name: str
    configuration: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """How a member stands. `result` is its `result.json` when it is finished; `error` a line when it failed or was pruned."""

    member: Member
    status: Literal["waiting", "finished", "failed", "pruned"]
    result: Mapping[str, Any] | None = None
    error: str = ""

    @property
    def metrics(self) -> Mapping[str, float]:
        """What a finished member measured on val and test with its best epoch, by name; empty for any other."""
        return {name: float(value) for name, value in self.result["metrics"].items()} if self.result else {}


class StudyRecord(BaseModel):
    """One study, written once before its first run. See docs/reference/study-folder.md for the meaning of each field.

    task, options and seed are those of a run; a member's values go over them. `jobs` is how many members the plan may have under way.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    schema_version: int = SCHEMA
    id: str
    kind: Kind
    created: str
    argv: tuple[str, ...]
    task: TaskRecord
    seed: int
    options: dict[str, Any]
    origins: dict[str, str]
    monitor: str
    plan: dict[str, Any]
    jobs: int
    data: DataRecord | None
    source: dict[str, Any]
    diva: dict[str, Any]


@dataclass(frozen=True)
class StudyFolder:
    """A study's folder; `study.json` in it says what is to run, `summary.json` what came of it."""

    path: Path

    @property
    def id(self) -> str:
        """The study's name, made as a run's is."""
        return self.path.name

    @property
    def study_file(self) -> Path:
        """What is to run; written once."""
        return self.path / "study.json"

    @property
    def seal_file(self) -> Path:
        """The digest of `study.json`, for `sha256sum -c`."""
        return self.path / "study.sha256"

    @property
    def summary_file(self) -> Path:
        """What came of it; written anew when nothing is left to run. The same members give the same bytes."""
        return self.path / "summary.json"

    @property
    def source(self) -> Path:
        """Snapshots of the code that every member runs."""
        return self.path / "source"

    @property
    def loaded_file(self) -> Path:
        """The weights that every member starts from, where --load was given."""
        return self.path / "loaded.safetensors"

    @property
    def members(self) -> Path:
        """A run folder per member."""
        return self.path / "members"

    @property
    def logs(self) -> Path:
        """What the process of each member said, `<member>.txt`."""
        return self.path / "logs"

    @property
    def tensorboard(self) -> Path:
        """Event files of what is aggregated."""
        return self.path / "tensorboard"

    @property
    def figures(self) -> Path:
        """Every picture that TensorBoard has of the study."""
        return self.path / "figures"

    def member(self, name: str) -> RunFolder:
        """The run folder of the member `name`, whether it is there or not."""
        return RunFolder(self.members / name)

    def log_of(self, name: str) -> Path:
        """What the process of a member said."""
        return self.logs / f"{name}.txt"

    def ending_of(self, name: str) -> Path:
        """The note of why a member ended without a result."""
        return self.path / "ended" / f"{name}.json"

    def seal(self, record: StudyRecord) -> None:
        """Write `study.json`, once: from here on the study exists."""
        write_sealed_json(self.study_file, json.loads(record.model_dump_json()), self.seal_file)

    def record(self) -> StudyRecord:
        """What is to run; RecordError when it was altered since it was sealed, or is of a schema that is not known."""
        content = read_json(self.study_file)
        sealed = self.seal_file.read_text(encoding="utf-8").split() if self.seal_file.is_file() else []
        if sealed[:1] != [sha256_file(self.study_file)]:
            raise RecordError(
                f"{self.study_file}: was altered after it was sealed; {self.seal_file.name} says otherwise"
            )
        if not isinstance(content, dict) or content.get("schema_version") != SCHEMA:
            raise RecordError(f"{self.study_file}: not a study of schema {SCHEMA}; use the diva that wrote it")
        try:
            return StudyRecord(**content)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise RecordError(f"{self.study_file}: {place}: {first['msg']}; the record was altered") from None

    def outcome(self, member: Member) -> Outcome:
        """How a member stands, from its folder alone."""
        result = self.member(member.name).result()
        ending = self.ending_of(member.name)
        noted = read_json(ending) if ending.exists() else None
        if noted is not None:
            return Outcome(member, noted["status"], None, noted["error"])
        return Outcome(member, "finished", result) if result is not None else Outcome(member, "waiting")

    def note_ending(self, name: str, status: Literal["failed", "pruned"], error: str) -> None:
        """Write down that a member ended without a result that counts."""
        self.ending_of(name).parent.mkdir(exist_ok=True)
        write_json(self.ending_of(name), {"status": status, "error": error})

    def forget_failures(self) -> None:
        """Let members that failed run again."""
        for path in (self.path / "ended").glob("*.json"):
            if read_json(path)["status"] == "failed":
                path.unlink()

    def summary(self) -> dict[str, Any]:
        """What came of the study; UsageError while it is not over."""
        if not self.summary_file.exists():
            raise UsageError(f"{self.path}: is not over; diva resume {self.path} continues it")
        return dict(read_json(self.summary_file))

    def known_members(self) -> list[Member]:
        """The members that were started or planned so far, in their order, as `members.json` lists them."""
        listed: Sequence[Any] = read_json(self.path / "members.json") if (self.path / "members.json").exists() else ()
        return [Member(row["name"], row["configuration"], row["values"]) for row in listed]

    def list_members(self, members: Sequence[Member]) -> None:
        """Write `members.json`, which only grows."""
        rows = [{"name": m.name, "configuration": m.configuration, "values": dict(m.values)} for m in members]
        write_json(self.path / "members.json", rows)


def as_recorded(member: Member) -> Member:
    """The member as it comes back from `members.json`."""
    return Member(member.name, member.configuration, json.loads(json.dumps(dict(member.values))))


def is_study(path: Path) -> bool:
    """Whether the folder is a study's."""
    return (path.expanduser() / "study.json").is_file()


def open_study(path: Path) -> StudyFolder:
    """The study in `path`; UsageError when it is none."""
    if not is_study(path):
        what = "no study: it has no study.json" if path.expanduser().exists() else "no such folder"
        raise UsageError(f"{path}: {what}; diva list runs shows what there is")
    return StudyFolder(path.expanduser().resolve())


def find_studies(output: Path) -> list[StudyFolder]:
    """All sealed studies below `output`, oldest first."""
    found = [StudyFolder(path.parent) for path in output.glob("*/*/study.json")]
    return sorted(found, key=lambda study: study.id)


@contextmanager
def locked(study: StudyFolder) -> Iterator[None]:
    """Hold the study: RecordError when another process works on it. The lock goes with the process, however it ends."""
    with (study.path / "lock").open("a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RecordError(f"{study.path}: another process works on this study; wait for it or stop it") from None
        yield
