"""Bulk load: what a server reads from files is what requests would have written, also after a kill and where it cannot read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow
import pytest
from commands import run
from conftest import drop_since
from operations import SPACE, items, unit

from outcrop.schema.columns import Columns
from outcrop.schema.filters import Filter
from outcrop.schema.item import Item
from outcrop.schema.settings import Settings
from outcrop.store import bulk, transfer
from outcrop.store.bulk import Bulk, BulkLoad, Upserts, load_into
from outcrop.store.collection import Collection
from outcrop.store.connection import Store
from outcrop.store.transfer import export_parquet, import_parquet

COUNT = 2500


def stored(store: Store, name: str) -> dict[str, Any]:
    pages = Collection.open(store, name).scan_rows(Filter(), ["*"])
    return {row["id"]: {**row, "vector": np.float32(row["vector"]).tobytes()} for page in pages for row in page}


def made(dataset: str, count: int = COUNT // 2) -> list[Item]:
    """The first items of a dataset: images and references of the town, images of the bay. A job takes a server some seconds,
    whatever is in it, and no file has rows of two kinds or datasets."""
    return items(count, dataset, mixed=dataset == "town")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the items of both datasets."""
    folder = tmp_path_factory.mktemp("exported")
    with Store.connect(str(folder / "outcrop.db"), create=True) as store:
        collection = Collection.create(store, "rocks", SPACE)
        for number, name in enumerate(("town", "bay")):
            collection.upsert(made(name), unit(COUNT // 2, seed=number))
        export_parquet(collection, folder / "rocks.parquet")
    return folder / "rocks.parquet"


@pytest.fixture(scope="module")
def server(server_uri: str) -> Iterator[Store]:
    """A connection to the server, which is left as it was found."""
    with Store.connect(server_uri) as store:
        before = set(store.client.list_collections())
        yield store
        drop_since(store, before)


@pytest.fixture(scope="module")
def by_request(server: Store, exported: Path) -> dict[str, Any]:
    """The rows as requests write them."""
    assert import_parquet(server, exported, "bulk_sent").rows == COUNT
    return stored(server, "bulk_sent")


def test_a_server_reads_the_rows_that_requests_would_write(
    server: Store,
    exported: Path,
    by_request: dict[str, Any],
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk, "FILE_BYTES", 1250 * (SPACE.dim * 4 + 1024))
    monkeypatch.setenv("OUTCROP_BULK", str(tmp_path / "shared"))
    monkeypatch.setenv("OUTCROP_BULK_FROM", "1000")
    done = run("collection", "import", exported, "--to", name, "--uri", server.uri, "--json")
    assert (done.code, done.json["rows"]) == (0, COUNT), done.err
    assert f"{COUNT} rows in 3 files, which the server read" in done.err
    assert stored(server, name) == by_request
    assert not any((tmp_path / "shared").iterdir()), "files that were read are removed"
    copied = run("collection", "copy", name, "--to", f"{name}_copy", "--uri", server.uri, "--json")
    assert (copied.code, copied.json["rows"]) == (0, COUNT) and "which the server read" in copied.err, copied.err
    assert stored(server, f"{name}_copy") == stored(server, name)


def test_a_load_that_was_killed_is_finished_without_doubling(
    server: Store,
    exported: Path,
    by_request: dict[str, Any],
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk, "FILE_BYTES", 700 * (SPACE.dim * 4 + 1024))
    monkeypatch.setattr(bulk, "UNDER_WAY", 100)  # what is begun is not waited for
    collection = Collection.ensure(server, name, SPACE)
    killed = BulkLoad(collection, tmp_path, lambda text: None)
    killed._file_rows = 300
    killed.add(made("bay", 700), unit(700, seed=1))
    assert killed._jobs, "a job is under way, and nobody waits for it any more"
    said: list[str] = []
    done = import_parquet(server, exported, name, bulk=Bulk(tmp_path, 1000), say=said.append)
    assert done.rows == COUNT and Collection.open(server, name).count() == COUNT
    assert re.search(r"rows in [3-9] files, which the server read", " ".join(said)), "files end where they are full"
    assert stored(server, name) == by_request


def test_what_the_server_cannot_read_is_sent(
    server: Store,
    exported: Path,
    by_request: dict[str, Any],
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk, "_write", lambda path, batch, dim: path.write_bytes(b"no Parquet"))
    said: list[str] = []
    done = import_parquet(server, exported, name, bulk=Bulk(tmp_path, 1000), say=said.append)
    assert done.rows == COUNT and stored(server, name) == by_request
    assert any("its rows are sent instead" in text for text in said)


def test_few_rows_and_milvus_lite_need_no_files(tmp_path: Path, lite_uri: str, name: str) -> None:
    assert Bulk.of(Settings()) is None and Bulk.of(Settings(bulk=tmp_path, bulk_from=5)) == Bulk(tmp_path, 5)
    with Store.connect(lite_uri, create=True) as store:
        collection = Collection.create(store, name, SPACE)
        assert isinstance(load_into(collection, Bulk(tmp_path, 10), 100), Upserts)
        assert isinstance(load_into(collection, None, 10**7), Upserts)


def test_rows_that_wait_for_their_file_keep_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A view would keep the page it was read with: of a million rows, more than 2 GiB."""
    monkeypatch.setattr(bulk, "settled", lambda collection: 0)
    collection: Any = SimpleNamespace(dim=SPACE.dim, physical="none", home=lambda kind, dataset: f"{kind}__{dataset}")
    load = BulkLoad(collection, tmp_path, lambda text: None)
    load.add(items(10, "bay"), unit(10))
    waiting = [vector for batch in load._batches.values() for vector in batch.vectors]
    assert len(waiting) == 10 and all(vector.base is None for vector in waiting)


def test_reading_an_export_keeps_no_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow's reader would keep what it buffers ahead until the file is closed: the whole file."""
    monkeypatch.setattr(transfer, "PAGE", 100)
    with Store.connect(str(tmp_path / "outcrop.db"), create=True) as store:
        collection = Collection.create(store, "rocks", SPACE)
        collection.upsert(items(3000, "bay"), unit(3000))
        export_parquet(collection, tmp_path / "rocks.parquet")
    before = pyarrow.total_allocated_bytes()
    pages = transfer._pages(tmp_path / "rocks.parquet", SPACE, Columns(), check=False)
    held = [pyarrow.total_allocated_bytes() - before for _ in pages]
    assert len(held) == 30 and max(held) < 3000 * SPACE.dim * 4 / 2
