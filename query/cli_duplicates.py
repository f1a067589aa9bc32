"""`query duplicates`: items that show the same, in groups."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

from outcrop.query.commands import app
from outcrop.query.console import opened
from outcrop.query.options import Conditions
from outcrop.screen.options import CSV, REGISTRY, STATE, STORE, Session, command, hidden, option
from outcrop.screen.progress import Meter
from outcrop.screen.tables import print_csv, print_json, print_table

if TYPE_CHECKING:
    from outcrop.query.best_picture import Group
    from outcrop.query.duplicates import Verify
    from outcrop.query.verification.originals import Originals
    from outcrop.store.collection import Collection

THRESHOLD = 0.95


@command(app, STORE, hidden(REGISTRY), STATE, CSV)
def duplicates(
    session: Session,
    conditions: Conditions,
    threshold: Annotated[
        float, option("--threshold", help="Similarity from which two items are near-duplicates, up to 1. [0.95]")
    ] = THRESHOLD,
    geometric: Annotated[
        bool, option("--verify", help="Near-duplicates must also show the same by geometry (local features).")
    ] = False,
) -> None:
    """Find items of the same file, and near-duplicates, in groups with the best of each; nothing is deleted."""
    from outcrop.query.best_picture import judged
    from outcrop.query.duplicates import find_duplicates
    from outcrop.query.held import require_held
    from outcrop.query.verification.originals import Originals

    condition = conditions.condition
    with opened(session) as collection:
        require_held(condition, collection)
        originals = Originals.of_collection(collection, session.settings)
        with (
            _verified(session, collection, originals, geometric) as verify,
            Meter("compare", None, "items", session.quiet) as meter,
        ):
            found = find_duplicates(collection, threshold, condition, verify=verify, progress=meter.update)
        groups = [judged(each, collection, originals) for each in found]
        _print(session, groups, collection.name, threshold)


@contextmanager
def _verified(session: Session, collection: Collection, originals: Originals, wanted: bool) -> Iterator[Verify | None]:
    """What verifies pairs by geometry, if that is wanted; warns of pictures that are gone."""
    if not wanted:
        yield None
        return
    from outcrop.query.verification.verifier import Verifier
    from outcrop.query.verified_pairs import VerifiedPairs

    with Verifier.below(session.settings.state, session.settings.feature_cache_bytes) as verifier:
        pairs = VerifiedPairs(collection, originals, verifier)
        yield pairs
    if pairs.missing:
        reason = next(iter(pairs.missing.values()))
        session.warn(
            f"{len(pairs.missing)} items could not be verified and are left out, the first one because: {reason}"
        )


def _print(session: Session, groups: list[Group], name: str, threshold: float) -> None:
    from outcrop.query.best_picture import COLUMNS
    from outcrop.query.keys import shorter_keys

    rows = [row for number, group in enumerate(groups, 1) for row in group.rows(number)]
    if session.format == "json":
        numbered = [{"identical": group.identical, "items": group.rows(n)} for n, group in enumerate(groups, 1)]
        print_json({"collection": name, "threshold": threshold, "groups": numbered})
    elif session.format == "csv":
        print_csv(rows, COLUMNS)
    elif groups:
        title = f"{len(groups)} groups, {len(rows)} items; the best of each comes first"
        forms = {"key": shorter_keys([row["key"] for row in rows])}
        print_table(rows, COLUMNS, title, ("group", "best", "key"), forms)
    if not groups:
        session.say(f"no two items are made of the same file, or as alike as {threshold:g}")
