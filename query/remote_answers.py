"""`query image` by a running service: which questions it can answer, and its answers on the screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from outcrop.query.options import SCALE, Conditions, Groups, Locate, Places, Rerank, Search
from outcrop.query.remote import Service, noted
from outcrop.schema.errors import InputError, PartialFailure, UsageError
from outcrop.screen.options import Session
from outcrop.screen.tables import print_csv, print_json, print_table

MOST = 1000
"""Hits that a service gives at most."""
MOST_TURNS = 36
"""Turns of a picture that a service makes at most."""
MOST_BYTES = 2**16
"""Of an area that a service takes, as GeoJSON."""


def chosen_service(
    session: Session,
    server: str | None,
    unanswered: Sequence[str],
) -> Service | None:
    """The service that answers: the one that is named, or one that runs beside and has the collection open; None where neither
    is to be asked. `unanswered` names the options that only a command of its own can follow.

    Raises:
        UsageError: a service is named, and an option that it cannot follow is given.
    """
    settings = session.settings
    token = settings.serve_token.get_secret_value() if settings.serve_token is not None else ""
    if server is not None:
        if unanswered:
            raise UsageError(f"{', '.join(unanswered)} cannot be used with --server; leave one of them out")
        return Service(server if "://" in server else f"http://{server}", token)
    if unanswered or any(
        name in session.given for name in ("model", "weights", "device", "precision", "batch", *SCALE)
    ):
        return None
    address = noted(settings.state, settings.uri, settings.collection)
    return Service(address, token) if address is not None else None


@dataclass(frozen=True)
class Question:
    """What is asked of a service about every picture."""

    search: Search
    conditions: Conditions
    groups: Groups
    rerank: Rerank
    locate: Locate
    turns: int

    @cached_property
    def within(self) -> str:
        """The area of ``--within`` as compact GeoJSON, '' where none is given.

        Raises:
            InputError: the file is not one.
        """
        if self.conditions.area is None:
            return ""
        from outcrop.query.area import Within

        return Within.read(self.conditions.area).geojson

    def fields(self) -> dict[str, list[str]]:
        """The fields of the service's form (``/openapi.json``)."""
        given = {
            "near": self.conditions.near,
            "within": self.within,
            "group": self.groups.group if self.groups.group != "auto" else "",
            "turns": self.turns,
            "rerank": "geometric" if self.rerank.rerank or self.locate.locate else "",
            "locate": "1" if self.locate.locate else "",
        }
        fields = {"k": [str(self.search.k)], "where": list(self.conditions.where or ())}
        return fields | {name: [str(value)] for name, value in given.items() if value}


def unanswered(question: Question, places: Places) -> list[str]:
    """The options given that a service does not follow.

    Raises:
        InputError: an area is not valid.
    """
    search, rerank = question.search, question.rerank
    given = {
        "--exact": search.exact,
        "--exclude-self": search.exclude_self,
        "--explain": search.explain,
        "-k": search.k > MOST,
        "--filter": bool(question.conditions.filter),
        f"--within of more than {MOST_BYTES:,} bytes": len(question.within) > MOST_BYTES,
        f"--turns of more than {MOST_TURNS}": question.turns > MOST_TURNS,
        "--rerank expanded": rerank.rerank == "expanded",
        "--rerank-depth": rerank.rerank_depth is not None,
        "--min-inliers": rerank.min_inliers is not None,
        "--local-features": rerank.local_features is not None,
        "--geojson": question.locate.geojson is not None,
        "--report": places.report is not None,
        "--output": places.output is not None,
    }
    return [name for name, wanted in given.items() if wanted]


def answer_by(
    service: Service,
    session: Session,
    files: Sequence[Path],
    question: Question,
) -> None:
    """Asks a service with every picture, and prints what it says.

    Raises:
        InputError: the only picture, or a condition, is wrong. PartialFailure: some pictures could not be read.
    """
    fields = question.fields()
    answers: list[dict[str, Any]] = []
    broken: list[str] = []
    for file in files:
        try:
            answers.append(_named(service.ask(file, fields, session.format), file))
        except InputError as error:
            if len(files) == 1:
                raise
            broken.append(str(error))
    _print(session, answers)
    for each in broken:
        session.warn(each)
    if broken:
        raise PartialFailure(f"{len(broken)} of {len(files)} queries could not be read; they are named above")


def _named(answer: dict[str, Any], file: Path) -> dict[str, Any]:
    """The answer with the picture's path, as the command was given it."""
    for query in answer["queries"]:
        query["query"] = str(file)
    for row in answer.get("rows", ()):
        row["query"] = str(file)
    return answer


def _print(session: Session, answers: Sequence[dict[str, Any]]) -> None:
    if session.format == "json":
        print_json({**answers[0], "queries": [query for answer in answers for query in answer["queries"]]})
    elif session.format == "csv":
        print_csv([row for answer in answers for row in answer["rows"]], answers[0]["columns"])
    else:
        for answer in answers:
            for query in answer["queries"]:
                print_table(query["rows"], query["columns"], query["query"], whole=query["whole"], forms=query["forms"])
            for remark in answer["remarks"]:
                session.say(remark)
