"""What the reference pages take from the code when the site is built; a page asks for it with `<!-- generated: NAME -->`."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from typing import TYPE_CHECKING, Any

import click
from mkdocs.exceptions import PluginError

from diva import errors
from diva.cli import INTERRUPTED, TERMINATED, cli
from diva.data.catalogue import Card, card, names
from diva.experiment.find import find_task, load_found, template_names
from diva.kernels import reference
from diva.params import Param, knobs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MARK = re.compile(r"^<!-- generated: ([\w-]+) -->$", re.MULTILINE)
BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the generated parts where a page asks for them; MkDocs calls this for every page."""
    return MARK.sub(_generated, markdown)


def _generated(mark: re.Match[str]) -> str:
    if mark[1] not in PARTS:
        raise PluginError(f"nothing is called {mark[1]!r}; allowed: {', '.join(PARTS)}")
    return PARTS[mark[1]]()


def commands() -> dict[str, click.Command]:
    """Every command of `diva` by name, those of a group after it."""
    found = {}
    for name, command in sorted(cli.commands.items()):
        found[name] = command
        if isinstance(command, click.Group):
            found |= {f"{name} {inner}": command.commands[inner] for inner in sorted(command.commands)}
    return found


def command_line() -> str:
    """A section per command: usage, what it does, arguments, options, the example of its help."""
    return "\n\n".join(part for name, command in commands().items() for part in _section(name, command))


def _section(name: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=click.Context(cli, info_name="diva"))
    yield f"## diva {name}"
    yield " ".join((command.help or "").split())
    yield f"```text\n{command.get_usage(context).removeprefix('Usage: ')}\n```"
    shown = [p for p in command.get_params(context) if isinstance(p, click.Option) and "--help" not in p.opts]
    if shown:
        yield _table(("option", "takes", "default", "meaning"), [_option_row(p, context) for p in shown])
    if command.epilog:
        label, _, examples = command.epilog.partition(":")
        yield "\n".join([f"{label}:", "", *(f"    {line.strip()}" for line in examples.split("·"))])


def _option_row(option: click.Option, context: click.Context) -> tuple[str, ...]:
    meaning, _, rest = (option.help or "").partition("  [default: ")
    default = rest.removesuffix("]") or (str(option.default) if option.show_default else "")
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    takes = "" if option.is_flag or option.secondary_opts else _takes(option, context)
    return names, takes, f"`{default}`" if default else "", meaning + ("; can be repeated" if option.multiple else "")


def _takes(option: click.Option, context: click.Context) -> str:
    if isinstance(option.type, click.Choice):
        return ", ".join(f"`{choice}`" for choice in option.type.choices)
    return option.make_metavar(context).strip("[]").split("<=")[0].split(">=")[0].split(" RANGE")[0].lower()


def knobs() -> str:
    """Tables of the knobs of every task and of every task on images; per template its own knobs, and the defaults it changes."""
    from diva import ImageTask, Task

    parts = ["## Every task", _knob_table(Task), "## Every task on images", _knob_table(ImageTask, Task)]
    return "\n\n".join([*parts, *(part for name in template_names() for part in _knobs_of_template(name))])


def _knob_table(task: Any, base: Any = None) -> str:
    """The knobs of a task that its base does not have."""
    inherited = base.model_fields if base else {}
    own = [knob for knob in knobs_of(task) if knob.name not in inherited]
    rows = [_knob_row(knob, task.model_fields[knob.name]) for knob in own]
    return _table(("flag", "takes", "default", "meaning"), rows)


def _knobs_of_template(name: str) -> Iterator[str]:
    from diva import ImageTask, Task

    task = load_found(find_task(name))
    base = ImageTask if issubclass(task, ImageTask) else Task
    own = {field: task.model_fields[field].default for field in base.model_fields}
    changed = {f: own[f] for f in own if own[f] != base.model_fields[f].default}
    yield f"## {name}"
    yield (task.__doc__ or "").splitlines()[0]
    yield f"Data used when `--data` is not given: `{task.default_data}`."
    yield (
        f"It has the knobs of every task{' on images' if base is ImageTask else ''}, with these defaults of its own: "
        + (", ".join(f"`--{field.replace('_', '-')} {value}`" for field, value in changed.items()) or "none")
    )
    yield _knob_table(task, base)


def templates() -> str:
    """A row per template: its name, what it does, the data that it takes by default."""
    tasks = {name: load_found(find_task(name)) for name in template_names()}
    rows = [
        (f"[`{n}`](knobs.md#{n})", (t.__doc__ or "").splitlines()[0], f"`{t.default_data}`") for n, t in tasks.items()
    ]
    return _table(("template", "what it does", "default data"), rows)


def _knob_row(knob: Param, field: Any) -> tuple[str, ...]:
    bounds = [f"{sign} {getattr(bound, word):g}" for bound in field.metadata for word, sign in BOUNDS.items()
              if getattr(bound, word, None) is not None]  # fmt: skip
    kind = "yes or no" if knob.kind == "bool" else knob.kind
    takes = ", ".join(f"`{choice}`" for choice in knob.choices) or " ".join([kind, *bounds])
    default = "" if knob.default in (None, ()) else f"`{knob.default}`"
    return f"`{knob.flag}`", takes + ("; can be repeated" if knob.listed else ""), default, knob.help


def exit_codes() -> str:
    """A row per exit code: the classes of `diva.errors` that leave with it, and what leaves without an error."""
    rows = [("0", "", "Done. For `reproduce`: IDENTICAL or EQUIVALENT.")]
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.DivaError)]
    for found in sorted(classes, key=lambda c: c.exit_code):
        meaning = re.sub(r" \(exit \d\)", "", (found.__doc__ or "").split(". ")[0].rstrip("."))
        rows.append((str(found.exit_code), f"`{found.__name__}`", f"{meaning}."))
    rows.append((str(INTERRUPTED), "", "Interrupted (Ctrl-C, SIGINT). A run that was training can be resumed."))
    rows.append((str(TERMINATED), "", "Terminated (SIGTERM). A run that was training can be resumed."))
    return _table(("code", "error", "meaning"), rows)


def numerics() -> str:
    """A section per family of kernels: what its reference implementation says of each operator."""
    families = sorted(module.name for module in pkgutil.iter_modules(reference.__path__))
    return "\n\n".join(part for name in families for part in _family(name))


def _family(name: str) -> Iterator[str]:
    module = importlib.import_module(f"{reference.__name__}.{name}")
    yield f"### {name}"
    yield (module.__doc__ or "").strip()
    for function in vars(module).values():
        if (
            inspect.isfunction(function)
            and function.__module__ == module.__name__
            and not function.__name__.startswith("_")
        ):
            names = ", ".join(inspect.signature(function).parameters)
            yield f"`{function.__name__}({names})`"
            yield f"```text\n{inspect.getdoc(function)}\n```"


def _table(headers: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [headers, tuple("---" for _ in headers), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def datasets() -> str:
    """Two tables of the cards in `datasets/`: sets that are downloaded, and those that are not."""
    cards = [card(name) for name in names()]
    fetched = [_dataset_row(found, _size(found.n_bytes)) for found in cards if not found.bundled]
    made = [_dataset_row(found, "yes" if found.footprint else "no") for found in cards if found.bundled]
    head = ("name", "what it is", "layout", "classes", "licence")
    return "\n\n".join([
        "## To be downloaded", _table((*head, "download"), fetched),
        "## Without a network", _table((*head, "same bytes everywhere"), made),
    ])  # fmt: skip


def _dataset_row(found: Card, last: str) -> tuple[str, ...]:
    classes = str(len(found.classes)) if found.classes else ""
    return f"`{found.name}`", f"{found.title}. {found.about}", found.layout, classes, found.licence, last


def _size(n_bytes: int | None) -> str:
    return "not published" if n_bytes is None else f"{n_bytes / 1e6:,.0f} MB"


PARTS: dict[str, Callable[[], str]] = {
    "command-line": command_line, "knobs": knobs, "exit-codes": exit_codes, "numerics": numerics, "datasets": datasets,
    "templates": templates,
}  # fmt: skip
