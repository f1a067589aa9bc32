"""The exact minimum spanning tree of mutual reachability distances: the slow half of HDBSCAN, as blocked matrix products.

HDBSCAN (Campello, Moulavi, Sander 2013) clusters the tree that spans all points at the least mutual reachability distance
max(core(a), core(b), d(a, b)), where core(a) is the distance from a to its k-th neighbour. Above some thirty dimensions
spatial trees help little, and what remains is comparing all pairs; processors do that fastest as matrix products of tiles that
stay in the cache. The steps:

1. The k nearest neighbours of every point, tile by tile; a bound from a few tiles keeps almost every pair out of the sorting.
2. The lightest forest of that graph, its parts joined by their densest points: a spanning tree, not yet the lightest.
3. A tree is the lightest exactly if no pair is closer than the heaviest edge on its path through the tree. With the points
   in the order in which a dendrogram shows its leaves, that heaviest edge is the running maximum over the merge heights
   between two leaves, so a tile of pairs is checked by one product and one comparison. Pairs that are closer join the tree's
   edges, and the lightest tree of those few is taken. First a sample of the points is checked, which leaves little to find.

Nothing is random and nothing approximate. The float32 products are lower bounds, which only rule pairs out; near pairs are
measured in float64 (`outcrop.query.clusters.distances`), so every processor finds the same core distances and edge weights. Only
which of several equally heavy trees is found may differ. Equal points are one point to all this, tied to the tree afterwards.
Memory: three copies of the points, some tiles, and the pairs found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.query.clusters.distances import (
    NO_DISTANCE,
    Bounds,
    Doubles,
    Floats,
    Indices,
    distances,
    not_below,
)
from outcrop.query.distinct import distinct_rows
from outcrop.schema.machine import cores

ROWS, COLUMNS = 512, 512
"""Points of a tile: a megabyte of distances stays in a core's cache."""
SAMPLE = 512
"""Points, near ones and others, from which a row's neighbours are bounded."""
SIFTED = 2_000_000
"""Pairs kept while a tile of rows seeks its neighbours; where there are more, they are thinned out on the way."""
DENSE = 32
"""Where the bounds leave more than this share (1 / `DENSE`) of a tile's pairs open, finer ones are cheaper than measuring."""
PAIRS = 4_000_000
"""Pairs kept of one check; where there are more, every row's nearest of each tile are taken, and it is checked again."""
SAMPLED_PAIRS = 100_000
"""As `PAIRS`, where every third point is checked: few will do, for all are checked afterwards."""


@dataclass(frozen=True)
class SpanningTree:
    """The n - 1 edges (`one`, `other`, `weight`: mutual reachability distance) and the points' core distances [N].

    The lightest edge comes first; of equally heavy ones those between equal points do, which then stay together in any hierarchy
    that is made of them.
    """

    one: Indices
    other: Indices
    weight: Doubles
    core: Doubles


def spanning_tree(points: Floats, min_samples: int, *, workers: int | None = None) -> SpanningTree:
    """The lightest spanning tree of points [N, D] float32 under mutual reachability; N must be at least 2.

    `min_samples` is the k of the core distance (the point itself not counted), at most N - 1. Euclidean distances.
    """
    points = np.ascontiguousarray(points, dtype=np.float32)
    first, same = distinct_rows(points)
    distinct, copies = points[first] if len(first) < len(points) else points, np.bincount(same)
    if len(first) == 1:
        tree, core = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)), np.full(1, NO_DISTANCE)
    else:
        tree, core = _distinct_tree(distinct, copies, max(1, min(min_samples, len(points) - 1)), workers or cores())
    copied = np.setdiff1d(np.arange(len(points)), first, assume_unique=True)
    core = core[same]
    one, other = np.concatenate([first[tree[0]], first[same[copied]]]), np.concatenate([first[tree[1]], copied])
    weight = np.concatenate([tree[2], core[copied]])
    order = np.lexsort((other, one, np.arange(len(one)) < len(tree[0]), weight))
    return SpanningTree(one[order], other[order], weight[order], core)


Edges = tuple[Indices, Indices, Doubles]
Parallel = Callable[[Callable[[int], Any]], list[Any]]


def _distinct_tree(points: Floats, copies: Indices, k: int, workers: int) -> tuple[Edges, Doubles]:
    """The tree of points that are all different, each with its number of copies, and their core distances."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), ThreadPoolExecutor(workers) as pool:

        def parallel(work: Callable[[int], Any]) -> list[Any]:
            return list(pool.map(work, range(0, len(points), ROWS)))

        neighbours = min(k, len(points) - 1)
        near, distance = _neighbours(points, neighbours, parallel)
        core = _coredistances(near, distance, copies, k)
        one, other = np.repeat(np.arange(len(points)), neighbours), near.reshape(-1)
        tree = _lightest(len(points), one, other, _reachability(core, one, other, distance.reshape(-1)))
        tree = _joined(points, core, *tree)
        for step in (3, 1):  # every third point first
            tree = _corrected(points, core, tree, step, parallel)
    one, other, _ = tree
    return (one, other, _reachability(core, one, other, distances(points, one, other))), core


def _coredistances(near: Indices, distance: Doubles, copies: Indices, k: int) -> Doubles:
    """The distance to the k-th neighbour, where a point's copies are its first neighbours, and neighbours count with theirs."""
    counted = copies[:, None] - 1 + np.cumsum(copies[near], axis=1)
    core = distance[np.arange(len(near)), (counted >= k).argmax(axis=1)]
    return np.where(copies > k, NO_DISTANCE, core)


def _neighbours(points: Floats, k: int, parallel: Parallel) -> tuple[Indices, Doubles]:
    """The `k` nearest other points of every point, the nearest first, and their distances: [N, k] each.

    Of neighbours at the same distance the one that comes first among the points is taken first.
    """
    order = _by_places(points)
    bounds = Bounds.of(points[order])
    nearest, distance = np.empty((len(points), k), np.int64), np.empty((len(points), k))

    def rows(start: int) -> None:
        mine = order[start : start + ROWS]
        row, column = _complete(*_sifted(bounds, start, k)[:2], start, len(mine), len(order), k)
        found = order[column]
        apart = distances(points, mine[row], found)
        by_row = np.lexsort((found, apart, row))
        taken = by_row[_first_of_rows(row[by_row], len(mine), k)]
        nearest[mine], distance[mine] = found[taken], apart[taken]

    parallel(rows)
    return nearest, distance


Pairs = tuple[Indices, Indices, Doubles, Doubles]
"""Rows, columns, and the bounds from below and from above of their squared distances."""


def _sifted(bounds: Bounds, start: int, k: int) -> Pairs:
    """Pairs of the rows from `start` (counted from there): every row's `k` nearest others and few more."""
    n = len(bounds)
    count = len(bounds.left[start : start + ROWS])
    limit = _limits(bounds, start, k)
    pieces: list[Pairs] = []
    held = 0
    tile, under = np.empty((count, COLUMNS), np.float32), np.empty((count, COLUMNS), bool)
    for at in range(0, n, COLUMNS):
        width = min(COLUMNS, n - at)
        if width < COLUMNS:
            tile, under = np.empty((count, width), np.float32), np.empty((count, width), bool)
        np.matmul(bounds.left[start : start + count], bounds.right[:, at : at + width], out=tile)
        np.less_equal(tile, limit[:, None], out=under)
        flat = np.flatnonzero(under)
        if len(flat) > under.size // DENSE:
            low, high = bounds.fine(slice(start, start + count), slice(at, at + width))
            if k < width:
                limit = np.minimum(limit, not_below(np.partition(high, k, axis=1)[:, k]))
            flat = np.flatnonzero(low <= limit[:, None])
            row = flat // width
            pieces.append((row, flat - row * width + at, low.reshape(-1)[flat], high.reshape(-1)[flat]))
        else:
            row = flat // width
            column, low = flat - row * width + at, tile.reshape(-1)[flat].astype(np.float64)
            pieces.append((row, column, low, low + bounds.margin[row + start] + bounds.margin[column]))
        held += len(flat)
        if held > SIFTED or at + width == n:
            pieces, limit = _thinned(pieces, limit, start, k)
            held = len(pieces[0][0])
    return pieces[0]


def _complete(row: Indices, column: Indices, start: int, count: int, n: int, k: int) -> tuple[Indices, Indices]:
    """The pairs, with all others in the place of a row's that are fewer than `k`: then its bound was wrong (NaN, say)."""
    lacking = np.flatnonzero(np.bincount(row, minlength=count) < k)
    if not len(lacking):
        return row, column
    kept = ~np.isin(row, lacking)
    every = np.repeat(lacking, n), np.tile(np.arange(n), len(lacking))
    other = every[1] != every[0] + start
    return np.concatenate([row[kept], every[0][other]]), np.concatenate([column[kept], every[1][other]])


def _limits(bounds: Bounds, start: int, k: int) -> Floats:
    """What the squared distance to the k-th neighbour is at most, for the rows from `start`: from points at hand, and from some
    everywhere. Infinite where they are too few."""
    n = len(bounds)
    mine = bounds.left[start : start + ROWS]
    margin = bounds.margin[start : start + len(mine)]
    low = max(0, min(start + len(mine) // 2 - SAMPLE // 2, n - SAMPLE))
    limit = np.full(len(mine), np.inf)
    for some in (slice(low, low + SAMPLE), np.linspace(0, n - 1, min(n, SAMPLE)).astype(np.int64)):
        most = mine @ bounds.right[:, some]
        if k < most.shape[1]:
            most += bounds.margin[some].astype(np.float32)
            most.partition(k, axis=1)
            limit = np.minimum(limit, most[:, k] + margin)
    return not_below(limit * (1 + 2.0**-22))


def _thinned(pieces: Sequence[Pairs], limit: Floats, start: int, k: int) -> tuple[list[Pairs], Floats]:
    """The pairs that may be among the `k` nearest others of their rows, by row, and the rows' limits as these pairs show them."""
    row, column, low, high = (np.concatenate(values) for values in zip(*pieces, strict=True))
    by_row = np.lexsort((low, row))
    by_row = by_row[column[by_row] != row[by_row] + start]
    row, column, low, high = row[by_row], column[by_row], low[by_row], high[by_row]
    full = np.flatnonzero(np.bincount(row, minlength=len(limit)) >= k)
    limit = limit.copy()
    limit[full] = np.minimum(limit[full], not_below(high[_first_of_rows(row, len(limit), k)[full]].max(axis=1)))
    near = low <= limit[row]
    return [(row[near], column[near], low[near], high[near])], limit


def _first_of_rows(row: Indices, count: int, k: int) -> Indices:
    """The places of the first `k` pairs of each of `count` rows [count, k]; the pairs are sorted by row."""
    return np.searchsorted(row, np.arange(count))[:, None] + np.arange(k)


def _by_places(points: Floats) -> Indices:
    """An order in which points near to each other mostly come together: by the nearest of some points of the set."""
    n = len(points)
    middle = points.mean(axis=0)
    places = points[np.linspace(0, n - 1, max(1, n // 256)).astype(np.int64)] - middle
    squares = np.einsum("ij,ij->i", places, places)
    nearest = [(squares - 2 * (points[at : at + 4096] - middle) @ places.T).argmin(axis=1) for at in range(0, n, 4096)]
    return np.argsort(np.concatenate(nearest), kind="stable")


def _reachability(core: Doubles, one: Indices, other: Indices, distance: Doubles) -> Doubles:
    return np.maximum(np.maximum(core[one], core[other]), distance)


def _lightest(n: int, one: Indices, other: Indices, weight: Doubles) -> Edges:
    """The lightest forest among the given edges; edges may come twice, and both ways."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import minimum_spanning_tree

    low, high = np.minimum(one, other), np.maximum(one, other)
    order = np.lexsort((weight, high, low))
    low, high, weight = low[order], high[order], weight[order]
    first = np.ones(len(low), bool)
    first[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    forest = minimum_spanning_tree(csr_array((weight[first], (low[first], high[first])), shape=(n, n))).tocoo()
    return forest.row.astype(np.int64), forest.col.astype(np.int64), forest.data


def _joined(points: Floats, core: Doubles, one: Indices, other: Indices, weight: Doubles) -> Edges:
    """A forest made one tree: the densest points of its parts are joined each to the next nearest, and so on."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    n = len(points)
    while True:
        graph = csr_array((np.ones(len(one), np.int8), (one, other)), shape=(n, n))
        parts, part = connected_components(graph, directed=False)
        if parts == 1:
            return one, other, weight
        by_part = np.lexsort((core, part))
        densest = by_part[np.searchsorted(part[by_part], np.arange(parts))]
        nearest = np.empty(parts, np.int64)
        bounds = Bounds.of(points[densest])
        for at in range(0, parts, ROWS):
            squared = bounds.left[at : at + ROWS] @ bounds.right
            squared[np.arange(len(squared)), np.arange(at, at + len(squared))] = np.inf
            nearest[at : at + ROWS] = squared.argmin(axis=1)
        added = _reachability(core, densest, densest[nearest], distances(points, densest, densest[nearest]))
        one, other = np.concatenate([one, densest]), np.concatenate([other, densest[nearest]])
        one, other, weight = _lightest(n, one, other, np.concatenate([weight, added]))


def _corrected(points: Floats, core: Doubles, tree: Edges, step: int, parallel: Parallel) -> Edges:
    """The tree after taking in every pair of the points (of every `step`-th leaf) that is closer than its path is."""
    while True:
        order, heights = _leaves(len(points), *tree)
        chosen = order[::step]
        if step > 1:
            heights = np.maximum.reduceat(heights, np.arange(0, len(heights), step))[: len(chosen) - 1]
        if len(chosen) < 2:
            return tree
        most = PAIRS if step == 1 else SAMPLED_PAIRS
        pairs, complete = _shortcuts(points[chosen], core[chosen], heights, most, parallel)
        if not len(pairs[0]):
            return tree
        one, other = chosen[pairs[0]], chosen[pairs[1]]
        weight = _reachability(core, one, other, distances(points, one, other))
        added = (np.concatenate(ends) for ends in zip(tree, (one, other, weight), strict=True))
        tree = _lightest(len(points), *added)  # lighter than before: every pair that was found is closer than its path
        if complete:
            return tree


def _leaves(n: int, one: Indices, other: Indices, weight: Doubles) -> tuple[Indices, Doubles]:
    """The points as a dendrogram of the tree has its leaves [N], and the heights at which neighbours merge [N - 1]."""
    parent, first, last = list(range(n)), list(range(n)), list(range(n))
    following, gap, size = [-1] * n, [0.0] * n, [1] * n

    def find(point: int) -> int:
        while parent[point] != point:
            parent[point] = parent[parent[point]]
            point = parent[point]
        return point

    order = np.lexsort((other, one, weight))
    for a, b, height in zip(one[order].tolist(), other[order].tolist(), weight[order].tolist(), strict=True):
        a, b = find(a), find(b)
        if size[a] < size[b]:
            a, b = b, a
        parent[b] = a
        size[a] += size[b]
        following[last[a]], gap[last[a]], last[a] = first[b], height, last[b]
    leaves, heights = np.empty(n, np.int64), np.empty(n)
    point = first[find(0)]
    for at in range(n):
        leaves[at], heights[at] = point, gap[point]
        point = following[point]
    return leaves, heights[:-1]


def _shortcuts(
    points: Floats, core: Doubles, heights: Doubles, most: int, parallel: Parallel
) -> tuple[tuple[Indices, Indices], bool]:
    """Pairs of points (given in leaf order) that are closer than the heaviest edge of their path.

    All of them, or (False) of every row the nearest of each tile, where all would be more than `most`.
    """
    n = len(points)
    check = _Check(core, Bounds.of(points))
    share = max(1, most * ROWS // n)

    def rows(start: int) -> tuple[Indices, Indices, bool]:
        if start >= n:
            return np.empty(0, np.int64), np.empty(0, np.int64), True
        stop = min(n, start + ROWS)
        mine = check.bounds.left[start:stop]
        # The path of row r and column c >= stop is as heavy as the heavier of: r to the last row, the last row to c.
        within = np.zeros(stop - start)
        within[:-1] = np.maximum.accumulate(heights[start : stop - 1][::-1])[::-1]
        beyond = np.maximum.accumulate(heights[stop - 1 :])
        left, right = not_below(within * within)[:, None], not_below(beyond * beyond)
        path = _paths(heights[start : stop - 1])
        product = mine @ check.bounds.right[:, start:stop]
        row, column = _below(product, _paths(not_below(heights[start : stop - 1] ** 2)))
        tiles = [check.closer(start, start, row, column, product, path[row, column])]
        tile, above = np.empty((stop - start, COLUMNS), np.float32), np.empty((stop - start, COLUMNS), np.float32)
        for at in range(stop, n, COLUMNS):
            width = min(COLUMNS, n - at)
            if width < COLUMNS:
                tile, above = np.empty((stop - start, width), np.float32), np.empty((stop - start, width), np.float32)
            np.matmul(mine, check.bounds.right[:, at : at + width], out=tile)
            np.maximum(left, right[at - stop : at - stop + width], out=above)
            row, column = _below(tile, above)
            path = np.maximum(within[row], beyond[column + (at - stop)])
            tiles.append(check.closer(start, at, row, column, tile, path))
        complete = sum(len(row) for row, _, _ in tiles) <= share
        if not complete:
            tiles = [_nearest_of_rows(*pairs) for pairs in tiles]
        return np.concatenate([row for row, _, _ in tiles]), np.concatenate([c for _, c, _ in tiles]), complete

    found: Sequence[tuple[Indices, Indices, bool]] = parallel(rows)
    pairs = np.concatenate([row for row, _, _ in found]), np.concatenate([column for _, column, _ in found])
    return pairs, all(complete for _, _, complete in found)


def _paths(heights: NDArray[Any]) -> NDArray[Any]:
    """The highest of the heights between leaves, above the diagonal; zero elsewhere."""
    n = len(heights) + 1
    path = np.zeros((n, n), heights.dtype)
    for row in range(n - 1):
        np.maximum.accumulate(heights[row:], out=path[row, row + 1 :])
    return path


def _below(tile: Floats, above: Floats) -> tuple[Indices, Indices]:
    """Where (row, column) the first of two tiles is less than the second."""
    flat = np.flatnonzero(tile < above)
    row = flat // tile.shape[1]
    return row, flat - row * tile.shape[1]


@dataclass(frozen=True)
class _Check:
    """Core distances and bounds of points: which pairs are closer than their paths."""

    core: Doubles
    bounds: Bounds

    def closer(
        self, start: int, at: int, row: Indices, column: Indices, tile: Floats, path: Doubles
    ) -> tuple[Indices, Indices, Floats]:
        """Those of a tile's pairs whose mutual reachability is below the path's heaviest edge: points, points, products.

        `tile` holds the products of the rows from `start` and the columns from `at`. Only pairs of which the bounds leave it open
        are measured.
        """
        one, other = row + start, column + at
        dense = np.maximum(self.core[one], self.core[other]) < path
        row, column, one, other, path = row[dense], column[dense], one[dense], other[dense], path[dense]
        product = tile[row, column]
        closer = product + self.bounds.margin[one] + self.bounds.margin[other] < path * path
        open = np.flatnonzero(~closer)
        if len(open) > tile.size // DENSE:
            low, high = self.bounds.fine(slice(start, start + tile.shape[0]), slice(at, at + tile.shape[1]))
            closer = high[row, column] < path * path
            open = np.flatnonzero(~closer & (low[row, column] < path * path))
        closer[open] = distances(self.bounds.points, one[open], other[open]) < path[open]
        return one[closer], other[closer], product[closer]


def _nearest_of_rows(row: Indices, column: Indices, squared: Floats) -> tuple[Indices, Indices, Floats]:
    order = np.lexsort((column, squared, row))
    row, column, squared = row[order], column[order], squared[order]
    first = np.ones(len(row), bool)
    first[1:] = row[1:] != row[:-1]
    return row[first], column[first], squared[first]
