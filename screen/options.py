"""From a function to a command: its parameters and groups of options become the command's options.

A command is written as ``@command(app, GROUP, …)`` above ``def name(session, …)``. The groups' options are read into
`Session.settings`; a parameter whose type is a frozen dataclass adds that class's fields as options, and the command is given
an instance. Errors become exit codes.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_type_hints

import typer
import typer.core

from outcrop.schema.errors import EXIT_CODES, UsageError
from outcrop.screen.groups import (
    ALWAYS,
    ASKED_MODEL,
    COMPILE,
    CSV,
    DRAWING_RUN,
    KEPT_FEATURES,
    METRICS,
    MODEL,
    PANELS,
    REDIS,
    REGISTRY,
    RUN,
    SEED,
    STATE,
    STORE,
    WEIGHTS,
    Formerly,
    Group,
    Panel,
    hidden,
    option,
)
from outcrop.screen.guard import run_guarded
from outcrop.screen.help import Helped
from outcrop.screen.lazy import Commands, Listed
from outcrop.screen.texts import require_utf8
from outcrop.screen.width import remark

if TYPE_CHECKING:
    from outcrop.schema.settings import Settings

__all__ = [
    "ASKED_MODEL",
    "COMPILE",
    "CSV",
    "DRAWING_RUN",
    "KEPT_FEATURES",
    "METRICS",
    "MODEL",
    "PANELS",
    "REDIS",
    "REGISTRY",
    "RUN",
    "SEED",
    "STATE",
    "STORE",
    "WEIGHTS",
    "Formerly",
    "Group",
    "Panel",
    "Session",
    "application",
    "command",
    "hidden",
    "option",
]

Format = Literal["table", "json", "csv"]

EPILOG = "Exit codes: " + " · ".join(f"{code} {text}" for code, text in EXIT_CODES.items()) + " · 130 interrupted"


@dataclass(frozen=True)
class Session:
    """What a command is given: the settings in force, and how it is to speak."""

    settings: Settings
    format: Format = "table"
    quiet: bool = False
    given: Mapping[str, Any] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """A remark for people, on stderr; `--quiet` keeps it back."""
        if not self.quiet:
            print(remark(text, sys.stderr), file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """A warning on stderr; said even with `--quiet`."""
        print(remark(f"warning: {text}", sys.stderr), file=sys.stderr, flush=True)


def application(help: str, table: Mapping[str, Listed] | None = None, group: type[Commands] = Commands) -> typer.Typer:
    """A typer application with ``--version`` and shell completion, for commands to be registered with.

    The commands of `table` are imported when they are used. `group` is the class of the group of commands.
    """
    listing = type(group.__name__, (group,), {"table": table or {}})
    app = typer.Typer(cls=listing, help=help, no_args_is_help=True, pretty_exceptions_enable=False)

    def main(version: _Version = False) -> None:
        pass

    main.__annotations__ = {"version": _Version}  # resolved here: typer would look it up as text
    app.callback()(main)
    return app


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"outcrop {version('outcrop')}")
        raise typer.Exit


_Version = Annotated[bool, option("--version", help="Print the version.", is_eager=True, callback=_print_version)]


def command(
    app: typer.Typer, *groups: Group, name: str | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a function as a command of `app` with the options of `groups` beside its own.

    The function's first parameter is the `Session`; the groups' options reach it through the settings, not as arguments.
    """
    shared = {key: kind for group in (*groups, ALWAYS) for key, kind in group.items()}

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        bundles = _bundles(function)
        own = [*_own(function), *(each for kind in bundles.values() for each in _fields(kind))]
        common = [_parameter(key, kind, _default(key)) for key, kind in shared.items()]
        parameters = sorted([*own, *common], key=lambda each: _place(each.annotation))

        @functools.wraps(function)
        def call(**values: Any) -> None:
            settings = {key: values.pop(key) for key in shared}
            run_guarded(lambda: function(_session(settings), **_bundled(bundles, values)))

        del call.__wrapped__  # typer would look through to the bare function
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {each.name: each.annotation for each in parameters}
        known = name or function.__name__.strip("_").replace("_", "-")
        app.command(name=known, epilog=EPILOG, cls=_command_class(parameters))(call)
        return function

    return register


def _bundles(function: Callable[..., Any]) -> dict[str, type]:
    """The parameters whose types are dataclasses of options."""
    hints = get_type_hints(function)
    names = list(inspect.signature(function).parameters)[1:]
    return {name: hints[name] for name in names if dataclasses.is_dataclass(hints[name])}


def _own(function: Callable[..., Any]) -> Iterator[inspect.Parameter]:
    """The other parameters, the session left out."""
    hints = get_type_hints(function, include_extras=True)
    for each in list(inspect.signature(function).parameters.values())[1:]:
        if not dataclasses.is_dataclass(hints[each.name]):
            yield _parameter(each.name, hints[each.name], each.default)


def _fields(kind: type) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    for each in dataclasses.fields(kind):
        default = inspect.Parameter.empty if each.default is dataclasses.MISSING else each.default
        yield _parameter(each.name, hints[each.name], default)


def _parameter(name: str, kind: Any, default: Any) -> inspect.Parameter:
    bare, *notes = get_args(kind)
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[bare, *map(_without_markup, notes)],
    )


def _without_markup(note: Any) -> Any:
    """The option or argument with brackets in its help that rich shows instead of taking them for markup (``[all]``)."""
    if not isinstance(note, typer.models.ParameterInfo) or not note.help:
        return note
    plain = copy.copy(note)
    plain.help = re.sub(r"\[(?=[a-z#/@])", r"\\[", note.help)
    return plain


def _default(key: str) -> bool | None:
    return False if key in ("as_json", "as_csv", "quiet") else None


def _place(kind: Any) -> int:
    """The place of an option in the help: a command's own first, then panel by panel."""
    for note in get_args(kind)[1:]:
        panel = getattr(note, "rich_help_panel", None)
        if panel in PANELS:
            return 1 + PANELS.index(panel)
    return 0


def _bundled(bundles: Mapping[str, type], values: dict[str, Any]) -> dict[str, Any]:
    """The values as the function wants them: those of a bundle's fields in an instance of it.

    Raises:
        InputError: one of them is not UTF-8.
    """
    from outcrop.schema.places import placed

    require_utf8(values)
    values = placed(values)
    made = {
        name: kind(**{each.name: values.pop(each.name) for each in dataclasses.fields(kind)})
        for name, kind in bundles.items()
    }
    return {**values, **made}


def _command_class(parameters: list[inspect.Parameter]) -> type[typer.core.TyperCommand]:
    """A command that accepts the former names of its options too."""
    former = {
        each.name: note.names
        for each in parameters
        for note in get_args(each.annotation)[1:]
        if isinstance(note, Formerly)
    }

    class Command(Helped, typer.core.TyperCommand):
        def make_parser(self, ctx: Any) -> Any:
            shown = {each: each.opts for each in self.params}
            try:
                for each in self.params:
                    each.opts = [*each.opts, *former.get(each.name or "", ())]
                return super().make_parser(ctx)
            finally:
                for each, names in shown.items():
                    each.opts = names

    return Command


def _session(common: dict[str, Any]) -> Session:
    from outcrop.schema.settings import read_settings  # pydantic takes a while, and --help needs none of it

    require_utf8(common)
    as_json, as_csv = common.pop("as_json"), common.pop("as_csv", False)
    quiet = common.pop("quiet")
    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other; give one of them")
    settings = read_settings(common.pop("config"), **common)
    logging.basicConfig(
        level=logging.DEBUG if settings.verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    return Session(
        settings,
        "json" if as_json else "csv" if as_csv else "table",
        quiet,
        {k: v for k, v in common.items() if v is not None},
    )
