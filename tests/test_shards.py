"""`--shard I/N`: disjoint, stable and complete parts; the same collection as one run; killed, restarted and finished by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import meshes
import numpy as np
import pytest
from commands import Outcome, run, start
from films import write_film
from hypothesis import given, settings
from hypothesis import strategies as some
from operations import SPACE
from pictures import write_dataset
from toy_encoders import Submits
from waiting import SLOWLY, records, until

from outcrop.ingest.changes import Present
from outcrop.ingest.finishing import ShardEnd
from outcrop.ingest.listing import ingest_listing
from outcrop.ingest.photos import PhotoSource
from outcrop.ingest.requests import DatasetRequest, VideoRequest
from outcrop.ingest.runs import Failure, Record, Run
from outcrop.ingest.sharding import Marks, share, unfinished
from outcrop.ingest.sources import Listing
from outcrop.schema.errors import InputError, OutcropError
from outcrop.schema.filters import where
from outcrop.schema.item import Item, Kind, image_key, item_of_key, reference_key
from outcrop.schema.shards import Shard, shard_of
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

MODEL = ("--model", "efficientnet_lite0")
FEW = ("--angles", "0,90", "--crops", "0.6")
OUR_TIMES = {"ingested_at", "checksum"}
"""What two ingests of the same files may differ in."""


# -- the parts ---------------------------------------------------------------------------------------------------------


def photo(number: int) -> PhotoSource:
    key = image_key("town", f"c{number % 7}", number)
    return PhotoSource(Item(key, Kind.IMAGE, "town", f"c{number % 7}", frame=number), Path(f"{number}.jpg"))


@settings(max_examples=60)
@given(
    there=some.lists(some.integers(1, 5000), unique=True, max_size=80),
    gone=some.lists(some.integers(5001, 9000), unique=True, max_size=20),
    of=some.integers(1, 12),
    order=some.randoms(),
)
def test_shards_are_disjoint_complete_and_stable(there: list[int], gone: list[int], of: int, order: Any) -> None:
    missing = [Failure(image_key("town", "c", number), "", "list", "not on disk") for number in gone]
    whole = Listing("town", [photo(number) for number in there], missing, [Path("odd.jpg")], ["odd"], {"text": 2})
    shards = [share(whole, Shard(number, of)) for number in range(of)]
    found = [source.path for part in shards for source in part.sources]
    assert len(found) == len(there) and set(found) == {source.path for source in whole.sources}
    assert sorted(f.key for part in shards for f in part.missing) == sorted(f.key for f in missing)
    assert sum(part.expected for part in shards) == whole.expected
    assert [len(part.undeclared) for part in shards] == [1] + [0] * (of - 1)
    # Other files, in another order, change nothing for those that are there.
    more = [*there, *(n for n in range(9001, 9020))]
    order.shuffle(more)
    again = Listing("town", [photo(number) for number in more])
    for number, part in enumerate(shards):
        kept = {source.path for source in share(again, Shard(number, of)).sources}
        assert {source.path for source in part.sources} == kept & set(found)


def test_a_photograph_and_its_references_are_in_one_shard_and_shards_are_about_even() -> None:
    keys = [image_key("town", "c", number) for number in range(4000)]
    for key in keys[:50]:
        item = item_of_key(key)
        turned = reference_key("town", "c", item.frame, 90.0, 60)
        assert shard_of(turned, 8) == shard_of(key, 8)
    sizes = np.bincount([shard_of(key, 8) for key in keys], minlength=8)
    assert sizes.min() > 420 and sizes.max() < 580
    # Written down: a shard that was killed on one machine goes on on another, with another Python.
    assert [shard_of(key, 8) for key in keys[:12]] == PINNED
    assert shard_of("image/cafe\u0301/c/0001", 97) == shard_of("image/caf\u00e9/c/0001", 97)


PINNED = [4, 2, 2, 5, 4, 7, 2, 2, 7, 1, 2, 4]


@pytest.mark.parametrize(
    "text, said",
    [
        ("8/8", "the shards of 8 are 0/8 to 7/8"),
        ("1/0", "N must be from 1"),
        ("-1/8", "write I/N"),
        ("3", "write I/N"),
        ("$(JOB_COMPLETION_INDEX)/8", "the variable in it was not set"),
        ("/8", "the variable in it was not set"),
        ("٣/8", "write I/N"),
    ],
)
def test_what_is_not_a_shard_is_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a valid shard"):
        Shard.parse(text)
    assert said in run("ingest", "dataset", "town", "--shard", text).error(3)


# -- the whole ---------------------------------------------------------------------------------------------------------


def rows(uri: str, name: str) -> dict[str, dict[str, Any]]:
    """Every row by its id; a row that is there twice is an error of the scan."""
    with Store.connect(uri, timeout=60) as store:
        opened = Collection.open(store, name)
        found = [row for page in opened.scan_rows(where(), ["*"]) for row in page]
        assert opened.count() == len(found)
    return {row["id"]: row for row in found}


def assert_same(one: dict[str, dict[str, Any]], other: dict[str, dict[str, Any]]) -> None:
    assert one.keys() == other.keys() and one
    for id, row in one.items():
        mine, theirs = (dict(each) for each in (row, other[id]))
        vectors = np.asarray([mine.pop("vector"), theirs.pop("vector")], dtype=np.float32)
        assert np.abs(vectors[0] - vectors[1]).max() <= 1e-6
        assert {k: v for k, v in mine.items() if k not in OUR_TIMES} == {
            k: v for k, v in theirs.items() if k not in OUR_TIMES
        }


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with a missing photograph and a broken one, and what one run makes of it in `one.db`."""
    folder = tmp_path_factory.mktemp("town")
    write_dataset(folder, {"a_300": 9, "b_300": 8}, name="town", root="town")
    (folder / "town/a_300/a_300_0002.jpg").unlink()
    (folder / "town/b_300/b_300_0003.jpg").write_bytes(b"broken")
    three = ("references", "town", "--angles", "0,45,90", "--crops", "0.6")
    assert ingest(folder, str(folder / "one.db"), "one", *three).code == 4
    shorter = ingest(folder, str(folder / "one.db"), "one", "references", "town", *FEW)
    assert shorter.code == 4 and shorter.json["removed"] == 15
    return folder


def ingest(folder: Path, uri: str, name: str, *what: object) -> Outcome:
    place = ("--registry", folder / "data_key.json", "--state", folder / name, "--uri", uri, "--collection", name)
    return run("ingest", *what, *MODEL, *place, "--batch", 1, "--json")


def status(folder: Path, name: str, group: str = "last") -> Any:
    return run("ingest", "status", "--group", group, "--state", folder / name, "--json").json


def test_eight_shards_one_after_the_other_are_one_run(town: Path) -> None:
    uri = str(town / "eight.db")
    three = ("references", "town", "--angles", "0,45,90", "--crops", "0.6", "--shard")
    assert {ingest(town, uri, "eight", *three, f"{n}/2").code for n in range(2)} == {4}  # one is broken, one missing
    found = [
        ingest(town, uri, "eight", "references", "town", *FEW, "--shard", f"{n}/8") for n in (3, 0, 7, 1, 2, 6, 5, 4)
    ]
    assert [each.json["removed"] for each in found] == [0] * 7 + [15]  # the last one, whoever it is
    assert "1 of 8 shards have not ended (4)" in found[-2].err and "is the last of" in found[-1].err
    one_run = rows(str(town / "one.db"), "one")
    assert_same(one_run, rows(uri, "eight"))
    whole = status(town, "eight")
    one = run("ingest", "status", "last", "--state", town / "one", "--json").json
    for count in ("expected", "embedded", "unchanged", "failed", "missing", "undeclared", "removed"):
        assert whole[count] == one[count], count
    assert (whole["state"], whole["shards"], len(whole["runs"])) == ("done", 8, 8)
    assert sorted(f["key"] for f in whole["failures"]) == sorted(f["key"] for f in one["failures"])
    with Store.connect(uri) as store:
        marks = {
            k: v for k, v in Collection.open(store, "eight").properties().items() if k.startswith("outcrop.shard.")
        }
    assert len(marks) == 10 and not any(marks.values())
    # Everything is there: a run of everything does nothing.
    whole_run = ingest(town, uri, "eight", "references", "town", *FEW).json
    assert (whole_run["embedded"], whole_run["removed"]) == (0, 0)


def test_a_dry_run_of_a_shard_speaks_of_its_part(town: Path) -> None:
    parts = [
        ingest(town, str(town / "one.db"), "one", "dataset", "town", "--force", "--shard", f"{n}/3", "--dry-run").json
        for n in range(3)
    ]
    assert sum(part["expected"] for part in parts) == 17 and sum(part["missing"] for part in parts) == 1
    assert max(part["to_remove"] for part in parts) == 0


def test_finish_says_which_shards_are_missing_and_heals(town: Path, tmp_path: Path) -> None:
    uri = str(town / "byhand.db")
    for number in (0, 2):
        ingest(town, uri, "byhand", "dataset", "town", "--shard", f"{number}/3")
    place = ("--state", town / "byhand", "--uri", uri, "--collection", "byhand")
    refused = run("ingest", "finish", "last", *place)
    assert "items of town are not in 'byhand'" in refused.error(4)
    assert "1 of 3 shards have not ended (1)" in refused.err
    assert status(town, "byhand")["state"] == "2 of 3 done"
    third = ingest(town, uri, "byhand", "dataset", "town", "--shard", "1/3")
    assert "is the last of" in third.err
    group = status(town, "byhand")["group"]
    again = run("ingest", "finish", group, *place, "--json").json
    assert (again["state"], again["unchanged"], again["removed"]) == ("done", 15, 0)
    assert "did you mean" in run("ingest", "finish", group[:-1], *place).error(3)


@pytest.mark.slow
def test_a_specimen_is_in_one_shard_and_the_last_one_writes_the_tree(lite: str) -> None:
    for number in range(3):
        meshes.write(Path(f"bones/k{number % 2}/{number:02d}.ply"), *meshes.ball(3, (1, 0.5 + number / 10, 0.7)))
    looked = ("--views", 2, "--size", 64, "--renderer", "raycast", "--export-features", "tree")
    first, last = (run("ingest", "specimens", "bones", *MODEL, *looked, "--shard", f"{n}/2", "--json") for n in (1, 0))
    assert "is the last of" not in first.err and "vectors in" not in first.err
    assert "9 vectors in" in last.err and "is the last of" in last.err
    made = (first.json, last.json)
    assert sum(each["embedded"] for each in made) == sum(each["upserted"] for each in made) == 9
    assert all(each["expected"] % 3 == 0 and each["failed"] == 0 for each in made)


def test_marks_are_of_one_group_and_survive_what_is_damaged(lite_uri: str, name: str) -> None:
    first, second = (Record(run=f"r{n}", command="dataset", started="", failed=3, missing=2) for n in range(2))
    request = DatasetRequest(name="town", registry=Path("r.json"), datasets=Path())
    with Store.connect(lite_uri) as store:
        collection = Collection.create(store, name, SPACE)
        marks, other = (Marks(collection, request, 3, group) for group in ("monday", "tuesday"))
        marks.end(Shard(0, 3), first)
        marks.end(Shard(2, 3), second)
        marks.begin(Shard(1, 3), "r2")
        assert {n: (mark.run, mark.failed) for n, mark in marks.done().items()} == {0: ("r0", 1), 2: ("r1", 1)}
        assert unfinished(marks.done(), 3) == "1 of 3 shards have not ended (1)"
        assert other.done() == {} and unfinished({}, 12).endswith("(0, 1, 2, 3, 4, 5, 6, 7 and 4 more)")
        other.begin(Shard(2, 3), "r3")
        assert list(marks.done()) == [0], "a shard at work is not done, whoever began it"
        (place,) = (key for key, value in collection.properties().items() if '"r0"' in value)
        collection.set_property(place, '{"group": "monday", "done"')
        assert marks.done() == {}
        # Both of the last two saw all marks, and one has taken them away before the other looks.
        said: list[str] = []
        taken = TakenAway(collection, request, 3, "monday")
        end = ShardEnd(Shard(1, 3), taken, Listing("town", []), said.append)
        end.ends(Present(), Run.begin(Path("state"), "dataset", request), None, 1.0)
        assert not end.finished and said == ["shard 1/3 is done; another process finishes monday"]


@pytest.mark.parametrize(
    "passes", [("s 0", "s 1"), ("s 0", "t 1"), ("s 0", "s 0", "t 1"), ("s 0", "s 0", "s 1")], ids=" then ".join
)
def test_frames_that_are_left_out_are_counted_once_by_the_last_shard(
    lite_uri: str, name: str, tmp_path: Path, passes: tuple[str, ...]
) -> None:
    """Two films in two shards, whose machines share a state folder or not, one of them started again: nothing is missing but
    what was left out, and what is missing besides is seen."""
    for film in ("a", "b"):
        assert shard_of(image_key("card", film, 0), 2) == {"a": 1, "b": 0}[film]
        write_film(tmp_path / f"card/{film}.mp4", seconds=9)
    with Store.connect(lite_uri) as store:
        collection = Collection.create(store, name, SPACE)
        for state, number in (each.split() for each in passes[:-1]):
            record, end = film_shard(collection, tmp_path, state, int(number))
            assert [mark.failed for mark in end.marks.done().values()] == [0]
            assert [mark.left_out for mark in end.marks.done().values()] == [3] and not end.finished
        lost = next(iter(collection.scan_rows(where(), ["id"])))[0]["id"]
        kept, _ = collection.items([lost])[lost], collection.delete([lost])
        state, number = passes[-1].split()
        with pytest.raises(OutcropError, match="1 items of card are not in"):
            film_shard(collection, tmp_path, state, int(number))
        collection.upsert([kept[0]], kept[1][None])
        record, end = film_shard(collection, tmp_path, f"{state} again", int(number))
        assert end.finished and record.left_out == 3
        there = {row["key"] for page in collection.scan_rows(where(), ["key"]) for row in page}
    assert len(there) == 12


def film_shard(collection: Collection, folder: Path, state: str, number: int) -> tuple[Record, ShardEnd]:
    """One of two shards that ingest the films of a card, on a machine with a state folder of this name."""
    request = VideoRequest(name="card", folder=folder / "card", known=folder / state / "films")
    marks, shard = Marks(collection, request, 2, "night"), Shard(number, 2)
    run = Run.begin(folder / state, "video", request, shard=str(shard), group="night")
    marks.begin(shard, run.record.run)
    whole = request.list(None)
    end = ShardEnd(shard, marks, whole, lambda text: None)
    return ingest_listing(share(whole, shard), Grey(), collection, run, shard_end=end), end


class Grey(Submits):
    """An encoder that sees the mean of a picture."""

    space, batch, device = SPACE, 4, "toy"

    def encode(self, pixels: Any) -> np.ndarray:
        means = np.stack([np.asarray(each, dtype=np.float32).mean() for each in pixels])
        vectors = np.ones((len(means), SPACE.dim), dtype=np.float32)
        vectors[:, 0] = means
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def describe(self) -> str:
        return "a toy"

    def close(self) -> None:
        """Nothing is open."""


class TakenAway(Marks):
    """Marks that another shard, which finished, takes away at once."""

    def end(self, shard: Shard, record: Record, left_out_before: int = 0) -> None:
        super().end(shard, record, left_out_before)
        self.clear()


@pytest.mark.slow
def test_two_at_once_on_a_server_one_killed_and_started_again(server_uri: str, tmp_path: Path) -> None:
    """Two shards at once, one of them done twice at once, and one killed in the middle: the rows of one run."""
    count = 96  # so many that the kill comes long before the end
    write_dataset(tmp_path, {"a_300": count}, name="town", root="town")
    name = f"shards_{tmp_path.name.rpartition('-')[2]}"
    one = ingest(tmp_path, str(tmp_path / "one.db"), "one", "dataset", "town").json
    assert one["embedded"] == count
    place = ("--registry", tmp_path / "data_key.json", "--uri", server_uri, "--collection", name, "--batch", 1)
    common = ("dataset", "town", *MODEL, *place, "--json", "--group", "night", "--state", tmp_path / "state")
    calm = {"OMP_NUM_THREADS": "1", **SLOWLY}
    processes = [start("ingest", *common, "--shard", shard, cwd=tmp_path, **calm) for shard in ("0/2", "1/2")]
    try:
        until(lambda: written(tmp_path / "state", processes[0].pid) > 2, "rows", processes[0])
        processes[0].kill()
        twin = run("ingest", *common, "--shard", "1/2")
        _, err = processes[1].communicate(timeout=200)
        for code, said in ((processes[1].returncode, err), (twin.code, twin.err)):
            assert code == 0 and "1 of 2 shards have not ended (0)" in said and "Traceback" not in said, said
        processes[0].communicate(timeout=60)
        last = run("ingest", *common, "--shard", "0/2")
        assert last.code == 0 and "is the last of night" in last.err, last.err
        assert_same(rows(str(tmp_path / "one.db"), "one"), rows(server_uri, name))
        whole = status(tmp_path, "state", "night")
        assert (whole["state"], whole["expected"], whole["failed"]) == ("done", count, 0)
        assert whole["runs"][0]["unchanged"] > 0, "what the killed shard wrote was kept"
    finally:
        for process in processes:
            process.kill()
            process.communicate()
        run("collection", "drop", name, "--uri", server_uri, "--yes")


def written(state: Path, pid: int) -> int:
    """How many rows the run of a process has written."""
    return sum(record["upserted"] for record in records(state) if record["process"] == pid)
