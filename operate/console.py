"""The `collection` command's application, and what its subcommands share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from outcrop.schema.errors import Refused
from outcrop.screen.options import Session, application
from outcrop.screen.tables import print_json, print_table

if TYPE_CHECKING:
    from outcrop.store.collection import Collection
    from outcrop.store.connection import Store

app = application("Run the collection: create, check, repair, move and remove it.")

Name = Annotated[
    Optional[str],
    typer.Argument(
        help="Name of the collection, or its physical name. [OUTCROP_COLLECTION, outcrop]", show_default=False
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
Root = Annotated[
    Optional[Path],
    typer.Option("--root", help="Where specimens' meshes lie now. [where they were ingested from]", show_default=False),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Index = Annotated[
    Optional[str],
    typer.Option("--index", help="Index profile. [FLAT on Milvus Lite, HNSW on a server]", show_default=False),
]
Metrics = Annotated[
    Optional[str],
    typer.Option("--metrics-file", help="Also write the figures for Prometheus (text format).", show_default=False),
]
Build = Annotated[
    Optional[list[str]],
    typer.Option("--build", help="Build parameter NAME=VALUE, such as M=48; repeatable.", show_default=False),
]


@contextmanager
def opened_store(session: Session) -> Iterator[Store]:
    """The store of the settings, open."""
    from outcrop.store.connection import Store

    with Store.of(session.settings) as store:
        yield store


@contextmanager
def opened(session: Session, name: str | None) -> Iterator[Collection]:
    """A collection by name (the settings' where none is given), open."""
    from outcrop.store.collection import Collection

    with opened_store(session) as store:
        yield Collection.open(store, name or session.settings.collection)


def answer(session: Session, values: dict[str, Any], text: str) -> None:
    """Prints JSON, or the text for people."""
    if session.format == "json":
        print_json(values)
    else:
        print(text)


def answer_rows(
    session: Session, rows: list[dict[str, Any]], columns: tuple[str, ...], title: str = "", **more: Any
) -> None:
    """Prints rows as JSON (with `more` beside them), or as a table."""
    if session.format == "json":
        print_json({**more, "rows": rows})
    else:
        print_table(rows, columns, title)


def agreed(question: str, yes: bool) -> None:
    """Asks before something is lost; goes on only after a yes.

    Raises:
        Refused: the answer is no, or there is nobody to ask and no --yes.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refused(f"{question} Nobody is there to be asked: give --yes")
    if not typer.confirm(question, err=True):
        raise Refused("nothing was changed")


def build_parameters(texts: list[str] | None, option: str = "--build") -> dict[str, Any] | None:
    """``["M=48"]`` as ``{"M": 48}``."""
    from outcrop.schema.errors import UsageError

    values: dict[str, Any] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"{option} {text!r} is no NAME=VALUE")
        values[name] = int(value) if value.lstrip("-").isdigit() else value
    return values or None
