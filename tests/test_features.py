"""Local features of picture files, and their cache on disk."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pictures import picture
from PIL import Image

from outcrop.embed.images import decode
from outcrop.query.verification import feature_cache
from outcrop.query.verification.feature_cache import FeatureCache
from outcrop.query.verification.features import LocalFeatures, Sift, read_features, spread
from outcrop.query.verification.geometry import one_thread_each, verify
from outcrop.query.verification.verifier import Verifier
from outcrop.schema.digests import digest_of
from outcrop.schema.errors import PictureError


def features_of(image: Image.Image, extractor: Sift | None = None) -> LocalFeatures:
    """Features of a picture in memory."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return (extractor or Sift()).extract(decode(buffer.getvalue(), name="picture"))


def rough(seed: int, width: int, height: int) -> Image.Image:
    """A picture with something distinctive at many sizes."""
    rng = np.random.default_rng(seed)
    layers = [
        Image.fromarray(rng.integers(0, 256, (height // size + 1, width // size + 1, 3), dtype=np.uint8)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        for size in (4, 12, 40)
    ]
    return Image.blend(Image.blend(layers[0], layers[1], 0.5), layers[2], 0.5)


def test_what_features_are() -> None:
    found = features_of(rough(1, 900, 600))
    assert 500 < len(found) <= 1500 and found.method == "sift"
    assert found.points.dtype == np.float32 and found.points.shape == (len(found), 2)
    assert found.descriptors.dtype == np.uint8 and found.descriptors.shape == (len(found), 128)
    assert (found.width, found.height) == (900, 600) and found.unit == pytest.approx(900 / 800, rel=1e-3)
    assert found.points.min() >= -0.5 and (found.points.max(axis=0) <= (899.5, 599.5)).all()


@pytest.mark.parametrize("colour", ["water", "noise-free gradient", "black", "tiny"])
def test_featureless_pictures_have_none(colour: str) -> None:
    image = {
        "water": Image.new("RGB", (640, 480), (60, 90, 120)),
        "noise-free gradient": Image.linear_gradient("L").resize((640, 480)).convert("RGB"),
        "black": Image.new("RGB", (640, 480)),
        "tiny": Image.new("RGB", (8, 8), (200, 0, 0)),
    }[colour]
    found = features_of(image)
    assert len(found) <= 4 and found.points.shape == (len(found), 2) and found.descriptors.shape == (len(found), 128)
    match = verify(found, features_of(rough(1, 300, 200)))
    assert match.inliers == 0 and match.reason and len(match.pairs) == 0


def test_keypoints_are_spread_over_the_picture() -> None:
    """One strongly textured corner must not take every keypoint."""
    image = rough(2, 800, 600)
    faint = Image.blend(Image.new("RGB", image.size, (128, 128, 128)), image, 0.3)
    faint.paste(image.crop((0, 0, 400, 300)), (0, 0))
    found = features_of(faint)
    assert len(found) == 1500
    outside = (found.points[:, 0] > 400) | (found.points[:, 1] > 300)
    assert (
        outside.mean() > 0.6
    )  # three quarters of the area; the strongest 1500 alone would nearly all be in the corner


def test_spread_takes_the_strongest_of_each_cell_in_turn() -> None:
    import cv2

    places = [(1, 1, 0.9), (2, 2, 0.8), (3, 3, 0.7), (15, 1, 0.1), (16, 2, 0.3), (1, 15, 0.2)]
    keypoints = [cv2.KeyPoint(x, y, 1, 0, response) for x, y, response in places]
    kept = [round(k.response, 1) for k in spread(keypoints, 4, 10)]
    assert kept == [0.9, 0.3, 0.2, 0.8]
    assert len(spread(keypoints, 100, 10)) == 6 and spread([], 5, 10) == []


def test_points_are_of_the_full_size_whatever_the_working_size(tmp_path: Path) -> None:
    """A large JPEG is decoded scaled; its points are where a small copy has them, times the scale."""
    image = rough(3, 800, 600)
    image.resize((3200, 2400), Image.Resampling.BICUBIC).save(tmp_path / "large.jpg", quality=95)
    image.save(tmp_path / "small.jpg", quality=95)
    large, small = (read_features(tmp_path / name, Sift()) for name in ("large.jpg", "small.jpg"))
    assert (large.width, large.height, large.unit) == (3200, 2400, 4.0)
    match = verify(small, large)
    assert match.homography is not None and match.scale == pytest.approx(4, rel=1e-3)
    # The upper left corner lies on the upper left corner: no half pixel is lost between the sizes.
    assert np.allclose(match.footprint, [(-0.5, -0.5), (3199.5, -0.5), (3199.5, 2399.5), (-0.5, 2399.5)], atol=1.0)


def test_upright_whatever_the_orientation_tag(tmp_path: Path) -> None:
    image = rough(4, 640, 480)
    image.save(tmp_path / "plain.jpg", quality=95)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "tagged.jpg", quality=95, exif=exif)
    plain, tagged = (read_features(tmp_path / name, Sift()) for name in ("plain.jpg", "tagged.jpg"))
    assert (tagged.width, tagged.height) == (640, 480)
    match = verify(tagged, plain)
    assert match.rotation is not None and abs((match.rotation + 180) % 360 - 180) < 0.1


def test_a_file_that_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"nothing")
    with pytest.raises(PictureError, match=r"x\.jpg"):
        read_features(tmp_path / "x.jpg", Sift())
    with pytest.raises(PictureError, match=r"gone\.jpg"):
        read_features(tmp_path / "gone.jpg", Sift())


# -- cache ---------------------------------------------------------------------------------------------------------


def some(count: int = 20, seed: int = 0) -> LocalFeatures:
    """Features of nothing in particular."""
    rng = np.random.default_rng(seed)
    return LocalFeatures(
        rng.uniform(0, 100, (count, 2)).astype(np.float32),
        rng.integers(0, 255, (count, 128), np.uint8),
        100,
        80,
        1.25,
        "sift",
    )


def same(first: LocalFeatures, second: LocalFeatures) -> bool:
    """Whether two are equal in every part."""
    return (
        np.array_equal(first.points, second.points)
        and np.array_equal(first.descriptors, second.descriptors)
        and (first.width, first.height, first.unit, first.method)
        == (second.width, second.height, second.unit, second.method)
    )


def never() -> LocalFeatures:
    """What must not be called."""
    raise AssertionError("made again")


@pytest.mark.parametrize("count", [0, 1, 300])
def test_what_is_kept_comes_back(tmp_path: Path, count: int) -> None:
    made = some(count)
    assert FeatureCache.below(tmp_path, "one").get("ab12", lambda: made) is made
    cache = FeatureCache.below(tmp_path, "one")
    assert same(cache.get("ab12", never), made) and cache.made == 0
    assert cache.get("ab12", never) is cache.get("ab12", never)  # from memory
    other = FeatureCache.below(tmp_path, "two")
    assert same(other.get("ab12", lambda: some(5)), some(5)) and other.made == 1  # other parameters, other features


@pytest.mark.parametrize("damage", ["empty", "half", "flipped", "text", "pickle"])
def test_damaged_files_are_made_anew(tmp_path: Path, damage: str) -> None:
    made = some(300)
    FeatureCache.below(tmp_path, "one").get("ab12", lambda: made)
    path = FeatureCache.below(tmp_path, "one").path("ab12")
    data = path.read_bytes()
    if damage == "pickle":
        np.savez(path, points=np.array([{"a": 1}], dtype=object), descriptors=made.descriptors, facts=np.zeros(3))
    else:
        middle = len(data) // 2
        flipped = data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]
        path.write_bytes({"empty": b"", "half": data[:middle], "flipped": flipped, "text": b"hello"}[damage])
    cache = FeatureCache.below(tmp_path, "one")
    assert same(cache.get("ab12", lambda: made), made) and cache.made == 1
    assert same(FeatureCache.below(tmp_path, "one").get("ab12", never), made)  # and replaced


def test_features_that_do_not_say_at_what_size_they_were_made_are_made_anew(tmp_path: Path) -> None:
    made = some(30)
    FeatureCache.below(tmp_path, "one").get("ab12", lambda: made)
    path = FeatureCache.below(tmp_path, "one").path("ab12")
    with np.load(path) as kept:
        parts = dict(kept)
    assert parts["facts"].tolist() == [100, 80, 1.25, 80]
    for facts in (parts["facts"][:3], [100, 80, 1.25, 160]):  # as an earlier version wrote them; of another size
        np.savez(path, **{**parts, "facts": np.array(facts, np.float64)})
        cache = FeatureCache.below(tmp_path, "one")
        assert same(cache.get("ab12", lambda: made), made) and cache.made == 1


def test_larger_working_sizes_keep_more_points() -> None:
    finer = Sift().finer
    assert finer is not None and finer.edge == 1600
    large, small = rough(1, 1280, 960), rough(1, 600, 400)
    first, second = features_of(large), features_of(large, finer)
    assert (first.working, second.working) == (800, 1280) and len(first) == 1500
    assert 1500 < len(second) <= 1500 * 1.6**2
    assert same(features_of(small), features_of(small, finer))  # no picture is enlarged


def test_a_digest_never_leaves_the_folder(tmp_path: Path) -> None:
    cache = FeatureCache.below(tmp_path, "one")
    for digest in ("../../etc/passwd", "/etc/passwd", "a" * 500, "a/b"):
        assert cache.path(digest).resolve().is_relative_to((tmp_path / "features/one").resolve())
        cache.get(digest, some)
        assert same(FeatureCache.below(tmp_path, "one").get(digest, never), some())


def test_the_folder_stays_below_its_limit(tmp_path: Path) -> None:
    size = 46_000
    cache = FeatureCache.below(tmp_path, "one", limit=10 * size)
    for number in range(40):
        cache.get(f"{number:04d}", lambda: some(300))
        path = cache.path(f"{number:04d}")
        if path.exists():
            os.utime(path, ns=(10**9 * number, 10**9 * number))  # the order of their making, whatever the clock's grain
    files = list(tmp_path.rglob("*.npz"))
    assert 0 < sum(file.stat().st_size for file in files) <= 10 * size
    assert cache.path("0039").exists() and not cache.path("0000").exists()
    nothing = FeatureCache.below(tmp_path / "off", "one", limit=0)
    nothing.get("ab12", some)
    assert not list((tmp_path / "off").rglob("*.npz"))


def test_memory_is_bounded_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_cache, "IN_MEMORY", 500_000)
    cache = FeatureCache.below(tmp_path, "one")
    for number in range(40):  # 40,800 bytes each
        cache.get(f"{number:04d}", lambda: some(300))
    held = [cache.get(f"{number:04d}", never) for number in range(40)]  # the others come from disk
    assert cache.made == 40 and all(same(features, some(300)) for features in held)
    assert all(cache.get(f"{number:04d}", never) is held[number] for number in range(28, 40))
    assert len(cache._memory) == 12
    cache.get("ffff", lambda: some(20_000))
    assert list(cache._memory) == ["ffff"]


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "features").write_text("a file where the folder should be")
    cache = FeatureCache.below(tmp_path, "one")
    assert same(cache.get("ab12", some), some())


def test_threads_share_a_cache(tmp_path: Path) -> None:
    cache = FeatureCache.below(tmp_path, "one")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: cache.get(f"{n % 5:04d}", lambda: some(50, n % 5)), range(200)))
    assert all(same(features, some(50, n % 5)) for n, features in enumerate(found))


def test_the_verifier_reads_a_picture_once(tmp_path: Path) -> None:
    picture(1).save(tmp_path / "one.jpg")
    digest = digest_of((tmp_path / "one.jpg").read_bytes())
    verifier = Verifier.below(tmp_path, 2**30)
    made = verifier.features(tmp_path / "one.jpg")
    (tmp_path / "one.jpg").unlink()
    again = Verifier.below(tmp_path, 2**30).features(tmp_path / "one.jpg", digest)
    assert same(made, again) and len(made) > 20
    assert "gone.jpg" in str(verifier.source.features_or_reason(tmp_path / "gone.jpg"))


def test_the_verifier_works_in_order_and_in_bounds(tmp_path: Path) -> None:
    started = []

    def work(number: int) -> int:
        started.append(number)
        return -number

    with Verifier(workers=3) as verifier:
        results = verifier.map(work, range(1000))
        assert [next(results) for _ in range(10)] == [-n for n in range(10)]
        assert len(started) < 200
        assert list(results) == [-n for n in range(10, 1000)]
    with pytest.raises(RuntimeError):
        next(verifier.map(work, [1]))


def test_threads_of_opencv_come_back() -> None:
    import cv2

    before = cv2.getNumThreads()
    with one_thread_each():
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == before


def test_another_fingerprint_for_other_parameters() -> None:
    assert len({Sift().fingerprint, Sift(edge=1000).fingerprint, Sift(keypoints=10).fingerprint}) == 3
    assert replace(Sift()) == Sift()
