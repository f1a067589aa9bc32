"""`collection items`: what is stored, page by page."""

from __future__ import annotations

from typing import Annotated

from outcrop.operate.commands import app
from outcrop.operate.console import STORE, Name, opened
from outcrop.query.options import Conditions
from outcrop.screen.options import CSV, Session, command, option
from outcrop.screen.tables import print_csv, print_json, print_table


@command(app, STORE, CSV)
def items(
    session: Session,
    conditions: Conditions,
    name: Name = None,
    limit: Annotated[int, option("--limit", min=1, max=100_000, help="Items on a page. [50]")] = 50,
    after: Annotated[str, option("--after", help="Begin behind this key: the next page.")] = "",
) -> None:
    """List the items of a collection by their keys: dataset, capture or category, frame or specimen."""
    from outcrop.query.keys import shorter_keys
    from outcrop.query.listing import FACTS, page_of_items

    with opened(session, name) as collection:
        page = page_of_items(collection, conditions.condition, limit, after)
        rows = page.rows()
        if session.format == "json":
            print_json(page.as_json(collection.name))
            return
        if session.format == "csv":
            print_csv(page.csv_rows(), (*FACTS, *page.own))
        else:
            forms = {"key": shorter_keys([item.key for item in page.items])}
            title = f"{len(rows)} of {page.total:,} items of {collection.name}"
            print_table(page.shown(), page.columns(), title, ("key",), forms)
    if page.why_empty:
        session.say(f"no items: {page.why_empty}")
    elif page.after:
        session.say(f"the next page: --after {page.after}")
