"""`--ray`: an ingest on the nodes of a Ray cluster makes the rows of a run on one machine, also where a node is lost."""

from __future__ import annotations

import pickle
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import meshes
import numpy as np
import pyarrow as pa
import pytest
import rasterio
from affine import Affine
from commands import run
from films import write_film
from operations import SPACE
from pictures import write_dataset
from waiting import records, until

from outcrop.ingest import on_ray
from outcrop.ingest.on_ray import Answer, Task, Worker, _actors, _anywhere, _packed
from outcrop.ingest.requests import (
    AnyRequest,
    DatasetRequest,
    FeaturesRequest,
    MapRequest,
    SpecimensRequest,
    VideoRequest,
)
from outcrop.ingest.sources import groups
from outcrop.render.workers import Workers
from outcrop.schema.errors import InputError, StoreUnreachable
from outcrop.schema.filters import Filter
from outcrop.schema.settings import Settings, read_settings
from outcrop.schema.space import Space
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

MODEL = ("--model", "efficientnet_lite0")
FEW = ("--angles", "0,90", "--crops", "0.6")
OUR_TIMES = {"ingested_at", "checksum"}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with a missing photograph and a broken one."""
    folder = tmp_path_factory.mktemp("town")
    write_dataset(folder, {"a_300": 12, "b_300": 8}, name="town", root="town")
    (folder / "town/a_300/a_300_0002.jpg").unlink()
    (folder / "town/b_300/b_300_0003.jpg").write_bytes(b"broken")
    return folder


def stored(uri: str, name: str) -> dict[str, Any]:
    """Every row by key: its fields but for the time, and its vector."""
    with Store.connect(uri) as store:
        pages = Collection.open(store, name).scan_rows(Filter(), ["*"])
        rows = [row for page in pages for row in page]
    return {
        row["key"]: ({k: v for k, v in row.items() if k not in {*OUR_TIMES, "vector"}}, row["vector"]) for row in rows
    }


def assert_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert set(ours) == set(theirs)
    for key, (row, vector) in ours.items():
        assert row == theirs[key][0] and np.abs(np.subtract(vector, theirs[key][1])).max() < 1e-6


def test_a_cluster_has_an_actor_for_each_card_or_else_for_each_node() -> None:
    assert _actors([{"CPU": 4.0}, {"CPU": 2.0}, {"memory": 1.0}]) == (2, {"num_cpus": 2.0})
    assert _actors([]) == (1, {"num_cpus": 1.0})
    cards = [{"CPU": 0.0}, {"CPU": 16.0, "GPU": 4.0}, {"CPU": 32.0, "GPU": 4.0}]
    assert _actors(cards) == (8, {"num_cpus": 4.0, "num_gpus": 1.0})
    assert _actors([{"CPU": 1.0, "GPU": 2.0}]) == (2, {"num_cpus": 1.0, "num_gpus": 1.0})


def test_sources_are_sent_small_and_whole(town: Path) -> None:
    listing = DatasetRequest(name="town", registry=town / "data_key.json", datasets=town).list(None)
    many = list(listing.sources) * 20
    batches = [pickle.loads(zlib.decompress(each)) for each in _packed(many, 1)]
    assert [source.path for batch in batches for source in batch] == [source.path for source in many]
    assert [len(batch) for batch in batches] == [len(batch) for batch in groups(many, len(many) // 4)]
    specimens = pickle.loads(pickle.dumps([Workers(3), Workers(3)]))
    assert specimens[0] is specimens[1], "the drawing processes of a machine are shared"


def test_whatever_is_ingested_can_be_sent(tmp_path: Path) -> None:
    """Each kind of source, with what it makes: films, maps and trees of vectors beside photographs and specimens."""
    folder = tmp_path / "tree"
    (folder / "town/Global/c_100").mkdir(parents=True)
    np.save(folder / "town/Global/c_100/c_100_0001.npy", np.ones(8, np.float32))
    profile = {"driver": "GTiff", "width": 200, "height": 200, "count": 3, "dtype": "uint8", "crs": "EPSG:32632"}
    with rasterio.open(tmp_path / "map.tif", "w", **profile, transform=Affine(0.5, 0, 5e5, 0, -0.5, 5e6)) as file:
        file.write(np.random.default_rng(1).integers(1, 255, (3, 200, 200), dtype=np.uint8))
    write_film(tmp_path / "films/a.mp4", seconds=1)
    meshes.write(tmp_path / "meshes/shells/round.ply", *meshes.ball())
    requests: list[tuple[AnyRequest, Space | None]] = [
        (FeaturesRequest(name="town", folder=folder, layout="imgmatching"), None),
        (MapRequest(name="ground", path=tmp_path / "map.tif", scales=(40.0,)), None),
        (VideoRequest(name="films", folder=tmp_path / "films", known=tmp_path / "known"), None),
        (SpecimensRequest(name="meshes", folder=tmp_path / "meshes", views=2), SPACE),
    ]
    for request, space in requests:
        sources = list(request.list(space).sources)
        assert sources, request
        (packed,) = _packed(sources, 1)
        for ours, theirs in zip(sources, pickle.loads(zlib.decompress(packed)), strict=True):
            assert [each.item for each in theirs.wanted] == [each.item for each in ours.wanted] and theirs.count >= 1
            assert theirs.path == ours.path


def test_what_cannot_be_sent_is_refused_with_the_reason() -> None:
    class Local:
        path, count = Path("a.jpg"), 1

    with pytest.raises(InputError, match=r"cannot be sent to other machines .* leave --ray out"):
        list(_packed([Local()], 1))  # type: ignore[list-item]


def test_settings_are_sent_without_this_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTCROP_TOKEN", "root:hidden")
    sent = pickle.loads(pickle.dumps(_anywhere(read_settings(datasets=Path("data"), ray="auto"))))
    assert type(sent) is Settings and sent.datasets == Path("data").absolute() and sent.state.is_absolute()
    assert sent.ray is None and sent.token.get_secret_value() == "root:hidden" and "hidden" not in repr(sent)


def test_an_actor_does_a_batch_and_does_it_again(town: Path, lite: str) -> None:
    place = ("--registry", town / "data_key.json")
    assert run("ingest", "dataset", "town", *place, *MODEL, "--limit", 3).code == 0
    request = DatasetRequest(name="town", registry=town / "data_key.json", datasets=town)
    actor = Worker(pickle.dumps(Task(request, _anywhere(read_settings(uri=lite)))))
    (packed,) = _packed(request.list(None).sources, 1)
    batch = pa.table({"sources": [packed]})
    first, again = (pickle.loads(actor(batch)["answer"][0]) for _ in range(2))
    assert (first.counts["embedded"], first.counts["unchanged"], first.device) == (15, 3, "cpu")
    assert [failure.path for failure in first.failures] == [str(town / "town/b_300/b_300_0003.jpg")]
    assert (again.counts["embedded"], again.counts["unchanged"], len(again.failures)) == (0, 18, 1)


def test_what_breaks_on_a_node_breaks_the_run(town: Path, lite: str) -> None:
    request = DatasetRequest(name="town", registry=town / "data_key.json", datasets=town)
    actor = Worker(
        pickle.dumps(Task(request, _anywhere(read_settings(uri="http://127.0.0.1:1", patience=0, timeout=1))))
    )
    (packed,) = _packed(request.list(None).sources, 1)
    answer: Answer = pickle.loads(actor(pa.table({"sources": [packed]}))["answer"][0])
    assert isinstance(answer.error, StoreUnreachable)


def test_what_cannot_go_to_a_cluster_is_refused(town: Path, lite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place = ("dataset", "town", "--registry", town / "data_key.json", *MODEL, "--ray", "auto")
    assert "needs a Milvus server" in run("ingest", *place).error(3)
    assert "--ray and --shard exclude each other" in run("ingest", *place, "--shard", "0/2").error(3)
    monkeypatch.setitem(sys.modules, "ray", None)
    missing = run("ingest", *place, "--uri", "http://127.0.0.1:1")
    assert "pip install 'outcrop[ray]'" in missing.error(3)
    assert not list(Path().iterdir())  # neither a store nor a state folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Three nodes on this machine, one of which can be lost; the first one does no work."""
    pytest.importorskip("ray", reason="Ray is not installed")
    on_ray._ray()
    import ray
    from ray.cluster_utils import Cluster

    # Ray's workers have a low priority by default: beside the other process of a test run they would hardly come to work.
    config = {"worker_niceness": 0}
    made = Cluster(True, head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": config})
    for _ in range(2):
        made.add_node(num_cpus=1)
    ray.init(address=made.address, log_to_driver=False, logging_level="WARNING")
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_cluster_that_loses_a_node_makes_the_rows_of_one_run(
    town: Path, cluster: Any, server_uri: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "FEWEST", 3)
    one = str(tmp_path / "one.db")
    place = ("--registry", town / "data_key.json", "--state", tmp_path / "state", "--json")
    for what in (("dataset", "town"), ("references", "town", *FEW)):
        assert run("ingest", *what, *MODEL, *place, "--uri", one).code == 4
    far = (*place, "--uri", server_uri, "--collection", name, "--ray", cluster.address)
    try:
        lost = threading.Thread(target=lose_a_node, args=(cluster, tmp_path / "state"))
        lost.start()
        with monkeypatch.context() as slowly:  # so that the node is lost before the other has done all
            slowly.setenv("OUTCROP_WRITE_RATE", "3")
            done = run("ingest", "dataset", "town", *MODEL, *far)
        lost.join()
        assert done.code == 4, done.err
        record = done.json
        assert (record["embedded"] + record["unchanged"], record["failed"], record["missing"]) == (18, 2, 1)
        assert record["state"] == "done" and "a_300" in Path(record["failures"]).read_text()
        references = run("ingest", "references", "town", *FEW, *MODEL, *far)
        assert (references.code, references.json["embedded"]) == (4, 36), references.err
        assert_same(stored(server_uri, name), stored(one, "outcrop"))
        again = run("ingest", "references", "town", *FEW, *MODEL, *far).json
        assert (again["embedded"], again["unchanged"]) == (0, 36)
    finally:
        run("collection", "drop", name, "--uri", server_uri, "--yes")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_specimens_are_drawn_and_embedded_on_a_node_with_a_card(
    cluster: Any, server_uri: str, name: str, tmp_path: Path
) -> None:
    """The card is Ray's word for one: what an actor asks for is seen, and its work is done by the processor here."""
    meshes.write(tmp_path / "meshes/shells/round.ply", *meshes.ball())
    meshes.write(tmp_path / "meshes/shells/long.ply", *meshes.ball(stretched=(1, 2, 1)))
    place = ("--views", 2, "--size", 96, "--name", "shells", "--state", tmp_path / "state", "--json")
    what = ("specimens", tmp_path / "meshes", *MODEL, *place)
    assert run("ingest", *what, "--uri", tmp_path / "one.db").code == 0
    node = cluster.add_node(num_cpus=1, num_gpus=1)
    try:
        done = run("ingest", *what, "--uri", server_uri, "--collection", name, "--ray", cluster.address)
        assert (done.code, done.json["embedded"]) == (0, 6), done.err
        assert "1 batches for 1 actors, each with a graphics card and 1 core" in done.err
        assert_same(stored(server_uri, name), stored(str(tmp_path / "one.db"), "outcrop"))
    finally:
        cluster.remove_node(node)
        run("collection", "drop", name, "--uri", server_uri, "--yes")


def lose_a_node(cluster: Any, state: Path) -> None:
    """Takes a node away at once, after the run has counted some rows."""
    until(lambda: any(each["upserted"] for each in records(state) if each["state"] == "running"), "rows", seconds=600)
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
