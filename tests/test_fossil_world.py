"""The sample world's specimens from their files to clusters: what we promise of it, and of real meshes."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from commands import run

from outcrop.sample.fossils import specimens, write_specimens

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """Options for a collection that holds the world's specimens."""
    folder = tmp_path_factory.mktemp("fossils")
    write_specimens(folder, specimens(7, 8))
    place = ("--uri", folder / "outcrop.db", "--state", folder / "state")
    report = run(
        "ingest", "specimens", folder / "specimens", "--name", "fossils", "--model", "efficientnet_lite0", *place, "--json"
    ).json  # fmt: skip
    assert (report["embedded"], report["failed"]) == (48 * 13, 0)
    return place


@pytest.mark.parametrize("method", ["hdbscan", "kmeans"])
def test_clusters_are_the_genera(place: tuple[object, ...], tmp_path: Path, method: str) -> None:
    answer = run("query", "cluster", "--output", tmp_path / "out", "--method", method, *place, "--json").json
    assert answer["items"] == 48 and answer["quality"]["categories"] == 6
    assert answer["quality"]["ari"] >= 0.8, answer["quality"]
    table = pq.read_table(tmp_path / "out/clusters.parquet").to_pydict()
    assert len(set(table["specimen_id"])) == 48


def test_the_nearest_other_specimen_is_of_the_same_genus(place: tuple[object, ...]) -> None:
    answer = run("query", "dataset", "fossils", "--kind", "specimen", "-k", 1, "--exclude-self", "--where", "kind=specimen", *place, "--json").json  # noqa: E501  # fmt: skip
    right = [query["hits"][0]["category"] == "/".join(query["query"].split("/")[2:-1]) for query in answer["queries"]]
    assert len(right) == 48 and sum(right) / 48 >= 0.9, json.dumps(answer["queries"])[:2000]
