"""Fixtures that every test may use."""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from milvus_server import GUARDED_TOKEN, ROOT_TOKEN, MilvusServer, why_not
from operations import ROWS, make_indexed

from outcrop.store.connection import Store

ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT), str(ROOT / "benchmarks")]  # last: what is installed wins

# However slow the machine, nothing of an example is too slow.
patient = hypothesis.settings(deadline=None, print_blob=True, suppress_health_check=[hypothesis.HealthCheck.too_slow])
# The same examples in every run: a rare one is looked for on purpose (pytest --hypothesis-profile search, or OUTCROP_EXAMPLES=…),
# not met by chance by a change that has nothing to do with it.
hypothesis.settings.register_profile("outcrop", patient, derandomize=True)
hypothesis.settings.register_profile("search", patient)
hypothesis.settings.load_profile("search" if os.environ.get("OUTCROP_EXAMPLES") else "outcrop")


def pytest_configure(config: pytest.Config) -> None:
    """Skipped tests are named with their reasons, even where nobody asked with ``-rs``."""
    if "s" not in config.option.reportchars:
        config.option.reportchars += "s"
    if config.getoption("dist", "no") != "no":
        from groups import Processes

        config.pluginmanager.register(Processes())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A run of several processes goes by the groups of `groups`."""
    if hasattr(config, "workerinput"):
        from groups import in_a_worker

        in_a_worker(config, items)


@pytest.fixture(autouse=True)
def clean_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs in an empty folder, without the caller's settings."""
    for name in [name for name in os.environ if name.upper().startswith("OUTCROP_")]:
        monkeypatch.delenv(name)
    for name in ("COLUMNS", "LINES"):  # a terminal's, or a test runner's
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def shared_sample() -> Path:
    """The folder of real photos and meshes beside the checkout."""
    folder = Path(__file__).parents[2] / "shared/sample"
    if not folder.is_dir():
        pytest.skip(f"the sample of real photos is not at {folder}")
    return folder


@pytest.fixture(scope="session")
def real(shared_sample: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Options for a collection of both sets of real photographs, ingested once."""
    from commands import run

    folder = tmp_path_factory.mktemp("real")
    place = ("--registry", shared_sample / "data_key.json", "--uri", folder / "outcrop.db", "--state", folder / "state")
    for name, frames in (("brighton_beach", 18), ("caliterra", 25)):
        report = run("ingest", "dataset", name, "--model", "efficientnet_lite0", *place, "--json").json
        assert (report["embedded"], report["failed"]) == (frames, 0)
    return place


@pytest.fixture(scope="session")
def sample_world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[object, ...]]:
    """The sample world, ingested once, and the options of its collection."""
    from commands import run

    from outcrop.sample.world import write_world

    folder = tmp_path_factory.mktemp("sample")
    written = write_world(folder / "world", fossils=0)
    place = ("--registry", written.registry, "--uri", folder / "outcrop.db", "--state", folder / "state")
    report = run("ingest", "dataset", "jamshill_image", "--model", "efficientnet_lite0", *place, "--json").json
    assert (report["embedded"], report["failed"]) == (written.pictures, 0)
    return written.folder, place


@pytest.fixture(scope="session")
def milvus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """A running Milvus server, one for the whole run. A test that kills a server starts one of its own."""
    if reason := why_not():
        pytest.skip(f"no Milvus server: {reason}")
    server = MilvusServer(tmp_path_factory.mktemp("milvus"))
    server.start()
    yield server
    server.kill()  # its folder goes with it
    shutil.rmtree(server.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server_uri(milvus_server: MilvusServer) -> str:
    """The address of the running server."""
    return milvus_server.uri


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that takes only known users, one for the whole run; `GUARDED_TOKEN` opens it."""
    if reason := why_not():
        pytest.skip(f"no Milvus server: {reason}")
    server = MilvusServer(tmp_path_factory.mktemp("guarded"), authorization=True)
    server.start()
    try:
        with Store.connect(server.uri, ROOT_TOKEN) as store:
            store.client.update_password("root", ROOT_TOKEN.partition(":")[2], GUARDED_TOKEN.partition(":")[2])
        yield server.uri
    finally:
        server.kill()


@pytest.fixture(scope="session")
def tiny_vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seeded random weights of timm's smallest vision transformer (`timm:test_vit`, 64-d, 160 px in patches of 16 px), with
    its classifier, as on the hub."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(11)
    path = tmp_path_factory.mktemp("timm") / "test_vit.r160_in1k.safetensors"
    save_file(timm.create_model("test_vit", pretrained=False).state_dict(), path)
    return path


@pytest.fixture
def lite_uri(tmp_path: Path) -> str:
    """A Milvus Lite directory that is not there yet."""
    return str(tmp_path / "outcrop.db")


@pytest.fixture
def name() -> str:
    """The name of a collection that no other test uses."""
    return f"t_{uuid.uuid4().hex[:12]}"


@pytest.fixture(params=["lite", "server"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """An open connection to each backend in turn; the collections made meanwhile are dropped afterwards."""
    if request.param == "lite":
        with Store.connect(request.getfixturevalue("lite_uri")) as opened:
            yield opened
        return
    with Store.connect(request.getfixturevalue("server_uri")) as opened:
        before = set(opened.client.list_collections())
        yield opened
        drop_since(opened, before)


def drop_since(store: Store, before: set[str]) -> None:
    """Drops the collections that were not there `before`, with their aliases."""
    for physical in set(store.client.list_collections()) - before:
        for alias in store.client.list_aliases(physical).get("aliases", []):
            store.client.drop_alias(alias)
        store.client.drop_collection(physical)


@pytest.fixture(scope="module", params=["lite", "server"])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of each backend; the collections made meanwhile are dropped afterwards."""
    if request.param == "lite":
        yield str(tmp_path_factory.mktemp("backend") / "backend.db")
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


@pytest.fixture(scope="module")
def large(backend: str) -> str:
    """The physical name of `large`: `ROWS` rows under an HNSW index. Tests leave it as it is."""
    return make_indexed(backend, "large", ROWS)


@pytest.fixture(scope="module")
def medium(backend: str) -> str:
    """`medium`: rows enough for a server to build an index. Tests change the index."""
    make_indexed(backend, "medium", 1500)
    return "medium"
