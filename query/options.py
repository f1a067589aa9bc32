"""The options of the `query` commands, in groups: a command takes a group as one parameter."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outcrop.schema.errors import InputError, UsageError, nearest
from outcrop.schema.filters import Filter, asked, equals
from outcrop.schema.item import Kind
from outcrop.schema.places import is_remote
from outcrop.screen.options import Formerly, Group, Session, option

if TYPE_CHECKING:
    from outcrop.query.rerank_plan import RerankPlan
    from outcrop.query.search import Grouping

NOT_HTML = (".pdf", ".doc", ".docx", ".odt", ".md", ".png", ".jpg", ".json", ".csv")
"""Endings of other formats, which a report is not written in."""
LOCAL_FEATURES = ("sift", "patch")
METHODS = ("geometric", "expanded")

Paths = Annotated[list[Path], typer.Argument(help="Picture files, or folders of them.", show_default=False)]
Keys = Annotated[list[str], typer.Argument(help="Keys of stored items.", show_default=False)]
Exact = Annotated[bool, option("--exact", panel="Search", help="Compare with every row instead of using the index.")]
Turns = Annotated[
    int,
    option(
        "--turns",
        panel="Search",
        min=0,
        help="Rotate the picture to N angles around the circle and search images only, no references. [0: as it is]",
    ),
]
Server = Annotated[
    str | None,
    option(
        "--server",
        panel="Search",
        help="Address of a running `query serve` that answers. [one that runs beside with the same state folder]",
    ),
]
MinInliers = Annotated[
    int | None,
    option(
        "--min-inliers",
        panel="Re-ranking",
        min=4,
        help="Inliers from which a candidate counts as a match; hits below are left out. "
        "[unverified hits stay; verified from 12, patch: 25]",
    ),
]
LocalFeatures = Annotated[
    str | None,
    option(
        "--local-features",
        panel="Re-ranking",
        hidden=True,
        help="Local features to match: sift, or patch (patch tokens of the model, read where an ingest kept them). [sift]",
    ),
    Formerly("--features"),
]
QueryKind = Annotated[
    str | None,
    option(
        "--query-kind",
        help="Kind of items to use as queries: image, reference, view, specimen or tile. [image, else the only kind there is]",
    ),
    Formerly("--kind"),
]
Report = Annotated[Path | None, option("--report", panel="Output", help="Write an HTML report with pictures.")]


SCALE: Group = {
    "altitude": Annotated[
        float | None,
        option("--altitude", hidden=True, help="Metres above ground of pictures that do not say. [OUTCROP_ALTITUDE]"),
    ],
    "focal_length": Annotated[
        float | None,
        option(
            "--focal-length",
            hidden=True,
            help="Their focal length in millimetres on film 36 mm wide, likewise. [OUTCROP_FOCAL_LENGTH]",
        ),
    ],
}
"""How much ground a query picture shows that does not say it."""


@dataclass(frozen=True)
class Conditions:
    """Which items are searched."""

    where: Annotated[
        list[str] | None,
        option("--where", help="FIELD=VALUE, FIELD=A..B, FIELD=V1,V2, FIELD=PREFIX* or FIELD!=…; repeatable (AND)."),
    ] = None
    filter: Annotated[
        str, option("--filter", help="A raw Milvus expression, for conditions that --where cannot express.")
    ] = ""
    near: Annotated[
        str | None, option("--near", help="LAT,LON,METRES: only what was photographed within METRES of a place.")
    ] = None
    area: Annotated[
        Path | None, option("--within", "--area", help="GeoJSON file: only what was photographed within its polygons.")
    ] = None

    @property
    def condition(self) -> Filter:
        """What all of them say.

        Raises:
            FilterError: a text that is not a condition, or a value of another type than its field.
            InputError: a place or an area that is not valid.
        """
        said = asked(*(self.where or ()), raw=self.filter)
        if not self.near and self.area is None:
            return said
        from outcrop.query.area import area_filter

        return said & area_filter(self.near, self.area)


@dataclass(frozen=True)
class Gallery(Conditions):
    """Which items an evaluation searches; its ``--within`` is how near a right answer must be."""

    area: Annotated[
        Path | None, option("--area", help="GeoJSON file: only what was photographed within its polygons.")
    ] = None


@dataclass(frozen=True)
class Search:
    """How the hits are searched."""

    k: Annotated[int, option("-k", "--top-k", min=1, max=16384, help="Hits per query. [10]")] = 10
    exclude_self: Annotated[
        bool, option("--exclude-self", panel="Search", help="Leave out the query itself: items made of the same file.")
    ] = False
    exact: Exact = False
    explain: Annotated[
        bool,
        option("--explain", panel="Search", help="Show the search plan: partitions, filter, index or exact, timings."),
    ] = False


@dataclass(frozen=True)
class Groups:
    """Whether hits are put together by parent."""

    group: Annotated[
        str,
        option(
            "--group",
            panel="Search",
            help="parent: one hit per photograph or specimen; none: every item; auto: parent where references are hit. [auto]",
        ),
    ] = "auto"

    @property
    def grouping(self) -> Grouping:
        """What ``--group`` names."""
        from outcrop.query.search import GROUPINGS

        for name in GROUPINGS:
            if self.group == name:
                return name
        raise InputError(
            f"--group must be one of {', '.join(GROUPINGS)}, got {self.group!r}{nearest(self.group, GROUPINGS)}"
        )


@dataclass(frozen=True)
class Rerank:
    """Whether and how hits are verified by geometry."""

    rerank: Annotated[
        str | None,
        option(
            "--rerank",
            panel="Re-ranking",
            help="geometric: match local features and rank verified candidates first; expanded: then search again with these.",
        ),
    ] = None
    rerank_depth: Annotated[
        int | None,
        option(
            "--rerank-depth",
            panel="Re-ranking",
            hidden=True,
            min=1,
            max=16384,
            help="Candidates matched with each query. [50]",
        ),
    ] = None
    min_inliers: MinInliers = None
    local_features: LocalFeatures = None

    def plan(self, session: Session, *, locate: bool = False) -> RerankPlan | None:
        """What the options say; None without re-ranking. `locate` implies it.

        Raises:
            UsageError: options of re-ranking without it. InputError: an unknown method, or unknown features.
        """
        method = METHODS[0] if self.rerank is None and locate else self.rerank
        folder = session.given.get("features")
        if method is None:
            if any(given is not None for given in (self.rerank_depth, self.min_inliers, self.local_features, folder)):
                raise UsageError(
                    "--rerank-depth, --min-inliers, --local-features and --features-folder need --rerank geometric"
                )
            return None
        if method not in METHODS:
            raise InputError(f"--rerank must be {' or '.join(METHODS)}, got {method!r}{nearest(method, METHODS)}")
        features = checked_features(self.local_features)
        if folder is not None and features != "patch":
            raise UsageError("--features-folder needs --local-features patch")
        from outcrop.query.rerank_plan import RerankPlan

        return RerankPlan.of(self.rerank_depth, self.min_inliers, features, expand=method == "expanded")


@dataclass(frozen=True)
class Matching:
    """How candidates are matched where they always are."""

    rerank_depth: Annotated[
        int,
        option(
            "--rerank-depth",
            panel="Search",
            hidden=True,
            min=1,
            max=16384,
            help="Candidates matched with each picture. [50]",
        ),
    ] = 50
    local_features: LocalFeatures = None

    def plan(self, session: Session) -> RerankPlan:
        """What the options say.

        Raises:
            UsageError: a folder of patch tokens without these. InputError: unknown features.
        """
        from outcrop.query.rerank_plan import RerankPlan

        features = checked_features(self.local_features)
        if session.given.get("features") is not None and features != "patch":
            raise UsageError("--features-folder needs --local-features patch")
        return RerankPlan.of(self.rerank_depth, None, features)


def checked_features(features: str | None) -> str:
    """The local features that ``--local-features`` names.

    Raises:
        InputError: naming the valid ones.
    """
    chosen = features or LOCAL_FEATURES[0]
    if chosen not in LOCAL_FEATURES:
        raise InputError(
            f"--local-features must be one of {', '.join(LOCAL_FEATURES)}, got {chosen!r}{nearest(chosen, LOCAL_FEATURES)}"
        )
    return chosen


@dataclass(frozen=True)
class Locate:
    """Whether to estimate where a query was taken."""

    locate: Annotated[
        bool,
        option(
            "--locate",
            panel="Re-ranking",
            help="Estimate where the query was taken, from verified hits. Implies --rerank geometric.",
        ),
    ] = False
    geojson: Annotated[
        Path | None,
        option(
            "--geojson", panel="Re-ranking", help="Write where the queries were taken as GeoJSON. Implies --locate."
        ),
    ] = None

    @property
    def wanted(self) -> bool:
        """Whether either asks for it."""
        return self.locate or self.geojson is not None


@dataclass(frozen=True)
class Places:
    """Where answers are written besides the screen."""

    report: Report = None
    output: Annotated[
        Path | None,
        option("--output", panel="Output", help="Folder for JSON, arrays (.npy) and contact sheets."),
    ] = None


def gallery_of(names: list[str] | None) -> Filter:
    """What ``--against`` names: kinds (``reference``) and datasets, any of them."""
    kinds = [name for name in names or () if name in tuple(Kind)]
    datasets = [name for name in names or () if name not in tuple(Kind)]
    chosen = Filter()
    if kinds:
        chosen &= equals("kind", *kinds)
    if datasets:
        chosen &= equals("dataset", *datasets)
    return chosen


def kind_named(text: str, option: str) -> Kind:
    """The kind that an option names.

    Raises:
        InputError: naming the valid ones.
    """
    if text not in tuple(Kind):
        raise InputError(f"{option} must be one of {', '.join(Kind)}, got {text!r}{nearest(text, Kind)}")
    return Kind(text)


def check_file(path: Path | None, option: str) -> None:
    """Before any work, so that no result is lost: whether a file can be written there.

    Raises:
        InputError: the path is a folder, or its folder does not exist or may not be written to.
    """
    if path is None:
        return
    if path.is_dir():
        raise InputError(f"{option} {path} is a folder; give the name of a file")
    if option == "--report" and path.suffix.lower() in NOT_HTML:
        raise InputError(
            f"{option} {path}: reports are HTML, not {path.suffix[1:].upper()}; "
            f"write {path.with_suffix('.html').name}, and print it as PDF from a browser"
        )
    folder = path.absolute().parent
    if not is_remote(path) and not folder.is_dir():
        raise InputError(f"{option} {path}: the folder {folder} does not exist; create it")
    if not is_remote(path) and not os.access(path if path.exists() else folder, os.W_OK):
        raise InputError(f"{option} {path} cannot be written: no permission to write there; choose another place")
