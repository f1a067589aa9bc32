"""`query cluster`: which items are alike, as files and a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from outcrop.query.console import Raw, Where, app, condition_of, kind_of, opened
from outcrop.schema.errors import InputError, nearest
from outcrop.schema.filters import Filter, equals
from outcrop.schema.item import FIELDS
from outcrop.screen.options import STATE, STORE, Session, command
from outcrop.screen.progress import Meter
from outcrop.screen.tables import print_json, print_table

if TYPE_CHECKING:
    from outcrop.query.clusters.run import Found


@command(app, STORE, STATE)
def cluster(
    session: Session,
    output: Annotated[Path, typer.Option("--output", help="Folder for clusters.csv, .parquet, .json and .html. A result that is there lends its cluster ids.", show_default=False)],
    kind: Annotated[Optional[str], typer.Option("--kind", help="Which items: image, reference, view or specimen. [specimen, unless --where says]", show_default=False)] = None,
    where: Where = None,
    filter: Raw = "",
    method: Annotated[str, typer.Option("--method", help="hdbscan, fast_hdbscan, kmeans or agglomerative.")] = "hdbscan",
    pca: Annotated[int, typer.Option("--pca", help="Principal components that are kept; 0 = the vectors as they are.")] = 64,
    min_cluster_size: Annotated[int, typer.Option("--min-cluster-size", help="hdbscan: the smallest group that is a cluster.")] = 5,
    min_samples: Annotated[int, typer.Option("--min-samples", help="hdbscan: neighbours that make a place dense; more leave more items out.")] = 3,
    clusters: Annotated[Optional[int], typer.Option("--clusters", help="kmeans, agglomerative: how many. [the best silhouette's, up to 30]", show_default=False)] = None,
    against: Annotated[str, typer.Option("--against", help="Field that holds the true classes, for ARI and NMI.")] = "category",
    seed: Annotated[int, typer.Option("--seed", help="Of k-means and of the map.")] = 0,
    no_page: Annotated[bool, typer.Option("--no-page", help="Write no HTML page.")] = False,
) -> None:  # fmt: skip
    """Find groups of items that are alike, with exemplars and outliers of each, and ids that last from run to run."""
    from outcrop.query.clusters.cluster import Recipe
    from outcrop.query.clusters.files import check_output, read_known, summary, write_files
    from outcrop.query.clusters.page import cluster_page
    from outcrop.query.clusters.run import cluster_collection

    recipe = Recipe(method, pca, min_cluster_size, min_samples, clusters, seed)  # type: ignore[arg-type]  # it checks
    if against not in FIELDS:
        raise InputError(f"--against names no field: {against!r}{nearest(against, FIELDS)}")
    condition = _kinds(kind, condition_of(where, filter))
    check_output(output)
    known = read_known(output)
    with opened(session) as collection, Meter("read", None, "items", session.quiet) as meter:
        found = cluster_collection(collection, condition, recipe, against=against, known=known, progress=meter.update)
    page = None
    if not no_page:
        from outcrop.embed.thumbnails import ThumbnailStore

        page = cluster_page(found, ThumbnailStore.below(session.settings.state))
    files = write_files(found, output, page)
    if session.format == "json":
        print_json({**summary(found), "files": [str(file) for file in files]})
    else:
        _print(found)
    session.say(f"written: {', '.join(file.name for file in files)} in {output.absolute()}")


def _kinds(kind: str | None, condition: Filter) -> Filter:
    """The filter with the kind: as asked for, else as the conditions say, else specimens."""
    if kind is not None:
        return equals("kind", str(kind_of(kind))) & condition
    if any(c.field == "kind" for c in condition.conditions) or condition.raw:
        return condition
    return equals("kind", "specimen") & condition


def _print(found: Found) -> None:
    names = found.rows.facts["capture_id"]
    rows = [
        {
            "cluster": cluster.id,
            "items": cluster.size,
            "probability": f"{cluster.probability:.2f}",
            "mostly": f"{cluster.share:.0%} {cluster.category}" if cluster.category else "",
            "typical": ", ".join(names[row] for row in cluster.exemplars[:3]),
        }
        for cluster in found.clusters
    ]
    if found.unassigned:
        rows.append({"cluster": "none", "items": len(found.unassigned)})
    print_table(rows, ("cluster", "items", "probability", "mostly", "typical"), f"{len(found.rows)} items")
    figures = (
        ("silhouette", found.quality.silhouette),
        ("DBCV", found.quality.dbcv),
        (f"ARI against {found.against}", found.quality.ari),
        ("NMI", found.quality.nmi),
    )
    print(", ".join(f"{name} {value:.3f}" for name, value in figures if value is not None))
