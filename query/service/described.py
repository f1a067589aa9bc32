"""What the service answers, as pydantic models: the description of its API is made of these, and tests compare answers with it.

The answers themselves are made where the commands make theirs (`outcrop.query.answers`); nothing is read through these.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from outcrop.query.listing import FACTS
from outcrop.schema.item import ANSWER_FIELDS, FIELDS

Scalar = str | int | float | bool
_TYPES: dict[str, Any] = {"text": str, "integer": int, "number": float}


class Shape(BaseModel):
    """Of all answers: what is not named here does not come."""

    model_config = ConfigDict(extra="forbid")


class Error(Shape):
    """Why there is no answer."""

    error: str = Field(description="The cause, and what to do about it.")


class Health(Shape):
    """Whether questions are answered."""

    ready: bool
    collection: str
    waiting: int = Field(description="Questions that wait or are being answered.")


class Plan(Shape):
    """How it was searched."""

    method: str = Field(description="exact (row by row), flat (an exact index) or index.")
    index: str
    reason: str
    partitions: list[str] | None = Field(description="The partitions that were searched; null for all.")
    filter: str
    kept: int | None = Field(description="Rows that the filter keeps, where they were counted.")
    total: int | None
    params: dict[str, Any] | None
    fallback: bool
    seconds: float


class Geometry(Shape):
    """What matching points say of a verified or refused hit; only `reason` where nothing could be compared."""

    inliers: int | None = None
    evidence: float | None = Field(None, description="What verified hits are ranked by.")
    tentative: int | None = None
    method: str | None = None
    rotation: float | None = Field(None, description="Degrees counter-clockwise by which the query is turned.")
    scale: float | None = None
    homography: list[list[float]] | None = None
    query_size: list[int] | None = None
    candidate_size: list[int] | None = None
    footprint: list[list[float]] | None = Field(None, description="Corners of the query in pixels of the hit.")
    reason: str | None = None


_FIELDS: dict[str, Any] = {
    name: (_TYPES[FIELDS[name].type], Field(description=FIELDS[name].meaning)) for name in ANSWER_FIELDS
}
_Answered = create_model("_Answered", __base__=Shape, **_FIELDS)


class Hit(_Answered):  # type: ignore[valid-type, misc]  # made from the fields of an item
    """One item that is like the query; with `parent` and what follows where hits are grouped by photograph or specimen, with
    `combined` and what follows where they were verified."""

    rank: int
    score: float = Field(description="Cosine similarity, -1 to 1.")
    columns: dict[str, Scalar] | None = Field(None, description="The item's own columns.")
    second: float | None = Field(None, description="Of a frame of a film: seconds from its beginning.")
    parent: str | None = None
    votes: int | None = None
    rotations: list[list[float]] | None = None
    estimated_rotation: float | None = None
    margin: float | None = None
    combined: float | None = None
    verified: bool | None = None
    inliers: int | None = None
    geometry: Geometry | None = None


class Query(Shape):
    """The hits of one query, best first."""

    query: str = Field(description="The name of the picture or mesh, or the key of the item.")
    hits: list[Hit]
    match: bool | None = Field(None, description="Whether any hit was verified, where that was asked.")
    matched: int | None = Field(None, description="How many candidates were matched with it, where that was asked.")
    reason: str | None = Field(None, description="Why none was verified.")
    location: dict[str, Any] | None = Field(None, description="Where the picture was taken (docs/verification.md).")
    location_missing: str | None = None
    remark: str | None = Field(
        None, description="What the answer suffers from, such as a picture that does not say its scale."
    )
    error: str | None = None


class Answer(Shape):
    """The answer to a question: that of `query image --json`, `query item --json` and `query specimen --json`."""

    collection: str
    plan: Plan | None
    timings: dict[str, float] = Field(description="Seconds by step.")
    queries: list[Query]


_OF_ITEM: dict[str, Any] = {
    name: (
        (_TYPES[field.type] | None, Field(None, description=field.meaning))
        if name in ("latitude", "longitude")
        else (_TYPES[field.type], Field(description=field.meaning))
    )
    for name, field in FIELDS.items()
}
_Stored = create_model("_Stored", __base__=BaseModel, **_OF_ITEM)


class Item(_Stored):  # type: ignore[valid-type, misc]  # made from the fields of an item
    """All that is stored of an item; further members are what was noted at its ingest. A place that is not known is left out."""

    model_config = ConfigDict(extra="allow")
    id: str = Field(description="128-bit digest of the key, 32 hexadecimal digits.")
    parts: list[str] | None = Field(
        None, description="Keys of the first references of a photograph, or views of a specimen."
    )


_LISTED: dict[str, Any] = {
    name: (_TYPES[FIELDS[name].type] | None, Field(description=FIELDS[name].meaning)) for name in FACTS
}
_Listed = create_model("_Listed", __base__=Shape, **_LISTED)


class ListedItem(_Listed):  # type: ignore[valid-type, misc]  # made from the fields of an item
    """An item in a list; what is not known is null."""

    columns: dict[str, Scalar] | None = Field(None, description="The item's own columns.")


class Items(Shape):
    """A page of items by key: the answer of `collection items --json`."""

    collection: str
    total: int = Field(description="Items that fulfil the conditions, on this page or not.")
    next: str | None = Field(description="Give it as `after` for the next page; null on the last one.")
    items: list[ListedItem]


class FacetValue(Shape):
    """A value that can be chosen."""

    value: str
    count: int
    chosen: bool


class Facet(Shape):
    """A filter of one field: values to choose from, or the range that items lie in and the ends that are asked for."""

    field: str
    label: str
    values: list[FacetValue] | None = None
    not_listed: int | None = None
    least: str | None = None
    most: str | None = None
    from_: str | None = Field(None, alias="from")
    to: str | None = None


class Facets(Shape):
    """What can be chosen under conditions, with counts."""

    rows: int
    rows_read: int = Field(description="Rows that the counts are made from.")
    kept: int
    estimated: bool = Field(description="Whether counts are estimates from a sample.")
    facets: list[Facet]


class Duplicate(Shape):
    """An item of a group; sides and sharpness are null where its picture was not opened or is gone."""

    group: int
    best: bool
    key: str
    score: float = Field(description="The highest similarity with another of the group.")
    identical: bool
    width: int | None
    height: int | None
    sharpness: float | None
    bytes: int
    source: str


class DuplicateGroup(Shape):
    """Items that show the same, the best first."""

    identical: bool = Field(description="Whether all are made of the same bytes.")
    items: list[Duplicate]


class DuplicateGroups(Shape):
    """A page of the groups that `query duplicates --json` gives."""

    collection: str
    threshold: float
    total: int = Field(description="Groups on all pages.")
    next: int | None = Field(description="The number of the next page.")
    groups: list[DuplicateGroup]


class ListedClustering(Shape):
    """A clustering of the collection: its name, and what its summary says."""

    name: str
    items: int
    clusters: int
    unassigned: int
    method: str


class Clusterings(Shape):
    """The clusterings of the collection and the reports of evaluations that lie in the folder of results."""

    collection: str
    clusterings: list[ListedClustering]
    evaluations: list[str]


class Clustering(BaseModel):
    """A clustering as its clusters.json says (docs/clusters.md), its name, and how many items the address chooses."""

    model_config = ConfigDict(extra="allow")
    name: str
    chosen: int
    collection: str
    items: int
    unassigned: int
    clusters: list[dict[str, Any]]


class ClusterItem(Shape):
    """An item of a clustering; `cluster_id` is -1 outside all clusters."""

    key: str
    cluster_id: int
    prob: float
    kind: str
    dataset: str
    category: str


class ClusterItems(Shape):
    """The items that an address chooses; with `format` they come as a file instead."""

    count: int
    items: list[ClusterItem]


class Collection(Shape):
    """What can be asked for."""

    rows: int
    kinds: list[str]
    datasets: list[str]


class Question(BaseModel):
    """The parameters of a search, in an address or as fields of a form."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    picture: str | None = Field(
        None, description="A picture: the file in a form, its digest (32 hexadecimal digits) later."
    )
    mesh: str | None = Field(None, description="A mesh, in the same two ways; its name ends as its format does.")
    by: str | None = Field(None, description="Of a mesh: pooled or views, as query specimen --by.")
    item: list[str] | None = Field(None, description="Keys of stored items, or the ends of them: examples.")
    not_: list[str] | None = Field(None, alias="not", description="Keys of items that answers should not be like.")
    k: int | None = Field(None, ge=1, description="Hits. 24 where it is left out, at most 1000.")
    where: list[str] | None = Field(None, description="Conditions, as --where: kind=image, altitude=100..200.")
    near: str | None = Field(None, description="LAT,LON,METRES: items around a place, as --near.")
    area: str | None = Field(None, description="WEST,SOUTH,EAST,NORTH: items in a rectangle.")
    within: str | None = Field(
        None, description="GeoJSON of at most 65,536 bytes: items within its polygons, as --within."
    )
    group: str | None = Field(None, description="auto, parent or none: hits by photograph or specimen, as --group.")
    turns: int | None = Field(None, ge=0, description="How often the picture is turned, as --turns; at most 36.")
    rerank: str | None = Field(None, description="geometric: verify hits by matching points.")
    locate: str | None = Field(None, description="1: say where the picture was taken; with rerank.")
    box: str | None = Field(None, description="LEFT,TOP,RIGHT,BOTTOM of a part of the picture, as shares from 0 to 1.")
    min_score: float | None = Field(None, ge=-1, le=1, description="Leave out hits below this similarity.")
    shape: str | None = Field(None, description="json, or table or csv: rows as query image prints them.")


class Choosing(BaseModel):
    """The parameters that choose items of a clustering."""

    model_config = ConfigDict(extra="forbid")

    cluster: list[int] | None = Field(None, description="Ids of clusters; -1 for items in none.")
    lasso: str | None = Field(
        None, description="Corners X,Y of a polygon on the map, as shares of its sides from 0 to 1."
    )
    format: str | None = Field(None, description="csv, geojson or keys: a file of the chosen items.")


class AskingDuplicates(BaseModel):
    """The parameters of the groups of near-duplicates."""

    model_config = ConfigDict(extra="forbid")

    threshold: float | None = Field(
        None, gt=0, le=1, description="Similarity from which two items belong together; 0.95."
    )
    where: list[str] | None = Field(None, description="Conditions, as --where.")
    page: int | None = Field(None, ge=1, description="The number of the page.")
    format: str | None = Field(None, description="csv: a file with all groups.")


class Listing(BaseModel):
    """The parameters of the list of items."""

    model_config = ConfigDict(extra="forbid")

    where: list[str] | None = Field(None, description="Conditions, as --where.")
    near: str | None = Field(None, description="LAT,LON,METRES: items around a place, as --near.")
    area: str | None = Field(None, description="WEST,SOUTH,EAST,NORTH: items in a rectangle.")
    after: str | None = Field(None, description="The key behind which the page begins: `next` of the last one.")
    limit: int | None = Field(None, ge=1, description="Items on the page; 100 where it is left out, at most 1000.")
