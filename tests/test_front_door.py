"""The front door: the names of `import outcrop`, documented and cheap, and a walk through them."""

from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pictures import picture, write_dataset

import outcrop
from outcrop.screen.notebook import MAX_SHOWN, html_table

NAMES = [
    "OpenCollection",
    "OutcropError",
    "Settings",
    "cluster",
    "evaluate",
    "find_track",
    "ingest_dataset",
    "ingest_images",
    "ingest_references",
    "ingest_specimens",
    "ingest_video",
    "match",
    "open_collection",
    "query_dataset",
    "query_images",
    "query_items",
    "query_specimens",
    "where",
]


def test_the_names_are_these_and_documented() -> None:
    assert outcrop.__all__ == NAMES and set(NAMES) <= set(dir(outcrop))
    for name in NAMES:
        documented = inspect.getdoc(getattr(outcrop, name))
        assert documented and len(documented.split()) > 5, name
        if inspect.isfunction(getattr(outcrop, name)) and name != "where":
            assert "outcrop." in documented, f"{name} has no example"
            assert "Raises:" in documented, f"{name} names no errors"
    with pytest.raises(AttributeError, match="no attribute 'embed_everything'"):
        outcrop.embed_everything  # noqa: B018  # the access is the test
    assert outcrop.__version__[0].isdigit()


def test_importing_costs_nothing_and_works_from_anywhere(tmp_path: Path) -> None:
    code = (
        "import sys; before = set(sys.modules); import outcrop; print(outcrop.__all__); "
        "print(sorted({'torch', 'numpy', 'pymilvus', 'typer', 'pydantic'} & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines() == [str(NAMES), "[]"]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a registry, five photographs in a collection, and their references at two angles."""
    folder = tmp_path_factory.mktemp("door")
    registry = write_dataset(folder, {"250918092555_300": 3, "250918101210_150": 2})
    with outcrop.open_collection(folder / "outcrop.db", model="efficientnet_lite0", registry=registry) as collection:
        record = outcrop.ingest_dataset(collection, "jamshill_image")
        assert (record.expected, record.embedded, record.failed) == (5, 5, 0)
        assert outcrop.ingest_dataset(collection, "jamshill_image").unchanged == 5
        assert outcrop.ingest_references(collection, "jamshill_image", angles="0,90").embedded == 10
        assert "run " in record._repr_html_() and "<td>5</td>" in record._repr_html_()
    return folder


@pytest.fixture
def collection(filled: Path, tmp_path: Path) -> outcrop.OpenCollection:
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    return outcrop.open_collection("outcrop.db", registry="data_key.json")


def test_a_folder_without_a_registry(collection: outcrop.OpenCollection, tmp_path: Path) -> None:
    (tmp_path / "loose/north").mkdir(parents=True)
    picture(40).save(tmp_path / "loose/north/any name.jpg", quality=70)
    with collection:
        record = outcrop.ingest_images(collection, "loose", name="mine")
        assert (record.embedded, record.dataset) == (1, "mine")
        (found,) = outcrop.query_images(collection, "loose/north/any name.jpg", k=1).results
        assert found.hits[0].item.source == "north/any name.jpg" and found.hits[0].item.capture_id == "north"
        assert outcrop.ingest_dataset(collection, "mine").unchanged == 1


def test_queries_answer_as_the_commands_do(collection: outcrop.OpenCollection) -> None:
    with collection:
        picture(2).save("query.jpg", quality=70)
        found = outcrop.query_images(collection, "query.jpg", k=2, where="altitude=200..400")
        key = found.results[0].hits[0].item.key
        assert "0002" in key and key in found._repr_html_() and "query.jpg" in found._repr_html_()
        images = outcrop.query_images(collection, ["query.jpg"], k=2, where=("kind=image", "altitude=150"))
        assert {hit.item.capture_id for hit in images.results[0].hits} == {"250918101210_150"}
        alike = outcrop.query_items(collection, "image/jamshill_image/250918092555_300/0001", k=3)
        assert alike.results[0].hits
        assert not any("250918092555_300/0001" in hit.item.key for hit in alike.results[0].hits), "itself is left out"
        batches = list(outcrop.query_dataset(collection, "jamshill_image", k=2, where=outcrop.where("kind=image")))
        assert sum(len(batch.results) for batch in batches) == 5
        verified = outcrop.query_images(collection, "query.jpg", k=2, rerank=True)
        assert verified.results[0].match and verified.results[0].hits[0].item.frame == 2
        figures = outcrop.evaluate(collection, pictures="images", where="kind=image")
        assert figures.strategies[0].overall.recall(1).value == 1.0 and "recall@1" in figures._repr_html_()
        with pytest.raises(outcrop.OutcropError, match="either dataset or pictures"):
            outcrop.evaluate(collection)
        pair = outcrop.match("query.jpg", "query.jpg")
        assert pair.verified and pair.as_json()["rotation"] == 0
    with pytest.raises(outcrop.OutcropError, match="no collection 'other'"):
        outcrop.query_items(outcrop.open_collection("outcrop.db", "other"), "image/a/b/0001")


def test_tables_are_escaped_and_bounded() -> None:
    rows = [{"name": "<script>", "score": n / 7} for n in range(MAX_SHOWN + 3)]
    table = html_table(rows, ("name", "score"), "a & b", "note")
    assert "<script>" not in table and "&lt;script&gt;" in table and "a &amp; b" in table
    assert table.count("<tr>") == MAX_SHOWN + 1 and "3 more rows; note" in table
