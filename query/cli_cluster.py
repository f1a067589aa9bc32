"""`query cluster`: which items are alike, as files and a page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outcrop.query.commands import app
from outcrop.query.console import opened
from outcrop.query.options import Conditions, kind_named
from outcrop.schema.errors import InputError, nearest
from outcrop.schema.filters import Filter, equals
from outcrop.schema.item import FIELDS
from outcrop.screen.options import CSV, SEED, STATE, STORE, Formerly, Session, command, option
from outcrop.screen.progress import Meter
from outcrop.screen.tables import print_csv, print_json, print_table

if TYPE_CHECKING:
    from outcrop.query.clusters.assign import Assigned, Clustered
    from outcrop.query.clusters.cluster import Recipe
    from outcrop.query.clusters.run import Found

COLUMNS = ("cluster", "items", "probability", "mostly", "typical")
Output = Annotated[
    Path,
    option(
        "--output",
        help="Folder for clusters.csv, .parquet, .json and .html; clusters keep the ids of an earlier result there.",
    ),
]
ClusteredKind = Annotated[
    str | None,
    option(
        "--kind",
        help="Kind of items to cluster: image, reference, view, specimen or tile. [specimen, or as --where says]",
    ),
]


@dataclass(frozen=True)
class Clustering:
    """How items are clustered."""

    method: Annotated[str, option("--method", help="hdbscan, kmeans or agglomerative. [hdbscan]")] = "hdbscan"
    pca: Annotated[int, option("--pca", help="Principal components to keep; 0 uses the vectors as they are. [64]")] = 64
    min_cluster_size: Annotated[
        int, option("--min-cluster-size", help="hdbscan: items in the smallest cluster. [5]")
    ] = 5
    min_samples: Annotated[
        int, option("--min-samples", help="hdbscan: neighbours of a dense point; more leave more items out. [3]")
    ] = 3
    clusters: Annotated[
        int | None,
        option("--clusters", help="kmeans, agglomerative: number of clusters. [best silhouette, up to 30]"),
    ] = None
    classes: Annotated[
        str, option("--classes", help="Field with the true classes, for ARI and NMI. [category]"), Formerly("--against")
    ] = "category"

    def recipe(self, seed: int) -> Recipe:
        """The recipe that the options name.

        Raises:
            InputError: a value that does not fit, or an unknown field.
        """
        from outcrop.query.clusters.cluster import Recipe

        if self.classes not in FIELDS:
            raise InputError(f"--classes must be a field, got {self.classes!r}{nearest(self.classes, FIELDS)}")
        return Recipe(self.method, self.pca, self.min_cluster_size, self.min_samples, self.clusters, seed)  # type: ignore[arg-type]  # it checks


@command(app, STORE, STATE, SEED)
def cluster(
    session: Session,
    output: Output,
    clustering: Clustering,
    conditions: Conditions,
    kind: ClusteredKind = None,
    no_page: Annotated[bool, option("--no-page", panel="Output", help="Write no HTML page.")] = False,
) -> None:
    """Find groups of items that are alike, with exemplars and outliers of each, and ids that last from run to run."""
    from outcrop.embed.thumbnails import ThumbnailStore
    from outcrop.query.clusters.files import check_output, read_known, summary, write_files
    from outcrop.query.clusters.page import cluster_page
    from outcrop.query.clusters.run import cluster_collection
    from outcrop.query.held import require_held

    recipe, condition = clustering.recipe(session.settings.seed), _of_kind(kind, conditions.condition)
    check_output(output)
    known = read_known(output)
    with opened(session) as collection, Meter("read", None, "items", session.quiet) as meter:
        require_held(condition, collection)
        found = cluster_collection(
            collection, condition, recipe, against=clustering.classes, known=known, progress=meter.update
        )
    page = None if no_page else cluster_page(found, ThumbnailStore.below(session.settings.state))
    files = write_files(found, output, page)
    session.say(f"written: {', '.join(file.name for file in files)} in {output.absolute()}")
    if session.format == "json":
        print_json({**summary(found), "files": [str(file) for file in files]})
    else:
        _print(found)


@command(app, STORE, STATE, CSV, name="cluster assign")
def assign(
    session: Session,
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="The folder of a clustering (query cluster --output).", show_default=False),
    ],
    conditions: Conditions,
    force_assign: Annotated[
        bool, option("--force-assign", help="Leave no item out: each goes to the cluster nearest to it.")
    ] = False,
    output: Annotated[
        Path | None, option("--output", help="Folder for assigned.csv and assigned.json. [that of the clustering]")
    ] = None,
) -> None:
    """Put new items into an existing clustering, whose clusters and ids stay as they are."""
    from outcrop.query.clusters.assign import assign_collection
    from outcrop.query.clusters.assign_files import read_clustered, write_assigned
    from outcrop.query.held import require_held

    known, condition = read_clustered(folder), conditions.condition
    with opened(session) as collection, Meter("read", None, "items", session.quiet) as meter:
        require_held(condition, collection)
        found = assign_collection(collection, known, condition, force=force_assign, progress=meter.update)
    if found.remark:
        session.warn(found.remark)
    if found.gone:
        session.say(f"{found.gone:,} clustered items are no longer in collection {found.collection!r}")
    files = write_assigned(found, known, output or folder)
    session.say(f"written: {', '.join(file.name for file in files)} in {(output or folder).absolute()}")
    _print_assigned(session, found, known)


def _print_assigned(session: Session, found: Assigned, known: Clustered) -> None:
    from outcrop.query.clusters.assign_files import assigned_rows, assigned_summary

    rows = assigned_rows(found, known)
    if session.format == "json":
        print_json(assigned_summary(found, known))
    elif session.format == "csv":
        print_csv(rows, tuple(rows[0]))
    else:
        shown = [{**row, "cluster": "none" if row["cluster_id"] < 0 else row["cluster_id"]} for row in rows]
        columns = ("specimen_id", "cluster", "prob", "category", "nearest")
        print_table(shown, columns, f"{len(rows)} new items", whole=columns[:3])


def _of_kind(kind: str | None, condition: Filter) -> Filter:
    """The filter with the kind: as asked for, else as the conditions say, else specimens."""
    if kind is not None:
        return equals("kind", str(kind_named(kind, "--kind"))) & condition
    if any(c.field == "kind" for c in condition.conditions) or condition.raw:
        return condition
    return equals("kind", "specimen") & condition


def _print(found: Found) -> None:
    rows = [
        {
            "cluster": cluster.id,
            "items": cluster.size,
            "probability": f"{cluster.probability:.2f}",
            "mostly": f"{cluster.share:.0%} {cluster.category}" if cluster.category else "",
            "typical": found.typical(cluster),
        }
        for cluster in found.clusters
    ]
    if found.unassigned:
        rows.append({"cluster": "none", "items": len(found.unassigned)})
    print_table(rows, COLUMNS, f"{len(found.rows)} items", whole=COLUMNS[:2])
    figures = (
        ("silhouette", found.quality.silhouette),
        ("DBCV", found.quality.dbcv),
        (f"ARI against {found.against}", found.quality.ari),
        ("NMI", found.quality.nmi),
    )
    print(", ".join(f"{name} {value:.3f}" for name, value in figures if value is not None))
