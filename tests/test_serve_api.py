"""The description of the service (OpenAPI) against real answers and routes, and the examples of docs/serve.md as they are run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from browsers import serving
from commands import run
from pictures import write_dataset
from starlette.routing import Route
from starlette.testclient import TestClient

from outcrop.query.service import described
from outcrop.query.service.app import _Service, application
from outcrop.query.service.asked import NAMES
from outcrop.query.service.browsing import NAMES as LISTING
from outcrop.query.service.engine import Engine
from outcrop.query.service.openapi import OPERATIONS, description
from outcrop.schema.item import item_id
from outcrop.schema.settings import Settings

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed: no answer was compared")
CAPTURE = "250918092555_300"
KEY = f"image/town/{CAPTURE}/0003"
JSON = {"accept": "application/json"}
PAGES = {"/", "/api", "/openapi.json", "/view/{id}"}
"""Addresses that are pages, or this description itself."""
DOCS = Path(__file__).parents[1] / "docs/serve.md"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("serve")
    write_dataset(folder, {CAPTURE: 6, "250918103000_100": 2}, name="town", root="town")
    made = run(
        *("ingest", "dataset", "town", "--registry", folder / "data_key.json", "--model", "efficientnet_lite0"),
        *("--uri", folder / "outcrop.db", "--state", folder / "state", "--quiet"),
    )
    assert made.code == 0, made.err
    settings = Settings(uri=str(folder / "outcrop.db"), registry=folder / "data_key.json", state=folder / "state")
    opened = Engine(settings)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def client(engine: Engine) -> TestClient:
    return TestClient(application(engine), base_url="http://127.0.0.1:8421", follow_redirects=False)


@pytest.fixture(scope="module")
def photo(engine: Engine) -> Path:
    return engine.settings.registry.parent / f"town/{CAPTURE}/{CAPTURE}_0003.jpg"


def fits(answer: Any, model: str) -> None:
    """The answer is what the description says."""
    document = description()
    schema = {"$ref": f"#/components/schemas/{model}", "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(answer)


def test_the_description_is_valid_and_says_all_that_there_is(engine: Engine, client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert document["openapi"] == "3.1.0" and document == description()
    for name, schema in document["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema.get("description"), f"{name} has no docstring"
    text = str(document)
    for place in re.findall(r"#/components/schemas/(\w+)", text):
        assert place in document["components"]["schemas"], place
    assert "http://" not in text and "https://" not in text
    names = [one["operationId"] for methods in document["paths"].values() for one in methods.values()]
    assert len(set(names)) == len(names) == len(OPERATIONS)
    described_paths = {one.path.removesuffix(".jpg") for one in OPERATIONS}
    routes = {
        re.sub(r":\w+", "", one.path).removesuffix(".jpg")
        for one in _Service(engine).routes()
        if isinstance(one, Route)
    }
    assert routes - PAGES == described_paths, "say in query/service/openapi.py what a new address answers"


def test_every_parameter_is_described(client: TestClient) -> None:
    fields = {field.alias or name for name, field in described.Question.model_fields.items()}
    assert fields == set(NAMES), "say in query/service/described.py what a new parameter means"
    assert set(described.Listing.model_fields) == set(LISTING)
    several = {
        field.alias or name
        for name, field in described.Question.model_fields.items()
        if any(getattr(each, "__origin__", None) is list for each in get_args(field.annotation))
    }
    for name in sorted(several):  # what may come several times is an array, and the rest may not
        given = client.get("/api/search", params={"item": KEY, name: ["x", "y"]})
        assert "give it once" not in given.text
    once = client.get("/api/search", params={"item": KEY, "k": ["1", "2"]})
    assert "give it once" in once.json()["error"] and "k" not in several


def test_answers_are_as_described(client: TestClient, photo: Path) -> None:
    files = {"picture": ("a.jpg", photo.read_bytes(), "image/jpeg")}
    fits(client.post("/api/search", files=files, data={"k": "2"}).json(), "Answer")
    verified = client.post(
        "/api/search", files=files, data={"k": "3", "rerank": "geometric", "locate": "1", "where": "kind=image"}
    ).json()
    assert verified["queries"][0]["hits"][0]["verified"] is True and "location_missing" in verified["queries"][0]
    fits(verified, "Answer")
    fits(client.get("/api/search", params={"item": [KEY, f"image/town/{CAPTURE}/0001"]}).json(), "Answer")
    fits(client.get("/items", params={"where": "dataset=town"}, headers=JSON).json(), "Items")
    facets = client.get("/api/facets").json()
    assert {"values", "least"} <= {name for facet in facets["facets"] for name in facet}
    fits(facets, "Facets")
    fits(client.get(f"/items/{KEY}", headers=JSON).json(), "Item")
    fits(client.get("/healthz").json(), "Health")
    fits(client.get("/", headers=JSON).json(), "Collection")
    for path in ("/api/search", "/api/search?k=0&item=x", "/items?where=x"):
        refused = client.get(path, headers=JSON)
        assert refused.status_code == 400
        fits(refused.json(), "Error")


def test_other_answers_are_not_as_described(client: TestClient) -> None:
    answer = client.get("/api/search", params={"item": KEY}).json()
    answer["queries"][0]["hits"][0]["surprise"] = 1
    with pytest.raises(jsonschema.ValidationError, match="surprise"):
        fits(answer, "Answer")


def test_files_have_the_types_that_are_described(client: TestClient) -> None:
    for path in (f"/thumbnails/{item_id(KEY)}.jpg", f"/pictures/{item_id(KEY)}", "/metrics"):
        kind = client.get(path).headers["content-type"].partition(";")[0]
        one = next(each for each in OPERATIONS if path.startswith(each.path.partition("{")[0]))
        assert one.answer == kind, path


def test_the_page_of_the_description(client: TestClient) -> None:
    page = client.get("/api")
    assert page.status_code == 200 and "/openapi.json" in page.text
    for one in OPERATIONS:
        assert f"{one.method.upper()} {one.path}" in page.text
    for name in NAMES:
        assert f"<code>{name}</code>" in page.text
    assert "<script>" not in page.text and "http" not in page.text.replace("http-equiv", "")


@pytest.fixture
def address(engine: Engine) -> Iterator[str]:
    """The service on a port of its own, as other processes reach it."""
    with serving(engine) as found:
        yield found


def examples(language: str) -> list[str]:
    """The code blocks of the page in a language."""
    return re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)


def test_the_examples_of_the_page_run(address: str, photo: Path, tmp_path: Path) -> None:
    shutil.copy(photo, tmp_path / "photo.jpg")
    environment = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    here = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "timeout": 60}
    asked = [text for text in examples("python") if "127.0.0.1:8421" in text]
    assert asked
    pytest.importorskip("requests", reason="requests is not installed: the Python example was not run")
    for text in asked:
        code = text.replace("http://127.0.0.1:8421", address)
        done = subprocess.run([sys.executable, "-c", code], **here)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stderr
        assert re.search(rf"^1 0\.99\d+ {KEY}$|^1 1\.0 {KEY}$", done.stdout, re.MULTILINE), done.stdout
    lines = [line for text in examples("sh") for line in text.splitlines() if line.startswith("curl ")]
    assert lines
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed: its examples were not run")
    for line in lines:
        if "shell.ply" in line:  # this collection holds photographs; meshes are asked in test_serve_mesh.py
            continue
        done = subprocess.run(["sh", "-c", line.replace("http://127.0.0.1:8421", address)], **here)  # type: ignore[call-overload]
        assert done.returncode == 0 and '"key"' in done.stdout, (line, done.stdout[:300], done.stderr)
