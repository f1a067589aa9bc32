"""What differs between the sources and the collection, judged here and nowhere else.

A listing is the desired state, the collection the actual one. An ingest applies the changes, `--dry-run` and `collection audit`
print them, `audit --fix` and `ingest retry` apply some of them. One rule holds for every kind of item; the first that applies
is the reason:

1. no row: *new*;
2. another file name, another altitude in the registry, another position in a file of positions, another size of the file, or
   another transform (crop, cameras, reader): *changed*;
3. features that are wanted are not kept: *lacking*;
4. the file's time is another, it was written after the row was made (`outcrop.ingest.checked`), or several files make the item:
   the bytes decide, so a touched file is *unchanged*. They decide, too, whether a PNG that has not been read whole yet is sound:
   a damaged one is *changed*;
5. output files that are wanted are not there: *lacking*, without being embedded again;
6. otherwise *unchanged*.

An item that states itself what it was made of (`Wanted`) is changed where its row states another digest, else unchanged. A
reference cut from its photograph is in order, too, where the written picture of it is wanted: until that is written anew.

A row that an earlier reader made of the same bytes is wrong; where today's reader refuses these, the row goes (`Change.misread`).

What is declared but not on disk has *no file*. Rows that no source wants are *gone*, where the source of the same parent is whole
(it makes fewer now: they are stale), or where `Outside` says so. Nothing is read but files whose time is another (all of them
with `digests`). In an ingest these are read by the threads that decode them: `compare` leaves them *open*, and `settled` closes
them with the digest of the bytes as decoded, so that a file is read once.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from outcrop.embed.reader_versions import damage_of, keeps_checksums
from outcrop.ingest.checked import CheckedFiles, written_since
from outcrop.ingest.features import FeatureKeeper
from outcrop.ingest.photos import PhotoSource
from outcrop.ingest.sources import (
    MAX_BYTES,
    FileState,
    LeavesOut,
    Listing,
    OfCapture,
    Source,
    Todo,
    Wanted,
    groups,
    is_of_capture,
)
from outcrop.schema.digests import SourceDigest, digest_of_file
from outcrop.schema.filters import equals
from outcrop.schema.item import UNKNOWN_COORDINATE, Item, Kind, made_together
from outcrop.schema.origin import Origin, origin_of
from outcrop.store.table import LOOKUP, Table

ChangeKind = Literal["new", "changed", "lacking", "unchanged", "no file", "gone"]
Row = Mapping[str, Any]
STORED = (
    "source",
    "source_size",
    "source_mtime_ns",
    "source_digest",
    "altitude",
    "latitude",
    "longitude",
    "ingested_at",
)
"""The fields of a stored row by which it is judged."""
STALE = "its file no longer makes it"
"""Why a row is gone whose file is there."""


@dataclass(frozen=True)
class Change:
    """What becomes of one item, and why. `wanted` is None for what is gone, or has no file.

    `against` is the digest of the bytes that the row was made of where these are still to be compared with the file's ('' = the
    change is settled). `embed` says whether the item must be embedded; what only lacks output files need not be. `misread` is
    the digest of the bytes that an earlier reader made the row of, where today's reads these otherwise ('' = it does not).
    """

    kind: ChangeKind
    key: str
    source: str
    reason: str = ""
    wanted: Wanted | None = None
    against: str = ""
    embed: bool = False
    misread: str = ""

    @property
    def open(self) -> bool:
        """Whether the file's bytes decide."""
        return bool(self.against)

    @property
    def todo(self) -> Todo:
        """The item as something to be made."""
        assert self.wanted is not None, "only wanted items are made"
        return Todo(self.wanted, self.embed)


class Outside(Protocol):
    """Judges rows that no source wants, of the kinds and dataset that a listing speaks for."""

    @property
    def scopes(self) -> Sequence[tuple[Kind, str]]:
        """The kinds and datasets whose rows are looked through."""
        ...

    @property
    def fields(self) -> Sequence[str]:
        """The fields it needs, beside `STORED`, `id` and `key`."""
        ...

    def judge(self, row: Row) -> Wanted | str | None:
        """What the row should be, why it is gone, or None where nothing can be said of it."""
        ...


def changes(
    listing: Listing,
    stored: Table | None,
    *,
    digests: bool = False,
    force: bool = False,
    features: FeatureKeeper | None = None,
    outside: Outside | None = None,
    arrays_stay: bool = False,
    checked: CheckedFiles | None = None,
    stale: bool = True,
) -> Iterator[Change]:
    """The change of everything that a listing declares, source by source, and then what is gone.

    `stored` is the collection (None = there is none yet). `digests` compares the bytes of every file; `force` makes everything
    again; with `features`, items that lack theirs count as lacking. With `arrays_stay` a row that was read from an array is in
    order as it is, whatever file is wanted; an ingest of that file would replace it. Without `checked` (files whose
    bytes are known), a file of the same size and time is taken for the same, whatever its ctime. Without `stale`, it is not asked
    what is gone: that is for whoever has the whole listing.

    Raises:
        OutcropError: the collection cannot be read. Whatever `outside` raises.
    """
    present = Present()
    yield from (Change("no file", failure.key, failure.path, failure.reason) for failure in listing.missing)
    for group in groups(listing.sources, LOOKUP):
        wanted = [source.wanted for source in group]
        ids = [each.item.id for some in wanted for each in some] if stored is not None and not force else []
        rows = stored.lookup(ids, STORED) if stored is not None else {}
        for source, some in zip(group, wanted, strict=True):
            for each in some:
                present.add(each.item, found=each.item.id in rows)
            present.cover(source, some)
            found = compare(source, some, rows, digests=digests, features=features, checked=checked)
            yield from _closed(source, [_kept(change, rows) for change in found] if arrays_stay else found)
    if stored is not None and stale:
        yield from present.gone(stored, outside, digests=digests, checked=checked)


def accounted(listing: Listing, stored: Table) -> tuple[Present, int]:
    """The items of a listing that have rows, and how many have none; opens no file.

    The parents of sources all of whose items are in order are covered. A file whose time alone is another counts as in order:
    whoever ingested it has compared its bytes.

    Raises:
        OutcropError: the collection cannot be read.
    """
    present, absent = Present(), 0
    for group in groups(listing.sources, LOOKUP):
        wanted = [source.wanted for source in group]
        rows = stored.lookup([each.item.id for some in wanted for each in some], STORED)
        for source, some in zip(group, wanted, strict=True):
            present.look_at(source)
            for each in some:
                if each.item.id in rows:
                    present.add(each.item, found=True)
                else:
                    absent += 1
            # Photographs cover nothing: their files need not be looked at.
            if not isinstance(source, PhotoSource) and all(
                change.kind == "unchanged" for change in compare(source, some, rows)
            ):
                present.cover(source, some)
    return present, absent


def compare(
    source: Source,
    wanted: Sequence[Wanted],
    rows: Mapping[str, Row],
    *,
    digests: bool = False,
    features: FeatureKeeper | None = None,
    checked: CheckedFiles | None = None,
) -> list[Change]:
    """The changes of a source's wanted items, given the stored rows (by id); opens no file.

    Those whose file has another time are left open (all that seem unchanged with `digests`): see `settled`.
    """
    state = functools.cache(_state_or_none)
    found = [_judged(each, rows.get(each.item.id), state, digests, features, checked) for each in wanted]
    return _all_or_none(found) if source.atomic else found


def settled(source: Source, some: Sequence[Change], digest: str, damage: str = "") -> list[Change]:
    """The changes of one of a source's files, closed by the digest of its bytes and what is damaged of them ('' = nothing)."""
    closed = [_settle(change, digest, damage) for change in some]
    return _all_or_none(closed) if source.atomic else closed


def _closed(source: Source, found: Sequence[Change]) -> Iterator[Change]:
    """Changes with the open ones settled by reading their files, each once."""
    digest, damage = functools.cache(_digest_or_none), functools.cache(_damage_or_none)
    closed = []
    for change in found:
        if change.open:
            assert change.wanted is not None
            change = _settle(change, digest(change.wanted.files), damage(change.wanted.files))
        closed.append(change)
    yield from _all_or_none(closed) if source.atomic else closed


def _kept(change: Change, rows: Mapping[str, Row]) -> Change:
    """The change, or none where the row was read from an array."""
    assert change.wanted is not None
    item = change.wanted.item
    row = rows.get(item.id)
    if row is None or origin_of(item.kind, item.dataset, row["source"]) is not Origin.VECTOR:
        return change
    return Change("unchanged", item.key, row["source"], wanted=change.wanted)


def _state_or_none(files: tuple[Path, ...]) -> FileState | None:
    try:
        return FileState.of(*files)
    except OSError:
        return None  # whoever reads it says why


def _digest_or_none(files: tuple[Path, ...]) -> str:
    try:
        return digest_of_file(*files)
    except OSError:
        return ""  # whoever reads it says why


def _damage_or_none(files: tuple[Path, ...]) -> str:
    path = files[0]
    try:
        whole = keeps_checksums(path) and path.stat().st_size <= MAX_BYTES
        return damage_of(path.read_bytes()) if whole else ""
    except OSError:
        return ""  # whoever reads it says why


def _judged(
    wanted: Wanted,
    row: Row | None,
    state: Callable[[tuple[Path, ...]], FileState | None],
    digests: bool,
    features: FeatureKeeper | None,
    checked: CheckedFiles | None,
) -> Change:
    item = wanted.item

    def change(kind: ChangeKind, reason: str, embed: bool = True, against: str = "", misread: str = "") -> Change:
        return Change(kind, item.key, item.source, reason, wanted, against, embed, misread)

    if row is None:
        return change("new", "it is not in the collection")
    if _made_instead(wanted, row, state, features):
        return change("unchanged", "", embed=False)
    if row["source"] != item.source:
        return change("changed", f"its file was {row['source']}")
    if wanted.altitude_stated and row["altitude"] != item.altitude:
        return change("changed", f"its altitude was {row['altitude']:g} m, the registry says {item.altitude:g} m")
    # Before its file is read, an item has a position only where another file states it.
    stated = not item.source_digest and item.latitude != UNKNOWN_COORDINATE
    if stated and (row["latitude"], row["longitude"]) != (item.latitude, item.longitude):
        return change("changed", "its position was another than the file of positions states")
    if item.source_digest:
        same = item.source_digest == row["source_digest"]
        return change("unchanged", "", embed=False) if same else change("changed", "it was made of another file")
    now = state(wanted.files)
    if now is None:
        return change("changed", "its file cannot be accessed")
    if now.size != row["source_size"]:
        return change("changed", f"its file had {row['source_size']} bytes, now {now.size}")
    digest = SourceDigest.parse(row["source_digest"])
    if digest.transform != wanted.transform:
        misread = digest.file if digest.transform == wanted.process else ""
        return change("changed", "it was made in another way (crop, cameras, or reader)", misread=misread)
    if features is not None and features.lacks(item, row):
        return change("lacking", "its features are not kept")
    # Of several files only the newest time is stored: another may have been replaced by an older one of the same size.
    touched = digests or bool(wanted.others) or now.mtime_ns != row["source_mtime_ns"]
    if touched and not digest.file:
        return change("changed", "the time of its file is another")
    unsure = written_since(now, row) if checked is not None else False
    if digest.file and not touched and (unsure or _is_unproven(wanted)):
        touched = checked is None or not checked.knows(wanted.path, now, digest.file)
    against = digest.file if touched else ""
    if (unwritten := next((path for path in wanted.outputs if not path.exists()), None)) is not None:
        return change("lacking", f"{unwritten} is missing", embed=False, against=against)
    return change("unchanged", "", embed=False, against=against)


def _made_instead(
    wanted: Wanted, row: Row, state: Callable[[tuple[Path, ...]], FileState | None], features: FeatureKeeper | None
) -> bool:
    """Whether the row was made of the other file that may make the item, which is as it was, and ours not newer than the row."""
    instead = wanted.instead
    if instead is None or row["source"] != instead.item.source:
        return False
    now = state(wanted.files)
    if now is None or not row["ingested_at"] or now.mtime_ns > _nanoseconds(row["ingested_at"]):
        return False
    found, photo = _judged(instead, row, state, False, features, None), state(instead.files)
    return found.kind == "unchanged" and photo is not None and photo.mtime_ns == row["source_mtime_ns"]


def _is_unproven(wanted: Wanted) -> bool:
    """Whether a row of the file may have been made of damaged pixels, by a version that did not compare their checksums."""
    if wanted.others or wanted.item.kind not in (Kind.IMAGE, Kind.REFERENCE):
        return False
    return keeps_checksums(wanted.path, cropped=bool(wanted.process))


def _nanoseconds(moment: str) -> int:
    """An ISO 8601 time, of the milliseconds that rows keep, as the last nanosecond since 1970 that it may mean."""
    return (round(datetime.fromisoformat(moment).timestamp() * 1000) + 1) * 1_000_000 - 1


def _settle(change: Change, digest: str, damage: str = "") -> Change:
    if not change.open:
        return change
    if digest == change.against and damage:
        reason = f"its file is damaged ({damage}), and was not refused when it was embedded"
        return replace(change, kind="changed", reason=reason, embed=True, against="", misread=digest)
    if digest == change.against:
        return replace(change, against="")
    return replace(change, kind="changed", reason="its file holds other bytes", embed=True, against="")


def _all_or_none(found: Sequence[Change]) -> list[Change]:
    """The changes of an atomic source: where one item must be made, or lacks an output, all are made."""
    if all(change.kind == "unchanged" for change in found):
        return list(found)
    reason = "it is made together with the others of its file"
    return [
        change
        if change.embed
        else replace(change, kind="lacking", reason=change.reason or reason, embed=True, against="")
        for change in found
    ]


class Present:
    """The items that are accounted for in a pass over sources, and the parents all of whose items are.

    Memory: about 100 bytes for each item. Not safe for threads.
    """

    def __init__(self) -> None:
        self._ids: set[bytes] = set()
        self._found: Counter[tuple[Kind, str]] = Counter()
        self._covered: set[str] = set()
        self._scopes: set[tuple[Kind, str]] = set()
        self.left_out_before = 0
        """Items that sources do not want any more, since an earlier pass left them out."""

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, item: Item, *, found: bool) -> None:
        """Accounts for an item; `found` says whether it has a row."""
        id = bytes.fromhex(item.id)
        if id not in self._ids:
            self._ids.add(id)
            self._found[item.kind, item.dataset] += found

    def look_at(self, source: Source) -> None:
        """Counts what a source does not want any more."""
        if not isinstance(source, PhotoSource) and isinstance(source, LeavesOut):
            self.left_out_before += source.left_out_before

    def cover(self, source: Source, wanted: Sequence[Wanted]) -> None:
        """Notes that all items of a source are accounted for; photographs make one each, so nothing of theirs can be stale,
        unless they are the frames of a film."""
        if isinstance(source, PhotoSource):  # whether it is of a capture takes far longer to ask, of a million
            return
        of_capture = cast("OfCapture", source) if is_of_capture(type(source)) else None
        if source.whole and (of_capture is not None or wanted[0].item.kind is not Kind.IMAGE):
            self._covered.add(of_capture.capture_key if of_capture is not None else made_together(wanted[0].item.key))
            self._scopes.update((each.item.kind, each.item.dataset) for each in wanted)

    def gone(
        self,
        stored: Table,
        outside: Outside | None = None,
        *,
        digests: bool = False,
        checked: CheckedFiles | None = None,
    ) -> Iterator[Change]:
        """The rows that nobody accounted for: stale ones of covered parents, and those on which `outside` decides.

        Rows are looked through only where there are more of a kind and dataset than were found.
        """
        scopes = self._scopes | set(outside.scopes if outside is not None else ())
        fields = ["id", "key", *STORED, *(outside.fields if outside is not None else ())]
        for kind, dataset in sorted(scopes):
            filter = equals("kind", str(kind)) & equals("dataset", dataset)
            if stored.count(filter) == self._found[kind, dataset]:
                continue
            for rows in stored.scan_rows(filter, fields):
                for row in rows:
                    if bytes.fromhex(row["id"]) in self._ids:
                        continue
                    if not self._covered.isdisjoint((made_together(row["key"]), row["key"].rpartition("/")[0])):
                        yield Change("gone", row["key"], row["source"], STALE)
                    elif outside is not None:
                        yield from _outside(row, outside, digests, checked)

    def absent(self, stored: Table) -> int:
        """How many of the items have no row."""
        ids, found = iter(self._ids), 0
        while page := [id.hex() for id in islice(ids, LOOKUP)]:
            found += stored.held(page)
        return len(self) - found


def _outside(row: Row, outside: Outside, digests: bool, checked: CheckedFiles | None) -> Iterator[Change]:
    verdict = outside.judge(row)
    if isinstance(verdict, str):
        yield Change("gone", row["key"], row["source"], verdict)
    elif verdict is not None:
        change = _judged(verdict, row, _state_or_none, digests, None, checked)
        closed = change.open and _settle(change, _digest_or_none(verdict.files), _damage_or_none(verdict.files))
        yield closed or change
