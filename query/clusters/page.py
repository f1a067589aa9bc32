"""A clustering as a self-contained HTML page: the figures, a map with a thumbnail under every mark, exemplars and outliers.

Nothing is fetched when it is opened, and there is no script: what is shown on hover is part of the page, hidden by its style.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from outcrop.embed.thumbnails import ThumbnailStore
from outcrop.query.clusters.cluster import UNASSIGNED
from outcrop.query.clusters.run import Found
from outcrop.query.pages import inline, render

PICTURE_BYTES = 24 * 2**20
"""Bytes of the thumbnails in one page at most, about 2000 of them: those of exemplars come first, then those of the map."""
UNASSIGNED_SHOWN = 12


@dataclass(frozen=True)
class Mark:
    """A row on the map: percent from the left and top, the cluster's id, how firmly it belongs (opacity), what it is."""

    x: float
    y: float
    id: int
    strength: float
    text: str
    image: str


@dataclass(frozen=True)
class Label:
    """A cluster's id on the map, in its middle."""

    x: float
    y: float
    id: int


@dataclass(frozen=True)
class Picture:
    """An exemplar or outlier: its name, a remark, its key, its thumbnail as a data URI."""

    name: str
    remark: str
    key: str
    image: str


@dataclass(frozen=True)
class Section:
    """A cluster with its pictures; `remark` says what it mostly is."""

    id: int
    size: int
    probability: str
    remark: str
    exemplars: tuple[Picture, ...]
    outliers: tuple[Picture, ...]


class _Pictures:
    """Thumbnails as data URIs, as many as a page may hold."""

    def __init__(self, found: Found, thumbnails: ThumbnailStore) -> None:
        self._ids, self._thumbnails, self._left = found.rows.ids, thumbnails, PICTURE_BYTES

    def of(self, row: int) -> str:
        data = self._thumbnails.read(self._ids[row]) if self._left > 0 else None
        self._left -= len(data or b"")
        return inline(data)


def cluster_page(found: Found, thumbnails: ThumbnailStore) -> str:
    """The page of a result. It holds no date: the same result gives the same page."""
    pictures = _Pictures(found, thumbnails)
    sections = [_section(found, number, pictures) for number in range(len(found.clusters))]
    alone = [
        _picture(found, row, f"next to {id}" if id != UNASSIGNED else "", pictures)
        for row, id in zip(found.unassigned[:UNASSIGNED_SHOWN], found.nearest[:UNASSIGNED_SHOWN], strict=True)
    ]
    return render(
        "clusters/page.html.j2",
        found=found,
        figures=_figures(found),
        how=_how(found),
        sections=sections,
        alone=alone,
        marks=_marks(found, pictures),
        labels=_labels(found),
        colours=[(cluster.id, colour(cluster.id)) for cluster in found.clusters],
    )


def _section(found: Found, number: int, pictures: _Pictures) -> Section:
    cluster = found.clusters[number]
    mostly = f"{cluster.share:.0%} {cluster.category}" if cluster.category else ""
    probability = found.clustering.probability
    return Section(
        cluster.id,
        cluster.size,
        f"{cluster.probability:.2f}",
        mostly,
        tuple(_picture(found, row, f"{probability[row]:.2f}", pictures) for row in cluster.exemplars),
        tuple(_picture(found, row, f"{probability[row]:.2f}", pictures) for row in cluster.outliers),
    )


def _picture(found: Found, row: int, remark: str, pictures: _Pictures) -> Picture:
    return Picture(_name(found, row), remark, found.rows.facts["key"][row], pictures.of(row))


def _name(found: Found, row: int) -> str:
    facts = found.rows.facts
    return facts["capture_id"][row] if facts["kind"][row] == "specimen" else facts["key"][row].partition("/")[2]


def _marks(found: Found, pictures: _Pictures) -> list[Mark]:
    marks = []
    for row, (x, y) in zip(found.map.rows.tolist(), found.map.places.tolist(), strict=True):
        truth = found.rows.facts[found.against][row]
        id, probability = int(found.ids[row]), float(found.clustering.probability[row])
        text = f"{_name(found, row)}{f' · {truth}' if truth else ''}"
        strength = 0.8 if id == UNASSIGNED else round(0.45 + 0.55 * probability, 2)
        marks.append(Mark(_percent(x), _percent(y), id, strength, text, pictures.of(row)))
    # Those in no cluster lie below the others.
    return sorted(marks, key=lambda mark: mark.id != UNASSIGNED)


def _labels(found: Found) -> list[Label]:
    ids = found.ids[found.map.rows]
    middles = [(cluster.id, np.median(found.map.places[ids == cluster.id], axis=0)) for cluster in found.clusters]
    return [Label(_percent(float(x)), _percent(float(y)), id) for id, (x, y) in middles]


def _percent(share: float) -> float:
    return round(3 + 94 * share, 2)


def colour(id: int) -> str:
    """A colour for an id: the golden angle sets neighbours apart, and lightness helps those who see few hues."""
    red, green, blue = colorsys.hls_to_rgb((0.61 + id * 0.381966) % 1, (0.36, 0.5, 0.43)[id % 3], 0.62)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def _figures(found: Found) -> list[tuple[str, str, str]]:
    """(name, value, meaning) of what is known."""
    quality = found.quality
    named = (
        ("silhouette", quality.silhouette, "nearer to its own cluster than to the next: -1 to 1"),
        ("DBCV", quality.dbcv, "dense within, sparse between: -1 to 1"),
        (f"ARI, {found.against}", quality.ari, "agreement beyond chance, unassigned counted as a cluster: up to 1"),
        ("ARI, assigned only", quality.ari_assigned, "the same without the unassigned"),
        (f"NMI, {found.against}", quality.nmi, "shared information: 0 to 1"),
    )
    return [(name, f"{value:.3f}", meaning) for name, value, meaning in named if value is not None]


def _how(found: Found) -> str:
    recipe = found.recipe
    parts = [f"{recipe.method}", f"PCA {recipe.pca}" if recipe.pca else "no PCA"]
    if recipe.method == "hdbscan":
        parts.append(f"min. cluster size {recipe.min_cluster_size}, min. samples {recipe.min_samples}")
    return ", ".join([*parts, f"seed {recipe.seed}"])
