"""`query evaluate`: how often answers are right."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from outcrop.query.cli_rerank import Depth, Features, FeaturesFolder, MinInliers, Rerank, reranker, reranking, wider
from outcrop.query.console import (
    Exact,
    Raw,
    Turns,
    Where,
    app,
    check_report,
    condition_of,
    kind_of,
    open_encoder,
    opened,
)
from outcrop.schema.errors import InputError, PartialFailure, UsageError
from outcrop.screen.options import MODEL, REGISTRY, STATE, STORE, Session, command
from outcrop.screen.progress import Meter
from outcrop.screen.tables import print_json, print_table

if TYPE_CHECKING:
    from outcrop.query.evaluation.figures import Evaluation
    from outcrop.query.evaluation.truth import CategoryTruth, GpsTruth, Ranges, Truth


@command(app, STORE, REGISTRY, MODEL, STATE)
def evaluate(
    session: Session,
    truth: Annotated[str, typer.Option("--truth", help="What is right: own (the photograph or specimen that a query was made of), gps, category, a CSV of pairs with their overlap, or a JSON of footprints.", show_default=False)],
    name: Annotated[Optional[str], typer.Argument(help="Name of a dataset: its stored items are the queries.", show_default=False)] = None,
    pictures: Annotated[Optional[list[Path]], typer.Option("--pictures", help="Picture files, or folders of them, are the queries; repeatable.", show_default=False)] = None,
    kind: Annotated[str, typer.Option("--kind", help="Which items of the dataset are the queries: image, reference, view or specimen.")] = "image",
    limit: Annotated[Optional[int], typer.Option("--limit", min=1, help="Only N items of the dataset as queries.", show_default=False)] = None,
    where: Where = None,
    filter: Raw = "",
    within: Annotated[float, typer.Option("--within", help="gps: metres within which an item is relevant.")] = 25.0,
    ignore_within: Annotated[Optional[float], typer.Option("--ignore-within", help="gps: metres within which the others are neither right nor wrong. [--within]", show_default=False)] = None,
    levels: Annotated[Optional[int], typer.Option("--levels", help="category: only so many levels of it. [all]", show_default=False)] = None,
    relevant: Annotated[float, typer.Option("--relevant", help="Pairs, footprints: overlap (0 to 1) from which an item is relevant.")] = 0.25,
    ignore: Annotated[float, typer.Option("--ignore", help="Pairs, footprints: overlap from which the others are neither right nor wrong.")] = 0.05,
    count_own: Annotated[bool, typer.Option("--count-own", help="Count the query's own photograph as an answer. [only with --truth own]")] = False,
    at: Annotated[str, typer.Option("--at", help="Ranks k of recall@k.")] = "1,5,10,20",
    depth: Annotated[int, typer.Option("--depth", min=1, max=16383, help="How many parents are ranked for a query; mAP and the median rank see no further.")] = 100,
    exact: Exact = False,
    turns: Turns = 0,
    rerank: Rerank = None,
    rerank_depth: Depth = None,
    min_inliers: MinInliers = None,
    features: Features = None,
    features_folder: FeaturesFolder = None,
    resamples: Annotated[int, typer.Option("--resamples", min=100, max=100_000, help="Resamples of the bootstrap.")] = 2000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the bootstrap.")] = 0,
    report: Annotated[Optional[Path], typer.Option("--report", help="Write an HTML page with curves and the worst failures as pictures.", show_default=False)] = None,
    worst: Annotated[int, typer.Option("--worst", min=0, max=500, help="How many failures the page shows.")] = 12,
) -> None:  # fmt: skip
    """Measure how often answers are right: recall@k, mAP and median rank against a truth, with confidence intervals."""
    from outcrop.query.evaluation.evaluate import counts_own, evaluate, hits_for, too_few
    from outcrop.query.evaluation.figures import Bootstrap
    from outcrop.query.evaluation.gallery import read_gallery
    from outcrop.query.evaluation.strategies import in_steps, picture_answers
    from outcrop.query.evaluation.truth import CategoryTruth, GpsTruth, Ranges
    from outcrop.query.pictures import expand
    from outcrop.query.search import query_dataset

    if (name is None) == (not pictures):
        raise UsageError("give the name of a dataset, or --pictures FOLDER: one of them holds the queries")
    if turns and name is not None:
        raise UsageError("--turns turns pictures: give --pictures, not a dataset, of which vectors are stored")
    cutoffs, queries, condition = _cutoffs(at), kind_of(kind), condition_of(where, filter)
    how = reranking(rerank, rerank_depth, min_inliers, features, features_folder)
    check_report(report)
    held_against = _truth(truth, GpsTruth(within, ignore_within), CategoryTruth(levels), Ranges(relevant, ignore))
    with opened(session) as collection, Meter("evaluate", limit, "queries", session.quiet) as meter:
        gallery = read_gallery(collection, condition)
        own_counted = counts_own(held_against, count_own or None)
        k = hits_for(wider(how, depth), gallery)
        if short := too_few(wider(how, depth), gallery):
            session.warn(short)
        encoder = None
        if name is not None:
            stored = query_dataset(name, collection, k, condition, kind=queries, limit=limit, exact=exact, group="none")
            answers = {"embedding": stored}
        else:
            encoder = open_encoder(session, collection)
            asked = (expand(pictures or []), encoder, collection, k, condition)
            answers = {"embedding": picture_answers(*asked, exact=exact)}
            if turns:
                answers[f"{turns} turns"] = picture_answers(*asked, exact=exact, turns=turns)
        with reranker(session, how, k, collection, encoder) as step:
            found = evaluate(
                in_steps(answers, gallery, own_counted, {} if how is None else {rerank or "": step}),
                held_against,
                gallery,
                depth=depth,
                cutoffs=cutoffs,
                count_own=own_counted,
                bootstrap=Bootstrap(resamples, seed),
                progress=meter.update,
            )
    if report is not None:
        from outcrop.embed.thumbnails import ThumbnailStore
        from outcrop.query.evaluation.page import write_page

        thumbnails = ThumbnailStore.below(session.settings.state)
        session.say(f"report: {write_page(found, report, thumbnails, worst=worst).absolute()}")
    _print(session, found)


def _truth(text: str, gps: GpsTruth, category: CategoryTruth, ranges: Ranges) -> Truth:
    """The truth that `--truth` names; the options of the others are checked all the same."""
    from outcrop.query.evaluation.truth import OwnTruth
    from outcrop.query.evaluation.truth_files import read_truth

    known: dict[str, Truth] = {"own": OwnTruth(), "gps": gps, "category": category}
    if text in known:
        return known[text]
    if not Path(text).is_file():
        raise InputError(f"--truth {text} is no file; give {', '.join(known)}, a .csv or a .json")
    return read_truth(Path(text), ranges)


def _cutoffs(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--at {text!r} is no list of ranks; write 1,5,10,20") from None


def _print(session: Session, found: Evaluation) -> None:
    if session.format == "json":
        print_json(found.as_json())
    else:
        from outcrop.query.evaluation.table import columns, remark, rows

        print_table(rows(found), columns(found), found.truth["text"])
        print(remark(found))
    for query, reason in sorted(found.left_out.items()):
        session.say(f"left out: {query}: {reason}")
    if found.short:
        session.warn(
            f"{found.short} rankings had fewer than {found.cutoffs[-1]} judged places, the rest was ignored: raise --depth"
        )
    if found.unreadable:
        asked = found.strategies[0].overall.queries + len(found.left_out)
        raise PartialFailure(
            f"{len(found.unreadable)} of {asked} query pictures could not be read; they are named above"
        )
