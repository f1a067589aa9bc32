"""`query image`, `query item` and `query dataset`: top-k search."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outcrop.query.commands import app
from outcrop.query.console import open_encoder, opened, print_answers
from outcrop.query.delivery import delivery
from outcrop.query.options import (
    SCALE,
    Conditions,
    Groups,
    Keys,
    Locate,
    Paths,
    Places,
    QueryKind,
    Rerank,
    Search,
    Server,
    Turns,
    gallery_of,
    kind_named,
)
from outcrop.schema.item import Kind
from outcrop.screen.options import (
    ASKED_MODEL,
    CSV,
    KEPT_FEATURES,
    REDIS,
    REGISTRY,
    STATE,
    STORE,
    Session,
    command,
    hidden,
    option,
)
from outcrop.screen.progress import Meter

if TYPE_CHECKING:
    from outcrop.query.remote_answers import Question
    from outcrop.query.search import Grouping
    from outcrop.store.collection import Collection

HIDDEN = (hidden(REGISTRY), KEPT_FEATURES, REDIS, STATE)
"""Settings that re-ranking and reports need; hardly anybody gives them as options."""


@command(app, STORE, ASKED_MODEL, CSV, SCALE, *HIDDEN)
def image(
    session: Session,
    paths: Paths,
    search: Search,
    conditions: Conditions,
    groups: Groups,
    rerank: Rerank,
    locate: Locate,
    places: Places,
    turns: Turns = 0,
    server: Server = None,
) -> None:
    """Find the items that look like a picture."""
    from outcrop.query.picture_files import expand
    from outcrop.query.remote_answers import Question, answer_by, chosen_service, unanswered

    question = Question(search, conditions, groups, rerank, locate, turns)
    if (service := chosen_service(session, server, unanswered(question, places))) is not None:
        answer_by(service, session, expand(paths), question)
        return
    _image(session, paths, question, places)


def _image(session: Session, paths: list[Path], asked: Question, places: Places) -> None:
    """The answer by a model that is opened for it."""
    from outcrop.query.held import require_held
    from outcrop.query.rerank_plan import asks_again, hits_to_search, reranker
    from outcrop.query.search import query_images

    search, locate, condition = asked.search, asked.locate, asked.conditions.condition
    files = _files(paths, asked.turns, asked.groups.grouping)
    plan = asked.rerank.plan(session, locate=locate.wanted)
    with delivery(session, places, locate.geojson) as deliver:
        with opened(session) as collection:
            require_held(condition, collection)
            encoder = open_encoder(session, collection)
            most = hits_to_search(plan, search.k)
            with reranker(plan, search.k, collection, session.settings, encoder, locate=locate.wanted) as reranked:
                how: dict[str, Any] = {"exclude_self": search.exclude_self, "exact": search.exact}
                how |= {"turns": asked.turns, "group": asked.groups.grouping, "locate": locate.wanted}
                how |= {"assumed": session.settings.assumed, "expandable": asks_again(plan)}
                results = reranked(query_images(files, encoder, collection, most, condition, **how))
        print_answers(session, results, deliver, explain=search.explain)


def _files(paths: list[Path], turns: int, group: Grouping) -> list[Path]:
    """The pictures that paths stand for, before the model is opened; `turns` are checked too."""
    from outcrop.query.picture_files import expand
    from outcrop.query.search import check_turns

    check_turns(turns, group)
    return expand(paths)


def _kind(session: Session, name: str, collection: Collection, asked: Kind | None) -> Kind:
    """The kind of a dataset's items that are the queries; says which, where nobody asked for it."""
    from outcrop.query.held import queried_kind

    kind = queried_kind(name, collection, asked)
    if asked is None and kind is not Kind.IMAGE:
        session.say(f"dataset {name} holds no image: the queries are of kind {kind}")
    return kind


@command(app, STORE, hidden(ASKED_MODEL), CSV, *HIDDEN)
def item(
    session: Session,
    keys: Keys,
    search: Search,
    conditions: Conditions,
    groups: Groups,
    rerank: Rerank,
    places: Places,
) -> None:
    """Find the items that look like a stored item."""
    from outcrop.query.rerank_plan import asks_again, hits_to_search, reranker
    from outcrop.query.search import query_items

    condition, group, plan = conditions.condition, groups.grouping, rerank.plan(session)
    with delivery(session, places) as deliver:
        with opened(session) as collection, reranker(plan, search.k, collection, session.settings) as reranked:
            most = hits_to_search(plan, search.k)
            how = {"exclude_self": search.exclude_self, "exact": search.exact, "expandable": asks_again(plan)}
            results = reranked(query_items(keys, collection, most, condition, group=group, **how))
        print_answers(session, results, deliver, explain=search.explain)


@command(app, STORE, hidden(ASKED_MODEL), CSV, *HIDDEN)
def dataset(
    session: Session,
    name: Annotated[str, typer.Argument(help="Name of an ingested dataset.")],
    search: Search,
    conditions: Conditions,
    groups: Groups,
    rerank: Rerank,
    places: Places,
    query_kind: QueryKind = None,
    against: Annotated[
        list[str] | None,
        option("--against", help="Search only this kind (reference, …) or dataset; repeatable. [everything]"),
    ] = None,
    limit: Annotated[int | None, option("--limit", min=1, help="Use only the first N items as queries.")] = None,
) -> None:
    """Search with every stored item of a dataset, by its stored vector."""
    from outcrop.query.answers import joined
    from outcrop.query.rerank_plan import asks_again, hits_to_search, reranker
    from outcrop.query.search import query_dataset

    condition, group = conditions.condition & gallery_of(against), groups.grouping
    asked, plan = kind_named(query_kind, "--query-kind") if query_kind else None, rerank.plan(session)
    with delivery(session, places) as deliver, Meter(name, limit, "queries", session.quiet) as meter:
        with opened(session) as collection, reranker(plan, search.k, collection, session.settings) as reranked:
            most = hits_to_search(plan, search.k)
            how = {"exclude_self": search.exclude_self, "exact": search.exact, "expandable": asks_again(plan)}
            kind = _kind(session, name, collection, asked)
            batches = query_dataset(name, collection, most, condition, kind=kind, limit=limit, group=group, **how)
            results = joined(meter.counting((reranked(each) for each in batches), lambda each: len(each.results)))
        print_answers(session, results, deliver, explain=search.explain)
