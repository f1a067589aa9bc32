"""`collection annotate`: own columns from a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outcrop.operate.commands import app
from outcrop.operate.console import STORE, DryRun, Name, opened
from outcrop.screen.options import Session, command, option
from outcrop.screen.progress import Meter
from outcrop.screen.tables import print_json

if TYPE_CHECKING:
    from outcrop.store.annotate import Annotation

On = Annotated[
    str | None,
    option(
        "--on",
        help="What the rows are about: source, key, specimen or capture; with =COLUMN, named by that column. [by the header]",
    ),
]
Encoding = Annotated[
    str | None, option("--encoding", help="Encoding of a CSV file, such as cp949 or shift_jis. [UTF-8, else found out]")
]

Forget = Annotated[
    bool, option("--forget", help="Only forget the table: later items do not get its columns; what rows have stays.")
]


@command(app, STORE)
def annotate(
    session: Session,
    table: Annotated[Path, typer.Argument(help="The table: ….csv, ….tsv or ….parquet.", show_default=False)],
    name: Name = None,
    on: On = None,
    encoding: Encoding = None,
    forget: Forget = False,
    dry_run: DryRun = False,
) -> None:
    """Give the items of a collection own columns from a table, without embedding anything."""
    from outcrop.ingest.metadata import forget_table, remember_annotation
    from outcrop.ingest.requests import TableRequest
    from outcrop.schema.column_tables import read_metadata
    from outcrop.store.annotate import annotate as write
    from outcrop.store.annotate import plan_annotation

    with opened(session, name) as collection:
        if forget:
            session.say(f"{table} is forgotten for {', '.join(forget_table(collection, table))}")
            return
        read = read_metadata(table, on, encoding, collection.columns)
        plan = plan_annotation(collection, read)
        for remark in (str(read), *read.remarks, *plan.match.remarks()):
            session.say(remark)
        if not dry_run:
            with Meter("annotate", len(plan.changed), "items", session.quiet) as meter:
                write(collection, plan, progress=meter.update)
            remember_annotation(collection, plan.match, TableRequest(table=table, on=on, encoding=encoding))
        _print(session, plan, collection.physical, dry_run)


def _print(session: Session, plan: Annotation, physical: str, dry_run: bool) -> None:
    """What was changed, or would be."""
    changed, looked_at = len(plan.changed), plan.looked_at
    values: dict[str, Any] = {"changed": changed, "items": looked_at, "collection": physical, "dry_run": dry_run}
    if session.format == "json":
        print_json(values | plan.match.as_json())
        return
    print(f"{'would change' if dry_run else 'changed'} {changed} of {looked_at} items of {physical}")
