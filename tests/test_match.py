"""`query match`: pairs of pictures, and all pictures of a folder."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from commands import run
from PIL import Image
from test_features import rough


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A picture, and its middle turned counter-clockwise by 30 degrees and halved in size."""
    whole = rough(1, 800, 600)
    whole.save(tmp_path / "whole.png")
    turned = whole.rotate(30, Image.Resampling.BICUBIC).crop((240, 180, 560, 420))
    turned.resize((160, 120), Image.Resampling.LANCZOS).save(tmp_path / "part.png")
    return tmp_path / "part.png", tmp_path / "whole.png"


def test_one_to_one(pair: tuple[Path, Path]) -> None:
    outcome = run("query", "match", *pair, "--json")
    answer = outcome.json
    assert outcome.code == 0 and answer["match"] is True and answer["inliers"] >= 30 and answer["score"] > 0.99
    assert answer["rotation"] == pytest.approx(30, abs=0.5) and answer["scale"] == pytest.approx(2, rel=0.01)
    middle = np.array([[79.5, 59.5, 1]]) @ np.array(answer["homography"]).T
    assert np.allclose(middle[0, :2] / middle[0, 2], (399.5, 299.5), atol=1.0)
    inner = 160 * math.cos(math.radians(30)), 160 * math.sin(math.radians(30))
    upper_left = (399.5 - inner[0] + 60, 299.5 - inner[1] - 103.9)  # turned back, clockwise
    assert np.allclose(answer["footprint"][0], upper_left, atol=2.0)
    assert set(answer) == {
        "query", "candidate", "match", "score", "inliers", "evidence", "tentative", "method", "rotation", "scale", "homography",
        "footprint",
        "query_size", "candidate_size",
    }  # fmt: skip
    table = run("query", "match", *pair).out
    assert "part.png" in table and "homography" in table and str(answer["inliers"]) in table


def test_the_drawing_shows_both_with_lines_and_outline(pair: tuple[Path, Path], tmp_path: Path) -> None:
    outcome = run("query", "match", *pair, "--output", "m.png", "--json")
    assert str(tmp_path / "m.png") in outcome.err
    with Image.open("m.png") as drawing:
        assert drawing.format == "PNG"
        pixels = np.asarray(drawing.convert("RGB")).astype(int)
    outline = (np.abs(pixels - (255, 94, 26)).max(axis=2) < 30).sum(axis=0)
    assert outline[: pixels.shape[1] // 2].sum() < outline[pixels.shape[1] // 2 :].sum() > 500
    assert not list(tmp_path.glob(".*.new"))


def test_no_match_is_an_answer_and_no_failure(tmp_path: Path) -> None:
    rough(1, 640, 480).save("one.png")
    rough(2, 640, 480).save("two.png")
    Image.new("RGB", (640, 480), (70, 90, 110)).save("water.png")
    for candidate in ("two.png", "water.png"):
        outcome = run("query", "match", "one.png", candidate, "--json", "--output", "m.png")
        answer = outcome.json
        assert outcome.code == 0 and answer["match"] is False and answer["score"] < 0.1
        assert answer["reason"] and "no match" in outcome.err and Path("m.png").exists()
        assert answer["homography"] is None and answer["footprint"] is None and answer["rotation"] is None


def test_min_inliers_decides(pair: tuple[Path, Path]) -> None:
    inliers = run("query", "match", *pair, "--json").json["inliers"]
    strict = run("query", "match", *pair, "--json", "--min-inliers", inliers + 1)
    assert strict.json["match"] is False and strict.json["inliers"] == inliers and "no match" in strict.err
    assert run("query", "match", *pair, "--json", "--min-inliers", inliers).json["match"] is True


def test_the_same_answer_twice(pair: tuple[Path, Path]) -> None:
    first = run("query", "match", *pair, "--json")
    assert Path(".outcrop/features").is_dir()  # the second comes from the cache
    assert run("query", "match", *pair, "--json").json == first.json


def test_all_against_all(pair: tuple[Path, Path], tmp_path: Path) -> None:
    rough(2, 640, 480).save(tmp_path / "other.png")
    Image.new("RGB", (640, 480)).save(tmp_path / "black.png")
    outcome = run("query", "match", "--all", tmp_path, "--json", "--output", tmp_path / "drawings")
    answer = outcome.json
    assert (answer["pictures"], answer["pairs"], answer["failed"]) == (4, 6, [])
    assert [(Path(m["query"]).name, Path(m["candidate"]).name) for m in answer["matches"]] == [
        ("part.png", "whole.png")
    ]
    assert [file.name for file in (tmp_path / "drawings").iterdir()] == ["001_part_whole.png"]
    alone = run("query", "match", *pair, "--json").json
    assert answer["matches"][0]["homography"] == alone["homography"]
    table = run("query", "match", "--all", pair[0].parent)
    assert "matches among" in table.out


def test_a_broken_picture_among_all(pair: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    outcome = run("query", "match", "--all", tmp_path, "--json")
    assert "1 picture" in outcome.error(4) and "broken.jpg" in outcome.err
    assert outcome.json["pictures"] == 2 and len(outcome.json["failed"]) == 1 and len(outcome.json["matches"]) == 1


def test_wrong_use(pair: tuple[Path, Path], tmp_path: Path) -> None:
    run("query", "match").error(2)
    run("query", "match", pair[0]).error(2)
    run("query", "match", *pair, pair[0]).error(2)
    run("query", "match", *pair, "--all", tmp_path).error(2)
    assert "gone.jpg" in run("query", "match", pair[0], "gone.jpg").error(3)
    assert "folder" in run("query", "match", "--all", pair[0]).error(3)
    assert "sift" in run("query", "match", *pair, "--features", "sitf").error(3)
    assert "does not exist" in run("query", "match", *pair, "--output", "no/m.png").error(3)
    assert "folder" in run("query", "match", *pair, "--output", tmp_path).error(3)
    (tmp_path / "file").write_text("")
    assert "file" in run("query", "match", "--all", tmp_path, "--output", tmp_path / "file").error(3)
    (tmp_path / "alone").mkdir()
    rough(1, 100, 100).save(tmp_path / "alone/one.png")
    assert "two pictures" in run("query", "match", "--all", tmp_path / "alone").error(3)


def test_real_photographs_match_where_they_overlap_and_nowhere_else(shared_sample: Path) -> None:
    """All pairs of a real flight, against the footprints that its log gives."""
    from outcrop.sample.world import overlap

    folder = shared_sample / "aerial/brighton_beach"
    rows = {row["file"]: row for row in csv.DictReader((folder / "metadata.csv").read_text().splitlines())}

    def ground(row: dict[str, str]) -> tuple[tuple[float, float], ...]:
        text = row["footprint_wkt_lonlat_TL_TR_BR_BL"]
        places = [tuple(map(float, p.split())) for p in text[text.index("((") + 2 : -2].split(",")][:4]
        east = math.cos(math.radians(46.84))
        return tuple((111_320 * east * (lon + 92), 111_320 * (lat - 46.84)) for lon, lat in places)

    answer = run("query", "match", "--all", folder, "--json").json
    assert answer["pairs"] == 18 * 17 // 2
    found = {(Path(m["query"]).name, Path(m["candidate"]).name): m for m in answer["matches"]}
    assert all(overlap(ground(rows[a]), ground(rows[b])) > 0 for a, b in found)
    names = sorted(rows)
    near = [
        (a, b) for i, a in enumerate(names) for b in names[i + 1 :] if overlap(ground(rows[a]), ground(rows[b])) >= 0.4
    ]
    assert len(near) >= 15 and sum(pair in found for pair in near) / len(near) >= 0.95
    off = [
        (float(rows[b]["pixel_yaw_deg"]) + m["rotation"] - float(rows[a]["pixel_yaw_deg"]) + 180) % 360 - 180
        for (a, b), m in found.items()
        if m["inliers"] >= 30
    ]
    assert (
        len(off) >= 30 and np.median(np.abs(off)) < 3 and max(map(abs, off)) < 10
    )  # the compass is good to some degrees
