"""The options of re-ranking, and the step itself, as `query image`, `query item` and `query dataset` share them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from outcrop.query.console import open_encoder
from outcrop.schema.errors import InputError, UsageError, nearest
from outcrop.screen.options import Session

if TYPE_CHECKING:
    from outcrop.embed.encoder import Encoder
    from outcrop.query.answers import Result, Results
    from outcrop.query.verification.rerank import Reranking
    from outcrop.store.collection import Collection

METHODS = ("geometric",)
FEATURES = ("sift", "patch")

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
        help="Give only hits with so many inliers: no match rather than a guess. [unverified hits stay; 12 verify; patch: 25]",
        show_default=False,
    ),
]
Features = Annotated[
    Optional[str],
    typer.Option(
        "--features",
        help="Local features that re-ranking holds: sift, or patch (tokens of the collection's model; those that "
        "`ingest … --features patch` kept are read). [sift]",
        show_default=False,
    ),
]
FeaturesFolder = Annotated[
    Optional[Path],
    typer.Option(
        "--features-folder",
        help="Where kept patch features lie. [features below OUTCROP_EXPORTS]",
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


@dataclass(frozen=True)
class Asked:
    """What the options of re-ranking say: how, and of which local features; `folder` holds kept ones (None: the usual one)."""

    how: Reranking
    features: str = "sift"
    folder: Path | None = None


def reranking(
    method: str | None,
    depth: int | None,
    min_inliers: int | None,
    features: str | None = None,
    folder: Path | None = None,
    *,
    locate: bool = False,
) -> Asked | None:
    """What the options say; None where nothing is to be re-ranked. `locate` needs it.

    Raises:
        UsageError: options of re-ranking without it. InputError: there is no such method, or no such features.
    """
    if method is None and locate:
        method = METHODS[0]
    if method is None:
        if any(option is not None for option in (depth, min_inliers, features, folder)):
            raise UsageError(
                "--rerank-depth, --min-inliers, --features and --features-folder go with --rerank geometric"
            )
        return None
    if method not in METHODS:
        raise InputError(f"--rerank is {' or '.join(METHODS)}, not {method!r}{nearest(method, METHODS)}")
    features = features or FEATURES[0]
    check_features(features)
    if folder is not None and features != "patch":
        raise UsageError("--features-folder goes with --features patch")
    from outcrop.query.verification.confidence import least_inliers
    from outcrop.query.verification.rerank import Reranking

    how = Reranking(
        Reranking().depth if depth is None else depth,
        least_inliers(features) if min_inliers is None else min_inliers,
        abstain=min_inliers is not None,
    )
    return Asked(how, features, folder)


def check_features(features: str) -> None:
    """Refuses local features that there are not.

    Raises:
        InputError: naming those that there are.
    """
    if features not in FEATURES:
        raise InputError(f"--features is one of {', '.join(FEATURES)}, not {features!r}{nearest(features, FEATURES)}")


@contextmanager
def reranker(
    session: Session,
    asked: Asked | None,
    k: int,
    collection: Collection,
    encoder: Encoder | None = None,
    *,
    locate: bool = False,
) -> Iterator[Step]:
    """The step that re-ranks results of a collection, locates queries where `locate`, and keeps the first `k` hits; it does
    nothing where nothing is `asked`. Without an `encoder`, patch tokens open the collection's own once they need it.

    Raises:
        RegistryError: the registry, which says where the pictures are, cannot be read.
    """
    if asked is None:
        yield lambda results: results
        return
    from outcrop.query.answers import first_hits
    from outcrop.query.verification.locate import locate_all
    from outcrop.query.verification.originals import Originals
    from outcrop.query.verification.rerank import rerank
    from outcrop.query.verification.verifier import Verifier

    settings = session.settings
    originals = Originals.of(settings.registry, settings.datasets_folder)
    extractor, kept = None, None
    if asked.features == "patch":
        from outcrop.embed.feature_files import FeatureFolder
        from outcrop.query.verification.patch_tokens import PatchTokens, StoredTokens

        extractor = PatchTokens(collection.space, lambda: encoder or open_encoder(session, collection))
        folder = asked.folder or settings.features_folder
        kept = StoredTokens(FeatureFolder.below(folder, collection.space)).of
    with Verifier.below(settings.state, settings.feature_cache_bytes, extractor) as verifier:

        def step(results: Results) -> Results:
            ranked = rerank(results, verifier, originals, asked.how, kept=kept)
            return first_hits(locate_all(ranked) if locate else ranked, k)

        yield step


def wider(asked: Asked | None, k: int) -> int:
    """How many hits to search for, so that there are enough candidates."""
    return k if asked is None else max(k, asked.how.depth)


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
        from outcrop.query.verification.location import write_geojson

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
