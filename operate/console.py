"""What the `collection` commands share."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outcrop.schema.errors import Refused, UsageError
from outcrop.screen import options
from outcrop.screen.options import Group, Session, hidden, option
from outcrop.screen.tables import print_json, print_table

if TYPE_CHECKING:
    from outcrop.store.collection import Collection
    from outcrop.store.connection import Store

STORE: Group = hidden(options.STORE, "collection")
"""Commands take the collection's name as an argument; `--collection` still says the same."""
INDEX: Group = {
    "index": Annotated[
        str | None,
        option(
            "--index", help="Index profile of a new collection. [OUTCROP_INDEX, FLAT on Milvus Lite, HNSW on a server]"
        ),
    ],
}
Given = Annotated[str, typer.Argument(help="Name of the collection, or its physical name.")]
Name = Annotated[
    str | None,
    typer.Argument(
        help="Name of the collection, or its physical name. [OUTCROP_COLLECTION, outcrop]", show_default=False
    ),
]
DryRun = Annotated[bool, option("--dry-run", help="Only say what would be done.")]
Datasets = Annotated[
    list[str] | None,
    option(
        "--dataset", help="Only this dataset; repeatable. [all of the registry, and all specimens of the collection]"
    ),
]
Root = Annotated[Path | None, option("--root", help="Where specimens' meshes lie now. [where they were ingested from]")]
Yes = Annotated[bool, option("--yes", help="Do not ask.")]
Build = Annotated[list[str] | None, option("--build", help="Build parameter NAME=VALUE, such as M=48; repeatable.")]


@contextmanager
def opened_store(session: Session, *, create: bool = False) -> Iterator[Store]:
    """The store of the settings, open; with `create`, a Milvus Lite directory that is missing is made."""
    from outcrop.store.connection import Store

    with Store.of(session.settings, create=create) as store:
        yield store


@contextmanager
def opened(session: Session, name: str | None) -> Iterator[Collection]:
    """A collection by name (the settings' where none is given), open."""
    from outcrop.store.collection import Collection

    with opened_store(session) as store:
        yield Collection.open(store, name or session.settings.collection)


def answer(session: Session, values: Mapping[str, Any], text: str) -> None:
    """Prints JSON, or the text for people."""
    if session.format == "json":
        print_json(dict(values))
    else:
        print(text)


def answer_rows(
    session: Session, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], title: str = "", **more: Any
) -> None:
    """Prints rows as JSON (with `more` beside them), or as a table whose first two columns are always whole."""
    if session.format == "json":
        print_json({**more, "rows": list(rows)})
    else:
        print_table(rows, columns, title, whole=columns[:2])


def print_facts(facts: Mapping[str, Any], title: str = "") -> None:
    """Prints names and values as a table of two columns."""
    print_table([{"": key, "value": str(value)} for key, value in facts.items()], ("", "value"), title)


def remark_on_size(session: Session, store: Store, rows: int) -> None:
    """Says where a Milvus Lite directory has so many rows that a server serves better."""
    from outcrop.store.inventory import lite_remark

    if text := lite_remark(store, rows):
        session.say(text)


def agreed(question: str, yes: bool) -> None:
    """Asks before something is lost; goes on only after a yes.

    Raises:
        Refused: the answer is no, or there is nobody to ask and no --yes.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refused(f"{question} Nobody can be asked here: give --yes")
    if not typer.confirm(question, err=True):
        raise Refused("nothing was changed")


def parameters(texts: Sequence[str] | None, option: str = "--build") -> dict[str, Any] | None:
    """``["M=48"]`` as ``{"M": 48}``; None for nothing.

    Raises:
        UsageError: a text without a name or an equals sign.
    """
    values: dict[str, Any] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"{option} must be NAME=VALUE, got {text!r}")
        values[name] = _number(value)
    return values or None


def _number(text: str) -> int | float | str:
    """A number where the text is one, as it is otherwise."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text
