"""Options that several commands share, as groups, so that every command speaks the same words.

A command is written as ``@command(app, group, …)`` above ``def name(session, …)``: the groups' options are added to its own,
read into `Session.settings`, and errors become exit codes.
"""

from __future__ import annotations

import functools
import inspect
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from outcrop.schema.errors import EXIT_CODES, UsageError
from outcrop.screen.guard import run_guarded

if TYPE_CHECKING:
    from outcrop.schema.settings import Settings

Format = Literal["table", "json", "csv"]
Group = Mapping[str, Any]

EPILOG = "Exit codes: " + " · ".join(f"{code} {text}" for code, text in EXIT_CODES.items()) + " · 130 interrupted"


def _option(kind: Any, *names: str, help: str, **more: Any) -> Any:
    return Annotated[kind, typer.Option(*names, help=help, show_default=False, **more)]


STORE: Group = {
    "uri": _option(
        str | None,
        "--uri",
        help="Milvus Lite directory (….db) or server (http://host:19530). [OUTCROP_URI, ./outcrop.db]",
    ),
    "collection": _option(str | None, "--collection", help="Name of the collection. [OUTCROP_COLLECTION, outcrop]"),
    "timeout": _option(
        float | None, "--timeout", help="Seconds to wait for one answer of Milvus. [OUTCROP_TIMEOUT, 30]"
    ),
}
REGISTRY: Group = {
    "registry": _option(
        Path | None, "--registry", help="Registry file, JSON or YAML. [OUTCROP_REGISTRY, ./data_key.json]"
    ),
    "datasets": _option(
        Path | None,
        "--datasets",
        help="Folder that holds the datasets' roots. [OUTCROP_DATASETS, the registry's folder]",
    ),
}
MODEL: Group = {
    "model": _option(
        str | None,
        "--model",
        help="Preset (see `ingest models`) or timm:<name>. [OUTCROP_MODEL, the collection's own; dinov3_vits16 for a new one]",
    ),
    "weights": _option(
        Path | None, "--weights", help="Weights file, a folder to look in, or hub: to download. [OUTCROP_WEIGHTS]"
    ),
    "pooling": _option(
        str | None, "--pooling", help="token, avg or gem, for a new collection. [OUTCROP_POOLING, the model's own]"
    ),
    "device": _option(
        str | None,
        "--device",
        "--devices",
        help="auto, cpu, cuda, cuda:N or mps; several with commas, a process each. [OUTCROP_DEVICE, auto]",
    ),
    "precision": _option(str | None, "--precision", help="auto, fp32, bf16 or fp16. [OUTCROP_PRECISION, auto]"),
}
WEIGHTS: Group = {"weights": MODEL["weights"]}
COMPILE: Group = {
    "compile": _option(
        bool | None,
        "--compile/--no-compile",
        help="Let torch.compile rewrite the network: minutes first, faster then. [OUTCROP_COMPILE]",
    )
}
STATE: Group = {
    "state": _option(
        Path | None, "--state", help="Folder for runs, ledgers and thumbnails. [OUTCROP_STATE, ./.outcrop]"
    )
}
_ALWAYS: Group = {
    "config": _option(Path | None, "--config", help="Settings file. [./outcrop.yaml]"),
    "as_json": _option(bool, "--json", help="Print JSON on stdout."),
    "quiet": _option(bool, "--quiet", "-q", help="No progress and no remarks on stderr."),
    "verbose": _option(bool, "--verbose", help="Log what happens, on stderr."),
}
CSV: Group = {"as_csv": _option(bool, "--csv", help="Print CSV on stdout.")}


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
            print(text, file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """A warning on stderr; said even with `--quiet`."""
        print(f"warning: {text}", file=sys.stderr, flush=True)


def command(
    app: typer.Typer, *groups: Group, name: str | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a function as a command of `app` with the options of `groups` beside its own.

    The function's first parameter is the `Session`; the groups' options reach it through the settings, not as arguments.
    """
    shared = {key: kind for group in (*groups, _ALWAYS) for key, kind in group.items()}

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        hints = get_type_hints(function, include_extras=True)
        own = [p.replace(annotation=hints[p.name]) for p in list(inspect.signature(function).parameters.values())[1:]]
        added = [
            inspect.Parameter(
                key,
                inspect.Parameter.KEYWORD_ONLY,
                default=False if key in ("as_json", "as_csv", "quiet", "verbose") else None,
                annotation=kind,
            )
            for key, kind in shared.items()
        ]

        @functools.wraps(function)
        def call(**values: Any) -> None:
            common = {key: values.pop(key) for key in shared}
            run_guarded(lambda: function(_session(common), **values))

        del call.__wrapped__  # typer would look through to the bare function
        call.__signature__ = inspect.Signature([*(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *added])  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in (*own, *added)}
        app.command(name=name or function.__name__.replace("_", "-"), epilog=EPILOG)(call)
        return function

    return register


def _session(common: dict[str, Any]) -> Session:
    from outcrop.schema.settings import read_settings  # pydantic takes a while, and --help needs none of it

    as_json, as_csv = common.pop("as_json"), common.pop("as_csv", False)
    quiet, verbose = common.pop("quiet"), common.pop("verbose")
    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other; give one of them")
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    config = common.pop("config")
    settings = read_settings(config, **common)
    return Session(
        settings,
        "json" if as_json else "csv" if as_csv else "table",
        quiet,
        {k: v for k, v in common.items() if v is not None},
    )
