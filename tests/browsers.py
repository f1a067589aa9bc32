"""A service on a port of its own, and Debian's Chromium to look at it."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from outcrop.query.service.app import application
from outcrop.query.service.engine import Engine

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = shutil.which("chromium")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking")


def why_no_browser() -> str:
    """Why pages cannot be looked at here; '' where they can."""
    if CHROMIUM is None:
        return "chromium is not installed: pages are not looked at"
    try:
        import playwright  # noqa: F401
    except ImportError:
        return "playwright is not installed: pages are not looked at"
    return ""


@contextlib.contextmanager
def serving(engine: Engine, **how: Any) -> Iterator[str]:
    """The address of a service that runs meanwhile. The engine stays open."""
    app = application(engine, **how)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            until = time.monotonic() + 20
            while not server.started and time.monotonic() < until:
                time.sleep(0.02)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Chromium, headless; a test that cannot have it is skipped, and says why."""
    if reason := why_no_browser():
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        try:
            yield opened
        finally:
            opened.close()
