"""The second pass of re-ranking: the best few candidates at full working size, ranked by how much of the query they explain."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_features import rough
from test_geometry import HEIGHT, WIDTH, scene, seen, similarity
from test_rerank import answer, items_of

from outcrop.query.answers import Query, Results
from outcrop.query.rerank import Reranking, rerank
from outcrop.query.rerank_full import AGAIN, worth_another_look
from outcrop.query.verification.confidence import MIN_INLIERS, Verification
from outcrop.query.verification.coregister import coregistered
from outcrop.query.verification.evidence import effective_inliers, evidence, shown_share
from outcrop.query.verification.features import Sift
from outcrop.query.verification.geometry import GeometricMatch, corners, project, verify
from outcrop.query.verification.originals import Originals
from outcrop.query.verification.verifier import Verifier

# -- evidence ----------------------------------------------------------------------------------------------------------


def grid(across: int, down: int) -> np.ndarray:
    """Points in the middles of as many cells of a picture of 800 x 600."""
    x, y = np.meshgrid((np.arange(across) + 0.5) * 100, (np.arange(down) + 0.5) * 100)
    return np.stack([x.ravel(), y.ravel()], 1).astype(np.float32)


def test_even_and_exact_inliers_all_count() -> None:
    every = np.repeat(grid(8, 6), 3, axis=0)
    assert effective_inliers(every, np.zeros(len(every)), (800, 600), every) == pytest.approx(144)


def test_inliers_that_crowd_count_by_the_share_they_cover() -> None:
    every, half = grid(8, 6), np.repeat(grid(4, 6), 6, axis=0)
    assert effective_inliers(half, np.zeros(144), (800, 600), every) == pytest.approx(72)
    # Water, on which there is nothing to match, costs a match nothing.
    assert effective_inliers(half, np.zeros(144), (800, 600), half) == pytest.approx(144)


def test_inexact_inliers_count_less_and_none_count_nothing() -> None:
    every = grid(8, 6)
    values = [effective_inliers(every, np.full(48, off), (800, 600), every) for off in (0.0, 1.0, 3.0)]
    assert values == sorted(values, reverse=True) and values[2] < 0.2 * values[0]
    assert effective_inliers(every[:0], np.zeros(0), (800, 600), every) == 0.0


def test_the_share_of_the_query_counts_before_the_number_of_inliers() -> None:
    assert evidence(161.0, 1.0) > evidence(172.0, 0.7) > evidence(100.0, 0.7)
    assert evidence(592.0, 1.0) > evidence(495.0, 1.0)
    assert evidence(4.0, 1.0) == pytest.approx(0.5) and evidence(2.0, 0.5) == pytest.approx(0.25)
    assert evidence(0.0, 1.0) == evidence(5.0, 0.0) == 0.0


@pytest.mark.parametrize(
    ("moved", "share"), [((0, 0), 1.0), ((320, 0), 0.5), ((320, 240), 0.25), ((-64, 0), 0.9), ((900, 0), 0.0)]
)
def test_what_a_candidate_shows_of_the_query(moved: tuple[int, int], share: float) -> None:
    places = [(x + moved[0], y + moved[1]) for x, y in corners(WIDTH, HEIGHT)]
    assert shown_share(places, (WIDTH, HEIGHT)) == pytest.approx(share, abs=1e-4)


def test_evidence_decides_among_verified_hits_and_size_before_it() -> None:
    identity = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))

    def of(inliers: int, amount: float) -> Verification:
        return Verification.of(GeometricMatch(300, inliers, "sift", identity, evidence=amount), None)

    assert of(161, 0.9).order(0.1) > of(172, 0.6).order(0.9)
    assert replace(of(40, 0.2), again=True).order(0.1) > of(172, 0.9).order(0.9)
    assert of(12, 0.01).order(0.1) > of(11, 0.5).order(0.9)


# -- co-registration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [0, 77, 200])
def test_a_homography_is_made_more_exact(degrees: float) -> None:
    query, truth = scene(500), similarity(degrees, 1.1, 20, -8)
    candidate = seen(query, truth, noise=0.7)
    found = verify(query, candidate)
    rough_one = np.array(found.homography) + np.array([[0.004, -0.003, 1.5], [0.003, 0.004, -2.0], [0, 0, 0]])
    before = replace(found, homography=tuple(tuple(map(float, row)) for row in rough_one))  # type: ignore[arg-type]
    after = coregistered(query, candidate, before)
    places = np.array(corners(WIDTH, HEIGHT))

    def off(match: GeometricMatch) -> float:
        return float(np.abs(np.array(project(match.homography, places)) - np.array(project(truth, places))).max())

    assert off(after) < 0.5 < off(before) / 4
    assert after.rotation is not None and abs((after.rotation - degrees + 180) % 360 - 180) < 0.1
    assert after.footprint == pytest.approx(np.array(project(after.homography, places)))
    assert (after.inliers, after.evidence) == (found.inliers, found.evidence)


def test_what_cannot_be_made_more_exact_stays() -> None:
    query = scene(300)
    found = verify(query, seen(query, similarity(30, 1.0)))
    other = scene(300, seed=9)  # other ground: hardly any point is found again
    assert coregistered(query, other, found) is found
    nothing = GeometricMatch(0, 0, "sift", reason="only 3 points are alike")
    assert coregistered(query, other, nothing) is nothing


# -- which, and how ----------------------------------------------------------------------------------------------------


def test_the_best_few_and_those_near_are_looked_at_again() -> None:
    def of(inliers: int) -> Verification:
        return Verification.of(
            GeometricMatch(90, inliers, "sift", ((1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0)), evidence=inliers / 100), None
        )

    some = {str(inliers): of(inliers) for inliers in (3, 5, 7, 11, 12, 90, 40)} | {"gone": Verification(reason="gone")}
    assert worth_another_look(some, MIN_INLIERS) == ["90", "40", "12", "11", "7"]
    many = {str(inliers): of(inliers) for inliers in range(12, 40)}
    assert worth_another_look(many, MIN_INLIERS) == [str(inliers) for inliers in range(39, 39 - AGAIN, -1)]


@pytest.fixture
def large(tmp_path: Path) -> Query:
    """Three photographs of 1,200 pixels that overlap, and a query: a part of the second, turned, noisy and flat."""
    land = rough(5, 2200, 1500)
    (tmp_path / "photos/a_100").mkdir(parents=True)
    for frame in (1, 2, 3):
        x, y = 500 * (frame - 1), 200 * (frame - 1)
        view = land.crop((x, y, x + 1200, y + 900))
        view.save(tmp_path / f"photos/a_100/a_100_{frame:04d}.jpg", quality=85)
    registry = {"datasets": {"d": {"root": "photos", "images": {"a_100": 3}}}}
    (tmp_path / "data_key.json").write_text(json.dumps(registry))
    with Image.open(tmp_path / "photos/a_100/a_100_0002.jpg") as whole:
        part = np.asarray(whole.rotate(77, Image.Resampling.BICUBIC).crop((330, 250, 870, 650)), np.float32)
    noise = np.random.default_rng(0).normal(0, 12, part.shape)
    Image.fromarray((0.5 * part + 60 + noise).clip(0, 255).astype(np.uint8)).save(tmp_path / "query.png")
    return Query(str(tmp_path / "query.png"))


def reranked(folder: Path, results: Results) -> Results:
    originals = Originals.of(folder / "data_key.json", folder)
    with Verifier.below(folder / "state", 2**30) as verifier:
        return rerank(results, verifier, originals, Reranking())


def test_the_best_candidates_are_matched_at_full_size(large: Query, tmp_path: Path) -> None:
    (result,) = reranked(tmp_path, answer(large, items_of(tmp_path, 3), [0.9, 0.8, 0.7])).results
    assert result.hits[0].item.frame == 2
    best = result.verification(result.hits[0])
    assert (
        best is not None and best.again and best.match is not None and best.match.rotation == pytest.approx(77, abs=0.2)
    )
    assert 0.5 < best.match.evidence <= 1 and not best.match.pairs.size
    # Features of both sizes are kept, each under its own; the query is smaller than either size and is looked at once.
    kept = {folder.name: len(list(folder.rglob("*.npz"))) for folder in (tmp_path / "state/features").iterdir()}
    finer = Sift().finer
    assert finer is not None and finer.finer is None
    assert kept == {Sift().fingerprint: 4, finer.fingerprint: 3}
    again = reranked(tmp_path, answer(large, items_of(tmp_path, 3), [0.9, 0.8, 0.7]))
    assert again.results == (result,) and again.timings["refine"] > 0


def test_a_picture_that_is_gone_meanwhile_keeps_what_the_first_pass_found(large: Query, tmp_path: Path) -> None:
    results = answer(large, items_of(tmp_path, 3), [0.9, 0.8, 0.7])
    originals = Originals.of(tmp_path / "data_key.json", tmp_path)
    with Verifier.below(tmp_path / "state", 2**30) as verifier:
        assert verifier.finer is not None and verifier.finer.cache is not None
        verifier.finer = replace(verifier.finer, extractor=_Blind())  # type: ignore[arg-type]
        (result,) = rerank(results, verifier, originals, Reranking()).results
    assert result.match is True and result.hits[0].item.frame == 2


class _Blind(Sift):
    """Cannot read any picture."""

    def extract(self, decoded: object) -> object:  # type: ignore[override]
        from outcrop.schema.errors import PictureError

        raise PictureError("the file is gone")
