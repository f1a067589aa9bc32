"""Does it find pictures? On real photographs and on the sample world, with the figures that we promise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from commands import run
from PIL import Image


def altered(sample: Path, folder: Path, how: str) -> dict[Path, str]:
    """Every real photograph, altered, with the source path by which its item is known."""
    files: dict[Path, str] = {}
    for source in sorted((sample / "aerial").rglob("*.[jJ][pP][gG]")):
        with Image.open(source) as picture:
            width, height = picture.size
            if how == "half":
                changed = picture.resize((width // 2, height // 2), Image.Resampling.LANCZOS)
            else:
                left, top = round(width * 0.2), round(height * 0.2)
                changed = picture.crop((left, top, width - left, height - top))
            file = folder / f"{source.parent.name}-{source.stem}.jpg"
            changed.save(file, quality=60 if how == "half" else 90)
        files[file] = f"{source.parent.name}/{source.name}"
    assert len(files) == 43
    return files


def ranks(files: dict[Path, str], place: tuple[Path, ...], k: int, *more: str) -> list[int | None]:
    """The rank of each altered photograph's own item, None where it is not among the best k."""
    answer = run("query", "image", *files, "-k", k, *more, *place, "--json").json
    found = []
    for query in answer["queries"]:
        own = [hit["rank"] for hit in query["hits"] if hit["source"] == files[Path(query["query"])]]
        found.append(own[0] if own else None)
    return found


def test_reencoded_at_half_size(shared_sample: Path, real: tuple[Path, ...], tmp_path: Path) -> None:
    found = ranks(altered(shared_sample, tmp_path, "half"), real, 1)
    assert found.count(1) / len(found) >= 0.98, found


def test_centre_crop(shared_sample: Path, real: tuple[Path, ...], tmp_path: Path) -> None:
    found = ranks(altered(shared_sample, tmp_path, "crop"), real, 10)
    assert sum(rank is not None for rank in found) / len(found) >= 0.95, found


def test_a_dataset_filter_keeps_the_other_out(shared_sample: Path, real: tuple[Path, ...], tmp_path: Path) -> None:
    files = altered(shared_sample, tmp_path, "half")
    answer = run("query", "image", *files, "-k", 43, "--where", "dataset=caliterra", *real, "--json").json
    assert all(len(query["hits"]) == 25 for query in answer["queries"])
    assert {hit["dataset"] for query in answer["queries"] for hit in query["hits"]} == {"caliterra"}


def test_real_metadata(real: tuple[Path, ...]) -> None:
    key = "image/brighton_beach/brighton_beach/0018"
    hit = run("query", "item", key, "-k", 1, *real[2:], "--json").json["queries"][0]["hits"][0]
    assert hit["altitude"] == pytest.approx(39.8)  # from the drone's XMP: neither the registry nor the name gives one
    unknown = run("query", "item", key, "-k", 50, "--where", "altitude=0", *real[2:], "--json").json["queries"][0][
        "hits"
    ]
    assert {hit["dataset"] for hit in unknown} == {"caliterra"}
    known = run("query", "item", key, "-k", 50, "--where", "altitude=0..100", *real[2:], "--json").json["queries"][0][
        "hits"
    ]
    assert {hit["dataset"] for hit in known} == {"brighton_beach"}


def evaluated(world: tuple[Path, tuple[object, ...]], *asked: object) -> dict[str, dict[str, Any]]:
    """The figures of each strategy; right is what shows at least a quarter of the query's ground, everything else is wrong."""
    folder, place = world
    truth = ("--truth", folder / "truth.json", "--relevant", 0.25, "--ignore", 0.25)
    answer = run("query", "evaluate", *asked, *truth, "--rerank", "geometric", *place, "--json").json
    assert answer["queries"]["left_out"] == [] and answer["own"] == "left out"
    return {strategy["name"]: strategy for strategy in answer["strategies"]}


@pytest.mark.slow
def test_photographs_of_another_day_find_overlapping_ones(sample_world: tuple[Path, tuple[object, ...]]) -> None:
    found = evaluated(sample_world, "--pictures", sample_world[0] / "queries", "--rerank-depth", 20)
    assert all(strategy["overall"]["recall@5"]["value"] >= 0.9 for strategy in found.values())
    assert (
        found["geometric"]["overall"]["recall@1"]["value"] >= 0.95 and found["geometric"]["gain"]["mAP"]["low"] > 0.05
    )


@pytest.mark.slow
def test_stored_photographs_find_overlapping_ones(sample_world: tuple[Path, tuple[object, ...]]) -> None:
    found = evaluated(sample_world, "jamshill_image", "--limit", 16, "--rerank-depth", 12)
    assert all(strategy["overall"]["recall@5"]["value"] >= 0.9 for strategy in found.values())
    assert found["geometric"]["overall"]["recall@1"]["value"] >= 0.95


@pytest.mark.slow
def test_low_photographs_find_high_ones(sample_world: tuple[Path, tuple[object, ...]]) -> None:
    """The hard way, where re-ranking earns its keep: from 150 m, only photographs from 300 m may answer."""
    found = evaluated(sample_world, "jamshill_image", "--limit", 24, "--rerank-depth", 24, "--where", "altitude=300")
    recall = {
        name: next(c["recall@1"]["value"] for c in strategy["splits"]["altitude"] if c["class"] == "150 m")
        for name, strategy in found.items()
    }
    assert recall["geometric"] >= 0.95 > recall["embedding"]
