"""`query serve`: the page and the service behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from outcrop.query.commands import app
from outcrop.screen.options import ASKED_MODEL, REGISTRY, STATE, STORE, Session, command, hidden, option


@command(app, STORE, ASKED_MODEL, hidden(REGISTRY), STATE)
def serve(
    session: Session,
    host: Annotated[
        str, option("--host", help="Address to listen at; any but this machine's own needs a token. [127.0.0.1]")
    ] = "127.0.0.1",
    port: Annotated[
        int, option("--port", min=0, max=65535, help="Port to listen at; 0 takes a free one. [8421]")
    ] = 8421,
    token: Annotated[
        str | None, option("--token", help="What everybody must show; better set as OUTCROP_SERVE_TOKEN.")
    ] = None,
    tiles: Annotated[
        Path | None,
        option(
            "--tiles",
            help="Map behind places: a GeoTIFF, a folder of XYZ tiles, or a .pmtiles file. [the collection's]",
        ),
    ] = None,
) -> None:
    """Answer questions in the browser and over HTTP, with the model kept warm."""
    from outcrop.query.service.run import serve_until_stopped

    serve_until_stopped(session.settings, host, port, token, session.say, tiles)
