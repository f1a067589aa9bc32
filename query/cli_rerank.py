"""The options of re-ranking, and the step itself, as `query image`, `query item` and `query dataset` share them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from schema.errors import InputError, UsageError, nearest
from screen.options import Session

if TYPE_CHECKING:
    from query.answers import Result, Results
    from query.rerank import Reranking

METHODS = ("geometric",)

Rerank = Annotated[
    Optional[str],
    typer.Option(
        "--rerank",
        help="geometric: hold the candidates against the query by local features, and rank verified ones first.",
        show_default=False,
    ),
]
Depth = Annotated[
    Optional[int],
    typer.Option(
        "--rerank-depth", min=1, max=16384, help="Candidates held against each query. [50]", show_default=False
    ),
]
MinInliers = Annotated[
    Optional[int],
    typer.Option(
        "--min-inliers",
        min=4,
        help="Give only hits with so many inliers: no match rather than a guess. [unverified hits stay; 12 verify]",
        show_default=False,
    ),
]

Locate = Annotated[
    bool,
    typer.Option(
        "--locate", help="Estimate where the query was taken, from verified hits. Implies --rerank geometric."
    ),
]
GeoJson = Annotated[
    Optional[Path],
    typer.Option(
        "--geojson", help="Write where the queries were taken, as GeoJSON. Implies --locate.", show_default=False
    ),
]

Step = Callable[["Results"], "Results"]


def reranking(
    method: str | None, depth: int | None, min_inliers: int | None, *, locate: bool = False
) -> Reranking | None:
    """What the options say; None where nothing is to be re-ranked. `locate` needs it.

    Raises:
        UsageError: options of re-ranking without it. InputError: there is no such method.
    """
    if method is None and locate:
        method = METHODS[0]
    if method is None:
        if depth is not None or min_inliers is not None:
            raise UsageError("--rerank-depth and --min-inliers go with --rerank geometric")
        return None
    if method not in METHODS:
        raise InputError(f"--rerank is {' or '.join(METHODS)}, not {method!r}{nearest(method, METHODS)}")
    from query.rerank import Reranking

    how = Reranking()
    return Reranking(
        how.depth if depth is None else depth,
        how.min_inliers if min_inliers is None else min_inliers,
        abstain=min_inliers is not None,
    )


@contextmanager
def reranker(session: Session, how: Reranking | None, k: int, *, locate: bool = False) -> Iterator[Step]:
    """The step that re-ranks results, locates queries where `locate`, and keeps the first `k` hits; without `how` it does nothing.

    Raises:
        RegistryError: the registry, which says where the pictures are, cannot be read.
    """
    if how is None:
        yield lambda results: results
        return
    from query.answers import first_hits
    from query.locate import locate_all
    from query.originals import Originals
    from query.rerank import rerank
    from query.verifier import Verifier

    settings = session.settings
    originals = Originals.of(settings.registry, settings.datasets_folder)
    with Verifier.below(settings.state, settings.feature_cache_bytes) as verifier:

        def step(results: Results) -> Results:
            ranked = rerank(results, verifier, originals, how)
            return first_hits(locate_all(ranked) if locate else ranked, k)

        yield step


def wider(how: Reranking | None, k: int) -> int:
    """How many hits to search for, so that there are enough candidates."""
    return k if how is None else max(k, how.depth)


def check_geojson(path: Path | None) -> None:
    """Before any work: a file that could not be written would lose it."""
    if path is not None and path.is_dir():
        raise InputError(f"--geojson {path} is a folder; give the name of a file")
    if path is not None and not path.absolute().parent.is_dir():
        raise InputError(f"--geojson {path}: the folder {path.absolute().parent} does not exist; create it")


def say_locations(session: Session, results: Sequence[Result], geojson: Path | None) -> None:
    """Where the queries were taken, for people; and the file."""
    for result in results:
        if result.location is not None and session.format == "table":
            place = result.location
            print(
                f"{result.query.name}: {place.latitude:.6f}, {place.longitude:.6f}, give or take {place.spread:.1f} m; "
                f"heading {place.heading:.0f}; from {len(place.witnesses)} hits ({place.method})"
            )
            for remark in place.remarks:
                session.say(f"note: {remark}")
        elif result.no_location:
            session.say(f"not located: {result.query.name}: {result.no_location}")
    if geojson is not None:
        from query.location import write_geojson

        located = [(r.query.name, r.location) for r in results if r.location is not None]
        session.say(f"GeoJSON: {write_geojson(located, geojson).absolute()}")


def say_verdicts(session: Session, batches: Sequence[Results]) -> None:
    """What re-ranking has to say on stderr: queries without a match, and originals that are gone."""
    results = [result for batch in batches for result in batch.results]
    for result in results:
        if result.match is False:
            session.say(f"no match: {result.query.name}: {result.no_match}")
    gone = {
        parent: verdict.reason for result in results for parent, verdict in result.verdicts.items() if verdict.unseen
    }
    for reason in list(dict.fromkeys(gone.values()))[:5]:
        session.warn(f"not verified: {reason}")
    if len(gone) > 5:
        session.warn(f"not verified: {len(gone)} candidates in all, which have no picture; --json names them")
