"""Matching and verification: homographies that are known are found, and those that no camera makes are refused."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kernels import kernels, run_under

from outcrop.query.verification.confidence import MIN_INLIERS, UNVERIFIED, Verification, confidence
from outcrop.query.verification.features import LocalFeatures
from outcrop.query.verification.geometry import GeometricMatch, corners, implausible, project, tentative_matches, verify
from outcrop.schema.errors import InputError

WIDTH, HEIGHT = 640, 480


def scene(count: int = 300, seed: int = 0, width: int = WIDTH, height: int = HEIGHT) -> LocalFeatures:
    """Points anywhere in a picture, each with a descriptor of its own."""
    rng = np.random.default_rng(seed)
    points = (rng.uniform(0, 1, (count, 2)) * (width - 1, height - 1)).astype(np.float32)
    descriptors = (rng.gamma(0.4, 30, (count, 128))).clip(0, 255).astype(np.uint8)
    return LocalFeatures(points, descriptors, width, height, 1.0, "sift")


def seen(features: LocalFeatures, matrix: np.ndarray, noise: float = 0.5, seed: int = 1) -> LocalFeatures:
    """The same points where a homography puts them, a little off, with descriptors a little changed."""
    rng = np.random.default_rng(seed)
    points = np.array(project(matrix, features.points)) + rng.normal(0, noise, features.points.shape)
    changed = features.descriptors + rng.normal(0, 3, features.descriptors.shape)
    return replace(features, points=points.astype(np.float32), descriptors=changed.clip(0, 255).astype(np.uint8))


def similarity(degrees: float, scale: float, x: float = 0.0, y: float = 0.0) -> np.ndarray:
    """Turns clockwise (y points down) about the middle of the picture, scales, and moves."""
    cos, sin = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    middle = np.array([[1, 0, (WIDTH - 1) / 2], [0, 1, (HEIGHT - 1) / 2], [0, 0, 1]])
    return middle @ np.array([[cos, -sin, x], [sin, cos, y], [0, 0, 1.0]]) @ np.linalg.inv(middle)


@settings(max_examples=40)
@given(
    st.floats(0, 359.99), st.floats(0.25, 4), st.floats(-200, 200), st.floats(-200, 200),
    st.floats(-2e-4, 2e-4), st.floats(0, 0.5), st.integers(0, 5),
)  # fmt: skip
def test_a_known_homography_is_found(
    degrees: float, scale: float, x: float, y: float, tilt: float, wrong: float, seed: int
) -> None:
    query = scene(seed=seed)
    truth = np.array([[1, 0, 0], [0, 1, 0], [tilt, 0, 1]]) @ similarity(degrees, scale, x, y)
    candidate = seen(query, truth)
    # Some points look like others somewhere else.
    moved = np.random.default_rng(seed).choice(len(query), int(wrong * len(query)), replace=False)
    points = candidate.points.copy()
    points[moved] = np.random.default_rng(seed + 1).uniform(0, 600, (len(moved), 2))
    match = verify(query, replace(candidate, points=points))
    if implausible(truth, query, candidate):
        return
    assert match.homography is not None and match.inliers >= 0.9 * (len(query) - len(moved)), match
    assert len(match.pairs) == match.inliers <= match.tentative
    here = np.array(corners(WIDTH, HEIGHT))
    assert np.allclose(project(match.homography, here), project(truth, here), atol=max(4.0, 6 * scale))
    assert match.footprint == pytest.approx(np.array(project(match.homography, here)))
    local = np.array(project(truth, [((WIDTH - 1) / 2 + dx, (HEIGHT - 1) / 2 + dy) for dx, dy in ((-1, 0), (1, 0))]))
    across = local[1] - local[0]
    if abs(tilt) < 1e-5:  # the query is the candidate turned back
        turned = math.degrees(math.atan2(across[1], across[0])) % 360
        assert match.rotation is not None and abs((match.rotation - turned + 180) % 360 - 180) < 1
        assert match.scale == pytest.approx(scale, rel=0.02)


def test_rotation_is_that_of_the_query_counter_clockwise_against_the_candidate() -> None:
    candidate = scene()
    query = seen(candidate, similarity(-77, 1.0))  # what the candidate shows, turned counter-clockwise
    assert verify(query, candidate).rotation == pytest.approx(77, abs=0.5)
    assert verify(candidate, query).rotation == pytest.approx(283, abs=0.5)


def test_scale_is_candidate_pixels_in_a_query_pixel_of_the_full_sizes() -> None:
    candidate = scene()
    enlarged = LocalFeatures(
        candidate.points * 5, candidate.descriptors, WIDTH * 5, HEIGHT * 5, 5.0, "sift"
    )  # looked at in the same working size
    assert verify(enlarged, candidate).scale == pytest.approx(0.2, rel=1e-3)
    assert verify(candidate, enlarged).scale == pytest.approx(5, rel=1e-3)


def test_the_same_match_every_time_and_in_threads() -> None:
    query = scene(400)
    candidate = seen(query, similarity(33, 0.8, 50, -20), noise=1.5)
    first = verify(query, candidate)
    with ThreadPoolExecutor(4) as pool:
        for again in pool.map(lambda _: verify(query, candidate), range(12)):
            assert again == first and np.array_equal(again.pairs, first.pairs)


@pytest.mark.parametrize(
    ("matrix", "reason"),
    [
        (np.array([[-1, 0, WIDTH], [0, 1, 0], [0, 0, 1.0]]), "mirrors"),
        (similarity(10, 1) @ np.diag([1, 0.2, 1]), "stretches"),
        (similarity(0, 30), "scales"),
        (similarity(0, 0.02), "scales"),
        (np.array([[1, 0, 0], [0, 1, 0], [0.01, 0, 1.0]]), "converges"),
        (np.array([[1, 0, 0], [0, 1, 0], [-0.01, 0, 1.0]]), "horizon"),
        (np.zeros((3, 3)), "horizon"),
        (np.full((3, 3), np.nan), "finite"),
    ],
)
def test_homographies_that_no_camera_makes(matrix: np.ndarray, reason: str) -> None:
    assert reason in implausible(matrix, scene(), scene())


def test_a_mirrored_picture_is_no_match() -> None:
    query = scene()
    match = verify(query, seen(query, np.array([[-1, 0, WIDTH], [0, 1, 0], [0, 0, 1.0]])))
    assert match.inliers == 0 and match.homography is None and match.footprint is None and match.reason


@pytest.mark.parametrize("shape", ["line", "spot"])
def test_matches_on_a_line_or_in_a_caption_prove_nothing(shape: str) -> None:
    """A caption burnt into every picture of a camera would otherwise match all of them."""
    first, second = scene(400, seed=1), scene(400, seed=2)
    caption = scene(60, seed=3)
    spread = caption.points * ((1, 0.004) if shape == "line" else (0.01, 0.01)) + (5, 400)
    pictures = [
        LocalFeatures(
            np.vstack([own.points, spread]).astype(np.float32),
            np.vstack([own.descriptors, caption.descriptors]),
            WIDTH,
            HEIGHT,
            1.0,
            "sift",
        )
        for own in (first, second)
    ]
    match = verify(*pictures)
    assert match.tentative >= 40 and match.inliers == 0 and match.reason


def test_one_point_with_several_orientations_is_one_inlier() -> None:
    query = scene(60)
    twice = replace(
        query,
        points=np.vstack([query.points, query.points]),
        descriptors=np.vstack([query.descriptors, scene(60, seed=9).descriptors]),
    )
    match = verify(twice, seen(twice, similarity(0, 1, 10, 0), noise=0.1))
    assert match.tentative == 120 and match.inliers <= 60


@pytest.mark.parametrize("count", [0, 1, 3, 7])
def test_hardly_any_features_is_no_match(count: int) -> None:
    few, many = scene(count), scene(200)
    for query, candidate in ((few, many), (many, few), (few, few)):
        match = verify(query, candidate)
        assert match.inliers == 0 and match.reason and match.homography is None


def test_all_points_in_one_place() -> None:
    query = replace(scene(50), points=np.full((50, 2), 17.0, np.float32))
    match = verify(query, query)
    assert match.tentative == 50 and match.inliers == 0 and match.reason


def test_matches_are_mutual_and_clear() -> None:
    query, candidate = scene(50, seed=4), scene(70, seed=5)
    rows, columns = tentative_matches(query, candidate)
    assert len(tentative_matches(candidate, query)[0]) == len(rows)
    assert len(rows) < 10  # nothing is alike
    # Two points of the candidate that look the same: which of them is meant cannot be told.
    double = replace(
        query,
        points=np.vstack([query.points, query.points[:1] + 50]),
        descriptors=np.vstack([query.descriptors, query.descriptors[:1]]),
    )
    rows, columns = tentative_matches(query, double)
    assert list(rows) == list(range(1, 50)) and list(columns) == list(range(1, 50))
    # Two points of the query that look the same are both nearest to what they match.
    rows, columns = tentative_matches(double, query)
    assert list(rows) == list(range(51)) and list(columns) == [*range(50), 0]


UNDER_A_KERNEL = """
from dataclasses import replace
import numpy as np
from outcrop.query.verification.features import LocalFeatures
from outcrop.query.verification.geometry import tentative_matches
rng = np.random.default_rng(4)
for method, descriptors in (("sift", rng.integers(0, 200, (700, 128)).astype(np.uint8)),
                            ("patch", rng.normal(size=(700, 384)).astype(np.float16))):
    descriptors[::3] = descriptors[0]  # blank patches, say: at odd places of the products' tiles
    features = LocalFeatures(np.zeros((700, 2), np.float32), descriptors, 640, 480, 1.0, method)
    print([found.tolist() for found in tentative_matches(features, features)])
"""


def test_equal_descriptors_are_equal_under_every_kernel() -> None:
    others = [i for i in range(700) if i % 3]
    clear, firsts = [others, others], [list(range(700)), [i if i % 3 else 0 for i in range(700)]]
    for kernel in kernels():
        assert run_under(kernel, UNDER_A_KERNEL).splitlines() == [str(clear), str(firsts)], kernel


def test_matches_agree_with_all_distances_written_out() -> None:
    query = scene(300, seed=6)
    candidate = seen(query, similarity(0, 1), seed=7)
    rows, columns = tentative_matches(query, candidate)
    left, right = (np.sqrt(f.descriptors.astype(np.float64)) for f in (query, candidate))
    left, right = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (left, right))
    distances = np.linalg.norm(left[:, None] - right[None], axis=2)
    expected = []
    for i, line in enumerate(distances):
        first, second = np.argsort(line)[:2]
        if distances[:, first].argmin() == i and line[first] < 0.85 * line[second]:
            expected.append((i, int(first)))
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == expected and len(expected) > 250


def test_features_of_two_kinds_are_not_compared() -> None:
    with pytest.raises(InputError, match="patch"):
        verify(scene(), replace(scene(), method="patch"))


def verification_of(inliers: int, least: int = MIN_INLIERS) -> Verification:
    """What becomes of a match with this many inliers."""
    identity = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    return Verification.of(
        GeometricMatch(inliers, inliers, "sift", identity if inliers else None, evidence=inliers / (inliers + 12)),
        Path("x.jpg"),
        least,
    )


@example([(0, 0.0), (0, 0.9999999999999999), (0, 1.0)], 4)  # 1 + score rounds to 2
@given(st.lists(st.tuples(st.integers(0, 2000), st.floats(-1, 1)), min_size=2, max_size=30), st.integers(4, 40))
def test_the_combined_score_keeps_the_order(candidates: list[tuple[int, float]], least: int) -> None:
    ranked = sorted(candidates, key=lambda c: verification_of(c[0], least).order(c[1]), reverse=True)
    scores = [verification_of(n, least).combined(s) for n, s in ranked]
    assert scores == sorted(scores, reverse=True) and all(0 <= value <= 1 for value in scores)
    for (inliers, score), value in zip(ranked, scores, strict=True):
        assert verification_of(inliers, least).verified == (inliers >= least)
        assert (value >= UNVERIFIED) == (inliers >= least)
        assert value <= verification_of(inliers + 1, least).combined(score)  # more inliers never cost


def test_the_embedding_breaks_ties_and_ranks_what_is_not_verified() -> None:
    def order(inliers: int, score: float) -> tuple[int, float, float]:
        return verification_of(inliers).order(score)

    assert order(50, 0.9) > order(50, 0.8) > order(49, 0.99)
    assert order(MIN_INLIERS, 0.1) > order(MIN_INLIERS - 1, 0.99)
    assert order(3, 0.9) > order(9, 0.8)  # both are noise
    assert Verification(reason="gone").order(0.7) == order(0, 0.7)
    assert Verification(reason="gone").combined(0.8) == pytest.approx(0.045)


def test_confidence() -> None:
    assert confidence(0) == 0 and confidence(8) == 0.5
    assert confidence(12) == pytest.approx(1 / (1 + (2 / 3) ** 6))
    assert all(confidence(n) < confidence(n + 1) for n in range(1, 300))
