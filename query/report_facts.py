"""What a report says of queries and hits, in words, with as many digits as mean something."""

from __future__ import annotations

from outcrop.query.answers import Hit, Result
from outcrop.query.ground import distances
from outcrop.query.verification.confidence import Verification
from outcrop.schema.angles import angle_text
from outcrop.schema.columns import ColumnValue, own_of
from outcrop.schema.item import UNKNOWN_COORDINATE, Item, Kind


def headline(hit: Hit, verification: Verification | None) -> str:
    """The number beside a hit's rank: inliers where it is verified, the similarity of the embeddings otherwise."""
    if verification is not None and verification.verified and verification.match is not None:
        return f"{verification.match.inliers:,} inliers"
    return f"{hit.score:.4f}"


def own_columns(item: Item) -> list[tuple[str, str]]:
    """The own columns of an item, as names and texts."""

    def text(value: ColumnValue) -> str:
        if isinstance(value, bool):
            return "yes" if value else "no"
        return value if isinstance(value, str) else f"{value:.12g}"

    return [(name, text(value)) for name, value in own_of(item.extra).items()]


def query_facts(result: Result) -> list[str]:
    """What is known of a query: where and when it was taken, and where its hits say that it was."""
    query, place = result.query, result.query.place
    facts = []
    if place is not None:
        facts.append(_place(*place))
    if query.metadata is not None and query.metadata.captured_at:
        facts.append(query.metadata.captured_at.replace("T", " "))
    if query.item is not None and query.item.altitude:
        facts.append(f"{metres(query.item.altitude)} above ground")
    located = result.location
    if located is not None:
        facts.append(
            f"by {len(located.matches)} hits at {_place(located.latitude, located.longitude)}, give or take "
            f"{metres(located.sigma_m)}; heading {angle_text(located.heading)}°"
        )
        if place is not None:
            off = float(distances(*place, located.latitude, located.longitude))
            facts.append(f"{metres(off)} from its own GPS")
        facts += located.remarks
    elif result.no_location:
        facts.append(f"not located: {result.no_location}")
    return facts


def hit_facts(hit: Hit, verification: Verification | None, place: tuple[float, float] | None) -> list[str]:
    """What is known of a hit; `place` is the query's. Of the rotations that are known, the surest is named."""
    item, group = hit.item, hit.group
    facts = [item.category] if item.category else []
    if verification is not None:
        facts.append(f"embedding {hit.score:.4f}" if verification.verified else f"not verified: {verification.reason}")
    facts += _rotation(hit, verification)
    if group is not None:
        if group.margin is not None:
            facts.append(f"{group.margin:.4f} before the next")
        facts.append(f"{group.votes} of the best comparisons")
    if item.altitude:
        facts.append(f"{metres(item.altitude)} above ground")
    if item.view >= 0:
        facts.append(f"view {item.view}")
    if item.captured_at:
        facts.append(item.captured_at.replace("T", " "))
    return facts + _where(item, place)


def _rotation(hit: Hit, verification: Verification | None) -> list[str]:
    """How the query is turned: as geometry verified it, else as the references say; else how the reference itself was made."""
    if verification is not None and verification.verified and verification.match is not None:
        return [f"query turned {angle_text(verification.match.rotation or 0.0)}° counter-clockwise, verified"]
    if hit.group is not None and hit.group.rotation is not None:
        return [f"query turned {angle_text(hit.group.rotation)}° counter-clockwise"]
    if hit.item.kind is Kind.REFERENCE:
        return [f"reference turned {hit.item.rotation:g}°, crop {hit.item.crop}"]
    return []


def _where(item: Item, place: tuple[float, float] | None) -> list[str]:
    if item.latitude == UNKNOWN_COORDINATE:
        return []
    facts = [_place(item.latitude, item.longitude)]
    if place is not None:
        facts.append(f"{metres(float(distances(*place, item.latitude, item.longitude)))} from the query's GPS")
    return facts


def _place(latitude: float, longitude: float) -> str:
    """Five decimals are a metre, which is finer than the GPS of a drone."""
    return f"{latitude:.5f}°, {longitude:.5f}°"


def metres(value: float) -> str:
    """``0.34 m``, ``12.3 m``, ``1,234 m``: three digits, and no decimals from a hundred metres on."""
    decimals = 0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    return f"{value:,.{decimals}f} m"
