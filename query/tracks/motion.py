"""Which of the candidate places of a flight's frames belong to one flight: speed and turn bounded, by dynamic programming.

A candidate is worth taking by how sure its match is, and by how small the ground is that the flight could have reached since
the last one taken: a wrong candidate lies there only by chance. Frames may be left out, so that a wrong place costs nothing but
itself.
The best chain of candidates is found exactly (the Viterbi algorithm over all pairs of frames).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_SPEED = 25.0
"""Metres a second: what multicopters reach."""
MAX_TURN = 90.0
"""Degrees a second by which the heading may change."""
SLACK_METRES, SLACK_DEGREES = 5.0, 15.0
"""What speed and turn are allowed beyond their bounds, since places and headings are not exact."""
SURE = (1e-3, 1 - 1e-3)
"""No match is surer of being right, or of being wrong, than this."""
AREA = 100.0**2
"""Square metres over which the candidates are taken to be scattered, at least."""


@dataclass(frozen=True)
class Sighting:
    """A candidate place of one frame: seconds since the first frame, metres as east + north·j, spread (metres, root mean square),
    heading in degrees clockwise from north, and how likely it is right (0 to 1)."""

    frame: int
    seconds: float
    place: complex
    spread: float
    heading: float
    sure: float


@dataclass(frozen=True)
class Limits:
    """How fast a flight may be (metres a second), and how fast it may turn (degrees a second)."""

    speed: float = MAX_SPEED
    turn: float = MAX_TURN


def chosen(sightings: Sequence[Sighting], limits: Limits = Limits()) -> list[Sighting]:
    """The candidates that make the most likely flight, in order of time: one of a frame at most, none where none fits.

    Any two that follow one another keep within the limits.
    """
    ordered = sorted(sightings, key=lambda each: (each.seconds, each.frame))
    if not ordered:
        return []
    seconds = np.array([each.seconds for each in ordered])
    frames = np.array([each.frame for each in ordered])
    places = np.array([each.place for each in ordered])
    spreads = np.array([each.spread for each in ordered])
    headings = np.array([each.heading for each in ordered])
    sure = np.clip([each.sure for each in ordered], *SURE)
    worth = np.log(sure / (1 - sure))
    scattered = max(AREA, float(np.ptp(places.real) * np.ptp(places.imag)))
    best, before = np.array(worth, np.float64), np.full(len(ordered), -1)
    for number in range(1, len(ordered)):
        earlier = slice(0, number)
        passed = seconds[number] - seconds[earlier]
        reach = limits.speed * passed + 2 * (spreads[number] + spreads[earlier]) + SLACK_METRES
        turned = np.abs((headings[number] - headings[earlier] + 180) % 360 - 180)
        fits = (
            (frames[earlier] != frames[number])
            & (np.abs(places[number] - places[earlier]) <= reach)
            & (turned <= limits.turn * passed + SLACK_DEGREES)
        )
        gained = np.where(fits, best[earlier] + _narrowed(scattered, reach), -np.inf)
        last = int(gained.argmax())
        if gained[last] > 0:
            best[number] += gained[last]
            before[number] = last
    return _traced(ordered, best, before)


def _narrowed(scattered: float, reach: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much likelier it is that a right candidate lies within reach than that a wrong one does, as a logarithm."""
    return np.log(np.maximum(1.0, scattered / (math.pi * reach**2)))


def _traced(ordered: Sequence[Sighting], best: NDArray[np.float64], before: NDArray[np.int_]) -> list[Sighting]:
    """The chain that ends with most; none where nothing is likelier right than wrong."""
    number = int(best.argmax())
    chain: list[Sighting] = []
    if best[number] <= 0:
        return chain
    while number >= 0:
        chain.append(ordered[number])
        number = int(before[number])
    return chain[::-1]
