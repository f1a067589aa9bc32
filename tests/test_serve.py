"""`query serve`: what it answers, by pages and by JSON, and what it refuses."""

from __future__ import annotations

import asyncio
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import run
from pictures import picture, write_dataset
from PIL import Image
from starlette.testclient import TestClient

from outcrop.query.search import query_images, query_items
from outcrop.query.service.app import application
from outcrop.query.service.asked import Asked
from outcrop.query.service.engine import Busy, Engine
from outcrop.query.service.guards import Guards
from outcrop.schema.errors import InputError
from outcrop.schema.item import item_id
from outcrop.schema.settings import Settings

CAPTURE = "250918092555_300"
KEY = f"image/town/{CAPTURE}/0003"
HERE = "http://127.0.0.1:8421"
JSON = {"accept": "application/json"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serve")
    write_dataset(folder, {CAPTURE: 8}, name="town", root="town")
    write_dataset(folder, {"<b>evil<i>_100": 2}, name="field", root="field", seed=1)
    for name in ("town", "field"):
        made = run(
            *("ingest", "dataset", name, "--registry", folder / "data_key.json", "--model", "efficientnet_lite0"),
            *("--uri", folder / "outcrop.db", "--state", folder / "state", "--quiet"),
        )
        assert made.code == 0, made.err
    return folder


@pytest.fixture(scope="module")
def engine(place: Path) -> Iterator[Engine]:
    settings = Settings(uri=str(place / "outcrop.db"), registry=place / "data_key.json", state=place / "state")
    opened = Engine(settings)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def client(engine: Engine) -> TestClient:
    return TestClient(application(engine), base_url=HERE, follow_redirects=False)


@pytest.fixture
def photo(place: Path) -> bytes:
    return (place / f"town/{CAPTURE}/{CAPTURE}_0003.jpg").read_bytes()


def uploaded(data: bytes, name: str = "mine.jpg") -> dict[str, Any]:
    return {"picture": (name, data, "image/jpeg")}


def test_a_program_asks_with_a_picture(client: TestClient, photo: bytes) -> None:
    answer = client.post("/api/search", files=uploaded(photo), data={"k": "2", "where": ["kind=image", "dataset=town"]})
    assert answer.status_code == 200 and answer.json()["collection"] == "outcrop"
    (asked,) = answer.json()["queries"]
    assert asked["query"] == "mine.jpg"
    assert [hit["rank"] for hit in asked["hits"]] == [1, 2] and asked["hits"][0]["key"] == KEY
    assert asked["hits"][0]["score"] > 0.999 and {hit["dataset"] for hit in asked["hits"]} == {"town"}


def test_the_shape_is_that_of_the_command(engine: Engine, client: TestClient) -> None:
    served = client.get("/api/search", params={"item": KEY, "k": 3}).json()
    said = query_items([KEY], engine.collection, 3, exclude_self=True).as_json()
    assert served.keys() == said.keys() and served["queries"] == said["queries"]


def test_a_box_asks_with_a_part(client: TestClient, place: Path) -> None:
    wide = Image.new("RGB", (640, 240))
    wide.paste(picture(99), (0, 0))
    wide.paste(Image.open(place / f"town/{CAPTURE}/{CAPTURE}_0005.jpg"), (320, 0))
    made = io.BytesIO()
    wide.save(made, "PNG")
    data = {"k": "1", "box": "0.5,0,1,1", "where": "dataset=town"}
    (hit,) = client.post("/api/search", files=uploaded(made.getvalue(), "wide.png"), data=data).json()["queries"][0][
        "hits"
    ]
    assert hit["key"].endswith("0005") and hit["score"] > 0.98
    small = client.post("/api/search", files=uploaded(made.getvalue()), data={"box": "0,0,0.001,0.001"})
    assert small.status_code == 400 and "at least 16 a side" in small.json()["error"]


def test_the_page_keeps_the_picture_and_leads_to_an_address(client: TestClient, photo: bytes) -> None:
    posted = client.post(
        "/", files=uploaded(photo, "C:\\photos\\mine.jpg"), data={"k": "3", "where": ["kind=image", ""]}
    )
    assert posted.status_code == 303
    address = posted.headers["location"]
    assert address.startswith("/?picture=") and "k=3" in address and "kind%3Dimage" in address
    page = client.get(address)
    assert page.status_code == 200 and ">mine.jpg<" in page.text and page.text.count('class="rank"') == 3
    assert KEY.removeprefix("image/") in page.text
    assert client.get(address, headers=JSON).json()["queries"][0]["hits"][0]["key"] == KEY
    kept = re.search(r"/uploads/[0-9a-f]{32}", page.text)
    assert kept is not None and client.get(kept[0]).content == photo


def test_examples_and_counterexamples(client: TestClient) -> None:
    one, two = f"image/town/{CAPTURE}/0001", f"image/town/{CAPTURE}/0002"
    hits = client.get("/api/search", params={"item": [one, two], "k": 30}).json()["queries"][0]["hits"]
    assert not {one, two} & {hit["key"] for hit in hits} and len(hits) == 8
    without = client.get("/api/search", params={"item": one, "not": two, "k": 30}).json()["queries"][0]["hits"]
    plain = client.get("/api/search", params={"item": one, "k": 30}).json()["queries"][0]["hits"]
    assert {hit["key"] for hit in plain} == {hit["key"] for hit in without} | {two}
    refused = client.get("/api/search", params={"not": two})
    assert refused.status_code == 400 and "nothing is asked" in refused.json()["error"]


def test_negative_examples_move_the_answer_away(engine: Engine) -> None:
    one, two = f"image/town/{CAPTURE}/0001", f"image/town/{CAPTURE}/0002"
    (near,) = engine._vectors([two])[0]
    with_it = engine.search(Asked(items=(one, f"image/town/{CAPTURE}/0004"), k=5))
    less = engine.search(Asked(items=(one, f"image/town/{CAPTURE}/0004"), unlike=(two,), k=5))
    assert with_it.results[0].hits and less.results[0].hits

    def likeness(results: Any) -> float:
        keys = [hit.item.key for hit in results.results[0].hits][:3]
        return float(sum(vector @ near for vector in engine._vectors(keys)[0]))

    assert likeness(less) <= likeness(with_it) + 1e-6


def test_verified_hits(client: TestClient, photo: bytes) -> None:
    answer = client.post(
        "/api/search", files=uploaded(photo), data={"rerank": "geometric", "k": "2", "where": "kind=image"}
    )
    assert answer.status_code == 200, answer.text
    asked = answer.json()["queries"][0]
    assert asked["match"] is True and asked["hits"][0]["key"] == KEY
    page = client.get("/", params={"item": KEY, "rerank": "geometric", "k": 3})
    assert page.status_code == 200 and "verified" in page.text


def test_items_their_pictures_and_thumbnails(client: TestClient, photo: bytes) -> None:
    listed = client.get("/items", params={"where": "dataset=town"}, headers=JSON).json()
    assert (
        listed["total"] == 8
        and listed["next"] is None
        and [item["key"] for item in listed["items"]] == sorted(i["key"] for i in listed["items"])
    )
    assert client.get("/items", params={"where": "dataset=town"}).text.count("<figure>") == 8
    item = client.get(f"/items/{KEY}", headers=JSON).json()
    assert item["key"] == KEY and item["width"] == 320 and "latitude" not in item
    assert "full picture" in client.get(f"/items/{CAPTURE}/3").text
    full = client.get(f"/pictures/{item_id(KEY)}")
    assert full.content == photo and full.headers["content-type"] == "image/jpeg"
    small = client.get(f"/thumbnails/{item_id(KEY)}.jpg")
    assert small.headers["content-type"] == "image/jpeg" and Image.open(io.BytesIO(small.content)).width >= 100


def test_choices_in_a_form_lead_to_the_address_with_conditions(client: TestClient, photo: bytes) -> None:
    chosen = {"only.dataset": ["town", "field"], "from.altitude": "200", "to.altitude": "", "where": ["", "frame=1..4"]}
    led = client.get("/items", params=chosen)
    assert led.status_code == 303
    assert led.headers["location"] == ("/items?where=frame%3D1..4&where=dataset%3Dtown%2Cfield&where=altitude%3D200..")
    page = client.get(led.headers["location"])
    assert page.text.count("<figure>") == 4 and 'value="town" checked' in page.text and "4 of 10 items" in page.text
    posted = client.post("/", files=uploaded(photo), data={"only.dataset": "town", "near": "", "group": "none"})
    assert "where=dataset%3Dtown" in posted.headers["location"] and "group=none" in posted.headers["location"]
    assert 'value="town" checked' in client.get(posted.headers["location"]).text
    assert client.get("/?only.dataset=town").headers["location"] == "/?where=dataset%3Dtown"


def test_what_can_be_chosen_is_counted(client: TestClient) -> None:
    said = client.get("/api/facets", params={"where": "dataset=town"}).json()
    assert (said["rows"], said["kept"], said["estimated"]) == (10, 8, False)
    (datasets,) = [facet for facet in said["facets"] if facet["field"] == "dataset"]
    assert datasets["values"] == [
        {"value": "town", "count": 8, "chosen": True},
        {"value": "field", "count": 2, "chosen": False},
    ]
    assert client.get("/api/facets", params={"wehre": "x"}).status_code == 400


def test_items_come_page_by_page(client: TestClient) -> None:
    seen, after = [], ""
    while after is not None:
        page = client.get("/items", params={"limit": 3, "after": after}, headers=JSON).json()
        seen += [item["key"] for item in page["items"]]
        after = page["next"]
    assert len(seen) == 10 and seen == sorted(seen)
    shown = client.get("/items", params={"limit": 3, "where": "dataset=town"}).text
    following = re.search(r'<a href="([^"]+)" rel="next">', shown)
    assert following is not None and f"after=image%2Ftown%2F{CAPTURE}%2F0003" in following[1]
    assert f"{CAPTURE}/0004" in client.get(following[1].replace("&amp;", "&")).text


def test_the_full_picture_has_a_page(client: TestClient) -> None:
    id = item_id(KEY)
    page = client.get(f"/view/{id}", params={"outline": "0,0 100,0 50,120.5"})
    assert f'data-picture="/pictures/{id}"' in page.text and 'data-outline="0,0 100,0 50,120.5"' in page.text
    assert client.get(f"/view/{id}", headers=JSON).json()["key"] == KEY
    for wrong in ('"><script>', "1,2,3", "nan,1", "1e9,1", "x", " ".join(["1,1"] * 65)):
        assert client.get(f"/view/{id}", params={"outline": wrong}).status_code == 400, wrong
    for path in ("/view/" + "0" * 32, "/view/..%2f..%2fetc%2fpasswd", "/view/" + item_id("image/town/none/0001")):
        assert client.get(path).status_code == 404
    assert f"/view/{id}" in client.get(f"/items/{KEY}").text


def test_turned_and_grouped(engine: Engine, client: TestClient, place: Path, photo: bytes) -> None:
    (asked,) = client.post("/api/search", files=uploaded(photo), data={"k": "2", "turns": "4"}).json()["queries"]
    mine = place / f"town/{CAPTURE}/{CAPTURE}_0003.jpg"
    said = query_images([mine], engine.encoder, engine.collection, 2, turns=4).as_json()["queries"][0]
    assert asked["hits"] == said["hits"] and {len(hit["rotations"]) for hit in asked["hits"]} == {4}
    (plain,) = client.get("/api/search", params={"item": KEY, "group": "none"}).json()["queries"]
    assert not any("parent" in hit for hit in plain["hits"])
    (grouped,) = client.get("/api/search", params={"item": KEY, "group": "parent"}).json()["queries"]
    assert all(hit["parent"] == hit["key"] for hit in grouped["hits"])


def test_names_are_text_in_pages(client: TestClient) -> None:
    page = client.get("/items", params={"where": "dataset=field"}).text
    assert "&lt;b&gt;evil&lt;i&gt;" in page and "<b>evil" not in page
    refused = client.get("/", params={"where": "<script>alert(1)</script>=x"})
    assert refused.status_code == 400 and "&lt;script&gt;" in refused.text and "<script>alert" not in refused.text


def test_every_answer_forbids_what_pages_do_not_need(client: TestClient) -> None:
    for path in ("/", "/items", "/healthz", "/static/service.js", "/nowhere", "/thumbnails/x"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self';"), path
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
    page = client.get("/").text + client.get("/static/service.css").text + client.get("/static/service.js").text
    assert "http://" not in page and "https://" not in page and "style=" not in page and "onclick" not in page


@pytest.mark.parametrize(
    "path",
    [
        "/pictures/..%2f..%2fetc%2fpasswd",
        "/pictures/" + "0" * 32,
        "/thumbnails/..%2f..%2fsecret.jpg",
        "/uploads/..%2fdata_key.json",
        "/uploads/" + "0" * 32,
        "/static/..%2f..%2fapp.py",
        "/static/../app.py",
    ],
)
def test_nothing_is_served_from_outside(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_a_source_that_leads_out_of_its_root_is_not_served(client: TestClient, place: Path) -> None:
    secret = place / "secret.jpg"
    secret.write_bytes(b"secret")
    path = place / f"town/{CAPTURE}/{CAPTURE}_0008.jpg"
    kept = path.read_bytes()
    folder = path.parent
    moved = place / "elsewhere"
    folder.rename(moved)
    folder.symlink_to(moved, target_is_directory=True)
    try:
        assert client.get(f"/pictures/{item_id(f'image/town/{CAPTURE}/0008')}").status_code == 404
    finally:
        folder.unlink()
        moved.rename(folder)
    assert client.get(f"/pictures/{item_id(f'image/town/{CAPTURE}/0008')}").content == kept


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"k": "0"}, "k must be a whole number from 1 to 1000"),
        ({"k": "9" * 5000}, "k must be a whole number"),
        ({"k": ["1", "2"]}, "k is given 2 times"),
        ({"wehre": "x"}, "did you mean 'where'"),
        ({"where": "altitud=3"}, "altitude"),
        ({"where": "dataset=twon"}, "did you mean 'town'"),
        ({"item": "image/town/nowhere/0001"}, "no item"),
        ({"item": KEY, "rerank": "magic"}, "rerank must be geometric"),
        ({"item": KEY, "box": "0,0,1,1"}, "give a picture"),
        ({"picture": "0" * 32, "box": "1,1,0,0"}, "box must be"),
        ({"picture": "0" * 32, "box": "nan,0,1,1"}, "box must be"),
        ({"picture": "../../etc/passwd"}, "not kept here any more"),
        ({"item": KEY, "min_score": "nan"}, "min_score must be"),
        ({"item": [KEY, "image/x"], "rerank": "geometric"}, "re-ranking compares one picture"),
        ({"item": [str(n) for n in range(60)]}, "at most 50 times"),
        ({"item": KEY, "group": "all"}, "group must be one of auto, parent, none"),
        ({"item": KEY, "turns": "4"}, "turns rotate a picture"),
        ({"item": KEY, "near": "91,0,5"}, "latitude 91"),
        ({"item": KEY, "area": "0,0,0,0"}, "WEST,SOUTH,EAST,NORTH"),
        ({"item": KEY, "only.<b>": "x"}, "<b>"),
    ],
)
def test_what_does_not_fit_is_named(client: TestClient, params: dict[str, Any], said: str) -> None:
    answer = client.get(
        "/api/search", params=params if params.keys() - {"k", "wehre", "where"} else {"item": KEY, **params}
    )
    assert answer.status_code == 400, answer.text
    assert said in answer.json()["error"]


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\xff\xd8\xff\xe0" + b"\0" * 100, b"<svg onload=alert(1)>" * 50])
def test_broken_pictures_are_refused(client: TestClient, place: Path, data: bytes) -> None:
    answer = client.post("/api/search", files=uploaded(data))
    assert answer.status_code == 400 and answer.json()["error"] and str(place) not in answer.text


def test_odd_forms_are_refused(client: TestClient, photo: bytes) -> None:
    assert client.post("/api/search", files={"file": ("a.jpg", photo)}).status_code == 400
    two = [("picture", ("a.jpg", photo)), ("picture", ("b.jpg", photo))]
    assert client.post("/api/search", files=two).status_code == 400
    torn = client.post(
        "/api/search", content=b"--x\r\nnonsense", headers={"content-type": "multipart/form-data; boundary=x"}
    )
    assert torn.status_code == 400
    assert client.put("/api/search").status_code == 405
    assert client.get("/api/search").status_code == 400


def test_pages_of_other_sites_and_other_names_are_refused(client: TestClient, photo: bytes) -> None:
    for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
        assert client.post("/", files=uploaded(photo), headers=headers).status_code == 403
    assert client.post("/", files=uploaded(photo), headers={"origin": HERE}).status_code == 303
    own = {"origin": "null", "sec-fetch-site": "same-origin"}  # as browsers send forms of pages that give no referrer
    assert client.post("/", files=uploaded(photo), headers=own).status_code == 303
    assert (
        client.post("/", files=uploaded(photo), headers={"origin": HERE, "sec-fetch-site": "cross-site"}).status_code
        == 403
    )
    assert client.get("/", headers={"host": "evil.example"}).status_code == 421
    assert client.get("/", headers={"host": "localhost:8421"}).status_code == 200


def test_the_token(engine: Engine) -> None:
    closed = TestClient(
        application(engine, token="open sesame".replace(" ", "-")), base_url=HERE, follow_redirects=False
    )
    assert closed.get("/").status_code == 401 and closed.get("/healthz").status_code == 200
    assert closed.get("/", headers={"authorization": "Bearer wrong"}).status_code == 401
    assert closed.get("/", headers={"authorization": "Bearer open-sesame"}).status_code == 200
    assert closed.get("/?token=wrong").status_code == 401
    entered = closed.get("/?token=open-sesame&k=5")
    assert entered.status_code == 303 and entered.headers["location"] == "/?k=5"
    assert "HttpOnly" in entered.headers["set-cookie"] and "SameSite=Strict" in entered.headers["set-cookie"]
    assert closed.get("/").status_code == 200  # the client kept the cookie


def test_health_and_figures(client: TestClient) -> None:
    assert client.get("/healthz").json()["ready"] is True
    client.get("/api/search", params={"item": KEY})
    text = client.get("/metrics").text
    assert re.search(r'outcrop_answers_total\{route="api",status="200"\} [1-9]', text)
    assert re.search(r'outcrop_question_seconds_bucket\{le="\+Inf"\} [1-9]', text)


def test_too_many_questions_are_told_to_come_back(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_waiting", 64)
    with pytest.raises(Busy, match="64 questions wait already"):
        asyncio.run(engine.run(lambda: None))
    client = TestClient(application(engine), base_url=HERE)
    answer = client.get("/api/search", params={"item": KEY})
    assert answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1


def test_bodies_are_bounded_in_bytes_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            received.append(message["body"])
            more = message["more_body"]

    async def ask(messages: list[dict[str, Any]], headers: list[tuple[bytes, bytes]], slow: float = 0.0) -> int:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(slow)
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
        await Guards(app, host="127.0.0.1", token="", max_bytes=100)(scope, receive, send)
        return int(sent[0]["status"])

    host = (b"host", b"127.0.0.1")
    chunk = {"type": "http.request", "body": b"x" * 40_000, "more_body": True}
    assert asyncio.run(ask([dict(chunk) for _ in range(9)], [host])) == 413
    assert sum(map(len, received)) <= 100 + (1 << 16)
    assert asyncio.run(ask([], [host, (b"content-length", b"99999999999")])) == 413
    assert asyncio.run(ask([], [host, (b"content-length", b"-1")])) == 400
    monkeypatch.setattr("outcrop.query.service.guards.BODY_SECONDS", 0.05)
    assert asyncio.run(ask([dict(chunk)], [host], slow=5)) == 408


def test_old_uploads_are_forgotten(engine: Engine, tmp_path: Path) -> None:
    from outcrop.query.service.uploads import Uploads

    uploads = Uploads(tmp_path / "kept", limit=2500)
    kept = [uploads.keep(bytes([n]) * 1000, f"dir/{n}.jpg") for n in range(4)]
    with pytest.raises(InputError, match="upload it again"):
        uploads.find(kept[0].digest)
    assert uploads.find(kept[-1].digest).name == "3.jpg"
    assert len(list((tmp_path / "kept").iterdir())) <= 6


def test_other_addresses_want_a_token(place: Path) -> None:
    from outcrop.query.service.run import serve_until_stopped
    from outcrop.schema.errors import UsageError

    settings = Settings(uri=str(place / "outcrop.db"))
    with pytest.raises(UsageError, match="OUTCROP_SERVE_TOKEN"):
        serve_until_stopped(settings, "0.0.0.0", 0, None, print)
    with pytest.raises(UsageError, match="at least 8"):
        serve_until_stopped(settings, "0.0.0.0", 0, "short", print)


def _ask_by(address: str, place: Path, folder: Path) -> None:
    """`query image` by a running service: found by itself, or named; what it cannot follow is refused or done without it."""
    photo = place / f"town/{CAPTURE}/{CAPTURE}_0003.jpg"
    beside = ("--uri", folder / "outcrop.db", "--state", folder / ".outcrop")
    found = run("query", "image", photo, "-k", 2, "--where", "kind=image", "--json", *beside).json
    assert found["queries"][0]["query"] == str(photo) and [hit["rank"] for hit in found["queries"][0]["hits"]] == [1, 2]
    assert found["queries"][0]["hits"][0]["key"] == KEY
    table = run("query", "image", photo, "--server", address, "-k", 3, "--rerank", "geometric").out
    assert KEY in table and "inliers" in table and str(photo) in table
    rows = run("query", "image", photo, photo, "--server", address, "-k", 2, "--csv").out.splitlines()
    assert len(rows) == 5 and rows[0].startswith("query,rank,key") and rows[1].startswith(f"{photo},1,{KEY}")
    (folder / "broken.jpg").write_bytes(b"nothing")
    assert run("query", "image", folder / "broken.jpg", "--server", address).code == 3
    some = run("query", "image", photo, folder / "broken.jpg", "--server", address, "--json")
    assert some.code == 4 and len(some.json["queries"]) == 1
    assert "did you mean 'town'" in run("query", "image", photo, "--server", address, "--where", "dataset=twon").error(
        3
    )
    for refused in (("--exact",), ("--filter", "altitude > 3"), ("--turns", 37)):
        assert f"{refused[0]}" in run("query", "image", photo, "--server", address, *refused).error(2)
    turned = run("query", "image", photo, "--server", address, "--turns", 4, "-k", 2, "--json").json["queries"][0]
    assert turned["hits"][0]["parent"] == KEY and turned["hits"][0]["votes"] > 1
    assert 0 <= turned["hits"][0]["estimated_rotation"] < 360
    grouped = run("query", "image", photo, "--server", address, "--group", "parent", "-k", 2, "--json").json
    assert grouped["queries"][0]["hits"][0]["parent"] == KEY
    assert "group must be one of" in run("query", "image", photo, "--server", address, "--group", "all").error(3)
    corners = [[129, 35], [130, 35], [130, 36], [129, 35]]
    (folder / "area.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [corners]}))
    for ground in (
        ("--near", "35.5,129.5,100"),
        ("--within", folder / "area.geojson"),
    ):  # none of them says where it is
        assert run("query", "image", photo, "--server", address, *ground, "--json").json["queries"][0]["hits"] == []
    assert "no service answers" in run("query", "image", photo, "--server", "127.0.0.1:9").error(5)
    code = (
        "import sys; from outcrop.query.cli import main; sys.argv = ['query', *sys.argv[1:]]\n"
        "try: main()\nexcept SystemExit: pass\nprint(*sys.modules)"
    )
    words = [sys.executable, "-c", code, "image", photo, "--server", address, "--json"]
    modules = (
        subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()[-1].split()
    )
    assert not {"torch", "numpy", "PIL", "pymilvus", "cv2", "timm", "milvus_lite"} & set(modules)


def test_the_command_listens_and_stops_in_order(place: Path, engine: Engine, tmp_path: Path) -> None:
    """A copy of the place: the service in the other tests holds the original."""
    shutil.copytree(place / "outcrop.db", tmp_path / "outcrop.db")
    command = [sys.executable, "-m", "outcrop", "query", "serve", "--port", "0", "--uri", tmp_path / "outcrop.db"]
    command += ["--registry", place / "data_key.json"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            lines = iter(process.stderr.readline, "")
            address = next(found[0] for line in lines if (found := re.search(r"http://127\.0\.0\.1:\d+/", line)))
            with urllib.request.urlopen(f"{address}healthz", timeout=60) as answer:
                assert json.load(answer)["ready"] is True
            _ask_by(address, place, tmp_path)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0
            assert "Traceback" not in process.stderr.read()
            assert not (tmp_path / ".outcrop/serve.json").exists()
        finally:
            process.kill()
