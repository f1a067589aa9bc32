"""Clusterings in the service: the map with a lasso, what is chosen and taken along, and reports of evaluations beside them."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsers import serving
from commands import run
from pictures import picture
from starlette.testclient import TestClient
from toy_specimens import SPACE, ToyEncoder

import outcrop.embed.models
import outcrop.embed.opening
from outcrop.embed.images import thumbnail
from outcrop.embed.thumbnails import ThumbnailStore
from outcrop.query.service.app import application
from outcrop.query.service.chosen import Chosen
from outcrop.query.service.engine import Engine
from outcrop.query.service.openapi import description
from outcrop.query.service.results import within
from outcrop.schema.item import Item, Kind, image_key
from outcrop.schema.settings import Settings
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed: no answer was compared")
JSON = {"accept": "application/json"}
EACH, STRAYS = 15, 5


class Encoder(ToyEncoder):
    """Opened and closed as a model is."""

    def close(self) -> None:
        """Nothing to close."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tight groups of images and some strays, clustered; a report of an evaluation, and what is neither."""
    folder = tmp_path_factory.mktemp("clusters")
    rng = np.random.default_rng(0)
    centres = np.linalg.qr(rng.normal(size=(SPACE.dim, 3)))[0].T
    vectors = np.concatenate(
        [*(c + rng.normal(size=(EACH, SPACE.dim)) * 0.02 for c in centres), rng.normal(size=(STRAYS, SPACE.dim))]
    )
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    items = [
        Item(
            image_key("town", "=c_100" if n % 2 else "d_100", n), Kind.IMAGE, "town", "=c_100" if n % 2 else "d_100", frame=n,
            source=f"{n}.jpg", **({"latitude": 35.0 + n / 1000, "longitude": 129.0} if n % 3 else {}),
        )
        for n in range(len(vectors))
    ]  # fmt: skip
    with Store.connect(str(folder / "outcrop.db")) as store:
        Collection.create(store, "outcrop", SPACE).upsert(items, vectors)
    thumbnails = ThumbnailStore.below(folder / "state")
    for number, item in enumerate(items):
        thumbnails.write(item.id, thumbnail(picture(number, 160, 120)))
    results = folder / "state/results"
    results.mkdir(parents=True)  # the service makes it when it starts
    made = run(
        *("query", "cluster", "--kind", "image", "--output", results / "<b>first"),
        *("--uri", folder / "outcrop.db", "--state", folder / "state", "--quiet"),
    )
    assert made.code == 0, made.err
    (results / "held.html").write_text("<!doctype html><title>Outcrop evaluation</title><script>alert(1)</script>")
    (results / "other.html").write_text("<!doctype html><title>Something</title>")
    (results / "broken").mkdir()
    (results / "broken/clusters.json").write_text("{")
    secret = folder / "outside"
    shutil.copytree(results / "<b>first", secret)
    (results / "leads_out").symlink_to(secret, target_is_directory=True)
    return folder


@pytest.fixture(scope="module")
def engine(place: Path) -> Iterator[Engine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outcrop.embed.models, "resolve", lambda *_: None)
        patch.setattr(outcrop.embed.opening, "open_for_query", lambda *_: Encoder())
        opened = Engine(Settings(uri=str(place / "outcrop.db"), state=place / "state"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def client(engine: Engine) -> TestClient:
    return TestClient(application(engine), base_url="http://127.0.0.1:8421", follow_redirects=False)


def model(name: str) -> Any:
    """What the description says of an answer."""
    components = description()["components"]
    return jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": components})


HERE = "/clusters/%3Cb%3Efirst"


def test_what_is_there_is_listed_and_nothing_else(client: TestClient) -> None:
    said = client.get("/clusters", headers=JSON).json()
    assert [one["name"] for one in said["clusterings"]] == ["<b>first"] and said["evaluations"] == ["held.html"]
    assert said["clusterings"][0]["items"] == 3 * EACH + STRAYS and said["clusterings"][0]["clusters"] == 3
    page = client.get("/clusters").text
    assert HERE in page and "&lt;b&gt;first" in page and "<b>first" not in page and "leads_out" not in page
    for path in ("/clusters/leads_out", "/clusters/broken", "/clusters/..%2f..%2foutside", "/clusters/nothing"):
        assert client.get(path, headers=JSON).status_code == 404, path
    for path in ("/evaluations/other.html", "/evaluations/..%2f..%2fsecret.html"):
        assert client.get(path).status_code == 404, path


def test_reports_may_run_and_load_nothing(client: TestClient) -> None:
    report = client.get("/evaluations/held.html")
    policy = report.headers["content-security-policy"]
    assert report.status_code == 200 and policy.startswith("default-src 'none'") and policy.endswith("sandbox")
    assert "script-src" not in policy


def test_the_page_shows_the_map_and_every_cluster(client: TestClient, engine: Engine) -> None:
    page = client.get(HERE).text
    assert page.count("<circle cx=") == 3 * EACH + STRAYS + 3 and "data-chosen" not in page  # a dot for each cluster
    assert page.count('class="group"') == 4 and "In no cluster" in page
    assert "style=" not in page and "<script>" not in page and "http" not in page
    said = client.get(HERE, headers=JSON).json()
    model("Clustering").validate(said)
    model("Clusterings").validate(client.get("/clusters", headers=JSON).json())
    assert said["name"] == "<b>first" and said["chosen"] == 0 and len(said["clusters"]) == 3


def test_clusters_are_chosen_and_taken_along(client: TestClient) -> None:
    one = client.get(HERE, headers=JSON).json()["clusters"][0]
    address = f"{HERE}/items?cluster={one['cluster_id']}"
    values = client.get(address).json()
    model("ClusterItems").validate(values)
    assert values["count"] == one["size"] and set(one["exemplars"]) <= {item["key"] for item in values["items"]}
    keys = client.get(f"{address}&format=keys")
    assert keys.text.splitlines() == [item["key"] for item in values["items"]]
    assert keys.headers["content-type"].startswith("text/plain")
    rows = list(csv.DictReader(io.StringIO(client.get(f"{address}&format=csv").text)))
    assert [row["key"] for row in rows] == keys.text.splitlines() and rows[0]["cluster_id"] == str(one["cluster_id"])
    both = client.get(f"{address}&cluster=-1").json()["count"]
    assert both == one["size"] + client.get(f"{HERE}/items?cluster=-1").json()["count"]
    page = client.get(f"{HERE}?cluster={one['cluster_id']}").text
    assert page.count("data-chosen") == one["size"] and "format=geojson" in page and "item=image" in page


def test_places_come_along_as_geojson(client: TestClient) -> None:
    taken = client.get(f"{HERE}/items?format=geojson")
    assert (
        taken.headers["content-type"] == "application/geo+json" and "attachment" in taken.headers["content-disposition"]
    )
    features = json.loads(taken.text)["features"]
    assert len(features) == 3 * EACH + STRAYS
    for feature in features:
        number = int(feature["properties"]["key"].rpartition("/")[2])
        if number % 3:
            assert feature["geometry"]["coordinates"] == pytest.approx([129.0, 35 + number / 1000], abs=1e-5)
        else:
            assert feature["geometry"] is None


def test_a_lasso_chooses_what_lies_within(client: TestClient, engine: Engine) -> None:
    found = engine.results.clustering("<b>first")
    row = int(found.shown[0])
    x, y = found.places[row].tolist()
    around = " ".join(f"{x + dx:.4f},{y + dy:.4f}" for dx, dy in ((-0.001, -0.001), (0.001, -0.001), (0, 0.001)))
    values = client.get(f"{HERE}/items", params={"lasso": around}).json()
    assert found.keys[row] in [item["key"] for item in values["items"]] and values["count"] < 5
    everything = client.get(f"{HERE}/items", params={"lasso": "-0.1,-0.1 1.1,-0.1 1.1,1.1 -0.1,1.1"}).json()
    assert everything["count"] == len(found.shown)
    page = client.get(HERE, params={"lasso": around}).text
    assert page.count("data-chosen") == values["count"] and '<polygon class="lasso"' in page


def test_within_a_polygon() -> None:
    square = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    places = np.array([[0.5, 0.5], [1.5, 0.5], [-0.1, 0.5], [0.5, 1.1], [np.nan, np.nan], [0.999, 0.001]])
    assert within(places, square).tolist() == [True, False, False, False, False, True]
    arrow = ((0.0, 0.0), (1.0, 0.5), (0.0, 1.0), (0.4, 0.5))
    assert within(np.array([[0.2, 0.5], [0.6, 0.5]]), arrow).tolist() == [False, True]


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"cluster": "x"}, "whole number"),
        ({"cluster": "99999999999"}, "whole number"),
        ({"lasso": "0,0 1,1"}, "3 to"),
        ({"lasso": "a,b c,d e,f"}, "3 to"),
        ({"lasso": "nan,0 1,1 0,1"}, "3 to"),
        ({"lasso": " ".join(["0,0"] * 500)}, "3 to"),
        ({"format": "exe"}, "csv, geojson, keys"),
        ({"clutser": "1"}, "did you mean 'cluster'"),
    ],
)
def test_what_does_not_fit_is_named(client: TestClient, params: dict[str, str], said: str) -> None:
    answer = client.get(f"{HERE}/items", params=params, headers=JSON)
    assert answer.status_code == 400 and said in answer.json()["error"]


def test_addresses_come_back(client: TestClient) -> None:
    chosen = Chosen((3, -1), ((0.1, 0.2), (0.3, 0.4), (0.5, 0.25)))
    from starlette.datastructures import QueryParams

    assert Chosen.of(QueryParams(chosen.address())) == chosen and Chosen().empty


@pytest.fixture
def address(engine: Engine) -> Iterator[str]:
    """The service on a port of its own, as a browser reaches it."""
    with serving(engine) as found:
        yield found


def test_a_lasso_is_drawn_in_a_browser(address: str) -> None:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: no browser drew a lasso"
    )
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed: no browser drew a lasso")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            page = browser.new_page(viewport={"width": 1200, "height": 1400})
            wrong: list[str] = []
            page.on("response", lambda said: wrong.append(said.url) if said.status >= 400 else None)
            page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
            page.goto(f"{address}{HERE}")
            page.locator("#map circle").last.hover(force=True)
            page.locator("#seen").wait_for()
            assert page.locator("#seen-text").inner_text()
            edges = page.locator("#map").bounding_box()
            corners = [(0.01, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99)]
            points = [(edges["x"] + x * edges["width"], edges["y"] + y * edges["height"]) for x, y in corners]
            page.mouse.move(*points[0])
            page.mouse.down()
            for point in points[1:]:
                page.mouse.move(*point, steps=8)
            with page.expect_navigation():
                page.mouse.up()
            assert "lasso=" in page.url
            assert page.locator("#map circle[data-chosen]").count() == 3 * EACH + STRAYS
            assert re.search(rf"{3 * EACH + STRAYS}", page.locator("#chosen").inner_text())
            with page.expect_download() as taken:
                page.locator("#chosen a", has_text="CSV").click()
            assert len(Path(taken.value.path()).read_text().splitlines()) == 3 * EACH + STRAYS + 1
            assert not wrong
        finally:
            browser.close()
