"""Near-duplicates in the service: the groups of `query duplicates`, page by page, at a bounded cost."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import run
from pictures import write_dataset
from PIL import Image
from starlette.testclient import TestClient

from outcrop.query.service import duplicate_pages
from outcrop.query.service.app import application
from outcrop.query.service.engine import Engine
from outcrop.query.service.openapi import description
from outcrop.schema.settings import Settings

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed: no answer was compared")
CAPTURE = "250918092555_300"
JSON = {"accept": "application/json"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs, one of them twice, another once more with four times its pixels."""
    folder = tmp_path_factory.mktemp("duplicates")
    write_dataset(folder, {CAPTURE: 7}, name="town", root="town")
    photos = sorted((folder / f"town/{CAPTURE}").glob("*.jpg"))
    shutil.copy(photos[0], photos[5])
    with Image.open(photos[1]) as smaller:
        smaller.resize((2 * smaller.width, 2 * smaller.height)).save(photos[6], quality=90)
    made = run(
        *("ingest", "dataset", "town", "--registry", folder / "data_key.json", "--model", "efficientnet_lite0"),
        *("--uri", folder / "outcrop.db", "--state", folder / "state", "--quiet"),
    )
    assert made.code == 0, made.err
    return folder


@pytest.fixture(scope="module")
def said(place: Path) -> dict[str, Any]:
    """What the command says, before the service has the collection."""
    asked = run(
        *("query", "duplicates", "--threshold", "0.99", "--json", "--registry", place / "data_key.json"),
        *("--uri", place / "outcrop.db", "--state", place / "state", "--quiet"),
    )
    assert asked.code == 0, asked.err
    found: dict[str, Any] = json.loads(asked.out)
    return found


@pytest.fixture(scope="module")
def engine(place: Path, said: dict[str, Any]) -> Iterator[Engine]:
    opened = Engine(Settings(uri=str(place / "outcrop.db"), registry=place / "data_key.json", state=place / "state"))
    yield opened
    opened.close()


@pytest.fixture
def client(engine: Engine) -> TestClient:
    return TestClient(application(engine), base_url="http://127.0.0.1:8421", follow_redirects=False)


def test_the_groups_are_those_of_the_command(client: TestClient, said: dict[str, Any]) -> None:
    answer = client.get("/duplicates", params={"threshold": "0.99"}, headers=JSON).json()
    assert answer["groups"] == said["groups"] and answer["total"] == len(said["groups"]) and answer["next"] is None
    same = [group for group in answer["groups"] if group["identical"]]
    assert [len(group["items"]) for group in same] == [2]
    larger = next(group for group in answer["groups"] if not group["identical"])["items"]
    assert larger[0]["key"].endswith("0007") and larger[0]["best"] and larger[0]["width"] == 2 * larger[1]["width"]
    components = description()["components"]
    schema = {"$ref": "#/components/schemas/DuplicateGroups", "components": components}
    jsonschema.Draft202012Validator(schema).validate(answer)


def test_the_page_and_the_file(client: TestClient, said: dict[str, Any]) -> None:
    form = client.get("/duplicates").text
    assert 'name="threshold"' in form and "Group 1" not in form
    page = client.get("/duplicates", params={"threshold": "0.99", "where": ""}).text
    assert page.count("<b>best</b>") == len(said["groups"]) and "format=csv" in page and "style=" not in page
    rows = list(csv.DictReader(io.StringIO(client.get("/duplicates?threshold=0.99&format=csv").text)))
    assert [row["key"] for row in rows] == [item["key"] for group in said["groups"] for item in group["items"]]
    none = client.get("/duplicates", params={"threshold": "0.99", "where": "frame=3..4"}).text
    assert "No two items" in none


def test_pages_of_groups(client: TestClient, said: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicate_pages, "GROUPS", 1)
    first = client.get("/duplicates?threshold=0.99", headers=JSON).json()
    second = client.get(f"/duplicates?threshold=0.99&page={first['next']}", headers=JSON).json()
    assert [*first["groups"], *second["groups"]] == said["groups"][:2]
    assert 'rel="next"' in client.get("/duplicates?threshold=0.99").text


def test_the_cost_is_bounded(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    measure = duplicate_pages.measured

    def counted(group: Any, originals: Any, most: int) -> Any:
        opened.append(most)
        return measure(group, originals, 1)

    monkeypatch.setattr(duplicate_pages, "measured", counted)
    answer = client.get("/duplicates?threshold=0.99", headers=JSON).json()
    for group in answer["groups"]:  # one picture alone was opened: that of the most pixels, which is the best one
        assert [item["sharpness"] is not None for item in group["items"]] == [True] + [False] * (
            len(group["items"]) - 1
        )
        assert group["items"][0]["width"] == max(item["width"] for item in group["items"])
    assert set(opened) == {duplicate_pages.MEASURED}
    monkeypatch.setattr(duplicate_pages, "MOST_COMPARED", 5)
    refused = client.get("/duplicates?threshold=0.991", headers=JSON)
    assert refused.status_code == 400 and "7 items would be compared" in refused.json()["error"]
    assert client.get("/duplicates?threshold=0.991&where=frame=1..4", headers=JSON).status_code == 200
    monkeypatch.setattr(duplicate_pages, "TAKEN", 1)
    assert client.get("/duplicates?threshold=0.99&format=csv", headers=JSON).status_code == 400


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("threshold=0", "above 0"),
        ("threshold=nan", "above 0"),
        ("threshold=x", "above 0"),
        ("page=0", "page must be"),
        ("format=exe", "format must be csv"),
        ("where=nonsense", "nonsense"),
        ("thershold=1", "did you mean 'threshold'"),
    ],
)
def test_what_does_not_fit_is_named(client: TestClient, query: str, reason: str) -> None:
    answer = client.get(f"/duplicates?{query}", headers=JSON)
    assert answer.status_code == 400 and reason in answer.json()["error"]


def test_nothing_is_deleted(client: TestClient, engine: Engine, place: Path) -> None:
    client.get("/duplicates?threshold=0.5")
    assert engine.collection.count() == 7 and len(list(place.glob("town/*/*.jpg"))) == 7
