"""The command line: argv -> one small function per command, which imports the rest when it runs."""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from diva import __version__
from diva.cli.aggregate import aggregate
from diva.cli.analyze import analyze
from diva.cli.apply import apply
from diva.cli.compare import compare
from diva.cli.data import data
from diva.cli.doctor import doctor
from diva.cli.download import download
from diva.cli.init import init
from diva.cli.inspect import list_, show
from diva.cli.reproduce import reproduce
from diva.cli.resume import resume
from diva.cli.run import run
from diva.cli.sensitivity import sensitivity
from diva.cli.split import split
from diva.cli.sweep import sweep
from diva.cli.tensorboard import tensorboard
from diva.cli.verify import verify
from diva.errors import DivaError

if TYPE_CHECKING:
    from types import FrameType

INTERRUPTED, TERMINATED = 130, 143
EPILOG = "Example: diva run --task image_classification --seed 42"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, epilog=EPILOG)
@click.version_option(__version__, message="diva %(version)s")
def cli() -> None:
    """Deep-learning experiments that anyone can run again, to the last bit."""


for command in (
    run,
    sweep,
    resume,
    reproduce,
    aggregate,
    sensitivity,
    apply,
    compare,
    list_,
    show,
    init,
    download,
    split,
    analyze,
    verify,
    data,
    tensorboard,
    doctor,
):
    cli.add_command(command)


class Terminated(BaseException):
    """SIGTERM was received: the run stops as it does for Ctrl-C, with its own exit code."""


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the command line and leave the process with the documented exit code; a user's errors show no traceback, bugs do."""
    sys.exit(_exit_code(argv))


def _exit_code(argv: list[str] | None) -> int:
    signal.signal(signal.SIGTERM, _terminate)
    _open_closed_streams()
    try:
        code: Any = cli.main(argv, prog_name="diva", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return 2
    except click.ClickException as error:
        _complain(_command_of(error), error.format_message())
        return 2
    except DivaError as error:
        _complain("diva", str(error))
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        _complain("diva", f"interrupted{_way_on(argv)}")
        return INTERRUPTED
    except Terminated:
        _complain("diva", f"terminated{_way_on(argv)}")
        return TERMINATED
    except BrokenPipeError:  # the reader of our output has gone, as head does
        _drop_output()
        return 0
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename is not None:
            raise
        _drop_output()
        _complain("diva", f"the output cannot be written ({error.strerror})")
        return 1


def _open_closed_streams() -> None:
    """Python has no stream where a shell closed it (`>&-`); what is written there goes nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _way_on(argv: list[str] | None) -> str:
    """What to do after an interruption: commands that train are resumed, all others are given again."""
    words = sys.argv[1:] if argv is None else argv
    if _is_of_study(words):
        return f"; diva resume STUDY{_launcher_of(words)} continues a study, its unfinished runs at their last whole epochs"
    trains = words[:1] in (["run"], ["resume"], ["reproduce"])
    return "; diva resume RUN continues a run at its last whole epoch" if trains else "; give the command again"


def _is_of_study(words: list[str]) -> bool:
    """Whether a command line runs a study."""
    if words[:1] == ["run"]:
        return any(word.partition("=")[0] in ("--runs", "--seeds") for word in words)
    if words[:1] == ["resume"]:
        return "--member" not in words and any(Path(word, "study.json").is_file() for word in words[1:])
    return words[:1] in (["sweep"], ["sensitivity"])


def _launcher_of(words: list[str]) -> str:
    for word, value in zip(words, [*words[1:], ""], strict=True):
        if word == "--launcher" or word.startswith("--launcher="):
            return f" --launcher {value if word == '--launcher' else word.partition('=')[2]}"
    return ""


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _command_of(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return context.command_path if context else "diva"


def _complain(command: str, message: str) -> None:
    line = " ".join(message.split())
    coloured = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    print(f"{command}: \x1b[31merror:\x1b[0m {line}" if coloured else f"{command}: error: {line}", file=sys.stderr)
