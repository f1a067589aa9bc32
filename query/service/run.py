"""The service as a process: opened, announced, and stopped in order."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from pathlib import Path

from outcrop.query.remote import forget, note
from outcrop.query.service.guards import LOOPBACK
from outcrop.schema.errors import InputError, UsageError
from outcrop.schema.settings import Settings

CONNECTIONS = 256
"""At once; the next one is told to come back."""
PATIENCE = 30
"""Seconds that answers in hand are waited for when the service is stopped."""


def serve_until_stopped(
    settings: Settings, host: str, port: int, token: str | None, say: Callable[[str], None], tiles: Path | None = None
) -> None:
    """Answers until Ctrl-C or SIGTERM; what is being answered then is finished. `token` wins over the settings'. `tiles` is the
    map that is the background of places.

    Raises:
        UsageError: another address than this machine's own is asked for without a token. InputError: the packages of the
        service are missing, or the port is taken, the map cannot be opened. OutcropError: as `query image`.
    """
    secret = settings.serve_token.get_secret_value() if settings.serve_token is not None else ""
    secret = token if token is not None else secret
    if host not in LOOPBACK and not secret:
        raise UsageError(
            f"everybody who reaches {host} could ask and see the pictures; set OUTCROP_SERVE_TOKEN, or leave --host out"
        )
    if secret and not (len(secret) >= 8 and secret.isascii() and secret.isprintable() and " " not in secret):
        raise UsageError("the token must be at least 8 printable ASCII characters, without spaces")
    try:
        import uvicorn

        from outcrop.query.service.app import application
        from outcrop.query.service.connections import ImpatientProtocol
    except ImportError as error:
        raise InputError(f"{error.name or error} is missing; pip install 'outcrop[serve]'") from None
    from outcrop.query.service.engine import Engine

    with _bound(host, port) as listening:
        engine = Engine(settings, tiles)
        say(engine.encoder.describe())
        address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/"
        if host in LOOPBACK:
            note(settings.state, address, settings.uri, settings.collection)
        say(f"open {address}{'?token=…' if secret else ''} (Ctrl-C stops)")
        config = uvicorn.Config(
            application(engine, host=host, token=secret),
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=PATIENCE,
            timeout_keep_alive=15,
            h11_max_incomplete_event_size=1 << 16,
            http=ImpatientProtocol,
            ws="none",
            lifespan="on",
        )
        for stopped in (signal.SIGINT, signal.SIGTERM):  # uvicorn sends itself the signal again when all is closed
            signal.signal(stopped, lambda *_: None)
        try:
            uvicorn.Server(config).run(sockets=[listening])
        finally:
            forget(settings.state)


def _bound(host: str, port: int) -> socket.socket:
    """A socket that listens at an address.

    Raises:
        InputError: the port is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(1024)
    except OSError as error:
        listening.close()
        raise InputError(
            f"{host}:{port} cannot be listened at ({error.strerror or error}); give another --port"
        ) from None
    return listening
