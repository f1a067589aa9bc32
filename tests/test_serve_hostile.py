"""A client that means harm: nothing is served from outside the roots, nothing is run, nothing hangs, others are answered."""

from __future__ import annotations

import contextlib
import html.parser
import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from browsers import browser, serving, why_no_browser
from commands import run
from pictures import write_dataset
from starlette.routing import Route
from starlette.testclient import TestClient

from outcrop.query.service.app import _Service, application
from outcrop.query.service.asked import NAMES
from outcrop.query.service.browsing import NAMES as OF_ITEMS
from outcrop.query.service.connections import ImpatientProtocol
from outcrop.query.service.engine import Engine
from outcrop.query.service.guards import OPEN_TO_ALL
from outcrop.schema.columns import Column, Columns
from outcrop.schema.item import Item, Kind, image_key, specimen_key
from outcrop.schema.settings import Settings

HERE = "http://127.0.0.1:8421"
JSON = {"accept": "application/json"}
RUN = '"><img src=x onerror=run(1)><script>run(2)</script>'
"""What would be run if it were not taken as text."""
PATHS = (
    "../../../../etc/passwd",
    "..%2f..%2f..%2fetc%2fpasswd",
    "/etc/passwd",
    "file:///etc/passwd",
    "..\\..\\etc\\passwd",
    "....//....//etc/passwd",
    "\x00/etc/passwd",
    "a" * 5000 + "/../../etc/passwd",
    "~/.ssh/id_rsa",
    "image/town/../../etc/passwd",
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("hostile")
    write_dataset(folder, {"a_300": 3}, name="town", root="town")
    place = ("--uri", folder / "outcrop.db", "--state", folder / "state")
    made = run(
        "ingest", "dataset", "town", "--registry", folder / "data_key.json", "--model", "efficientnet_lite0", *place
    )
    assert made.code == 0, made.err
    (folder / "secret.jpg").write_bytes(b"secret")
    opened = Engine(Settings(uri=str(folder / "outcrop.db"), registry=folder / "data_key.json", state=folder / "state"))
    columns = Columns((Column("note", "text"), Column("depth", "number")))
    opened.collection.add_columns(columns)
    extra = {"own_note": RUN, "own_depth": 2.0, "label": RUN, "footprint": [[RUN, RUN]] * 4}
    place_of = {"latitude": 35.0, "longitude": 129.0, "captured_at": RUN[:40], "source": f"../../secret.jpg{RUN}"}
    items = [
        Item(image_key("town", RUN, n), Kind.IMAGE, "town", RUN, frame=n, extra=extra, **place_of)  # type: ignore[arg-type]
        for n in (1, 2)
    ]
    items.append(Item(image_key("town", "out", 1), Kind.IMAGE, "town", "out", frame=1, source="../secret.jpg"))
    items += [
        Item(specimen_key(RUN, RUN, n), Kind.SPECIMEN, RUN, n, RUN, extra={"own_note": "plain"}) for n in ("x", RUN)
    ]
    vectors = np.random.default_rng(1).normal(size=(len(items), opened.collection.space.dim)).astype(np.float32)
    opened.collection.upsert(items, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def client(engine: Engine) -> TestClient:
    return TestClient(application(engine), base_url=HERE, follow_redirects=False, raise_server_exceptions=False)


class Runnable(html.parser.HTMLParser):
    """What of a page a browser would run or load from elsewhere."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "script" and not str(given.get("src", "")).startswith("/static/"):
            self.found.append(f"a script {given}")
        self.found += [f"{name} of {tag}" for name in given if name.startswith("on") or name == "style"]
        for name in ("href", "src", "action"):
            address = urlsplit(str(given.get(name) or ""))
            if address.scheme not in ("", "data") or address.netloc:
                self.found.append(f"{name}={given[name]}")


PAGES = (
    "/",
    "/items",
    "/items?limit=2",
    "/?item=image/town/{capture}/0001&k=20",
    "/items/image/town/{capture}/0001",
    "/items/specimen/{dataset}/{category}/x",
    "/items?where=note%3D{quoted}",
    "/?item=image/town/a_300/0001&not=image/town/{capture}/0001",
    "/items?after={quoted}",
    "/items?where={quoted}",
    "/?item={quoted}",
    "/?{quoted}=1",
    "/nowhere/{quoted}",
)


@pytest.mark.parametrize("path", PAGES)
def test_names_and_metadata_are_text_on_every_page(client: TestClient, path: str) -> None:
    from urllib.parse import quote

    from outcrop.schema.item import part

    quoted = quote(RUN, safe="")
    filled = path.format(
        capture=quote(part(RUN), safe=""),
        dataset=quote(part(RUN), safe=""),
        category=quote(part(RUN), safe=""),
        quoted=quoted,
    )
    page = client.get(filled)
    assert page.status_code in (200, 400, 404) and page.headers["content-type"].startswith("text/html")
    assert Runnable(page.text).found == []
    if page.status_code == 200 and "limit" not in path:
        assert "run(" in page.text  # it is there, as text
    client.get(filled, headers=JSON).json()


def test_what_would_be_run_is_found() -> None:
    assert len(Runnable(f'<p title="{RUN}"><a href="javascript:run(1)">').found) == 3


def test_nothing_runs_in_a_browser(engine: Engine) -> None:
    if reason := why_no_browser():
        pytest.skip(reason)
    with serving(engine) as address, browser() as chromium:
        page = chromium.new_page()
        ran: list[str] = []
        page.expose_function("run", lambda what: ran.append(str(what)))
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        for path in ("/items", "/?item=image/town/a_300/0001&k=20"):
            page.goto(f"{address}{path}")
            page.wait_for_selector("#map.ready")
            page.locator("figure[data-place]").first.hover()
            page.locator(".dot, .mark").first.dispatch_event("click")
        page.wait_for_timeout(200)
        assert (
            ran == [] and all(url.startswith(address) for url in asked) and not any(url.endswith("/x") for url in asked)
        )


@pytest.mark.parametrize("path", PATHS)
def test_paths_in_every_parameter(client: TestClient, path: str) -> None:
    for name in (*NAMES, "only.dataset", "from.altitude", "to.captured_at", "only.../../etc/passwd"):
        for given in ({name: path}, {"item": "image/town/a_300/0001", name: path}):
            answer = client.get("/api/search", params=given)
            assert answer.status_code in (200, 400), (name, answer.text)
            assert "root:" not in answer.text and (answer.status_code == 200 or answer.json()["error"])
        posted = client.post("/api/search", data={name: path})
        assert posted.status_code in (200, 400), (name, posted.text)
    for name in (*OF_ITEMS, "only.kind"):
        assert client.get("/items", params={name: path}, headers=JSON).status_code in (200, 303, 400)
    for before in (
        "/items/",
        "/pictures/",
        "/thumbnails/",
        "/uploads/",
        "/view/",
        "/static/",
        "/tiles/1/1/",
        "/clusters/",
    ):
        answer = client.get(before + path.replace("\x00", "%00").replace("\\", "%5c"))
        assert answer.status_code in (400, 404) and "root:" not in answer.text, before
    assert client.post("/api/search", files={"picture": (path, b"no picture")}).status_code == 400


def test_rows_that_lead_out_of_their_root_serve_nothing(client: TestClient) -> None:
    from outcrop.schema.item import item_id

    for key in (image_key("town", "out", 1), image_key("town", RUN, 1)):
        answer = client.get(f"/pictures/{item_id(key)}")
        assert answer.status_code == 404 and answer.content != b"secret"
    assert (
        client.get(f"/view/{item_id(image_key('town', 'out', 1))}").status_code == 200
    )  # the page; its picture is not there


def addresses(engine: Engine) -> list[str]:
    """An address of every route."""
    paths = [route.path for route in _Service(engine).routes() if isinstance(route, Route)]
    return [re.sub(r"\{\w+(:\w+)?\}", "1", path) for path in paths]


def test_every_address_wants_the_token_and_no_post_of_another_site(engine: Engine) -> None:
    closed = TestClient(application(engine, token="open-sesame"), base_url=HERE, follow_redirects=False)
    for address in addresses(engine):
        for wrong in (
            {},
            {"authorization": "Bearer open-sesam"},
            {"authorization": "Basic open-sesame"},
            {"cookie": "outcrop_token=x"},
        ):
            expected = 200 if address in OPEN_TO_ALL else 401
            assert closed.get(address, headers=wrong).status_code == expected, address
        evil = {"authorization": "Bearer open-sesame", "origin": "https://evil.example"}
        assert closed.post(address, headers=evil).status_code == 403, address
    for token in ("", "open-sesame" * 2, "é", "%00", "open-sesame\x00"):
        assert closed.get("/", params={"token": token}).status_code in (401, 400)


def sent(address: str, data: bytes, *, close: bool = False, seconds: float = 60.0) -> bytes:
    """What a service answers to bytes, until it closes the connection: an error where it leaves it open."""
    host, port = urlsplit(address).hostname, urlsplit(address).port
    with socket.create_connection((str(host), int(str(port))), timeout=seconds) as client:
        client.sendall(data)
        if close:
            return b""
        answer = b""
        with contextlib.suppress(ConnectionResetError):  # as it is closed while we still send
            while piece := client.recv(65536):
                answer += piece
        return answer


def head(address: str, *lines: str) -> bytes:
    return "\r\n".join(("POST /api/search HTTP/1.1", f"Host: {urlsplit(address).netloc}", *lines, "", "")).encode()


def test_slow_cut_and_endless_requests_end(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    form = "Content-Type: multipart/form-data; boundary=x"
    part = b'--x\r\nContent-Disposition: form-data; name="picture"; filename="a.jpg"\r\n\r\n\xff\xd8\xff'
    folder = engine.uploads.folder
    before = set(folder.iterdir()) if folder.exists() else set()
    with serving(engine) as address:
        with monkeypatch.context() as hasty:  # for those alone that end because of it
            hasty.setattr("outcrop.query.service.connections.HEAD_SECONDS", 0.5)
            assert sent(address, b"") == b""  # says nothing
            assert sent(address, b"POST / HTTP/1.1\r\nHost: 127.") == b""  # half a head
        with monkeypatch.context() as hasty:
            hasty.setattr("outcrop.query.service.guards.BODY_SECONDS", 0.5)
            halved = sent(address, head(address, form, "Content-Length: 100000") + part)
            assert halved.startswith(b"HTTP/1.1 408")  # half a body
        assert sent(address, head(address, form, "Content-Length: 99999999999")).startswith(b"HTTP/1.1 413")
        assert b" 400 " in sent(address, b"\x00\xff" * 100 + b"\r\n\r\n")[:20]
        endless = sent(address, b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: " + b"b" * 200_000 + b"\r\n\r\n")
        assert not endless or b" 40" in endless[:20]
        for _ in range(20):  # gone in the middle
            sent(address, head(address, form, "Content-Length: 100000") + part, close=True)
        ready = sent(
            address, f"GET /healthz HTTP/1.1\r\nHost: {urlsplit(address).netloc}\r\nConnection: close\r\n\r\n".encode()
        )
        assert json.loads(ready.split(b"\r\n\r\n")[1])["waiting"] == 0
    assert (set(folder.iterdir()) if folder.exists() else set()) == before


def test_a_client_that_takes_nothing_is_left(engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    left, lost = threading.Event(), ImpatientProtocol.connection_lost

    def watched(protocol: ImpatientProtocol, reason: Exception | None) -> None:
        lost(protocol, reason)
        left.set()

    monkeypatch.setattr(ImpatientProtocol, "connection_lost", watched)
    monkeypatch.setattr("outcrop.query.service.connections.TAKING_SECONDS", 0.3)
    large = engine.uploads.keep(np.random.default_rng(0).bytes(24_000_000), "large.jpg")
    monkeypatch.setattr("outcrop.query.service.app._shown", lambda path: _whole(path))
    with serving(engine) as address, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(60)
        client.connect((str(urlsplit(address).hostname), int(str(urlsplit(address).port))))
        client.sendall(f"GET /uploads/{large.digest} HTTP/1.1\r\nHost: {urlsplit(address).netloc}\r\n\r\n".encode())
        assert left.wait(60), "it waits for ever"
        taken = 0
        try:
            while piece := client.recv(1 << 20):
                taken += len(piece)
        except ConnectionError:
            pass
        assert taken < 24_000_000


def _whole(path: Path) -> Any:
    from starlette.responses import Response

    return Response(path.read_bytes())
