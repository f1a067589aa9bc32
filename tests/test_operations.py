"""Every `collection` subcommand through its command, on Milvus Lite and on a real server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Outcome, run
from conftest import drop_since
from numpy.typing import NDArray
from pictures import picture, write_dataset

from schema.filters import where
from schema.indexes import PROFILES
from schema.item import Item, Kind, image_key, item_id
from schema.space import Space
from store.collection import Collection
from store.connection import Store, is_lite
from store.maintenance import PROPERTY_PREVIOUS, change_index, rollback, switch
from store.search import search

MODEL = ("--model", "efficientnet_lite0")
DIM, ROWS = 64, 3000
SPACE = Space(model="ops", weights_digest="0", size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1), pooling="avg", dim=DIM)
GREEN = SPACE.model_copy(update={"model": "ops2", "dim": 32})


def unit(count: int, dim: int = DIM, seed: int = 0) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def items(count: int, dataset: str = "town", mixed: bool = True) -> list[Item]:
    """Images of altitudes 100, 200 and 300; `mixed`: every fourth is a reference."""
    made = []
    for n in range(count):
        image = Item(
            image_key(dataset, "c_100", n), Kind.IMAGE, dataset, "c_100", frame=n, altitude=100.0 * (1 + n % 3)
        )
        if mixed and n % 4 == 3:
            image = replace(image, key=f"{image.key.replace('image', 'reference')}/rot030/crop00", kind=Kind.REFERENCE)
        made.append(image)
    return made


@pytest.fixture(scope="module", params=["lite", "server"])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of each backend; the collections made meanwhile are dropped afterwards."""
    if request.param == "lite":
        yield str(tmp_path_factory.mktemp("operations") / "ops.db")
        return
    address = request.getfixturevalue("server_uri")
    with Store.connect(address) as store:
        before = set(store.client.list_collections())
    yield address
    with Store.connect(address) as store:
        drop_since(store, before)


@pytest.fixture
def uri(backend: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same, and the commands use it."""
    monkeypatch.setenv("OUTCROP_URI", backend)
    return backend


@pytest.fixture
def lite(lite_uri: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty Milvus Lite directory, and the commands use it: for what no backend can change."""
    monkeypatch.setenv("OUTCROP_URI", lite_uri)
    return lite_uri


def collection(*arguments: object) -> Outcome:
    return run("collection", *arguments, "--json")


def done(*arguments: object) -> Any:
    """What the command says, after it ended well."""
    outcome = collection(*arguments)
    assert outcome.code == 0, outcome.err
    return outcome.json


def make(uri: str, name: str, rows: int, space: Space = SPACE, alias: bool = True) -> str:
    """A collection with `rows` items and the vectors of `unit`; its physical name."""
    with Store.connect(uri) as store:
        made = Collection.create(store, name, space, index="FLAT", alias=alias)
        made.upsert(items(rows), unit(rows, space.dim))
        return made.physical


def make_indexed(uri: str, name: str, rows: int) -> str:
    """A collection of images alone, sealed and under a new HNSW index: what is asked next is asked of the index."""
    with Store.connect(uri) as store:
        made = Collection.create(store, name, SPACE, index="FLAT")
        made.upsert(items(rows, mixed=False), unit(rows))
        made.flush()
        change_index(made, "HNSW", deadline=120)
        return made.physical


def state_of(uri: str, name: str) -> tuple[object, ...]:
    """Everything that a dry run must leave as it was: all of the collections whose names begin so, and which others are."""
    with Store.connect(uri) as store:
        everything = sorted(store.client.list_collections())
        state: list[object] = [everything]
        for physical in everything:
            if physical.startswith(name):
                found = Collection.open(store, physical)
                aliases = sorted(store.client.list_aliases(physical).get("aliases", []))
                facts = (found.count(), found.profile.name, sorted(found.properties().items()))
                state.append((physical, aliases, facts))
        return tuple(state)


def entry(physical: str) -> dict[str, Any]:
    return next(row for row in done("list")["rows"] if row["physical"] == physical)


@pytest.fixture(scope="module")
def large(backend: str) -> str:
    """The physical name of `large`: `ROWS` rows under an HNSW index. Tests leave it as it is."""
    return make_indexed(backend, "large", ROWS)


@pytest.fixture(scope="module")
def medium(backend: str) -> str:
    """`medium`: rows enough for a server to build an index. Tests change the index."""
    make_indexed(backend, "medium", 1500)
    return "medium"


# -- create ------------------------------------------------------------------------------------------------------------


def test_create_then_another_size_beside_it(uri: str, name: str) -> None:
    before = state_of(uri, name)
    dry = done("create", name, *MODEL, "--dry-run")
    assert dry["dry_run"] and state_of(uri, name) == before
    first = done("create", name, *MODEL)
    assert (first["physical"], first["beside"]) == (dry["physical"], "")
    assert first["index"] == ("FLAT" if is_lite(uri) else "HNSW")

    line = collection("create", name, *MODEL).error(6)
    assert "already" in line and first["physical"] in line

    dry = done("create", name, *MODEL, "--size", 256, "--dry-run")
    assert dry["beside"] == first["physical"] != dry["physical"]
    second = run("collection", "create", name, *MODEL, "--size", 256)
    assert second.code == 0 and f"collection switch {name} {dry['physical']}" in second.out
    assert done("describe", name)["physical"] == first["physical"], "the name must still lead to the first"
    facts = done("describe", dry["physical"])
    assert (facts["aliases"], facts["space"]["size"], facts["rows"]) == ([], [256, 256], 0)
    assert Path(facts["weights"]).is_file()


def test_create_with_build_parameters(uri: str, name: str) -> None:
    made = done("create", name, *MODEL, "--index", "hnsw", "--build", "M=48")
    assert done("describe", name)["index"]["build"] == {"M": 48, "efConstruction": 256} and made["index"] == "HNSW"


REFUSED = (
    (("a b", *MODEL), 3, "no name for a collection"),
    (("x__12345678", *MODEL), 3, "physical name"),
    (("x", *MODEL, "--index", "HNWS"), 3, "did you mean 'HNSW'"),
    (("x", *MODEL, "--index", "HNSW", "--build", "efConstuction=3"), 3, "did you mean 'efConstruction'"),
    (("x", *MODEL, "--index", "HNSW", "--build", "M=1"), 3, "between 2 and 2048"),
    (("x", *MODEL, "--index", "HNSW", "--build", "M"), 2, "NAME=VALUE"),
    (("x", *MODEL, "--fit", "stretch"), 3, "squash, crop or pad"),
    (("x", "--model", "efficientnet_lite1"), 3, "efficientnet_lite0"),
    (("x", "--model", "dinov3_vits16"), 3, "--weights"),
)


def test_create_refuses_what_makes_no_sense(uri: str) -> None:
    before = state_of(uri, "x")
    for arguments, code, said in REFUSED:
        assert said in collection("create", *arguments).error(code), arguments
    assert state_of(uri, "x") == before


# -- looking -----------------------------------------------------------------------------------------------------------


def test_list(uri: str, large: str) -> None:
    listed = done("list")
    row = entry(large)
    assert (row["name"], row["model"], row["dim"], row["index"]) == ("large", "ops", DIM, "HNSW")
    assert ("Milvus Lite" if is_lite(uri) else "Milvus 2.3.5") in listed["store"]
    table = run("collection", "list").out
    assert large in table and "HNSW" in table


def test_collections_of_others_are_listed_and_left_alone(uri: str) -> None:
    with Store.connect(uri) as store:
        store.client.create_collection("of_others", dimension=4)
    assert "not Outcrop" in entry("of_others")["model"]
    for command in ("describe", "stats", "flush", "release", "verify"):
        assert "not made by Outcrop" in collection(command, "of_others").error(6)
    assert "not made by Outcrop" in collection("drop", "of_others", "--yes").error(6)
    findings = {f["check"]: f for f in done("doctor")["findings"]}
    assert "not made by Outcrop" in findings["collection of_others"]["seen"]
    with Store.connect(uri) as store:
        assert store.client.has_collection("of_others")
        store.client.drop_collection("of_others")


def test_describe_and_stats_count_truly(uri: str, name: str) -> None:
    physical = make(uri, name, 60)
    with Store.connect(uri) as store:
        opened = Collection.open(store, name)
        opened.upsert(items(20, "field"), unit(20))
        opened.upsert(items(20, "field"), unit(20))  # replaced: counted once
        opened.delete([item.id for item in items(3, "field")])
        opened.flush()
    expected = [*items(60), *items(20, "field")[3:]]
    facts = done("describe", name)
    assert (facts["physical"], facts["aliases"], facts["rows"]) == (physical, [name], 77)
    for row in facts["counts"]:
        assert row["rows"] == sum(i.kind == row["kind"] and i.dataset == row["dataset"] for i in expected), row
    assert len(facts["counts"]) == 4
    assert {row["altitude"]: row["rows"] for row in facts["altitudes"]} == {
        altitude: sum(i.altitude == altitude for i in expected) for altitude in (100.0, 200.0, 300.0)
    }
    assert set(facts["partitions"]) >= {"image__town", "reference__town", "image__field", "reference__field"}
    assert facts["space"]["fingerprint"] == SPACE.fingerprint and facts["index"]["profile"] == "FLAT"
    stats = done("stats", name)["rows"][0]
    assert stats["rows"] == 77 and stats["server_rows"] >= 77
    assert stats["superseded"] == stats["server_rows"] - 77
    table = run("collection", "describe", physical).out
    assert "reference" in table and "77" in table and "altitude" in table


def test_unknown_names_are_answered_with_the_nearest(uri: str, large: str) -> None:
    for command in ("describe", "stats", "load", "release", "flush", "compact", "verify", "rollback"):
        assert "did you mean 'large'" in collection(command, "larg").error(3), command
    for arguments in (("index", "larg", "FLAT"), ("switch", "x", "larg"), ("drop", "larg", "--yes"), ("copy", "larg")):
        assert "did you mean 'large'" in collection(*arguments).error(3), arguments
    assert "did you mean 'large'" in collection("export", "larg", "x.parquet").error(3)


# -- index -------------------------------------------------------------------------------------------------------------


def answers_rightly(uri: str, name: str, rows: int) -> bool:
    """Whether the collection finds stored vectors themselves."""
    with Store.connect(uri) as store:
        opened = Collection.open(store, name)
        hits = search(opened, unit(rows)[:5], 1).hits
        return opened.count() == rows and [h[0].item.frame for h in hits] == list(range(5))


@pytest.mark.slow
def test_index_is_changed_in_place(uri: str, medium: str) -> None:
    name, physical = medium, done("describe", medium)["physical"]
    for profile, build in (("FLAT", ()), ("IVF_FLAT", ("nlist=16",)), ("HNSW", ("M=24",))):
        options = [part for value in build for part in ("--build", value)]
        before = done("describe", name)
        dry = done("index", name, profile, *options, "--dry-run")
        assert done("describe", name) == before
        changed = done("index", name, profile, *options)
        assert (changed["former"], changed["index"]) == (before["index"]["profile"], profile)
        assert changed["build"] == dry["build"]
        facts = done("describe", name)
        assert (facts["index"]["profile"], facts["index"]["state"], facts["index"]["pending"]) == (
            profile,
            "Finished",
            0,
        )
        assert facts["index"]["build"] == changed["build"] and facts["physical"] == physical
        assert facts["loaded"] or is_lite(uri), "a Milvus Lite directory is loaded by whoever opens it"
        assert facts["space"]["fingerprint"] == SPACE.fingerprint, "the properties must survive"
        assert answers_rightly(uri, name, 1500)
    assert "did you mean" in collection("index", name, "IVFFLAT").error(3)


def test_an_index_that_cannot_be_had(uri: str, medium: str) -> None:
    """A CPU server takes a GPU index and never finishes it; Milvus Lite would take it and never load again."""
    name = medium
    if is_lite(uri):
        outcome = collection("index", name, "GPU_CAGRA")
        assert outcome.code == 0 and "Milvus Lite has no GPU_CAGRA; HNSW is used instead" in outcome.err
        assert outcome.json["index"] == "HNSW"
    else:
        line = collection("index", name, "GPU_IVF_FLAT", "--deadline", 4).error(6)
        assert "GPU_IVF_FLAT" in line and "HNSW is in place again" in line and "-gpu image" in line
        assert "2.6.20" in collection("index", name, "GPU_CAGRA").error(3)
    facts = done("describe", name)
    assert (facts["index"]["profile"], facts["index"]["state"], facts["index"]["pending"]) == ("HNSW", "Finished", 0)
    assert answers_rightly(uri, name, 1500)


# -- memory ------------------------------------------------------------------------------------------------------------


def test_load_and_release(uri: str, name: str) -> None:
    physical = make(uri, name, 40)
    assert done("release", name) == {"released": [physical]}
    assert not entry(physical)["loaded"]
    assert done("load", name) == {"loaded": [physical]}
    assert entry(physical)["loaded"] or is_lite(uri), "a Milvus Lite directory is loaded by whoever opens it"
    done("release", name)
    assert answers_rightly(uri, name, 40), "the next query loads it again"


def test_one_datasets_partitions(uri: str, name: str) -> None:
    make(uri, name, 40)
    with Store.connect(uri) as store:
        opened = Collection.open(store, name)
        opened.upsert(items(8, "field"), unit(8))
        if not is_lite(uri):
            opened.flush()  # sealed rows are loaded by another way than those just written
    if is_lite(uri):
        for command in ("load", "release"):
            assert "Milvus Lite can only" in collection(command, name, "--dataset", "field").error(6)
        return
    wanted = {"image__field", "reference__field"}
    assert set(done("release", name, "--dataset", "field")["released"]) == wanted
    with Store.connect(uri) as store:
        assert Collection.open(store, name).count() == 48, "the next query loads the rest again"
    done("release", name)
    assert set(done("load", name, "--dataset", "field")["loaded"]) == wanted
    with Store.connect(uri) as store:
        assert Collection.open(store, name).count(where("dataset=town")) == 40
    assert "no partition of dataset 'sea'" in collection("load", name, "--dataset", "sea").error(3)


def test_flush_and_compact(uri: str, name: str) -> None:
    physical = make(uri, name, 40)
    with Store.connect(uri) as store:
        opened = Collection.open(store, name)
        opened.upsert(items(40), unit(40))
        opened.delete([items(40)[0].id])
    assert done("flush", name) == {"flushed": physical}
    compacted = done("compact", name, "--deadline", 1)
    assert compacted["compacted"] == physical
    assert compacted["state"] == "done" or "after 1 s; the server goes on" in compacted["state"]
    assert done("stats", name)["rows"][0]["rows"] == 39


# -- switch and rollback -----------------------------------------------------------------------------------------------


def test_switch_and_rollback(uri: str, name: str) -> None:
    blue = make(uri, name, 30)
    green = make(uri, name, 20, GREEN, alias=False)
    assert "has not been switched" in collection("rollback", name).error(6)
    assert "already" in collection("switch", name, blue).error(6)
    assert "physical collection" in collection("switch", blue, green).error(6)

    before = state_of(uri, name)
    dry = done("switch", name, green, "--dry-run")
    assert (dry["former"], dry["rows"]) == (blue, 20) and state_of(uri, name) == before
    assert done("switch", name, green) == {**dry, "dry_run": False}
    facts = done("describe", name)
    assert (facts["physical"], facts["rows"], facts["previous"]) == (green, 20, blue)
    assert facts["space"]["fingerprint"] == GREEN.fingerprint and facts["previous"] == blue

    before = state_of(uri, name)
    assert done("rollback", name, "--dry-run")["physical"] == blue and state_of(uri, name) == before
    assert done("rollback", name)["physical"] == blue
    assert (done("describe", name)["physical"], done("describe", name)["rows"]) == (blue, 30)
    assert done("rollback", name)["physical"] == green, "back and forth"

    done("drop", blue, "--yes")
    assert "is gone" in collection("rollback", name).error(6)
    assert done("describe", name)["physical"] == green

    fresh = f"{name}_fresh"
    assert done("switch", fresh, green)["former"] == ""
    assert set(done("describe", green)["aliases"]) == {name, fresh}


class Asking(threading.Thread):
    """Asks a name for hits again and again until it is told to stop; keeps what went wrong."""

    def __init__(self, store: Store, name: str) -> None:
        super().__init__(daemon=True)
        self.store, self.alias = store, name
        self.answers: list[tuple[str, int]] = []
        self.trouble: list[BaseException] = []
        self._enough = threading.Event()

    def run(self) -> None:
        while not self._enough.is_set():
            try:
                found = Collection.open(self.store, self.alias)
                hits = search(found, unit(1, found.space.dim), 5).hits[0]
                self.answers.append((found.physical, len(hits)))
            except BaseException as error:  # noqa: BLE001  kept for the test to judge
                self.trouble.append(error)

    def until(self, physical: str) -> None:
        """Waits until three answers in a row came from this collection."""
        for _ in range(600):
            if self.trouble or [p for p, _ in self.answers[-3:]] == [physical] * 3:
                return
            self.join(0.1)
        raise AssertionError(f"no answers from {physical}: {self.answers[-5:]}")

    def finish(self) -> None:
        self._enough.set()
        self.join(60)


def test_blue_green_without_a_gap(uri: str, name: str) -> None:
    """Filling another space, switching to it and back again, while somebody asks all the time."""
    blue = make(uri, name, 200)
    with Store.connect(uri) as asked, Store.connect(uri) as store:
        asking = Asking(asked, name)
        asking.start()
        try:
            asking.until(blue)
            made = Collection.create(store, name, GREEN, alias=False)
            for part in range(4):
                rows = slice(50 * part, 50 * part + 50)
                made.upsert(items(200)[rows], unit(200, GREEN.dim)[rows])
            made.flush()
            assert all(physical == blue for physical, _ in asking.answers), "switched before its time"
            if is_lite(uri):  # a command would take the directory's lock away from the one who asks
                assert switch(store, name, made.physical) == blue
            else:
                assert done("switch", name, made.physical)["former"] == blue
            asking.until(made.physical)
            if is_lite(uri):
                assert rollback(store, name) == blue
            else:
                assert done("rollback", name)["physical"] == blue
            asking.until(blue)
        finally:
            asking.finish()
    assert not asking.trouble, asking.trouble[:3]
    assert {hits for _, hits in asking.answers} == {5}, "an answer with holes"
    order = [p for n, (p, _) in enumerate(asking.answers) if n == 0 or asking.answers[n - 1][0] != p]
    assert order == [blue, made.physical, blue]


# -- verify ------------------------------------------------------------------------------------------------------------


def test_verify_a_good_index(uri: str, large: str) -> None:
    result = done("verify", "large", "--samples", 50, "--metrics-file", "verify.prom", "--min-recall", 0.99)
    assert (result["index"], result["rows"], result["samples"], result["near_random"]) == ("HNSW", ROWS, 50, False)
    assert result["recall"] >= 0.99
    assert [check["share"] for check in result["checks"]] == [1.0, 0.5, 0.1, 0.01]
    assert all(check["recall"] >= 0.99 for check in result["checks"]), result["checks"]
    kept = [check["kept"] for check in result["checks"]]
    assert kept[0] == ROWS and all(0.7 < k / (ROWS * s) < 1.3 for k, s in zip(kept[:3], (1, 0.5, 0.1), strict=True))
    metrics = Path("verify.prom").read_text()
    labels = '{collection="large",index="HNSW"}'
    assert f"outcrop_verify_rows{labels} {ROWS}\n" in metrics and f"outcrop_verify_passed{labels} 1\n" in metrics
    assert "recall@10 of large" in run("collection", "verify", "large", "--samples", 5).out


def test_verify_with_bad_search_parameters(uri: str, large: str) -> None:
    outcome = collection("verify", "large", "--samples", 50, "--param", "ef=10", "--metrics-file", "verify.prom")
    line = outcome.error(6)
    assert outcome.json["recall"] < 0.9 and "recall@10 of 'large'" in line and "below 0.9" in line
    assert 'outcrop_verify_passed{collection="large",index="HNSW"} 0\n' in Path("verify.prom").read_text()
    assert "did you mean 'ef'" in collection("verify", "large", "--param", "eff=10").error(3)
    assert "--param" in collection("verify", "large", "--param", "ef").error(2)


def test_verify_finds_what_is_badly_built(uri: str, medium: str) -> None:
    done("index", medium, "HNSW", "--build", "M=2", "--build", "efConstruction=1")
    outcome = collection("verify", medium, "--samples", 50)
    outcome.error(6)
    assert outcome.json["recall"] < 0.9
    done("index", medium, "IVF_FLAT", "--build", "nlist=1024")
    outcome = collection("verify", medium, "--samples", 50, "--param", "nprobe=1")
    assert "near random" in outcome.error(6)
    assert outcome.json["near_random"] and outcome.json["checks"][0]["recall"] < 0.3


def test_verify_of_nothing(lite: str) -> None:
    make(lite, "empty", 0)
    assert "is empty" in collection("verify", "empty").error(3)


# -- audit and prune ---------------------------------------------------------------------------------------------------


@pytest.fixture
def dataset(uri: str, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ingested dataset of six pictures in two captures; its folder. OUTCROP_COLLECTION is its collection."""
    monkeypatch.setenv("OUTCROP_COLLECTION", name)
    return ingested(Path.cwd())


@pytest.fixture
def lite_dataset(lite: str, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same on Milvus Lite alone, for what no backend can change."""
    monkeypatch.setenv("OUTCROP_COLLECTION", name)
    return ingested(Path.cwd())


def ingested(tmp_path: Path) -> Path:
    write_dataset(tmp_path, {"250918092555_300": 4, "250918101210_150": 2}, name="town")
    outcome = run("ingest", "dataset", "town", *MODEL, "--json", "--no-thumbnails")
    assert outcome.code == 0, outcome.err
    return tmp_path / "images"


def file_of(folder: Path, frame: int) -> Path:
    return folder / f"250918092555_300/250918092555_300_{frame:04d}.jpg"


def rows_of(uri: str, name: str) -> dict[str, dict[str, Any]]:
    with Store.connect(uri) as store:
        pages = Collection.open(store, name).scan_rows(where(), ["id", "key", "source_digest"])
        return {row["key"]: row for page in pages for row in page}


def test_audit_finds_and_repairs(uri: str, name: str, dataset: Path) -> None:
    in_order = done("audit")
    assert (in_order["findings"], in_order["rows"][0]["good"], in_order["fixed"]) == ([], 6, False)

    with Store.connect(uri) as store:
        Collection.open(store, name).delete([item_id(image_key("town", "250918092555_300", 1))])
    picture(900).save(file_of(dataset, 2), quality=90)
    file_of(dataset, 3).unlink()
    outcome = collection("audit", "--metrics-file", "audit.prom")
    line = outcome.error(4)
    assert "1 missing, 1 changed, 1 orphan, 1 no file" in line
    key = {frame: image_key("town", "250918092555_300", frame) for frame in range(1, 5)}
    assert [(f["trouble"], f["key"]) for f in outcome.json["findings"]] == [
        ("missing", key[1]), ("changed", key[2]), ("orphan", key[3]), ("no file", key[3]),
    ]  # fmt: skip
    assert outcome.json["rows"][0]["good"] == 3 and len(outcome.json["repairs"]) == 3
    metrics = Path("audit.prom").read_text()
    assert f'outcrop_audit_changed{{collection="{name}"}} 1\n' in metrics and "outcrop_audit_good" in metrics

    before = rows_of(uri, name)
    collection("audit", "--fix", "--dry-run").error(4)
    assert "--yes" in collection("audit", "--fix").error(6)  # an orphan would be lost, and nobody can be asked
    assert rows_of(uri, name) == before

    outcome = collection("audit", "--fix", "--yes")
    assert "1 no file" in outcome.error(4) and outcome.json["fixed"]
    assert [f["trouble"] for f in outcome.json["findings"]] == ["no file"]
    after = rows_of(uri, name)
    assert set(after) == (set(before) | {key[1]}) - {key[3]}
    assert [k for k in before if k in after and after[k] != before[k]] == [key[2]]

    registry = json.loads(Path("data_key.json").read_text())
    registry["datasets"]["town"]["images"]["250918092555_300"] = [1, 2, 4]
    Path("data_key.json").write_text(json.dumps(registry))
    assert done("audit")["rows"][0]["good"] == 5


def test_audit_by_digest_sees_what_size_and_time_hide(lite_dataset: Path) -> None:
    file = file_of(lite_dataset, 2)
    stat = file.stat()
    data = bytearray(file.read_bytes())
    data[-20] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert done("audit")["findings"] == []
    assert "1 changed" in collection("audit", "--digests").error(4)
    os.utime(file_of(lite_dataset, 1))  # touched, but the same bytes
    assert "1 changed" in collection("audit", "--digests").error(4)


def test_audit_of_another_space(lite: str, name: str, lite_dataset: Path) -> None:
    """The weights were exchanged: every vector is stale, and `--fix` must not mix the two."""
    weights = Path(done("describe")["weights"])
    other = bytearray(weights.read_bytes())
    other[-1] ^= 1
    Path("other.pth").write_bytes(other)
    before = rows_of(lite, name)
    file_of(lite_dataset, 1).write_bytes(file_of(lite_dataset, 2).read_bytes())
    outcome = collection("audit", "--weights", "other.pth", "--fix", "--yes")
    assert "another space" in outcome.error(4)
    assert outcome.json["rows"][0]["stale"] and any("collection switch" in line for line in outcome.json["repairs"])
    assert rows_of(lite, name) == before


@pytest.mark.parametrize("how", ["empty", "gone"])
def test_a_disk_that_is_not_mounted_empties_nothing(lite: str, name: str, lite_dataset: Path, how: str) -> None:
    shutil.rmtree(lite_dataset)
    if how == "empty":
        lite_dataset.mkdir()
    before = rows_of(lite, name)
    for arguments in (("prune", "--yes"), ("prune", "--dry-run"), ("audit", "--fix", "--yes")):
        outcome = collection(*arguments)
        assert outcome.code in (3, 6), outcome.err
        assert "root images" in outcome.error(outcome.code)
        assert rows_of(lite, name) == before


def test_prune(uri: str, name: str, dataset: Path) -> None:
    assert done("prune", "--yes")["removed"] == 0
    file_of(dataset, 1).unlink()
    file_of(dataset, 4).unlink()
    before = rows_of(uri, name)
    gone = [image_key("town", "250918092555_300", frame) for frame in (1, 4)]
    dry = done("prune", "--dry-run")
    assert ([row["key"] for row in dry["rows"]], dry["removed"]) == (gone, 0)
    assert "Nobody is there to be asked: give --yes" in collection("prune").error(6)
    assert "did you mean 'town'" in collection("prune", "--dataset", "twon", "--yes").error(3)
    assert rows_of(uri, name) == before
    pruned = done("prune", "--dataset", "town", "--yes")
    assert ([row["key"] for row in pruned["rows"]], pruned["removed"]) == (gone, 2)
    assert set(rows_of(uri, name)) == set(before) - set(gone)
    assert done("prune", "--yes")["removed"] == 0


# -- drop --------------------------------------------------------------------------------------------------------------


def test_drop_asks_first(uri: str, name: str) -> None:
    physical = make(uri, name, 12)
    before = state_of(uri, name)
    for more in ((), ("--dataset", "town")):
        assert "--yes" in collection("drop", name, *more).error(6)
        assert done("drop", name, *more, "--dry-run")["rows"] == 12
        assert state_of(uri, name) == before
    assert done("drop", name, "--yes") == {"physical": physical, "dataset": None, "rows": 12, "dry_run": False}
    assert physical not in {row["physical"] for row in done("list")["rows"]}
    assert "no collection" in collection("describe", name).error(3)
    make(uri, name, 3)  # the name is free again
    assert done("describe", name)["rows"] == 3


def test_drop_one_dataset_of_two(uri: str, name: str) -> None:
    make(uri, name, 20)
    with Store.connect(uri) as store:
        Collection.open(store, name).upsert(items(8, "field"), unit(8))
    assert "holds nothing of dataset 'sea'" in collection("drop", name, "--dataset", "sea", "--yes").error(3)
    assert done("drop", name, "--dataset", "field", "--yes")["rows"] == 8
    facts = done("describe", name)
    assert facts["rows"] == 20 and {row["dataset"] for row in facts["counts"]} == {"town"}
    assert not {"image__field", "reference__field"} & set(facts["partitions"])
    assert answers_rightly(uri, name, 20)
    with Store.connect(uri) as store:  # and it may come again
        assert Collection.open(store, name).upsert(items(8, "field"), unit(8)) == 8
    assert done("describe", name)["rows"] == 28


# -- doctor and plan ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_doctor(uri: str, large: str) -> None:
    report = done("doctor", "--probe-index", "HNSW")
    found = {finding["check"]: finding for finding in report["findings"]}
    assert report["ok"] and not [f for f in found.values() if f["verdict"] == "wrong"]
    assert ("Milvus Lite" if is_lite(uri) else "Milvus 2.3.5") in found["store"]["seen"]
    assert f"about {ROWS} rows, index HNSW Finished" in found["collection large"]["seen"]
    assert "HNSW built on" in found["probe"]["seen"]
    assert not [row for row in done("list")["rows"] if "probe" in row["physical"]], "the probe must be removed"
    assert "probe" in run("collection", "doctor", "--probe-index", "FLAT").out


@pytest.mark.slow
def test_doctor_says_when_an_index_cannot_be_had(uri: str) -> None:
    if is_lite(uri):
        found = done("doctor", "--probe-index", "GPU_IVF_FLAT")["findings"][-1]
        assert found["verdict"] == "warning" and "IVF_FLAT is used instead" in found["advice"]
    else:
        outcome = collection("doctor", "--probe-index", "GPU_IVF_FLAT", "--deadline", 4)
        assert "probe" in outcome.error(4) and "GPU_IVF_FLAT" in outcome.error(4)
        found = outcome.json["findings"][-1]
        assert (found["check"], found["verdict"]) == ("probe", "wrong") and "-gpu image" in found["advice"]
        outcome = collection("doctor", "--probe-index", "GPU_CAGRA")
        assert "2.6.20" in outcome.error(4) and outcome.json["findings"][-1]["verdict"] == "wrong"
    assert "did you mean 'HNSW'" in collection("doctor", "--probe-index", "HNWS").error(3)
    assert not [row for row in done("list")["rows"] if "probe" in row["physical"]]


def test_doctor_finds_an_index_that_is_not_the_one_on_record(lite: str, name: str) -> None:
    """As after a change of the index that was killed half-way."""
    physical = make(lite, name, 20)
    with Store.connect(lite) as store:
        record = json.dumps({"profile": "HNSW", "build": PROFILES["HNSW"].build_params()})
        store.client.alter_collection_properties(physical, {"outcrop.index": record})
    outcome = collection("doctor")
    assert f"collection index {name} HNSW" in outcome.error(4)
    assert done("index", name, "HNSW")["index"] == "HNSW"
    assert done("doctor")["ok"]


def test_doctor_without_a_store() -> None:
    outcome = collection("doctor", "--uri", "http://127.0.0.1:9", "--timeout", 2)
    assert "http://127.0.0.1:9" in outcome.error(5)
    assert not outcome.json["ok"] and outcome.json["findings"][-1]["check"] == "store"
    found = {finding["check"]: finding for finding in done("doctor")["findings"]}
    assert found["store"]["verdict"] == "warning" and "no ./outcrop.db yet" in found["store"]["seen"]
    assert not Path("outcrop.db").exists(), "looking makes nothing"


def test_doctor_leaves_a_lite_directory_in_use_alone(lite_uri: str) -> None:
    script = (
        "import sys; from store.connection import Store; s = Store.connect(sys.argv[1]); print(1, flush=True); input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, lite_uri],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline()
        found = done("doctor", "--uri", lite_uri)["findings"][-1]
        assert found["verdict"] == "ok" and f"process {holder.pid}" in found["seen"]
        assert "in use" in collection("list", "--uri", lite_uri).error(5)
    finally:
        holder.communicate("\n")


@pytest.mark.parametrize("command", [("list",), ("describe", "x"), ("create", "x", *MODEL), ("drop", "x", "--yes")])
def test_a_wrong_host_is_exit_5(command: tuple[str, ...]) -> None:
    assert "http://127.0.0.1:9" in collection(*command, "--uri", "http://127.0.0.1:9", "--timeout", 2).error(5)


def test_plan() -> None:
    small = done("plan", "--rows", 50_000, *MODEL)
    assert (small["dim"], small["index"], small["backend"]) == (1280, "FLAT", "Milvus Lite")
    large = done("plan", "--rows", 3_000_000, "--dim", 768, "--gpu-memory", 24, "--rate", 100)
    assert large["index"] == "GPU_CAGRA" and large["fits"] and large["embed_hours"] == pytest.approx(8.33, abs=0.01)
    table = run("collection", "plan", "--rows", 3_000_000, "--dim", 768).out
    assert (
        "3,000,000" in table
        and "GiB" in table
        and "unknown: give a rate" in table
        and "deploy/milvus-compose.yml" in table
    )
    assert "did you mean" in collection("plan", "--rows", 10, "--index", "HNWS").error(3)
    assert run("collection", "plan", "--rows", 0).code == 2


def test_figures_for_prometheus_are_exact_and_whole(lite: str) -> None:
    from screen.metrics import write_metrics

    write_metrics(Path("m.prom"), "audit", {"good": 12_345_678.0, "no file": 0.5}, {"collection": 'a"b\\c\nd'})
    lines = Path("m.prom").read_text().splitlines()
    assert lines == [
        "# TYPE outcrop_audit_good gauge",
        'outcrop_audit_good{collection="a\\"b\\\\c\\nd"} 12345678',
        "# TYPE outcrop_audit_no_file gauge",
        'outcrop_audit_no_file{collection="a\\"b\\\\c\\nd"} 0.5',
    ]
    assert os.listdir() == ["m.prom"]
    make(lite, "x", 20)
    assert "no/where.prom" in collection("verify", "x", "--metrics-file", "no/where.prom").error(3)


def every_change(name: str, physical: str) -> list[Callable[[], Outcome]]:
    commands = [("create", name, *MODEL), ("index", name, "HNSW"), ("switch", f"{name}_x", physical)]
    commands += [
        ("drop", name),
        ("drop", name, "--dataset", "town"),
        ("rollback", name),
        ("copy", name, "--to", f"{name}_y"),
    ]
    return [lambda c=c: collection(*c, "--dry-run") for c in commands]  # type: ignore[misc]


def test_dry_runs_change_nothing(uri: str, name: str) -> None:
    physical = make(uri, name, 30)
    with Store.connect(uri) as store:
        store.client.alter_collection_properties(physical, {PROPERTY_PREVIOUS: physical})
    before = state_of(uri, name)
    for change in every_change(name, physical):
        outcome = change()
        assert outcome.code == 0, outcome.err
        assert outcome.json["dry_run"] is True
    assert state_of(uri, name) == before
