"""One smooth path through fixes that are scattered, with its spread at any time, and the fixes that do not fit it.

The motion is an integrated random walk: of the velocity (the flight keeps its velocity, more or less) or of the acceleration (it
keeps its curve); order and strength are those under which the fixes are most likely. A Kalman filter runs forwards and a smoother
backwards (Rauch, Tung and Striebel, 1965). East and north move alike, so that both are one complex number with one real
covariance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]
Complex = NDArray[np.complex128]

STRENGTHS: dict[int, tuple[float, ...]] = {2: (0.1, 0.3, 1.0, 3.0, 10.0), 3: (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)}
"""By order (2: velocity, 3: acceleration) what the walk's strength may be: the square of how far that drifts in a second. Even
an aircraft that has flown straight may turn where nobody sees it, so that none is smaller."""
GENEROUS = (2, 10.0)
"""The motion by which fixes are first looked through: 3 m/s of other velocity from one second to the next."""
SHARPER = 10.0
"""By how much the motion may be stronger than the likeliest one before a fix is left out: a flight may turn once more sharply
than it mostly does."""
UNLIKELY = 1e-4
"""The chance of a right fix being as far off as one that is left out."""
FAST = 15.0
"""Metres a second, and a second squared, that may be expected before anything is known."""


@dataclass(frozen=True)
class Motion:
    """An integrated random walk: `order` quantities (place, velocity, acceleration), the last of which drifts by `strength`."""

    order: int
    strength: float

    def step(self, seconds: float) -> tuple[Real, Real]:
        """What a state becomes after some seconds, and the covariance that is added, both [order, order]."""
        count = self.order
        moved, added = np.zeros((count, count)), np.zeros((count, count))
        for i in range(count):
            for j in range(count):
                if j >= i:
                    moved[i, j] = seconds ** (j - i) / math.factorial(j - i)
                power = 2 * count - 1 - i - j
                added[i, j] = seconds**power / (power * math.factorial(count - 1 - i) * math.factorial(count - 1 - j))
        return moved, self.strength * added


@dataclass(frozen=True)
class Path:
    """A path at the times that were asked for: `places` [N] (east + north·j in metres), `spreads` [N] (metres, root mean square);
    `used` [N] says which fixes it rests on."""

    places: Complex
    spreads: Real
    used: NDArray[np.bool_]


def smoothed(seconds: Real, fixes: Complex, spreads: Real) -> Path:
    """The path through `fixes` [N] (metres; NaN where there is none) at `seconds` [N] in ascending order, whose `spreads` [N] are
    given; at least one fix. Fixes that the others contradict are left out, the worst first."""
    used = np.isfinite(fixes.real)
    used = _without_outliers(Motion(*GENEROUS), seconds, fixes, spreads, used)
    motion = _likeliest(seconds, fixes, spreads, used)
    sharper = Motion(motion.order, SHARPER * motion.strength)
    used = _without_outliers(sharper, seconds, fixes, spreads, used)
    places, variances, _ = _run(motion, seconds, fixes, spreads, used)
    return Path(places, np.sqrt(2 * variances), used)


def _likeliest(seconds: Real, fixes: Complex, spreads: Real, used: NDArray[np.bool_]) -> Motion:
    """The motion under which the fixes are likeliest; with few of them, that of a steady flight."""
    motions = [Motion(order, strength) for order, strengths in STRENGTHS.items() for strength in strengths]
    if used.sum() < 5:
        return Motion(2, 3.0)
    return max(motions, key=lambda motion: _run(motion, seconds, fixes, spreads, used)[2])


def _without_outliers(
    motion: Motion, seconds: Real, fixes: Complex, spreads: Real, used: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """The fixes without those that the rest contradicts, taken out one by one; two are always left."""
    used = used.copy()
    limit = -2 * math.log(UNLIKELY)
    while used.sum() > 2:
        places, variances, _ = _run(motion, seconds, fixes, spreads, used)
        left = np.maximum(spreads**2 / 2 - variances, 1e-9)
        off = np.where(used, np.abs(fixes - places) ** 2 / left, 0.0)
        worst = int(np.nanargmax(off))
        if off[worst] <= limit:
            break
        used[worst] = False
    return used


def _run(
    motion: Motion, seconds: Real, fixes: Complex, spreads: Real, used: NDArray[np.bool_]
) -> tuple[Complex, Real, float]:
    """Places [N], the variance [N] of each coordinate, and the log likelihood of the fixes."""
    count, order = len(seconds), motion.order
    start = int(used.argmax())
    state = np.zeros(order, np.complex128)
    state[0] = fixes[start]
    # Nothing is known before the first fix but where the flight may be and how fast it may fly.
    spread = np.diag([1e8, *[FAST**2] * (order - 1)])
    states, covariances, steps = [], [], []
    likelihood = 0.0
    for number in range(count):
        moved, added = motion.step(float(seconds[number] - seconds[max(number - 1, 0)]))
        if number:
            state, spread = moved @ state, moved @ spread @ moved.T + added
        steps.append((moved, state, spread))
        if used[number]:
            state, spread, gained = _taken(state, spread, complex(fixes[number]), float(spreads[number]) ** 2 / 2)
            likelihood += gained
        states.append(state)
        covariances.append(spread)
    places, variances = states[-1][0], covariances[-1][0, 0]
    found, spread_of = [places], [variances]
    for place, variance in _backwards(states, covariances, steps):
        found.append(place)
        spread_of.append(variance)
    return np.array(found[::-1]), np.maximum(np.array(spread_of[::-1]), 1e-12), likelihood


def _taken(state: Complex, spread: Real, fix: complex, variance: float) -> tuple[Complex, Real, float]:
    """A state after a fix, and the log likelihood of the fix."""
    whole = spread[0, 0] + variance
    gain = spread[:, 0] / whole
    off = fix - state[0]
    rest = np.eye(len(gain)) - np.outer(gain, np.eye(len(gain))[0])
    after = rest @ spread @ rest.T + variance * np.outer(gain, gain)
    return state + gain * off, after, -math.log(whole) - abs(off) ** 2 / (2 * whole)


def _backwards(
    states: list[Complex], covariances: list[Real], steps: list[tuple[Real, Complex, Real]]
) -> Iterator[tuple[complex, float]]:
    """Place and variance at each time but the last, from the end on."""
    state, spread = states[-1], covariances[-1]
    for number in range(len(states) - 2, -1, -1):
        moved, expected, wide = steps[number + 1]
        gain = np.linalg.solve(wide, moved @ covariances[number]).T
        state = states[number] + gain @ (state - expected)
        spread = covariances[number] + gain @ (spread - wide) @ gain.T
        yield complex(state[0]), float(spread[0, 0])
