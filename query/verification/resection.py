"""The place of a picture by the places of others that it was matched with: a similarity, with what their receivers are off by
in one direction.

Where hits were taken, as the query sees it, and where their GPS says so, differ by more than noise: a receiver in flight is some
metres late, and a camera may look ahead of the place below it. Both move a photograph's stated place along its own heading, and
so apart for flights to and fro. So the similarity has one more unknown, an offset in the frame of each photograph; the
place that it gives is the query's in the same sense, as a receiver like those of the hits would state it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GPS_ERROR = 2.0
"""Metres by which a drone's GPS is assumed to be off, where the data say nothing better."""
ASSUMED_HITS = 3.0
"""As how many hits' worth of disagreement `GPS_ERROR` counts in the spread: three or four hits may agree by chance."""
MIN_BASELINE = 8.0
"""Metres (root mean square) over which the hits must lie for their places to give a heading and a scale."""
OFFSET_HITS = 5
"""Hits from which an offset is looked for: fewer say nothing of it beside position, heading and scale."""
NO_OFFSET = 1.0
"""As how many hits' worth of evidence it counts that there is no offset."""
NEARNESS = 3
"""How fast a hit weighs less the farther its middle lies outside the query: where it is extrapolated, it is less exact."""
Points = NDArray[np.complex128]
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Resection:
    """``ground = slope · seen + middle`` in metres (east + north·j) and pixels right and up of the query's middle.

    `offset` is by how many metres the hits' receivers are off, to the right and up (·j) in each photograph; `offset_sigma` its
    spread. `used` marks the hits that agree, `off` says by how many metres each is off, and `sigma` is the spread of `middle`.
    """

    slope: complex
    middle: complex
    offset: complex
    offset_sigma: float
    used: NDArray[np.bool_]
    off: Numbers
    sigma: float


def resected(seen: Points, ground: Points, turned: Points, side: float) -> Resection | None:
    """The place of a query of a longest `side` in pixels; None where fewer than three hits agree, or all lie in one place.

    Args:
        seen: the middles of the hits as the query sees them, in pixels right and up of its middle.
        ground: where their receivers say that they are.
        turned: the direction of each hit's top in the query, as a number of length 1; 1 where it is the query's own.
    """
    # A middle far outside the query is extrapolated, and weighs less.
    weights = 1 / (1 + (np.abs(seen) / side) ** 2) ** NEARNESS
    used = _agreeing(seen, ground, turned)
    if used is None or used.sum() < 3:
        return None
    baseline = math.sqrt(float(np.mean(np.abs(ground[used] - ground[used].mean()) ** 2)))
    columns = [seen, np.ones(len(seen))]
    if used.sum() >= OFFSET_HITS:
        columns.append(turned - 1)
    design, share = np.stack(columns, axis=1), weights[used] / weights[used].mean()
    prior = np.zeros((1, len(columns)))
    prior[0, 2:] = NO_OFFSET
    rows = np.vstack([design[used] * np.sqrt(share)[:, None], prior])
    values = np.append(ground[used] * np.sqrt(share), 0)
    solution, _, rank, _ = np.linalg.lstsq(rows, values, rcond=None)
    slope, middle = complex(solution[0]), complex(solution[1])
    if rank < len(columns) or slope == 0 or baseline < MIN_BASELINE:
        return None
    off = np.abs(ground - design @ solution)
    inverse = np.linalg.inv(rows.conj().T @ rows).real
    shrunk = [1 - NO_OFFSET**2 * float(inverse[2, 2]) for _ in columns[2:]]
    of_a_hit = _error(off[used], share, 2 + sum(shrunk), float(np.median(off)))
    offset = complex(solution[2]) / (slope / abs(slope)) if shrunk else 0j
    offset_sigma = of_a_hit * math.sqrt(float(inverse[2, 2])) if shrunk else 0.0
    # What all receivers are off by together no residual shows: one more error of a hit is added for it.
    sigma = of_a_hit * math.sqrt(1 + float(inverse[1, 1]))
    return Resection(slope, middle, offset, offset_sigma, used, off, sigma)


def _error(off: Numbers, share: Numbers, unknowns: float, typical: float) -> float:
    """Metres (root mean square) by which a hit may be off, by the residuals of those that a fit of some unknowns rests on.

    The residuals of few hits are small by chance. So an assumed error joins them (a prior that weighs as `ASSUMED_HITS` hits);
    where they are larger than that, they are enlarged by the quantile of F that holds the error in 95 of 100 cases. Hits left out
    count through the median of all residuals (`typical`).
    """
    count = len(off)
    spare = max(1.0, count - unknowns)
    # A median of 1 belongs to a root mean square of 1.2.
    found = max(float(share @ off**2), count * (1.2 * typical) ** 2)
    # Of F with 2 and 2 (count - 2) degrees of freedom, by its limit.
    enlarged = spare * (20 ** (1 / spare) - 1) / math.log(20)
    return math.sqrt(max((found + ASSUMED_HITS * GPS_ERROR**2) / (spare + ASSUMED_HITS), found / spare * enlarged))


def _agreeing(seen: Points, ground: Points, turned: Points) -> NDArray[np.bool_] | None:
    """Which hits agree: with the similarity through two of them that has the least median error, or with one that has an offset
    besides, if two hits more agree with that. All of few; None where all lie in one place."""
    count = len(seen)
    if count < OFFSET_HITS:
        return np.ones(count, bool)
    plain = _by_pairs(seen, ground)
    if plain is None:
        return None
    slope, middle, typical = plain
    left = ground - slope * seen - middle
    limit = _limit(typical, count - 2)
    agree = np.abs(left) <= limit
    # Of the same pairs of headings, what is left may be explained by an offset: left = offset · (turned - 1) + shift.
    shifted = _by_pairs(turned - 1, left)
    if shifted is None:
        return agree
    offset, shift, _ = shifted
    more = np.abs(left - offset * (turned - 1) - shift) <= limit
    return more if more.sum() >= agree.sum() + 2 else agree


def _by_pairs(x: Points, y: Points) -> tuple[complex, complex, float] | None:
    """``y = slope · x + middle`` through two points, of all pairs the one with the least median error, and that error; None where
    all `x` are one."""
    first, second = np.triu_indices(len(x), 1)
    apart = x[first] - x[second]
    good = np.abs(apart) > 1e-6 * (1 + np.abs(x).max())
    if not good.any():
        return None
    first, second, apart = first[good], second[good], apart[good]
    slopes = (y[first] - y[second]) / apart
    middles = y[first] - slopes * x[first]
    errors = np.median(np.abs(y[None] - slopes[:, None] * x[None] - middles[:, None]), axis=1)
    best = int(errors.argmin())
    return complex(slopes[best]), complex(middles[best]), float(errors[best])


def _limit(typical: float, spare: int) -> float:
    """Metres within which a hit agrees with a model whose median error is `typical`."""
    # 1.18 times the median is the deviation of each coordinate of a plane's normal error.
    return 2.5 * max(GPS_ERROR, 1.18 * typical * (1 + 5 / spare))
