"""What the `query` commands open, and how they print answers: files first, then the screen."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from outcrop.schema.angles import angle_text
from outcrop.schema.errors import PartialFailure
from outcrop.screen.options import Session
from outcrop.screen.tables import print_csv, print_json, print_table

if TYPE_CHECKING:
    from outcrop.embed.encoder import Encoder
    from outcrop.query.answers import Result, Results
    from outcrop.query.delivery import Delivery
    from outcrop.store.collection import Collection

MAX_REASONS = 5
"""Candidates without a picture that are named."""


@contextmanager
def opened(session: Session) -> Iterator[Collection]:
    """The collection that the settings name, open for the length of a `with`."""
    from outcrop.store.collection import Collection
    from outcrop.store.connection import Store

    with Store.of(session.settings) as store:
        yield Collection.open(store, session.settings.collection)


def open_encoder(session: Session, collection: Collection) -> Encoder:
    """The encoder of a collection's model, on the first device of the settings; says which one.

    Raises:
        SpaceMismatch: a model or weights are asked for that are not the collection's. WeightsError: no weights are found.
    """
    from outcrop.embed.models import resolve
    from outcrop.embed.opening import open_for_query

    model = resolve(session.settings, collection.space, collection.weights_hint)
    encoder = open_for_query(model, session.settings)
    session.say(encoder.describe())
    return encoder


def print_answers(session: Session, results: Results, places: Delivery, *, explain: bool = False) -> None:
    """Writes answers to where they are to go, then prints them: a closed pipe loses nothing.

    Raises:
        PartialFailure: some queries could not be read.
    """
    places.write(session, [results])
    _print(session, results)
    if explain and session.format != "json":
        _print_plan(session, results)
    if results.no_hits:
        session.say(f"no hits: {results.no_hits}")
    _say_remarks(session, results.results)
    _say_no_match(session, results.results)
    _say_locations(session, results.results)
    if results.plan is not None and results.plan.fallback:
        session.warn(f"exact search was used: {results.plan.reason}")
    broken = [each for each in results.results if each.error]
    for each in broken:
        session.warn(each.error)
    if broken:
        raise PartialFailure(f"{len(broken)} of {len(results.results)} queries could not be read; they are named above")


def _print(session: Session, results: Results) -> None:
    from outcrop.query.answer_table import WHOLE, csv_columns, csv_rows, table_columns, table_forms, table_rows

    if session.format == "json":
        print_json(results.as_json())
    elif session.format == "csv":
        print_csv(csv_rows(results), csv_columns(results))
    else:
        for each in results.results:
            if not each.error:
                print_table(table_rows(each), table_columns(each), each.query.name, WHOLE, table_forms(each))


def _print_plan(session: Session, results: Results) -> None:
    """The plan and the timings, on stdout below tables, on stderr beside CSV."""
    stream = sys.stderr if session.format == "csv" else sys.stdout
    if results.plan is not None:
        print(f"plan: {results.plan}", file=stream)
    steps = ", ".join(f"{step} {seconds:.2f} s" for step, seconds in results.timings.items())
    print(f"time: {steps}", file=stream)
    matched = [each.matched for each in results.results if each.match is not None]
    if matched:
        most = f" to {max(matched)}" if max(matched) > min(matched) else ""
        print(f"matched: {min(matched)}{most} candidates with each query", file=stream)


def _say_remarks(session: Session, results: Sequence[Result]) -> None:
    """What the queries suffer from: each remark once, with how many it holds for."""
    remarked: dict[str, list[str]] = {}
    for each in results:
        if each.query.remark:
            remarked.setdefault(each.query.remark, []).append(each.query.name)
    for remark, names in remarked.items():
        session.warn(f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {remark}")


def _say_no_match(session: Session, results: Sequence[Result]) -> None:
    """Queries without a match, and candidates whose picture is gone."""
    for each in results:
        if each.match is False:
            session.say(f"no match: {each.query.name}: {each.no_match}")
    gone = {
        parent: verification.reason
        for each in results
        for parent, verification in each.verifications.items()
        if verification.unseen
    }
    for reason in list(dict.fromkeys(gone.values()))[:MAX_REASONS]:
        session.warn(f"not verified: {reason}")
    if len(gone) > MAX_REASONS:
        session.warn(f"not verified: {len(gone)} candidates in all without a picture; --json names them")


def _say_locations(session: Session, results: Sequence[Result]) -> None:
    """Where the queries were taken (below tables), and why not."""
    for each in results:
        if each.location is not None and session.format == "table":
            place = each.location
            high = f"{place.height:.0f} m above ground; " if place.height is not None else ""
            print(
                f"{each.query.name}: {place.latitude:.6f}, {place.longitude:.6f} ± {place.sigma_m:.1f} m; "
                f"heading {angle_text(place.heading)}°; {high}from {len(place.matches)} hits ({place.method})"
            )
            for remark in place.remarks:
                session.say(f"note: {remark}")
        elif each.no_location:
            session.say(f"not located: {each.query.name}: {each.no_location}")
