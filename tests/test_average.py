"""`collection average`: vectors averaged with those of verified neighbours, against numpy's own; interruptions and refusals."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run
from numpy.typing import NDArray
from test_features import features_of, rough
from test_rerank import items_of, write_world
from vectors import unit_vectors

import outcrop.operate.averaging
import outcrop.query.neighbours
from outcrop.query.verification import pairs
from outcrop.query.verification.features import LocalFeatures, Sift, read_features
from outcrop.query.verification.geometry import GeometricMatch, evidence_of_candidate, one_thread_each, verify
from outcrop.query.verification.pairs import Pair, PairsKept, key_of, match_pairs
from outcrop.query.verification.verifier import Verifier
from outcrop.schema.digests import digest_of
from outcrop.schema.item import Item, Kind, reference_key
from outcrop.schema.space import Space
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

SPACE = Space(model="m", weights_digest="0", size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1), pooling="avg", dim=8)
PHOTOS, NEIGHBOURS = 8, 3
Stored = dict[str, NDArray[np.float32]]


def write_strip(folder: Path, pictures: int = PHOTOS) -> list[Item]:
    """Photographs of a strip, each of which overlaps the next, and a last one of other ground; items with the files' digests."""
    write_world(folder, pictures)
    ground = rough(9, 300 + 80 * pictures, 180)
    for frame in range(1, pictures):
        left = 80 * (frame - 1)
        ground.crop((left, 0, left + 240, 180)).save(folder / f"photos/a_100/a_100_{frame:04d}.jpg", quality=92)
    return [
        replace(item, source_digest=digest_of((folder / "photos" / item.source).read_bytes()))
        for item in items_of(folder, pictures)
    ]


def fill(uri: str, name: str, items: list[Item], vectors: NDArray[np.float32]) -> None:
    with Store.connect(uri) as store:
        collection = Collection.ensure(store, name, SPACE)
        collection.upsert(items, vectors)
        collection.flush()


def stored(uri: str, name: str) -> Stored:
    """All vectors by key."""
    with Store.connect(uri) as store:
        pages = Collection.open(store, name).scan(vectors=True)
        return {item.key: vector for items, vectors in pages for item, vector in zip(items, vectors, strict=True)}


def averaged(*arguments: object) -> dict[str, Any]:
    outcome = run("collection", "average", *arguments, "--json")
    assert outcome.code == 0, outcome.err
    found: dict[str, Any] = outcome.json
    return found


@cache
def features_at(path: Path) -> LocalFeatures:
    return read_features(path, Sift())


def by_numpy(folder: Path, items: list[Item], vectors: NDArray[np.float32], count: int = NEIGHBOURS) -> Stored:
    """Each photograph plus its verified neighbours, a loop for a loop; those whose files are there take part."""
    at = [folder / "photos" / item.source for item in items]
    features = [features_at(path) if path.exists() else None for path in at]
    found: Stored = {}
    for n, item in enumerate(items):
        total = vectors[n].astype(np.float64)
        near = [m for m in np.argsort(-(vectors @ vectors[n]), kind="stable") if m != n][:count]
        for m in near:
            mine, theirs = features[n], features[m]
            if mine is None or theirs is None:
                continue
            if item.source_digest <= items[m].source_digest:
                pair = Pair.of(mine, theirs)
                weight = pair.forth
            else:
                pair = Pair.of(theirs, mine)
                weight = pair.back
            total = total + (weight if pair.inliers >= 12 else 0.0) * vectors[m]
        found[item.key] = (total / np.linalg.norm(total)).astype(np.float32)
    return found


def require_near(found: Stored, wanted: Stored) -> None:
    assert found.keys() == wanted.keys()
    for key, vector in wanted.items():
        assert np.abs(found[key] - vector).max() < 1e-6, key


@pytest.fixture
def strip(uri: str, name: str, tmp_path: Path) -> list[Item]:
    """A collection of photographs, one of them without its file, and a reference; the folder is that of the test."""
    items = write_strip(tmp_path)
    (tmp_path / "photos" / items[5].source).unlink()
    turned = replace(
        items[0], key=reference_key("d", "a_100", 1, 30.0, 60), kind=Kind.REFERENCE, rotation=30.0, crop=60
    )
    fill(uri, name, [*items, turned], unit_vectors(PHOTOS + 1, SPACE.dim))
    return items


def test_vectors_are_those_of_numpy(uri: str, name: str, strip: list[Item], tmp_path: Path) -> None:
    """On both backends: what is averaged, what stays, what is said of it; made again, and after photographs came and went."""
    plain, new = stored(uri, name), f"{name}_a"
    vectors = np.stack([plain[item.key] for item in strip])
    done = averaged(name, new, "--neighbours", NEIGHBOURS)
    found = stored(uri, new)
    wanted = by_numpy(tmp_path, strip, vectors)
    reference = next(key for key in plain if key.startswith("reference/"))
    require_near(found, {**wanted, reference: plain[reference]})
    for key in (strip[5].key, strip[7].key, reference):
        assert np.array_equal(found[key], plain[key]), f"{key} keeps its own"
    moved = [key for key in plain if not np.array_equal(found[key], plain[key])]
    assert done["rows"] == PHOTOS + 1 and done["averaged"] == len(moved) > 3 and done["copied"] == {"reference": 1}
    assert done["missing"] == 1 and done["averaged"] + done["alone"] + 1 == PHOTOS
    assert [each["key"] for each in done["named"]] == [strip[5].key] and strip[5].source in done["named"][0]["reason"]
    assert done["asked"] == PHOTOS * NEIGHBOURS and done["matched"] < done["asked"] - NEIGHBOURS, (
        "pairs serve both ways"
    )

    said = run("collection", "describe", new, "--json").json["averaged"]
    assert said["neighbours"] == NEIGHBOURS and said["source"].startswith(f"{name}__") and said["finished"] is True
    assert run("collection", "verify", new, "-k", 3, "--json").json["damaged"] == {}
    hit, *_ = run("query", "item", strip[0].key, "-k", 2, "--collection", new, "--json").json["queries"][0]["hits"]
    assert hit["score"] == pytest.approx(float(found[strip[0].key] @ found[hit["key"]]), abs=1e-4), (
        "asked as it is stored"
    )

    again = averaged(name, new, "--neighbours", NEIGHBOURS)
    assert (again["matched"], again["written"], again["removed"]) == (0, 0, 0)
    with Store.connect(uri) as store:
        Collection.open(store, name).delete([strip[6].id, strip[0].id])
        Collection.open(store, name).upsert([strip[0]], unit_vectors(1, SPACE.dim, seed=3))
    left = [item for item in strip if item is not strip[6]]
    now = stored(uri, name)
    updated = averaged(name, new, "--neighbours", NEIGHBOURS)
    assert updated["removed"] == 1 and 0 < updated["written"] < len(left) and updated["matched"] < done["matched"]
    require_near(
        stored(uri, new),
        {**by_numpy(tmp_path, left, np.stack([now[item.key] for item in left])), reference: plain[reference]},
    )


@pytest.fixture
def photos(lite: str, tmp_path: Path) -> list[Item]:
    """The collection `c` of photographs of a strip, on Milvus Lite."""
    items = write_strip(tmp_path)
    fill(lite, "c", items, unit_vectors(PHOTOS, SPACE.dim))
    return items


def test_what_was_interrupted_goes_on(lite: str, photos: list[Item], monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while pairs are matched: what was matched is not matched again, and the vectors are those of a run in one go."""
    monkeypatch.setattr(outcrop.operate.averaging, "ROWS", 3)
    monkeypatch.setattr(outcrop.query.neighbours, "AT_ONCE", 4)
    whole = averaged("c", "whole", "--state", "elsewhere")
    calls = iter(range(3))

    def killed(*given: Any) -> Any:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return match_pairs(*given)

    with monkeypatch.context() as patched:
        patched.setattr(outcrop.query.neighbours, "match_pairs", killed)
        assert run("collection", "average", "c", "halves").code != 0
    assert run("collection", "describe", "halves", "--json").json["averaged"]["finished"] is False
    assert "interrupted" in run("collection", "describe", "halves").out
    done = averaged("c", "halves")
    assert 0 < done["matched"] <= whole["matched"] - 9
    assert run("collection", "describe", "halves", "--json").json["averaged"]["finished"] is True
    first, second = stored(lite, "whole"), stored(lite, "halves")
    assert first.keys() == second.keys() and all(np.array_equal(first[key], second[key]) for key in first)


def test_only_the_file_that_was_ingested_counts(photos: list[Item], tmp_path: Path) -> None:
    """Copied with another time, the bytes decide; what was changed since, or is no picture any more, keeps its vector."""
    at = [tmp_path / "photos" / item.source for item in photos]
    whole = averaged("c", "whole")
    os.utime(at[0], ns=(1, 1))
    assert averaged("c", "timed")["averaged"] == whole["averaged"]
    rough(50, 360, 270).save(at[1], quality=92)
    outcome = run("collection", "average", "c", "changed", "--json")
    assert [each["key"] for each in outcome.json["named"]] == [photos[1].key]
    assert photos[1].key in outcome.err and "changed since" in outcome.err


def test_an_unreadable_picture_is_named(lite: str, tmp_path: Path) -> None:
    items = write_strip(tmp_path, 4)
    spoilt = tmp_path / "photos" / items[1].source
    spoilt.write_bytes(b"no picture")
    state = spoilt.stat()
    items[1] = replace(
        items[1], source_digest=digest_of(b"no picture"), source_size=state.st_size, source_mtime_ns=state.st_mtime_ns
    )
    fill(lite, "c", items, unit_vectors(4, SPACE.dim))
    for _ in range(2):  # it is not remembered: it may be mended
        done = averaged("c", "new")
        assert done["missing"] == 1 and done["named"][0]["key"] == items[1].key


def test_without_the_files_nothing_is_averaged(lite: str, photos: list[Item], tmp_path: Path) -> None:
    for item in photos:
        (tmp_path / "photos" / item.source).unlink()
    said = run("collection", "average", "c", "new", "--json").error(3)
    assert "not one photograph of collection 'c' can be matched" in said and "the original of image/d/a_100/" in said
    assert "no collection 'new'" in run("collection", "describe", "new").error(3), "none is made"


def test_a_part_is_averaged_by_itself(lite: str, photos: list[Item], tmp_path: Path) -> None:
    """With --where the others are neither neighbours nor rows; and what the conditions keep no more is removed."""
    vectors = unit_vectors(PHOTOS, SPACE.dim)
    for least in (1, 3):
        averaged("c", "part", "--where", f"frame={least}..", "--neighbours", 4)
        kept = [n for n, item in enumerate(photos) if item.frame >= least]
        require_near(stored(lite, "part"), by_numpy(tmp_path, [photos[n] for n in kept], vectors[kept], 4))
    assert run("collection", "describe", "part", "--json").json["averaged"]["where"] == ["frame=3.."]
    assert "nothing can be averaged" in run("collection", "average", "c", "none", "--where", "kind=tile").error(3)
    assert "no collection 'none'" in run("collection", "describe", "none").error(3), "none is made"


def test_plain_rows_stay_out(lite: str, photos: list[Item]) -> None:
    averaged("c", "new")
    before = stored(lite, "new")
    for asked in ((), ("--dry-run",)):
        line = run("ingest", "dataset", "d", "--collection", "new", *asked).error(6)
        assert "--collection c__" in line and "collection average c__" in line
    with Store.connect(lite) as store:
        Collection.open(store, "new").delete([photos[0].id])
    found = run("collection", "audit", "new", "--dataset", "d", "--json")
    (source,) = (row["physical"] for row in run("collection", "list", "--json").json["rows"] if row["name"] == "c")
    (repair,) = found.json["repairs"]
    assert found.code == 4 and f"collection audit {source} --dataset d" in repair and "--fix" not in repair
    assert repair.endswith(f"; then collection average {source} new --neighbours 12")
    assert "use its source" in run("collection", "audit", "new", "--dataset", "d", "--fix", "--yes").error(6)
    assert averaged("c", "new")["written"] == 1
    run("collection", "export", "c", "c.npy")
    fill(lite, "other", photos[:2], unit_vectors(2, SPACE.dim))
    for refused, said in (
        (("average", "new", "twice"), "use its source"),
        (("average", "c", "c"), "its vectors stay"),
        (("average", "c", "other"), "was not averaged from"),
        (("average", "other", "new"), "was not averaged from"),
        (("import", "c.npy", "--to", "new"), "use its source"),
        (("copy", "c", "--to", "new"), "are plain, those of collection 'new' are averaged"),
        (("copy", "new", "--to", "other"), "those of collection 'other' are plain"),
    ):
        assert said in run("collection", *refused).error(6), refused
    after = stored(lite, "new")
    assert all(np.array_equal(before[key], after[key]) for key in before)


def test_copies_and_exports_say_that_they_are_averaged(lite: str, photos: list[Item]) -> None:
    averaged("c", "new", "--neighbours", 2)
    said = run("collection", "describe", "new", "--json").json["averaged"]
    assert run("collection", "copy", "new", "--to", "copied").code == 0
    assert run("collection", "export", "new", "new.parquet").code == 0
    assert run("collection", "import", "new.parquet", "--to", "imported").code == 0
    for name in ("copied", "imported"):
        assert run("collection", "describe", name, "--json").json["averaged"] == said
    assert "use its source" in run("ingest", "dataset", "d", "--collection", "imported").error(6)
    assert run("collection", "describe", "c", "--json").json["averaged"] is None
    assert "x.npy does not say" in run("collection", "export", "new", "x.npy").err
    assert "averaged" not in run("collection", "export", "c", "y.npy").err


# -- pairs -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def alone() -> Iterator[None]:
    with one_thread_each():
        yield


def test_evidence_the_other_way_round(alone: None) -> None:
    """As if the candidate had been the query: the whole explains all of its part, the part as much of the whole as it shows."""
    ground = rough(4, 900, 500)
    whole, part = features_of(ground), features_of(ground.crop((100, 50, 550, 350)).rotate(90, expand=True))
    for one, other in ((whole, part), (part, whole)):
        match = verify(one, other)
        assert evidence_of_candidate(match, one, other) == pytest.approx(verify(other, one).evidence, rel=0.1)
    found = Pair.of(whole, part)
    assert found.verified and found.forth == pytest.approx(0.3, abs=0.05) and found.back > 0.9
    key = key_of("b", "a")
    assert key == ("a", "b") and (found.evidence_for("a", key), found.evidence_for("b", key)) == (
        found.forth,
        found.back,
    )
    assert replace(found, inliers=11).evidence_for("a", key) == 0.0
    unlike = Pair.of(whole, features_of(rough(5, 900, 500)))
    assert not unlike.verified and unlike.back == 0.0


def test_what_is_near_is_looked_at_at_full_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As re-ranking does: a pair with half the inliers that verify is matched again, one that is far from it is not."""
    ground, sizes = rough(4, 1060, 600), []
    files = {name: tmp_path / f"{name}.png" for name in "ab"}
    ground.crop((0, 0, 960, 600)).save(files["a"])
    ground.crop((100, 0, 1060, 600)).save(files["b"])

    def few(one: LocalFeatures, other: LocalFeatures) -> GeometricMatch:
        sizes.append(one.working)
        found = verify(one, other)
        return found if one.working > 800 else replace(found, inliers=inliers, evidence=0.5)

    monkeypatch.setattr(pairs, "verify", few)
    for inliers, looked_at in ((6, [800, 960]), (5, [800]), (12, [800])):
        sizes.clear()
        with Verifier.below(tmp_path, 2**30) as verifier:
            found, unread = match_pairs([("a", "b")], files, verifier)
        assert sizes == looked_at and not unread
        assert found["a", "b"].verified is (inliers != 5) and (found["a", "b"].inliers > 12) is (inliers == 6)


def test_pairs_are_kept(tmp_path: Path) -> None:
    first, second = Pair(20, 0.25, 0.5), Pair(0, 0.0, 0.0)
    with PairsKept(tmp_path, "sift") as kept:
        assert kept.get([("a", "b")]) == {}
        kept.keep({("a", "b"): first, ("a", "c"): second})
    with PairsKept(tmp_path, "sift") as kept, PairsKept(tmp_path, "other") as others:
        assert kept.get([("a", "b"), ("a", "c"), ("b", "c")]) == {("a", "b"): first, ("a", "c"): second}
        assert others.get([("a", "b")]) == {}, "of other features"
    kept.path.write_bytes(b"spoilt" * 1000)
    with PairsKept(tmp_path, "sift") as kept:
        assert kept.get([("a", "b")]) == {}
        kept.keep({("a", "b"): first})
        assert kept.get([("a", "b")]) == {("a", "b"): first}, "begun anew"
    (tmp_path / "file").write_text("no folder")
    with PairsKept(tmp_path / "file", "sift") as nowhere:
        nowhere.keep({("a", "b"): first})
        assert nowhere.get([("a", "b")]) == {}, "matched again"


def test_a_match_that_is_decided_otherwise_is_another_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    before = pairs.fingerprint("sift")
    monkeypatch.setattr("outcrop.query.verification.geometry.TOLERANCE", 5.0)
    assert pairs.fingerprint("sift") != before
