"""The motion of a track by itself: which candidates belong to one flight, the smooth path, its spread, and what does not fit."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from outcrop.query.tracks.motion import Limits, Sighting, chosen
from outcrop.query.tracks.smoother import Motion, smoothed

LIMITS = Limits(speed=20.0, turn=60.0)


def flight(count: int = 40, every: float = 2.0, turning: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """Seconds and places of a flight at 8 m/s along a curve that bends by up to `turning` degrees a second."""
    seconds = every * np.arange(count)
    fine = np.arange(0, seconds[-1] + every, 0.05)
    course = np.cumsum(np.radians(turning) * np.sin(fine / 17) * 0.05)
    path = np.cumsum(8 * 0.05 * np.exp(1j * course))
    return seconds, path[(seconds / 0.05).astype(int)]


def sightings(seconds: np.ndarray, places: np.ndarray, sure: float = 0.9, spread: float = 0.5) -> list[Sighting]:
    return [
        Sighting(n, float(s), complex(p), spread, 0.0, sure)
        for n, (s, p) in enumerate(zip(seconds, places, strict=True))
    ]


def test_a_possible_flight_is_taken_whole() -> None:
    found = sightings(*flight())
    assert chosen(found, LIMITS) == found
    assert chosen([], LIMITS) == []


def test_places_that_no_aircraft_reaches_are_left_out() -> None:
    seconds, places = flight()
    found = sightings(seconds, places)
    wrong = {5: 300 + 0j, 17: -250j, 18: -260j, 39: 400 + 400j}
    spoilt = [
        each if n not in wrong else Sighting(n, each.seconds, each.place + wrong[n], 0.5, 0.0, 0.99)
        for n, each in enumerate(found)
    ]
    assert [each.frame for each in chosen(spoilt, LIMITS)] == [n for n in range(40) if n not in wrong]


def test_of_several_candidates_the_one_on_the_way_is_taken() -> None:
    rng = np.random.default_rng(3)
    right = sightings(*flight(), sure=0.6)
    wrong = [
        Sighting(each.frame, each.seconds, each.place + complex(120, 0) * np.exp(2j * each.frame) * k, 0.5, 0.0, 0.95)
        for each in right
        for k in rng.uniform(1, 5, 2)
    ]
    assert chosen([*wrong, *right], LIMITS) == right


def test_headings_that_turn_too_fast_are_left_out() -> None:
    found = sightings(*flight(10))
    turned = Sighting(4, found[4].seconds, found[4].place, 0.5, 180.0, 0.9)
    assert 4 not in [each.frame for each in chosen([*found[:4], turned, *found[5:]], Limits(20.0, 60.0))]
    assert turned in chosen([*found[:4], turned, *found[5:]], Limits(20.0, 100.0))


def test_the_chain_is_the_best_one() -> None:
    """Against all subsets of few candidates: the same worth, by the definition."""
    rng = np.random.default_rng(8)
    for _ in range(20):
        found = [
            Sighting(n // 2, float(n // 2), complex(*rng.uniform(-60, 60, 2)), 1.0, 0.0, float(rng.uniform(0.2, 0.99)))
            for n in range(10)
        ]
        places = np.array([each.place for each in found])
        scattered = max(1e4, float(np.ptp(places.real) * np.ptp(places.imag)))

        def worth(chain: tuple[Sighting, ...], scattered: float = scattered) -> float:
            total = sum(math.log(each.sure / (1 - each.sure)) for each in chain)
            for a, b in itertools.pairwise(chain):
                reach = 20 * (b.seconds - a.seconds) + 2 * (a.spread + b.spread) + 5
                if a.frame == b.frame or abs(a.place - b.place) > reach:
                    return -math.inf
                total += math.log(max(1.0, scattered / (math.pi * reach**2)))
            return total

        best = max((worth(c) for size in range(1, 6) for c in itertools.combinations(found, size)), default=0.0)
        assert worth(tuple(chosen(found, LIMITS))) == pytest.approx(best) or (best <= 0 and not chosen(found, LIMITS))


def test_gaps_are_bridged_with_growing_spread() -> None:
    seconds, places = flight(turning=6.0)
    rng = np.random.default_rng(1)
    fixes = places + rng.normal(0, 0.2, len(places)) + 1j * rng.normal(0, 0.2, len(places))
    gaps = [*range(8, 12), *range(20, 26), 31]
    fixes[gaps] = complex(math.nan, math.nan)
    path = smoothed(seconds, fixes, np.full(len(places), 0.3))
    off = np.abs(path.places - places)
    assert off.max() < 3 and (off <= 2 * path.spreads).mean() >= 0.9
    assert not path.used[gaps].any() and path.used.sum() == len(places) - len(gaps)
    assert path.spreads[23] > path.spreads[20] > path.spreads[15] and path.spreads[31] < path.spreads[23]


def test_beyond_its_ends_a_path_grows_uncertain() -> None:
    seconds, places = flight()
    fixes = places.astype(complex)
    fixes[:4] = fixes[-6:] = complex(math.nan, math.nan)
    path = smoothed(seconds, fixes, np.full(len(places), 0.5))
    assert (np.diff(path.spreads[:5]) < 0).all() and (np.diff(path.spreads[-7:]) > 0).all()
    assert (np.abs(path.places - places) <= 3 * path.spreads).all()


def test_fixes_that_the_others_contradict_are_left_out() -> None:
    seconds, places = flight()
    rng = np.random.default_rng(2)
    fixes = places + rng.normal(0, 1.0, len(places)) + 1j * rng.normal(0, 1.0, len(places))
    for number, wrong in ((7, 35j), (22, -28 + 20j), (23, 40 + 0j)):
        fixes[number] += wrong
    path = smoothed(seconds, fixes, np.full(len(places), 1.5))
    assert list(np.flatnonzero(~path.used)) == [7, 22, 23]
    assert np.abs(path.places - places).max() < 4


def test_one_fix_and_two() -> None:
    seconds = np.arange(4.0)
    nothing = complex(math.nan, math.nan)
    for fixes in ([nothing, 5j, nothing, nothing], [nothing, 5j, nothing, 9j], [1j, 1j, nothing, nothing]):
        path = smoothed(seconds, np.array(fixes), np.full(4, 1.0))
        assert np.isfinite(path.places).all() and np.isfinite(path.spreads).all() and (path.spreads > 0).all()


def test_steps_of_a_motion_add_up() -> None:
    """Two seconds are twice one second, and the covariance is that of the integral."""
    for order in (2, 3):
        motion = Motion(order, 0.7)
        one, added = motion.step(1.0)
        two, whole = motion.step(2.0)
        assert np.allclose(one @ one, two) and np.allclose(one @ added @ one.T + added, whole)
    _, added = Motion(2, 3.0).step(2.0)
    assert np.allclose(added, 3.0 * np.array([[8 / 3, 2.0], [2.0, 2.0]]))


def test_a_right_fix_behind_a_gap_is_kept_though_the_flight_has_turned() -> None:
    """Straight on for two minutes, then a turn where nobody sees it: the last fix is not to be left out for that."""
    seconds = 3.0 * np.arange(40)
    places = np.concatenate(
        [24.0 * np.arange(35), 24.0 * 34 + np.cumsum(24 * np.exp(1j * np.radians(30 * np.arange(1, 6))))]
    )
    rng = np.random.default_rng(4)
    fixes = places + rng.normal(0, 1.5, 40) + 1j * rng.normal(0, 1.5, 40)
    fixes[35:39] = complex(math.nan, math.nan)
    path = smoothed(seconds, fixes, np.full(40, 3.0))
    assert path.used[39] and abs(path.places[39] - places[39]) < 6
