"""Truth from files: a CSV of pairs with their overlap, a JSON of footprints on the ground (docs/evaluation.md)."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.query.answers import Query
from outcrop.query.evaluation.gallery import Gallery, parent_named
from outcrop.query.evaluation.truth import CategoryTruth, Facts, GpsTruth, Judgement, OwnTruth, Ranges, Truth, facts_of
from outcrop.query.ground import is_convex, shares
from outcrop.schema.digests import digest_of
from outcrop.schema.errors import InputError, nearest
from outcrop.schema.item import parent_of

MAX_BYTES = 2**28
"""Of a truth file."""


def truth_named(
    name: str,
    gps: GpsTruth = GpsTruth(),
    category: CategoryTruth = CategoryTruth(),
    ranges: Ranges = Ranges(),
) -> Truth:
    """The truth of a name, "own", "gps" or "category", or of a file of pairs (.csv) or footprints (.json).

    Raises:
        InputError: it is neither a name nor a file, or the file is not as it must be.
    """
    known: dict[str, Truth] = {"own": OwnTruth(), "gps": gps, "category": category}
    if name in known:
        return known[name]
    if not Path(name).is_file():
        raise InputError(f"--truth must be {', '.join(known)}, a .csv or a .json file, got {name!r}")
    return read_truth(Path(name), ranges)


def read_truth(path: Path, ranges: Ranges = Ranges()) -> Truth:
    """The truth in a file: footprints where its name ends in .json, pairs otherwise.

    Raises:
        InputError: the file cannot be read, or does not say what is needed.
    """
    return FootprintTruth.read(path, ranges) if path.suffix.lower() == ".json" else PairsTruth.read(path, ranges)


class PairsTruth:
    """Pairs of a query and a parent with their overlap (0 to 1); a pair that is not listed has no overlap.

    `pairs` has for each query its parents' overlaps, `stated` what the file says about the query.
    """

    def __init__(
        self,
        path: Path,
        pairs: Mapping[str, Mapping[str, float]],
        stated: Mapping[str, Facts],
        ranges: Ranges = Ranges(),
    ) -> None:
        self.path, self.pairs, self.stated, self.ranges = path, pairs, stated, ranges
        self._names = _Names(pairs)

    @classmethod
    def read(cls, path: Path, ranges: Ranges = Ranges()) -> PairsTruth:
        """Reads a CSV with the columns ``query`` and ``item``, and optionally ``overlap`` (0 to 1; 1 if left out), and
        ``altitude``, ``rotation`` and ``dataset`` of the query.

        Raises:
            InputError: naming the line and what is wrong with it.
        """
        pairs: dict[str, dict[str, float]] = {}
        stated: dict[str, Facts] = {}
        rows = csv.DictReader(io.StringIO(_text(path), newline=""))
        try:
            columns, lines = list(rows.fieldnames or ()), [(rows.line_num, row) for row in rows]
        except csv.Error as error:
            raise InputError(f"{path}, line {rows.line_num}: {error}; save it as comma-separated text") from None
        for column in ("query", "item"):
            if column not in columns:
                raise InputError(
                    f"{path} has no column {column!r} (its columns: {', '.join(columns) or 'none'})"
                    f"{nearest(column, columns)}; a CSV of pairs has query,item and perhaps overlap"
                )
        for line, row in lines:
            where = f"{path}, line {line}"
            query = row["query"] or ""
            if not query:
                raise InputError(f"{where}: no query; give the key of an item or the path of a picture")
            try:
                parent = parent_named(row["item"] or "")
            except InputError as error:
                raise InputError(f"{where}: {error}") from None
            overlap = _number(row["overlap"], f"{where}: overlap", 0, 1) if "overlap" in columns else 1.0
            known = pairs.setdefault(query, {})
            if known.get(parent, overlap) != overlap:
                raise InputError(
                    f"{where}: {query} and {parent} have two overlaps ({known[parent]:g} and {overlap:g}); keep one"
                )
            known[parent] = overlap
            altitude, rotation = (
                _number(row[name], f"{where}: {name}") if row.get(name) else None for name in ("altitude", "rotation")
            )
            stated.setdefault(query, Facts(altitude, rotation, row.get("dataset") or ""))
        if not pairs:
            raise InputError(f"{path} holds no pair; write query,item,overlap and a line for each pair")
        return cls(path, pairs, stated, ranges)

    def describe(self) -> dict[str, Any]:
        digest = digest_of(json.dumps(self.pairs, sort_keys=True))
        return {"kind": "pairs", **self.ranges.describe(), "file": str(self.path), "digest": digest}

    def judge(self, query: Query, gallery: Gallery) -> Judgement:
        own = gallery.own(query.item, query.digest)
        overlaps = np.zeros(len(gallery.parents))
        name = self._names.find(query)
        if name is None:
            return Judgement(overlaps.astype(np.int8), overlaps, own, facts_of(query), f"not in {self.path.name}")
        for parent, overlap in self.pairs[name].items():
            if parent in gallery.index:
                overlaps[gallery.index[parent]] = overlap
        stated, facts = self.stated[name], facts_of(query, gallery, overlaps)
        facts = Facts(
            facts.altitude if stated.altitude is None else stated.altitude,
            facts.rotation if stated.rotation is None else stated.rotation % 360,
            stated.dataset or facts.dataset,
        )
        return Judgement(self.ranges.grade(overlaps), overlaps, own, facts)


@dataclass(frozen=True)
class Outline:
    """The ground that a photograph shows: corners [M, 2] in metres, heading in degrees and metres above ground where known.

    `parent` is the photograph's key, '' of a picture that is not an item's.
    """

    corners: NDArray[np.float64]
    heading: float | None = None
    altitude: float | None = None
    parent: str = ""


class FootprintTruth:
    """Overlap is the share of the query's ground that the other photograph shows.

    `items` has the outlines of photographs by key, `pictures` those of query pictures by path, all in one plane.
    """

    def __init__(
        self,
        path: Path,
        items: Mapping[str, Outline],
        pictures: Mapping[str, Outline],
        ranges: Ranges = Ranges(),
    ) -> None:
        self.path, self.items, self.pictures, self.ranges = path, items, pictures, ranges
        self._names = _Names(pictures)
        self._stacked: tuple[Gallery, NDArray[np.intp], NDArray[np.float64]] | None = None

    @classmethod
    def read(cls, path: Path, ranges: Ranges = Ranges()) -> FootprintTruth:
        """Reads a JSON as the sample world's truth is: ``dataset`` (entries with ``key``) and ``queries`` (with ``path``), each
        with a ``footprint`` (corners of a convex polygon, in metres) and perhaps ``heading`` and ``altitude``.

        Raises:
            InputError: naming the entry and what is wrong with it.
        """
        try:
            known = json.loads(_text(path))
            sections = {name: list(known.get(name, ())) for name in ("dataset", "queries")}
        except (ValueError, AttributeError, TypeError, RecursionError):
            raise InputError(
                f"{path} is not a JSON file of footprints: an object with the lists dataset and queries"
            ) from None
        items = dict(_entry(entry, f"{path}: dataset[{i}]", "key") for i, entry in enumerate(sections["dataset"]))
        pictures = dict(_entry(entry, f"{path}: queries[{i}]", "path") for i, entry in enumerate(sections["queries"]))
        if not items:
            raise InputError(f"{path} has no footprint of an item: 'dataset' lists entries with key and footprint")
        return cls(path, items, pictures, ranges)

    def describe(self) -> dict[str, Any]:
        ranges = self.ranges.describe()
        text = ranges["text"].replace("overlaps the query by at least", "shows, of the query's ground, at least")
        outlines = {**self.items, **{f"/{name}": outline for name, outline in self.pictures.items()}}
        digest = digest_of(
            json.dumps({name: outline.corners.tolist() for name, outline in outlines.items()}, sort_keys=True)
        )
        return {"kind": "footprints", **ranges, "text": text, "file": str(self.path), "digest": digest}

    def judge(self, query: Query, gallery: Gallery) -> Judgement:
        own = gallery.own(query.item, query.digest)
        overlaps = np.full(len(gallery.parents), np.nan)
        if query.item is not None:
            outline = self.items.get(parent_of(query.item.key))
        else:
            name = self._names.find(query)
            outline = None if name is None else self.pictures[name]
        if outline is None:
            grades = np.zeros(len(overlaps), np.int8)
            return Judgement(grades, overlaps, own, facts_of(query), f"not in {self.path.name}")
        if own is None:
            own = gallery.index.get(outline.parent)
        known, corners = self._corners(gallery)
        overlaps[known] = shares(outline.corners, corners)
        others = np.where(np.isnan(overlaps), -1.0, overlaps)
        facts = facts_of(query, gallery, overlaps)
        if own is not None:
            others[own] = -1.0
        nearby = self.items.get(gallery.parents[int(np.argmax(others))])
        if nearby is not None and nearby.heading is not None and outline.heading is not None and others.max() > 0:
            turn = (outline.heading - nearby.heading) % 360
            facts = replace(facts, rotation=min(turn, 360 - turn))
        if facts.altitude is None:
            facts = replace(facts, altitude=outline.altitude)
        return Judgement(self.ranges.grade(overlaps), overlaps, own, facts)

    def _corners(self, gallery: Gallery) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Which parents have outlines, and their corners [N, M, 2], the last repeated; kept, for every query needs them."""
        if self._stacked is None or self._stacked[0] is not gallery:
            known = [i for i, parent in enumerate(gallery.parents) if parent in self.items]
            rings = [self.items[gallery.parents[i]].corners for i in known]
            most = max((len(ring) for ring in rings), default=3)
            padded = [np.concatenate((ring, np.repeat(ring[-1:], most - len(ring), 0))) for ring in rings]
            self._stacked = (gallery, np.array(known, np.intp), np.array(padded).reshape(len(known), most, 2))
        return self._stacked[1], self._stacked[2]


class _Names:
    """Finds what a truth file calls a query: its key, its path, or as many of the path's last parts as the file gives."""

    def __init__(self, known: Iterable[str]) -> None:
        self._known = {PurePath(name).as_posix(): name for name in known}
        self._taken: dict[str, str] = {}

    def find(self, query: Query) -> str | None:
        if query.item is not None:
            return self._known.get(query.name)
        parts = PurePath(query.name).parts
        for first in range(len(parts)):
            name = self._known.get(PurePath(*parts[first:]).as_posix())
            if name is not None:
                other = self._taken.setdefault(name, query.name)
                if other != query.name:
                    raise InputError(
                        f"the truth file's {name!r} fits two pictures, {other} and {query.name}; name more of their paths in it"
                    )
                return name
        return None


def _entry(entry: Any, where: str, naming: str) -> tuple[str, Outline]:
    """What an entry of the footprints is called, and its outline."""
    if not isinstance(entry, dict) or not isinstance(entry.get(naming), str):
        raise InputError(f"{where} has no {naming!r}; an entry is an object with {naming} and footprint")
    name, where = entry[naming], f"{where} ({entry[naming]!r})"
    try:
        corners = np.array(entry.get("footprint"), dtype=np.float64)
    except (ValueError, TypeError):
        corners = np.zeros(0)
    if corners.ndim != 2 or corners.shape[1] != 2 or not np.isfinite(corners).all() or not is_convex(corners):
        raise InputError(
            f"{where}: footprint is not a convex polygon; give its corners [[x, y], …] in metres, in order"
        )
    key = entry.get("key", "")
    try:
        parent = parent_named(key) if key else ""
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    heading, altitude = (
        None if entry.get(name) is None else _number(entry[name], f"{where}: {name}")
        for name in ("heading", "altitude")
    )
    return parent if naming == "key" else name, Outline(corners, heading, altitude, parent)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"the truth file {path} is larger than {MAX_BYTES >> 20} MB; split it")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"the truth file {path} is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"the truth file {path} cannot be read ({error.strerror}); check --truth") from None


def _number(value: Any, what: str, low: float = -math.inf, high: float = math.inf) -> float:
    try:
        number = float(value)
    except (ValueError, TypeError):
        raise InputError(f"{what} must be a number, got {value!r}") from None
    if not (math.isfinite(number) and low <= number <= high):
        raise InputError(f"{what} is {number:g}, which does not lie between {low:g} and {high:g}")
    return number
