"""The routes of the service. Every page is an address that can be sent on, and answers JSON where that is accepted."""

from __future__ import annotations

import contextlib
import io
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from outcrop.embed.images import decode
from outcrop.embed.thumbnails import media_type
from outcrop.query.service import pages
from outcrop.query.service.api_page import api_page
from outcrop.query.service.asked import Asked, checked_outline, named_values, one
from outcrop.query.service.browsing import Browsed, has_choices
from outcrop.query.service.cluster_pages import ClusterPages
from outcrop.query.service.drawn import wants_json
from outcrop.query.service.duplicate_pages import DuplicatePages
from outcrop.query.service.engine import Busy, Engine
from outcrop.query.service.guards import Application, Guards, TooLarge, TooSlow
from outcrop.query.service.metrics import Metrics
from outcrop.query.service.openapi import description
from outcrop.query.service.shapes import shaped
from outcrop.query.service.speaking import Speaking
from outcrop.query.service.uploads import MAX_BYTES, mesh_ending
from outcrop.query.verification.features import read_picture
from outcrop.schema.errors import InputError, OutcropError, Refused, StoreUnreachable
from outcrop.schema.item import AERIAL
from outcrop.screen.texts import harmless_lines

STATIC = Path(__file__).parent / "static"
SHOWN_AS_THEY_ARE = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
"""Pictures that browsers show; others are sent as JPEG."""
_ID = re.compile(r"[0-9a-f]{32}\Z")
MAX_FIELDS = 400


def application(engine: Engine, *, host: str = "127.0.0.1", token: str = "") -> Application:
    """The service as an ASGI application; `host` is the address that it is bound to, and `token` what it asks of everybody."""
    service = _Service(engine)
    app = Starlette(
        routes=service.routes(),
        exception_handlers={
            OutcropError: service.refused,
            HTTPException: service.refused,
            MultiPartException: service.refused,
            TooLarge: service.refused,
            TooSlow: service.refused,
            ClientDisconnect: service.refused,
        },
        lifespan=service.lifespan,
    )
    return Guards(Speaking(app), host=host, token=token, max_bytes=MAX_BYTES)


class _Service:
    def __init__(self, engine: Engine) -> None:
        self.engine, self.metrics = engine, Metrics()
        self.clusters, self.duplicates = ClusterPages(engine), DuplicatePages(engine)

    def routes(self) -> list[Route | Mount]:
        return [
            Route("/", self._counted("search", self.search), methods=["GET", "POST"]),
            Route("/api/search", self._counted("api", self.api), methods=["GET", "POST"]),
            Route("/api/facets", self._counted("facets", self.facets)),
            Route("/items", self._counted("items", self.items)),
            Route("/items/{key:path}", self._counted("item", self.item)),
            Route("/thumbnails/{id}", self.thumbnail),
            Route("/pictures/{id}", self._counted("picture", self.picture)),
            Route("/view/{id}", self._counted("view", self.view)),
            Route("/uploads/{digest}", self.upload),
            Route("/duplicates", self._counted("duplicates", self.duplicates.answer)),
            Route("/clusters", self._counted("clusters", self.clusters.listed)),
            Route("/clusters/{name}", self._counted("clusters", self.clusters.one)),
            Route("/clusters/{name}/items", self._counted("clusters", self.clusters.items)),
            Route("/evaluations/{name}", self._counted("evaluations", self.clusters.evaluation)),
            Route("/openapi.json", self.described),
            Route("/api", self.described_page),
            Route("/tiles/{zoom:int}/{column:int}/{row:int}.webp", self.tile),
            Route("/healthz", self.health),
            Route("/metrics", self.figures),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await run_in_threadpool(self.engine.close)

    def _counted(self, route: str, answer: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def counted(request: Request) -> Response:
            try:
                response: Response = await answer(request)
            except Exception as error:
                self.metrics.answered(route, _status(error)[0])
                raise
            self.metrics.answered(route, response.status_code)
            return response

        return counted

    async def search(self, request: Request) -> Response:
        """The page; a post keeps the picture that came, and leads to the address of its answer."""
        if request.method == "POST":
            asked = await self._posted(request)
            asked = replace(asked, locate=asked.rerank)
            return RedirectResponse(f"/?{asked.address()}", 303)
        asked = Asked.of(request.query_params)
        if has_choices(request.query_params) and not wants_json(request):
            return RedirectResponse(f"/?{asked.address()}", 303)
        found = None if asked.empty else await self._asked(asked)
        if wants_json(request) and found is not None:
            return JSONResponse(found.as_json())
        held = await self.engine.run(self.engine.held)
        if wants_json(request):
            return JSONResponse(pages.held_json(held))
        facets = await self.engine.run(lambda: self.engine.facets(asked))
        hits = [hit.item for result in found.results for hit in result.hits] if found is not None else []
        footprints = await self.engine.run(lambda: self.engine.footprints(hits))
        return pages.search_page(self.engine, asked, found, held, facets, footprints)

    async def api(self, request: Request) -> Response:
        """The answer as `query image --json` gives it; a post may bring a picture."""
        asked = await self._posted(request) if request.method == "POST" else Asked.of(request.query_params)
        if asked.empty:
            raise InputError("nothing is asked; give a picture or an item")
        return JSONResponse(shaped(await self._asked(asked), asked.shape))

    async def items(self, request: Request) -> Response:
        """A page of items under conditions; an address with a form's choices leads to the one with conditions."""
        asked = Browsed.of(request.query_params)
        if has_choices(request.query_params) and not wants_json(request):
            return RedirectResponse(f"/items?{asked.address()}", 303)
        page = await self.engine.run(lambda: self.engine.listed(asked))
        if wants_json(request):
            return JSONResponse(page.as_json(self.engine.collection.name))
        facets = await self.engine.run(lambda: self.engine.facets(asked))
        footprints = await self.engine.run(lambda: self.engine.footprints(page.items))
        return pages.items_page(self.engine, asked, page, facets, footprints)

    async def facets(self, request: Request) -> Response:
        """What can be chosen under conditions, with counts."""
        asked = Browsed.of(request.query_params)
        return JSONResponse((await self.engine.run(lambda: self.engine.facets(asked))).as_json())

    async def item(self, request: Request) -> Response:
        """All that is stored of an item, and its references or views."""
        item = await self.engine.run(lambda: self.engine.item(request.path_params["key"]))
        parts = await self.engine.run(lambda: self.engine.parts(item))
        if wants_json(request):
            return JSONResponse(pages.item_json(item, parts))
        return pages.item_page(self.engine, item, parts)

    async def thumbnail(self, request: Request) -> Response:
        """What an item's picture looks like, small."""
        id = request.path_params["id"].removesuffix(".jpg")
        data = await run_in_threadpool(self.engine.thumbnails.read, id) if _ID.match(id) else None
        if data is None:
            raise HTTPException(404, "no thumbnail is kept of this item")
        return Response(data, media_type=media_type(data), headers={"cache-control": "private, max-age=600"})

    async def tile(self, request: Request) -> Response:
        """A part of the map that is the background of places."""
        tiles, address = self.engine.tiles, (request.path_params[name] for name in ("zoom", "column", "row"))
        data = await run_in_threadpool(tiles.tile, *address) if tiles is not None else None
        if data is None:
            raise HTTPException(404, "the map shows nothing there")
        return Response(data, media_type="image/webp", headers={"cache-control": "private, max-age=600"})

    async def picture(self, request: Request) -> Response:
        """The photograph of an item, from its dataset's folder, in full size."""
        id = request.path_params["id"]
        if not _ID.match(id):
            raise HTTPException(404, "no such picture")
        try:
            original = await self.engine.run(lambda: self.engine.original(id))
        except InputError as error:
            raise HTTPException(404, str(error)) from None
        return await run_in_threadpool(_shown, original.path)

    async def view(self, request: Request) -> Response:
        """The page of an item's photograph in full size, with an outline on it where one is given."""
        id = request.path_params["id"]
        outline = checked_outline(one(named_values(request.query_params, ("outline",)), "outline"))
        try:
            item = await self.engine.run(lambda: self.engine.stored(id)) if _ID.match(id) else None
        except InputError:
            item = None
        if item is None or item.kind not in AERIAL:
            raise HTTPException(404, "no such picture")
        if wants_json(request):
            return JSONResponse(pages.item_json(item))
        return pages.view_page(self.engine, item, outline)

    async def upload(self, request: Request) -> Response:
        """A picture that was asked with."""
        try:
            upload = self.engine.uploads.find(request.path_params["digest"])
        except InputError as error:
            raise HTTPException(404, str(error)) from None
        return await run_in_threadpool(_shown, upload.path)

    async def health(self, _: Request) -> Response:
        """Whether questions are answered."""
        return JSONResponse({"ready": True, "collection": self.engine.collection.name, "waiting": self.engine.waiting})

    async def figures(self, _: Request) -> Response:
        """Figures for Prometheus."""
        return PlainTextResponse(self.metrics.text(self.engine.waiting), media_type="text/plain; version=0.0.4")

    async def described(self, _: Request) -> Response:
        """The description of all this for programs."""
        return JSONResponse(description())

    async def described_page(self, _: Request) -> Response:
        """The same for people."""
        return api_page()

    async def refused(self, request: Request, error: Exception) -> Response:
        """An error as JSON, or as a page for people."""
        status, reason = _status(error)
        headers = {"retry-after": f"{error.seconds:.0f}"} if isinstance(error, Busy) else {}
        if request.url.path.startswith("/api/") or wants_json(request):
            return JSONResponse({"error": reason}, status, headers)
        return pages.error_page(reason, status, headers)

    async def _asked(self, asked: Asked) -> Any:
        begun = time.perf_counter()
        found = await self.engine.run(lambda: self.engine.search(asked))
        self.metrics.asked(time.perf_counter() - begun)
        return found

    async def _posted(self, request: Request) -> Asked:
        """The question of a post, whose picture or mesh is kept; the page sends both as `picture`, the name says which."""
        async with request.form(max_files=1, max_fields=MAX_FIELDS, max_part_size=1 << 16) as form:
            files = [(name, value) for name, value in form.multi_items() if isinstance(value, UploadFile)]
            rest = FormData([(name, value) for name, value in form.multi_items() if not isinstance(value, UploadFile)])
            if any(name not in ("picture", "mesh") for name, _ in files):
                raise InputError("a file must be sent as 'picture' or 'mesh'")
            field, file = files[0] if files else ("picture", None)
            data = await file.read() if file is not None else b""
            if file is None or (not data and not file.filename):
                return Asked.of(rest)
            named = file.filename or field
            is_mesh = bool(mesh_ending(named))
            if field == "mesh" and not is_mesh:
                raise InputError(
                    f"{named[:200]!r} does not end as a mesh does; send it as NAME.ply, .obj, .stl, .glb, …"
                )
            upload = await run_in_threadpool(self.engine.uploads.keep, data, named)
            return Asked.of(rest, mesh=upload.digest) if is_mesh else Asked.of(rest, picture=upload.digest)


def _status(error: Exception) -> tuple[int, str]:
    """The status of an error, and what it says."""
    match error:
        case HTTPException():
            return error.status_code, str(error.detail)
        case TooLarge():
            return 413, f"the request is larger than {MAX_BYTES:,} bytes"
        case TooSlow() | ClientDisconnect():
            return 408, "the request did not arrive whole"
        case MultiPartException():
            return 400, f"the form cannot be read: {error.message}"
        case Busy():
            return 503, str(error)
        case StoreUnreachable():
            return 502, str(error)
        case Refused():
            return 409, str(error)
        case OutcropError():
            return 400, harmless_lines(str(error))
    return 500, "something went wrong here; the service's log has it"


def _shown(path: Path) -> Response:
    """A picture file as a browser shows it."""
    headers = {"cache-control": "private, max-age=600"}
    try:
        data = read_picture(path)
    except InputError:
        raise HTTPException(404, "the picture cannot be read") from None
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as picture:
            kind = SHOWN_AS_THEY_ARE.get(picture.format or "")
    except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError):
        kind = None
    if kind is None:
        made = io.BytesIO()
        decode(data, name=path.name).image.save(made, "JPEG", quality=92)
        data, kind = made.getvalue(), "image/jpeg"
    return Response(data, media_type=kind, headers=headers)
