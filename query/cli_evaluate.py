"""`query evaluate`: how often answers are right."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outcrop.query.commands import app
from outcrop.query.console import open_encoder, opened
from outcrop.query.options import Exact, Gallery, QueryKind, Report, Rerank, Turns, check_file, kind_named
from outcrop.schema.errors import InputError, PartialFailure, UsageError
from outcrop.screen.options import (
    ASKED_MODEL,
    KEPT_FEATURES,
    REGISTRY,
    SEED,
    STATE,
    STORE,
    Group,
    Session,
    command,
    hidden,
    option,
)
from outcrop.screen.progress import Meter
from outcrop.screen.tables import print_json, print_table

if TYPE_CHECKING:
    from outcrop.query.evaluating import Queries
    from outcrop.query.evaluation.figures import Evaluation
    from outcrop.query.evaluation.truth import Truth
    from outcrop.schema.settings import Settings

EVALUATION: Group = {
    "evaluate_depth": Annotated[
        int | None, option("--depth", hidden=True, help="Parents ranked for a query. [OUTCROP_EVALUATE_DEPTH, 100]")
    ],
    "evaluate_ignore_within": Annotated[
        float | None,
        option("--ignore-within", hidden=True, help="gps: metres of the ignored. [OUTCROP_EVALUATE_IGNORE_WITHIN]"),
    ],
    "evaluate_ignore": Annotated[
        float | None,
        option(
            "--ignore", hidden=True, help="Pairs, footprints: overlap of the ignored. [OUTCROP_EVALUATE_IGNORE, 0.05]"
        ),
    ],
    "evaluate_resamples": Annotated[
        int | None, option("--resamples", hidden=True, help="Of the bootstrap. [OUTCROP_EVALUATE_RESAMPLES, 2000]")
    ],
    "evaluate_worst": Annotated[
        int | None, option("--worst", hidden=True, help="Failures on the page. [OUTCROP_EVALUATE_WORST, 12]")
    ],
}
Dataset = Annotated[
    str | None,
    typer.Argument(help="Name of a dataset: its stored items are the queries.", show_default=False),
]


@dataclass(frozen=True)
class Judging:
    """What is right, and which figures are made of it."""

    truth: Annotated[
        str,
        option(
            "--truth",
            help="What is right: own (the photograph or specimen that a query was made of), gps, category, "
            "a CSV of pairs with their overlap, or a JSON of footprints.",
        ),
    ]
    within: Annotated[float, option("--within", help="gps: metres within which an item is relevant. [25]")] = 25.0
    relevant: Annotated[
        float, option("--relevant", help="Pairs, footprints: overlap (0 to 1) from which an item is relevant. [0.25]")
    ] = 0.25
    levels: Annotated[int | None, option("--levels", help="category: compare only its first N levels. [all]")] = None
    count_own: Annotated[
        bool,
        option(
            "--count-own", hidden=True, help="Count the query's own photograph as an answer. [only with --truth own]"
        ),
    ] = False
    at: Annotated[str, option("--at", help="Ranks k of recall@k. [1,5,10,20]")] = "1,5,10,20"

    @property
    def cutoffs(self) -> list[int]:
        """The ranks of ``--at``."""
        try:
            return [int(part) for part in self.at.split(",")]
        except ValueError:
            raise InputError(f"--at must be a list of ranks such as 1,5,10,20, got {self.at!r}") from None

    def truth_in(self, settings: Settings) -> Truth:
        """The truth that `--truth` names; the options of the others are checked all the same.

        Raises:
            InputError: an unknown truth, or a value that does not fit.
        """
        from outcrop.query.evaluation.truth import CategoryTruth, GpsTruth, Ranges
        from outcrop.query.evaluation.truth_files import truth_named

        return truth_named(
            self.truth,
            GpsTruth(self.within, settings.evaluate_ignore_within),
            CategoryTruth(self.levels),
            Ranges(self.relevant, settings.evaluate_ignore),
        )


@dataclass(frozen=True)
class Asked:
    """The queries, and how they are searched."""

    pictures: Annotated[
        list[Path] | None,
        option("--pictures", help="Use picture files, or folders of them, as queries; repeatable."),
    ] = None
    query_kind: QueryKind = "image"
    limit: Annotated[int | None, option("--limit", min=1, help="Use only the first N items as queries.")] = None
    exact: Exact = False
    turns: Turns = 0
    against: Annotated[
        list[str] | None,
        option(
            "--against",
            help="Compare with, query by query: another collection, or what --json printed earlier (….json); repeatable.",
        ),
    ] = None
    by: Annotated[
        str,
        option(
            "--by", hidden=True, help="specimen: also compare view by view (views), as query specimen does. [pooled]"
        ),
    ] = "pooled"
    probe: Annotated[
        bool,
        option(
            "--probe", help="Instead, what classifiers make of a dataset's stored vectors, and disparity by category."
        ),
    ] = False

    def queries(self, name: str | None, conditions: Gallery) -> Queries:
        """The queries that the options name.

        Raises:
            UsageError: both a dataset and pictures, neither, or options of the other.
        """
        from outcrop.query.evaluating import Queries
        from outcrop.query.pictures import expand
        from outcrop.query.view_sets import by_views
        from outcrop.schema.item import Kind

        if (name is None) == (not self.pictures):
            raise UsageError("give the name of a dataset, or --pictures FOLDER: one of them holds the queries")
        if self.turns and name is not None:
            raise UsageError("--turns rotates pictures: give --pictures; of a dataset only the vectors are stored")
        kind, pictures = kind_named(self.query_kind or "image", "--query-kind"), tuple(self.pictures or ())
        if pictures:
            expand(pictures)  # a wrong path is found before the model is opened
        views = by_views(self.by)
        if views and (name is None or kind is not Kind.SPECIMEN):
            raise UsageError(
                "--by views compares stored specimens: give the NAME of a dataset and --query-kind specimen"
            )
        return Queries(name, pictures, kind, self.limit, conditions.condition, self.turns, self.exact, views)


@command(app, STORE, hidden(REGISTRY), hidden(ASKED_MODEL), STATE, KEPT_FEATURES, SEED, EVALUATION)
def evaluate(
    session: Session,
    judging: Judging,
    asked: Asked,
    conditions: Gallery,
    rerank: Rerank,
    name: Dataset = None,
    report: Report = None,
) -> None:
    """Measure how often answers are right: recall@k, mAP and median rank against a truth, with confidence intervals."""
    from outcrop.query.evaluating import side_by_side

    if asked.probe:
        return _probe(session, judging, asked, conditions, name)
    cutoffs, queries, plan = judging.cutoffs, asked.queries(name, conditions), rerank.plan(session)
    truth, settings = judging.truth_in(session.settings), session.settings
    check_file(report, "--report")
    with opened(session) as collection, Meter("evaluate", asked.limit, "queries", session.quiet) as meter:
        found = side_by_side(
            *(queries, truth, collection, settings, plan),
            against=asked.against or (),
            encoder_of=partial(open_encoder, session) if name is None else None,
            cutoffs=cutoffs,
            count_own=judging.count_own or None,
            progress=meter.update,
            warn=session.warn,
        )
    if report is not None:
        _write_report(session, found, report)
    _print(session, found)


def _probe(session: Session, judging: Judging, asked: Asked, conditions: Gallery, name: str | None) -> None:
    from outcrop.query.evaluation.figures import Bootstrap
    from outcrop.query.evaluation.probe import items_of, probe_collection

    if name is None or judging.truth != "category":
        raise UsageError("--probe classifies the stored items of a dataset: give its NAME, and --truth category")
    kind = kind_named(asked.query_kind or "image", "--query-kind")
    bootstrap = Bootstrap(session.settings.evaluate_resamples, session.settings.seed)
    with opened(session) as collection:
        wanted = items_of(name, str(kind)) & conditions.condition
        found = probe_collection(collection, wanted, judging.levels, bootstrap)
    if session.format == "json":
        print_json(found.as_json())
        return
    shots = [(f"{k}-shot", one) for k, one in found.shots.items()]
    rows = [
        {"probe": probe, "accuracy": one.value, "low": one.low, "high": one.high}
        for probe, one in (("linear", found.linear), *shots)
        if one is not None
    ]
    said = f"{found.items} items of {found.parents} parents in {found.categories} categories, chance {found.chance:.3f}"
    print_table(rows, ("probe", "accuracy", "low", "high"), said)
    spread = [
        {"category": category, "parents": count, "sum of variances": one.value, "mean distance": other.value}
        for category, (count, one, other) in found.disparity.items()
    ]
    print_table(spread, ("category", "parents", "sum of variances", "mean distance"), "disparity")


def _write_report(session: Session, found: Evaluation, report: Path) -> None:
    from outcrop.embed.thumbnails import ThumbnailStore
    from outcrop.query.evaluation.page import write_page

    thumbnails = ThumbnailStore.below(session.settings.state)
    session.say(f"report: {write_page(found, report, thumbnails, worst=session.settings.evaluate_worst).absolute()}")


def _print(session: Session, found: Evaluation) -> None:
    from outcrop.query.evaluation.against import remarks

    if session.format == "json":
        print_json(found.as_json())
    else:
        from outcrop.query.evaluation.table import columns, remark, rows

        print_table(rows(found), columns(found), found.truth["text"])
        print(remark(found))
    for limit in remarks(found):
        session.warn(limit)
    for query, reason in sorted(found.left_out.items()):
        session.say(f"left out: {query}: {reason}")
    if found.short:
        session.warn(
            f"{found.short} rankings had fewer than {found.cutoffs[-1]} judged places; the others were ignored: raise --depth"
        )
    if found.unreadable:
        asked = found.strategies[0].overall.queries + len(found.left_out)
        raise PartialFailure(
            f"{len(found.unreadable)} of {asked} query pictures could not be read; they are named above"
        )
