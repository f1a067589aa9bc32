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

Nothing is random and nothing approximate but the rounding: a pair closer than its path by less than 1e-5 of it is let pass,
and distances below about a thousandth of the points' extent are not told apart (differences of squares in float32).
Memory: three copies of the points, some tiles, and the pairs found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.schema.machine import cores

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Indices = NDArray[np.int64]

ROWS, COLUMNS = 512, 512
"""Points of a tile: a megabyte of distances stays in a core's cache."""
SAMPLE = 512
"""Points, near ones and others, from which a row's neighbours are bounded."""
NO_DISTANCE = 1e-6
"""Closer vectors of length 1 are the same within float32; no edge is lighter."""
SLACK = 1e-5
PAIRS = 4_000_000
"""Pairs kept of one check; where there are more, every row's nearest of each tile are taken, and it is checked again."""
SAMPLED_PAIRS = 100_000
"""As `PAIRS`, where every third point is checked: few will do, for all are checked afterwards."""


@dataclass(frozen=True)
class SpanningTree:
    """The n - 1 edges (`one`, `other`, `weight`: mutual reachability distance) and the points' core distances [N]."""

    one: Indices
    other: Indices
    weight: Doubles
    core: Doubles


def spanning_tree(points: Floats, min_samples: int, *, workers: int | None = None) -> SpanningTree:
    """The lightest spanning tree of points [N, D] float32 under mutual reachability; N must be at least 2.

    `min_samples` is the k of the core distance (the point itself not counted), at most N - 1. Euclidean distances.
    """
    from threadpoolctl import threadpool_limits

    points = np.ascontiguousarray(points, dtype=np.float32)
    points = points - points.mean(axis=0)  # distances come from differences of squares: smaller squares, less rounding
    neighbours = max(1, min(min_samples, len(points) - 1))
    workers = workers or cores()
    with threadpool_limits(1), ThreadPoolExecutor(workers) as pool:

        def parallel(work: Callable[[int], Any]) -> list[Any]:
            return list(pool.map(work, range(0, len(points), ROWS)))

        near, distance = _neighbours(points, neighbours, parallel)
        one, other = np.repeat(np.arange(len(points)), neighbours), near.reshape(-1)
        core = _distances(points, np.arange(len(points)), near[:, -1])
        tree = _lightest(len(points), one, other, _reachability(core, one, other, distance.reshape(-1)))
        tree = _joined(points, core, *tree)
        for step in (3, 1):  # every third point first
            tree = _corrected(points, core, tree, step, parallel)
    one, other, _ = tree
    return SpanningTree(one, other, _reachability(core, one, other, _distances(points, one, other)), core)


Edges = tuple[Indices, Indices, Doubles]


def _neighbours(
    points: Floats, k: int, parallel: Callable[[Callable[[int], Any]], list[Any]]
) -> tuple[Indices, Doubles]:
    """The `k` nearest other points of every point, the nearest first, and their distances: [N, k] each."""
    n = len(points)
    order = _by_places(points)
    left, right = _factors(points[order])
    others = np.ascontiguousarray(right[:, np.linspace(0, n - 1, min(n, SAMPLE)).astype(np.int64)])
    found, away = np.empty((n, k), np.int64), np.empty((n, k), np.float32)

    def rows(start: int) -> None:
        mine = left[start : start + ROWS]
        count = len(mine)
        # Upper bounds of the squared distance to the k-th neighbour: from points at hand, and from some everywhere.
        low = max(0, min(start + count // 2 - SAMPLE // 2, n - SAMPLE))
        bound = np.full(count, np.inf, np.float32)
        for some in (right[:, low : low + SAMPLE], others):
            if k < some.shape[1]:
                bound = np.minimum(bound, np.partition(mine @ some, k, axis=1)[:, k])
        bound = (bound * np.float32(1 + SLACK) + np.float32(1e-7))[:, None]
        row, column, squared = _sifted(mine, right, bound, start, n)
        apart = column != row + start
        row, column, squared = row[apart], column[apart], squared[apart]
        by_row = np.lexsort((column, squared, row))
        first = np.searchsorted(row[by_row], np.arange(count))
        taken = by_row[first[:, None] + np.arange(k)]
        found[start : start + count], away[start : start + count] = column[taken], squared[taken]

    parallel(rows)
    nearest, distance = np.empty_like(found), np.empty((n, k))
    nearest[order] = order[found]
    distance[order] = np.sqrt(np.maximum(away, NO_DISTANCE**2))
    return nearest, distance


def _sifted(mine: Floats, right: Floats, bound: Floats, start: int, n: int) -> tuple[Indices, Indices, Floats]:
    """All pairs (row, column) whose squared distance is not above the row's bound, with that squared distance."""
    rows, columns, values = [], [], []
    tile, under = np.empty((len(mine), COLUMNS), np.float32), np.empty((len(mine), COLUMNS), bool)
    for at in range(0, n, COLUMNS):
        width = min(COLUMNS, n - at)
        if width < COLUMNS:
            tile, under = np.empty((len(mine), width), np.float32), np.empty((len(mine), width), bool)
        np.matmul(mine, right[:, at : at + width], out=tile)
        np.less_equal(tile, bound, out=under)
        flat = np.flatnonzero(under)
        row = flat // width
        rows.append(row)
        columns.append(flat - row * width + at)
        values.append(tile.reshape(-1)[flat])
    return np.concatenate(rows), np.concatenate(columns), np.concatenate(values)


def _by_places(points: Floats) -> Indices:
    """An order in which points near to each other mostly stand together: by the nearest of some points of the set."""
    n = len(points)
    places = points[np.linspace(0, n - 1, max(1, n // 256)).astype(np.int64)]
    squares = np.einsum("ij,ij->i", places, places)
    nearest = [(squares - 2 * points[at : at + 4096] @ places.T).argmin(axis=1) for at in range(0, n, 4096)]
    return np.argsort(np.concatenate(nearest), kind="stable")


def _factors(points: Floats) -> tuple[Floats, Floats]:
    """[N, D + 2] and [D + 2, N], whose product holds all squared distances."""
    squares = np.einsum("ij,ij->i", points, points, dtype=np.float64).astype(np.float32)[:, None]
    ones = np.ones_like(squares)
    left = np.concatenate([-2 * points, squares, ones], axis=1)
    right = np.concatenate([points, ones, squares], axis=1)
    return np.ascontiguousarray(left), np.ascontiguousarray(right.T)


def _distances(points: Floats, one: Indices, other: Indices) -> Doubles:
    """The distances of pairs, in double precision, not below `NO_DISTANCE`."""
    found = np.empty(len(one))
    for at in range(0, len(one), 65_536):
        part = slice(at, at + 65_536)
        gap = points[one[part]].astype(np.float64) - points[other[part]]
        found[part] = np.sqrt(np.einsum("ij,ij->i", gap, gap))
    return np.maximum(found, NO_DISTANCE)


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
        left, right = _factors(points[densest])
        for at in range(0, parts, ROWS):
            squared = left[at : at + ROWS] @ right
            squared[np.arange(len(squared)), np.arange(at, at + len(squared))] = np.inf
            nearest[at : at + ROWS] = squared.argmin(axis=1)
        added = _reachability(core, densest, densest[nearest], _distances(points, densest, densest[nearest]))
        one, other = np.concatenate([one, densest]), np.concatenate([other, densest[nearest]])
        one, other, weight = _lightest(n, one, other, np.concatenate([weight, added]))


def _corrected(
    points: Floats, core: Doubles, tree: Edges, step: int, parallel: Callable[[Callable[[int], Any]], list[Any]]
) -> Edges:
    """The tree after taking in every pair of the points (of every `step`-th leaf) that is closer than its path is."""
    while True:
        order, heights = _leaves(len(points), *tree)
        chosen = order[::step]
        if step > 1:
            heights = np.maximum.reduceat(heights, np.arange(0, len(heights), step))[: len(chosen) - 1]
        if len(chosen) < 2:
            return tree
        most = PAIRS if step == 1 else SAMPLED_PAIRS
        pairs, complete = _shortcuts(points[chosen], core[chosen], heights.astype(np.float32), most, parallel)
        if not len(pairs[0]):
            return tree
        one, other = chosen[pairs[0]], chosen[pairs[1]]
        weight = _reachability(core, one, other, _distances(points, one, other))
        added = (np.concatenate(ends) for ends in zip(tree, (one, other, weight), strict=True))
        before = tree[2].sum()
        tree = _lightest(len(points), *added)
        if complete or tree[2].sum() >= before * (1 - 1e-12):
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
    points: Floats,
    core: Doubles,
    heights: Floats,
    most: int,
    parallel: Callable[[Callable[[int], Any]], list[Any]],
) -> tuple[tuple[Indices, Indices], bool]:
    """Pairs of points (given in leaf order) that are closer than the heaviest edge of their path.

    All of them, or (False) of every row the nearest of each tile, where all would be more than `most`.
    """
    n = len(points)
    left, right = _factors(points)
    reach = (core * core).astype(np.float32)
    squared_heights = heights * heights
    share = max(1, most * ROWS // n)

    def rows(start: int) -> tuple[Indices, Indices, bool]:
        if start >= n:
            return np.empty(0, np.int64), np.empty(0, np.int64), True
        stop = min(n, start + ROWS)
        mine = left[start:stop]
        # The path of row r and column c >= stop is as heavy as the heavier of: r to the last row, the last row to c.
        within = np.zeros(stop - start, np.float32)
        within[:-1] = np.maximum.accumulate(squared_heights[start : stop - 1][::-1])[::-1]
        beyond = np.maximum.accumulate(squared_heights[stop - 1 :])
        tiles = [_closer(mine @ right[:, start:stop], _paths(squared_heights[start : stop - 1]), reach, start, start)]
        tile, path = np.empty((stop - start, COLUMNS), np.float32), np.empty((stop - start, COLUMNS), np.float32)
        for at in range(stop, n, COLUMNS):
            width = min(COLUMNS, n - at)
            if width < COLUMNS:
                tile, path = np.empty((stop - start, width), np.float32), np.empty((stop - start, width), np.float32)
            np.matmul(mine, right[:, at : at + width], out=tile)
            np.maximum(within[:, None], beyond[at - stop : at - stop + width], out=path)
            tiles.append(_closer(tile, path, reach, start, at))
        complete = sum(len(row) for row, _, _ in tiles) <= share
        if not complete:
            tiles = [_nearest_of_rows(*pairs) for pairs in tiles]
        return np.concatenate([row for row, _, _ in tiles]), np.concatenate([c for _, c, _ in tiles]), complete

    found: Sequence[tuple[Indices, Indices, bool]] = parallel(rows)
    pairs = np.concatenate([row for row, _, _ in found]), np.concatenate([column for _, column, _ in found])
    return pairs, all(complete for _, _, complete in found)


def _paths(squared_heights: Floats) -> Floats:
    """The squared heaviest edges between neighbouring leaves, above the diagonal; zero elsewhere."""
    n = len(squared_heights) + 1
    path = np.zeros((n, n), np.float32)
    for row in range(n - 1):
        np.maximum.accumulate(squared_heights[row:], out=path[row, row + 1 :])
    return path


def _closer(tile: Floats, path: Floats, reach: Floats, start: int, at: int) -> tuple[Indices, Indices, Floats]:
    """Pairs of a tile of squared distances whose mutual reachability is below their path's heaviest edge (squared)."""
    flat = np.flatnonzero(tile < path)
    row = flat // tile.shape[1]
    column = flat - row * tile.shape[1]
    squared = np.maximum(np.maximum(reach[row + start], reach[column + at]), tile.reshape(-1)[flat])
    closer = squared < path.reshape(-1)[flat] * np.float32(1 - 2 * SLACK) - np.float32(1e-7)
    return row[closer] + start, column[closer] + at, squared[closer]


def _nearest_of_rows(row: Indices, column: Indices, squared: Floats) -> tuple[Indices, Indices, Floats]:
    order = np.lexsort((column, squared, row))
    row, column, squared = row[order], column[order], squared[order]
    first = np.ones(len(row), bool)
    first[1:] = row[1:] != row[:-1]
    return row[first], column[first], squared[first]
