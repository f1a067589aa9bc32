"""`query match --features patch`: patch tokens of a model as local features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import run
from PIL import Image
from test_features import rough

from outcrop.embed.encoder import Encoder
from outcrop.embed.images import Decoded
from outcrop.embed.models import find_model
from outcrop.embed.photo import PhotoMetadata
from outcrop.query.verification.confidence import MIN_INLIERS_PATCH, confidence, least_inliers
from outcrop.query.verification.features import Sift
from outcrop.query.verification.geometry import verify
from outcrop.query.verification.patch_tokens import PatchTokens
from outcrop.query.verification.verifier import Verifier
from outcrop.schema.errors import InputError

LITE = ("--features", "patch", "--model", "efficientnet_lite0", "--device", "cpu")


def decoded(image: Image.Image) -> Decoded:
    return Decoded(image, image.width, image.height, PhotoMetadata())


@pytest.fixture(scope="module")
def tokens() -> PatchTokens:
    return PatchTokens.of(Encoder.open(find_model("efficientnet_lite0", size=768), device="cpu"))


def test_two_overlapping_cuts_of_one_picture_match_where_they_overlap(tmp_path: Path) -> None:
    whole = rough(5, 800, 600)
    whole.crop((0, 0, 600, 450)).save("one.png")
    whole.crop((100, 75, 700, 525)).save("two.png")
    answer = run("query", "match", "one.png", "two.png", *LITE, "--size", 768, "--json", "--output", "m.png").json
    assert answer["method"] == "patch" and answer["match"] is True and answer["inliers"] > 2 * MIN_INLIERS_PATCH
    middle = np.array([300, 225, 1.0]) @ np.array(answer["homography"]).T
    assert np.allclose(middle[:2] / middle[2], (200, 150), atol=12)  # half a patch is 12.5 pixels
    assert answer["score"] > 0.99 and Path("m.png").stat().st_size > 1000


def test_other_ground_does_not_match(tokens: PatchTokens) -> None:
    first, second = (tokens.extract(decoded(rough(seed, 600, 450))) for seed in (2, 5))
    assert verify(first, second).inliers < MIN_INLIERS_PATCH
    assert verify(first, first).inliers > 400


def test_tokens_lie_in_the_middle_of_their_patches() -> None:
    extractor = PatchTokens.of(Encoder.open(find_model("efficientnet_lite0", size=128, fit="pad"), device="cpu"))
    found = extractor.extract(decoded(rough(1, 800, 400)))
    assert len(found) == 8  # 4 x 4 places, of which the upper and the lower row are padding
    assert found.points[0] == pytest.approx((99.5, 99.5), abs=0.01)
    assert found.points[-1] == pytest.approx((699.5, 299.5), abs=0.01)
    assert found.unit == pytest.approx(200 * 0.75 / 4)
    assert (found.width, found.height, found.method) == (800, 400, "patch")
    assert found.descriptors.dtype == np.float16
    assert np.linalg.norm(found.descriptors.astype(float), axis=1) == pytest.approx(1, abs=1e-3)


def test_features_are_cached_by_model_and_kept_apart_from_sift(tokens: PatchTokens, tmp_path: Path) -> None:
    rough(1, 320, 240).save("one.png")
    verifier = Verifier.below(tmp_path / "state", 2**30, tokens)
    first = verifier.features(Path("one.png"))
    again = Verifier.below(tmp_path / "state", 2**30, tokens)
    assert np.array_equal(again.features(Path("one.png")).descriptors, first.descriptors)
    assert again.source.cache is not None and again.source.cache.made == 0
    assert tokens.fingerprint.endswith(tokens.space.fingerprint)
    sift = Verifier.below(tmp_path / "state", 2**30).features(Path("one.png"))
    with pytest.raises(InputError, match="features of patch cannot be compared with features of sift"):
        verify(first, sift)
    assert Sift().fingerprint != tokens.fingerprint


def test_a_folder_is_matched_all_to_all(tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    whole = rough(5, 800, 600)
    whole.crop((0, 0, 600, 450)).save("many/one.png")
    whole.crop((100, 75, 700, 525)).save("many/two.png")
    Image.new("RGB", (600, 450), (70, 90, 110)).save("many/water.png")
    answer = run("query", "match", "--all", "many", *LITE, "--size", 768, "--json").json
    found = [(Path(m["query"]).stem, Path(m["candidate"]).stem) for m in answer["matches"]]
    assert answer["pairs"] == 3 and found == [("one", "two")]


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    rough(1, 320, 240).save("one.png")
    assert "--input-size needs --local-features patch" in run(
        "query", "match", "one.png", "one.png", "--size", 256
    ).error(2)
    error = run("query", "match", "one.png", "one.png", "--features", "patch").error(3)
    assert "no weights for dinov3_vits16" in error
    assert "did you mean 'patch'" in run("query", "match", "one.png", "one.png", "--features", "patches").error(3)


def test_scores_of_patches_are_as_likely_at_their_own_threshold() -> None:
    assert least_inliers("sift") == 12 and least_inliers("patch") == MIN_INLIERS_PATCH
    assert confidence(MIN_INLIERS_PATCH, "patch") == pytest.approx(confidence(12))
    assert confidence(12, "patch") < 0.5 < confidence(12)
